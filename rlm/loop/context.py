"""The verbs a model has over the tree. They run in the parent: checked, recorded, then answered.

Each is a plain function with JSON in and JSON out, so the same verbs serve a sandbox, a person and a test.
"""

import inspect
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any, cast

from index_store.errors import IndexStoreError
from index_store.index import Index
from index_store.search import Mode
from index_store.types import Node, Span

Json = Any
#: Told (verb, arguments, shown, not_taken, result, error) for every use of a verb.
Visit = Callable[[str, dict[str, Json], list[Json], list[Json], Json, str], None]

# fmt: off
VERBS = (
    "overview", "documents", "peek", "children", "parents", "path", "leaves", "packs", "read", "grep", "search",
    "slice", "contains", "text", "length",
)
# fmt: on
HEAD_CHARS = 400
SNIPPET_CHARS = 200
READ_CHARS = 200_000
QUERY_CHARS = 10_000
LIST_NODES = 500
PACK_NODES = 50_000
PACK_TOKENS = 8_000
LIST_DOCUMENTS = 10_000
MAX_HITS = 200
SIBLINGS = 60
WINDOW_BYTES = 16 << 20
#: As JSON a byte becomes six at most: so much fits into a worker's frame, and leaves its code memory to work in.
WHOLE_BYTES = 10 << 20
#: For the trace.
GIVEN_WHOLE = "the text is given to the worker whole: what its code reads of it without a verb is no visit"


class Refused(Exception):
    """A verb that cannot be answered as asked; the text is for the model."""


class Context:
    """One conversation's view of an index: the whole tree, or the branch below `under`."""

    def __init__(self, index: Index, visit: Visit, under: str | None = None) -> None:
        self.index, self.under, self._visit = index, under, visit
        self._root = len(index) - 1 if under is None else index.number_of(under)
        self._inside = None if self._root == len(index) - 1 else frozenset(index.below(self._root).tolist())
        self._chunks = self._chunk_numbers()
        self._doc_numbers = self._document_numbers()
        self._ends = [] if self._inside is None else list(accumulate(self._chunk_lengths(), initial=0))
        self._verbs: dict[str, Callable[..., Json]] = {name: getattr(self, f"_{name}") for name in VERBS}
        self._shown: list[Json] = []
        self._entered: int | None = None

    # -- what the outside needs to know ------------------------------------------------------------------

    @property
    def chars(self) -> int:
        """Characters of text in this view."""
        return self.index.chars if self._inside is None else self._ends[-1]

    @property
    def nodes(self) -> int:
        return len(self.index) if self._inside is None else len(self._inside)

    @property
    def docs(self) -> int:
        return len(self._doc_numbers)

    def intro(self) -> dict[str, Json]:
        """What a worker is given of this view at its start: a plain text whole, where it fits, else its length."""
        if not self.index.is_plain or self._bytes() > WHOLE_BYTES:
            return {"context_length": self.chars}
        return {"context_text": self._slice_of(0, self.chars)}

    def chunks(self) -> Iterator[tuple[str, str]]:
        """(node, text) of each chunk in this view, in order."""
        return ((self.index.id_of(n), self.index.text_at(n)) for n in self._chunks)

    def _bytes(self) -> int:
        """Bytes of text in this view."""
        if self._inside is None:
            return len(self.index.text_bytes)
        return sum(end - start for start, end in map(self.index.node_bytes, self._chunks))

    def passage(self, place: Json) -> tuple[str, str]:
        """(name, text) of a node id, of a list entry with one, or of {"doc", "start", "end"}; raises Refused."""
        if isinstance(place, Mapping) and "node" in place:
            place = place["node"]
        if isinstance(place, Mapping):
            span = self._span(place.get("doc"), place.get("start"), place.get("end"))
            return f"{span.doc} {span.start}-{span.end}".replace("\n", " "), self.index.span_text(span)
        number = self._number(place)
        return self.index.id_of(number), self.index.text_at(number)

    def serve(self, verb: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        """Answer one use of a verb and record it, refused or not. Raises Refused with a text for the model."""
        self._shown, self._entered = [], None
        arguments: dict[str, Json] = {}
        try:
            if verb not in self._verbs:
                raise Refused(f"context has no verb {str(verb)[:40]!r}; it has {', '.join(VERBS)}")
            method = self._verbs[verb]
            arguments = bind(f"context.{verb}", method, args, kwargs)
            result = method(**arguments)
        except (Refused, IndexStoreError) as e:
            self._visit(verb, _named(arguments, args, kwargs), [], [], None, str(e))
            raise Refused(str(e)) from e
        self._visit(verb, arguments, self._shown, self._siblings(), result, "")
        return result

    # -- the verbs ---------------------------------------------------------------------------------------

    def _overview(self) -> Json:
        top = self._enter(self._root)
        below = self.index.neighbours(self._root, "children")
        return {
            "documents": self.docs,
            "nodes": self.nodes,
            "characters": self.chars,
            "levels": list(self.index.levels) if self._inside is None else None,
            "root": top,
            "summary": self.index.text_at(self._root)[: 4 * HEAD_CHARS],
            "children": self._views(below, parent=self._root),
        }

    def _documents(self, limit: int = LIST_DOCUMENTS) -> Json:
        wanted = self._doc_numbers[: _at_most(limit, LIST_DOCUMENTS, "limit")]
        documents = [self.index.documents[d] for d in wanted]
        return [{"doc": d.id, "title": d.title, "chars": d.chars, "pages": len(d.pages)} for d in documents]

    def _peek(self, node: str) -> Json:
        number = self._number(node)
        text = self.index.text_at(number)
        view = self._enter(number) | {"text": text[:HEAD_CHARS], "chars": len(text)}
        return view | {"children": len(self.index.neighbours(number, "children"))}

    def _children(self, node: str) -> Json:
        number = self._number(node)
        self._entered = number
        return self._views(self.index.neighbours(number, "children"), parent=number)

    def _parents(self, node: str) -> Json:
        return self._views(self._above(self._number(node)))

    def _path(self, node: str) -> Json:
        steps = [self._number(node)]
        for _ in self.index.levels:
            steps += self._above(steps[-1])[:1]
        return self._views(reversed(list(dict.fromkeys(steps))))

    def _leaves(self, node: str, limit: int = LIST_NODES) -> Json:
        number = self._number(node)
        self._entered = number
        below = self.index.below(number)
        leaves = below[below < self.index.levels[0]]
        return self._views(leaves[: _at_most(limit, LIST_NODES, "limit")].tolist())

    def _packs(
        self, tokens: int = PACK_TOKENS, nodes: Sequence[Json] | None = None, under: str | None = None
    ) -> Json:
        """All chunks, or those named, in order, in lists that hold so many tokens at most: a prompt's worth each."""
        most = _at_most(tokens, READ_CHARS, "tokens")
        wanted = self._chunks_to_pack(nodes, under)
        if len(wanted) > PACK_NODES:
            raise Refused(f"{len(wanted):,} chunks to pack, at most {PACK_NODES:,}; give under=, a branch")
        packs: list[list[str]] = []
        left = 0
        for number, size in zip(wanted, self.index.rows["tokens"][wanted].tolist(), strict=True):
            if size > left or not packs:
                packs.append([])
                left = most
            packs[-1].append(self.index.id_of(number))
            left -= size
        return packs

    def _chunks_to_pack(self, nodes: Sequence[Json] | None, under: str | None) -> list[int]:
        if nodes is not None:
            if not isinstance(nodes, list | tuple):
                raise Refused(f'nodes is a list such as ["L0-00012"], found {type(nodes).__name__}')
            return [self._number(node) for node in dict.fromkeys(nodes)]
        branch = self.branch(under)
        if branch is None:
            return list(range(self.index.levels[0]))
        below = self.index.below(self.index.number_of(branch))
        return sorted(below[below < self.index.levels[0]].tolist())

    def _read(self, node: Json, start: int | None = None, end: int | None = None) -> Json:
        if isinstance(node, list) and start is end is None:
            return self._read_all(node)
        if isinstance(node, Mapping) or start is not None or end is not None:
            place = node if isinstance(node, Mapping) else {"doc": node, "start": start, "end": end}
            span = self._span(place.get("doc"), place.get("start"), place.get("end"))
            self._views(self._leaves_of(span))
            return self.index.span_text(span)
        number = self._number(node)
        self._enter(number)
        return self.index.text_at(number)

    def _read_all(self, nodes: list[Json]) -> list[str]:
        """The texts of several nodes or spans, in order: one visit, and together no more than one text may hold."""
        if len(nodes) > LIST_NODES:
            raise Refused(f"{len(nodes):,} nodes to read at once, at most {LIST_NODES}; read fewer, or grep")
        if any(isinstance(node, list) for node in nodes):
            raise Refused('read takes a node, or a list of nodes such as ["L0-00012", "L0-00013"]')
        texts: list[str] = []
        for node in nodes:
            texts.append(self._read(node))
            if sum(map(len, texts)) > READ_CHARS:
                raise Refused(
                    f"these {len(nodes)} texts hold more than {READ_CHARS:,} characters; read fewer"
                )
        return texts

    def _grep(
        self,
        pattern: str,
        under: str | None = None,
        doc: str | None = None,
        ignore_case: bool = False,
        limit: int = 50,
    ) -> Json:
        found = self.index.grep(
            _text("pattern", pattern),
            under=self.branch(under),
            doc=self._doc(doc),
            ignore_case=bool(ignore_case),
            limit=_at_most(limit, MAX_HITS, "limit"),
            count_to=_at_most(limit, MAX_HITS, "limit"),
        )
        for match in found.matches:
            self._show(self.index.number_of(match.node))
        return [{"node": m.node, **_place(m.span), "line": m.line} for m in found.matches]

    def _search(
        self,
        query: str,
        k: int = 10,
        level: int | None = 0,
        under: str | None = None,
        doc: str | None = None,
        mode: str | None = None,
        where: Json = None,
        section: str | None = None,
    ) -> Json:
        if level is not None and type(level) is not int:
            raise Refused(f"level is a whole number or None, found {_brief(level)}")
        if len(_text("query", query)) > QUERY_CHARS:
            raise Refused(
                f"the query has {len(query):,} characters, at most {QUERY_CHARS:,}; ask in a few words"
            )
        query = query.encode("utf-8", "replace").decode()  # half a surrogate pair is no text to an embedder
        hits = self.index.search(
            query,
            _at_most(k, MAX_HITS, "k"),
            mode=cast(Mode, mode) if mode else ("tree" if level is None else "hybrid"),  # it is checked there
            level=level,
            under=self.branch(under),
            doc=self._doc(doc),
            where=_fields(where),
            section=None if section is None else _text("section", section),
        )
        numbers = [self.index.number_of(h.node) for h in hits]
        views = self._views(numbers, scores=[h.score for h in hits])
        texts = [self.index.text_at(n)[:SNIPPET_CHARS] for n in numbers]
        return [view | {"text": text} for view, text in zip(views, texts, strict=True)]

    def _length(self) -> int:
        return self.chars

    def _slice(self, start: int, end: int) -> str:
        """Characters start:end of the view's text, counted from its start, as the worker's `context[a:b]` asks."""
        if not (type(start) is int and type(end) is int and start >= 0):
            raise Refused(f"a slice has two places, 0 or more, found {_brief(start)} and {_brief(end)}")
        end = min(end, self.chars)
        if end - start > READ_CHARS:
            raise Refused(
                f"a slice holds at most {READ_CHARS:,} characters; take smaller slices, or grep and search"
            )
        self._views(leaf for leaf, _, _ in self._between(start, end))
        return self._slice_of(start, end)

    def _text(self) -> str:
        if self.chars > READ_CHARS:
            raise Refused(
                f"the text has {self.chars:,} characters, at most {READ_CHARS:,} can be held at once; "
                "use context.grep, context.search or context[a:b]"
            )
        return self._slice(0, self.chars)

    def _contains(self, text: str) -> bool:
        """Whether the view's text holds `text`, read a window at a time; what lies across two windows counts."""
        wanted = _text("text", text).encode("utf-8", "surrogatepass")
        held = b""
        for window in self._windows():
            held += window
            if wanted in held:
                return True
            held = held[max(len(held) - len(wanted) + 1, 0) :]
        return False

    # -- checking ----------------------------------------------------------------------------------------

    def _number(self, node: Json) -> int:
        if isinstance(node, Mapping) and "node" in node:
            raise Refused('name the node by its id, as in context.peek(hit["node"]), not by the whole entry')
        number = self.index.number_of(_text("node", node))
        if not self._is_inside(number):
            raise Refused(f"node {node} is outside the branch {self.under} that you were given")
        return number

    def _is_inside(self, number: int) -> bool:
        return self._inside is None or number in self._inside

    def branch(self, under: Json) -> str | None:
        """The branch to look under: the one asked for, if it is ours, else the whole view. Raises Refused."""
        return self.under if under is None else self.index.id_of(self._number(under))

    def _doc(self, doc: str | None) -> str | None:
        """The document to look in, if one is asked for and this view holds some of it."""
        if doc is None or self._inside is None:
            return doc if doc is None else self.index.document(_text("doc", doc)).id
        if doc not in (self.index.documents[d].id for d in self._doc_numbers):
            raise Refused(f"no document {_brief(doc)} in the branch {self.under} that you were given")
        return doc

    def _span(self, doc: Json, start: Json, end: Json) -> Span:
        document = self.index.document(str(self._doc(_text("doc", doc))))
        span = Span(document.id, 0 if start is None else start, document.chars if end is None else end)
        if not (type(span.start) is int and type(span.end) is int):
            raise Refused(
                f"start and end are whole numbers of characters, found {_brief(start)} and {_brief(end)}"
            )
        if not 0 <= span.start < span.end <= document.chars:
            asked = f"{_brief(start)} to {_brief(end)}"
            raise Refused(f"{document.id} has characters 0 to {document.chars}, asked for {asked}")
        if span.end - span.start > READ_CHARS:
            raise Refused(f"{span.end - span.start:,} characters asked for, at most {READ_CHARS:,} at once")
        if not all(map(self._is_inside, self._leaves_of(span))):
            asked = f"{document.id} {span.start}-{span.end}"
            raise Refused(f"{asked} reaches outside the branch {self.under} that you were given")
        return span

    def _leaves_of(self, span: Span) -> list[int]:
        """Numbers of the chunks that a span touches."""
        leaves = self.index.document_leaves(self.index.document_number(span.doc))
        first = bisect_right(leaves, span.start, key=lambda n: self._leaf_span(n).end)
        past = bisect_right(leaves, span.end - 1, key=lambda n: self._leaf_span(n).start)
        return list(leaves[first:past])

    def _leaf_span(self, number: int) -> Span:
        return self.index.span_at(number) or Span("", 0, 0)

    # -- the view as one text ----------------------------------------------------------------------------

    def _chunk_numbers(self) -> Sequence[int]:
        chunks = self.index.levels[0]
        return range(chunks) if self._inside is None else sorted(n for n in self._inside if n < chunks)

    def _document_numbers(self) -> Sequence[int]:
        if self._inside is None:
            return range(len(self.index.documents))
        return sorted({int(self.index.leaf_documents[n]) for n in self._chunks})

    def _chunk_lengths(self) -> Iterator[int]:
        return (end - start for start, end in map(self.index.corpus_chars, self._chunks))

    def _place_in_text(self, at: int) -> tuple[int, int]:
        """Where the text of the view's chunk number `at` begins and ends in the view's text."""
        start, end = self.index.corpus_chars(self._chunks[at])
        return (start, end) if self._inside is None else (self._ends[at], self._ends[at + 1])

    def _between(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Each chunk that touches characters start:end of the view, and its place in the view."""
        places = range(len(self._chunks))
        for at in places[bisect_right(places, start, key=lambda i: self._place_in_text(i)[1]) :]:
            low, high = self._place_in_text(at)
            if low >= end:
                return
            yield self._chunks[at], low, high

    def _slice_of(self, start: int, end: int) -> str:
        if self._inside is None:
            return self.index.slice(start, end)
        touched = self._between(start, end)
        return "".join(self._part(leaf, start - low, min(end, high) - low) for leaf, low, high in touched)

    def _part(self, leaf: int, start: int, end: int) -> str:
        base = self.index.corpus_chars(leaf)[0]
        return self.index.slice(base + max(start, 0), base + end)

    def _windows(self) -> Iterator[bytes]:
        """The bytes of the view's text, in order."""
        text = self.index.text_bytes
        whole = [(0, len(text))]
        for low, high in whole if self._inside is None else map(self.index.node_bytes, self._chunks):
            for at in range(low, high, WINDOW_BYTES):
                yield bytes(text[at : min(at + WINDOW_BYTES, high)])

    # -- what is shown, and what was on offer beside it --------------------------------------------------

    def _enter(self, number: int) -> dict[str, Json]:
        self._entered = number
        return self._show(number)

    def _show(self, number: int, score: float | None = None, parent: int | None = None) -> dict[str, Json]:
        view = self._view(number)
        above = self._parent(number) if parent is None else parent
        ref = view | {"parent": None if above is None else self.index.id_of(above)}
        self._shown.append(ref if score is None else ref | {"score": score})
        return view

    def _view(self, number: int) -> dict[str, Json]:
        return node_view(self.index.at(number))

    def _views(
        self, numbers: Iterable[int], scores: Sequence[float] | None = None, parent: int | None = None
    ) -> list[dict[str, Json]]:
        listed = list(numbers)[:LIST_NODES]
        given: Sequence[float | None] = scores or [None] * len(listed)
        views = [self._show(n, s, parent) for n, s in zip(listed, given, strict=False)]
        return [v if s is None else v | {"score": s} for v, s in zip(views, given, strict=False)]

    def _above(self, number: int) -> list[int]:
        """The parents that stand in this view."""
        if number == self._root:
            return []
        return [n for n in self.index.neighbours(number, "parents") if self._is_inside(n)]

    def _parent(self, number: int) -> int | None:
        """For the record: the first parent in this view; for the view's own top, the first there is."""
        above = self._above(number) or self.index.neighbours(number, "parents")
        return above[0] if above else None

    def _siblings(self) -> list[Json]:
        """What else was on offer beside the node that was entered: its parent's other children."""
        above = [] if self._entered is None else self._above(self._entered)[:1]
        children = (n for top in above for n in self.index.neighbours(top, "children"))
        beside = islice((n for n in children if n != self._entered), SIBLINGS)
        return [self._view(n) | {"parent": self.index.id_of(above[0])} for n in beside]


def node_view(node: Node) -> dict[str, Json]:
    """A node as a model sees it in a list."""
    view: dict[str, Json] = {"node": node.id, "level": node.level, "label": node.label}
    return view | (_place(node.span) if node.span else {})


def _place(span: Span) -> dict[str, Json]:
    return {"doc": span.doc, "start": span.start, "end": span.end}


def bind(
    name: str, method: Callable[..., Any], args: Sequence[Json], kwargs: Mapping[str, Json]
) -> dict[str, Json]:
    """A call's arguments by name; raises Refused, with the signature, where they do not fit it."""
    try:
        return dict(inspect.signature(method).bind(*args, **kwargs).arguments)
    except TypeError as e:
        raise Refused(f"{name}{inspect.signature(method)}: {e}") from e


def _named(bound: dict[str, Json], args: Sequence[Json], kwargs: Mapping[str, Json]) -> dict[str, Json]:
    """Arguments for the record; by position where they did not fit the verb."""
    return bound or {str(i): a for i, a in enumerate(args)} | dict(kwargs)


def _text(name: str, value: Json) -> str:
    if not isinstance(value, str):
        raise Refused(f"{name} is text, found {_brief(value)}")
    return value


def _fields(where: Json) -> dict[str, str]:
    """What is asked of documents' metadata, as text, which is how an index keeps it: the year 2021 is "2021"."""
    if where is None:
        return {}
    if not isinstance(where, Mapping):
        raise Refused(f'where is a dict such as {{"year": "2021"}}, found {_brief(where)}')
    if wrong := [name for name, value in where.items() if not isinstance(value, str | int | float)]:
        raise Refused(f"where[{_brief(wrong[0])}] is text or a number, found {_brief(where[wrong[0]])}")
    return {str(name): v if isinstance(v, str) else json.dumps(v) for name, v in where.items()}


def _at_most(value: Json, most: int, name: str) -> int:
    if type(value) is not int or value < 1:
        raise Refused(f"{name} is a whole number of at least 1, found {_brief(value)}")
    return min(value, most)


def _brief(value: Json) -> str:
    """A value in a few characters; never the whole of a hostile one."""
    short = value is None or isinstance(value, str | float) or (type(value) is int and abs(value) < 10**20)
    return repr(value)[:80] if short else type(value).__name__
