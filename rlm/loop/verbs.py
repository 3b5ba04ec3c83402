"""The verbs a model has over the tree: `context.NAME(...)` in its code. They run in the parent, never in the worker.

Each takes JSON and gives JSON, so that the same verbs serve a sandbox, a person and a test. The arguments of a verb are
checked and its use is recorded, with the nodes it shows and those it leaves aside, before its result is handed over.
The verbs are the methods marked `@verb`; `rlm/prompts/system.md` tells models about them.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from index_store.errors import BrokenIndex, IndexStoreError
from index_store.gathering import Piece
from index_store.index import Index
from index_store.rows import SPLITS, Rows, rows_of
from index_store.terminal import brief
from index_store.types import Check, Json, Node, Scope, Span, unchecked
from index_store.view import View
from rlm.gateway.blocks import Block, block_name
from rlm.loop import checks
from rlm.loop.checks import Refused, is_whole
from rlm.prompts import MARK_TOKENS, refusals

HEAD_CHARS = 400  # of a node's text in `peek`
SNIPPET_CHARS = 200  # of a hit's text in `search`
READ_CHARS = 200_000  # in one result
GATHER_CHARS = 6_000  # in what `gather` gives, by default
AREAS_CHARS = 4_000  # in what `areas` gives, by default
QUERY_CHARS = 10_000
LIST_NODES = 500  # in one list
PACK_NODES = 50_000  # in all packs of one call
PACK_TOKENS = 8_000  # in a pack, by default
LIST_DOCUMENTS = 10_000
MOST_ROWS = 5_000_000  # in one selection
HELD_ROWS = 10_000_000  # in all selections that a conversation holds: 24 bytes a row
PAGE_ROWS = 500  # in one page of a selection
PAGE_CHARS = 200_000
FEW_ROWS = 5  # of a selection, whose chunks its visit shows
MAX_HITS = 200
MAX_MATCHES = 1_000
COUNTED = 10_000  # matches, so that what is cut is told with their number
COUNT_S = 1.0  # on counting them
SIBLINGS = 60  # in a visit's `not_taken`

#: A node in a list: its id, level and label, and of a chunk the document and characters it is from.
Entry = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Visit:
    """One use of a verb, for the trace.

    `shown`: the nodes in its result. `not_taken`: siblings of the node it was about, which the model could have entered
    instead. `error`: why the verb was refused; then `result` is None. `cut`: what a bound has left out of the result, a
    sentence; '' for nothing.
    """

    verb: str
    arguments: dict[str, Json]
    shown: list[Entry]
    not_taken: list[Entry]
    result: Json
    error: str = ""
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that was asked for, checked and not yet read, `chars` long.

    `place`: a span, or the numbers of nodes: of one, or of chunks that follow one another in a document.
    """

    place: range | Span
    chars: int


def _no_deadline() -> float:
    return math.inf


Verb = TypeVar("Verb", bound=Callable[..., Json])
Item = TypeVar("Item")
VERBS: dict[str, Callable[..., Json]] = {}


def verb(method: Verb) -> Verb:
    """Mark a method of `Verbs` as one that code in a cell may call."""
    VERBS[method.__name__] = method
    return method


class Verbs:
    """The verbs of one conversation over its view of an index; `record` gets each visit before it is answered."""

    def __init__(
        self,
        index: Index,
        record: Callable[[Visit], None],
        under: str | None = None,
        scope: Scope = Scope(),
    ) -> None:
        self.index, self.view, self._record = index, View(index, under, scope), record
        self._left_s: Callable[[], float] = _no_deadline
        self._shown: list[Entry] = []
        self._entered: list[int] = []
        self._cut: list[str] = []
        self._selections: OrderedDict[str, Rows] = OrderedDict()

    def serve(
        self,
        name: str,
        args: Sequence[Json],
        kwargs: Mapping[str, Json],
        left_s: "Callable[[], float] | None" = None,
    ) -> Json:
        """The result of one use of a verb; recorded, refused or not. Raises Refused, with a text for the model, and
        BrokenIndex, which no other use of a verb helps against.

        What a bound leaves out of a result is never silent: the visit tells it (`Visit.cut`), and so does the run.
        `left_s`: gives the seconds that it may still take; a verb that reads much ends at its deadline.
        """
        self._shown, self._entered, self._cut, self._left_s = [], [], [], left_s or _no_deadline
        arguments: dict[str, Json] = {}
        try:
            if name not in VERBS:
                raise Refused(refusals.NO_VERB.format(verb=str(name)[:40], verbs=", ".join(VERBS)))
            method = getattr(self, name)
            arguments = checks.bind(f"context.{name}", method, args, kwargs)
            result: Json = method(**arguments)
        except (Refused, IndexStoreError) as e:
            # Numbered by position where they could not be bound to names.
            numbered = {str(i): value for i, value in enumerate(args)}
            self._record(Visit(name, arguments or numbered | dict(kwargs), [], [], None, str(e)))
            if isinstance(e, BrokenIndex):
                raise
            raise Refused(str(e)) from e
        cut = refusals.CUT.format(verb=name, cut="; ".join(self._cut)) if self._cut else ""
        self._record(Visit(name, arguments, self._shown, self._siblings(), result, cut=cut))
        return result

    def passages(self, asked: Sequence[Json]) -> list[Passage]:
        """The passages at ids of nodes, entries of lists, or {"doc", "start", "end"}.

        Chunks that follow one another are one passage, and each is in one only. They are not read, and no visit is
        recorded. Raises Refused.
        """
        places = [self._passage(checks.node_of(one)).place for one in asked]
        pieces = self.index.pieces(number for place in places if isinstance(place, range) for number in place)
        spans = dict.fromkeys(place for place in places if isinstance(place, Span))
        return [*map(self._sized, pieces), *map(self._sized, spans)]

    def block(self, passage: Passage) -> Block:
        """The passage, read, as data for a prompt."""
        place = passage.place
        if isinstance(place, Span):
            name = block_name(f"{place.doc} {place.start}-{place.end}")
            return Block(name, self.index.span_text(place), self.index.place(place))
        span = self.index.span_at(place[0])
        about, text = self.index.place(span) if span else "", "".join(map(self.index.text_at, place))
        return Block(self.index.piece_id(place), text, about)

    def placed(self, row: Json) -> tuple[str, Span]:
        """What a row that a cell names is called, and where it is: a node, or a dict with a document and characters.
        Raises Refused."""
        place = self._passage(checks.node_of(row)).place
        if isinstance(place, Span):
            return block_name(f"{place.doc} {place.start}-{place.end}"), place
        first, last = self.index.span_at(place[0]), self.index.span_at(place[-1])
        if first is None or last is None:
            raise Refused(refusals.ROW_NODE.format(node=self.index.id_of(place[0])))
        return self.index.piece_id(place), Span(first.doc, first.start, last.end)

    def branch(self, under: Json) -> str | None:
        """The id of the branch to look under: `under`, or the view's, None for all. Raises Refused outside the view."""
        return self.view.under if under is None else self.index.id_of(self._number(under))

    def selected(self, rows: Json) -> Rows:
        """The rows that a cell names by {"rows": what `context.rows` called them, "start", "stop"}. They are not read,
        and no visit is recorded. Raises Refused."""
        if not isinstance(rows, Mapping):
            raise Refused(refusals.NO_ROWS.format(value=brief(rows)))
        return self._page(rows.get("rows"), rows.get("start"), rows.get("stop"), unchecked)

    # -- looking around ----------------------------------------------------------------------------------

    @verb
    def overview(self) -> Json:
        """The size of the view, and its root with the beginning of its text and its children."""
        view = self.view
        top = self._enter(view.root)
        return {
            "documents": len(view.documents),
            "nodes": view.size,
            "characters": view.chars,
            "levels": list(self.index.levels) if view.is_whole else None,
            "root": top,
            "summary": self._head(view.root, 4 * HEAD_CHARS),
            "children": self._list("children", view.children(view.root), parent=view.root),
        }

    @verb
    def documents(self, limit: int = LIST_DOCUMENTS) -> Json:
        """The first `limit` documents of the view: id, title, characters and number of pages."""
        listed = self._first("documents", self.view.documents, checks.at_most(limit, LIST_DOCUMENTS, "limit"))
        documents = [self.index.documents[number] for number in listed]
        return [{"doc": d.id, "title": d.title, "chars": d.chars, "pages": len(d.pages)} for d in documents]

    @verb
    def peek(self, node: str) -> Json:
        """The entry of a node with the first HEAD_CHARS of its text, its length and how many children it has."""
        number = self._number(node)
        chars = self.index.chars_at(number) if self.view.is_text(number) else 0
        text, children = self._head(number, HEAD_CHARS), len(self.view.children(number))
        return self._enter(number) | {"text": text, "chars": chars, "children": children}

    @verb
    def children(self, node: str) -> Json:
        """The entries of a node's children, in order; [] for a chunk."""
        number = self._number(node)
        self._entered = [number]
        return self._list("children", self.view.children(number), parent=number)

    @verb
    def parents(self, node: str) -> Json:
        """The entries of a node's parents in the view."""
        return self._list("parents", self.view.parents(self._number(node)))

    @verb
    def path(self, node: str) -> Json:
        """The entries from the root of the view down to a node, by the first parent of each."""
        steps = [self._number(node)]
        for _ in self.index.levels:
            steps += self.view.parents(steps[-1])[:1]
        return self._entries(reversed(list(dict.fromkeys(steps))))

    @verb
    def leaves(self, node: str, limit: int = LIST_NODES) -> Json:
        """The entries of the first `limit` chunks below a node, in order."""
        number = self._number(node)
        self._entered = [number]
        chunks = self._chunks_below(number)
        return self._entries(self._first("chunks", chunks, checks.at_most(limit, LIST_NODES, "limit")))

    @verb
    def packs(self, tokens: int = PACK_TOKENS, nodes: Json = None, under: str | None = None) -> Json:
        """Ids of the chunks in `nodes`, a branch or the view, in lists of at most `tokens` each, one a prompt.

        The lines that mark passages in a prompt count, so that a pack is sent in as many tokens as were asked for.
        """
        most = self._taken("tokens", tokens, READ_CHARS)
        chunks = self._chunks_to_pack(nodes, under)
        if len(chunks) > PACK_NODES:
            raise Refused(refusals.PACK_NODES.format(nodes=len(chunks), most=PACK_NODES))
        packs: list[list[str]] = []
        left = 0
        before = -2
        for number, size in zip(chunks, self.index.rows["tokens"][chunks].tolist(), strict=True):
            touches = number == before + 1 and self.index.is_piece(range(before, number + 1))
            marks = 0 if touches else MARK_TOKENS
            if size + marks > left or not packs:
                packs.append([])
                left, marks = most, MARK_TOKENS
            packs[-1].append(self.index.id_of(number))
            left, before = left - size - marks, number
        return packs

    def _chunks_to_pack(self, named: Json, under: str | None) -> list[int]:
        if named is not None:
            return list(dict.fromkeys(self._number(node) for node in checks.nodes(named)))
        return list(self.view.chunks) if under is None else self._chunks_below(self._number(under))

    def _chunks_below(self, number: int) -> list[int]:
        below = self.index.below(number)
        return [chunk for chunk in below[below < self.index.levels[0]].tolist() if chunk in self.view]

    # -- rows --------------------------------------------------------------------------------------------

    @verb
    def rows(
        self, split: str = "record", under: str | None = None, doc: str | None = None, where: Json = None
    ) -> Json:
        """How the rows of the view are called, and how many there are: {"rows", "start", "stop", "count"}.

        `split`: document, section, chunk, line or record. The worker makes a lazy sequence of it.
        """
        asked = {
            "split": checks.one_of("split", split, SPLITS),
            "under": self.branch(under) if under is not None else None,
            "doc": self._doc(doc),
            "where": checks.metadata(where) or None,
        }
        self._entered = [] if under is None else [self._number(under)]
        name = json.dumps({key: value for key, value in asked.items() if value is not None}, sort_keys=True)
        rows = self._selection(name, self._check_time)
        if rows.left_out:
            self._cut.append(refusals.ROWS_LEFT_OUT.format(rows=len(rows), more=rows.left_out))
        self._note_read(self._chunks_of(rows[:FEW_ROWS]))
        return {"rows": name, "start": 0, "stop": len(rows), "count": len(rows)}

    @verb
    def read_rows(self, rows: str, start: int, stop: int) -> Json:
        """Rows start:stop of a selection, as many of them as fit into a page: id, document, characters and text of
        each, of a chunk its `node`, of a record that has some its `fields`."""
        page = self._page(rows, start, stop, self._check_time)[:PAGE_ROWS]
        left, entries = PAGE_CHARS, list[Entry]()
        for place, row in enumerate(page):
            if (chars := row.span.end - row.span.start) > READ_CHARS:
                if entries:
                    break
                raise Refused(refusals.ROW_CHARS.format(row=row.id, chars=chars, most=READ_CHARS))
            left -= chars + sum(len(name) + len(value) for name, value in (row.fields or {}).items())
            if left < 0 and entries:
                break
            node: Entry = {"node": row.id} if page.split == "chunk" else {}
            fields: Entry = {} if row.fields is None else {"fields": row.fields}
            entry = {
                "row": block_name(row.id),
                **_place(row.span),
                **node,
                "text": page.text(place),
                **fields,
            }
            entries.append(entry)
        self._note_read(self._chunks_of(page[: len(entries)]))
        return entries

    def _page(self, name: Json, start: Json, stop: Json, check: Check) -> Rows:
        """The rows start:stop of the selection that is called so. Raises Refused."""
        rows = self._selection(name, check)
        if not (isinstance(start, int) and isinstance(stop, int) and is_whole(start) and is_whole(stop)):
            raise Refused(refusals.ROW_PLACES.format(start=brief(start), stop=brief(stop), count=len(rows)))
        if not 0 <= start <= stop <= len(rows):
            raise Refused(refusals.ROW_PLACES.format(start=brief(start), stop=brief(stop), count=len(rows)))
        return rows[start:stop]

    def _selection(self, name: Json, check: Check) -> Rows:
        """The rows that are called so. The name says what was asked for, so that a selection that is no longer held is
        made again. Raises Refused."""
        if not isinstance(name, str) or name not in self._selections:
            asked = self._asked_rows(name)
            made = rows_of(self.view, **asked, check=check)
            if len(made) > MOST_ROWS:
                raise Refused(refusals.MOST_ROWS.format(rows=len(made), most=MOST_ROWS))
            self._selections[str(name)] = made
        self._selections.move_to_end(str(name))
        while len(self._selections) > 1 and sum(map(len, self._selections.values())) > HELD_ROWS:
            self._selections.popitem(last=False)
        return self._selections[str(name)]

    def _asked_rows(self, name: Json) -> dict[str, Any]:
        """What rows that are called so were asked for, checked as if it were asked anew. Raises Refused."""
        try:
            asked = json.loads(name) if isinstance(name, str) and len(name) <= QUERY_CHARS else None
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict) or not {"split"} <= asked.keys() <= {"split", "under", "doc", "where"}:
            raise Refused(refusals.NO_ROWS.format(value=brief(name)))
        return {
            "split": checks.one_of("split", asked["split"], SPLITS),
            "under": None if asked.get("under") is None else self.branch(asked["under"]),
            "doc": self._doc(asked.get("doc")),
            "where": checks.metadata(asked.get("where")),
        }

    def _chunks_of(self, rows: Rows) -> list[int]:
        """Numbers of the chunks in view that these rows lie in, ascending."""
        numbers = {int(n) for place in range(len(rows)) for n in rows.chunks(place)}
        return sorted(number for number in numbers if number in self.view)

    # -- finding -----------------------------------------------------------------------------------------

    @verb
    def grep(
        self,
        pattern: str,
        under: str | None = None,
        doc: str | None = None,
        ignore_case: bool = False,
        limit: int = 50,
    ) -> Json:
        """The first `limit` matches of a regular expression (RE2): node, document, characters and line of each."""
        most = checks.at_most(limit, MAX_MATCHES, "limit")
        found = self.view.grep(
            checks.text("pattern", pattern),
            under=None if under is None else self.branch(under),
            doc=self._doc(doc),
            ignore_case=checks.flag("ignore_case", ignore_case),
            limit=most,
            count_to=COUNTED,
            count_s=COUNT_S,
            check=self._check_time,
        )
        if not found.complete or len(found.matches) < found.total:
            total = f"{found.total:,}" if found.complete else refusals.OR_MORE.format(total=found.total)
            self._tell_cut("matches", len(found.matches), total)
        for match in found.matches:
            self._show(self.index.number_of(match.node))
        return [{"node": m.node, **_place(m.span), "line": m.line} for m in found.matches]

    @verb
    def search(
        self,
        query: str,
        k: int = 10,
        level: int | None = 0,
        under: str | None = None,
        doc: str | None = None,
        mode: str | None = None,
        where: Json = None,
        section: str | None = None,
        fold: bool = True,
    ) -> Json:
        """The entries of the `k` best nodes for a query, best first, with scores and the beginning of their texts.

        Those of passages that stand in other documents too have their ids as `also_in`.
        """
        if level is not None and not is_whole(level):
            raise Refused(refusals.LEVEL.format(value=brief(level)))
        words = self._words("query", query)
        hits = self.view.search(
            words,
            self._taken("k", k, MAX_HITS),
            mode=checks.mode(mode) or ("tree" if level is None else "hybrid"),
            level=level,
            under=None if under is None else self.branch(under),
            doc=self._doc(doc),
            where=checks.metadata(where),
            section=None if section is None else checks.text("section", section),
            fold=checks.flag("fold", fold),
            check=self._check_time,
        )
        numbers = [self.index.number_of(hit.node) for hit in hits]
        entries = self._entries(numbers, scores=[hit.score for hit in hits])
        snippets = [self.index.head_at(number, SNIPPET_CHARS) for number in numbers]
        return [
            entry | {"text": words} | ({"also_in": list(hit.also_in)} if hit.copies else {})
            for entry, words, hit in zip(entries, snippets, hits, strict=True)
        ]

    @verb
    def branches(self, question: str, under: str | None = None, k: int = 8) -> Json:
        """The entries of the `k` branches that hold the most evidence for a question, each with its share of it.

        A chunk counts in each branch that it stands in, so shares may add up to more than 1. `chunks`: how many are
        below a branch; `best`: the best two of them, with the beginning of their texts.
        """
        top = None if under is None else self._number(under)
        self._entered = [self.view.root if top is None else top]
        found = self.view.best_branches(self._question(question), top, self._taken("k", k, LIST_NODES))
        shares = [round(branch.share, 4) for branch in found]
        entries = self._entries([branch.number for branch in found], shares)
        return [
            {name: value for name, value in entry.items() if name != "score"}
            | {"share": share, "chunks": branch.size, "best": [self._shown_head(n) for n in branch.best]}
            for entry, share, branch in zip(entries, shares, found, strict=True)
        ]

    def _shown_head(self, number: int) -> Json:
        return self._show(number) | {"text": self.index.head_at(number, SNIPPET_CHARS)}

    @verb
    def gather(self, question: str, chars: int = GATHER_CHARS, under: Json = None) -> Json:
        """What to read for a question, in at most `chars` characters: pieces with their `nodes` and `text`, best first.

        Chunks where the evidence is dense, those that touch in one piece; summaries where it is broad. `under`: a
        branch, or several, as `branches` lists them.
        """
        self._entered = [self._number(node) for node in checks.branches(under)]
        most = self._taken("chars", chars, READ_CHARS)
        pieces = self.view.gather(self._question(question), self._entered, most)
        if not pieces:
            raise Refused(refusals.GATHER_CHARS.format(chars=most))
        return [self._piece(piece) for piece in pieces]

    @verb
    def areas(self, question: str = "", chars: int = AREAS_CHARS, under: str | None = None) -> Json:
        """What is in the view, or a branch, in at most `chars` characters of its upper levels: areas, each with its
        `share` of the text, and its label, the beginning of its summary and what is inside as `text`; most room first.

        With a question, the areas that hold evidence for it are told in more words.
        """
        top = None if under is None else self._number(under)
        self._entered = [self.view.root if top is None else top]
        most = self._taken("chars", chars, READ_CHARS)
        words = self._words("question", question).strip()
        found = self.view.levels_read(words, top, most)
        if not found:
            raise Refused(refusals.AREAS_CHARS.format(chars=most))
        shares = [round(area.share, 4) for area in found]
        entries = self._entries([area.number for area in found], shares)
        return [
            {name: value for name, value in entry.items() if name != "score"}
            | {"share": share, "text": area.text}
            for entry, share, area in zip(entries, shares, found, strict=True)
        ]

    def _piece(self, piece: Piece) -> Json:
        entries = self._entries(piece.nodes)
        text = "".join(map(self.index.text_at, piece.nodes))
        first, last = entries[0], entries[-1]
        place = {"doc": first["doc"], "start": first["start"], "end": last["end"]} if "doc" in first else {}
        copies: Entry = {"also_in": list(piece.also_in)} if piece.also_in else {}
        nodes = [entry["node"] for entry in entries]
        return {"nodes": nodes, "label": first["label"], **place, **copies, "text": text}

    def _question(self, question: str) -> str:
        """As `_words`, and not empty. Raises Refused."""
        if not checks.text("question", question).strip():
            raise Refused(refusals.QUESTION)
        return self._words("question", question)

    def _words(self, name: str, value: str) -> str:
        """What is searched for, as an embedder takes it: half a surrogate pair is no text. Raises Refused."""
        if len(checks.text(name, value)) > QUERY_CHARS:
            raise Refused(refusals.QUERY_CHARS.format(chars=len(value), most=QUERY_CHARS))
        return value.encode("utf-8", "replace").decode()

    # -- reading -----------------------------------------------------------------------------------------

    @verb
    def read(self, node: Json, start: int | None = None, end: int | None = None) -> Json:
        """The text of a node, or of a document's characters start:end; of a list of them, a list of texts."""
        if isinstance(node, list) and start is end is None:
            return self._read_all(node)
        if isinstance(node, Mapping) or start is end is None:
            return self._read(self._passage(node))
        return self._read(self._passage({"doc": node, "start": start, "end": end}))

    def _read_all(self, listed: list[Json]) -> list[str]:
        """The texts of several nodes or spans, in order, with READ_CHARS together at most; one visit."""
        if len(listed) > LIST_NODES:
            raise Refused(refusals.READ_NODES.format(nodes=len(listed), most=LIST_NODES))
        if any(isinstance(node, list) for node in listed):
            raise Refused(refusals.READ_ITEM)
        passages = [self._passage(node) for node in listed]
        if sum(passage.chars for passage in passages) > READ_CHARS:
            texts = "this text holds" if len(listed) == 1 else f"these {len(listed)} texts hold"
            raise Refused(refusals.READ_CHARS.format(texts=texts, most=READ_CHARS))
        return [self._read(passage) for passage in passages]

    def _read(self, passage: Passage) -> str:
        """The text of a passage, whose nodes the visit has then shown."""
        if isinstance(passage.place, range) and len(passage.place) == 1:
            self._enter(passage.place[0])
        else:
            chunks = passage.place if isinstance(passage.place, range) else self.view.chunks_of(passage.place)
            self._note_read(chunks)
        return self.block(passage).text

    def _note_read(self, chunks: Iterable[int]) -> None:
        """Let the visit show the first LIST_NODES of the chunks whose text it gives whole."""
        self._entries(islice(chunks, LIST_NODES))

    @verb
    def slice(self, start: int, end: int) -> str:
        """Characters start:end of the view's text, for `context[start:end]` in a cell."""
        if not (is_whole(start) and is_whole(end) and start >= 0):
            raise Refused(refusals.SLICE.format(start=brief(start), end=brief(end)))
        end = min(end, self.view.chars)
        if end - start > READ_CHARS:
            raise Refused(refusals.SLICE_CHARS.format(most=READ_CHARS))
        self._note_read(chunk for chunk, _, _ in self.view.chunks_between(start, end))
        return self.view.text(start, end)

    @verb
    def contains(self, text: str) -> bool:
        """Whether the view's text holds `text`, for `text in context` in a cell."""
        part = checks.text("text", text).encode("utf-8", "surrogatepass")
        if len(part) > self.view.bytes:
            return False
        for window in self.view.windows(max(len(part) - 1, 0)):
            self._check_time()
            if part in window:
                return True
        return False

    @verb
    def text(self) -> str:
        """The whole text of the view. Refused above READ_CHARS."""
        chars = self.view.chars
        if chars > READ_CHARS:
            raise Refused(refusals.TEXT_CHARS.format(chars=chars, most=READ_CHARS))
        return self.slice(0, chars)

    @verb
    def length(self) -> int:
        """Characters of the view's text, for `len(context)` in a cell."""
        return self.view.chars

    # -- checking ----------------------------------------------------------------------------------------

    def _check_time(self) -> None:
        if self._left_s() <= 0:
            raise Refused(refusals.OUT_OF_TIME)

    def _passage(self, place: Json) -> Passage:
        if isinstance(place, Mapping):
            return self._sized(self._span(place.get("doc"), place.get("start"), place.get("end")))
        if isinstance(place, str) and ".." in place:
            piece = self.index.piece_of(place)
            for number in piece:
                self._number(self.index.id_of(number))
        else:
            number = self._number(place)
            piece = range(number, number + 1)
        if not self.view.is_text(piece[0]):
            raise Refused(refusals.NODE_OF_MORE.format(node=place))
        passage = self._sized(piece)
        if passage.chars > READ_CHARS:
            raise Refused(refusals.SPAN_CHARS.format(chars=passage.chars, most=READ_CHARS))
        return passage

    def _sized(self, place: range | Span) -> Passage:
        chars = place.end - place.start if isinstance(place, Span) else sum(map(self.index.chars_at, place))
        return Passage(place, chars)

    def _number(self, node: Json) -> int:
        if isinstance(node, Mapping) and "node" in node:
            raise Refused(refusals.NODE_ENTRY)
        number = self.index.number_of(checks.text("node", node))
        if number not in self.view:
            raise Refused(refusals.NODE_OUTSIDE.format(node=node, view=self._view_in_words()))
        return number

    def _view_in_words(self) -> str:
        under = self.view.under
        return refusals.SCOPE if under is None else refusals.BRANCH.format(under=under)

    def _doc(self, doc: Json) -> str | None:
        """The id of the document to look in, checked to be in the view; None for all."""
        if doc is None:
            return None
        if self.view.is_whole:
            return self.index.document(checks.text("doc", doc)).id
        for number in self.view.documents:
            if self.index.documents[number].id == doc:
                return str(doc)
        raise Refused(refusals.DOCUMENT_OUTSIDE.format(doc=brief(doc), view=self._view_in_words()))

    def _span(self, doc: Json, start: Json, end: Json) -> Span:
        document = self.index.document(str(self._doc(checks.text("doc", doc))))
        low, high = 0 if start is None else start, document.chars if end is None else end
        if not (isinstance(low, int) and isinstance(high, int) and is_whole(low) and is_whole(high)):
            raise Refused(refusals.OFFSETS.format(start=brief(start), end=brief(end)))
        if not 0 <= low < high <= document.chars:
            asked = {"start": brief(start), "end": brief(end)}
            raise Refused(refusals.OUTSIDE_DOCUMENT.format(doc=document.id, chars=document.chars, **asked))
        span = Span(document.id, low, high)
        if high - low > READ_CHARS:
            raise Refused(refusals.SPAN_CHARS.format(chars=high - low, most=READ_CHARS))
        if not all(chunk in self.view for chunk in self.view.chunks_of(span)):
            place = f"{document.id} {low}-{high}"
            raise Refused(refusals.SPAN_OUTSIDE.format(span=place, view=self._view_in_words()))
        return span

    # -- what a bound leaves out -------------------------------------------------------------------------

    def _taken(self, name: str, value: Json, most: int) -> int:
        """The whole number that an argument asks for, or `most` in its place, which is told. Raises Refused."""
        taken = checks.at_most(value, most, name)
        if taken != value:
            self._cut.append(refusals.CUT_TO.format(name=name, most=taken, asked=brief(value)))
        return taken

    def _first(self, what: str, found: Sequence[Item], most: int) -> Sequence[Item]:
        """The first `most` of what was found; that there are more is told."""
        if len(found) > most:
            self._tell_cut(what, most, f"{len(found):,}")
        return found[:most]

    def _list(self, what: str, numbers: Sequence[int], parent: int | None = None) -> list[Entry]:
        return self._entries(self._first(what, numbers, LIST_NODES), parent=parent)

    def _tell_cut(self, what: str, given: int, total: str) -> None:
        self._cut.append(refusals.CUT_LIST.format(given=given, total=total, what=what))

    # -- what a verb shows, and what it leaves aside -----------------------------------------------------

    def _enter(self, number: int) -> Entry:
        self._entered = [number]
        return self._show(number)

    def _head(self, number: int, chars: int) -> str:
        """The beginning of a node's text; '' of a summary that is also of what the question is not about."""
        return self.index.head_at(number, chars) if self.view.is_text(number) else ""

    def _entry(self, number: int) -> Entry:
        entry = entry_of(self.index.at(number))
        return entry if self.view.is_text(number) else entry | {"label": refusals.LABEL_OF_MORE}

    def _show(self, number: int, score: float | None = None, parent: int | None = None) -> Entry:
        """The entry of a node, which is added, with its parent, to what the visit has shown."""
        entry = self._entry(number)
        above = self.view.first_parent(number) if parent is None else parent
        shown = entry | {"parent": None if above is None else self.index.id_of(above)}
        self._shown.append(shown if score is None else shown | {"score": score})
        return entry

    def _entries(
        self, numbers: Iterable[int], scores: Sequence[float] | None = None, parent: int | None = None
    ) -> list[Entry]:
        """The entries of these nodes, with their scores where there are some."""
        listed = list(numbers)
        each: Sequence[float | None] = scores or [None] * len(listed)
        entries = [self._show(n, s, parent) for n, s in zip(listed, each, strict=False)]
        return [e if s is None else e | {"score": s} for e, s in zip(entries, each, strict=False)]

    def _siblings(self) -> list[Entry]:
        """The entries of the other children of the first entered node's first parent, SIBLINGS at most."""
        if not self._entered:
            return []
        parent, others = self.view.siblings(self._entered[0], SIBLINGS)
        above, shown = None if parent is None else self.index.id_of(parent), {e["node"] for e in self._shown}
        entries = (self._entry(n) | {"parent": above} for n in others if n not in self._entered)
        return [entry for entry in entries if entry["node"] not in shown]


def entry_of(node: Node) -> Entry:
    """The entry of a node in a list: its id, level and label, and of a chunk its document and characters."""
    entry: Entry = {"node": node.id, "level": node.level, "label": node.label}
    return entry | (_place(node.span) if node.span else {})


def _place(span: Span) -> dict[str, Json]:
    return {"doc": span.doc, "start": span.start, "end": span.end}
