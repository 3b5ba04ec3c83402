"""An argument of the wrong type is one sentence of the package's own, wherever it is given."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, strategies as st

import index_store
import raptor
import rlm
from index_store.arguments import fits
from index_store.index import Index
from rlm.gateway.blocking import run_blocking

SETTINGS: list[tuple[Any, str, Any]] = [
    (rlm.Limits, "usd", "1"),
    (rlm.Limits, "usd", True),
    (rlm.Limits, "turns", None),
    (rlm.Limits, "turns", 1.5),
    (rlm.Limits, "depth", [1]),
    (rlm.Limits, "backend", None),
    (rlm.Limits, "window", "large"),
    (rlm.Limits, "allow_unpriced", "no"),
    (rlm.Models, "root", None),
    (rlm.Models, "root", 1),
    (rlm.Models, "child", 1),
    (rlm.Models, "options", "temperature=0"),
    (rlm.Models, "child_options", [1]),
    (rlm.Demands, "citations", "yes"),
    (rlm.Demands, "schema", "string"),
    (rlm.Caps, "usd", "1"),
    (rlm.Caps, "calls", [1]),
    (rlm.Caps, "tokens", -1),
    (raptor.BuildSettings, "chunk_tokens", "100"),
    (raptor.BuildSettings, "chunk_tokens", None),
    (raptor.BuildSettings, "cluster", {"dims": 5}),
    (raptor.BuildSettings, "encoding", None),
    (raptor.BuildSettings, "ocr_language", ["deu"]),
    (raptor.BuildSettings, "precision", None),
    (raptor.BuildSettings, "precision", "float16"),
    (raptor.ClusterSettings, "seed", "1"),
    (raptor.ClusterSettings, "threshold", None),
    (raptor.ClusterSettings, "method", None),
    (raptor.Spending, "usd", "1"),
    (raptor.Spending, "max_errors", None),
    (index_store.Scope, "doc", 5),
    (index_store.Scope, "where", "year=2021"),
    (index_store.Scope, "section", ["a"]),
]
OF = {"rlm": rlm.RlmError, "raptor": raptor.RaptorError, "index_store": index_store.IndexStoreError}


@pytest.mark.parametrize(
    ("kind", "name", "value"), SETTINGS, ids=lambda given: getattr(given, "__name__", None)
)
def test_a_setting_of_the_wrong_type_is_one_sentence(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(OF[kind.__module__.partition(".")[0]]) as raised:
        kind(**{name: value})
    assert re.search(rf"\b{name}\b|the model options", str(raised.value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"index": 123},
        {"index": None},
        {"question": 123},
        {"question": b"why?"},
        {"models": "openai/gpt-5-mini"},
        {"limits": {"usd": 1}},
        {"demands": True},
        {"scope": "boats.txt"},
        {"runs": 5},
        {"watch": "print"},
        {"route": 5},
        {"route": "fast"},
    ],
    ids=str,
)
def test_a_question_with_an_argument_of_the_wrong_type_is_one_sentence(
    index: Index, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"index": index, "question": "Why?", "runs": tmp_path / "runs"} | wrong

    async def chat() -> None:
        named = {name: value for name, value in arguments.items() if name not in ("index", "question")}
        async with rlm.open_chat(arguments["index"], **named) as opened:
            await opened.ask(arguments["question"])

    async def many() -> None:
        named = {name: value for name, value in arguments.items() if name not in ("index", "question")}
        asked = arguments["question"]
        async for outcome in rlm.ask_many(
            arguments["index"], [asked if "question" in wrong else question], **named
        ):
            assert outcome.error, outcome
            raise rlm.RlmError(outcome.error)

    async def events() -> None:
        async for _ in rlm.events(**arguments):
            pass

    question = rlm.Question("1", "Why?")
    for call in (
        lambda: rlm.ask(**arguments),
        lambda: run_blocking(rlm.ask_async(**arguments)),
        lambda: run_blocking(events()),
        lambda: run_blocking(chat()),
        lambda: run_blocking(many()),
    ):
        with pytest.raises(rlm.RlmError) as raised:
            call()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"index": 123},
        {"question": None},
        {"fields": "label=spam"},
        {"fields": [("label", "number")]},
        {"fields": {}},
        {"fields": {1: "number"}},
        {"fields": {"label": 5}},
        {"split": 5},
        {"split": "word"},
        {"under": 5},
        {"under": "L9-00009"},
        {"strong": True},
        {"strong": "no-such-model"},
        {"sure": "0.1"},
        {"sure": 1.5},
        {"sure": float("nan")},
        {"pack_tokens": 0},
        {"pack_tokens": "many"},
        {"calibrate": "yes"},
        {"models": "openai/gpt-5-mini"},
        {"limits": {"usd": 1}},
        {"limits": rlm.Limits(reply_tokens=5)},
        {"scope": index_store.Scope("boats.pdf")},
        {"memo": "no"},
    ],
    ids=str,
)
def test_a_map_with_an_argument_of_the_wrong_type_is_one_sentence_and_leaves_no_run(
    index: Index, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"index": index, "question": "Which?", "fields": {"masts": "number"}} | wrong
    runs = tmp_path / "runs"
    for call in (
        lambda: rlm.map_rows(**given, runs=runs),
        lambda: run_blocking(rlm.map_rows_async(**given, runs=runs)),
        lambda: rlm.plan_rows(**given),
    ):
        with pytest.raises((rlm.RlmError, index_store.IndexStoreError)) as raised:
            call()
        assert "\n" not in str(raised.value) and not runs.exists()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: rlm.load_schema(None), rlm.RlmError),  # type: ignore[arg-type]
        (lambda: rlm.read_questions(5), rlm.RlmError),  # type: ignore[arg-type]
        (lambda: rlm.Answers("a.jsonl"), rlm.RlmError),  # type: ignore[arg-type]
        (lambda: rlm.Question("1", 5), rlm.RlmError),  # type: ignore[arg-type]
        (lambda: raptor.build_index(5, "i"), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.build_index([5], "i"), raptor.RaptorError),  # type: ignore[list-item]
        (lambda: raptor.build_index("d", 5), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.build_index("d", "i", settings={}), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.build_index("d", "i", spending=1), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.build_index("d", "i", summarizer=None), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.update_index("i", remove="a.txt"), raptor.RaptorError),
        (lambda: raptor.sync_index(5), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.estimate("d", None), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.check_sources(None), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.prune_index("i", "all"), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.places_of_removed(5), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.read_metadata(5), raptor.RaptorError),  # type: ignore[arg-type]
        (lambda: raptor.read_settings(5), raptor.RaptorError),  # type: ignore[arg-type]
    ],
)
def test_a_call_with_an_argument_of_the_wrong_type_is_one_sentence(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        call()
    assert "; give " in str(raised.value) and "\n" not in str(raised.value)


OF_AN_INDEX: list[tuple[str, dict[str, Any]]] = [
    *(("search", {"query": query}) for query in (3, None, b"a", ["a"])),
    *(("search", {"query": "a", "k": k}) for k in ("5", True, None, 5.0, float("inf"), float("nan"))),
    *(("search", {"query": "a", "level": level}) for level in ("1", True, 1.0)),
    *(
        ("search", {"query": "a", name: 3})
        for name in ("doc", "under", "section", "where", "vector", "weights")
    ),
    *(("search", {"query": "a", name: 3}) for name in ("mode", "fold", "check", "within")),
    ("search", {"query": "a", "where": "year=2021"}),
    ("search", {"query": "a", "vector": [1.0]}),
    *(("grep", {"pattern": pattern}) for pattern in (3, None, b"a")),
    *(("grep", {"pattern": "a"} | {name: "1"}) for name in ("limit", "count_to", "ignore_case", "within")),
    *(("grep", {"pattern": "a"} | {"limit": limit}) for limit in (True, 1.0)),
    *((name, {"doc": 3}) for name in ("document", "document_text", "has_document")),
    *((name, {"node": 3}) for name in ("node", "text", "children", "parents", "path_to", "leaves")),
    *((name, {"level": level}) for name in ("nodes", "level_range") for level in (None, "1", 1.0)),
    *((name, {"span": "a.txt"}) for name in ("span_text", "place")),
]


@pytest.mark.parametrize(("method", "arguments"), OF_AN_INDEX, ids=str)
def test_an_argument_of_the_wrong_type_to_an_index_is_one_sentence(
    index: Index, method: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(index_store.IndexStoreError) as raised:
        getattr(index, method)(**arguments)
    assert re.search(r"; (give|this index has|there are|did you mean 'one)", str(raised.value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "call",
    [
        *(
            (name, (wrong,))
            for name in ("open_index", "open_any", "open_text")
            for wrong in (3, None, b"a", ["a"])
        ),
        ("open_index", ("i", 3)),
        ("list_generations", (3,)),
        ("changes_of", ("i", 3)),
        ("rollback", ("i", 1.0)),
        ("prune", ("i", "1")),
        ("prune", ("i", 1.0)),
        ("verify_index", (None,)),
        ("load_embedder", (["a"],)),
        ("publish", (3, 3, {}, {})),
        ("sources", (3, "L0-00000")),
        ("nodes_above", (3, 3)),
        ("level_stats", (3,)),
        ("to_networkx", (3,)),
    ],
    ids=str,
)
def test_an_argument_of_the_wrong_type_to_what_opens_and_keeps_indexes_is_one_sentence(
    call: tuple[str, tuple[Any, ...]],
) -> None:
    with pytest.raises(index_store.IndexStoreError, match=r"\A[^\n]*; give "):
        getattr(index_store, call[0])(*call[1])


def test_an_argument_of_an_index_that_is_numpys_is_taken(index: Index) -> None:
    two: Any = np.int64(2)
    none: Any = np.int32(0)
    hits = index.search("mizzen", two, mode="lexical", within=np.arange(3), vector=index.vectors[0])
    assert hits and index.search("mizzen", mode="lexical", level=none)


def test_a_missing_argument_and_an_unknown_one_are_pythons_own_errors() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'question'"):
        rlm.ask("i")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="modles"):
        rlm.ask("i", "Why?", modles=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("value", "hint", "does"),
    [
        (1, int, True),
        (np.int64(1), int, True),
        (1e6, int, True),
        (float("inf"), int, True),  # its range is for others to say
        (0.5, int, False),
        (True, int, False),
        (True, float, False),
        (np.float32(1), float, True),
        (None, int | None, True),
        ("a", Sequence[str], False),
        (["a"], Sequence[str], True),
        (["a", 1], Sequence[str], False),
        (("a",), tuple[str, ...], True),
        ("a", str | Path, True),
        (Path("a"), str | Path, True),
        ({}, Mapping[str, str], True),
        ([], Mapping[str, str], False),
        ("anything", Literal["a"], True),
        (print, Any, True),
    ],
)
def test_a_value_fits_a_hint_or_does_not(value: Any, hint: Any, does: bool) -> None:
    assert fits(value, hint) is does


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.lists(st.integers()), st.binary()))
def test_nothing_but_a_sentence_comes_of_any_value(value: Any) -> None:
    for kind in (rlm.Limits, rlm.Caps, rlm.Models, rlm.Demands, raptor.BuildSettings, raptor.Spending):
        for name in kind.__dataclass_fields__:
            try:
                kind(**{name: value})
            except (rlm.RlmError, raptor.RaptorError) as e:
                assert str(e)
