"""Exact search: RE2 over the text bytes as one buffer, matches mapped to chunks.

RE2 runs in time linear in the text whatever the pattern, so a model may write any; a pattern that RE2 refuses is
refused here too and never reaches Python's backtracking `re`.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BadQuery, BrokenIndex
from index_store.tree import Tree
from index_store.types import Check, Match, unchecked

LINE_CHARS = 240
PATTERN_CHARS = 2_000
BATCH_BYTES = 1 << 20
EMPTY_MATCHES = 100_000
# RE2 keeps the states of a large program, such as of x{900}, in no cache, and then takes each byte through all of it.
LARGE_PROGRAM, MOST_STEPS = 300, 2 * 10**9

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
ByteRange = tuple[int, int]

# What may tell the end of a text from the end of a line. A false alarm costs time and nothing else.
_ENDS_OF_TEXT = re.compile(r"\\[Az]|\(\?[a-zA-Z]*-")
# Repeated ten times or more: RE2's automaton may then have more states than its cache.
_COUNTED = re.compile(r"\{\d{2}|\{\d*,\d{2}")


@dataclass(frozen=True, slots=True)
class Grep:
    """`matches`: the first ones, in corpus order. `total`: how many were counted; all there are if `complete`."""

    matches: tuple[Match, ...]
    total: int
    complete: bool


def compile_pattern(pattern: str, ignore_case: bool) -> Any:
    """An RE2 pattern over bytes. Raises BadQuery where RE2 refuses it: it has no lookaround and no backreferences."""
    import re2

    if len(pattern) > PATTERN_CHARS:
        raise BadQuery(f"the pattern has {len(pattern):,} characters, at most {PATTERN_CHARS:,} are taken")
    options = re2.Options()
    options.never_nl, options.log_errors, options.case_sensitive = False, False, not ignore_case
    options.never_capture = True  # groups cost a second pass over every match
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
    tree: Tree,
    pattern: str,
    *,
    under: str | None = None,
    doc: str | None = None,
    ignore_case: bool = False,
    limit: int = 50,
    count_to: int = 10_000,
    count_s: float = math.inf,
    within: Ints | None = None,
    check: Check = unchecked,
) -> Grep:
    """The matches of an RE2 pattern in all documents, or in the document `doc`, or in the chunks `under` a node, or in
    those whose numbers, ascending, are `within`.

    At most `limit` matches are returned, at most `count_to` are counted, and once there are `limit`, none after
    `count_s` seconds. `^` and `$` match at lines. A match lies inside one document, and where `under` or `within` is
    given in one unbroken stretch of these. Empty matches do
    not count. `check` may stop it by raising; it is called before each document or BATCH_BYTES of text.
    Raises BadQuery for a pattern that RE2 refuses or that has more than EMPTY_MATCHES of them before `limit` others,
    NoSuchNode for an unknown node or document.
    """
    compiled = compile_pattern(pattern, ignore_case)
    pieces, seen = _pieces(tree, under, doc, within), list[Ints]()
    found: list[ByteRange] = []
    began = monotonic()

    def check_or_end() -> None:
        if len(found) >= limit and monotonic() - began > count_s:
            raise _Enough
        check()

    is_complete = False
    try:
        found.extend(
            islice(_matches(compiled, pattern, tree.text_bytes, _kept(pieces, seen), check_or_end), count_to)
        )  # in place: what is found before it is stopped stays
        is_complete = len(found) < count_to
    except (BadQuery, _Enough):
        if len(found) < limit:
            raise
    return Grep(_located(tree, found[:limit], seen), len(found), is_complete)


class _Enough(Exception):
    """All matches that are wanted are found, and counting the others takes too long."""


# --- what is searched ---


def _pieces(tree: Tree, under: str | None, doc: str | None, within: Ints | None) -> Iterator[Ints]:
    """Byte ranges (m, 2) to search, part by part, ascending and none empty; document borders always end one."""
    document = None if doc is None else tree.document_number(doc)
    if under is not None or within is not None:
        leaves = _leaves(tree, under, within)
        if document is not None:
            own = tree.document_leaves(document)
            leaves = leaves[(leaves >= own.start) & (leaves < own.stop)]
        return stretches(tree, leaves)
    if document is not None:
        return iter([_checked(tree, np.array([tree.document_bytes(document)], dtype=np.int64))])
    return stretches(tree, None)


def _kept(parts: Iterator[Ints], seen: list[Ints]) -> Iterator[Ints]:
    """The parts, each of which is put into `seen` when it is asked for."""
    for part in parts:
        seen.append(part)
        yield part


def _leaves(tree: Tree, under: str | None, within: Ints | None) -> Ints:
    """Numbers of the chunks under a node that are `within`; None is no limit."""
    if under is None:
        return tree.numbers(tree.level_range(0)) if within is None else within
    below = tree.below(tree.number_of(under))
    below = below[below < tree.levels[0]]
    return below if within is None else np.intersect1d(below, within, assume_unique=True)


def stretches(tree: Tree, leaves: Ints | None) -> Iterator[Ints]:
    """The unbroken stretches of text that chunks cover; without `leaves` each document.

    Byte ranges (m, 2), ascending and none empty, in the parts in which the tree is read; document borders always end
    one.
    """
    if leaves is None:
        for documents in tree.documents_in_parts():
            borders = np.asarray(tree.document_borders[documents.start : documents.stop + 1])
            yield _checked(tree, np.stack([borders[:-1], borders[1:]], axis=1))
    else:
        yield from (_stretches(tree, part) for part in tree.in_parts(leaves))


def _stretches(tree: Tree, leaves: Ints) -> Ints:
    rows = tree.rows[leaves]
    broken = (rows["start"][1:] != rows["end"][:-1]) | (rows["document"][1:] != rows["document"][:-1])
    firsts = np.concatenate([[0], np.flatnonzero(broken) + 1])[: len(rows)]
    lasts = np.concatenate([firsts[1:], [len(rows)]])[: len(firsts)] - 1
    return _checked(tree, np.stack([rows["start"][firsts], rows["end"][lasts]], axis=1))


def _checked(tree: Tree, pieces: Ints) -> Ints:
    flat = pieces.ravel()
    if len(flat) and (flat[0] < 0 or flat[-1] > len(tree.text_bytes) or (flat[1:] < flat[:-1]).any()):
        raise BrokenIndex(f"texts overlap or lie outside text.bin; run raptor verify {tree.path}")
    return pieces[pieces[:, 0] < pieces[:, 1]]


# --- searching it ---


def _matches(
    compiled: Any, pattern: str, text: Bytes, parts: Iterator[Ints], check: Check
) -> Iterator[ByteRange]:
    """Byte ranges of all matches, as if each piece of each part were searched by itself."""
    matcher = _Matcher(compiled, pattern)
    single = BATCH_BYTES if _ENDS_OF_TEXT.search(pattern) is None else 0
    for batch in chain.from_iterable(_batches(pieces, single) for pieces in parts):
        check()
        size = int((batch[:, 1] - batch[:, 0]).sum())
        if compiled.programsize > LARGE_PROGRAM and compiled.programsize * size > MOST_STEPS:
            raise BadQuery(
                f"the pattern {pattern[:80]!r} repeats too much to be looked for in {size:,} bytes; use smaller "
                "counts, or * and + in their place"
            )
        yield from _in_batch(matcher, text, batch.tolist())


def _promising(compiled: Any, pattern: str) -> Callable[[Any], bool]:
    """A function that says whether a buffer contains the literals without which the pattern cannot match.

    It looks only where counted repetition may make RE2 slow: looking takes as long as matching a fast pattern.
    """
    if not _COUNTED.search(pattern):
        return lambda raw: True
    import re2

    literals = re2.Filter()
    literals.Add(compiled.pattern, compiled.options)
    literals.Compile()
    return lambda raw: literals.Match(raw, True) is not None


class _Matcher:
    """Finds the pattern's matches in a buffer but the empty ones; raises BadQuery at EMPTY_MATCHES of those in all."""

    def __init__(self, compiled: Any, pattern: str) -> None:
        self._compiled, self._pattern, self._left = compiled, pattern, EMPTY_MATCHES
        self._promising = _promising(compiled, pattern)

    def __call__(self, raw: Any) -> Iterator[ByteRange]:
        for match in self._compiled.finditer(raw) if self._promising(raw) else ():
            start, end = match.span()
            if start < end:
                yield start, end
                continue
            self._left -= 1
            if not self._left:
                raise BadQuery(
                    f"the pattern {self._pattern[:80]!r} matches the empty string at more than {EMPTY_MATCHES:,} "
                    "places; let it match one character at least, as x+ does where x* does not"
                )


def _batches(pieces: Ints, most: int) -> Iterator[Ints]:
    """Consecutive pieces of about `most` bytes together; a piece that is longer stands alone."""
    sizes = pieces[:, 1] - pieces[:, 0]
    if not most:
        return iter(np.split(pieces, len(pieces))) if len(pieces) else iter(())
    part, alone = np.cumsum(sizes) // most, sizes >= most
    edges = np.flatnonzero((np.diff(part) > 0) | alone[1:] | alone[:-1]) + 1
    return iter(np.split(pieces, edges)) if len(pieces) else iter(())


def _in_batch(matcher: _Matcher, text: Bytes, pieces: list[list[int]]) -> Iterator[ByteRange]:
    """Matches of several pieces, searched as one text with newlines between, where anchors and \\b match as before.

    A match over such a newline is none; from its piece on, the batch is searched piece by piece.
    """
    if len(pieces) == 1:
        yield from _in_piece(matcher, text, pieces[0])
        return
    raw = b"\n".join([text[a:b].data for a, b in pieces])
    ends = list(accumulate((b - a + 1 for a, b in pieces), initial=-1))[1:]
    place, seen = 0, 0
    for start, end in matcher(raw):
        if start > ends[place]:
            place, seen = bisect_left(ends, start, lo=place), 0
        if end > ends[place]:
            yield from islice(_in_piece(matcher, text, pieces[place]), seen, None)
            for piece in pieces[place + 1 :]:
                yield from _in_piece(matcher, text, piece)
            return
        shift = pieces[place][1] - ends[place]
        seen += 1
        yield start + shift, end + shift


def _in_piece(matcher: _Matcher, text: Bytes, piece: list[int]) -> Iterator[ByteRange]:
    return ((piece[0] + a, piece[0] + b) for a, b in matcher(text[piece[0] : piece[1]].data))


# --- what is shown ---


def _located(tree: Tree, ranges: list[ByteRange], parts: list[Ints]) -> tuple[Match, ...]:
    """The matches at these byte ranges; the line of each ends where the piece that was searched does."""
    if not ranges:
        return ()
    starts, pieces = np.array([start for start, _ in ranges], dtype=np.int64), np.concatenate(parts)
    searched = pieces[np.searchsorted(pieces[:, 0], starts, side="right") - 1]
    documents, leaves = tree.document_at(starts), tree.chunk_at(starts)
    return tuple(
        Match(tree.id_of(leaf), tree.span_of_bytes(d, a, b), _line(tree, piece, a, b))
        for (a, b), d, leaf, piece in zip(
            ranges, documents.tolist(), leaves.tolist(), searched.tolist(), strict=True
        )
    )


def _line(tree: Tree, piece: list[int], start: int, end: int) -> str:
    """The line around a match, cut to LINE_CHARS around it, and to the piece of text that was searched."""
    low, high = max(piece[0], start - LINE_CHARS), min(piece[1], end + LINE_CHARS)
    before = tree.text_bytes[low:start].tobytes().rpartition(b"\n")[2]
    after = tree.text_bytes[start:high].tobytes()
    line = (before + after[: max(after.find(b"\n", end - start), 0) or None]).decode("utf-8", "ignore")
    return line.strip()[: 2 * LINE_CHARS]
