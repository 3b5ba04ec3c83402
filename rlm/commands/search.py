"""`rlm search`: one query, or a file of them."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from index_store.errors import NoSuchNode
from index_store.index import Index, open_any
from index_store.lexical import best_window
from index_store.outline import ARROW, shortened
from index_store.terminal import count, one_line, print_json, say, spelled
from index_store.types import Hit, Json, Scope
from rlm.asking.questions import Question, questions_in
from rlm.audit.costs import in_dollars
from rlm.commands.given import scope_of, typed_text
from rlm.errors import RlmError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.limits import HIT_CHARS
from rlm.loop.embedding import paying

SECTION_CHARS = 100  # of the headings over a hit
MATCH_CHARS = 200  # of the part of a hit that is shown
_BATCH = 256  # queries that are embedded together
_EMBEDDED_S = 120.0  # that a single query has, for which a person waits


def search(args: argparse.Namespace) -> int:
    """Print the hits of a query, or a line of JSON for each query of a file. Returns the exit code."""
    if (args.query is None) == (args.queries is None):
        raise RlmError('give one query, or --queries FILE: rlm search INDEX "words"')
    scope, query = scope_of(args), None if args.query is None else typed_text(args.query, "query")
    gateway = Gateway(Ledger()) if query is None else Gateway(Ledger(), timeout_s=_EMBEDDED_S)
    index = paying(open_any(args.index, args.embedder, args.access, lazy=args.lazy), lambda: gateway)
    try:
        return _searched(args, index, scope, query)
    finally:
        if (spent := gateway.ledger.spent).calls:
            say(
                f"embedded by {args.embedder}: {count(spent.tokens, 'token')}, {in_dollars(spent.usd)}",
                file=sys.stderr,
            )


def _searched(args: argparse.Namespace, index: Index, scope: Scope, query: str | None) -> int:
    if query is None:
        queries = questions_in(args.queries)
        while batch := list(islice(queries, _BATCH)):
            _print_hits(index, batch, args)
        return 0
    hits = index.search(query, args.k, **_filters(args, scope))
    if args.json:
        print_json([_json(index, hit, query) for hit in hits])
    else:
        # What ranks by meaning and words compares hits: of a single one it says nothing.
        compared = args.mode in ("hybrid", "tree") and bool(index.vectors.shape[1])
        say("\n".join(_lines(index, query, hits, scored=not compared or len(hits) > 1)) or "nothing found")
    return 0


def _print_hits(index: Index, queries: Sequence[Question], args: argparse.Namespace) -> None:
    """One line of hits for each query; the queries are embedded together."""
    by_words = args.mode == "lexical" or index.is_plain
    vectors = [None] * len(queries) if by_words else index.embed_queries([query.text for query in queries])
    for query, vector in zip(queries, vectors, strict=True):
        scope = query.scope or scope_of(args)
        try:
            hits = index.search(query.text, args.k, vector=vector, **_filters(args, scope))
        except NoSuchNode as e:
            raise RlmError(f"{query.line}: {e}") from e
        print_json({"_id": query.id, "hits": [_json(index, hit, query.text) for hit in hits]}, flush=True)


def _filters(args: argparse.Namespace, scope: Scope) -> dict[str, Any]:
    """The arguments of `Index.search` besides the query and `k`."""
    place = {"doc": scope.doc, "where": scope.where, "section": scope.section}
    return {"mode": args.mode, "level": args.level, "fold": not args.no_fold, **place}


def _json(index: Index, hit: Hit, query: str) -> dict[str, Json]:
    """A hit with the same fields in every mode; a summary has no place, so null stands there."""
    span = hit.span
    place: dict[str, Json] = dict.fromkeys(("doc", "start", "end", "title", "section", "page"))
    if span:
        place = {
            "doc": span.doc,
            "start": span.start,
            "end": span.end,
            "title": index.document(span.doc).title,
        }
        place |= {"section": ARROW.join(index.section(span)) or None, "page": index.page(span)}
    text = index.text(hit.node)
    words = {
        "label": index.node(hit.node).label,
        "text": text[:HIT_CHARS],
        "match": excerpt(text, query, MATCH_CHARS),
    }
    beside = {"also_in": list(hit.also_in)}
    return {"node": hit.node, "level": hit.level, **place, "score": hit.score, **words, **beside}


def excerpt(text: str, query: str, chars: int) -> str:
    """The part of a text that matches a query best, on one line, with '…' where the text goes on."""
    line = " ".join(text.split())
    start, end = best_window(line, query, chars)
    return f"{'…' * (start > 0)}{line[start:end].strip()}{'…' * (end < len(line))}"


def _lines(index: Index, query: str, hits: Sequence[Hit], scored: bool) -> Iterator[str]:
    """Two lines for each hit, or three where its passage stands in other documents too."""
    for rank, hit in enumerate(hits, 1):
        score = f"{hit.score:7.3f}  " if scored else ""
        yield f"{rank:2}. {score}{hit.node}  {one_line(_where(index, hit), 240)}"
        yield f"      {spelled(excerpt(index.text(hit.node), query, MATCH_CHARS))}"
        if hit.copies:
            yield f"      also in: {one_line(', '.join(hit.also_in), 400)}"


def _where(index: Index, hit: Hit) -> str:
    """The document, characters, page and section of a hit; of a summary its label."""
    if hit.span is None:
        return index.node(hit.node).label
    page, section = index.page(hit.span), shortened(ARROW.join(index.section(hit.span)), SECTION_CHARS)
    parts = (f"{hit.span.doc} {hit.span.start}-{hit.span.end}", f"page {page}" if page else "", section)
    return ", ".join(part for part in parts if part)
