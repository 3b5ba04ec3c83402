"""A run as one text in Markdown, for a ticket or a chat: what was asked, what came of it, what it rests on and cost.

All words of a stranger stand in fenced blocks or in code spans, which nothing in them can close: so none of them
becomes a link, a picture, HTML, or a mention of a person.
"""

import re
from collections.abc import Iterator, Sequence

from index_store.terminal import count, one_line, visible
from rlm.audit.attempts import as_sent
from rlm.audit.claims import claims_of, in_words, marked, tally
from rlm.audit.costs import in_dollars, reuse
from rlm.audit.events import RecordedEvent
from rlm.audit.maps import without_packs
from rlm.audit.pairs import Pair, pairs_of
from rlm.audit.reviewing import Review
from rlm.audit.routing import Branch
from rlm.audit.timeline import STEPS, no_answer, not_shown, verdict_line
from rlm.audit.verifying import UNVOUCHED, Verdict
from rlm.gateway.types import Usage

STEPS_SHOWN = 150
_TEXT_CHARS = 20_000
_STEP_CHARS = 160
_TICKS = re.compile(r"`+")


def markdown(events: Sequence[RecordedEvent], verdict: Verdict, review: Review | None = None) -> str:
    """The run as Markdown; `review`: the notes of reviewers, which stand at its end."""
    events = as_sent(events)
    pairs = pairs_of(events)
    lines = ["## Run", "", *_about(events, verdict, pairs)]
    for pair in pairs:
        number = f" {pair.number} of {len(pairs)}" if len(pairs) > 1 else ""
        lines += [
            "",
            f"### Question{number}",
            "",
            *fenced(pair.question),
            "",
            f"### Answer{number}",
            "",
            *_answer(pair),
        ]
        lines += ["", f"### Steps{number}", "", *fenced("\n".join(_steps(pair)))]
    lines += ["", "### Notes of reviewers", "", *_notes(review)] if review else []
    return "\n".join(lines) + "\n"


def fenced(text: str) -> list[str]:
    """The lines of a fenced block that holds a text, which cannot close it."""
    shown = visible(text[:_TEXT_CHARS]) + ("…" if len(text) > _TEXT_CHARS else "")
    longest = max((len(run) for run in _TICKS.findall(shown)), default=0)
    fence = "`" * max(longest + 1, 3)
    return [f"{fence}text", *shown.rstrip("\n").split("\n"), fence]


def span(text: str, width: int = 200) -> str:
    """A code span that holds a text on one line, which cannot close it."""
    line = one_line(text, width) or " "
    ticks = "`" * (max((len(run) for run in _TICKS.findall(line)), default=0) + 1)
    return f"{ticks} {line} {ticks}" if len(ticks) > 1 or line[0] == " " else f"{ticks}{line}{ticks}"


def _about(events: Sequence[RecordedEvent], verdict: Verdict, pairs: Sequence[Pair]) -> Iterator[str]:
    yield f"- trace: {span(verdict_line(verdict), 1_000)}"
    if verdict.ok and not verdict.vouched:
        yield f"- {UNVOUCHED}"
    if left := not_shown(verdict, any(pair.answered for pair in pairs)):
        yield f"- {span(left, 500)}"
    if not events:
        return
    opened, last = events[0], events[-1]
    index = opened["index"]
    yield f"- begun: {span(opened['started'], 60)}"
    yield f"- index: {span(index['name'], 100)}, digest {span(index['digest'], 80)}"
    yield f"- models: {', '.join(span(str(model), 80) for model in dict.fromkeys(map(str, opened['models'].values())))}"
    stop = last["stop"] if last["kind"] == "run_closed" else "the run never ended"
    yield f"- stop: {span(stop, 100)}"
    usage = Usage(**last["usage"]) if last["kind"] == "run_closed" else sum((p.usage for p in pairs), Usage())
    yield f"- cost: {in_dollars(usage.usd)}, {count(usage.calls, 'call')}, {count(usage.tokens, 'token')}"
    if words := reuse(events).in_words():
        yield f"- had before: {words}"


def _answer(pair: Pair) -> Iterator[str]:
    if pair.answered is None or not pair.content:
        yield span(no_answer(pair))
        return
    claims = claims_of(pair.answered)
    yield from fenced(marked(pair.content, claims))
    yield ""
    yield span(tally(claims, pair.content), 500)
    if pair.answered["citations"]:
        yield ""
        yield from fenced(
            "\n".join(line for i, one in enumerate(pair.answered["citations"], 1) for line in _cited(i, one))
        )


def _cited(number: int, one: RecordedEvent) -> Iterator[str]:
    place = one["doc"] or one["node"] or "not in the documents"
    where = "" if one["start"] is None else f" {one['start']}-{one['end']}"
    page = "" if one["page"] is None else f", page {one['page']}"
    yield f"[{number}] {in_words(one['supported'])}: {one_line(place, 100)}{where}{page}"
    yield f'    "{one_line(one["quote"], 500)}"'


def _steps(pair: Pair) -> Iterator[str]:
    told = [
        event
        for event in without_packs(pair.events)
        if event["kind"] not in ("run_opened", "question_put", "answered")
    ]
    for event in told[:STEPS_SHOWN]:
        inward = "  " * event["conversation"].count(".")
        words = one_line(STEPS[event["kind"]](event)[0].strip(), _STEP_CHARS)
        yield f"{event['seq']:>5} {event['time_s']:9.2f} s  {inward}{words}"
    if len(told) > STEPS_SHOWN:
        yield f"... and {count(len(told) - STEPS_SHOWN, 'step')} more"
    if pair.branches:
        yield ""
        yield "branches entered:"
        yield from (_branch(branch) for branch in pair.branches[:STEPS_SHOWN])


def _branch(branch: Branch) -> str:
    return f"  {one_line(branch.node, 20)}  {one_line(branch.label, 80)}"


def _notes(review: Review) -> Iterator[str]:
    for one in review.notes[:STEPS_SHOWN]:
        about = "the run" if one.step is None else f"step {one.step}"
        verdict = f": {one.verdict}" if one.verdict else ""
        yield f"- {span(one.by)}, {span(one.at, 40)}, of {about}{verdict}"
        if one.text:
            yield from ["", *(f"  {line}" for line in fenced(one.text)), ""]
    if len(review.notes) > STEPS_SHOWN:
        yield f"- and {count(len(review.notes) - STEPS_SHOWN, 'note')} more"
    if review.line:
        yield f"- line {review.line} of {span(review.file.name)}: {span(review.reason)}"
