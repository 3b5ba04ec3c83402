"""`rlm search`: one query, or a file of them."""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from index_store.errors import NoSuchNode
from index_store.index import Index, open_any
from index_store.terminal import one_line, print_json, say
from index_store.types import Hit, Json
from rlm.asking.questions import Question, questions_in
from rlm.asking.runs import check_text
from rlm.errors import RlmError
from rlm.limits import HIT_CHARS

_BATCH = 256  # queries that are embedded together


def search(args: argparse.Namespace) -> int:
    """Print the hits of a query, or a line of JSON for each query of a file. Returns the exit code."""
    if (args.query is None) == (args.queries is None):
        raise RlmError('give one query, or --queries FILE: rlm search INDEX "words"')
    index = open_any(args.index, args.embedder)
    if args.queries is not None:
        queries = questions_in(args.queries)
        while batch := list(islice(queries, _BATCH)):
            _print_hits(index, batch, args)
        return 0
    hits = index.search(check_text(args.query, "query"), args.k, doc=args.doc, **_filters(args))
    if args.json:
        print_json([_json(index, hit) for hit in hits])
    else:
        lines = _lines(index, hits, compared=args.mode in ("hybrid", "tree"))
        say("\n".join(lines) or "nothing found")
    return 0


def _print_hits(index: Index, queries: Sequence[Question], args: argparse.Namespace) -> None:
    """One line of hits for each query; the queries are embedded together."""
    lexical = args.mode == "lexical"
    vectors = [None] * len(queries) if lexical else index.embed_queries([query.text for query in queries])
    for query, vector in zip(queries, vectors, strict=True):
        doc = query.scope or args.doc
        try:
            hits = index.search(query.text, args.k, doc=doc, vector=vector, **_filters(args))
        except NoSuchNode as e:
            raise RlmError(f"{query.line}: {e}") from e
        print_json({"_id": query.id, "hits": [_json(index, hit) for hit in hits]}, flush=True)


def _filters(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Index.search` that all queries of one command share."""
    return {"mode": args.mode, "level": args.level, "where": _where(args.where), "section": args.section}


def _where(pairs: list[str]) -> dict[str, str]:
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise RlmError(f"--where is {wrong[0]!r}; write it as KEY=VALUE, for example year=2021")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _json(index: Index, hit: Hit) -> dict[str, Json]:
    span = hit.span
    place: dict[str, Json] = dict.fromkeys(("doc", "start", "end"))
    if span:
        place = {"doc": span.doc, "start": span.start, "end": span.end}
    words = {"label": index.node(hit.node).label, "text": index.text(hit.node)[:HIT_CHARS]}
    return {"node": hit.node, "level": hit.level, **place, "score": hit.score, **words}


def _lines(index: Index, hits: Sequence[Hit], compared: bool) -> Iterator[str]:
    """Two lines for each hit. `compared`: scores only compare hits, so that the score of a single hit is left out."""
    for rank, hit in enumerate(hits, 1):
        where = f"{hit.span.doc} {hit.span.start}-{hit.span.end}" if hit.span else index.node(hit.node).label
        score = "      -" if compared and len(hits) == 1 else f"{hit.score:7.3f}"
        yield f"{rank:2}. {score}  {hit.node}  {one_line(where, 200)}"
        yield f"      {one_line(index.text(hit.node), 160)}"
