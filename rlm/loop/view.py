"""The part of an index that one conversation may see, all or a branch: as nodes, as documents, and as one text."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice

from index_store.index import Index
from index_store.types import Json, Span

WINDOW_BYTES = 16 << 20
#: A longer text is not sent to a worker whole. As JSON, where a byte becomes six at most, this much fits into one frame
#: and leaves the worker's code memory to work in.
WHOLE_BYTES = 10 << 20


class View:
    """The branch below the node `under`, or the whole tree.

    `root`: the number of its top node. `chunks`: the numbers of its chunks, ascending. `documents`: the numbers of the
    documents that these chunks are from, ascending. All are numbers in the index.
    Raises NoSuchNode where the index has no node `under`.
    """

    def __init__(self, index: Index, under: str | None = None) -> None:
        self.index, self.under = index, under
        self.root = len(index) - 1 if under is None else index.number_of(under)
        self._inside = None if self.root == len(index) - 1 else frozenset(index.below(self.root).tolist())
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

    def intro(self) -> dict[str, Json]:
        """What a worker is sent at its start: {"context_text"} of a plain text that fits, else {"context_length"}."""
        if not self.index.is_plain or self.bytes > WHOLE_BYTES:
            return {"context_length": self.chars}
        return {"context_text": self.text(0, self.chars)}

    def passages(self) -> Iterator[tuple[str, str]]:
        """(id, text) of each chunk in this view, in order."""
        return ((self.index.id_of(number), self.index.text_at(number)) for number in self.chunks)

    def _chunks(self) -> Sequence[int]:
        chunks = self.index.levels[0]
        return range(chunks) if self._inside is None else sorted(n for n in self._inside if n < chunks)

    def _documents(self) -> Sequence[int]:
        if self.is_whole:
            return range(len(self.index.documents))
        return sorted({int(self.index.leaf_documents[number]) for number in self.chunks})

    # -- the tree ----------------------------------------------------------------------------------------

    def parents(self, number: int) -> list[int]:
        """The numbers of a node's parents that are in this view; [] for the view's root."""
        if number == self.root:
            return []
        return [parent for parent in self.index.neighbours(number, "parents") if parent in self]

    def first_parent(self, number: int) -> int | None:
        """The first parent in this view; for the view's root its first in the index; None for the index's root."""
        parents = self.parents(number) or self.index.neighbours(number, "parents")
        return parents[0] if parents else None

    def siblings(self, number: int, most: int) -> tuple[int | None, list[int]]:
        """(the first parent in this view or None, at most `most` of its other children)."""
        parent = next(iter(self.parents(number)), None)
        children = [] if parent is None else self.index.neighbours(parent, "children")
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
        return (end - start for start, end in map(self.index.corpus_chars, self.chunks))

    @cached_property
    def bytes(self) -> int:
        """Bytes of text in this view."""
        if self.is_whole:
            return len(self.index.text_bytes)
        return sum(end - start for start, end in map(self.index.node_bytes, self.chunks))
