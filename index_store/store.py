"""What a tree is read from, and what must hold of it before a node is read: an index may come from a stranger.

On opening, some passes over the mapped offsets cost milliseconds even with a million nodes. What would cost more (the
chunks, a document's line, a word's column) is checked when it is first used.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.documents import LINE_BYTES
from index_store.errors import BrokenIndex
from index_store.manifest import ALIKE, GUESTS, LENGTHS
from index_store.tables import MARK_BYTES
from index_store.terminal import count

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

BLOCK = 1 << 14  # rows of the table of nodes that stay in a processor's cache


@dataclass(frozen=True, slots=True)
class Store:
    """What a tree is read from; only the types and dimensions of the arrays have been checked.

    `path`: what a person opened. `folder`: where the files of the arrays stand, for messages. `levels[i]`: nodes at
    level i. `documents`: how many. `arrays`: by file name, as in `index_store.folder`; those in `lexical/` and `ivf/`,
    and that of documents that are alike, may be missing. `text`: all documents one after another in UTF-8; `summaries`
    and `labels` likewise. `lines`: a JSON object for each document. `lacks`: the arrays that are left where the index
    came from; whoever reads one waits until it has come.
    """

    path: Path
    folder: Path
    levels: tuple[int, ...]
    documents: int
    arrays: Mapping[str, Array]
    text: Bytes
    summaries: Bytes
    labels: Bytes
    lines: Bytes
    lacks: frozenset[str] = frozenset()


def check(store: Store) -> None:
    """Raise BrokenIndex, which names the file, unless the parts of a store fit each other.

    Then texts of documents, summaries and labels lie one after another in their files, so that no byte is shown for two
    nodes; children are one level below their parents, so that no walk goes in a circle.
    """
    _raise_first(
        store, chain(_lengths(store), _borders(store), _alike(store), _summaries(store), _edges(store))
    )


def check_chunks(store: Store) -> None:
    """Raise BrokenIndex unless the chunks fit too; for who reads the first one, as most of the nodes are chunks."""
    _raise_first(store, _chunks(store))


def _raise_first(store: Store, faults: Iterable[tuple[str, str]]) -> None:
    for name, fault in faults:
        raise BrokenIndex(f"{store.folder / name} {fault}; run raptor verify {store.path}")


def _lengths(store: Store) -> Iterator[tuple[str, str]]:
    n, arrays = sum(store.levels), store.arrays
    expected = {
        "nodes.npy": n,
        "vectors.npy": n,
        "children_offsets.npy": n + 1,
        "parents_offsets.npy": n + 1,
        "parents.npy": len(arrays["children.npy"]),
        "documents_lines.npy": store.documents + 1,
        "documents_order.npy": store.documents,
        "documents_text.npy": store.documents + 1,
        "text_marks.npy": len(store.text) // MARK_BYTES + 1,
    }
    if ALIKE in arrays:
        expected[ALIKE] = store.documents
    if GUESTS in arrays:
        expected[GUESTS] = len(arrays["children.npy"])
    if LENGTHS in arrays:
        expected[LENGTHS] = n
    for name, length in expected.items():
        if name not in store.lacks and len(arrays[name]) != length:
            yield name, f"has {count(len(arrays[name]), 'row')}, expected {length:,}"


def _borders(store: Store) -> Iterator[tuple[str, str]]:
    """Offsets ascend from 0 to the end of what they lead into."""
    ends = {
        "documents_lines.npy": len(store.lines),
        "documents_text.npy": len(store.text),
        "children_offsets.npy": len(store.arrays["children.npy"]),
        "parents_offsets.npy": len(store.arrays["parents.npy"]),
    }
    for name, end in ends.items():
        offsets = store.arrays[name]
        if offsets[0] != 0 or offsets[-1] != end or (offsets[1:] < offsets[:-1]).any():
            yield name, f"has offsets that do not ascend from 0 to {end}"
    # Only after these ascend do differences not overflow.
    if np.diff(store.arrays["documents_lines.npy"]).max(initial=0) > LINE_BYTES:
        yield "documents_lines.npy", f"gives a document a line of more than {LINE_BYTES:,} bytes"
    marks = store.arrays["text_marks.npy"]
    is_ascending = marks[0] == 0 and (marks[1:] >= marks[:-1]).all()
    if not is_ascending or np.diff(marks).max(initial=0) > MARK_BYTES:
        yield (
            "text_marks.npy",
            f"counts more characters than there are in {MARK_BYTES:,} bytes, or fewer than none",
        )


def _alike(store: Store) -> Iterator[tuple[str, str]]:
    """Each document is named with the first of those that are like it, which is named with itself."""
    if (first := store.arrays.get(ALIKE)) is not None:
        places = np.arange(len(first))
        if ((first < 0) | (first > places)).any() or (first[first] != first).any():
            yield ALIKE, "names documents that are not the first of those that are alike"


def _chunks(store: Store) -> Iterator[tuple[str, str]]:
    """Chunks lie one after another in the text, and their documents ascend."""
    rows, last, document = store.arrays["nodes.npy"][: store.levels[0]], 0, 0
    for at in range(0, len(rows), BLOCK):
        part = rows[at : at + BLOCK]
        starts, ends, documents = (np.ascontiguousarray(part[name]) for name in ("start", "end", "document"))
        if not _tile(starts, ends, last) or ends[-1] > len(store.text):
            yield "nodes.npy", f"has chunks from {at} on that do not lie one after another in the text"
        if documents[0] < document or (documents[1:] < documents[:-1]).any():
            yield "nodes.npy", f"has chunks from {at} on that are not in the order of their documents"
        if part["tokens"].min() < 0:
            yield "nodes.npy", f"has chunks from {at} on with fewer than no tokens"
        last, document = int(ends[-1]), int(documents[-1])
    if last != len(store.text) or document >= store.documents:
        yield "nodes.npy", "has chunks that end elsewhere than the text and its documents"


def _summaries(store: Store) -> Iterator[tuple[str, str]]:
    """Summaries and labels lie one after another in their files."""
    rows = store.arrays["nodes.npy"][store.levels[0] :]
    for blob, first, last, what in (
        (store.summaries, "start", "end", "summaries"),
        (store.labels, "label_start", "label_end", "labels"),
    ):
        starts, ends = np.ascontiguousarray(rows[first]), np.ascontiguousarray(rows[last])
        if not _tile(starts, ends, 0) or ends[-1:].sum() != len(blob):
            yield "nodes.npy", f"has {what} that do not lie one after another in {what}.bin"
    if (rows["document"] >= 0).any():
        yield "nodes.npy", "has summaries that are chunks of a document"
    if rows["tokens"].min(initial=0) < 0:
        yield "nodes.npy", "has summaries with fewer than no tokens"


def _tile(starts: Array, ends: Array, begin: int) -> bool:
    """Whether the ranges starts:ends, from `begin` on, lie one after another without gaps."""
    if not len(starts):
        return True
    return bool(starts[0] == begin and (starts[1:] == ends[:-1]).all() and (starts <= ends).all())


def _edges(store: Store) -> Iterator[tuple[str, str]]:
    """The children of a node are one level below it, and its parents one above."""
    firsts = list(accumulate(store.levels, initial=0))
    ranges = [(0, 0), *pairwise(firsts), (0, 0)]  # below the chunks and above the root there is nothing
    for direction, step in (("children", -1), ("parents", 1)):
        offsets, targets = store.arrays[f"{direction}_offsets.npy"], store.arrays[f"{direction}.npy"]
        for level, (first, end) in enumerate(pairwise(firsts)):
            found = targets[int(offsets[first]) : int(offsets[end])]
            low, high = ranges[level + 1 + step]
            if len(found) and not low <= found.min() <= found.max() < high:
                yield (
                    f"{direction}.npy",
                    f"leads out of range: {direction} of level {level} are of another level",
                )
