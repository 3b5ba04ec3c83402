"""The toy index with an embedder, and a recorder of visits, for tests of what stands on an index."""

import asyncio
import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from index_store.index import Index
from index_store.types import Json
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.gateway.litellm_setup import litellm
from rlm.gateway.types import Request
from rlm.loop.verbs import Verbs
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.toy import DIM

Visit = dict[str, Any]


class ToyEmbedder:
    """A vector for each text from the hashes of its words: deterministic, and no model."""

    fingerprint = "toy"

    def encode(self, texts: list[str]) -> Any:
        rows = np.array([self._row(text) for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def _row(self, text: str) -> Any:
        seeds = (int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) for word in ["", *text.split()])
        return sum(np.random.default_rng(seed).normal(size=DIM) for seed in seeds)


def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every index embed queries with the toy embedder."""
    monkeypatch.setattr(Index, "_embedder", ToyEmbedder())


def warm_up() -> None:
    """Import litellm and make one call: a client's first takes seconds, which no limit of a test should count.

    In one go, because litellm silences warnings of its types while pytest forgets such wishes after each phase.
    """
    litellm().ModelResponse()
    request = Request(MODEL, ({"role": "user", "content": "?"},), 5)
    with ModelServer(["!"]) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)

        async def ask() -> None:
            async with Gateway(Ledger()) as gateway:
                await gateway.complete(request)

        asyncio.run(ask())


def recorded_verbs(index: Index, under: str | None = None) -> tuple[Verbs, list[Visit]]:
    """Verbs over an index, and the list that each of their visits is added to."""
    visits: list[Visit] = []
    return Verbs(index, lambda visit: visits.append(asdict(visit)), under), visits


def ask_verb(verbs: Verbs, name: str, *arguments: Json, **named: Json) -> Any:
    """What a cell gets from `context.NAME(...)`; raises Refused."""
    return verbs.serve(name, list(arguments), named)
