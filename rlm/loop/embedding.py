"""Queries of an index whose embedder is called, `litellm/NAME`: each is paid for, and a run's stand in its trace."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.embedder import encodable
from index_store.errors import BadQuery
from index_store.index import Index
from rlm.gateway.blocking import run_blocking
from rlm.gateway.embeddings import embedding_request, embeds, fingerprint, vectors_in
from rlm.gateway.errors import GatewayError
from rlm.gateway.gateway import Gateway
from rlm.gateway.models import check_model
from rlm.gateway.options import check_options
from rlm.gateway.types import Reply, Request

Rows = npt.NDArray[np.float32]


def is_called(index: Index) -> bool:
    """Whether the queries of an index are embedded by calls: its user named such an embedder."""
    return not index.is_plain and embeds(index.embedder_named or "")


def check_called(index: Index) -> None:
    """Raise GatewayError or BadQuery where the embedder of an index is called and that cannot work. Calls nobody."""
    if is_called(index):
        check_model(str(index.embedder_named))
        _options(index)


def embedded_by_calls(index: Index, ask: Callable[[Request], Reply]) -> Index:
    """The index with queries that are embedded by calls, each text once; any other index itself.

    `ask`: makes one call, blocks, and raises GatewayError. What fails is a BadQuery, in words for whoever searches.
    """
    if not is_called(index):
        return index
    known = dict[str, Rows]()

    def encode(texts: Sequence[str]) -> Rows:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, _asked(index, ask, new), strict=True))
        return np.stack([known[text] for text in texts])

    return index.embedded_by(encode)


def paying(index: Index, gateway_for_it: Callable[[], Gateway]) -> Index:
    """As `embedded_by_calls`, outside of a run: each call by a gateway that is made for it."""

    async def complete(request: Request) -> Reply:
        async with gateway_for_it() as gateway:
            return await gateway.complete(request)

    return embedded_by_calls(index, lambda request: run_blocking(complete(request)))


def _asked(index: Index, ask: Callable[[Request], Reply], texts: Sequence[str]) -> Rows:
    request = embedding_request(str(index.embedder_named), encodable(texts), _options(index))
    try:
        rows: Rows = vectors_in(ask(request).text, len(texts))
    except (GatewayError, ValueError) as e:
        raise BadQuery(f"the query was not embedded: {e}; search by words (mode lexical), or grep") from e
    if rows.shape[1] != index.vectors.shape[1]:
        raise BadQuery(
            f"{request.model} gave a vector of {rows.shape[1]} numbers, and the index has {index.vectors.shape[1]}; "
            "build the index anew, or search by words (mode lexical)"
        )
    return rows


def _options(index: Index) -> dict[str, Any]:
    """What the index was built with, so far as it may be sent. Raises BadQuery where the model is another."""
    name = str(index.embedder_named)
    try:
        options = check_options(json.loads(index.manifest.models.get("embedder_options", "{}")))
    except (ValueError, RecursionError, GatewayError) as e:
        raise BadQuery(
            f"the index names options of its embedder that cannot be sent ({e}); build it anew"
        ) from e
    index.check_fingerprint(name, fingerprint(name, options, index.vectors.shape[1]))
    return options
