"""The verbs a model has over the tree. They run in the parent: checked, recorded, then answered.

Each is a plain function with JSON in and JSON out, so the same verbs serve a sandbox, a person and a test.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from index_store.errors import IndexStoreError
from index_store.reader import Index
from index_store.types import Node, Span

Json = Any
#: Told (verb, arguments, shown, not_taken, result, error) for every use of a verb.
Visit = Callable[[str, dict[str, Json], list[Json], list[Json], Json, str], None]

VERBS = (
    "overview documents peek children parents path leaves read grep search slice contains text length".split()
)
HEAD_CHARS = 400
SNIPPET_CHARS = 200
READ_CHARS = 200_000
LIST_NODES = 500
MAX_HITS = 200
SIBLINGS = 60


class Refused(Exception):
    """A verb that cannot be answered as asked; the text is for the model."""


class Context:
    """One conversation's view of an index: the whole tree, or the branch below `under`."""

    def __init__(self, index: Index, visit: Visit, under: str | None = None) -> None:
        self.index, self.under, self._visit = index, under, visit
        self._root = len(index) - 1 if under is None else index.number_of(under)
        self._inside = None if self._root == len(index) - 1 else frozenset(index.below(self._root).tolist())
        self._stretches = self._text_stretches()
        self._verbs = {name: getattr(self, f"_{name}") for name in VERBS}
        self._shown: list[Json] = []
        self._entered: int | None = None

    # -- what the outside needs to know ------------------------------------------------------------------

    @property
    def chars(self) -> int:
        """Characters of text in this view."""
        return sum(end - start for start, end in self._stretches)

    @property
    def nodes(self) -> int:
        return len(self.index) if self._inside is None else len(self._inside)

    @property
    def docs(self) -> int:
        return len(self._document_numbers())

    def passage(self, place: Json) -> tuple[str, str]:
        """(name, text) of a node id or of {"doc", "start", "end"}, for a model's data block; raises Refused."""
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
            arguments = _bind(verb, method, args, kwargs)
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
            "children": self._views(below),
        }

    def _documents(self) -> Json:
        documents = [self.index.documents[d] for d in self._document_numbers()]
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
        above = self.index.neighbours(self._number(node), "parents")
        return self._views(n for n in above if self._is_inside(n))

    def _path(self, node: str) -> Json:
        steps = [self.index.number_of(n.id) for n in self.index.path_to(self.index.id_of(self._number(node)))]
        return self._views(n for n in steps if self._is_inside(n))

    def _leaves(self, node: str, limit: int = LIST_NODES) -> Json:
        number = self._number(node)
        self._entered = number
        below = self.index.below(number)
        return self._views(
            below[below < self.index.levels[0]][: _at_most(limit, LIST_NODES, "limit")].tolist()
        )

    def _read(self, node: Json, start: int | None = None, end: int | None = None) -> str:
        if isinstance(node, Mapping) or start is not None or end is not None:
            place = node if isinstance(node, Mapping) else {"doc": node, "start": start, "end": end}
            span = self._span(place.get("doc"), place.get("start"), place.get("end"))
            self._show_span(span)
            text = self.index.span_text(span)
        else:
            number = self._number(node)
            self._show(number)
            self._entered = number
            text = self.index.text_at(number)
        return text

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
            under=self._branch(under),
            doc=doc,
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
    ) -> Json:
        if level is not None and type(level) is not int:
            raise Refused(f"level is a whole number or None, found {level!r}")
        where: dict[str, Any] = {"level": level, "under": self._branch(under), "doc": doc}
        where["mode"] = mode or ("tree" if level is None else "hybrid")
        hits = self.index.search(_text("query", query), _at_most(k, MAX_HITS, "k"), **where)
        numbers = [self.index.number_of(h.node) for h in hits]
        views = self._views(numbers, scores=[h.score for h in hits])
        texts = [self.index.text_at(n)[:SNIPPET_CHARS] for n in numbers]
        return [view | {"text": text} for view, text in zip(views, texts, strict=True)]

    def _length(self) -> int:
        return self.chars

    def _slice(self, start: int, end: int) -> str:
        """Characters start:end of the view's text, non-negative, as the worker's `context[a:b]` resolves them."""
        if not (isinstance(start, int) and isinstance(end, int)) or end - start > READ_CHARS:
            raise Refused(
                f"a slice holds at most {READ_CHARS:,} characters; take smaller slices, or grep and search"
            )
        parts, at = [], 0
        for low, high in self._stretches:
            a, b = max(start - at, 0), min(end - at, high - low)
            if a < b:
                parts.append(self.index.slice(low + a, low + b))
            at += high - low
        return "".join(parts)

    def _text(self) -> str:
        if self.chars > READ_CHARS:
            raise Refused(
                f"the text has {self.chars:,} characters, at most {READ_CHARS:,} can be held at once; "
                "use context.grep, context.search or context[a:b]"
            )
        return self._slice(0, self.chars)

    def _contains(self, text: str) -> bool:
        import re2

        escaped = re2.escape(_text("text", text))
        return (
            bool(self.index.grep(escaped, under=self._branch(None), limit=1, count_to=1).total)
            if text
            else True
        )

    # -- checking ----------------------------------------------------------------------------------------

    def _number(self, node: Json) -> int:
        number = self.index.number_of(_text("node", node))
        if not self._is_inside(number):
            raise Refused(f"node {node} is outside the branch {self.under} that you were given")
        return number

    def _is_inside(self, number: int) -> bool:
        return self._inside is None or number in self._inside

    def _branch(self, under: str | None) -> str | None:
        """The branch to look under: the one asked for, if it is ours, else the whole view."""
        return self.under if under is None else self.index.id_of(self._number(under))

    def _span(self, doc: Json, start: Json, end: Json) -> Span:
        document = self.index.document(_text("doc", doc))
        span = Span(document.id, 0 if start is None else start, document.chars if end is None else end)
        if not all(isinstance(x, int) and not isinstance(x, bool) for x in (span.start, span.end)):
            raise Refused(f"start and end are whole numbers of characters, found {start!r} and {end!r}")
        if not 0 <= span.start < span.end <= document.chars:
            raise Refused(f"{document.id} has characters 0 to {document.chars}, asked for {start} to {end}")
        if span.end - span.start > READ_CHARS:
            raise Refused(f"{span.end - span.start:,} characters asked for, at most {READ_CHARS:,} at once")
        if self._inside is not None and not all(n in self._inside for n in self._leaves_of(span)):
            raise Refused(
                f"{document.id} {start}-{end} reaches outside the branch {self.under} that you were given"
            )
        return span

    def _leaves_of(self, span: Span) -> list[int]:
        """Numbers of the chunks that a span touches."""
        leaves = self.index.document_leaves(self.index.document_number(span.doc))
        spans = ((n, self.index.span_at(n)) for n in leaves)
        return [n for n, s in spans if s and s.start < span.end and span.start < s.end]

    def _document_numbers(self) -> list[int]:
        if self._inside is None:
            return list(range(len(self.index.documents)))
        leaves = sorted(n for n in self._inside if n < self.index.levels[0])
        return sorted({int(self.index.leaf_documents[n]) for n in leaves})

    def _text_stretches(self) -> list[tuple[int, int]]:
        """Character ranges of the corpus text that this view holds."""
        if self._inside is None:
            return [(0, self.index.chars)]
        leaves = sorted(n for n in self._inside if n < self.index.levels[0])
        return [self.index.corpus_chars(n) for n in leaves]

    # -- what is shown, and what was on offer beside it --------------------------------------------------

    def _enter(self, number: int) -> dict[str, Json]:
        self._entered = number
        return self._show(number)

    def _show(self, number: int, score: float | None = None, parent: int | None = None) -> dict[str, Json]:
        view = self._view(number)
        ref = view | {"parent": self._parent(number) if parent is None else self.index.id_of(parent)}
        self._shown.append(ref if score is None else ref | {"score": score})
        return view

    def _show_span(self, span: Span) -> None:
        for number in self._leaves_of(span)[:LIST_NODES]:
            self._show(number)

    def _view(self, number: int) -> dict[str, Json]:
        return node_view(self.index.at(number))

    def _views(
        self, numbers: Iterable[int], scores: Sequence[float] | None = None, parent: int | None = None
    ) -> list[dict[str, Json]]:
        listed = list(numbers)[:LIST_NODES]
        given: Sequence[float | None] = scores or [None] * len(listed)
        views = [self._show(n, s, parent) for n, s in zip(listed, given, strict=False)]
        return [v if s is None else v | {"score": s} for v, s in zip(views, given, strict=False)]

    def _parent(self, number: int) -> str | None:
        above = self.index.neighbours(number, "parents")
        return self.index.id_of(above[0]) if above else None

    def _siblings(self) -> list[Json]:
        """What else was on offer beside the node that was entered: its first parent's other children."""
        if self._entered is None:
            return []
        above = self.index.neighbours(self._entered, "parents")
        beside = self.index.neighbours(above[0], "children") if above else []
        others = [n for n in beside if n != self._entered and self._is_inside(n)][:SIBLINGS]
        return [self._view(n) | {"parent": self.index.id_of(above[0])} for n in others]


def node_view(node: Node) -> dict[str, Json]:
    """A node as a model sees it in a list."""
    view: dict[str, Json] = {"node": node.id, "level": node.level, "label": node.label}
    return view | (_place(node.span) if node.span else {})


def _place(span: Span) -> dict[str, Json]:
    return {"doc": span.doc, "start": span.start, "end": span.end}


def _bind(
    verb: str, method: Callable[..., Any], args: Sequence[Json], kwargs: Mapping[str, Json]
) -> dict[str, Json]:
    try:
        return dict(inspect.signature(method).bind(*args, **kwargs).arguments)
    except TypeError as e:
        raise Refused(f"context.{verb}{inspect.signature(method)}: {e}") from e


def _named(bound: dict[str, Json], args: Sequence[Json], kwargs: Mapping[str, Json]) -> dict[str, Json]:
    """Arguments for the record; by position where they did not fit the verb."""
    return bound or {str(i): a for i, a in enumerate(args)} | dict(kwargs)


def _text(name: str, value: Json) -> str:
    if not isinstance(value, str):
        raise Refused(f"{name} is text, found {type(value).__name__}")
    return value


def _at_most(value: Json, most: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refused(f"{name} is a whole number of at least 1, found {value!r}")
    return min(value, most)
