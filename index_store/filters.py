"""Filters of a search: documents by their metadata, chunks by the headings they stand under."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from index_store.documents import Documents
from index_store.errors import BadQuery
from index_store.terminal import brief
from index_store.tree import Tree
from index_store.types import Check, Sections, Span, unchecked

Numbers = npt.NDArray[np.int64]
SHOWN_VALUES = 10  # of a field, where the one that was asked for is none of them


def filtered(
    tree: Tree, nodes: Numbers, where: Mapping[str, str], section: str | None, check: Check = unchecked
) -> Numbers:
    """Those of `nodes` (ascending) that pass; a summary passes only if all chunks under it do.

    A chunk passes if its document has every field of `where` with that value, and if a part of the chunk stands under
    a heading that contains `section`, whatever the case. Raises BadQuery for a field, or a value of one, that
    no document has, and for an empty `section`.
    """
    if not where and section is None:
        return nodes
    documents = _documents(tree, where)
    fits = documents[tree.leaf_documents]
    if section is not None:
        inside = np.zeros(len(fits), dtype=bool)
        inside[_under(tree, np.flatnonzero(documents), section, check)] = True
        fits &= inside
    others = np.flatnonzero(~fits)
    if len(nodes) and nodes[-1] >= len(fits):
        others = np.concatenate([others, tree.above(others)])
    return np.setdiff1d(nodes, others, assume_unique=True)


def _documents(tree: Tree, where: Mapping[str, str]) -> npt.NDArray[np.bool_]:
    """Which documents have all fields of `where`, (documents,)."""
    if not where:
        return np.ones(len(tree.documents), dtype=bool)
    fits = np.ones(len(tree.documents), dtype=bool)
    for name, value in where.items():
        having = tree.documents.having(name, str(value))
        if not len(having):
            raise BadQuery(_no_document(tree.documents, name, str(value)))
        fits &= np.isin(np.arange(len(fits)), having)
    return fits


def _no_document(documents: Documents, name: str, value: str) -> str:
    """Why no document has a field with this value: which fields there are, or which values of this one."""
    values = documents.values(name)
    if values:
        more = f" and {len(values) - SHOWN_VALUES:,} more" if len(values) > SHOWN_VALUES else ""
        there = ", ".join(map(brief, sorted(values)[:SHOWN_VALUES]))
        return f"no document has {brief(value)} in the metadata field {name!r}; there are {there}{more}"
    known = sorted(documents.field_names())
    there = f"there are {', '.join(known[:20])}" if known else "they have none"
    return f"no document has the metadata field {name!r}; {there}"


def _under(tree: Tree, documents: Numbers, section: str, check: Check) -> list[int]:
    """Numbers of the chunks under a heading that contains `section`."""
    wanted = section.casefold().strip()
    if not wanted:
        raise BadQuery("the section is empty; give a part of a heading")
    chunks: list[int] = []
    for number in tree.documents.may_contain(documents, wanted):
        check()
        document, leaves = tree.documents[number], tree.document_leaves(number)
        for start, end in _ranges(document.sections, wanted, document.chars):
            first = bisect_right(leaves, start, key=lambda leaf: _span(tree, leaf).end)
            past = bisect_left(leaves, end, key=lambda leaf: _span(tree, leaf).start)
            chunks += leaves[first:past]
    return chunks


def _span(tree: Tree, leaf: int) -> Span:
    return tree.span_at(leaf) or Span("", 0, 0)


def _ranges(sections: Sections, wanted: str, chars: int) -> Iterator[tuple[int, int]]:
    """Characters under each heading that contains `wanted`, up to the next one of its level or further out.

    Ascending and disjoint: what stands under a heading inside another such range is in that range already.
    """
    opened: tuple[int, int] | None = None  # start and level of the heading whose range is not yet ended
    for start, level, heading in sections:
        if opened is not None and level <= opened[1]:
            yield opened[0], start
            opened = None
        if opened is None and wanted in heading.casefold():
            opened = start, level
    if opened is not None:
        yield opened[0], chars
