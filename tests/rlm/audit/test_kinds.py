"""The classes of events and the table of events are one contract, and what a class writes is what the table reads."""

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_type_hints

import pytest

from rlm.audit import kinds
from rlm.audit.events import EVENTS, USAGE, Shape, object_of
from rlm.audit.kinds import ChildResult, Event, IndexFacts, Note, PromptFacts, RunOpened
from rlm.audit.log import Trace
from rlm.gateway.types import Usage

#: Set by the trace itself, not by whoever records.
ADDED = {"run_opened": {"format", "started"}, "run_closed": {"ended"}}


def classes() -> list[type[Event]]:
    """The class of each kind, in the order in which they are written."""
    of_events = (
        value for value in vars(kinds).values() if isinstance(value, type) and issubclass(value, Event)
    )
    return [kind for kind in of_events if kind is not Event]


def test_each_kind_of_the_table_has_one_class() -> None:
    written = [kind.kind for kind in classes()]
    assert len(set(written)) == len(written), "two classes of rlm/audit/kinds.py have the same kind"
    without_row, without_class = set(written) - set(EVENTS), set(EVENTS) - set(written)
    assert not without_row, f"give {without_row} a row in EVENTS of rlm/audit/events.py"
    assert not without_class, f"give {without_class} a class in rlm/audit/kinds.py"


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.kind)
def test_a_class_has_the_fields_of_its_row(kind: type[Event]) -> None:
    row = EVENTS[kind.kind]
    required = [field.name for field in fields(kind) if field.default is MISSING]
    optional = [field.name for field in fields(kind) if field.default is None]
    assert required == [name for name in row.required if name not in ADDED.get(kind.kind, ())]
    assert optional == [name for name in row.optional if name not in ADDED.get(kind.kind, ())]
    assert len(required) + len(optional) == len(fields(kind)), "an optional field has the default None"


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (IndexFacts, EVENTS["run_opened"].required["index"]),
        (PromptFacts, EVENTS["run_opened"].required["prompts"]),
        (ChildResult, EVENTS["child_returned"].required["results"]),
        (Usage, USAGE),
    ],
)
def test_what_stands_inside_a_field_has_the_names_of_its_shape(names: type, shape: Shape) -> None:
    inner = object_of(dict.fromkeys(get_type_hints(names), shape))
    assert shape.name.removeprefix("list of ") == inner.name


def test_an_optional_field_is_left_out_where_it_is_not_given_and_a_null_stays() -> None:
    scanned = kinds.CodeScanned(cell=1, code="x", verdict="ok", rule=None, line_in_code=None)
    assert scanned.fields() == {"cell": 1, "code": "x", "verdict": "ok", "rule": None, "line_in_code": None}
    failed = kinds.ModelFailed(call=1, model="m", error="no", seconds=0.5)
    assert failed.fields() == {"call": 1, "model": "m", "error": "no", "seconds": 0.5}


def test_an_event_is_one_line_with_its_header(tmp_path: Path) -> None:
    with Trace.open(tmp_path) as trace:
        assert trace.record("0", opened()) == 0
        assert trace.record("0.1", Note(text="a thing")) == 1
    line = json.loads((tmp_path / "trace.jsonl").read_bytes().splitlines()[1])
    header = {"seq": 1, "conversation": "0.1", "kind": "note", "text": "a thing"}
    assert {name: line[name] for name in header} == header


def opened() -> RunOpened:
    return RunOpened(
        question="q",
        index={"name": "i", "generation": 1, "digest": "", "documents": 0, "nodes": 0},
        models={},
        prompts={"version": "1", "sha256": "0" * 64},
        limits={},
        code_version="",
        route="rlm",
    )
