"""A call in words: how each of its attempts ended, what was waited for, what it cost, or which cap refused it; and the
trouble of all calls and cells of a run, in a line.

Fields that older traces do not have are passed over.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from index_store.terminal import count, one_line
from rlm.audit.costs import in_dollars
from rlm.audit.events import RecordedEvent
from rlm.gateway.purse import PURSE
from rlm.gateway.types import Usage

_TOLD_S = 0.5  # a wait before the first attempt that is worth telling
_UNITS = {"tokens": "token", "calls": "call"}
#: How a message ends that tells a model that its answer was not taken, and why (rlm.prompts); the fence is random.
_NOT_TAKEN = re.compile(r"\n<<<END (\w{4,64}) 1>>>\n(?:Mend it|Answer again)[^\n]*\Z")


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
    what = "what the key may spend" if cap == PURSE else f"the {cap} cap"
    return f"not made: it may need up to {asked}, and {left} are left of {what}"


def served_in_words(event: Mapping[str, Any]) -> str:
    """Who replied, as the provider says: model, fingerprint, tokens cached and of reasoning; '' where it is silent."""
    served = event.get("served")
    if not served:
        return ""
    cached = f"{count(served['cached_tokens'], 'token')} cached" if served["cached_tokens"] else ""
    fingerprint = f"fingerprint {served['system_fingerprint']}" if served["system_fingerprint"] else ""
    reasoning = f"{count(n, 'token')} of reasoning" if (n := served.get("reasoning_tokens")) else ""
    told = (served["model"], fingerprint, cached, reasoning)
    return ", ".join(one_line(part, 80) for part in told if part)


def parameters_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a call was asked with beside its messages; an older trace does not say."""
    temperature = {"temperature": event["temperature"]} if "temperature" in event else {}
    return {**temperature, **event.get("parameters", {})}


def as_sent(events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    """The events, each call asked with what its last attempt sent, where that is recorded: a model that does not take
    a parameter is not sent it, whatever was asked for."""
    sent: dict[tuple[str, Any], Mapping[str, Any]] = {
        (event["conversation"], event["call"]): event["attempts"][-1]["sent"]
        for event in events
        if event["kind"] in ("model_answered", "model_failed") and event.get("attempts")
    }
    return [
        {name: value for name, value in event.items() if name != "temperature"}
        | {"parameters": sent[event["conversation"], event["call"]]}
        if event["kind"] == "model_asked" and (event["conversation"], event["call"]) in sent
        else event
        for event in events
    ]


def not_taken(asked: Mapping[str, Any]) -> str:
    """Why the answer before a call was not taken, as its model was told with it, on one line; '' where it was."""
    messages = asked["messages"]
    content = messages[-1]["content"] if messages and messages[-1]["role"] == "user" else ""
    if not (end := _NOT_TAKEN.search(content, max(0, len(content) - 300))):
        return ""
    _, told, why = content[: end.start()].partition(
        f"nswer is not taken yet: \n<<<DATA {end[1]} what it lacks>>>\n"
    )
    return one_line(why, 1_000) if told else ""


def troubles(events: Sequence[RecordedEvent]) -> str:
    """`1 call failed, 3 retries, 2 cells refused`; '' where nothing of the kind happened."""
    failed = sum(event["kind"] == "model_failed" for event in events)
    retries = sum(max(len(event.get("attempts", ())) - 1, 0) for event in events)
    refused = sum(event["kind"] == "code_scanned" and event["verdict"] == "rejected" for event in events)
    broken = sum(
        event["kind"] == "code_run" and event["status"] not in ("ok", "rejected") for event in events
    )
    taken = sum(event["kind"] == "model_asked" and bool(not_taken(event)) for event in events)
    told = {
        f"{count(failed, 'call')} failed": failed,
        count(retries, "retry", "retries"): retries,
        f"{count(refused, 'cell')} refused": refused,
        f"{count(broken, 'cell')} failed": broken,
        f"{count(taken, 'answer')} not taken": taken,
    }
    return ", ".join(words for words, number in told.items() if number)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"


def _amount(cap: str, amount: float) -> str:
    if cap in _UNITS:
        return count(int(amount), _UNITS[cap])
    return in_dollars(amount) if amount == 0 or amount >= 1e-4 else f"${amount:.1e}"
