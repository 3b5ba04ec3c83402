"""`rlm search`: one query or a file of them."""

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from index_store.index import Index
    from index_store.types import Hit


HIT_CHARS = 1_000


def _search(args: argparse.Namespace) -> int:
    from index_store.index import open_any
    from rlm.errors import RlmError

    if (args.query is None) == (args.queries is None):
        raise RlmError('give one query, or --queries FILE: rlm search INDEX "words"')
    index = open_any(args.index)
    if args.queries is not None:
        for rows in _batches(_queries(args.queries), 256):
            _search_many(index, rows, args)
        return 0
    query = _unicode(args.query, "the query")
    hits = index.search(query, args.k, doc=args.doc, **_kept(args))
    if args.json:
        print(json.dumps([_hit_json(index, h) for h in hits]))
    else:
        print(_hits_said(index, hits, compared=args.mode in ("hybrid", "tree")))
    return 0


def _search_many(index: "Index", rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """One line of hits for each query; the queries are embedded together."""
    from index_store.errors import NoSuchNode
    from rlm.errors import RlmError

    lexical = args.mode == "lexical"
    vectors = [None] * len(rows) if lexical else index.embed_queries([r["text"] for r in rows])
    for row, vector in zip(rows, vectors, strict=True):
        doc = row.get("scope") or args.doc
        try:
            hits = index.search(row["text"], args.k, doc=doc, vector=vector, **_kept(args))
        except NoSuchNode as e:
            raise RlmError(f"{row['line']}: {e}") from e
        print(json.dumps({"_id": row["_id"], "hits": [_hit_json(index, h) for h in hits]}), flush=True)


def _kept(args: argparse.Namespace) -> dict[str, Any]:
    """How, and among which nodes, every query of a command searches."""
    return {"mode": args.mode, "level": args.level, "where": _where(args.where), "section": args.section}


def _where(pairs: list[str]) -> dict[str, str]:
    from rlm.errors import RlmError

    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise RlmError(f"--where is {wrong[0]!r}; write it as KEY=VALUE, for example year=2021")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch


def _queries(path: str) -> Iterator[dict[str, Any]]:
    """The rows of a file of queries, one JSON object a line, blank lines left out."""
    from rlm.errors import RlmError

    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _query(line, f"{path}, line {number}")
    except OSError as e:
        raise RlmError(f"cannot read the queries {path}: {e.strerror or e}") from e


def _query(line: bytes, where: str) -> dict[str, Any]:
    from rlm.errors import RlmError

    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as e:
        raise RlmError(f"{where}: not UTF-8 and JSON ({e}); write one JSON object a line") from e
    if not (isinstance(row, dict) and isinstance(row.get("text"), str) and "_id" in row):
        raise RlmError(f'{where}: expected {{"_id": ..., "text": "..."}}')
    if not isinstance(row.get("scope"), str | None):
        raise RlmError(f"{where}: the scope is {str(row['scope'])[:80]}; give a document's id")
    if not row["text"].strip():
        raise RlmError(f"{where}: the query is empty; ask with at least one word")
    return row | {"text": _unicode(row["text"], where), "line": where}


def _unicode(text: str, what: str) -> str:
    """The text itself. Raises RlmError for bytes that were no UTF-8, which no embedder takes."""
    from rlm.errors import RlmError

    if text != text.encode("utf-8", "replace").decode():
        raise RlmError(f"{what} {text[:80]!a} is not Unicode text; give it in UTF-8")
    return text


def _hit_json(index: "Index", hit: "Hit") -> dict[str, Any]:
    span = hit.span
    place = (
        {"doc": span.doc, "start": span.start, "end": span.end}
        if span
        else dict.fromkeys(("doc", "start", "end"))
    )
    words = {"label": index.node(hit.node).label, "text": index.text(hit.node)[:HIT_CHARS]}
    return {"node": hit.node, "level": hit.level, **place, "score": hit.score, **words}


def _hits_said(index: "Index", hits: "Sequence[Hit]", compared: bool) -> str:
    """`compared`: the scores say how hits compare, and so nothing of one alone."""
    from index_store.terminal import one_line

    lines = []
    for rank, hit in enumerate(hits, 1):
        where = f"{hit.span.doc} {hit.span.start}-{hit.span.end}" if hit.span else index.node(hit.node).label
        score = "      -" if compared and len(hits) == 1 else f"{hit.score:7.3f}"
        lines.append(f"{rank:2}. {score}  {hit.node}  {one_line(where, 200)}")
        lines.append(f"      {one_line(index.text(hit.node), 160)}")
    return "\n".join(lines) or "nothing found"
