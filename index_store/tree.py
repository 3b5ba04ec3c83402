"""The tree itself: nodes, edges and texts, read from arrays that were checked when it was opened (`store.check`)."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store import vectors
from index_store.documents import Documents
from index_store.errors import BadQuery, BrokenIndex, NoSuchNode
from index_store.lexical import Lexicon, columns
from index_store.manifest import ALIKE, GUESTS, LENGTHS
from index_store.name_table import Names
from index_store.outline import LABEL_CHARS, Outline
from index_store.store import Store, check, check_chunks
from index_store.tables import NODE_ROW, byte_at, char_at, chars_at, count_chars, each_once, ranges, sizes_of
from index_store.terminal import brief, count
from index_store.types import Document, Node, Span
from index_store.vectors import InvertedFile, near, whole_levels

LOOKED_CHARS = 8 * LABEL_CHARS  # of a chunk, for the first words that label it
OUTLINES = 64  # of documents, in memory
MAX_CHAR_BYTES = 4  # of a character in UTF-8
COUNTED_BYTES = 4 << 20  # of a summary whose characters are counted
LABEL_BYTES = 4096  # of a summary's label; what a stranger put behind them is not read
TEXT_BYTES = 64 << 20  # of a node; no build comes near it, and a longer one is not taken into memory
_ID = re.compile(r"L(\d{1,3})-(\d{1,12})", re.ASCII)

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Tree:
    """The nodes, edges and texts of an index. Reading is thread-safe: nothing changes after opening but caches.

    Nodes are numbered 0..n-1 by level, chunks first, the root last; `L1-00003` is the fourth node of level 1.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.path, self.levels = store, store.path, store.levels
        self._arrays = store.arrays
        self._first = list(accumulate(store.levels, initial=0))
        check(store)
        self._nodes = store.arrays["nodes.npy"].view(np.uint8).data
        self._borders = store.arrays["documents_text.npy"]
        self.outline = lru_cache(OUTLINES)(self._outline)
        if not store.lacks:
            _ = self.inverted_file  # what is wrong with it is said at once

    # -- numbers and ids ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._first[-1])

    def id_of(self, number: int) -> str:
        """The id of the node with this number."""
        level = bisect_right(self._first, number) - 1
        return f"L{level}-{number - self._first[level]:05d}"

    def number_of(self, node: str) -> int:
        """The number of the node with this id. Raises NoSuchNode, which names the ids there are."""
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

    def level_of(self, number: int) -> int:
        """The level of the node with this number."""
        return bisect_right(self._first, number) - 1

    def piece_id(self, piece: range) -> str:
        """The name of nodes that follow one another: the id of one, or `L0-00003..L0-00007`."""
        first, last = self.id_of(piece[0]), self.id_of(piece[-1])
        return first if len(piece) == 1 else f"{first}..{last}"

    def piece_of(self, name: str) -> range:
        """The numbers of the nodes that `piece_id` names so. Raises NoSuchNode, also where they are no such piece."""
        first, dots, last = name.partition("..") if isinstance(name, str) else (name, "", "")
        start = self.number_of(first)
        piece = range(start, (self.number_of(last) if dots else start) + 1)
        if len(piece) != 1 and not self.is_piece(piece):
            raise NoSuchNode(
                f"{brief(name)} are not chunks that follow one another in a document; name them one by one"
            )
        return piece

    def is_piece(self, numbers: range) -> bool:
        """Whether these are chunks that follow one another in a document."""
        if not numbers or numbers[0] < 0 or numbers[-1] >= self.levels[0] or numbers.step != 1:
            return False
        return bool(self.leaf_documents[numbers[0]] == self.leaf_documents[numbers[-1]])

    def pieces(self, numbers: Iterable[int]) -> list[range]:
        """The nodes, each once, with chunks that follow one another in a document put together; a piece stands where
        its first node stood."""
        rank = {number: place for place, number in reversed(list(enumerate(numbers)))}
        pieces: list[range] = []
        for number in sorted(rank):
            last = pieces[-1] if pieces else range(-1)
            if number == last.stop and self.is_piece(range(last.start, number + 1)):
                pieces[-1] = range(last.start, number + 1)
            else:
                pieces.append(range(number, number + 1))
        return sorted(pieces, key=lambda piece: min(rank[number] for number in piece))

    def level_range(self, level: int) -> range:
        """The node numbers of one level. Raises NoSuchNode."""
        if not 0 <= level < len(self.levels):
            raise NoSuchNode(f"no level {level}; this index has levels 0 to {len(self.levels) - 1}")
        return range(self._first[level], self._first[level + 1])

    def numbers(self, nodes: range) -> Numbers:
        """The numbers of some nodes that follow one another, as an array, for what looks at all of them."""
        return np.arange(nodes.start, nodes.stop, dtype=np.int64)

    @cached_property
    def rows(self) -> npt.NDArray[Any]:
        """The table of nodes, (n,) of dtype `tables.NODE`. Raises BrokenIndex where chunks do not tile the text."""
        check_chunks(self.store)
        return self._arrays["nodes.npy"]

    # -- nodes -------------------------------------------------------------------------------------------

    @property
    def root(self) -> Node:
        """The one node of the highest level."""
        return self.at(len(self) - 1)

    def node(self, node: str) -> Node:
        """The node with this id. Raises NoSuchNode."""
        return self.at(self.number_of(node))

    def at(self, number: int) -> Node:
        """The node with this number."""
        _, document, start, end, label_start, label_end, tokens = self._row(number)
        level = bisect_right(self._first, number) - 1
        if level:
            label = _decoded(self.store.labels, label_start, label_end, LABEL_BYTES)
            return Node(self.id_of(number), level, label, None, tokens)
        span = self._span(number, document, start, end)
        label = self.outline(document).label(_decoded(self.store.text, start, end, LOOKED_CHARS), span.start)
        return Node(self.id_of(number), level, label, span, tokens)

    def _row(self, number: int) -> tuple[int, int, int, int, int, int, int]:
        """The fields of `tables.NODE`."""
        nodes = self._chunk_rows if number < self.levels[0] else self._nodes
        return NODE_ROW.unpack_from(nodes, number * NODE_ROW.size)

    @cached_property
    def _chunk_rows(self) -> Any:
        return self.rows.view(np.uint8).data

    def nodes(self, level: int) -> Iterator[Node]:
        """The nodes of one level in order. Raises NoSuchNode."""
        return (self.at(i) for i in self.level_range(level))

    def span_at(self, number: int) -> Span | None:
        """The characters of the chunk with this number; None for a summary."""
        _, document, start, end, *_ = self._row(number)
        return None if document < 0 else self._span(number, document, start, end)

    def _span(self, number: int, document: int, start: int, end: int) -> Span:
        low, high = self.document_bytes(document)
        if not low <= start <= end <= high:
            raise BrokenIndex(
                f"node {self.id_of(number)} points outside its document; run raptor verify {self.path}"
            )
        return self.span_of_bytes(document, start, end)

    def text_at(self, number: int) -> str:
        """The text of the node with this number."""
        blob, start, end = self._place_of_text(number)
        if end - start > TEXT_BYTES:
            raise BrokenIndex(
                f"node {self.id_of(number)} has a text of {end - start:,} bytes, more than the {TEXT_BYTES:,} that are "
                "read; build the index again"
            )
        return _decoded(blob, start, end)

    def head_at(self, number: int, chars: int) -> str:
        """The first `chars` characters of the text of the node with this number; no more than these are read."""
        blob, start, end = self._place_of_text(number)
        return _decoded(blob, start, end, MAX_CHAR_BYTES * chars)[:chars]

    def chars_at(self, number: int) -> int:
        """How many characters the text of the node with this number has, counted before it is read.

        Of what is not UTF-8, in a damaged index, a quarter of the bytes at least: a size that is summed up bounds what
        is then read. Of a summary longer than any that is built, the bytes.
        """
        blob, start, end = self._place_of_text(number)
        size = end - start
        if blob is self.store.text:
            return max(self._char(end) - self._char(start), size // MAX_CHAR_BYTES)
        return size if size > COUNTED_BYTES else max(count_chars(blob[start:end]), size // MAX_CHAR_BYTES)

    def _place_of_text(self, number: int) -> tuple[npt.NDArray[np.uint8], int, int]:
        """The file in which the text of a node stands, and its first byte and its end there."""
        _, document, start, end, *_ = self._row(number)
        return self.store.summaries if document < 0 else self.store.text, start, end

    def text(self, node: str) -> str:
        """The text of a node: the chunk's own characters, or the summary. Raises NoSuchNode."""
        return self.text_at(self.number_of(node))

    # -- edges -------------------------------------------------------------------------------------------

    def neighbours(self, number: int, direction: str) -> list[int]:
        """Numbers of a node's neighbours, ascending; `direction` is `children` or `parents`."""
        offsets, targets = self._arrays[f"{direction}_offsets.npy"], self._arrays[f"{direction}.npy"]
        return sorted(set(targets[int(offsets[number]) : int(offsets[number + 1])].tolist()))

    def guests(self, number: int) -> list[int]:
        """Numbers, ascending, of the children that a node's summary is not about: they name what it is about."""
        if GUESTS not in self._arrays:
            return []
        offsets, targets = self._arrays["children_offsets.npy"], self._arrays["children.npy"]
        own = slice(int(offsets[number]), int(offsets[number + 1]))
        return sorted(set(targets[own][self._arrays[GUESTS][own] > 0].tolist()))

    def members(self, number: int) -> list[int]:
        """Numbers, ascending, of the children that a node's summary is about."""
        return sorted({*self.neighbours(number, "children")}.difference(self.guests(number)))

    def home(self, number: int) -> int | None:
        """The number of the first parent whose summary is about a node, else of its first; None for the root."""
        home = int(self.homes[number])
        return None if home < 0 else home

    @cached_property
    def homes(self) -> Numbers:
        """The number of each node's home, (n,); -1 for the root. By them every node has one way up."""
        homes = np.full(len(self), -1, dtype=np.int64)
        parents, children = self.edges()
        for chosen in (self.away, ~self.away):  # a later one counts
            homes[children[chosen][::-1]] = parents[chosen][::-1]
        return homes

    @cached_property
    def away(self) -> npt.NDArray[np.bool_]:
        """Which of the edges, as `edges` has them, lead to a guest."""
        is_guest = self._arrays.get(GUESTS, np.zeros(len(self._arrays["children.npy"]), dtype=np.uint8))
        return np.asarray(is_guest > 0)

    def edges(self) -> tuple[Numbers, Numbers]:
        """All edges: the numbers of the parents, ascending, and those of the children, both (edges,)."""
        return self._edges("children")

    def edges_up(self) -> tuple[Numbers, Numbers]:
        """The same edges as the children have them: numbers of the parents, and those of the children, ascending."""
        children, parents = self._edges("parents")
        return parents, children

    def _edges(self, direction: str) -> tuple[Numbers, Numbers]:
        sizes = np.diff(self._arrays[f"{direction}_offsets.npy"])
        return np.repeat(np.arange(len(self)), sizes), self._arrays[f"{direction}.npy"].astype(np.int64)

    def children(self, node: str) -> list[Node]:
        """The nodes that a summary summarises, in order; [] for a chunk. Raises NoSuchNode."""
        return [self.at(i) for i in self.neighbours(self.number_of(node), "children")]

    def parents(self, node: str) -> list[Node]:
        """The summaries of a node, in order: one or more, [] for the root. Raises NoSuchNode."""
        return [self.at(i) for i in self.neighbours(self.number_of(node), "parents")]

    def path_to(self, node: str) -> list[Node]:
        """From the root down to `node`, by each node's `home`. Raises NoSuchNode."""
        number, steps = self.number_of(node), []
        for _ in self.levels:
            steps.append(number)
            home = self.home(number)
            if home is None:
                break
            number = home
        return [self.at(i) for i in reversed(steps)]

    def below(self, number: int) -> Numbers:
        """Numbers of a node and everything under it, ascending."""
        return self._reached(np.array([number]), "children")

    def above(self, numbers: Numbers) -> Numbers:
        """Numbers of all nodes above some nodes, ascending."""
        return np.setdiff1d(self._reached(numbers, "parents"), numbers)

    def _reached(self, layer: Numbers, direction: str) -> Numbers:
        layers = [layer]
        for _ in self.levels[1:]:
            layers.append(each_once(self._all_neighbours(layers[-1], direction)))
        return each_once(np.concatenate(layers))

    def _all_neighbours(self, numbers: Numbers, direction: str) -> Numbers:
        """Numbers of the `children` or `parents` of several nodes, those of the first node first."""
        offsets, targets = self._arrays[f"{direction}_offsets.npy"], self._arrays[f"{direction}.npy"]
        reached: Numbers = targets[ranges(offsets, numbers)].astype(np.int64)
        return reached

    def at_home_in(self, numbers: Numbers) -> Numbers:
        """Numbers, ascending, of the nodes whose home is one of some nodes."""
        sizes = sizes_of(self._arrays["children_offsets.npy"], numbers)
        children = self._all_neighbours(numbers, "children")
        return np.unique(children[self.homes[children] == np.repeat(numbers, sizes)])

    def parents_of(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """The parents of several nodes, those of the first first, and for each the place of its child in `numbers`."""
        sizes = sizes_of(self._arrays["parents_offsets.npy"], numbers)
        return self._all_neighbours(numbers, "parents"), np.repeat(np.arange(len(numbers)), sizes)

    def leaves(self, node: str) -> list[Node]:
        """The chunks under a node in document order; of a chunk, itself. Raises NoSuchNode."""
        return [self.at(int(i)) for i in self.below(self.number_of(node)) if i < self.levels[0]]

    # -- documents and their text ------------------------------------------------------------------------

    @cached_property
    def documents(self) -> Documents:
        """All documents in order; each is parsed when it is first asked for."""
        a, path = self._arrays, self.store.folder / "documents.jsonl"
        return Documents(self.store.lines, a["documents_lines.npy"], a["documents_order.npy"], path)

    def document(self, doc: str) -> Document:
        """The document with this id. Raises NoSuchNode."""
        return self.documents[self.document_number(doc)]

    def has_document(self, doc: str) -> bool:
        """Whether there is a document with this id."""
        return self.documents.number(doc) is not None

    def document_number(self, doc: str) -> int:
        """The number of the document with this id. Raises NoSuchNode, which names a similar id."""
        number = self.documents.number(doc) if isinstance(doc, str) else None
        if number is None:
            raise self._no_document(doc)
        return number

    def documents_named(self, name: str) -> Numbers:
        """Numbers, ascending, of the documents that a name stands for: an id, or a folder, a pattern or a file (see
        `Documents.named`). Raises NoSuchNode, which names a similar id, where it stands for none."""
        numbers = self.documents.named(name) if isinstance(name, str) else ()
        if not len(numbers):
            raise self._no_document(name)
        return np.asarray(numbers)

    def _no_document(self, name: object) -> NoSuchNode:
        documents, told = self.documents, str(name)
        near = documents.nearest_id(told) or documents.nearest_id(PurePath(told).name)
        there = "is" if len(documents) == 1 else "are"
        held = f"there {there} {count(len(documents), 'document')}"
        hint = f"did you mean {near!r}?" if near else held
        return NoSuchNode(f"no document {told[:80]!r}; {hint}")

    def _outline(self, number: int) -> Outline:
        """The headings and pages of the document with this number."""
        document = self.documents[number]
        alone = (
            len(self.documents) == 1 and document.title == document.id
        )  # a text file has its name beside it
        return Outline(replace(document, title="") if alone else document)

    def document_leaves(self, number: int) -> range:
        """Numbers of the chunks of the document with this number, which follow one another."""
        column = self.leaf_documents
        return range(int(np.searchsorted(column, number)), int(np.searchsorted(column, number, side="right")))

    def chunks_of(self, documents: Numbers) -> Numbers:
        """Numbers, ascending, of the chunks of some documents."""
        return np.flatnonzero(np.isin(self.leaf_documents, documents))

    def document_at(self, places: Numbers) -> Numbers:
        """The number of the document in which each of some bytes of text.bin stands."""
        return np.searchsorted(self.document_borders[:-1], places, side="right") - 1

    def chunk_at(self, places: Numbers) -> Numbers:
        """The number of the chunk in which each of some bytes of text.bin stands; of their end, the last."""
        return np.searchsorted(self.leaf_starts, places, side="right") - 1

    def documents_in_parts(self) -> Iterator[range]:
        """Numbers of all documents in the parts in which they are best read one after another."""
        yield range(len(self.documents))

    def in_parts(self, chunks: Numbers | None) -> Iterator[Numbers]:
        """Some chunks, ascending, or all of them, in the parts in which they are best read one after another."""
        yield self.numbers(self.level_range(0)) if chunks is None else chunks

    def document_text(self, doc: str) -> str:
        """A document's whole canonical text. Raises NoSuchNode."""
        return self.bytes_text(*self.document_bytes(self.document_number(doc)))

    def span_text(self, span: Span) -> str:
        """The characters of a span, cut to its document as slicing does. Raises NoSuchNode."""
        d = self.document_number(span.doc)
        start, end, _ = slice(span.start, span.end).indices(self.documents[d].chars)
        if start >= end:
            return ""
        base = self._char(self.document_bytes(d)[0])
        return self.bytes_text(self._byte(base + start), self._byte(base + end))

    def page(self, span: Span) -> int | None:
        """The page, from 1, on which a span starts; None where the document has no pages."""
        return self.outline(self.document_number(span.doc)).page(span.start)

    def section(self, span: Span) -> tuple[str, ...]:
        """The headings over a span's start, outermost first; () where there is none before it."""
        return self.outline(self.document_number(span.doc)).path(span.start)

    def place(self, span: Span) -> str:
        """The title, headings and page of a span's start, in words: `Title › Section, page 3`. Raises NoSuchNode."""
        return self.outline(self.document_number(span.doc)).place(span.start)

    @cached_property
    def alike(self) -> npt.NDArray[np.int32]:
        """The number of the first document that says nearly the same as each, its own for none; (documents,) int32."""
        own = np.arange(len(self.documents), dtype=np.int32)
        return self._arrays.get(ALIKE, own)

    @property
    def has_copies(self) -> bool:
        """Whether some documents say nearly the same."""
        return ALIKE in self._arrays

    def copies(self, number: int) -> list[int]:
        """Numbers of the other documents that say nearly the same as the one with this number."""
        return [n for n in np.flatnonzero(self.alike == self.alike[number]).tolist() if n != number]

    def bytes_text(self, start: int, end: int) -> str:
        """The text of the bytes start:end of text.bin."""
        return _decoded(self.store.text, start, end)

    # -- the corpus as one text: documents one after another ---------------------------------------------

    @property
    def chars(self) -> int:
        """Characters of all documents together."""
        return self._char(len(self.store.text))

    def slice(self, start: int, end: int) -> str:
        """Characters start:end of all documents' texts one after another, 0 <= start <= end <= chars."""
        return self.bytes_text(self._byte(start), self._byte(end)) if start < end else ""

    def span_of_bytes(self, document: int, start: int, end: int) -> Span:
        """The bytes start:end of text.bin as characters of the document with this number, in which they lie."""
        base, facts = self._char(self.document_bytes(document)[0]), self.documents[document]
        span = Span(facts.id, self._char(start) - base, self._char(end) - base)
        if not 0 <= span.start <= span.end <= facts.chars:
            raise BrokenIndex(
                f"the characters of document {facts.id!r} are miscounted; run raptor verify {self.path}"
            )
        return span

    @cached_property
    def leaf_chars(self) -> Numbers:
        """How many characters each chunk has, (n0,)."""
        marks, rows = self._arrays["text_marks.npy"], self.rows[: self.levels[0]]
        ends = (chars_at(self.store.text, marks, rows[side].astype(np.int64)) for side in ("end", "start"))
        return np.asarray(next(ends) - next(ends))

    def document_bytes(self, number: int) -> tuple[int, int]:
        """Where the document with this number lies in text.bin."""
        return int(self._borders[number]), int(self._borders[number + 1])

    @property
    def document_borders(self) -> npt.NDArray[np.int64]:
        """Where each document begins in text.bin, and the end of the last, (documents + 1,) int64, ascending."""
        return self._borders

    def byte_of(self, document: int, char: int) -> int:
        """Where a character of the document with this number begins in text.bin."""
        low, high = self.document_bytes(document)
        return min(max(self._byte(self._char(low) + char), low), high)

    def node_bytes(self, number: int) -> tuple[int, int]:
        """Where the chunk with this number lies in text.bin."""
        _, _, start, end, *_ = self._row(number)
        return start, end

    def corpus_chars(self, number: int) -> tuple[int, int]:
        """Where the characters of the chunk with this number lie in the corpus as one text."""
        start, end = self.node_bytes(number)
        return self._char(start), self._char(end)

    @property
    def text_bytes(self) -> npt.NDArray[np.uint8]:
        """The bytes of text.bin: all documents one after another in UTF-8."""
        return self.store.text

    # -- what is read once, when first wanted ------------------------------------------------------------

    def _char(self, byte: int) -> int:
        return char_at(self.store.text, self._arrays["text_marks.npy"], byte)

    def _byte(self, char: int) -> int:
        return byte_at(self.store.text, self._arrays["text_marks.npy"], char)

    @cached_property
    def leaf_documents(self) -> npt.NDArray[np.int32]:
        """The document number of each chunk, (n0,) int32, ascending."""
        return np.ascontiguousarray(self.rows["document"][: self.levels[0]])

    @cached_property
    def leaf_starts(self) -> npt.NDArray[np.int64]:
        """Where each chunk begins in text.bin, (n0,) int64, ascending."""
        return np.ascontiguousarray(self.rows["start"][: self.levels[0]])

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """The vectors of all nodes, (n, dim) float32 unit rows; dim is 0 where the tree has none."""
        return self._arrays["vectors.npy"]

    def nearest(self, vector: Floats, nodes: Numbers, count: int) -> Numbers:
        """Those of `nodes`, ascending, to compare with a vector (dim,) where about the `count` nearest are wanted: all,
        unless there is an inverted file and `nodes` are many and whole levels."""
        levels = whole_levels(self.levels, nodes) if len(nodes) > vectors.EXACT_NODES else None
        if levels is None or self.inverted_file is None or not len(levels):
            return nodes
        return near(self.inverted_file, vector, levels, max(count, vectors.COMPARED))

    def embed_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """The (n, dim) float32 unit rows of n queries. Raises BadQuery: an Index has an embedder, a tree alone none."""
        raise BadQuery(
            f"{self.path} has no embedder; give the query's vector, or search by words (mode lexical)"
        )

    @cached_property
    def lexicon(self) -> Lexicon:
        """What lexical search reads. For a text in memory it is made here, which takes seconds for a large one."""
        a = self._arrays
        if "lexical/scores.npy" not in a:
            scores, nodes, offsets, words = columns(map(self.text_at, range(self.levels[0])))
            return Lexicon(scores, nodes, offsets, self.path, self.levels[0], words)
        return Lexicon(
            a["lexical/scores.npy"],
            a["lexical/nodes.npy"],
            a["lexical/offsets.npy"],
            self.store.folder / "lexical" / "words.txt",
            self.levels[0],
            lengths=a.get(LENGTHS),
        )

    def by_words(self, query: str, nodes: Numbers) -> Floats:
        """The BM25 score of every node, (n,) float32, or of as many as it takes for those of `nodes`; else 0."""
        return self.lexicon.score(query, len(self))

    @cached_property
    def names(self) -> Names | None:
        """Which chunk bears which name; None for a text file, and an index of before names were kept."""
        if "names/bearers.npy" not in self._arrays:
            return None
        arrays = {Path(n).stem: self._arrays[n] for n in self._arrays if n.startswith("names/")}
        return Names(arrays, self.store.folder / "names" / "names.txt", self.levels[0])

    @cached_property
    def inverted_file(self) -> InvertedFile | None:
        """What dense search reads where there are many nodes; None where there are few. Raises BrokenIndex."""
        if "ivf/nodes.npy" not in self._arrays:
            return None
        inverted = InvertedFile(
            **{Path(n).stem: self._arrays[n] for n in self._arrays if n.startswith("ivf/")}
        )
        if not inverted.fits(len(self), self.vectors.shape[1], len(self.levels)):
            raise BrokenIndex(f"{self.store.folder / 'ivf'} does not fit the index; build it again")
        return inverted


def _decoded(blob: Bytes, start: int, end: int, most: int | None = None) -> str:
    """The text of the bytes start:end, of the first `most` of them where that is given."""
    if most is None or end - start <= most:
        return blob[start:end].tobytes().decode("utf-8", "replace")
    return blob[start : start + most].tobytes().decode("utf-8", "ignore")  # a character may be cut in two
