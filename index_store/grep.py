"""Exact search: RE2 over the text bytes as one buffer, matches mapped to chunks.

RE2 runs in time linear in the text whatever the pattern, so a model may write any; a pattern that RE2 refuses is
refused here too and never reaches Python's backtracking `re`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from index_store.errors import BadQuery
from index_store.types import Match

if TYPE_CHECKING:
    from index_store.reader import Index

LINE_CHARS = 240
PATTERN_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Grep:
    """`matches`: the first ones in corpus order; `total` counts all there are, up to `counted_to`."""

    matches: tuple[Match, ...]
    total: int
    complete: bool  # False: counting stopped early


def compile_pattern(pattern: str, ignore_case: bool) -> Any:
    """An RE2 pattern over bytes; raises BadQuery saying what RE2 does not have."""
    import re2

    if len(pattern) > PATTERN_CHARS:
        raise BadQuery(f"the pattern has {len(pattern):,} characters, at most {PATTERN_CHARS:,} are taken")
    options = re2.Options()
    options.never_nl, options.log_errors, options.case_sensitive = False, False, not ignore_case
    options.max_mem = 64 << 20
    try:
        return re2.compile(("(?m)" + pattern).encode(), options)
    except (re2.error, UnicodeEncodeError) as e:
        raise BadQuery(
            f"the pattern {pattern[:80]!r} was refused by RE2 ({_reason(e)}); it has no lookaround and no "
            "backreferences, and \\w \\d \\b know ASCII only"
        ) from e


def _reason(e: Exception) -> str:
    text = e.args[0] if e.args else e
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def grep(
    index: "Index",
    pattern: str,
    *,
    under: str | None = None,
    doc: str | None = None,
    ignore_case: bool = False,
    limit: int = 50,
    count_to: int = 10_000,
) -> Grep:
    """Every match of `pattern` in the documents, or below a node, or in one document.

    At most `limit` matches are returned, at most `count_to` are counted. Below a node, the pattern is run over
    each unbroken stretch of text that the node's chunks cover, so a match never leaves the branch.
    """
    compiled = compile_pattern(pattern, ignore_case)
    found: list[Match] = []
    total = 0
    for start, end in _stretches(index, under, doc):
        for a, b in _matches(compiled, bytes(index.text_bytes[start:end])):
            total += 1
            if len(found) < limit:
                found.append(_match(index, start + a, start + b))
            if total >= count_to:
                return Grep(tuple(found), total, complete=False)
    return Grep(tuple(found), total, complete=True)


def _matches(compiled: Any, raw: bytes) -> Iterator[tuple[int, int]]:
    return (m.span() for m in compiled.finditer(raw) if m.end() > m.start())


def _stretches(index: "Index", under: str | None, doc: str | None) -> Iterator[tuple[int, int]]:
    """Byte ranges to search, ascending; document borders always end a stretch."""
    document = None if doc is None else index.document_number(doc)
    if under is None:
        numbers = range(len(index.documents)) if document is None else [document]
        yield from (index.document_bytes(d) for d in numbers)
        return
    leaves = index.below(index.number_of(under))
    open_stretch: tuple[int, int, int] | None = None
    for leaf in leaves[leaves < index.levels[0]].tolist():
        start, end = index.node_bytes(leaf)
        owner = index.locate(start)[0]
        if document is not None and owner != document:
            continue
        if open_stretch and open_stretch[1:] == (start, owner):
            open_stretch = (open_stretch[0], end, owner)
            continue
        if open_stretch:
            yield open_stretch[:2]
        open_stretch = (start, end, owner)
    if open_stretch:
        yield open_stretch[:2]


def _match(index: "Index", start: int, end: int) -> Match:
    document, leaf = index.locate(start)
    return Match(
        index.id_of(leaf), index.span_of_bytes(document, start, end), _line(index, document, start, end)
    )


def _line(index: "Index", document: int, start: int, end: int) -> str:
    """The line around a match, cut to LINE_CHARS around it."""
    low, high = index.document_bytes(document)
    low, high = max(low, start - LINE_CHARS), min(high, end + LINE_CHARS)
    before = index.text_bytes[low:start].tobytes().rpartition(b"\n")[2]
    after = index.text_bytes[start:high].tobytes()
    line = (before + after[: max(after.find(b"\n", end - start), 0) or None]).decode("utf-8", "ignore")
    return line.strip()[: 2 * LINE_CHARS]
