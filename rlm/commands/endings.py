"""What `rlm trace verify` says of a trace that has no end, and of one from which contents were taken out."""

from index_store.terminal import count, one_line
from rlm.audit.verifying import TakenOut, Verdict

_TOLD = 5  # redactions, and contents of each, that a sentence names


def ending_facts(verdict: Verdict) -> dict[str, object]:
    """`closed`: whether the trace has its last event; `redacted`: each redaction of it."""
    return {"closed": verdict.closed, "redacted": [_as_json(one) for one in verdict.taken_out]}


def ending_words(verdict: Verdict) -> str:
    """Each redaction in words, behind a semicolon."""
    told = [_taken(one) for one in verdict.taken_out[:_TOLD]]
    more = len(verdict.taken_out) - _TOLD
    return "".join(f"; {one}" for one in [*told, *([count(more, "more redaction")] if more > 0 else [])])


def _as_json(one: TakenOut) -> dict[str, object]:
    places = [{"event": seq, "field": field} for seq, field in one.places]
    told = {"by": one.by, "why": one.why, "at": one.at, "contents": one.contents, "places": places}
    return {**told, "redaction": one.hash}


def _taken(one: TakenOut) -> str:
    places = ", ".join(f"{field} of event {seq}" for seq, field in one.places[:_TOLD])
    more = f" and {one.contents - _TOLD:,} more" if one.contents > _TOLD else ""
    taken = f"{count(one.contents, 'content')} taken out on {one_line(one.at[:10], 10)}"
    return f"{taken} by {one_line(f'{one.by}: {one.why}', 300)} ({one_line(places, 200)}{more})"
