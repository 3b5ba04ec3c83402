"""The top of the page, and what the run was made with."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from index_store.terminal import count, one_line
from rlm.audit.attempts import troubles
from rlm.audit.checking import Report
from rlm.audit.claims import YOURS_TO_JUDGE, Claim, counted, tally
from rlm.audit.costs import Cost, costs, in_dollars, reuse
from rlm.audit.events import RecordedEvent
from rlm.audit.page.beside import proofs
from rlm.audit.page.html import Html, facts, fold, join, tag
from rlm.audit.page.judged import verdict_on_run
from rlm.audit.pairs import Pair, read_by
from rlm.audit.signing import Signature
from rlm.audit.timeline import READER_DOES, UNSURE, demanded, lacking, no_answer, not_shown, reader
from rlm.audit.verifying import UNVOUCHED, Verdict

_NOTHING = "No event of this trace can be read"


def header(
    pairs: Sequence[Pair],
    events: Sequence[RecordedEvent],
    verdict: Verdict | None,
    folder: str,
    report: Report | None = None,
    signatures: Sequence[Signature] = (),
) -> Html:
    """The question, or those of a chat; how many quotes stand; whether the file is as it was written and who vouches
    for that, first where it is not; and the run in six numbers. `folder`: of the run, '' where it is not known."""
    is_chat = len(pairs) > 1
    is_whole = verdict is None or verdict.ok
    unmet = [pair for pair in pairs if pair.answered and pair.answered["stop"] == "unmet"]
    claims = join([_standing(pairs, verdict), *(_not_accepted(pair, is_chat) for pair in unmet)])
    judged = verdict_on_run(report) if report else None
    seal = join([_seal(verdict), _vouching(verdict, signatures)])
    question = f"A chat of {len(pairs):,} questions" if is_chat else pairs[0].question if pairs else _NOTHING
    return tag(
        "header",
        tag("p", f"Review of a {'chat' if is_chat else 'run'}", cls="kicker"),
        tag("h1", question),
        tag("ol", *map(_line_of, pairs), cls="pairs") if is_chat else None,
        *((claims, judged, seal) if is_whole else (seal, claims, judged)),
        *_told(events),
        tag("p", "Run folder ", tag("code", folder), cls="meta") if folder else None,
        _numbers(events),
    )


def _told(events: Sequence[RecordedEvent]) -> Iterator[Html]:
    """Who read the text, where that was no language model, and what went wrong on the way."""
    if reader := read_by(events):
        yield tag(
            "p", tag("strong", f"Read by: {reader}"), f"; {READER_DOES}.", cls="seal unknown", id="reader"
        )
    if trouble := troubles(events):
        yield tag("p", tag("strong", "On the way: "), f"{trouble}.", cls="trouble")


def _line_of(pair: Pair) -> Html:
    """A question of a chat, as the head of the page lists it."""
    words = tally(pair.claims, pair.content) if pair.content else no_answer(pair)
    return tag(
        "li",
        tag("a", one_line(pair.question, 200), href=f"#q{pair.number}"),
        tag("span", f" {words}", cls="meta"),
    )


def _standing(pairs: Sequence[Pair], verdict: Verdict | None) -> Html:
    """How many quotes stand, of all answers together; in no colour that vouches where the trace is not whole."""
    if not any(pair.answered for pair in pairs):
        left = not_shown(verdict, False) if verdict else ""
        return tag("p", tag("strong", f"{left or 'There is no answer'}."), cls="seal unknown", id="standing")
    claims = [claim for pair in pairs for claim in pair.claims]
    words = counted(claims) if claims or any(pair.content for pair in pairs) else no_answer(pairs[-1])
    rest = tally(pairs[0].claims, pairs[0].content).removeprefix(words) if len(pairs) == 1 else ""
    rest = rest or (f"; {YOURS_TO_JUDGE}" if claims else "")
    title = tag("strong", f"{words[0].upper()}{words[1:]}")
    tone = _tone(claims, verdict is None or verdict.ok)
    return tag("p", title, f"{rest}.", cls=f"seal {tone}", id="standing")


def _tone(claims: Sequence[Claim], is_whole: bool) -> str:
    if any(claim.doubt for claim in claims):
        return "bad" if any(claim.is_missing for claim in claims) else "warn"
    return "good" if claims and is_whole else "unknown"


def _not_accepted(pair: Pair, is_chat: bool) -> Html:
    which = f"Answer {pair.number} is not accepted: " if is_chat else "The answer is not accepted: "
    assert pair.answered is not None
    return tag("p", tag("strong", which), lacking(pair.answered), cls="seal bad", role="alert")


def _vouching(verdict: Verdict | None, signatures: Sequence[Signature]) -> Html | None:
    """Who says that the file ends where the run did; None where it is not even whole."""
    if verdict is not None and not verdict.ok:
        return None
    head = [] if verdict is None else [" Head ", tag("code", verdict.head, cls="hash")]
    if verdict is not None and verdict.vouched:
        return tag("p", "Its head is the one given with --head.", *head, cls="meta")
    if names := [one_line(one.by, 200) for one in signatures if one.ok]:
        told = f" {'has' if len(names) == 1 else 'have'} signed this trace, by keys that you allow."
        who = tag("strong", one_line(", ".join(names), 1_000))
        return tag("p", who, told, *head, cls="seal good", id="vouched")
    return tag("p", UNVOUCHED, *head, cls="seal unknown", id="unvouched")


def run_section(
    events: Sequence[RecordedEvent], verdict: Verdict | None, signatures: Sequence[Signature] = ()
) -> Html:
    """What the run was made with, how its budget went, which passages read like instructions, what vouches for it."""
    opened = events[0] if events else {}
    return tag(
        "section",
        tag("h2", "Run"),
        facts(_made_with(opened)) if opened else None,
        _budgets(events),
        _suspicious(events),
        None if verdict is None else proofs(verdict, signatures),
        id="run",
    )


def _seal(verdict: Verdict | None) -> Html:
    if verdict is None:
        return tag("p", "The file of this run was not checked for this page.", cls="seal unknown")
    if verdict.ok:
        head = tag("code", verdict.head[:12])
        words = [
            tag("strong", "The trace is whole."),
            f" {count(verdict.events, 'event')}, each sealed to the last; head ",
            head,
        ]
        return tag("p", *words, cls="seal good")
    where = f"Line {verdict.first_bad_line}: " if verdict.first_bad_line else ""
    left = not_shown(verdict, True)
    why = f" {where}{verdict.reason}. {f'{left}. ' if left else ''}"
    title = tag(
        "strong", "The trace has no end." if verdict.only_unclosed else "The trace is not as it was written."
    )
    return tag("p", title, why, tag("strong", UNSURE), cls="seal bad", role="alert")


def _numbers(events: Sequence[RecordedEvent]) -> Html:
    usage = (costs(events) or [Cost()])[-1].usage
    last, had = events[-1] if events else {"kind": "", "time_s": 0.0}, reuse(events)
    stop = str(last["stop"]) if last["kind"] == "run_closed" else "not yet: the trace records no end"
    pairs = [
        ("Ended", f"{stop}: {last['error']}" if last.get("error") else stop),
        ("Time", f"{last['time_s']:.1f} s"),
        ("Model calls", f"{usage.calls:,}"),
        ("Tokens", f"{usage.tokens:,}"),
        *([("Had before", words)] if (words := had.in_words()) else []),
        ("Cost", in_dollars(usage.usd) if usage.usd else "nothing, or no price is known"),
        ("Steps in the tree", f"{sum(event['kind'] == 'visited' for event in events):,}"),
    ]
    return facts(pairs, "numbers")


_ACCOUNT = {"operator": "Asked by", "purpose": "Purpose", "retain_until": "Keep until", "key": "Paid by"}


def _made_with(opened: RecordedEvent) -> list[tuple[str, str]]:
    index, prompts = opened["index"], opened["prompts"]
    held = f"{count(index['documents'], 'document')}, {count(index['nodes'], 'node')}"
    return [
        ("Started", opened["started"]),
        (
            "Index",
            join(
                [f"{index['name']}, generation {index['generation']}: {held} ", tag("code", index["digest"])]
            ),
        ),
        ("Route", ": ".join(part for part in (opened["route"], opened.get("route_why")) if part)),
        *([("About", _listed(opened["scope"]))] if opened.get("scope") else []),
        ("Models", _listed(opened["models"])),
        ("Limits", _listed(opened["limits"])),
        *([("Demands", _listed(demands))] if (demands := demanded(opened)) else []),
        ("Prompts", join([f"version {prompts['version']} ", tag("code", prompts["sha256"])])),
        *((words, opened[name]) for name, words in _ACCOUNT.items() if opened.get(name)),
        *(("Reads as", words) for words in reader(opened)),
        ("Code", opened["code_version"]),
        *([("Versions", _listed(opened["versions"]))] if opened.get("versions") else []),
    ]


def _listed(values: dict[str, Any]) -> Html:
    return join(
        tag("span", tag("b", name), f" {_plain(value)}", cls="pair") for name, value in values.items()
    )


def _plain(value: object) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _budgets(events: Sequence[RecordedEvent]) -> Html | None:
    noted = [event for event in events if event["kind"] == "budget"]
    if not noted:
        return None
    names = ("Time", "Why", "Spent", "Set aside", "Left")
    table = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names))),
        tag("tbody", *map(_budget_row, noted[:200])),
    )
    return fold(f"The budget, noted {count(len(noted), 'time')}", tag("div", table, cls="wide"), cls="budget")


def _budget_row(event: RecordedEvent) -> Html:
    cells = [f"{event['time_s']:.2f} s", event["reason"], _used(event["spent"]), _used(event["reserved"])]
    return tag(
        "tr", *(tag("td", cell) for cell in cells), tag("td", _listed(event["left"])), id=f"e{event['seq']}"
    )


def _suspicious(events: Sequence[RecordedEvent]) -> Html | None:
    flagged = [event for event in events if event["kind"] == "suspicious"]
    if not flagged:
        return None
    rows = (
        tag("li", tag("a", event["rule"], href=f"#e{event['seq']}"), f": {one_line(event['words'], 200)}")
        for event in flagged[:200]
    )
    number = "1 passage reads" if len(flagged) == 1 else f"{len(flagged):,} passages read"
    harmless = "They were shown as data, and nothing the run may do was changed by them."
    return fold(f"{number} like instructions to a model", tag("p", harmless), tag("ul", *rows), cls="budget")


def _used(usage: dict[str, Any]) -> str:
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    return f"{count(usage['calls'], 'call')}, {count(tokens, 'token')}, {in_dollars(usage['usd'])}"
