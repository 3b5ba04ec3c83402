"""Open an index and read it. Everything is memory-mapped; nothing is unpickled, and no offset is trusted.

Opening checks names, sizes and array headers, which costs milliseconds; content is checked where it is used.
"""

import difflib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BadQuery, BrokenIndex, NoSuchNode
from index_store.lexical import Lexicon
from index_store.manifest import MAX_BYTES, Manifest, loads
from index_store.manifest import NAME as MANIFEST
from index_store.tables import MARK_BYTES, NODE, byte_at, char_at
from index_store.types import Document, Hit, Node, Span

if TYPE_CHECKING:
    from index_store.grep import Grep

CURRENT = "CURRENT"
LABEL_CHARS = 72
_ID = re.compile(r"L(\d{1,3})-(\d{1,12})", re.ASCII)

# name -> (dtype, dimensions) of every array of a generation
_ARRAYS: Mapping[str, tuple[Any, int]] = {
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
}


def generation_folder(path: Path, number: int) -> Path:
    return path / "generations" / f"{number:06d}"


def current_generation(path: Path) -> int | None:
    """The live generation's number; None where nothing has been published."""
    try:
        line = (path / CURRENT).read_bytes()[:32].decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    if not re.fullmatch(r"\d{6}", line, re.ASCII):
        raise BrokenIndex(f"{path / CURRENT} names no generation ({line!r}); copy or build the index again")
    return int(line)


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
    number = current_generation(path)
    if number is None:
        unfinished = (path / "generations").is_dir() or (path / "build.sqlite").exists()
        what = "holds an unfinished build" if unfinished else "is not an index (it has no file CURRENT)"
        raise BrokenIndex(f"{path} {what}; run raptor build SOURCE -o {path}")
    return open_generation(path, number)


def open_generation(path: Path, number: int) -> "Index":
    """Open one generation, live or not; raises BrokenIndex, or OSError where it cannot be read."""
    folder = generation_folder(path, number)
    if not folder.is_dir():
        raise BrokenIndex(
            f"{path} is half copied: its live generation {folder.name} is missing; copy it again"
        )
    manifest = read_manifest(folder)
    _check_sizes(folder, manifest)
    return Index(path, folder, manifest, {name: _array(folder / name) for name in _ARRAYS})


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


def _array(path: Path) -> npt.NDArray[Any]:
    name = path.name if path.parent.name != "lexical" else f"lexical/{path.name}"
    dtype, dimensions = _ARRAYS[name]
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as e:
        if path.stat().st_size and "mmap an empty file" not in str(e):
            raise BrokenIndex(f"{path} is not an array file ({e}); copy or build the index again") from e
        raise BrokenIndex(f"{path} is empty; copy or build the index again") from e
    if array.dtype != dtype or array.ndim != dimensions:
        raise BrokenIndex(f"{path} holds {array.dtype} with {array.ndim} dimensions; build the index again")
    return array


@dataclass(frozen=True, slots=True)
class _DocumentTable:
    """Documents in order, where each begins and ends in text.bin (bytes), and their numbers by id."""

    documents: tuple[Document, ...]
    starts: list[int]
    ends: list[int]
    numbers: Mapping[str, int]


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

    def _check_shapes(self) -> None:
        n, a = len(self), self._arrays
        edges = len(a["children.npy"])
        expected = {
            "nodes.npy": n,
            "vectors.npy": n,
            "children_offsets.npy": n + 1,
            "parents_offsets.npy": n + 1,
            "parents.npy": edges,
            "text_marks.npy": self.manifest.files["text.bin"].size // MARK_BYTES + 1,
        }
        for name, length in expected.items():
            if len(a[name]) != length:
                raise BrokenIndex(
                    f"{self.folder / name} has {len(a[name])} rows, expected {length}; build it again"
                )

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
        row = self._arrays["nodes.npy"][number]
        span = self.span_at(number)
        return Node(self.id_of(number), int(row["level"]), self._label(number), span, int(row["tokens"]))

    def nodes(self, level: int) -> Iterator[Node]:
        return (self.at(i) for i in self.level_range(level))

    def span_at(self, number: int) -> Span | None:
        """A chunk's place in its document; None for a summary."""
        row = self._arrays["nodes.npy"][number]
        d = int(row["document"])
        if d < 0:
            return None
        table = self._table
        if not (d < len(table.starts) and table.starts[d] <= row["start"] <= row["end"] <= table.ends[d]):
            raise BrokenIndex(
                f"node {self.id_of(number)} points outside its document; run raptor verify {self.path}"
            )
        base = self._char(table.starts[d])
        return Span(
            table.documents[d].id, self._char(int(row["start"])) - base, self._char(int(row["end"])) - base
        )

    def _label(self, number: int) -> str:
        row = self._arrays["nodes.npy"][number]
        if row["document"] < 0:
            return self._labels[int(row["label_start"]) : int(row["label_end"])].decode("utf-8", "replace")
        raw = bytes(self._text[int(row["start"]) : min(int(row["end"]), int(row["start"]) + 4 * LABEL_CHARS)])
        line = next((x for x in raw.decode("utf-8", "ignore").splitlines() if x.strip()), "").strip()
        return line if len(line) <= LABEL_CHARS else line[: LABEL_CHARS - 1] + "…"

    def text_at(self, number: int) -> str:
        row = self._arrays["nodes.npy"][number]
        blob: Any = self._summaries if row["document"] < 0 else self._text
        return bytes(blob[int(row["start"]) : int(row["end"])]).decode("utf-8", "replace")

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
        layer, seen = {number}, {number}
        for _ in self.levels:
            layer = {c for n in layer for c in self.neighbours(n, "children")} - seen
            seen |= layer
        return np.array(sorted(seen), dtype=np.int64)

    def leaves(self, node: str) -> list[Node]:
        """The chunks under a node in document order; a chunk is its own only leaf."""
        return [self.at(int(i)) for i in self.below(self.number_of(node)) if i < self.levels[0]]

    # -- documents and their text ------------------------------------------------------------------------

    @property
    def documents(self) -> tuple[Document, ...]:
        return self._table.documents

    def document(self, doc: str) -> Document:
        return self._table.documents[self.document_number(doc)]

    def has_document(self, doc: str) -> bool:
        return doc in self._table.numbers

    def document_number(self, doc: str) -> int:
        try:
            return self._table.numbers[doc]
        except (KeyError, TypeError):
            near = difflib.get_close_matches(str(doc), self._table.numbers, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {len(self._table.numbers)} documents"
            raise NoSuchNode(f"no document {str(doc)[:80]!r}; {hint}") from None

    def document_leaves(self, number: int) -> range:
        """Numbers of the chunks of one document; they stand together, in order."""
        column = self.leaf_documents
        return range(int(np.searchsorted(column, number)), int(np.searchsorted(column, number, side="right")))

    def document_text(self, doc: str) -> str:
        """A document's whole canonical text."""
        d = self.document_number(doc)
        return self.bytes_text(self._table.starts[d], self._table.ends[d])

    def span_text(self, span: Span) -> str:
        """The characters of a span; the part outside the document is left out, as slicing does."""
        d = self.document_number(span.doc)
        chars = self._table.documents[d].chars
        start, end, _ = slice(span.start, span.end).indices(chars)
        if start >= end:
            return ""
        base = self._char(self._table.starts[d])
        return self.bytes_text(self._byte(base + start), self._byte(base + end))

    def page(self, span: Span) -> int | None:
        """The page, from 1, on which a span starts; None where the document has no pages."""
        pages = self.document(span.doc).pages
        return bisect_right(pages, span.start) if pages else None

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
        document = bisect_right(self._table.starts, byte) - 1
        starts = self._arrays["nodes.npy"]["start"][: self.levels[0]]
        return document, int(np.searchsorted(starts, byte, side="right")) - 1

    def span_of_bytes(self, document: int, start: int, end: int) -> Span:
        base = self._char(self._table.starts[document])
        return Span(self._table.documents[document].id, self._char(start) - base, self._char(end) - base)

    def document_bytes(self, number: int) -> tuple[int, int]:
        return self._table.starts[number], self._table.ends[number]

    def node_bytes(self, number: int) -> tuple[int, int]:
        """Where a chunk lies in text.bin."""
        row = self._arrays["nodes.npy"][number]
        return int(row["start"]), int(row["end"])

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
    def _labels(self) -> bytes:
        return (self.folder / "labels.bin").read_bytes()

    @cached_property
    def leaf_documents(self) -> npt.NDArray[np.int32]:
        """The document number of each chunk, (n0,) int32, ascending."""
        return np.ascontiguousarray(self._arrays["nodes.npy"]["document"][: self.levels[0]])

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
    def _table(self) -> _DocumentTable:
        path = self.folder / "documents.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_bytes().splitlines()]
            table = _document_table(rows)
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            raise BrokenIndex(
                f"{path} is damaged ({type(e).__name__}: {e}); copy or build the index again"
            ) from e
        if len(table.documents) != self.manifest.documents or any(e > len(self._text) for e in table.ends):
            raise BrokenIndex(f"{path} does not fit the manifest or the text; copy or build the index again")
        return table


def _document_table(rows: Sequence[Mapping[str, Any]]) -> _DocumentTable:
    documents = tuple(
        Document(
            str(r["id"]),
            str(r["title"]),
            str(r["source"]),
            str(r["sha256"]),
            int(r["chars"]),
            tuple(int(p) for p in r["pages"]),
        )
        for r in rows
    )
    starts, ends = [int(r["start"]) for r in rows], [int(r["end"]) for r in rows]
    return _DocumentTable(documents, starts, ends, {d.id: i for i, d in enumerate(documents)})


def _blob(path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes, mapped; an empty file cannot be mapped and is an empty array."""
    return np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint8)
