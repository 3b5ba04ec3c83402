"""A reduction over whole meetings: the gold spans that its citations reach, beside retrieval and the loop, without a
key and for as many tokens.

The offline models choose sentences by their words, so this measures how the ways read, not how a model writes. Each is
asked about one meeting. `retrieve` and the loop are asked as they come, and with as much to read as makes them take
about the tokens that the reduction took.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import numpy as np

from benchmarks import Options
from benchmarks._report import Claim, Item, Loss, NotRun, Table, bounds, gained, percent, worst_of
from benchmarks._sets import Query, Values, each, evenly, interval, present, rows, trial_of
from index_store.index import open_index
from index_store.types import Scope, Span
from rlm import Answer, Limits, Models, ask
from rlm.gateway.offline.registry import register_offline
from rlm.gateway.types import Message
from rlm.limits import Route

SET = "qmsum"
QUESTIONS = 40
READER, REDUCER = "offline/reader", "reducer"
#: Tokens of a question beside what it reads: prompts, the answer and, of the loop, what its cells print.
BESIDE: Mapping[Route, int] = {"retrieve": 400, "rlm": 2_600}
CHARS_A_TOKEN = 4.2  # of the meetings
REDUCE, RETRIEVE, LOOP = "llm_reduce", "retrieve", "the loop"
AS_MANY = ", for as many tokens"
CELL = """```python
r = llm_reduce({question!r})
answer["content"], answer["citations"], answer["ready"] = r["answer"], r["citations"], True
```"""


@dataclass(frozen=True, slots=True)
class Way:
    """How a question is asked. `tokens`: that it is to read, None for what it reads by itself."""

    name: str
    route: Route
    tokens: int | None = None

    def reading(self) -> AbstractContextManager[object]:
        """While it lasts, so much is read."""
        if self.tokens is None:
            return nullcontext()
        left = max(self.tokens - BESIDE[self.route], 500)
        if self.route == "retrieve":
            return patch("rlm.asking.asking.RETRIEVED_TOKENS", left)
        return patch("rlm.loop.navigator.FIRST_CHARS", int(CHARS_A_TOKEN * left))


@dataclass(frozen=True, slots=True)
class Reached:
    """What a way did, a figure a question: gold spans that a citation reaches and citations that lie in gold, both in
    percent; citations, tokens, calls."""

    spans: Values
    inside: Values
    citations: Values
    tokens: Values
    calls: Values


def measure(options: Options) -> Iterator[Item]:
    """The ways as they come, then with as many tokens as the reduction took, and what follows."""
    if SET not in present(options):
        raise NotRun(
            f"it needs the set {SET}: its folder with corpus.jsonl and queries.jsonl, in that named by --data"
        )
    trial_of(replace(options, questions=1), SET)  # built, where it is not there yet
    ways = [Way(REDUCE, "rlm"), Way(RETRIEVE, "retrieve"), Way(LOOP, "rlm")]
    found = dict(zip([way.name for way in ways], each(partial(_asked, options), ways), strict=True))
    tokens = int(found[REDUCE].tokens.mean())
    ways = [replace(way, name=way.name + AS_MANY, tokens=tokens) for way in ways[1:]]
    found |= dict(zip([way.name for way in ways], each(partial(_asked, options), ways), strict=True))
    yield _table(found)
    yield from _compared(found)


def _asked(options: Options, way: Way) -> Reached:
    register_offline(REDUCER, _reduce)
    index = open_index(options.work / SET)
    queries = [query for query in rows(options.data / SET / "queries.jsonl") if query["gold"]]
    root = f"offline/{REDUCER}" if way.name == REDUCE else "offline/navigator"
    models = Models(root if way.route == "rlm" else READER, READER)
    figures = []
    with tempfile.TemporaryDirectory() as runs, way.reading():
        for query in evenly(queries, min(options.questions, QUESTIONS)):
            answer = ask(
                index,
                query["text"],
                route=way.route,
                models=models,
                limits=Limits(),
                scope=Scope(doc=query["scope"]),
                runs=runs,
            )
            figures.append(_figures(query, answer))
    return Reached(*np.array(figures, dtype=np.float64).T)


def _reduce(messages: list[Message], max_tokens: int) -> str:
    question = messages[1]["content"].partition("Question: ")[2].partition("\n\n`context` is")[0]
    return CELL.format(question=question)


def _figures(query: Query, answer: Answer) -> tuple[float, ...]:
    cited = [c for c in answer.citations if c.doc is not None]
    places = [Span(str(c.doc), c.start or 0, c.end or 0) for c in cited]
    gold = [Span(one["doc"], one["start"], one["end"]) for one in query["gold"]]
    reached = [any(_meet(span, place) for place in places) for span in gold]
    inside = [any(_meet(span, place) for span in gold) for place in places]
    share = 100 * sum(inside) / len(inside) if inside else 0.0
    return 100 * sum(reached) / len(gold), share, len(places), answer.usage.tokens, answer.usage.calls


def _meet(one: Span, other: Span) -> bool:
    return one.doc == other.doc and one.start < other.end and other.start < one.end


def _table(found: Mapping[str, Reached]) -> Table:
    cells = (
        (
            way,
            percent(one.spans.mean()),
            percent(one.inside.mean()),
            f"{one.citations.mean():.1f}",
            f"{one.tokens.mean():,.0f}",
            f"{one.calls.mean():.1f}",
        )
        for way, one in found.items()
    )
    questions = len(found[REDUCE].spans)
    note = (
        f"{questions} questions of {SET}, each about one meeting, evenly chosen; means. A gold span is reached where a "
        "citation overlaps it; citations in gold: the share of them that overlaps any. The offline models choose the "
        "sentences in all ways. Tokens are of all calls, the root's own among them; what is read for as many is set so "
        "that they come near."
    )
    columns = ("way", "gold spans reached", "citations in gold", "citations", "tokens", "calls")
    return Table("Gold spans that citations reach, over whole meetings", columns, tuple(cells), note)


def _compared(found: Mapping[str, Reached]) -> Iterator[Item]:
    ours, claims = found[REDUCE].spans, list[tuple[float, Claim]]()
    for way in (RETRIEVE + AS_MANY, LOOP + AS_MANY):
        theirs = found[way].spans
        mean, low, high = interval(ours - theirs)
        told, peer = gained(mean, low, high), f"{percent(theirs.mean())} {way}"
        text = f"gold spans reached on {SET}"
        claim = Claim("reduce", text, "interval reaches 0", percent(ours.mean()), peer, told, high >= 0)
        claims.append((high, claim))
        if mean < 0:
            where = f"reducing whole meetings of {SET}"
            yield Loss(way, where, percent(theirs.mean()), percent(ours.mean()), bounds(-high, -low))
    yield worst_of(claims)
