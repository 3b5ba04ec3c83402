"""Open an index and read it. Everything is memory-mapped; nothing is unpickled, and no offset is trusted.

Opening checks names, sizes and array headers, which costs milliseconds; content is checked where it is used.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from index_store.documents import Documents
from index_store.errors import BadQuery, BrokenIndex, NoSuchNode
from index_store.lexical import Lexicon
from index_store.manifest import MAX_BYTES, Manifest, loads
from index_store.manifest import NAME as MANIFEST
from index_store.tables import MARK_BYTES, NODE, NODE_ROW, byte_at, char_at
from index_store.types import Document, Hit, Node, Span
from index_store.vectors import InvertedFile

if TYPE_CHECKING:
    from index_store.grep import Grep

CURRENT = "CURRENT"
LABEL_CHARS = 72
_POINTER = re.compile(r"(\d{6})(?: ([0-9a-f]{64}))?\n", re.ASCII)
_ID = re.compile(r"L(\d{1,3})-(\d{1,12})", re.ASCII)

# name -> (dtype, dimensions) of every array of a generation; those of ivf/ are there where there are many nodes
_ARRAYS: Mapping[str, tuple[Any, int]] = {
    "documents_lines.npy": (np.dtype("<i8"), 1),
    "documents_order.npy": (np.dtype("<i4"), 1),
    "documents_text.npy": (np.dtype("<i8"), 1),
    "text_marks.npy": (np.dtype("<i8"), 1),
    "nodes.npy": (NODE, 1),
    "children.npy": (np.dtype("<i4"), 1),
    "children_offsets.npy": (np.dtype("<i8"), 1),
    "parents.npy": (np.dtype("<i4"), 1),
    "parents_offsets.npy": (np.dtype("<i8"), 1),
    "vectors.npy": (np.dtype("<f4"), 2),
    "lexical/scores.npy": (np.dtype("<f4"), 1),
    "lexical/nodes.npy": (np.dtype("<i4"), 1),
    "lexical/offsets.npy": (np.dtype("<i8"), 1),
    "ivf/axes.npy": (np.dtype("<f4"), 2),
    "ivf/centroids.npy": (np.dtype("<f4"), 2),
    "ivf/offsets.npy": (np.dtype("<i8"), 1),
    "ivf/nodes.npy": (np.dtype("<i4"), 1),
    "ivf/codes.npy": (np.dtype("i1"), 2),
}


def generation_folder(path: Path, number: int) -> Path:
    return path / "generations" / f"{number:06d}"


def current_generation(path: Path) -> int | None:
    """The live generation's number; None where nothing has been published."""
    pointer = _pointer(path)
    return None if pointer is None else pointer[0]


def _pointer(path: Path) -> tuple[int, str | None] | None:
    """The live generation's number and digest (None in an index of an earlier version)."""
    try:
        line = (path / CURRENT).read_bytes()[:80].decode("ascii", "replace")
    except FileNotFoundError:
        return None
    found = _POINTER.fullmatch(line)
    if found is None:
        raise BrokenIndex(f"{path / CURRENT} names no generation ({line!r}); copy or build the index again")
    return int(found[1]), found[2]


def check_pointer(path: Path) -> None:
    """Raise BrokenIndex where the generation that CURRENT names is not there, or is not of the digest it gives."""
    if pointer := _pointer(path):
        if not generation_folder(path, pointer[0]).is_dir():
            raise BrokenIndex(
                f"{path / CURRENT} names generation {pointer[0]}, which is missing; copy the index again"
            )
        _check_digest(path, *pointer, read_manifest(generation_folder(path, pointer[0])))


def _check_digest(path: Path, number: int, digest: str | None, manifest: Manifest) -> None:
    if digest not in (None, manifest.digest):
        raise BrokenIndex(
            f"{path / CURRENT} gives another digest of generation {number} than it has; copy the index again"
        )


def open_index(path: str | Path) -> "Index":
    """Open the live generation of the index at `path`.

    Raises BrokenIndex, in one sentence, when the folder is missing, unfinished, cut short or of another format.
    """
    path = Path(path)
    try:
        return _open(path)
    except OSError as e:
        raise BrokenIndex(f"cannot read the index {path}: {e.strerror or e}; copy or build it again") from e


def _open(path: Path) -> "Index":
    if not path.is_dir():
        raise BrokenIndex(
            f"there is no index folder at {path}; build one with: raptor build SOURCE -o {path}"
        )
    pointer = _pointer(path)
    if pointer is None:
        begun = {"generations", "build.lock", "build.sqlite"} & {p.name for p in path.iterdir()}
        if begun or not any(path.iterdir()):
            what = "holds an unfinished build" if begun else "is an empty folder"
            raise BrokenIndex(f"{path} {what}; run raptor build SOURCE -o {path}")
        here = str(path) if path.name else "my"
        raise BrokenIndex(
            f"{path} is not an index (it has no file CURRENT); if it holds documents, build one from them with: "
            f"raptor build {path} -o {here}.index"
        )
    index = open_generation(path, pointer[0])
    _check_digest(path, *pointer, index.manifest)
    return index


def open_generation(path: Path, number: int) -> "Index":
    """Open one generation, live or not; raises BrokenIndex, or OSError where it cannot be read."""
    folder = generation_folder(path, number)
    if not folder.is_dir():
        raise BrokenIndex(
            f"{path} is half copied: its live generation {folder.name} is missing; copy it again"
        )
    manifest = read_manifest(folder)
    _check_sizes(folder, manifest)
    arrays = {name: _array(folder / name, *_ARRAYS[name]) for name in _ARRAYS if name in manifest.files}
    return Index(path, folder, manifest, arrays)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a generation's folder; raises BrokenIndex."""
    path = folder / MANIFEST
    if not path.is_file():
        raise BrokenIndex(f"{folder} is half copied: {MANIFEST} is missing; copy or build the index again")
    if path.stat().st_size > MAX_BYTES:
        raise BrokenIndex(
            f"{path} has {path.stat().st_size} bytes, which no manifest has; build the index again"
        )
    return loads(path.read_bytes(), path)


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != entry.size:
            what = "is missing" if found is None else f"has {found:,} bytes, expected {entry.size:,}"
            raise BrokenIndex(f"the index is half copied or damaged: {path} {what}; copy or build it again")


def _array(path: Path, dtype: Any, dimensions: int) -> npt.NDArray[Any]:
    """An array file, mapped. To cut such a file short while it is open ends the process; nothing can catch that."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as e:
        if path.stat().st_size and "mmap an empty file" not in str(e):
            raise BrokenIndex(f"{path} is not an array file ({e}); copy or build the index again") from e
        raise BrokenIndex(f"{path} is empty; copy or build the index again") from e
    if array.dtype != dtype or array.ndim != dimensions:
        raise BrokenIndex(f"{path} holds {array.dtype} with {array.ndim} dimensions; build the index again")
    return np.asarray(array)  # not as np.memmap, each slice of which takes ten times as long


class Index:
    """An open generation. Reading is thread-safe: nothing changes after opening but caches.

    Nodes are numbered 0..n-1 by level, leaves first, the root last; `L1-00003` is the fourth node of level 1.
    """

    def __init__(
        self, path: Path, folder: Path, manifest: Manifest, arrays: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        self.path, self.folder, self.manifest = path, folder, manifest
        self._arrays = arrays
        self.levels = manifest.levels
        self._first = np.concatenate([[0], np.cumsum(manifest.levels)]).tolist()
        self._check_shapes()
        self._nodes = arrays["nodes.npy"].view(np.uint8).data
        self._borders = arrays["documents_text.npy"]

    def _check_shapes(self) -> None:
        n, a = len(self), self._arrays
        edges = len(a["children.npy"])
        expected = {
            "nodes.npy": n,
            "vectors.npy": n,
            "children_offsets.npy": n + 1,
            "parents_offsets.npy": n + 1,
            "parents.npy": edges,
            "documents_lines.npy": self.manifest.documents + 1,
            "documents_order.npy": self.manifest.documents,
            "documents_text.npy": self.manifest.documents + 1,
            "text_marks.npy": self.manifest.files["text.bin"].size // MARK_BYTES + 1,
        }
        for name, length in expected.items():
            if len(a[name]) != length:
                raise BrokenIndex(
                    f"{self.folder / name} has {len(a[name])} rows, expected {length}; build it again"
                )
        inverted, dim = self.inverted_file, a["vectors.npy"].shape[1]
        if inverted and not inverted.fits(n, dim, len(self.levels)):
            raise BrokenIndex(f"{self.folder / 'ivf'} does not fit the index; build it again")

    # -- numbers and ids ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._first[-1])

    def id_of(self, number: int) -> str:
        level = bisect_right(self._first, number) - 1
        return f"L{level}-{number - self._first[level]:05d}"

    def number_of(self, node: str) -> int:
        """The number of a node id; raises NoSuchNode, with the nearest id there is, when there is none."""
        parsed = _ID.fullmatch(node) if isinstance(node, str) else None
        if parsed:
            level, place = int(parsed[1]), int(parsed[2])
            if level < len(self.levels) and place < self.levels[level]:
                number = int(self._first[level]) + place
                if self.id_of(number) == node:
                    return number
                raise NoSuchNode(f"no node {node!r}; did you mean {self.id_of(number)}?")
        sizes = ", ".join(
            f"L{i}-00000..{self.id_of(self._first[i + 1] - 1)}" for i in range(len(self.levels))
        )
        raise NoSuchNode(f"no node {str(node)[:80]!r}; this index has {sizes}")

    def level_range(self, level: int) -> range:
        """The node numbers of one level."""
        if not 0 <= level < len(self.levels):
            raise NoSuchNode(f"no level {level}; this index has levels 0 to {len(self.levels) - 1}")
        return range(self._first[level], self._first[level + 1])

    @property
    def rows(self) -> npt.NDArray[Any]:
        """The table of nodes, dtype `tables.NODE`; nothing in it has been checked."""
        return self._arrays["nodes.npy"]

    # -- nodes -------------------------------------------------------------------------------------------

    @property
    def root(self) -> Node:
        return self.at(len(self) - 1)

    def node(self, node: str) -> Node:
        return self.at(self.number_of(node))

    def at(self, number: int) -> Node:
        """The node with this number."""
        level, document, start, end, label_start, label_end, tokens = self._row(number)
        if document < 0:
            label = self._labels[label_start:label_end].tobytes().decode("utf-8", "replace")
            return Node(self.id_of(number), level, label, None, tokens)
        span = self._span(number, document, start, end)
        return Node(self.id_of(number), level, self._first_line(start, end), span, tokens)

    def _row(self, number: int) -> tuple[int, int, int, int, int, int, int]:
        """The fields of `tables.NODE`; offsets checked to be ordered, and no more."""
        row = NODE_ROW.unpack_from(self._nodes, number * NODE_ROW.size)
        if not 0 <= row[2] <= row[3]:
            raise BrokenIndex(
                f"node {self.id_of(number)} ends before it begins; run raptor verify {self.path}"
            )
        return row

    def nodes(self, level: int) -> Iterator[Node]:
        return (self.at(i) for i in self.level_range(level))

    def span_at(self, number: int) -> Span | None:
        """A chunk's place in its document; None for a summary."""
        _, document, start, end, *_ = self._row(number)
        return None if document < 0 else self._span(number, document, start, end)

    def _span(self, number: int, document: int, start: int, end: int) -> Span:
        low, high = self.document_bytes(document) if document < len(self.documents) else (0, -1)
        if not low <= start <= end <= high:
            raise BrokenIndex(
                f"node {self.id_of(number)} points outside its document; run raptor verify {self.path}"
            )
        base = self._char(low)
        return Span(self.documents[document].id, self._char(start) - base, self._char(end) - base)

    def _first_line(self, start: int, end: int) -> str:
        raw = self._text[start : min(end, start + 4 * LABEL_CHARS)].tobytes()
        line = next((x for x in raw.decode("utf-8", "ignore").splitlines() if x.strip()), "").strip()
        return line if len(line) <= LABEL_CHARS else line[: LABEL_CHARS - 1] + "…"

    def text_at(self, number: int) -> str:
        _, document, start, end, *_ = self._row(number)
        blob = self._summaries if document < 0 else self._text
        return blob[start:end].tobytes().decode("utf-8", "replace")

    def text(self, node: str) -> str:
        """The words of a node: the chunk's own characters, or the summary."""
        return self.text_at(self.number_of(node))

    # -- edges -------------------------------------------------------------------------------------------

    def neighbours(self, number: int, direction: str) -> list[int]:
        """Numbers of the `children` or `parents` of a node, ascending."""
        offsets, targets = self._arrays[f"{direction}_offsets.npy"], self._arrays[f"{direction}.npy"]
        found = targets[int(offsets[number]) : int(offsets[number + 1])].tolist()
        if any(not 0 <= t < len(self) for t in found):
            raise BrokenIndex(
                f"node {self.id_of(number)} has {direction} out of range; run raptor verify {self.path}"
            )
        return sorted(found)

    def children(self, node: str) -> list[Node]:
        return [self.at(i) for i in self.neighbours(self.number_of(node), "children")]

    def parents(self, node: str) -> list[Node]:
        return [self.at(i) for i in self.neighbours(self.number_of(node), "parents")]

    def path_to(self, node: str) -> list[Node]:
        """From the root down to `node`, by each node's first parent."""
        number, steps = self.number_of(node), []
        for _ in self.levels:
            steps.append(number)
            above = self.neighbours(number, "parents")
            if not above:
                break
            number = above[0]
        return [self.at(i) for i in reversed(steps)]

    def below(self, number: int) -> npt.NDArray[np.int64]:
        """Numbers of a node and everything under it, ascending; level by level, so a cycle cannot hold it."""
        return self._reached(np.array([number]), "children")

    def above(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of all nodes over some nodes, ascending."""
        return np.setdiff1d(self._reached(numbers, "parents"), numbers)

    def _reached(self, layer: npt.NDArray[np.int64], direction: str) -> npt.NDArray[np.int64]:
        seen = np.zeros(len(self), dtype=bool)
        for _ in self.levels:
            seen[layer] = True
            next_to = np.zeros(len(self), dtype=bool)  # marking a million is faster than sorting some
            next_to[self._all_neighbours(layer, direction)] = True
            layer = np.flatnonzero(next_to & ~seen)
        return np.flatnonzero(seen)

    def _all_neighbours(self, numbers: npt.NDArray[np.int64], direction: str) -> npt.NDArray[np.int64]:
        """Numbers of the `children` or `parents` of several different nodes, in no order."""
        offsets, targets = self._arrays[f"{direction}_offsets.npy"], self._arrays[f"{direction}.npy"]
        starts, sizes = offsets[numbers], offsets[numbers + 1] - offsets[numbers]
        if len(numbers) and (starts.min() < 0 or sizes.min() < 0 or sizes.sum() > len(targets)):
            raise BrokenIndex(f"{direction} are out of range; run raptor verify {self.path}")
        places = np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
        found: npt.NDArray[np.int64] = targets[np.minimum(places, len(targets) - 1)].astype(np.int64)
        if len(found) and (found.min() < 0 or found.max() >= len(self)):
            raise BrokenIndex(f"{direction} are out of range; run raptor verify {self.path}")
        return found

    def leaves(self, node: str) -> list[Node]:
        """The chunks under a node in document order; a chunk is its own only leaf."""
        return [self.at(int(i)) for i in self.below(self.number_of(node)) if i < self.levels[0]]

    # -- documents and their text ------------------------------------------------------------------------

    @cached_property
    def documents(self) -> Documents:
        """All documents in order; each is read from disk when it is asked for."""
        path = self.folder / "documents.jsonl"
        a = self._arrays
        return Documents(_blob(path), a["documents_lines.npy"], a["documents_order.npy"], path)

    def document(self, doc: str) -> Document:
        return self.documents[self.document_number(doc)]

    def has_document(self, doc: str) -> bool:
        return self.documents.number(doc) is not None

    def document_number(self, doc: str) -> int:
        number = self.documents.number(doc) if isinstance(doc, str) else None
        if number is None:
            near = self.documents.nearest_id(str(doc))
            hint = f"did you mean {near!r}?" if near else f"there are {len(self.documents)} documents"
            raise NoSuchNode(f"no document {str(doc)[:80]!r}; {hint}")
        return number

    def document_leaves(self, number: int) -> range:
        """Numbers of the chunks of one document; they stand together, in order."""
        column = self.leaf_documents
        return range(int(np.searchsorted(column, number)), int(np.searchsorted(column, number, side="right")))

    def document_text(self, doc: str) -> str:
        """A document's whole canonical text."""
        return self.bytes_text(*self.document_bytes(self.document_number(doc)))

    def span_text(self, span: Span) -> str:
        """The characters of a span; the part outside the document is left out, as slicing does."""
        d = self.document_number(span.doc)
        start, end, _ = slice(span.start, span.end).indices(self.documents[d].chars)
        if start >= end:
            return ""
        base = self._char(self.document_bytes(d)[0])
        return self.bytes_text(self._byte(base + start), self._byte(base + end))

    def page(self, span: Span) -> int | None:
        """The page, from 1, on which a span starts; None where the document has no pages."""
        pages = self.document(span.doc).pages
        return bisect_right(pages, span.start) if pages else None

    def section(self, span: Span) -> tuple[str, ...]:
        """The headings over a span's start, outermost first; () where none stands before it."""
        from index_store.filters import section_path

        return section_path(self.document(span.doc).sections, span.start)

    def bytes_text(self, start: int, end: int) -> str:
        return bytes(self._text[start:end]).decode("utf-8", "replace")

    # -- the corpus as one text: documents one after another ---------------------------------------------

    @property
    def chars(self) -> int:
        """Characters of all documents together."""
        return self._char(len(self._text))

    def slice(self, start: int, end: int) -> str:
        """Characters start:end of all documents' texts one after another, 0 <= start <= end <= chars."""
        return self.bytes_text(self._byte(start), self._byte(end)) if start < end else ""

    def locate(self, byte: int) -> tuple[int, int]:
        """(document number, chunk number) that hold a byte of text.bin."""
        document = int(np.searchsorted(self._borders[:-1], byte, side="right")) - 1
        return document, int(np.searchsorted(self.leaf_starts, byte, side="right")) - 1

    def span_of_bytes(self, document: int, start: int, end: int) -> Span:
        base = self._char(self.document_bytes(document)[0])
        return Span(self.documents[document].id, self._char(start) - base, self._char(end) - base)

    def document_bytes(self, number: int) -> tuple[int, int]:
        """Where a document lies in text.bin."""
        start, end = int(self._borders[number]), int(self._borders[number + 1])
        if not 0 <= start <= end <= len(self._text):
            raise BrokenIndex(f"document {number} points outside the text; run raptor verify {self.path}")
        return start, end

    @property
    def document_borders(self) -> npt.NDArray[np.int64]:
        """Where each document begins in text.bin, and its end, (documents + 1,); nothing in it has been checked."""
        return self._borders

    def node_bytes(self, number: int) -> tuple[int, int]:
        """Where a chunk lies in text.bin."""
        _, _, start, end, *_ = self._row(number)
        return start, end

    def corpus_chars(self, number: int) -> tuple[int, int]:
        """Where a chunk's characters lie in the corpus as one text."""
        start, end = self.node_bytes(number)
        return self._char(start), self._char(end)

    @property
    def text_bytes(self) -> npt.NDArray[np.uint8]:
        return self._text

    # -- searching ---------------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, **where: Any) -> list[Hit]:
        """The best `k` nodes for a query; see `index_store.search.search` for `where`."""
        from index_store.search import search

        return search(self, query, k, **where)

    def grep(self, pattern: str, **where: Any) -> "Grep":
        """Every match of an RE2 pattern; see `index_store.grep.grep` for `where`."""
        from index_store.grep import grep

        return grep(self, pattern, **where)

    def embed_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """The queries' (n, dim) unit rows, by the embedder that built this index."""
        rows: npt.NDArray[np.float32] = self._embedder.encode(queries)
        return rows

    @cached_property
    def _embedder(self) -> Any:
        from index_store.embedder import load_embedder

        embedder = load_embedder(self.manifest.models["embedder"])
        expected = self.manifest.models["embedder_fingerprint"]
        if embedder.fingerprint != expected:
            raise BadQuery(
                f"the index was built with embedder {self.manifest.models['embedder']} {expected[:12]}, "
                f"found {embedder.fingerprint[:12]}; install the same weights or rebuild the index"
            )
        return embedder

    # -- what is read once, when first wanted ------------------------------------------------------------

    def _char(self, byte: int) -> int:
        return char_at(self._text, self._arrays["text_marks.npy"], byte)

    def _byte(self, char: int) -> int:
        return byte_at(self._text, self._arrays["text_marks.npy"], char)

    @cached_property
    def _text(self) -> npt.NDArray[np.uint8]:
        return _blob(self.folder / "text.bin")

    @cached_property
    def _summaries(self) -> npt.NDArray[np.uint8]:
        return _blob(self.folder / "summaries.bin")

    @cached_property
    def _labels(self) -> npt.NDArray[np.uint8]:
        return _blob(self.folder / "labels.bin")

    @cached_property
    def leaf_documents(self) -> npt.NDArray[np.int32]:
        """The document number of each chunk, (n0,) int32, ascending."""
        return np.ascontiguousarray(self.rows["document"][: self.levels[0]])

    @cached_property
    def leaf_starts(self) -> npt.NDArray[np.int64]:
        """Where each chunk begins in text.bin, (n0,) int64, ascending."""
        return np.ascontiguousarray(self.rows["start"][: self.levels[0]])

    @cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """(n, dim) float32 unit rows."""
        return self._arrays["vectors.npy"]

    @cached_property
    def lexicon(self) -> Lexicon:
        a = self._arrays
        return Lexicon(
            a["lexical/scores.npy"],
            a["lexical/nodes.npy"],
            a["lexical/offsets.npy"],
            self.folder / "lexical" / "words.txt",
        )

    @cached_property
    def inverted_file(self) -> InvertedFile | None:
        """What finds near vectors among many; None where there are few."""
        if "ivf/nodes.npy" not in self._arrays:
            return None
        return InvertedFile(**{Path(n).stem: a for n, a in self._arrays.items() if n.startswith("ivf/")})


def _blob(path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes, mapped; an empty file cannot be mapped and is an empty array."""
    if not path.stat().st_size:
        return np.empty(0, dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
