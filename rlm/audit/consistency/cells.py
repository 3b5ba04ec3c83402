"""Cells: their scan and run, and what they visited; and the answer that one wrote in so many words."""

import ast
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from index_store.terminal import count
from rlm.audit.consistency.story import Story, end_children
from rlm.audit.consistency.sums import too_long
from rlm.audit.events import RecordedEvent, is_taken

#: Code that is read for what it says the answer is; longer code is taken to do anything.
PLAIN_CHARS = 4_000
#: Of what a cell printed, held against what the model is told of it.
PRINTED_CHARS = 100_000
_ANSWERING = re.compile(r"answer|FINAL|SUBMIT")


def cell_is_next(story: Story, event: RecordedEvent) -> str:
    """Cells are numbered on; each runs before the next is scanned, and none while its model is asked."""
    talk, cell = story.talks[event["conversation"]], event["cell"]
    if talk.scan:
        return f"cell {cell} is scanned, and cell {talk.cell} before it never ran"
    if talk.call:
        return f"cell {cell} is scanned while the model is asked for it"
    if cell == talk.cell + 1 or (cell == 1 and talk.begun_anew):
        return ""
    return f"it is cell {cell}, where cell {talk.cell + 1} is next: a cell was removed, added or moved"


def cell_was_let_run(story: Story, event: RecordedEvent) -> str:
    """What a cell asks for, it asks after a scan let it run and before it ended. A search before any cell has none."""
    talk, cell = story.talks[event["conversation"]], event["cell"]
    if event["kind"] == "visited" and (cell == talk.cell == 0 or "by" in event):
        return ""
    if "map" in story.opened and cell == talk.cell == 0 and event["conversation"] == "0":
        return ""
    if talk.scan != "ok" or cell != talk.cell:
        why = (
            "was rejected by its scan" if talk.scan and cell == talk.cell else "was not scanned, or had ended"
        )
        return f"cell {cell} asks for something, and {why}"
    return ""


def run_searched_for_its_end(story: Story, event: RecordedEvent) -> str:
    """The run itself gathers once in its root, after a cell or a call has ended and before its last one."""
    if "by" not in event:
        return ""
    talk = story.talks[event["conversation"]]
    if event["conversation"] != "0" or event["verb"] != "gather" or event["cell"] != talk.cell:
        return "the run itself is said to have done something else than gather in its root"
    if talk.call or talk.scan:
        return "the run itself is said to search while a cell or a call is under way"
    return "the run itself is said to search twice for one end" if talk.searched else ""


def cell_was_scanned(story: Story, event: RecordedEvent) -> str:
    """A cell runs once, after its scan; one that was rejected did not run."""
    talk, cell = story.talks[event["conversation"]], event["cell"]
    if not talk.scan or cell != talk.cell:
        return f"cell {cell} ran, and no scan let it"
    if talk.scan == "rejected" and event["status"] != "rejected":
        return f"cell {cell} was rejected by its scan, and is said to have run ({event['status']})"
    return too_long(event, talk.free_s, f"cell {cell}")


def visit_gave_what_it_counts(story: Story, event: RecordedEvent) -> str:
    """A visit that was refused gave nothing; any other as many characters as it counts."""
    result, refused = event["result"], event.get("error")
    if refused and (result is not None or event["shown"] or event["not_taken"]):
        return "a visit was refused, and gave something"
    chars = 0 if refused else len(result if isinstance(result, str) else json.dumps(result))
    if is_taken(event, "result"):
        return ""
    if chars != event["result_chars"]:
        said = count(event["result_chars"], "character")
        return f"a visit is said to have given {said}, and gave {chars:,}"
    return ""


def scanned(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    if event["cell"] == 1 and talk.cell:
        talk.children, talk.counted_anew, talk.told, talk.computed = 0, True, None, False
    talk.cell, talk.scan, talk.begun_anew, talk.text = event["cell"], event["verdict"], False, ""
    told = told_in(event["code"]) if event["verdict"] == "ok" else ""
    told = None if is_taken(event, "code") else told
    talk.computed = talk.computed or told is None
    talk.told = told or talk.told


def ran(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.scan, talk.last_ok, talk.free_s = "", event["status"] == "ok", event["time_s"]
    talk.end.last = event["status"]
    talk.printed = "" if is_taken(event, "stdout") else event["stdout"][:PRINTED_CHARS]
    talk.computed = talk.computed or event["status"] not in ("ok", "rejected")
    talk.map = talk.reduction = None
    end_children(story, talk)  # those of a cell that was cut short have ended with it


def visited(story: Story, event: RecordedEvent) -> None:
    story.talks[event["conversation"]].searched |= "by" in event


def told_in(code: str) -> str | None:
    """The answer that a cell gives in so many words; '' where it gives none, None where it may compute one.

    So many words are `FINAL("...")` alone, or `answer["content"] = "..."` among statements that name `answer` in no
    other way. JSON may be taken apart afterwards, so it is taken for computed.
    """
    if len(code) > PLAIN_CHARS:
        return None
    named = len(_ANSWERING.findall(unicodedata.normalize("NFKC", code)))
    if not named:
        return ""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    given = [pair for statement in body for pair in _given(statement)]
    texts = [value for key, value in given if key == "content"]
    if len(given) != named or (texts and not isinstance(texts[-1], str)):
        return None
    if len(given) > 1 and "FINAL" in code:  # which ends the cell, and what follows is not reached
        return None
    told = texts[-1] if texts else ""
    return None if told.startswith("{") or told != told.encode("utf-8", "replace").decode() else told


def _given(statement: ast.stmt) -> Iterator[tuple[str, Any]]:
    """(key, constant or None) where a statement puts something into the answer, and does nothing else with it."""
    match statement:
        case ast.Assign(
            targets=[ast.Subscript(value=ast.Name(id="answer"), slice=ast.Constant(value=str(key)))]
        ):
            yield key, statement.value.value if isinstance(statement.value, ast.Constant) else None
        case ast.Expr(
            value=ast.Call(func=ast.Name(id="FINAL"), args=[ast.Constant(value=str(text))], keywords=[])
        ):
            yield "content", text
