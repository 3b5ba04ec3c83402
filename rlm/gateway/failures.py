"""What went wrong with a call: whether to try again, when, and whether the provider may have billed it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_SHOWN_CHARS = 300
_CLASS_NAMES = re.compile(r"^(?:[\w.]*(?:Error|Exception|Timeout)(?: -|:)\s*)+")


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt, understood.

    `may_be_billed`: the request went out and no refusal came back (timeout, reset, half a body), so the
    provider may have done the work. `retry_after_s`: how long the provider asked us to wait.
    """

    why: str
    retry: bool
    may_be_billed: bool
    retry_after_s: float | None = None


def understand(error: BaseException) -> Failure:
    """Read an exception of litellm, of the clients below it, or of our own timeout."""
    chain = list(_chain(error))
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if "HTTPStatusError" in names or _status(error) in range(400, 500):
        return _refused(error, chain, names)
    if names & {"ConnectError", "ConnectTimeout", "PoolTimeout", "ClientConnectorError"}:
        return Failure("no connection to the provider", retry=True, may_be_billed=False)
    if names & {"TimeoutError", "TimeoutException", "APITimeoutError"}:
        return Failure("the provider did not answer in time", retry=True, may_be_billed=True)
    if names & {"TransportError", "ConnectionError", "ClientError"}:
        return Failure("the connection broke before the reply was complete", retry=True, may_be_billed=True)
    return Failure(f"the reply is not a chat completion ({_said(error)})", retry=True, may_be_billed=True)


def _refused(error: BaseException, chain: list[BaseException], names: set[str]) -> Failure:
    """The provider, or litellm before sending, said no. 408 is litellm's status for a timeout of its own."""
    status, said = _status(error), _said(error)
    if "HTTPStatusError" not in names and status == 408:
        return Failure("the provider did not answer in time", retry=True, may_be_billed=True)
    if "ContextWindowExceededError" in names:
        return _final(f"the prompt is longer than the model's context; shorten it ({said})")
    if status in (401, 403):
        return _final(f"the provider refused the key; check it and its permissions ({said})")
    if status == 404:
        return _final(f"the provider does not have this model ({said})")
    if any(getattr(link, "code", None) == "insufficient_quota" for link in chain):
        return _final(f"the account at the provider has no credit left ({said})")
    if status in _RETRIED:
        why = "the rate limit was reached" if status == 429 else f"the provider failed with status {status}"
        return Failure(f"{why} ({said})", True, False, _retry_after_s(_headers(chain)))
    return _final(f"the provider refused the request ({said})")


def _final(why: str) -> Failure:
    return Failure(why, retry=False, may_be_billed=False)


def _status(error: BaseException) -> int | None:
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
    except (ValueError, TypeError):
        return None


def _said(error: BaseException) -> str:
    """The message without litellm's row of class names before it, and the traceback it may have put into it."""
    said = str(error).partition("Traceback (most recent call last)")[0]
    text = _CLASS_NAMES.sub("", " ".join(said.split())).rstrip(" ,") or type(error).__name__
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
