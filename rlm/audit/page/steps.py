"""The run step by step: what each model was sent and wrote, the code, its scan, what it asked of the tree."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from index_store.terminal import count, one_line
from rlm.audit.attempts import (
    as_sent,
    attempts_in_words,
    cost_in_words,
    not_taken,
    parameters_of,
    refused_in_words,
    served_in_words,
)
from rlm.audit.checking import Step
from rlm.audit.costs import in_dollars
from rlm.audit.events import RecordedEvent
from rlm.audit.fences import fenced_blocks, without_blocks
from rlm.audit.maps import PACKS, MapEvents, map_in_words, maps_of
from rlm.audit.page.beside import noted
from rlm.audit.page.html import Html, facts, fold, join, pre, scrolls, stowed, tag
from rlm.audit.page.judged import TONES, judged_step
from rlm.audit.page.rows import map_step, reduced_step
from rlm.audit.reviewing import VERDICTS, Note
from rlm.audit.routing import Place, held_to
from rlm.audit.timeline import BY_THE_RUN, plan_in_words, reduced_in_words, rejection

_ON_PAPER = (
    "Messages, replies as written and what verbs gave are printed only where they were opened before: they stand whole "
    "in the trace. The passages that the answer cites, all code and its output are here."
)
_MOST_CHILDREN = 200
_MOST_NODES = 60
LONG = 300  # events, from which on only the turns in view are laid out, and elements at all
_MOST_TALKS = 2_000  # conversations that a filter offers
_MOST_DEEP = 12  # calls inside calls, drawn one inside the other
# A string that does not end is one to the end of its line, or of the code: so no part of it is tried again.
_CODE = re.compile(
    r"(?P<comment>\#[^\n]*)"
    r"|(?P<string>[rbfRBF]{0,2}(?:\"\"\"[\s\S]*?(?:\"\"\"|\Z)|'''[\s\S]*?(?:'''|\Z)"
    r"|\"(?:\\.|[^\"\\\n])*+\"?|'(?:\\.|[^'\\\n])*+'?))"
    r"|(?P<verb>\b(?:context\.\w+|(?:llm|rlm)_query(?:_batched)?|llm_(?:map|filter|reduce)|budget|answer|SHOW_VARS|FINAL|FINAL_VAR|SUBMIT)\b)"
    r"|(?P<word>\b(?:and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|if|import"
    r"|in|is|lambda|not|or|pass|raise|return|try|while|with|yield|None|True|False)\b)"
    r"|(?P<number>\b\d[\d_.]*\b)"
)


@dataclass(slots=True)
class Turn:
    """A model call and all that followed it in its conversation. `number` counts from 1; turn 0 is what came before
    the first call."""

    number: int
    events: list[RecordedEvent]


@dataclass(frozen=True, slots=True)
class Scene:
    """What drawing a step needs beside its event.

    `talks`: the events of each conversation; `drawn`: the conversations drawn so far; `anchors`: where on the page each
    node stands; `depth`: how many calls this step lies inside; `code_lines`: of the cells of this turn; `places`: each
    node; `judged`, `notes`: what a check and what reviewers say, by the seq of the event; `is_long`: steps are stowed;
    `maps`: by the seq of their calls; `asked_at`: the seq of the first call of each conversation; `rows`: the texts of
    rows, by their ids.
    """

    talks: Mapping[str, list[RecordedEvent]]
    drawn: set[str]
    anchors: Mapping[str, str]
    depth: int = 0
    code_lines: frozenset[str] = frozenset()
    places: Mapping[str, Place] = field(default_factory=dict)
    judged: Mapping[int, Sequence[Step]] = field(default_factory=dict)
    notes: Mapping[int, Sequence[Note]] = field(default_factory=dict)
    is_long: bool = False
    maps: Mapping[int, MapEvents] = field(default_factory=dict)
    asked_at: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)


def steps_section(
    events: Sequence[RecordedEvent],
    places: Mapping[str, Place],
    anchors: Mapping[str, str],
    judged: Mapping[int, Sequence[Step]] | None = None,
    notes: Mapping[int, Sequence[Note]] | None = None,
    rows: Mapping[str, str] | None = None,
) -> Html:
    """Every event of the run by turns, a child inside the step that called it. `places`, `anchors`: each node, and its
    HTML id; `judged`, `notes`: what a check and what reviewers say, by the seq of the event; `rows`: the texts of rows,
    by their ids."""
    talks: dict[str, list[RecordedEvent]] = {}
    for event in as_sent(events):
        talks.setdefault(event["conversation"], []).append(event)
    is_long = len(events) > LONG
    scene = Scene(
        talks,
        set(),
        anchors,
        places=places,
        judged=judged or {},
        notes=notes or {},
        is_long=is_long,
        maps={one.called["seq"]: one for one in maps_of(events)},
        asked_at=_asked_at(talks),
        rows=rows or {},
    )
    parts = [_conversation("0", scene)]
    # Conversations that no step claims to have called are shown all the same.
    parts += [
        tag("div", tag("h3", f"Conversation {name}"), _conversation(name, scene))
        for name in talks
        if name not in scene.drawn
    ]
    on_paper = tag("p", _ON_PAPER, cls="paper meta")
    return tag(
        "section",
        tag("h2", "Steps"),
        _tools(events, scene),
        on_paper,
        *parts,
        id="steps",
        cls="long" if is_long else None,
    )


def _asked_at(talks: Mapping[str, Sequence[RecordedEvent]]) -> dict[str, int]:
    first = (
        (name, next((e for e in told if e["kind"] == "model_asked"), None)) for name, told in talks.items()
    )
    return {name: event["seq"] for name, event in first if event is not None}


def _tools(events: Sequence[RecordedEvent], scene: Scene) -> Html:
    """What filters and searches the steps: a template, so that without the script nothing stands there idle."""
    kinds: Counter[str] = Counter(event["kind"] for event in events if event["kind"] != "budget")
    verdicts: Counter[str] = Counter(step.verdict for steps in scene.judged.values() for step in steps)
    said: Counter[str] = Counter(
        one.verdict for notes in scene.notes.values() for one in notes if one.verdict
    )
    selects = [
        _select(
            "filter-kind",
            "Kind",
            [(kind, f"{kind.replace('_', ' ')} ({many:,})") for kind, many in sorted(kinds.items())],
        ),
        _select(
            "filter-verdict",
            "Verdict",
            [(name, f"{name} ({verdicts[name]:,})") for name in TONES if verdicts[name]]
            + [(name, f"{name} by a reviewer ({said[name]:,})") for name in VERDICTS if said[name]]
            + ([("noted", "noted by a reviewer")] if scene.notes else []),
        ),
        _select("filter-talk", "Conversation", [(name, name) for name in list(scene.talks)[:_MOST_TALKS]]),
    ]
    search = tag(
        "span",
        tag("label", "Search the steps", for_="search"),
        tag("input", type="search", id="search", autocomplete="off", spellcheck="false"),
    )
    return tag("template", search, *selects, id="filters")


def _select(anchor: str, words: str, choices: Sequence[tuple[str, str]]) -> Html | None:
    """A choice of one of several values, or all; None where there is no choice."""
    if not choices or (anchor == "filter-talk" and len(choices) < 2):
        return None
    options = (tag("option", told, value=value) for value, told in choices)
    every = tag("option", "all", value="")
    return tag("span", tag("label", words, for_=anchor), tag("select", every, *options, id=anchor))


def turns_of(events: Sequence[RecordedEvent]) -> list[Turn]:
    """The events of one conversation, a new turn with each model call; without a turn 0 that is empty. The next
    question of a chat begins a turn 0 too."""
    turns, number = [Turn(0, [])], 0
    for event in events:
        if event["kind"] == "question_put":
            turns.append(Turn(0, []))
        if event["kind"] == "model_asked":
            number += 1
            turns.append(Turn(number, []))
        turns[-1].events.append(event)
    return [turn for turn in turns if turn.events]


def _conversation(name: str, scene: Scene) -> Html:
    scene.drawn.add(name)
    return join(_turn(name, turn, scene) for turn in turns_of(scene.talks.get(name, [])))


def _turn(name: str, turn: Turn, scene: Scene) -> Html:
    cells = [event["code"].split("\n") for event in turn.events if event["kind"] == "code_scanned"]
    scene = replace(scene, code_lines=frozenset(chain.from_iterable(cells)))
    body = (_step(event, scene) for event in turn.events)
    if turn.number == 0:
        return tag("div", *body, cls="before")
    place = f"t{name.replace('.', '-')}-{turn.number}"
    is_below = (
        name != "0" and "0" in scene.asked_at
    )  # a map without a root model has calls of its packs alone
    head = tag("h4" if is_below else "h3", f"Turn {turn.number}")
    return tag("article", tag("header", head, _turn_facts(turn)), *body, cls="turn", id=place, tabindex="-1")


def _step(event: RecordedEvent, scene: Scene) -> Html | None:
    """An event as it is drawn, with what a check and reviewers say of it, and a link to itself."""
    drawn = STEPS[event["kind"]](event, scene)
    if drawn is None:
        return None
    seq = event["seq"]
    judged, notes = scene.judged.get(seq, ()), scene.notes.get(seq, ())
    verdicts = [step.verdict for step in judged] + [one.verdict for one in notes if one.verdict]
    said = (*(judged_step(step, scene.places, scene.anchors) for step in judged), *map(noted, notes))
    # What is stowed holds nothing stowed.
    is_whole = event["kind"] in ("child_called", "map_called")
    return tag(
        "div",
        *((stowed(drawn, *said),) if scene.is_long and not is_whole else (drawn, *said)),
        tag("a", str(seq), href=f"#e{seq}", cls="seq", aria_label=f"Link to step {seq}"),
        cls="event",
        data_kind=event["kind"],
        data_talk=event["conversation"],
        data_verdict="|".join([*verdicts, *(["noted"] if notes else [])]) or None,
    )


def _turn_facts(turn: Turn) -> Html:
    asked = turn.events[0]
    reply = next((event for event in turn.events if event["kind"] == "model_answered"), None)
    facts = [f"{asked['time_s']:.1f} s", asked["model"]]
    if reply is not None:
        used = reply["usage"]
        facts += [
            f"{used['prompt_tokens']:,} → {used['completion_tokens']:,} tokens",
            in_dollars(used["usd"]),
        ]
        facts += ["from the store"] if reply["cached"] else []
    return tag("span", *(tag("span", fact) for fact in facts), cls="facts-line")


def _opened(event: RecordedEvent, scene: Scene) -> Html:
    return tag("p", f"The run opened at {event['started']}.", id=_anchor(event), cls="meta")


def _put(event: RecordedEvent, scene: Scene) -> Html:
    return tag("h3", f"Next question: {one_line(event['question'], 500)}", id=_anchor(event))


def _asked(event: RecordedEvent, scene: Scene) -> Html:
    new, total = event["messages"], event["conversation_messages"]
    summary = f"Sent to the model: {len(new):,} new of {count(total, 'message')}"
    words = [f"{name} {one_line(_json(value), 1_000)}" for name, value in parameters_of(event).items()]
    asked_with = tag("p", f"Asked with {', '.join(words)}", cls="meta") if words else None
    sent = fold(summary, asked_with, *map(_message, new), id=_anchor(event), cls="sent aside")
    why = not_taken(event)
    return (
        join([tag("p", tag("strong", "The answer was not taken: "), why, cls="doubt"), sent]) if why else sent
    )


def _message(message: Mapping[str, str]) -> Html:
    return tag("div", tag("p", message["role"], cls="role"), pre(message["content"]))


def _replied(event: RecordedEvent, scene: Scene) -> Html:
    text = event["text"]
    prose = _without_cells(text, scene.code_lines).strip()
    whole = fold("The reply as written", pre(text), cls="sent aside") if prose != text.strip() else None
    odd = f"finished: {event['finish_reason']}" if event["finish_reason"] != "stop" else None
    note = tag("p", odd, cls="meta") if odd else None
    served = served_in_words(event)
    by = tag("p", f"served by {served}", cls="meta") if served else None
    words = tag("div", prose, cls="prose") if prose else None
    return tag("div", _attempts(event), words, whole, by, note, id=_anchor(event))


def _attempts(event: RecordedEvent) -> Html | None:
    """Each request that was made for a call: how it ended, what was set aside for it and what it was charged."""
    if not event.get("attempts"):
        return None
    names = ("Status", "Waited", "Took", "Set aside", "Charged", "Sent with", "Error")
    rows = (tag("tr", *(tag("td", cell) for cell in _attempt_cells(one))) for one in event["attempts"])
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    table = tag("div", tag("table", head, tag("tbody", *rows)), cls="wide")
    number = count(len(event["attempts"]), "attempt")
    return fold(f"{number}: {attempts_in_words(event)}", table, cls="sent aside")


def _attempt_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    times = (f"{one['waited_s']:.2f} s", f"{one['seconds']:.2f} s")
    reserved, settled = (cost_in_words({"usage": one[name]}) for name in ("reserved", "settled"))
    sent = one_line(_json(one["sent"]), 2_000) if one["sent"] else ""
    return (one["status"], *times, reserved, settled, sent, one["error"])


def _without_cells(reply: str, code_lines: frozenset[str]) -> str:
    """The reply without its blocks of code that a cell holds, and shows; every other word stays."""
    return without_blocks(
        reply, [b for b in fenced_blocks(reply) if code_lines.issuperset(b.code.split("\n"))]
    )


def _failed(event: RecordedEvent, scene: Scene) -> Html:
    refused = event.get("refused")
    cap = tag("p", refused_in_words(refused), cls="doubt") if refused else None
    cost = tag("p", f"charged: {cost_in_words(event)}", cls="meta")
    why = tag("p", tag("strong", "The call failed: "), event["error"], cls="doubt")
    return tag("div", why, cap, cost, _attempts(event), id=_anchor(event))


def _scanned(event: RecordedEvent, scene: Scene) -> Html:
    refused = event["verdict"] == "rejected"
    chip = tag(
        "span",
        "refused by the scan" if refused else "scan passed",
        cls="chip bad" if refused else "chip good",
    )
    why = tag("p", rejection(event), cls="doubt") if refused else None
    lines = _coloured(event["code"][:20_000], event["line_in_code"])
    code = tag("pre", *lines, cls="code", tabindex=scrolls(event["code"]))
    return tag(
        "div", tag("p", f"Cell {event['cell']} ", chip, cls="step"), code, why, id=_anchor(event), cls="cell"
    )


def _ran(event: RecordedEvent, scene: Scene) -> Html:
    tone = {"ok": "good", "error": "warn"}.get(event["status"], "bad")
    notes = [
        f"{event['seconds']:.2f} s",
        "output cut" if event["truncated"] else "",
        "state lost" if event.get("state_lost") else "",
    ]
    line = tag(
        "p",
        "Output ",
        tag("span", event["status"], cls=f"chip {tone}"),
        " " + ", ".join(filter(None, notes)),
        cls="step",
    )
    output = pre(event["stdout"].rstrip("\n"), "output") if event["stdout"] else None
    error = pre(event["error"], "output error") if event["error"] else None
    return tag("div", line, output, error, id=_anchor(event))


def _visited(event: RecordedEvent, scene: Scene) -> Html:
    arguments = ", ".join(
        f"{name}={one_line(_json(value), 60)}" for name, value in _words_first(event["arguments"])
    )
    call = tag("code", BY_THE_RUN if "by" in event else "", tag("b", event["verb"]), f"({arguments})")
    refused = event.get("error")
    outcome = f" refused: {refused}" if refused else f" showed {count(len(event['shown']), 'node')}"
    passed = f", {len(event['not_taken'])} beside not taken" if event["not_taken"] else ""
    body = [
        _refs("Shown", event["shown"], scene),
        _refs("On offer, not taken", event["not_taken"], scene),
        tag("p", f"Cut: {event['cut']}", cls="note") if event.get("cut") else None,
        tag("p", f"Given to the code, {count(event['result_chars'], 'character')}:", cls="meta"),
        pre(
            event["result"]
            if isinstance(event["result"], str)
            else json.dumps(event["result"], indent=2, ensure_ascii=False)
        ),
    ]
    summary = tag("summary", call, tag("span", outcome + passed, cls="meta"))
    return tag("details", summary, tag("div", *body, cls="body"), id=_anchor(event), cls="visit aside")


def _words_first(arguments: Mapping[str, object]) -> list[tuple[str, object]]:
    """The arguments with the text before the numbers: the file holds them by name, not in the order given."""
    return sorted(arguments.items(), key=lambda pair: not isinstance(pair[1], str))


def _refs(name: str, refs: Sequence[Mapping[str, Any]], scene: Scene) -> Html | None:
    if not refs:
        return None
    some = (tag("li", _ref(ref, scene)) for ref in refs[:_MOST_NODES])
    more = tag("li", f"and {len(refs) - _MOST_NODES} more") if len(refs) > _MOST_NODES else None
    return tag("div", tag("p", name, cls="role"), tag("ul", *some, more, cls="refs"))


def _ref(ref: Mapping[str, Any], scene: Scene) -> Html:
    score = "" if ref.get("score") is None else f" {ref['score']:.3f}"
    if ref["node"] is None:
        return join([f"{ref.get('doc')} {ref.get('start')}–{ref.get('end')}{score}"])
    link = tag("a", ref["label"] or ref["node"], href=f"#{scene.anchors[ref['node']]}")
    return join([link, tag("span", f" {ref['node']}{score}", cls="id")])


def _child_called(event: RecordedEvent, scene: Scene) -> Html:
    known = _children(event, scene)
    scene.drawn.update(known)
    calls = tag("code", tag("b", event["verb"]), f": {len(event['prompts']):,} asked{held_to(event)}")
    children = [_child(name, event, scene) for name in known[:_MOST_CHILDREN]]
    more = (
        tag("p", f"… {len(known) - _MOST_CHILDREN} more in the trace", cls="meta")
        if len(known) > _MOST_CHILDREN
        else None
    )
    silent = [] if known else [pre(prompt) for prompt in event["prompts"][:_MOST_CHILDREN]]
    inner = (*children, *silent, more)
    if event["verb"] in PACKS:  # of which there may be many, all with the same question
        head = tag("summary", calls, cls="step")
        return tag("details", head, *inner, id=_anchor(event), cls="children wave aside")
    return tag("div", tag("p", calls, cls="step"), *inner, id=_anchor(event), cls="children")


def _children(event: RecordedEvent, scene: Scene) -> list[str]:
    """The conversations to draw inside this step; none below a depth, whose turn comes after the root's."""
    names = event["children"] if scene.depth < _MOST_DEEP else []
    return [name for name in dict.fromkeys(names) if name in scene.talks and name not in scene.drawn]


def _child(name: str, event: RecordedEvent, scene: Scene) -> Html:
    """A child's conversation, folded under its question."""
    prompts = dict(zip(event["children"], event["prompts"], strict=False))
    title = tag("summary", tag("span", name, cls="level"), " ", one_line(prompts.get(name, ""), 90))
    inner = _conversation(name, replace(scene, depth=scene.depth + 1))
    return tag("details", title, tag("div", inner, cls="body"), cls="child")


def _child_returned(event: RecordedEvent, scene: Scene) -> Html:
    rows = (
        tag("li", pre(one["text"], "" if one["ok"] else "error")) for one in event["results"][:_MOST_CHILDREN]
    )
    replies = count(len(event["results"]), "reply", "replies")
    title = f"{event['verb']} gave back {replies} in {event['seconds']:.2f} s"
    is_table = event["verb"] in PACKS  # what it says stands in the rows, or in the notes
    return fold(title, tag("ol", *rows), id=_anchor(event), cls="sent aside" if is_table else "sent")


def _map_called(event: RecordedEvent, scene: Scene) -> Html:
    return map_step(scene.maps[event["seq"]], scene.asked_at, scene.rows, scene.anchors, _anchor(event))


def _rows_recalled(event: RecordedEvent, scene: Scene) -> Html:
    return tag("p", f"The store had the answers of {count(len(event['rows']), 'row')}.", id=_anchor(event))


def _rows_answered(event: RecordedEvent, scene: Scene) -> Html:
    words = f"Rows {event['first'] + 1:,} to {event['first'] + len(event['answers']):,} were answered."
    return tag("p", words, id=_anchor(event), cls="meta")


def _map_returned(event: RecordedEvent, scene: Scene) -> Html:
    return tag("p", f"{map_in_words(event)}, in {event['seconds']:.2f} s", id=_anchor(event), cls="meta")


def _reduce_called(event: RecordedEvent, scene: Scene) -> Html:
    asked = tag("code", tag("b", "llm_reduce"), f": {count(event['packs'], 'pack')}, {event['model']}")
    planned = facts([("Planned", plan_in_words(event)), ("Reads", count(event["passages"], "passage"))])
    return tag("div", tag("p", asked, cls="step"), pre(event["question"]), planned, id=_anchor(event))


def _reduce_returned(event: RecordedEvent, scene: Scene) -> Html:
    title = f"{reduced_in_words(event)}, in {event['seconds']:.2f} s"
    return fold(title, *reduced_step(event, scene.anchors), id=_anchor(event))


def _budget(event: RecordedEvent, scene: Scene) -> None:
    return None  # in the table of the run section, where one row can be held against the next


def _suspicious(event: RecordedEvent, scene: Scene) -> Html:
    anchor = scene.anchors.get(event["place"])
    place = tag("a", event["place"], href=f"#{anchor}") if anchor else event["place"]
    head = tag("strong", f"Reads like an instruction ({event['rule']}): ")
    where = tag("span", f" {event['shown_as']} ", place, f", {event['start']}–{event['end']}", cls="meta")
    return tag("p", head, tag("q", event["words"][:1_000]), where, cls="doubt", id=_anchor(event))


def _noted(event: RecordedEvent, scene: Scene) -> Html:
    return tag("p", event["text"], cls="note", id=_anchor(event))


def _answered(event: RecordedEvent, scene: Scene) -> Html:
    cited = count(len(event["citations"]), "citation")
    link = tag("a", "The answer", href="#answer")
    return tag(
        "p",
        link,
        f" was given, with {cited}. Ended: {event['stop']}.",
        id=_anchor(event),
        cls="note",
    )


def _models_changed(event: RecordedEvent, scene: Scene) -> Html:
    named = ", ".join(f"{role}: {model}" for role, model in event["models"].items())
    return tag("p", f"From here on other models are asked ({named})", cls="note", id=_anchor(event))


def _closed(event: RecordedEvent, scene: Scene) -> Html:
    wrong = f" {event['error']}" if event.get("error") else ""
    return tag("p", f"The run closed after {event['seconds']:.1f} s.{wrong}", id=_anchor(event), cls="meta")


def _embedded(event: RecordedEvent, scene: Scene) -> Html:
    wrong = f" failed: {event['error']};" if "error" in event else ""
    paid = in_dollars(event["usage"]["usd"])
    words = (
        f"{event['model']} embedded “{'”, “'.join(event['texts'])}”;{wrong} {paid}, {event['seconds']:.1f} s."
    )
    return tag("p", words, id=_anchor(event), cls="meta")


#: The HTML of each kind of event; None for one that is drawn elsewhere.
STEPS: dict[str, Callable[[RecordedEvent, Scene], Html | None]] = {
    "run_opened": _opened,
    "question_put": _put,
    "model_asked": _asked,
    "model_answered": _replied,
    "model_failed": _failed,
    "code_scanned": _scanned,
    "code_run": _ran,
    "visited": _visited,
    "embedded": _embedded,
    "child_called": _child_called,
    "child_returned": _child_returned,
    "map_called": _map_called,
    "rows_recalled": _rows_recalled,
    "rows_answered": _rows_answered,
    "map_returned": _map_returned,
    "reduce_called": _reduce_called,
    "reduce_returned": _reduce_returned,
    "budget": _budget,
    "suspicious": _suspicious,
    "note": _noted,
    "models_changed": _models_changed,
    "answered": _answered,
    "run_closed": _closed,
}


def _coloured(code: str, bad_line: int | None) -> list[Html]:
    """The code line by line, its words classed; the line the scan names is marked."""
    lines = "".join(_spans(code)).split("\n")
    return [_code_line(Html(line), number == bad_line) for number, line in enumerate(lines, 1)]


def _spans(code: str) -> list[Html]:
    spans, at = [], 0
    for match in _CODE.finditer(code):
        spans.append(join([code[at : match.start()]]))
        # A string over several lines is coloured line by line, so that a line is whole markup by itself.
        pieces = match[0].split("\n")
        spans.append(Html("\n".join(tag("span", piece, cls=match.lastgroup) for piece in pieces)))
        at = match.end()
    return [*spans, join([code[at:]])]


def _code_line(line: Html, bad: bool) -> Html:
    return tag("span", line, Html("\n"), cls="line bad" if bad else "line")


def _anchor(event: RecordedEvent) -> str:
    return f"e{event['seq']}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
