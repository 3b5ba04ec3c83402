"""The part of an index that may be seen, all or a branch or a scope: as nodes, as documents, and as one text."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, groupby, islice

import numpy as np
import numpy.typing as npt

from index_store.areas import Homes, Read, levels_read
from index_store.branches import Branch, best_branches, held_at_home
from index_store.errors import BadQuery
from index_store.gathering import Evidence, Piece, evidence_for, gather
from index_store.grep import Grep
from index_store.index import Index
from index_store.search import chunks_in
from index_store.types import Check, Hit, Mode, Scope, Span, unchecked
from index_store.vectors import cosines

WINDOW_BYTES = 16 << 20
CHARS_A_TOKEN = 4  # about, in English

Numbers = npt.NDArray[np.int64]


class View:
    """The branch below the node `under`, or the whole tree, and of it what is in a scope.

    In view are the chunks in the scope, and every summary of one. A summary of other chunks too is no text to read: it
    is a place on the way. `root`: the number of its top node. `chunks`: the numbers of its chunks, ascending.
    `documents`: the numbers of the documents that these chunks are from, ascending. All are numbers in the index.
    Raises NoSuchNode where the index has no node `under`, BadQuery where there is no text in the scope.
    """

    def __init__(self, index: Index, under: str | None = None, scope: Scope = Scope()) -> None:
        self.index, self.under, self.scope = index, under, scope
        self.root = len(index) - 1 if under is None else index.number_of(under)
        self._within = None if scope.is_all else self._in_scope(index)
        self._inside = self._in_view()
        self.chunks = self._chunks()
        self.documents = self._documents()
        self._ends = [] if self.is_whole else list(accumulate(self._chunk_lengths(), initial=0))

    @property
    def is_whole(self) -> bool:
        """Whether the view is all of the index."""
        return self._inside is None

    @property
    def chars(self) -> int:
        """Characters of text in this view."""
        return self.index.chars if self.is_whole else self._ends[-1]

    @property
    def size(self) -> int:
        """How many nodes are in this view."""
        return len(self.index) if self._inside is None else len(self._inside)

    def __contains__(self, number: int) -> bool:
        return self._inside is None or number in self._inside

    def is_text(self, number: int) -> bool:
        """Whether the text of a node in view is about nothing outside the scope."""
        return self._texts is None or number in self._texts

    def passages(self) -> Iterator[tuple[str, str]]:
        """(id, text) of each chunk in this view, in order."""
        return ((self.index.id_of(number), self.index.text_at(number)) for number in self.chunks)

    def _in_scope(self, index: Index) -> Numbers:
        """Numbers, ascending, of the nodes whose text is in the scope: its chunks, and summaries of nothing else."""
        chunks = chunks_in(index, self.scope)
        others = np.setdiff1d(index.numbers(index.level_range(0)), chunks, assume_unique=True)
        summaries = np.setdiff1d(index.numbers(range(index.levels[0], len(index))), index.above(others))
        return np.concatenate([chunks, summaries])

    def _in_view(self) -> frozenset[int] | None:
        if self._chunks_within is None and self.root == len(self.index) - 1:
            return None
        below = self.index.below(self.root)
        if self._chunks_within is None:
            return frozenset(below.tolist())
        chunks = np.intersect1d(below, self._chunks_within)
        if not len(chunks):
            raise BadQuery(f"there is no text in the scope under {self.under}; give a wider one")
        above = np.intersect1d(below, self.index.above(chunks))
        return frozenset([*chunks.tolist(), *above.tolist()])

    @cached_property
    def _chunks_within(self) -> Numbers | None:
        return None if self._within is None else self._within[self._within < self.index.levels[0]]

    @cached_property
    def _texts(self) -> frozenset[int] | None:
        return None if self._within is None else frozenset(self._within.tolist())

    def _chunks(self) -> Sequence[int]:
        chunks = self.index.levels[0]
        return range(chunks) if self._inside is None else sorted(n for n in self._inside if n < chunks)

    def _documents(self) -> Sequence[int]:
        if self.is_whole:
            return range(len(self.index.documents))
        found: list[int] = np.unique(
            self.index.leaf_documents[np.asarray(self.chunks, dtype=np.int64)]
        ).tolist()
        return found

    # -- what is asked of the index, within the view -----------------------------------------------------

    def search(
        self,
        query: str,
        k: int,
        *,
        mode: Mode = "hybrid",
        level: int | None = None,
        under: str | None = None,
        doc: str | None = None,
        where: Mapping[str, str] | None = None,
        section: str | None = None,
        fold: bool = True,
        check: Check = unchecked,
    ) -> list[Hit]:
        """As `Index.search`, of what is in this view."""
        return self.index.search(
            query,
            k,
            mode=mode,
            level=level,
            under=self.under if under is None else under,
            doc=doc,
            where=where,
            section=section,
            within=self._within,
            fold=fold,
            check=check,
        )

    def grep(
        self,
        pattern: str,
        *,
        under: str | None = None,
        doc: str | None = None,
        ignore_case: bool = False,
        limit: int = 50,
        count_to: int = 10_000,
        count_s: float = math.inf,
        check: Check = unchecked,
    ) -> Grep:
        """As `Index.grep`, of what is in this view."""
        return self.index.grep(
            pattern,
            under=self.under if under is None else under,
            doc=doc,
            ignore_case=ignore_case,
            limit=limit,
            count_to=count_to,
            count_s=count_s,
            within=self._chunks_within,
            check=check,
        )

    def evidence_for(self, question: str, under: Sequence[int] = ()) -> Evidence:
        """The evidence for a question among the chunks in this view, or in the branches below the nodes `under`."""
        chunks = np.asarray(self.chunks, dtype=np.int64)
        if under:
            below = np.unique(np.concatenate([self.index.below(number) for number in under]))
            chunks = np.intersect1d(chunks, below, assume_unique=True)
        vector = self.index.embed_queries([question])[0] if self.index.vectors.shape[1] else None
        return evidence_for(self.index, question, chunks, vector)

    def best_branches(self, question: str, under: int | None, k: int) -> list[Branch]:
        """The `k` branches of the view, or below `under`, that hold the most evidence for a question, most first."""
        evidence = self.evidence_for(question, () if under is None else (under,))
        top = self.root if under is None else under
        return best_branches(self.index, top, evidence.chunks, evidence.shares, k, self.__contains__)

    def gather(self, question: str, under: Sequence[int], chars: int) -> list[Piece]:
        """As `gathering.gather`, of the chunks in this view or below `under`, and of summaries that may be read."""
        return gather(self.index, self.evidence_for(question, under), chars, self.is_text)

    def levels_read(self, question: str, under: int | None, chars: int) -> list[Read]:
        """What to read of the upper levels of the view, or below `under`, in so many characters.

        An area gets room by its size, and where there is a question half by its share of the evidence.
        """
        top = self.root if under is None else under
        homes = Homes(self.index, np.asarray(self.chunks, dtype=np.int64))
        weights = homes.chars / max(float(homes.chars[top]), 1.0)
        if question:
            evidence = self.evidence_for(question, () if under is None else (under,))
            weights = (weights + held_at_home(self.index, evidence.chunks, evidence.shares)) / 2
        return levels_read(homes, top, chars, len, weights=weights, readable=self.is_text, unit=CHARS_A_TOKEN)

    def centres(self, areas: Sequence[int]) -> list[int]:
        """For each of some areas of the view the chunk at home in it whose vector is nearest to the area's own."""
        homes, vectors = Homes(self.index, np.asarray(self.chunks, dtype=np.int64)), self.index.vectors
        chunks = map(homes.chunks, areas)
        return [
            int(own[cosines(vectors, own, vectors[area]).argmax()])
            for area, own in zip(areas, chunks, strict=True)
        ]

    def spans_of(self, doc: str) -> list[Span]:
        """The unbroken stretches of a document that are in this view, in order. Raises NoSuchNode."""
        number = self.index.document_number(doc)
        if self.is_whole:
            return [Span(doc, 0, self.index.documents[number].chars)]
        leaves = [leaf for leaf in self.index.document_leaves(number) if leaf in self]
        stretches = groupby(enumerate(leaves), key=lambda pair: pair[1] - pair[0])
        runs = [[leaf for _, leaf in run] for _, run in stretches]
        return [Span(doc, self._span(run[0]).start, self._span(run[-1]).end) for run in runs]

    # -- the tree ----------------------------------------------------------------------------------------

    def children(self, number: int) -> list[int]:
        """The numbers of a node's children that are in this view, ascending."""
        return [child for child in self.index.neighbours(number, "children") if child in self]

    def parents(self, number: int) -> list[int]:
        """The numbers of a node's parents that are in this view, its home first; [] for the view's root."""
        if number == self.root:
            return []
        parents = [parent for parent in self.index.neighbours(number, "parents") if parent in self]
        home = self.index.home(number)
        return sorted(parents, key=lambda parent: (parent != home, parent))

    def first_parent(self, number: int) -> int | None:
        """The node's home, else its first parent in this view; for the view's root its home in the index, if any."""
        return next(iter(self.parents(number)), self.index.home(number))

    def siblings(self, number: int, most: int) -> tuple[int | None, list[int]]:
        """(the first parent in this view or None, at most `most` of its other children)."""
        parent = next(iter(self.parents(number)), None)
        children = [] if parent is None else self.children(parent)
        return parent, list(islice((child for child in children if child != number), most))

    def chunks_of(self, span: Span) -> list[int]:
        """Numbers of the chunks that overlap a span, in the view or not."""
        chunks = self.index.document_leaves(self.index.document_number(span.doc))
        first = bisect_right(chunks, span.start, key=lambda number: self._span(number).end)
        past = bisect_right(chunks, span.end - 1, key=lambda number: self._span(number).start)
        return list(chunks[first:past])

    def _span(self, number: int) -> Span:
        return self.index.span_at(number) or Span("", 0, 0)

    # -- as one text: the view's chunks one after another ------------------------------------------------

    def text(self, start: int, end: int) -> str:
        """Characters start:end of the view's text."""
        if self.is_whole:
            return self.index.slice(start, end)
        chunks = self.chunks_between(start, end)
        return "".join(self._part(chunk, start - low, min(end, high) - low) for chunk, low, high in chunks)

    def chunks_between(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(number, start, end) of each chunk that overlaps characters start:end, all places in the view's text."""
        places = range(len(self.chunks))
        for place in places[bisect_right(places, start, key=lambda p: self._place(p)[1]) :]:
            low, high = self._place(place)
            if low >= end:
                return
            yield self.chunks[place], low, high

    def windows(self, overlap: int) -> Iterator[bytearray]:
        """The bytes of the view's text, in order; each window begins with the last `overlap` bytes of the one before.

        A window has WINDOW_BYTES, or twice `overlap` where that is more, so that no byte is in more than two of them.
        It is valid until the next one is asked for.
        """
        text, most = self.index.text_bytes, max(WINDOW_BYTES, 2 * overlap)
        ranges = [(0, len(text))] if self.is_whole else map(self.index.node_bytes, self.chunks)
        window = bytearray()
        for low, high in ranges:
            while low < high:
                step = min(high - low, most - len(window))
                window += text[low : low + step].data
                low += step
                if len(window) == most:
                    yield window
                    del window[: most - overlap]
        yield window

    def _place(self, place: int) -> tuple[int, int]:
        """(start, end) in the view's text of its chunk at `place` in `chunks`."""
        start, end = self.index.corpus_chars(self.chunks[place])
        return (start, end) if self.is_whole else (self._ends[place], self._ends[place + 1])

    def _part(self, chunk: int, start: int, end: int) -> str:
        base = self.index.corpus_chars(chunk)[0]
        return self.index.slice(base + max(start, 0), base + end)

    def _chunk_lengths(self) -> Iterator[int]:
        return iter(self.index.leaf_chars[np.asarray(self.chunks, dtype=np.int64)].tolist())

    @cached_property
    def bytes(self) -> int:
        """Bytes of text in this view."""
        if self.is_whole:
            return len(self.index.text_bytes)
        rows = self.index.rows[np.asarray(self.chunks, dtype=np.int64)]
        return int((rows["end"] - rows["start"]).sum())
