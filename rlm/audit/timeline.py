"""A run as plain text: what was asked, each step in order, what it cost so far, the answer and its citations."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from index_store.access import in_words as labels_in_words
from index_store.terminal import count, one_line, visible
from rlm.audit.attempts import (
    as_sent,
    attempts_in_words,
    failure_in_words,
    is_plain,
    not_taken,
    parameters_of,
    served_in_words,
    troubles,
)
from rlm.audit.claims import claims_of, differences, in_words, marked, tally
from rlm.audit.costs import costs, in_dollars, reuse
from rlm.audit.events import RecordedEvent
from rlm.audit.fences import fenced_blocks
from rlm.audit.maps import (
    PACKS,
    MapEvents,
    counts_in_words,
    map_in_words,
    maps_of,
    values_counted,
    without_packs,
)
from rlm.audit.pairs import Pair, pairs_of, read_by
from rlm.audit.routing import Branch, held_to
from rlm.audit.verifying import UNVOUCHED, Verdict
from rlm.gateway.types import Usage

WIDTH = 100
_CODE_LINES = 8
_OUTPUT_LINES = 4
_NODES = 6
_MOST_NAMED = 5  # redactions whose authors a line names
_BLOCK_CHARS = 100_000
#: What a reader is told of a trace that is not as it was written, before anything that it says.
UNSURE = "Nobody vouches for what follows."
#: What readers that are no language model do.
READER_DOES = "sentences of the documents, chosen by rules"
#: Before a visit that no code made.
BY_THE_RUN = "by the run itself: "


def show(events: Sequence[RecordedEvent], verdict: Verdict | None = None, *, full: bool = False) -> str:
    """The run as text for a terminal or a file, without colour and control characters.

    First the verdict, if given, and how many quotes of its answers stand; then each question with its steps, its
    answer, the branches entered for it and, in a chat, what it cost. `full`: texts of which a step shows a part, or
    nothing, stand whole below it, and each call of a map or a reduction is a step.
    """
    events = as_sent(events)
    pairs, total = pairs_of(events), {cost.seq: cost.usage for cost in costs(events)}
    counted = {one.returned["seq"]: _counts(one) for one in maps_of(events) if one.returned}
    lines = [] if verdict is None else _head(events, pairs, verdict)
    for pair in pairs:
        lines += ["", *([f"QUESTION {pair.number} of {len(pairs)}"] if len(pairs) > 1 else [])]
        for event in pair.events if full else without_packs(pair.events):
            body = STEPS[event["kind"]](event) + counted.get(event["seq"], [])
            body += _whole(event, body) if full else []
            body += [f"so far {_money(total[event['seq']])}"] if event["seq"] in total else []
            lines += _stamped(event, body)
        lines += ["", *_path(pair.branches)]
        lines += [f"Question {pair.number} cost {_money(pair.usage)}"] if len(pairs) > 1 else []
    had = reuse(events)
    lines += [f"Had before: {words}"] if (words := had.in_words()) else []
    lines += [f"Prompts begin as the one before: {shares}"] if (shares := had.shares_in_words()) else []
    if events and not pairs:
        lines += ["", *_path([])]
    return "\n".join(lines).lstrip("\n") + "\n"


def _head(events: Sequence[RecordedEvent], pairs: Sequence[Pair], verdict: Verdict) -> list[str]:
    """How many quotes stand, before it is said that the trace is whole; that it is not goes before all else. Then who
    read the text, where that was no language model, and what went wrong on the way."""
    reader, trouble = read_by(events), troubles(events)
    rest = [f"read by: {reader}; {READER_DOES}"] if reader else []
    rest += [f"On the way: {trouble}"] if trouble else []
    if verdict.ok:
        return [*_standing(pairs), verdict_line(verdict), *([] if verdict.vouched else [UNVOUCHED]), *rest]
    has_answer = any(pair.answered for pair in pairs)
    left = not_shown(verdict, has_answer)
    lines = [verdict_line(verdict), *([left] if left else [])]
    return [*lines, *(_standing(pairs) if has_answer else []), *rest]


def _standing(pairs: Sequence[Pair]) -> list[str]:
    """How many quotes stand, a line for each answer; and why an answer is not accepted."""
    lines = []
    for pair in (pair for pair in pairs if pair.answered):
        who = f"answer {pair.number}: " if len(pairs) > 1 else ""
        words = f"{who}{tally(pair.claims, pair.content) if pair.content else no_answer(pair)}"
        lines.append(words[0].upper() + words[1:])
        if pair.answered and pair.answered["stop"] == "unmet":
            lines.append(f"NOT ACCEPTED: {who}{lacking(pair.answered)}")
    return lines or ["There is no answer"]


def no_answer(pair: Pair) -> str:
    """That a question has no answer, and what ended it, where that is known."""
    return (
        f"there is no answer: stopped by {_short(pair.answered['stop'])}"
        if pair.answered
        else "there is no answer"
    )


def lacking(answered: RecordedEvent) -> str:
    """Why an answer that lacks what was demanded is not accepted, on one line."""
    return one_line(answered.get("lacks") or "it lacks what was demanded of it", 1_000)


def _missing(verdict: Verdict) -> str:
    """How much was taken out of the trace, and by whom; '' for nothing."""
    if not (contents := sum(one.contents for one in verdict.taken_out)):
        return ""
    by = ", ".join(dict.fromkeys(one_line(one.by, 80) for one in verdict.taken_out[:_MOST_NAMED]))
    were = "was" if contents == 1 else "were"
    return f"; {count(contents, 'content')} {were} taken out of it by {by} (rlm trace verify says why)"


def verdict_line(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    if verdict.ok:
        return f"The trace is whole: {count(verdict.events, 'event')}, head {verdict.head}{_missing(verdict)}"
    where = f"line {verdict.first_bad_line}: " if verdict.first_bad_line else ""
    if verdict.only_unclosed:
        return f"THE TRACE IS {verdict.reason.replace('unclosed', 'UNCLOSED', 1)}. {UNSURE}"
    return f"THE TRACE IS NOT AS IT WAS WRITTEN: {where}{verdict.reason}. {UNSURE}"


def not_shown(verdict: Verdict, has_answer: bool) -> str:
    """Which lines of a trace are not shown, from the first bad one on; '' where all are. `has_answer`: whether one
    stands among those that are."""
    if verdict.first_bad_line is None:
        return ""
    after = f" after line {verdict.events:,}" if verdict.events else ""
    hold = "is not shown, whatever it holds" if verdict.unread == 1 else "are not shown, whatever they hold"
    left = (
        f"{count(verdict.unread, 'line')}{after} {hold}"
        if verdict.unread
        else f"The file ends{after or ' before its first line'}"
    )
    return left if has_answer else f"{left}; no answer stands before that"


def branch_line(branch: Branch) -> str:
    """One branch in one line: `L1-00001    Margin, power contract and outlook  (peek)`."""
    label = one_line(branch.label, 60) or "(no label)"
    return f"{one_line(branch.node, 20):<10}  {label}  ({_short(branch.verb)})"


def rejection(scanned: Mapping[str, Any]) -> str:
    """What a cell that was rejected used, for a person: `line 3: the name `open``. A model is told what to write."""
    rule, line = scanned["rule"] or "", scanned["line_in_code"]
    kind, _, word = rule.partition(" ")
    what = f"the {kind} `{word}`" if kind in ("name", "attribute", "import", "syntax") and word else rule
    return one_line(f"line {line}: {what or 'something that is not allowed'}", WIDTH)


def _path(taken: Sequence[Branch]) -> list[str]:
    return ["Branches entered, in order:" if taken else "No branch was entered.", *map(branch_line, taken)]


def _stamped(event: RecordedEvent, body: list[str]) -> list[str]:
    """The lines of a step: the time before the first, children's steps further in."""
    margin = "  " * event["conversation"].count(".")
    stamp = f"{event['time_s']:8.2f} s  "
    return [f"{stamp if i == 0 else ' ' * len(stamp)}{margin}{line}".rstrip() for i, line in enumerate(body)]


def _route(event: RecordedEvent) -> str:
    why = one_line(event.get("route_why", ""), 200)
    return f"{one_line(event['route'], 60)}{f': {why}' if why else ''}"


def _backend(event: RecordedEvent) -> list[str]:
    why = one_line(event.get("backend_why", ""), 200)
    return [f"backend    {one_line(str(event['limits'].get('backend')), 60)}: {why}"] if why else []


def _opened(event: RecordedEvent) -> list[str]:
    index = event["index"]
    return [
        f"question   {one_line(event['question'], 500)}",
        f"index      {one_line(index['name'], 60)}, generation {_short(index['generation'])}: "
        f"{count(index['documents'], 'document')}, {count(index['nodes'], 'node')}",
        *(_listed("about      ", event["scope"]) if event.get("scope") else []),
        *_listed("models     ", event["models"]),
        *_listed("limits     ", event["limits"]),
        *(_listed("demands    ", demands) if (demands := demanded(event)) else []),
        *_account(event),
        f"route      {_route(event)}",
        *_backend(event),
        f"code       {_short(event['code_version'])}, prompts {_short(event['prompts']['version'])}; "
        f"started {_short(event['started'])}",
    ]


def _account(event: RecordedEvent) -> list[str]:
    told = (
        ("operator", "asked by"),
        ("purpose", "purpose"),
        ("retain_until", "keep until"),
        ("key", "paid by"),
    )
    lines = [f"{words:<10} {one_line(event[name], 500)}" for name, words in told if event.get(name)]
    return lines + [f"reads as   {one_line(words, 500)}" for words in reader(event)]


def reader(opened: RecordedEvent) -> list[str]:
    """Whose labels the index was narrowed to, in words; [] where it was not."""
    return [] if opened.get("access") is None else [labels_in_words(opened["access"])]


def demanded(opened: RecordedEvent) -> dict[str, Any]:
    """What was demanded of the answer, without what was not; an older trace does not say."""
    return {name: value for name, value in opened.get("demands", {}).items() if value not in (None, False)}


def _asked(event: RecordedEvent) -> list[str]:
    new, total = len(event["messages"]), event["conversation_messages"]
    given, why = parameters_of(event), not_taken(event)
    return [
        *(_folded(f"NOT TAKEN  {why}", " " * 11) if why else []),
        f"ask        {_short(event['model'])} sees {count(total, 'message')}, {new} of them new",
        *(_listed("  with ", given) if given else []),
    ]


def _answered_call(event: RecordedEvent) -> list[str]:
    used = event["usage"]
    cached = ", from the store" if event["cached"] else ""
    head = f"reply      {used['prompt_tokens']} -> {used['completion_tokens']} tokens, {event['seconds']} s{cached}"
    text = event["text"]
    words = next((text[: block.start] for block in fenced_blocks(text)), text)
    told = [] if is_plain(event) else [f"  attempts: {one_line(attempts_in_words(event), 300)}"]
    served = [f"  served by {told_of}"] if (told_of := served_in_words(event)) else []
    return [head, *told, *served, *_block(words, "  ", _OUTPUT_LINES)]


def _failed(event: RecordedEvent) -> list[str]:
    return [
        f"FAILED     {_short(event['model'])}: {one_line(event['error'], 300)}",
        f"  {one_line(failure_in_words(event), 300)}",
    ]


def _scanned(event: RecordedEvent) -> list[str]:
    verdict = "" if event["verdict"] == "ok" else f"  REFUSED by the scan, {rejection(event)}"
    return [f"cell {event['cell']}{verdict}", *_block(event["code"], "  | ", _CODE_LINES)]


def _ran(event: RecordedEvent) -> list[str]:
    cut = ", output cut" if event["truncated"] else ""
    head = f"cell {event['cell']} ended: {event['status']}, {event['seconds']} s{cut}"
    return [
        head,
        *_block(event["stdout"], "  ", _OUTPUT_LINES),
        *_block(event["error"], "  ! ", _OUTPUT_LINES),
    ]


def _visited(event: RecordedEvent) -> list[str]:
    if event.get("error"):
        return [
            f"{_short(event['verb'])}({_pairs(event['arguments'])}) refused: {one_line(event['error'], WIDTH)}"
        ]
    shown, passed = _nodes(event["shown"]), _nodes(event["not_taken"])
    by = BY_THE_RUN if "by" in event else ""
    return [
        f"{by}{_short(event['verb'])}({_pairs(event['arguments'])}) gave {count(event['result_chars'], 'character')}",
        *([f"  shown     {shown}"] if shown else []),
        *([f"  not taken {passed}"] if passed else []),
        *([f"  cut       {one_line(event['cut'], WIDTH)}"] if event.get("cut") else []),
    ]


def _child_called(event: RecordedEvent) -> list[str]:
    if event["verb"] in PACKS:
        return [f"{event['verb']}: {count(len(event['prompts']), 'pack')} asked"]
    asked = [f"  ? {one_line(prompt, WIDTH)}" for prompt in event["prompts"][:_OUTPUT_LINES]]
    return [
        f"{event['verb']}: {count(len(event['prompts']), 'question')}{held_to(event)}",
        *asked,
        *_more(event["prompts"]),
    ]


def _child_returned(event: RecordedEvent) -> list[str]:
    results = event["results"]
    if event["verb"] in PACKS:  # what was replied stands in the rows, or in the notes
        results = [one for one in results if not one["ok"]]
    lines = [
        f"  {'=' if one['ok'] else '!'} {one_line(one['text'], WIDTH)}" for one in results[:_OUTPUT_LINES]
    ]
    return [f"{event['verb']} returned, {event['seconds']} s", *lines, *_more(results)]


def _map_called(event: RecordedEvent) -> list[str]:
    asked = ", ".join(map(_short, event["columns"]))
    return [
        f"{event['verb']}: {count(event['rows'], 'row')} asked of {_short(event['model'])} for {asked}",
        f"  ? {one_line(event['question'], WIDTH)}",
    ]


def _rows_recalled(event: RecordedEvent) -> list[str]:
    return [f"store      had the answers of {count(len(event['rows']), 'row')}"]


def _rows_answered(event: RecordedEvent) -> list[str]:
    answers = event["answers"]
    lines = [f"  {_row_answer(one)}" for one in answers[:_OUTPUT_LINES]]
    last = event["first"] + len(answers)
    return [f"rows {event['first'] + 1:,} to {last:,}", *lines, *_more(answers)]


def _row_answer(one: Mapping[str, Any]) -> str:
    said = f"! {one['error']}" if "error" in one else f"= {_pairs(one.get('values', {}))}"
    return one_line(f"{said}  {one['row']}", WIDTH)


def _map_returned(event: RecordedEvent) -> list[str]:
    return [f"map        {map_in_words(event)}, {event['seconds']} s"]


def _counts(one: MapEvents) -> list[str]:
    """How many rows have each value of a field, a line for each field."""
    return [f"  {_short(name)}: {counts_in_words(counts)}" for name, counts in values_counted(one).items()]


def _reduce_called(event: RecordedEvent) -> list[str]:
    return [
        f"llm_reduce: {plan_in_words(event)}, asked of {_short(event['model'])}",
        f"  ? {one_line(event['question'], WIDTH)}",
    ]


def plan_in_words(event: RecordedEvent) -> str:
    """What a reduction reads, and what it takes at most."""
    plan = event["plan"]
    levels = f"{count(event['packs'], 'pack')} over {count(plan['levels'], 'level')}"
    most = f"{count(plan['calls'], 'call')}, {count(plan['tokens'], 'token')} and {in_dollars(plan['usd'])}"
    return f"{levels}, at most {most}"


def _reduce_returned(event: RecordedEvent) -> list[str]:
    lines = [f"  = {one_line(line, WIDTH)}" for line in event["answer"].splitlines()[:_OUTPUT_LINES]]
    lines += [f"  ! {one_line(why, WIDTH)}" for why in event["failed"][:_OUTPUT_LINES]]
    return [f"llm_reduce returned {reduced_in_words(event)}, {event['seconds']} s", *lines]


def reduced_in_words(event: RecordedEvent) -> str:
    """What came of a reduction: calls, notes, citations; what was cut, failed and was dropped."""
    told = [
        count(event["calls"], "call"),
        count(event["notes"], "note"),
        count(event["cited"], "citation"),
    ]
    told += [f"{len(event['cut']):,} without evidence"] * bool(event["cut"])
    told += [f"{len(event['failed']):,} failed"] * bool(event["failed"])
    told += [f"{count(event['dropped'], 'note')} dropped"] * bool(event["dropped"])
    return ", ".join(told)


def _budget(event: RecordedEvent) -> list[str]:
    return _listed(f"budget     {one_line(event['reason'], 200)}: left ", event["left"])


def _suspicious(event: RecordedEvent) -> list[str]:
    where = f"{_short(event['shown_as'])} {_short(event['place'])}".strip()
    return [
        f"SUSPICIOUS {where} {event['start']}-{event['end']}, {_short(event['rule'])}:",
        f'      "{one_line(event["words"], WIDTH)}"',
    ]


def _answered(event: RecordedEvent) -> list[str]:
    cited = [line for i, one in enumerate(event["citations"], 1) for line in _citation(i, one)]
    words = _block(marked(event["content"], claims_of(event)), "  ", 1000)
    if event["stop"] == "unmet":
        return [f"NOT ACCEPTED: {lacking(event)}", "ANSWER     (unmet)", *words, *cited]
    return [f"ANSWER     ({_short(event['stop'])})", *words, *cited]


def _citation(number: int, citation: dict[str, Any]) -> list[str]:
    page = "" if citation["page"] is None else f", page {citation['page']}"
    where = "" if citation["start"] is None else f" {citation['start']}-{citation['end']}{page}"
    like = "" if citation["similarity"] is None else f" ({citation['similarity']:.2f} alike)"
    support = in_words(citation["supported"]) + (like if citation["supported"] == "nearest" else "")
    nowhere = _short(citation["node"]) if citation["supported"] == "summary" else "not in the documents"
    place = nowhere if citation["doc"] is None else f"{_short(citation['doc'])}{where}"
    lines = [f"  [{number}] {support}: {place}"]
    if citation["supported"] != "nearest" or not citation.get("found"):
        return [*lines, *_quoted("", citation["quote"])]
    differs = differences(citation["quote"], citation["found"])
    lines += [*_quoted("the answer:   ", citation["quote"]), *_quoted("the document: ", citation["found"])]
    return [*lines, *_folded(f"      differs: {one_line(differs, 500)}", "      ")] if differs else lines


def _quoted(who: str, words: str) -> list[str]:
    """Words in quotation marks and who has them, over as many lines as they need."""
    return _folded(f'      {who}"{one_line(words, 2_000)}"', " " * (6 + len(who)))


def _folded(line: str, margin: str) -> list[str]:
    """A line that may be long, folded to the width; `margin` is before each further line."""
    return wrap(line, WIDTH, subsequent_indent=margin, break_on_hyphens=False) or [""]


def _closed(event: RecordedEvent) -> list[str]:
    wrong = f": {one_line(event['error'], WIDTH)}" if event.get("error") else ""
    return [
        f"closed     {_short(event['stop'])}{wrong}; {_money(Usage(**event['usage']))}, {event['seconds']} s"
    ]


def _embedded(event: RecordedEvent) -> list[str]:
    words = f"embedded   {_short(event['model'])}: {one_line('; '.join(event['texts']), WIDTH)}"
    wrong = f" failed: {one_line(event['error'], WIDTH)};" if "error" in event else ""
    return [words, f"  {wrong} {_money(Usage(**event['usage']))}, {event['seconds']} s".replace("   ", "  ")]


#: The lines of each kind of event.
STEPS: dict[str, Callable[[RecordedEvent], list[str]]] = {
    "run_opened": _opened,
    "question_put": lambda event: [f"question   {one_line(event['question'], 500)}"],
    "model_asked": _asked,
    "model_answered": _answered_call,
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
    "note": lambda event: [f"note       {one_line(event['text'], WIDTH)}"],
    "models_changed": lambda event: [*_listed("models     ", event["models"]), "  from here on"],
    "answered": _answered,
    "run_closed": _closed,
}


#: The texts of each kind of event that has any, by their names.
TEXTS: dict[str, Callable[[RecordedEvent], list[tuple[str, str]]]] = {
    "run_opened": lambda event: [("question", event["question"])],
    "question_put": lambda event: [("question", event["question"])],
    "model_asked": lambda event: [(one["role"], one["content"]) for one in event["messages"]],
    "model_answered": lambda event: [("reply", event["text"])],
    "model_failed": lambda event: [("error", event["error"])],
    "embedded": lambda event: [
        *(("embedded", text) for text in event["texts"]),
        ("error", event.get("error", "")),
    ],
    "code_scanned": lambda event: [("code", event["code"])],
    "code_run": lambda event: [("printed", event["stdout"]), ("error", event["error"])],
    "visited": lambda event: [
        ("arguments", _pairs(event["arguments"], None)),
        ("gave", event.get("error") or _value(event["result"])),
    ],
    "child_called": lambda event: [(f"prompt {n}", text) for n, text in enumerate(event["prompts"], 1)],
    "child_returned": lambda event: [
        (f"result {n}", one["text"]) for n, one in enumerate(event["results"], 1)
    ],
    "map_called": lambda event: [("question", event["question"])],
    "rows_answered": lambda event: [
        (f"row {event['first'] + n}", _row_answer(one)) for n, one in enumerate(event["answers"], 1)
    ],
    "reduce_called": lambda event: [("question", event["question"])],
    "reduce_returned": lambda event: [
        ("answer", event["answer"]),
        *((f"note {n}", one["note"]) for n, one in enumerate(event.get("noted", ()), 1)),
        *((f"failed {n}", why) for n, why in enumerate(event["failed"], 1)),
        *((f"without evidence {n}", name) for n, name in enumerate(event["cut"], 1)),
    ],
    "budget": lambda event: [("reason", event["reason"])],
    "suspicious": lambda event: [("words", event["words"])],
    "note": lambda event: [("note", event["text"])],
    "answered": lambda event: [
        ("answer", event["content"]),
        *((f"quote {n}", one["quote"]) for n, one in enumerate(event["citations"], 1)),
        *((f"found {n}", one.get("found") or "") for n, one in enumerate(event["citations"], 1)),
    ],
    "run_closed": lambda event: [("error", event.get("error", ""))],
}
_MARGIN = re.compile(r"\s*[|!?=] ")


def _whole(event: RecordedEvent, body: Sequence[str]) -> list[str]:
    """The texts of an event that the lines of its step do not hold, whole, with their own line breaks."""
    held = _words(" ".join(_MARGIN.sub("", line) for line in body))
    texts = TEXTS[event["kind"]](event) if event["kind"] in TEXTS else []
    cut = [(name, visible(text)) for name, text in texts if _words(visible(text)) not in held]
    return [
        line for name, text in cut for line in (f"  {name}:", *(f"  | {part}" for part in text.split("\n")))
    ]


def _words(text: str) -> str:
    return " ".join(text.split())


def _money(usage: Usage) -> str:
    return f"{count(usage.calls, 'call')}, {count(usage.tokens, 'token')}, {in_dollars(usage.usd)}"


def _short(value: object) -> str:
    return one_line(str(value), 60)


def _pairs(values: dict[str, Any], width: int | None = WIDTH) -> str:
    pairs = ", ".join(f"{name}={_value(value)}" for name, value in values.items())
    return pairs if width is None else one_line(pairs, width)


def _listed(name: str, values: dict[str, Any]) -> list[str]:
    """Names with their values after a word, over as many lines as they need."""
    words = ", ".join(f"{key}={_value(value)}" for key, value in values.items())
    return _folded(f"{name}{one_line(words, 4_000)}", " " * min(len(name), 11))


def _value(value: object) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else "none" if value is None else str(value)


def _nodes(refs: list[dict[str, Any]]) -> str:
    """Where each node is, and its label, as many as fit a line."""
    some = [f"{_place(ref)} {one_line(ref['label'], 40)}".strip() for ref in refs[:_NODES]]
    return "; ".join(some) + (f"; and {len(refs) - _NODES} more" if len(refs) > _NODES else "")


def _place(ref: dict[str, Any]) -> str:
    return _short(ref["node"] or f"{ref.get('doc')} {ref.get('start')}-{ref.get('end')}")


def _block(text: str, margin: str, most: int) -> list[str]:
    """The first `most` lines, folded to the width; code and words alike keep their own breaks."""
    lines = visible(text[:_BLOCK_CHARS]).strip("\n").split("\n") if text.strip() else []
    folded = [part for line in lines for part in wrap(line, WIDTH, replace_whitespace=False) or [""]]
    rest = [f"{margin}… more"] if len(folded) > most or len(text) > _BLOCK_CHARS else []
    return [margin + line for line in folded[:most]] + rest


def _more(items: list[Any]) -> list[str]:
    return [f"  … {len(items) - _OUTPUT_LINES} more"] if len(items) > _OUTPUT_LINES else []
