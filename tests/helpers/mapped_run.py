"""A run whose root writes code that maps rows, over a scripted model, real HTTP, and a child that answers by rule."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store.index import Index, open_index
from index_store.writer import Draft
from rlm import Answer, Limits, Models, ask
from rlm.asking.replaying.replay import replay
from rlm.audit import read, verify
from tests.helpers.model_server import MODEL, Body, ModelServer, Step
from tests.helpers.row_reader import Faults, asks_about_rows, row_script
from tests.helpers.toy import document, publish_toy, unit_rows

STRONG = "openai/strong-model"
CHUNK, CHUNKS = 3, 4  # lines of a chunk, chunks of a document
QUESTION = "How many messages are spam?"
CALL = "llm_map('Is it spam, and of which month?', {rows}, fields=FIELDS{more})"
FIELDS = "FIELDS = {'label': ['spam', 'ham'], 'month': 'YYYY-MM'}\n"


def lines(name: str) -> list[str]:
    """The lines of a document: what they are is in their words."""
    return [
        f"{'win a prize' if n % 3 == 0 else 'see you'} {name}{n} on 2024-{n % 4 + 1:02}\n" for n in range(12)
    ]


DOCS = {name: lines(name) for name in ("a.txt", "b.txt")}


def rule(text: str) -> dict[str, Any]:
    """What a child says of a row."""
    return {"label": "spam" if "win" in text else "ham", "month": text.strip()[-7:]}


def messages(path: Path) -> Index:
    """Two documents of twelve lines, each a branch of its own."""
    chunks, at = list[tuple[int, int, int]](), 0
    for name in range(len(DOCS)):
        at, parts = 0, list(DOCS.values())[name]
        for first in range(0, len(parts), CHUNK):
            size = sum(map(len, parts[first : first + CHUNK]))
            chunks.append((name, at, at + size))
            at += size
    draft = Draft(
        documents=[document(name, "".join(parts)) for name, parts in DOCS.items()],
        chunks=np.array(chunks, dtype=np.int64),
        labels=["First", "Second", "All"],
        summaries=["Messages a.", "Messages b.", "Messages."],
        levels=[8, 2, 1],
        children=[np.arange(0, 4), np.arange(4, 8), np.array([8, 9])],
        tokens=np.full(11, 25, dtype=np.int64),
        vectors=unit_rows(11),
    )
    publish_toy(path, draft)
    return open_index(path)


Script = Callable[[Body], str | Step]


class Played:
    """What came of a run whose root writes these cells, one a turn, `{"question": [cells]}` for its children."""

    def __init__(
        self,
        index: Index | Path,
        runs: Path,
        cells: Sequence[str],
        *,
        children: dict[str, Sequence[str]] | None = None,
        child: Script | None = None,
        faults: Faults | None = None,
        is_replayed: bool = True,
        **options: Any,
    ) -> None:
        read_rows = child or row_script(rule, faults)
        below = children or {}

        def play(body: Body) -> str | Step:
            if asks_about_rows(body):
                return read_rows(body)
            user = body["messages"][1]["content"]
            mine = next((code for question, code in below.items() if f"Question: {question}" in user), cells)
            turn = sum(message["role"] == "assistant" for message in body["messages"])
            return f"```python\n{mine[min(turn, len(mine) - 1)]}\n```"

        limits = Limits(**options.pop("limits", {}))
        models = options.pop("models", Models(STRONG, MODEL))
        with ModelServer(play) as server, pytest.MonkeyPatch.context() as patch:
            server.use(patch)
            self.answer: Answer = ask(
                index, QUESTION, route="rlm", models=models, limits=limits, runs=runs, memo=False, **options
            )
        self.requests = server.requests
        self.run = self.answer.trace
        events, verdict = read(self.run)
        assert verdict.ok, verdict.reason
        self.events: list[dict[str, Any]] = [*events]
        held = verify(self.run, index=None if isinstance(index, Path) else index)
        assert held.ok, (held.first_bad_line, held.reason)
        if is_replayed:
            again = replay(self.run, index)
            assert again.is_same, again.difference

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        return [event for event in self.events if event["kind"] == kind]

    @property
    def packs(self) -> list[Body]:
        """What children were asked about rows."""
        return [one for one in self.requests if asks_about_rows(one)]

    @property
    def printed(self) -> str:
        """What the cells of the root printed."""
        return "".join(e["stdout"] + e["error"] for e in self.kinds("code_run") if e["conversation"] == "0")
