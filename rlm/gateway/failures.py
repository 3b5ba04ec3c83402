"""Why an attempt at a call failed: whether to try again, when, and whether the provider may have billed it.

Errors of litellm, httpx, openai and aiohttp are told apart by status and by the names of their classes and base
classes, so none of the four is imported here. An error of no known name counts as billed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from rlm.gateway.redaction import redacted

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
#: The status of an attempt whose reply is none that can be read, and how often a call is made again after one: each may
#: have been billed, and a server that sends one sends the next.
UNREADABLE, UNREADABLE_RETRIES = "no chat completion", 2
_SHOWN_CHARS = 300
_CLASS_NAMES = re.compile(r"^(?:[\w.]*(?:Error|Exception|Timeout)(?: -|:)\s*)+")


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """Why one attempt failed, and what follows. `status`: see `Attempt`.

    `may_be_billed`: the request went out and no refusal came back (timeout, reset, half a body), so the
    provider may have done the work. `retry_after_s`: how long the provider wants us to wait, where it says so.
    """

    why: str
    retry: bool
    may_be_billed: bool
    retry_after_s: float | None = None
    status: str = ""


_TIMED_OUT = FailedAttempt(
    "the provider did not answer in time", retry=True, may_be_billed=True, status="timeout"
)


def classify(error: BaseException, wanted: str = "chat completion") -> FailedAttempt:
    """What an exception means that litellm, a client below it, or our own deadline has raised. `wanted`: what the reply
    was to be."""
    chain = list(_chain(error))
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if "HTTPStatusError" in names or _status(error) in range(400, 500):
        return _refused(error, chain, names)
    if "UnreadableResponse" in names:
        return _unreadable(
            next(link for link in chain if type(link).__name__ == "UnreadableResponse"), wanted
        )
    if names & {"ConnectError", "ConnectTimeout", "PoolTimeout", "ClientConnectorError"}:
        why = "no connection to the provider"
        return FailedAttempt(why, retry=True, may_be_billed=False, status="no connection")
    if names & {"TimeoutError", "TimeoutException", "APITimeoutError"}:
        return _TIMED_OUT
    if names & {"TransportError", "ConnectionError", "ClientError"}:
        why = "the connection broke before the reply was complete"
        return FailedAttempt(why, retry=True, may_be_billed=True, status="connection broke")
    return _unreadable(error, wanted)


def _unreadable(error: BaseException, wanted: str) -> FailedAttempt:
    why = f"the reply is not a {wanted} ({_message(error)})"
    return FailedAttempt(why, retry=True, may_be_billed=True, status=UNREADABLE)


def _refused(error: BaseException, chain: list[BaseException], names: set[str]) -> FailedAttempt:
    """The call was refused, by the provider or by litellm before it sent anything.

    A status of 408 without a response is litellm's own timeout, and no refusal.
    """
    status, message = _status(error), _message(error)
    if "HTTPStatusError" not in names and status == 408:
        return _TIMED_OUT
    told = str(_answered_status(chain) or status)
    if told.startswith("3"):
        where = redacted(_headers(chain).get("location", "elsewhere"))[:_SHOWN_CHARS]
        why = f"the provider redirects to {where!r}, which is not followed; look at the model's address"
        return _final(told, why)
    if "ContextWindowExceededError" in names:
        return _final(told, f"the prompt is longer than the model's context; shorten it ({message})")
    if status in (401, 403):
        return _final(told, f"the provider refused the key; check it and its permissions ({message})")
    if status == 404:
        return _final(told, f"the provider does not have this model ({message})")
    if any(getattr(link, "code", None) == "insufficient_quota" for link in chain):
        return _final(told, f"the account at the provider has no credit left ({message})")
    if status in _RETRIED:
        why = "the rate limit was reached" if status == 429 else f"the provider failed with status {status}"
        return FailedAttempt(f"{why} ({message})", True, False, _retry_after_s(_headers(chain)), told)
    return _final(told, f"the provider refused the request ({message})")


def _final(status: str, why: str) -> FailedAttempt:
    return FailedAttempt(why, retry=False, may_be_billed=False, status=status)


def _answered_status(chain: list[BaseException]) -> int | None:
    """The status that the provider answered with; litellm's own errors may carry another."""
    answered = (link for link in chain if type(link).__name__ == "HTTPStatusError")
    return next((_status(getattr(link, "response", None)) for link in answered), None)


def _status(error: object) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _headers(chain: list[BaseException]) -> Mapping[str, str]:
    for link in chain:
        for holder in (getattr(link, "response", None), link):
            headers = getattr(holder, "headers", None) or getattr(holder, "litellm_response_headers", None)
            if headers:
                return {str(key).lower(): str(value) for key, value in dict(headers).items()}
    return {}


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`retry-after` in seconds or as an HTTP date (RFC 9110, 10.2.3); anything else is ignored."""
    value = headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # of a zone further away than a clock counts
        return None


def _message(error: BaseException) -> str:
    """The message without the class names that litellm puts before it, the traceback it may put behind, and keys."""
    message = redacted(str(error)).partition("Traceback (most recent call last)")[0]
    text = _CLASS_NAMES.sub("", redacted(" ".join(message.split()))).rstrip(" ,") or type(error).__name__
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
