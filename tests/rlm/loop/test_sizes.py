"""What a cell asks for costs the parent no more memory than it may get, and no more time than its cell has."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from index_store.index import Index, open_index
from index_store.tree import Tree
from index_store.types import Json
from index_store.view import View
from rlm import Limits, Models
from rlm.asking.options import Options
from rlm.asking.runs import new_run
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.tokens import count_tokens
from rlm.loop.calls import CALL_CHARS, Calls
from rlm.loop.cells import serving
from rlm.loop.checks import Refused
from rlm.loop.engine import converse
from rlm.loop.recording import Unrecorded
from rlm.loop.verbs import READ_CHARS, Verbs
from rlm.sandbox import CallRefused
from rlm.sandbox.types import Clock
from tests.helpers.model_server import MODEL
from tests.helpers.rlm_toy import embedded, recorded_verbs
from tests.helpers.toy import document, publish_toy, toy_draft, unit_rows

CHUNK = 190_000  # characters: nearly as many as one read may have
CHUNKS = 12
SIX: list[Json] = [f"L0-{i:05}" for i in range(6)]
#: What a call may hold at once: the largest that is allowed, in copies as text, prompt, message and event.
CEILING = 200 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """One document of a few long chunks, in two branches under a root with a long summary."""
    text = ("The ketch lies in the bay, é. " * 7_000)[:CHUNK] * CHUNKS
    spans = [(0, at, at + CHUNK) for at in range(0, len(text), CHUNK)]
    draft = replace(
        toy_draft(),
        documents=[document("long.txt", text)],
        chunks=np.array(spans, dtype=np.int64),
        labels=["One", "Two", "All"],
        summaries=["one. " * 30_000, "two", "all " * 2_000_000],
        levels=[CHUNKS, 2, 1],
        children=[np.arange(0, 6), np.arange(6, 12), np.array([12, 13])],
        tokens=np.full(CHUNKS + 3, 50_000, dtype=np.int64),
        vectors=unit_rows(CHUNKS + 3),
    )
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        count_tokens(MODEL, "a vocabulary is read once")
        publish_toy(path := tmp_path_factory.mktemp("large") / "large.index", draft)
        yield open_index(path)


def served(index: Index, under: str | None, name: str, arguments: dict[str, Json]) -> tuple[str, int]:
    """(the refusal or "", the peak of memory in bytes) of one call that a cell makes."""

    async def once() -> str:
        # No call is paid for: it fails for want of tokens after its prompts are made, which is when they are largest.
        ledger = Ledger(Caps(tokens=10))
        options = Options(models=Models(MODEL, MODEL), limits=Limits(tokens=10))
        run = new_run(View(index), options, Gateway(ledger), Unrecorded(), asyncio.get_running_loop())
        verbs = Verbs(index, lambda visit: None, under)
        serve = serving(verbs, Calls(run, verbs, "0", 0, converse, lambda: 1), lambda: Clock(1e9))
        try:
            await asyncio.to_thread(serve, name, [], arguments)
        except CallRefused as e:
            return str(e)
        return ""

    tracemalloc.start()
    try:
        return asyncio.run(once()), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


nodes = st.sampled_from([f"L0-{i:05d}" for i in range(CHUNKS)] + ["L1-00000", "L1-00001", "L2-00000"])
offsets = st.sampled_from([0, 1, CHUNK, READ_CHARS, CHUNK * CHUNKS - 1, CHUNK * CHUNKS])
places = nodes | st.fixed_dictionaries({"doc": st.just("long.txt"), "start": offsets, "end": offsets})
many = st.tuples(st.lists(places, max_size=4), st.sampled_from([1, 3, 100, 2_500])).map(lambda p: p[0] * p[1])
strings = st.sampled_from(["ketch", "z" * 100_000, "bay, é", "(k|l)etch.{0,40}", "."])
calls = st.one_of(
    st.tuples(st.just("context.read"), st.fixed_dictionaries({"node": places | many})),
    st.tuples(st.sampled_from(["context.peek", "context.children"]), st.fixed_dictionaries({"node": nodes})),
    st.tuples(st.just("context.packs"), st.fixed_dictionaries({"nodes": many})),
    st.tuples(st.just("context.grep"), st.fixed_dictionaries({"pattern": strings, "limit": st.just(200)})),
    st.tuples(st.just("context.search"), st.fixed_dictionaries({"query": strings, "k": st.just(200)})),
    st.tuples(st.just("context.slice"), st.fixed_dictionaries({"start": offsets, "end": offsets})),
    st.tuples(st.just("context.contains"), st.fixed_dictionaries({"text": strings})),
    st.tuples(st.just("context.overview"), st.just({})),
    st.tuples(st.just("llm_query"), st.fixed_dictionaries({"prompt": strings, "nodes": many})),
    st.tuples(
        st.just("llm_query_batched"),
        st.fixed_dictionaries({"prompts": st.just(["?"] * 20), "nodes": st.lists(many, min_size=20, max_size=20)}),
    ),
)  # fmt: skip
LONG = {"doc": "long.txt", "start": 0, "end": READ_CHARS}


@pytest.mark.slow
@settings(max_examples=30)
@given(under=st.sampled_from([None, "L1-00000"]), call=calls)
@example(under=None, call=("llm_query", {"prompt": "?", "nodes": [LONG] * 10_000}))
@example(under=None, call=("llm_query_batched", {"prompts": ["?"] * 21, "nodes": [[LONG] * 5] * 21}))
@example(under=None, call=("llm_query_batched", {"prompts": ["?"] * 20, "nodes": [[LONG] * 5] * 20}))
@example(under=None, call=("llm_query_batched", {"prompts": ["?"] * 500, "nodes": [[LONG] * 5] * 500}))
@example(under=None, call=("context.read", {"node": [LONG] * 500}))
@example(under=None, call=("context.peek", {"node": "L2-00000"}))
def test_no_call_of_a_cell_costs_the_parent_much_memory(
    large: Index, under: str | None, call: tuple[str, dict[str, Json]]
) -> None:
    refusal, peak = served(large, under, *call)
    assert "fault of the system" not in refusal
    assert peak < CEILING


@pytest.mark.parametrize(
    ("name", "arguments", "refusal"),
    [
        ("context.read", {"node": ["L0-00000", "L0-00001"]}, "these 2 texts hold more than"),
        ("context.read", {"node": "L2-00000"}, "8,000,000 characters asked for, at most 200,000"),
        ("llm_query", {"prompt": "?", "nodes": ["L2-00000"]}, "8,000,000 characters asked for"),
        ("llm_query", {"prompt": "?", "nodes": SIX}, "1,140,000 characters of passages in one prompt"),
        (
            "llm_query_batched",
            {"prompts": ["?"] * 30, "nodes": [SIX[:4]] * 30},
            f"22,800,000 characters of passages in one call, at most {CALL_CHARS:,}",
        ),
    ],
)  # fmt: skip
def test_what_is_too_large_is_refused_before_any_of_it_is_read(
    large: Index, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, Json], refusal: str
) -> None:
    def unread(*_: Any) -> str:
        raise AssertionError("it was read")

    for reader in ("text_at", "span_text", "bytes_text"):
        monkeypatch.setattr(Tree, reader, unread)
    assert refusal in served(large, None, name, arguments)[0]


def test_of_a_long_text_only_the_head_is_read(large: Index) -> None:
    verbs, _ = recorded_verbs(large)
    tracemalloc.start()
    seen: Any = verbs.serve("peek", ["L2-00000"], {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (seen["text"], seen["chars"]) == ("all " * 100, 8_000_000)
    assert peak < 3 * 8_000_000  # counted as bytes, not built as text


def test_text_that_is_no_utf8_counts_for_a_quarter_of_its_bytes_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(tmp_path / "i", replace(toy_draft(), summaries=["one", "two", "x" * 4_000]))
    index = open_index(tmp_path / "i")
    damaged = np.full(len(index.store.summaries), 0x80, dtype=np.uint8)
    monkeypatch.setattr(index, "store", replace(index.store, summaries=damaged))
    assert index.chars_at(8) == 1_000
    assert len(index.head_at(8, 10)) <= 10


# -- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("under", [None, "L1-00000"])
def test_looking_for_long_text_reads_each_byte_twice_at_most(
    large: Index, under: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index_store.view.WINDOW_BYTES", 1 << 12)
    verbs, _ = recorded_verbs(large, under)
    size = verbs.view.bytes
    for overlap in (0, 1, 5_000, 300_000, size - 1):
        windows = [len(window) for window in verbs.view.windows(overlap)]
        assert sum(windows) <= 2 * size + len(windows)


def test_what_is_longer_than_the_text_is_not_looked_for(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs, _ = recorded_verbs(index)
    monkeypatch.setattr("index_store.view.View.windows", lambda *_: pytest.fail("it was"))
    assert verbs.serve("contains", ["z" * 7_000_000], {}) is False


@pytest.mark.parametrize(
    ("name", "arguments"), [("contains", ["z" * 50]), ("grep", ["z{40}"]), ("grep", ["z", "L1-00000"])]
)
def test_a_verb_that_reads_much_ends_at_its_deadline(large: Index, name: str, arguments: list[Json]) -> None:
    verbs, visits = recorded_verbs(large)
    with pytest.raises(Refused, match="this cell's time is up"):
        verbs.serve(name, arguments, {}, left_s=lambda: 0.0)
    assert "time is up" in visits[-1]["error"]
