"""An index narrowed to what a reader may read: the content of an ordinary index, in which nothing else is.

What is hidden is not filtered out of answers; it is not there. Chunks, names, words, near-duplicates and all counts are
those of the documents that may be read. A summary stays where all that it is about may be read; what loses its parents
stands under plain nodes, whose words are labels of what stands below them. Nothing of the tree above what is hidden
is kept, so two indexes that differ only there are narrowed to the same bytes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store import access
from index_store.duplicates import first_alike, twins_by_access
from index_store.name_table import name_table
from index_store.outline import LABEL_CHARS, Outline, shortened
from index_store.tree import Tree
from index_store.types import Document
from index_store.writer import Draft

MOST_LABELS = 50  # that are told of
BELOW = 8  # nodes that stand under one plain node at most
PART_CHARS = 60  # of the label of each, in the label of the plain node
PARTS = "Its parts, which nothing sums up:"

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Labels = frozenset[str]


@dataclass(frozen=True, slots=True)
class Seen:
    """How much of an index a reader with the label `label` sees; "" for one with none."""

    label: str
    documents: int
    chunks: int
    summaries: int


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of the narrowed tree, by the places of its children in the level below.

    `old`: its number in the whole index; None for a plain node, and for one that repeats the only node below it.
    `guests`: those of the children that its text is not about. `text`, `tokens`: "" and 0 for a chunk.
    `vector`: (dim,) float32.
    """

    old: int | None
    children: tuple[int, ...]
    guests: tuple[int, ...]
    label: str
    text: str
    tokens: int
    vector: Any


def labels_by_document(tree: Tree) -> list[Labels | None]:
    """The labels of each document, in order; None where they cannot be read. Every document is parsed for this."""
    return [access.of_document(document.meta) for document in tree.documents]


def hides(labels: Sequence[Labels | None], reader: Labels) -> bool:
    """Whether documents with these labels hold what is not the reader's: one that they may not read, or a label of
    others."""
    return any(own is None or not own <= reader for own in labels)


def visible(tree: Tree, documents: Flags) -> Flags:
    """Which nodes may be read, (n,), where these documents may be: their chunks, and each summary of nothing else.

    A summary without members is about nothing that is known, so it may not.
    """
    seen = np.zeros(len(tree), dtype=bool)
    seen[: tree.levels[0]] = documents[tree.leaf_documents]
    parents, children = (ends[~tree.away] for ends in tree.edges())
    for level in range(1, len(tree.levels)):
        nodes = tree.level_range(level)
        own = slice(*np.searchsorted(parents, [nodes.start, nodes.stop]))
        within = parents[own] - nodes.start
        members = np.bincount(within, minlength=len(nodes))
        hidden = np.bincount(within[~seen[children[own]]], minlength=len(nodes))
        seen[nodes.start : nodes.stop] = (members > 0) & (hidden == 0)
    return seen


def seen_by_label(tree: Tree) -> list[Seen]:
    """What readers of one label see, and first one of none; [] where all documents are open to all.

    Of more than MOST_LABELS labels those of the most documents.
    """
    labels = labels_by_document(tree)
    often = Counter(label for own in labels for label in own or ())
    readers = ["", *(label for label, _ in sorted(often.items(), key=lambda pair: (-pair[1], pair[0])))]
    return (
        [_seen(tree, labels, label) for label in readers[: MOST_LABELS + 1]]
        if hides(labels, frozenset())
        else []
    )


def _seen(tree: Tree, labels: Sequence[Labels | None], label: str) -> Seen:
    reader = frozenset({label} - {""})
    may = np.array([access.may_read(own, reader) for own in labels], dtype=bool)
    seen = visible(tree, may)
    chunks = int(seen[: tree.levels[0]].sum())
    return Seen(label, int(may.sum()), chunks, int(seen.sum()) - chunks)


def narrowed(tree: Tree, labels: Sequence[Labels | None], reader: Labels) -> Draft | None:
    """The content of the index that this reader sees, whose documents have these labels; None where they may read none.

    A document's own labels are told as far as they are the reader's.
    """
    may = np.array([access.may_read(own, reader) for own in labels], dtype=bool)
    if not may.any():
        return None
    documents = [
        (_own(tree.documents[d], labels[d], reader), tree.bytes_text(*tree.document_bytes(d)))
        for d in np.flatnonzero(may).tolist()
    ]
    seen = visible(tree, may)
    chunks = np.flatnonzero(seen[: tree.levels[0]])
    outlines = [Outline(document) for document, _ in documents]
    numbers = (np.cumsum(may) - 1)[tree.leaf_documents[chunks]].tolist()
    spans = [(d, *_span(tree, chunk)) for d, chunk in zip(numbers, chunks.tolist(), strict=True)]
    texts = [documents[d][1][start:end] for d, start, end in spans]
    leaves = [
        _Node(chunk, (), (), outlines[d].label(text, start), "", 0, tree.vectors[chunk])
        for chunk, text, (d, start, _) in zip(chunks.tolist(), texts, spans, strict=True)
    ]
    levels = _levels(tree, seen & ~_repeats(tree, seen), _kinds(tree, labels), leaves)
    above = [node for level in levels for node in level]
    firsts = np.cumsum([0, len(chunks), *map(len, levels)])  # numbers of the first node of each level
    tokens = [*tree.rows["tokens"][chunks].tolist(), *(node.tokens for node in above)]
    open_to = [own for own in labels if own is not None and access.may_read(own, reader)]
    twins = twins_by_access([(document.id, text) for document, text in documents], open_to)
    return Draft(
        documents=documents,
        chunks=np.array(spans, dtype=np.int64),
        labels=[node.label for node in above],
        summaries=[node.text for node in above],
        levels=[len(chunks), *map(len, levels)],
        children=[_at(n.children, at) for at, level in zip(firsts, levels, strict=False) for n in level],
        guests=[_at(n.guests, at) for at, level in zip(firsts, levels, strict=False) for n in level],
        tokens=np.array(tokens, dtype=np.int64),
        vectors=np.concatenate([tree.vectors[chunks], *(node.vector[None] for node in above)]),
        alike=first_alike((document.id for document, _ in documents), twins, len(documents)),
        names=name_table(
            (text, outlines[d].parts(start)) for text, (d, start, _) in zip(texts, spans, strict=True)
        ),
    )


def _own(document: Document, labels: Labels | None, reader: Labels) -> Document:
    """A document that tells none of its labels but the reader's."""
    if not labels:
        return document
    return replace(document, meta={**document.meta, access.KEY: ", ".join(sorted(labels & reader))})


def _at(places: Sequence[int], first: int) -> Numbers:
    return np.array(places, dtype=np.int64) + first


def _span(tree: Tree, chunk: int) -> tuple[int, int]:
    span = tree.span_at(chunk)
    assert span is not None  # of a chunk
    return span.start, span.end


def _repeats(tree: Tree, seen: Flags) -> Flags:
    """Which of the nodes that may be read only repeat the one node below them, up to where another tree stands beside.

    A build carries the top of a small tree up so; how far says how high the trees of others are.
    """
    repeats = np.zeros(len(tree), dtype=bool)
    for number in range(len(tree) - 1, tree.levels[0] - 1, -1):
        if not seen[number] or len(members := tree.members(number)) != 1:
            continue
        (member,) = members
        said, below = ((tree.at(n).label, tree.text_at(n)) for n in (number, member))
        held = [p for p in tree.neighbours(number, "parents") if seen[p] and not repeats[p]]
        repeats[number] = said == below and not any(number in tree.members(p) for p in held)
    return repeats


def _kinds(tree: Tree, labels: Sequence[Labels | None]) -> Numbers:
    """A number for each node, the same where the same readers may read all below it; -1 where these differ, (n,)."""
    numbers = {own: number for number, own in enumerate(dict.fromkeys(labels))}
    kinds = np.full(len(tree), -1, dtype=np.int64)
    kinds[: tree.levels[0]] = np.array([numbers[own] for own in labels])[tree.leaf_documents]
    for number in range(tree.levels[0], len(tree)):
        below = np.unique(kinds[tree.members(number)])
        kinds[number] = below[0] if len(below) == 1 else -1
    return kinds


def _levels(tree: Tree, kept: Flags, kinds: Numbers, leaves: Sequence[_Node]) -> list[list[_Node]]:
    """The levels above the chunks, up to one root."""
    levels, below = list[list[_Node]](), leaves
    highest = tree.level_of(int(np.flatnonzero(kept)[-1]))
    while len(below) > 1 or len(levels) < highest:
        height = len(levels) + 1
        places = {node.old: place for place, node in enumerate(below) if node.old is not None}
        numbers = tree.level_range(height) if height <= highest else ()
        level = [_kept(tree, number, places, kinds) for number in numbers if kept[number]]
        held = {child for node in level for child in {*node.children}.difference(node.guests)}
        orphans = [place for place in range(len(below)) if place not in held]
        level += [_plain([below[place] for place in part], part) for part in _parts(orphans)]
        level.sort(key=lambda node: min({*node.children}.difference(node.guests)))
        levels.append(level)
        below = level
    return levels


def _kept(tree: Tree, number: int, places: dict[int, int], kinds: Numbers) -> _Node:
    """A summary as it was, with its members, and those guests that were chosen among nodes that the same may read."""
    members = [places[member] for member in tree.members(number)]
    guests = [
        places[guest]
        for guest in tree.guests(number)
        if guest in places and kinds[guest] == kinds[number] != -1
    ]
    node = tree.at(number)
    children = tuple(sorted({*members, *guests}))
    return _Node(
        number, children, tuple(guests), node.label, tree.text_at(number), node.tokens, tree.vectors[number]
    )


def _parts(places: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Nodes without a parent in runs of about the same length, BELOW at most."""
    count = -(-len(places) // BELOW)
    borders = [len(places) * part // max(count, 1) for part in range(count + 1)]
    return (tuple(places[start:end]) for start, end in pairwise(borders))


def _plain(below: Sequence[_Node], places: tuple[int, ...]) -> _Node:
    """A node over others by their labels alone; over one summary, that summary again."""
    if len(below) == 1 and below[0].text:
        return replace(below[0], old=None, children=places, guests=())
    heads = dict.fromkeys(shortened(node.label.partition(": ")[0], PART_CHARS) for node in below)
    text = "\n".join([PARTS, *(f"- {node.label}" for node in below)])
    mean = np.mean([node.vector for node in below], axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    vector = (mean / length if length else mean).astype(np.float32)
    tokens = (len(text.encode()) + 3) // 4  # a rule of thumb, as no embedder is asked
    return _Node(None, places, (), shortened("; ".join(heads), LABEL_CHARS), text, tokens, vector)
