"""Calls of a cell, with any JSON as arguments: each has a value that is JSON, or a refusal that foresaw it."""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st

from index_store.index import Index, open_index
from index_store.view import View
from rlm import Limits, Models
from rlm.asking.options import Options
from rlm.asking.routes import Choice
from rlm.asking.runs import gateway_for, new_run, record_opening
from rlm.audit.log import Trace
from rlm.audit.timeline import show
from rlm.audit.verifying import check as check_trace
from rlm.gateway.gateway import Gateway
from rlm.loop import navigator
from rlm.loop.calls import NAMES as CALLS, Calls
from rlm.loop.cells import serving
from rlm.loop.engine import converse
from rlm.loop.verbs import VERBS, Verbs
from rlm.loop.visits import record_visit
from rlm.sandbox import CallRefused
from rlm.sandbox.cage import wire
from rlm.sandbox.dialogue import Death, check_call
from rlm.sandbox.types import Clock
from tests.fuzz.mutate import mutated_json, value
from tests.fuzz.target import Target
from tests.helpers.rlm_toy import embedded
from tests.helpers.toy import document, publish_toy, toy_draft, toy_index, unit_rows
from tests.rlm.loop.test_sizes import calls as sized_calls
from tests.rlm.loop.test_verbs import NAMES, nasty

Call = tuple[str, list[Any], dict[str, Any]]
CHUNK, CHUNKS = 20_000, 12  # characters of a chunk of the larger index, and how many
SERVED = [*(f"context.{verb}" for verb in VERBS), *CALLS]
MODEL = "offline/reader"
MORE_NAMES = [
    *NAMES, "prompt", "prompts", "nodes", "model", "question", "questions", "cell", "where", "section", "chars",
    "rows", "fields", "condition", "sure", "strong", "pack_tokens", "texts", "split", "start", "stop", "__class__",
]  # fmt: skip
FAULT = "fault of the system"
LINES = '{"split": "line"}'
FIELDS = {"label": ["a", "b"], "day": "YYYY-MM-DD", "n": "number", "is": "yes/no", "words": "text"}

any_calls = st.tuples(
    st.sampled_from([*SERVED, "context.nothing", "context.__init__", "context."]),
    st.lists(nasty, max_size=4),
    st.dictionaries(st.sampled_from(MORE_NAMES), nasty, max_size=3),
)
large_calls: st.SearchStrategy[Call] = sized_calls.map(lambda call: (call[0], [], call[1]))


def sampled(strategy: st.SearchStrategy[Any], number: int, count: int) -> list[Any]:
    """Values of a strategy, the same from the same number."""
    values: list[Any] = []

    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @seed(number)
    @given(strategy)
    def collect(value: Any) -> None:
        values.append(value)

    collect()
    return values


def honest(rng: random.Random) -> Call:
    """A call as models make it, to be mutated."""
    place = rng.choice(["L0-00000", "L0-00003", "L1-00000", {"doc": "boats.txt", "start": 0, "end": 9}])
    query = rng.choice(["the mizzen", "ketch", "x" * 3_000, "Birnen wiegen"])
    options: list[Call] = [
        ("context.search", [query], {"k": 5, "mode": "hybrid", "under": "L1-00000", "level": 0}),
        ("context.search", [query], {"where": {"year": "1999"}, "section": "Part", "doc": "boats.txt"}),
        ("context.grep", [r"\w+"], {"under": "L1-00001", "limit": 3, "ignore_case": True}),
        ("context.grep", [r"(?i)k(?:e|a)tch.{0,20}"], {"doc": "boats.txt"}),
        ("context.read", [[place, place]], {}),
        ("context.read", ["boats.txt", 3, 40], {}),
        ("context.packs", [], {"nodes": [place, "L0-00001"], "chars": 500}),
        ("context.leaves", ["L2-00000"], {"limit": 3}),
        ("context.slice", [3, 40], {}),
        ("context.documents", [], {"limit": 2}),
        ("llm_query", [query], {"nodes": [place], "model": MODEL}),
        ("llm_query_batched", [[query, query]], {"nodes": [[place], None]}),
        (
            "context.rows",
            [rng.choice(["line", "chunk", "record"])],
            {"under": "L1-00000", "where": {"year": "1999"}},
        ),
        ("context.read_rows", [LINES, 0, 2], {}),
        ("llm_map", ["Which?", {"rows": LINES, "start": 0, "stop": 3}], {"fields": FIELDS, "sure": 0.5}),
        ("llm_map", ["Which?", [place, {"doc": "boats.txt", "start": 0, "end": 9}]], {"fields": FIELDS}),
        ("llm_map", ["Which?", ["a text", query]], {"fields": FIELDS, "strong": MODEL, "pack_tokens": 100}),
        ("llm_filter", ["It is?", {"rows": LINES, "start": 1, "stop": 2}], {"model": MODEL}),
        ("llm_reduce", [query], {"under": "L1-00000"}),
        ("llm_reduce", [query], {"rows": {"rows": LINES, "start": 0, "stop": 3}}),
        ("llm_reduce", [query], {"texts": ["one", "two"], "model": MODEL}),
        ("rlm_query", [query], {"under": "L1-00000"}),
        ("rlm_query_batched", [[query]], {"under": ["L1-00000"]}),
        ("history", [1], {}),
        ("budget", [], {}),
    ]
    return rng.choice(options)


def mutated(rng: random.Random) -> Call:
    name, args, named = honest(rng)
    args, named = mutated_json(rng, args), mutated_json(rng, named)
    return (
        name,
        args if isinstance(args, list) else [args],
        named if isinstance(named, dict) else {rng.choice(MORE_NAMES): value(rng)},
    )


def drawn(rng: random.Random) -> tuple[str, str | None, list[Call]]:
    """(which index, which branch of it, the calls)."""
    which = rng.choice(["toy", "larger"])
    pool = sampled(rng.choice([any_calls, large_calls]), rng.getrandbits(32), 10)
    sent = [call for call in (*pool, *(mutated(rng) for _ in range(10))) if call[0] and _fits(call)]
    return which, rng.choice([None, None, "L1-00000", "L1-00001", "L0-00002"]), sent


def _fits(call: Call) -> bool:
    """Whether a worker's frame can hold a call; the parent sees no other."""
    name, args, named = call
    try:
        frame = wire.encode({"t": "call", "name": name, "args": args, "kwargs": named}, wire.TO_PARENT_BYTES)
        check_call(wire.decode(frame[wire.HEADER.size :]))
    except (wire.FrameError, Death):
        return False
    return True


def larger_index(path: Path) -> Index:
    """Long chunks, in two branches, below a long summary."""
    text = ("The ketch lies in the bay, é. Its mizzen is short\n" * 500)[:CHUNK] * CHUNKS
    draft = replace(
        toy_draft(),
        documents=[document("long.txt", text)],
        chunks=np.array([(0, at, at + CHUNK) for at in range(0, len(text), CHUNK)], dtype=np.int64),
        labels=["One", "Two", "All"],
        summaries=["one. " * 3_000, "two", "all " * 200_000],
        levels=[CHUNKS, 2, 1],
        children=[np.arange(0, 6), np.arange(6, 12), np.array([12, 13])],
        tokens=np.full(CHUNKS + 3, 5_000, dtype=np.int64),
        vectors=unit_rows(CHUNKS + 3),
    )
    publish_toy(path, draft)
    return open_index(path)


async def played(index: Index, under: str | None, calls: list[Call], folder: Path) -> None:
    """Serve calls as a cell makes them, recorded in a trace, which then is whole and can be shown."""
    limits = Limits(tokens=200_000, depth=0, timeout_s=600)
    options = Options(models=Models(MODEL, MODEL), limits=limits)
    path = folder / "trace.jsonl"
    path.unlink(missing_ok=True)
    with Trace.open(folder) as trace:
        run = new_run(View(index), options, gateway_for(limits), trace, asyncio.get_running_loop())
        assert isinstance(run.budget.gateway, Gateway)
        record_opening(run, "?", Choice("rlm", "it is a test"))
        verbs = Verbs(index, partial(_visited, run), under)
        serve = serving(verbs, Calls(run, verbs, "0", 0, converse, lambda: 1), lambda: Clock(600))
        for call in calls:
            try:
                await asyncio.to_thread(_served, serve, *call)
            except Exception as error:
                error.add_note(f"at the call {str(call)[:2_000]}")
                raise
    events: list[Any] = []
    with path.open("rb") as file:
        verdict = check_trace(file, None, events.append)
    assert "without run_closed" in verdict.reason, verdict
    show(events, verdict).encode("utf-8", "surrogatepass")


def _visited(run: Any, visit: Any) -> None:
    record_visit(run, "0", lambda: 1, visit)


def _served(serve: Any, name: str, args: list[Any], named: dict[str, Any]) -> None:
    try:
        json.dumps(serve(name, args, named), allow_nan=False)
    except CallRefused as refused:
        said = str(refused)
        assert FAULT not in said, said
        assert len(said) < 3_000, f"a refusal of {len(said):,} characters"


@contextmanager
def verbs(folder: Path) -> Iterator[Target]:
    """The verbs of a small index and of a larger one, whole and in branches, and the calls of models."""
    navigator.register()
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        open_indexes = {"toy": toy_index(folder / "toy"), "larger": larger_index(folder / "larger")}

        def check(example: tuple[str, str | None, list[Call]]) -> None:
            which, under, calls = example
            asyncio.run(played(open_indexes[which], under, calls, folder))

        yield Target(drawn, check, deadline_s=60)
