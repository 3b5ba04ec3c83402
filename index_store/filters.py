"""Filters of a search: documents by their metadata, chunks by the headings they stand under."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from index_store.errors import BadQuery
from index_store.tree import Tree
from index_store.types import Sections, Span

Numbers = npt.NDArray[np.int64]


def filtered(tree: Tree, nodes: Numbers, where: Mapping[str, str], section: str | None) -> Numbers:
    """Those of `nodes` (ascending) that pass; a summary passes only if all chunks under it do.

    A chunk passes if its document has every field of `where` with that value, and if a part of the chunk stands under
    a heading that contains `section`, whatever the case. Raises BadQuery for a field that no document has, and for an
    empty `section`.
    """
    if not where and section is None:
        return nodes
    documents = _documents(tree, where)
    fits = documents[tree.leaf_documents]
    if section is not None:
        inside = np.zeros(len(fits), dtype=bool)
        inside[_under(tree, np.flatnonzero(documents), section)] = True
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
        if not len(having) and not len(tree.documents.having(name)):
            known = sorted(tree.documents.field_names())
            there = f"there are {', '.join(known[:20])}" if known else "they have none"
            raise BadQuery(f"no document has the metadata field {name!r}; {there}")
        fits &= np.isin(np.arange(len(fits)), having)
    return fits


def _under(tree: Tree, documents: Numbers, section: str) -> list[int]:
    """Numbers of the chunks under a heading that contains `section`."""
    wanted = section.casefold().strip()
    if not wanted:
        raise BadQuery("the section is empty; give a part of a heading")
    chunks: list[int] = []
    for number in tree.documents.may_contain(documents, wanted):
        document = tree.documents[number]
        if ranges := list(_ranges(document.sections, wanted, document.chars)):
            leaves = ((leaf, tree.span_at(leaf)) for leaf in tree.document_leaves(number))
            chunks += [leaf for leaf, span in leaves if span is not None and _overlap(ranges, span)]
    return chunks


def _overlap(ranges: Sequence[tuple[int, int]], span: Span) -> bool:
    """Whether a span has characters of one of some ranges, which ascend."""
    place = bisect_right(ranges, span.start, key=lambda part: part[1])
    return place < len(ranges) and ranges[place][0] < span.end


def _ranges(sections: Sections, wanted: str, chars: int) -> Iterator[tuple[int, int]]:
    """Characters under the headings that contain `wanted`: up to the next one of its level or further out; in order.

    A heading below another one that contains it adds nothing.
    """
    begin, outer = -1, 0
    for start, level, heading in sections:
        if begin >= 0 and level <= outer:
            yield begin, start
            begin = -1
        if begin < 0 and wanted in heading.casefold():
            begin, outer = start, level
    if begin >= 0:
        yield begin, chars
