"""A worker that was taken over sends frames about rows: each is refused in a sentence, and its parent goes on."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm.loop.calls import Calls
from rlm.sandbox import CallRefused
from rlm.sandbox.cage import wire
from rlm.sandbox.dialogue import Death, check_call
from tests.fuzz import verbs as fuzzed
from tests.helpers.rlm_toy import embedded
from tests.helpers.toy import toy_index

BOATS, FRUIT = "L1-00000", "L1-00001"
LINES = {"rows": '{"split": "line"}', "start": 0, "stop": 2}
FIELDS = {"label": ["a", "b"]}
HUGE, DEEP = 10**4_000, json.loads("[" * 60 + "]" * 60)
OF_FRUIT = {"rows": json.dumps({"split": "line", "under": FRUIT}), "start": 0, "stop": 1}
OF_ONE = {"rows": json.dumps({"split": "line", "doc": "one.txt"}), "start": 0, "stop": 1}
DUNDERS = ["__class__", "__init__", "__dict__", "self", "_run", "keys", "mro", "{0.__class__}", "%(x)s"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        yield toy_index(tmp_path_factory.mktemp("hostile") / "toy.index")


def served(index: Index, folder: Path, under: str | None, *calls: fuzzed.Call) -> list[Any]:
    """What each call of a cell gets: its value, or a refusal; the trace is then as it was written."""
    said = list[Any]()

    def keep(serve: Any, name: str, args: list[Any], named: dict[str, Any]) -> None:
        try:
            said.append(json.loads(json.dumps(serve(name, args, named), allow_nan=False)))
        except CallRefused as refused:
            said.append(refused)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzzed, "_served", keep)
        asyncio.run(fuzzed.played(index, under, list(calls), folder))
    return said


def mapped(rows: Any, question: Any = "?", **more: Any) -> fuzzed.Call:
    return "llm_map", [question, rows], {"fields": FIELDS} | more


NONSENSE: list[fuzzed.Call] = [
    mapped(LINES | {"stop": HUGE}), mapped(LINES | {"start": -1}), mapped(LINES | {"start": 1e308}),
    mapped(LINES | {"start": True}), mapped({"rows": LINES}), mapped({"rows": HUGE, "start": 0, "stop": 1}),
    mapped({"rows": "[" * 100_000, "start": 0, "stop": 1}), mapped({}), mapped({"rows": "{}", "start": 0, "stop": 1}),
    mapped({"rows": '{"split": "line", "__class__": "x"}', "start": 0, "stop": 1}),
    mapped({"rows": '{"split": "line", "where": {"a": ["b"]}}', "start": 0, "stop": 1}),
    mapped(DEEP), mapped([DEEP]), mapped([{"node": DEEP}]), mapped([None]), mapped([LINES]), mapped(HUGE),
    mapped([{"doc": "boats.txt", "start": HUGE, "end": HUGE}]), mapped([{"doc": "boats.txt", "start": -5, "end": 9}]),
    mapped([{"doc": "boats.txt", "start": 0, "end": 2**63}]), mapped([{"doc": DEEP, "start": 0, "end": 9}]),
    mapped(LINES, question=HUGE), mapped(LINES, question=DEEP), mapped(LINES, question=None),
    mapped(LINES, sure=HUGE), mapped(LINES, sure=DEEP), mapped(LINES, sure=True), mapped(LINES, sure="0.5"),
    mapped(LINES, pack_tokens=DEEP), mapped(LINES, pack_tokens=-HUGE), mapped(LINES, pack_tokens=1.5),
    mapped(LINES, model=DEEP), mapped(LINES, model={"a": 1}), mapped(LINES, strong=DEEP), mapped(LINES, strong=HUGE),
    mapped(LINES, fields=DEEP), mapped(LINES, fields=HUGE), mapped(LINES, fields={"a": DEEP}),
    mapped(LINES, fields={"a": HUGE}), mapped(LINES, fields={"a": [HUGE]}), mapped(LINES, fields={"a": [None]}),
    mapped(LINES, fields={"a": ["x" * 100_000]}), mapped(LINES, fields={"x" * 100_000: "text"}),
    mapped(LINES, fields={"a": ["\ud800"]}), mapped(LINES, fields={"\ud800": "text"}),
    mapped(LINES, fields={str(n): "text" for n in range(1_000)}), mapped(LINES, __class__=1), mapped(LINES, self=1),
    ("llm_filter", [HUGE, LINES], {}), ("llm_filter", ["?", LINES], {"fields": FIELDS}), ("llm_filter", [], {}),
    ("llm_filter", ["?", LINES, None, DEEP], {}), ("llm_map", [], {"rows": LINES}),
    ("llm_reduce", ["?"], {"rows": LINES | {"stop": HUGE}}), ("llm_reduce", ["?"], {"texts": DEEP}),
    ("llm_reduce", ["?"], {"under": DEEP}), ("llm_reduce", ["?"], {"nodes": [DEEP]}),
    ("llm_reduce", [DEEP], {"texts": ["a"]}), ("llm_reduce", ["?"], {"texts": ["a"], "model": DEEP}),
    ("context.rows", [DEEP], {}), ("context.rows", ["line"], {"where": DEEP}),
    ("context.rows", ["line"], {"doc": HUGE}), ("context.rows", ["line"], {"under": DEEP}),
    ("context.read_rows", [DEEP, 0, 1], {}), ("context.read_rows", ['{"split": "line"}', HUGE, HUGE], {}),
    ("context.read_rows", ['{"split": "line"}', 0, DEEP], {}),
]  # fmt: skip


def test_nonsense_is_refused_in_a_sentence_and_the_parent_goes_on(index: Index, tmp_path: Path) -> None:
    *said, last = served(index, tmp_path, None, *NONSENSE, mapped(LINES))
    for call, one in zip(NONSENSE, said, strict=True):
        assert isinstance(one, CallRefused), f"{str(call)[:300]} gave {str(one)[:300]}"
        assert len(str(one)) < 600 and fuzzed.FAULT not in str(one), (str(call)[:300], str(one))
    assert len(last["columns"]["row"]) == 2


def test_rows_of_another_conversation_are_no_rows_of_this_one(index: Index, tmp_path: Path) -> None:
    calls = [
        (name, arguments, named)
        for rows in (OF_FRUIT, OF_ONE, [{"doc": "one.txt", "start": 0, "end": 5}], ["L0-00005"], [FRUIT])
        for name, arguments, named in (
            mapped(rows),
            ("llm_filter", ["?", rows], {}),
            ("llm_reduce", ["?"], {"rows": rows}),
        )
    ]
    calls += [("context.read_rows", [one["rows"], 0, 1], {}) for one in (OF_FRUIT, OF_ONE)]
    for call, one in zip(calls, served(index, tmp_path, BOATS, *calls), strict=True):
        assert isinstance(one, CallRefused), (call, one)
    given = served(index, tmp_path, FRUIT, mapped(OF_FRUIT))
    assert not isinstance(given[0], CallRefused), given


def test_a_field_may_bear_any_name_and_is_nothing_but_a_name(index: Index, tmp_path: Path) -> None:
    (given,) = served(index, tmp_path, None, mapped(LINES, fields=dict.fromkeys(DUNDERS, "text")))
    assert set(DUNDERS) < set(given["columns"])


def test_a_million_rows_fit_into_no_frame(index: Index) -> None:
    for rows in (["L0-00000"] * 1_000_000, [{"doc": "a", "start": 0, "end": 1}] * 1_000_000):
        frame = {"t": "call", "name": "llm_map", "args": ["?", rows], "kwargs": {"fields": FIELDS}}
        with pytest.raises((wire.FrameError, Death)):
            raw = wire.encode(frame, wire.TO_PARENT_BYTES)
            check_call(wire.decode(raw[wire.HEADER.size :]))


def test_as_many_rows_as_a_frame_holds_are_refused_before_they_are_looked_up(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    monkeypatch.setattr("rlm.loop.verbs.Verbs.placed", lambda self, row: looked_up.append(row))
    (said,) = served(index, tmp_path, None, mapped([{"node": "L0-00000"}] * 100_000))
    assert "100,000 rows in one map, at most 50,000" in str(said)
    assert not looked_up


def test_every_call_about_rows_is_played_by_the_fuzzer() -> None:
    assert {"llm_map", "llm_filter", "llm_reduce", "context.rows", "context.read_rows"} <= set(fuzzed.SERVED)
    assert {f"_{name}" for name in ("llm_map", "llm_filter", "llm_reduce")} <= set(dir(Calls))
