"""A call in words: how each of its attempts ended, what was waited for, what it cost, or which cap refused it.

Fields that older traces do not have are passed over.
"""

from collections.abc import Mapping
from typing import Any

from index_store.terminal import count, one_line
from rlm.audit.costs import in_dollars
from rlm.gateway.types import Usage

_TOLD_S = 0.5  # a wait before the first attempt that is worth telling
_UNITS = {"tokens": "token", "calls": "call"}


def attempts_in_words(event: Mapping[str, Any]) -> str:
    """`429, waited 2 s, then 200`; '' where nothing went out, or the event does not say."""
    words = ""
    for number, attempt in enumerate(event.get("attempts", ())):
        waited, status = f"waited {_seconds(attempt['waited_s'])} s", one_line(attempt["status"], 40)
        if number:
            words += f", {waited}, then {status}"
        else:
            words = f"{waited}, then {status}" if attempt["waited_s"] >= _TOLD_S else status
    return words


def is_plain(event: Mapping[str, Any]) -> bool:
    """Whether there is nothing to tell of a call that was answered: its first attempt was, without a wait."""
    attempts = event.get("attempts", ())
    return len(attempts) < 2 and all(attempt["waited_s"] < _TOLD_S for attempt in attempts)


def cost_in_words(event: Mapping[str, Any]) -> str:
    """What a call was charged: `1 call, 120 tokens, $0.0012`, `nothing`, or that it is not known."""
    if "usage" not in event:
        return "not known"
    usage = Usage(**event["usage"])
    if usage == Usage():
        return "nothing"
    return f"{count(usage.calls, 'call')}, {count(usage.tokens, 'token')}, {in_dollars(usage.usd)}"


def failure_in_words(event: Mapping[str, Any]) -> str:
    """Of a call that failed: its attempts, its cost, and the cap that refused it, where one did."""
    refused = event.get("refused")
    parts = [attempts_in_words(event), f"charged: {cost_in_words(event)}"]
    return "; ".join(filter(None, [refused_in_words(refused) if refused else "", *parts]))


def refused_in_words(refused: Mapping[str, Any]) -> str:
    """`not made: it may need up to $0.0312, and $0.0020 are left of the usd cap`."""
    cap = refused["cap"]
    asked, left = _amount(cap, refused["asked"]), _amount(cap, refused["left"])
    return f"not made: it may need up to {asked}, and {left} are left of the {cap} cap"


def served_in_words(event: Mapping[str, Any]) -> str:
    """Who replied, as the provider says: model, fingerprint, tokens it had in its cache; '' where it says nothing."""
    served = event.get("served")
    if not served:
        return ""
    cached = f"{count(served['cached_tokens'], 'token')} cached" if served["cached_tokens"] else ""
    fingerprint = f"fingerprint {served['system_fingerprint']}" if served["system_fingerprint"] else ""
    return ", ".join(one_line(part, 80) for part in (served["model"], fingerprint, cached) if part)


def parameters_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a call was asked with beside its messages; an older trace does not say."""
    temperature = {"temperature": event["temperature"]} if "temperature" in event else {}
    return {**temperature, **event.get("parameters", {})}


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"


def _amount(cap: str, amount: float) -> str:
    if cap != "usd":
        return count(int(amount), _UNITS[cap])
    return in_dollars(amount) if amount == 0 or amount >= 1e-4 else f"${amount:.1e}"
