"""Runs that go right, or wrong in one of the four ways, by a root model that follows a script: whoever wrote it knows
the gold. They are real runs, through the engine and its sandbox; only what the root writes is planted."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index_store.index import Index
from index_store.types import Scope, Span
from index_store.view import View
from rlm import Limits, Models, ask
from rlm.gateway.offline.registry import register_offline

MODEL = "offline/planted"
RIGHT = "right"
WAYS = ("not offered", "not entered", "not read", "not cited")
HITS = 10
QUOTE_CHARS = 160  # that an answer quotes of a passage, about


@dataclass(frozen=True, slots=True)
class Case:
    """A question with its gold. `gold`: the numbers of the chunks of each gold place; `hits`: of a
    search for the question, best first; `others`: hits of a search for
    the question that are none of these, best first; `other`: another question of the set, and its hits elsewhere."""

    question: str
    answer: str
    scope: Scope
    gold: Sequence[Sequence[int]]
    hits: Sequence[int]
    others: Sequence[int]
    other: str
    elsewhere: Sequence[int]

    @property
    def all_gold(self) -> set[int]:
        """The numbers of all gold chunks."""
        return {number for place in self.gold for number in place}


@dataclass(frozen=True, slots=True)
class Planted:
    """A run. `kind`: RIGHT or one of WAYS; `variant`: how it was done; `run`: its folder."""

    kind: str
    variant: str
    case: Case
    run: Path


Script = Callable[[Index, Case, random.Random], str | None]


def cases_of(index: Index, queries: Sequence[Mapping[str, Any]], rng: random.Random) -> Iterator[Case]:
    """The questions whose gold is few enough chunks to be read and cited, with what else a run may go to."""
    view = View(index)
    for i, query in enumerate(queries):
        scope = Scope(doc=query["scope"]) if query.get("scope") else Scope()
        gold = [
            view.chunks_of(
                Span(one["doc"], one["start"] or 0, one["end"] or index.document(one["doc"]).chars)
            )
            for one in query["gold"]
        ]
        every = {number for place in gold for number in place}
        other = queries[(i + 1 + rng.randrange(len(queries) - 1)) % len(queries)]["text"]
        hits = _hits(index, query["text"], scope, 2 * HITS)
        others = [hit for hit in hits if hit not in every]
        elsewhere = [hit for hit in _hits(index, other, scope, 2 * HITS) if hit not in {*every, *hits[:HITS]}]
        if 0 < len(every) <= 24 and len(others) >= 3 and len(elsewhere) >= 2:
            answer = (query.get("answers") or [""])[0]
            yield Case(query["text"], answer, scope, gold, hits, others, other, elsewhere)


def _hits(index: Index, query: str, scope: Scope, k: int) -> list[int]:
    return [index.number_of(hit.node) for hit in index.search(query, k, doc=scope.doc)]


def plant(index: Index, case: Case, kind: str, variant: int, runs: Path, seed: int = 0) -> Planted | None:
    """One run of a kind; None where the tree does not allow this variant of it."""
    script = SCRIPTS[kind][variant % len(SCRIPTS[kind])]
    code = script(index, case, random.Random(f"{case.question} {kind} {variant} {seed}"))
    if code is None:
        return None
    register_offline("planted", lambda messages, tokens: f"```python\n{code}\n```")
    limits = Limits(turns=2, reply_tokens=40_000, timeout_s=120, cell_timeout_s=60)
    answer = ask(
        index, case.question, route="rlm", models=Models(MODEL, "offline/reader"), limits=limits, scope=case.scope,
        runs=runs,
    )  # fmt: skip
    return Planted(kind, script.__name__, case, answer.trace)


# -- what the scripts are made of ----------------------------------------------------------------------------


def _answer(index: Index, chunks: Sequence[int], content: str = "") -> str:
    """The end of a cell: an answer that cites these chunks, in its own words or in theirs."""
    quotes = [_quote(index.text_at(number)) for number in chunks]
    cited = [
        {"node": index.id_of(number), "quote": quote} for number, quote in zip(chunks, quotes, strict=True)
    ]
    words = content or " ".join(f"{quote.rstrip('.')} [{i}]." for i, quote in enumerate(quotes, 1))
    return f'answer["content"] = {words!r}\nanswer["citations"] = {cited!r}\nanswer["ready"] = True\n'


def _quote(text: str) -> str:
    words = text.strip()[:QUOTE_CHARS]
    return words if len(text.strip()) <= QUOTE_CHARS or " " not in words else words.rsplit(" ", 1)[0]


def _read(index: Index, chunks: Sequence[int]) -> str:
    return (
        f"for node in {[index.id_of(number) for number in chunks]!r}:\n    print(context.read(node)[:200])\n"
    )


def _search(query: str, k: int = HITS, under: str | None = None) -> str:
    return f"for hit in context.search({query!r}, k={k}, under={under!r}):\n    print(hit['node'], hit['score'])\n"


def _first(case: Case) -> list[int]:
    """A chunk of each gold place: the one that a search for the question ranks first, else its first."""
    order = {number: i for i, number in enumerate(case.hits)}
    return [min(place, key=lambda n: order.get(n, 10**6 + n)) for place in case.gold if place][:6]


def _right(case: Case, rng: random.Random) -> list[int]:
    """What a run that goes right cites: of each gold place its best chunk, its first, or its first four."""
    chosen = rng.randrange(3)
    if chosen == 0:
        return _first(case)
    if chosen == 1:
        return [place[0] for place in case.gold if place][:6]
    return [number for place in case.gold for number in place[:4]][:8]


def _path(index: Index, number: int) -> list[str]:
    """The ids from below the root down to the parent of a chunk, by homes."""
    return [node.id for node in index.path_to(index.id_of(number))][1:-1]


def _holders(index: Index, case: Case) -> set[int]:
    """All nodes above the gold."""
    return set(index.above(np.array(sorted(case.all_gold))).tolist())


def _descend(index: Index, path: Sequence[str]) -> str:
    lines = [f"print(len(context.children({node!r})))" for node in [index.root.id, *path]]
    return "\n".join(lines) + "\n"


def _in_scope(index: Index, case: Case, number: int) -> bool:
    return case.scope.is_all or bool(
        np.isin(index.leaf_documents[number], index.documents_named(str(case.scope.doc))).any()
    )


# -- right ---------------------------------------------------------------------------------------------------


def searched_read_cited(index: Index, case: Case, rng: random.Random) -> str | None:
    cited = _right(case, rng)
    return _search(case.question, 2 * HITS) + _read(index, cited) + _answer(index, cited, case.answer)


def descended_read_cited(index: Index, case: Case, rng: random.Random) -> str | None:
    cited = _right(case, rng)
    steps = "".join(_descend(index, _path(index, number)) for number in cited)
    return steps + _read(index, cited) + _answer(index, cited)


def gathered_read_cited(index: Index, case: Case, rng: random.Random) -> str | None:
    cited = _right(case, rng)
    looked = (
        f"print(len(context.branches({case.question!r})))\nprint(len(context.gather({case.question!r})))\n"
    )
    return looked + _read(index, cited) + _answer(index, cited)


def read_more_than_cited(index: Index, case: Case, rng: random.Random) -> str | None:
    cited = _right(case, rng)
    read = [*cited, *case.others[:2]]
    return _search(case.question, 2 * HITS) + _read(index, read) + _answer(index, cited, case.answer)


# -- not offered -----------------------------------------------------------------------------------------------


def searched_for_something_else(index: Index, case: Case, rng: random.Random) -> str | None:
    hits = set(_hits(index, case.other, case.scope, 5))
    if hits & case.all_gold:
        return None
    return _search(case.other, 5) + _read(index, case.elsewhere[:2]) + _answer(index, case.elsewhere[:1])


def searched_under_another_branch(index: Index, case: Case, rng: random.Random) -> str | None:
    holders = _holders(index, case)
    for number in case.elsewhere:
        for branch in reversed(_path(index, number)):
            if index.number_of(branch) not in holders:
                asked = _search(rng.choice([case.other, case.question]), 5, branch)
                return asked + _read(index, [number]) + _answer(index, [number])
    return None


def grepped_for_something_else(index: Index, case: Case, rng: random.Random) -> str | None:
    number = case.elsewhere[0]
    words = [word for word in index.text_at(number).split() if word.isalpha() and len(word) > 6]
    gold = " ".join(index.text_at(one) for one in case.all_gold).lower()
    words = [word for word in words if word.lower() not in gold]
    if not words:
        return None
    return (
        f"print(len(context.grep({rng.choice(words)!r}, limit=5)))\n"
        + _read(index, [number])
        + _answer(index, [number])
    )


# -- not entered ----------------------------------------------------------------------------------------------


def passed_by_the_hit(index: Index, case: Case, rng: random.Random) -> str | None:
    hits = _hits(index, case.question, case.scope, 2 * HITS)
    if not set(hits) & case.all_gold:
        return None
    taken = rng.sample(list(case.others[:HITS]), 2)
    return _search(case.question, 2 * HITS) + _read(index, taken) + _answer(index, taken[:1])


def listed_branches_and_went_elsewhere(index: Index, case: Case, rng: random.Random) -> str | None:
    holders = _holders(index, case)
    for number in [*case.elsewhere, *case.others]:
        path = _path(index, number)
        if path and index.number_of(path[0]) not in holders:
            return _descend(index, path) + _read(index, [number]) + _answer(index, [number])
    return None


def listed_and_searched_in_the_wrong_one(index: Index, case: Case, rng: random.Random) -> str | None:
    holders = _holders(index, case)
    for number in rng.sample(list(case.others), len(case.others)):
        path = _path(index, number)
        if path and index.number_of(path[-1]) not in holders:
            listed = f"print(context.search({case.question!r}, k={2 * HITS}))\n"
            if not set(_hits(index, case.question, case.scope, 2 * HITS)) & case.all_gold:
                return None
            return (
                listed
                + _search(case.question, 5, path[-1])
                + _read(index, [number])
                + _answer(index, [number])
            )
    return None


# -- not read --------------------------------------------------------------------------------------------------


def _beside(index: Index, case: Case, rng: random.Random) -> int | None:
    """A chunk that stands below a parent of the gold and is none."""
    for number in _first(case):
        home = index.home(number)
        near = (
            [n for n in index.neighbours(home, "children") if n not in case.all_gold]
            if home is not None
            else []
        )
        near = [n for n in near if n < index.levels[0] and _in_scope(index, case, n)]
        if near:
            return rng.choice(near)
    return None


def entered_the_branch_and_read_beside(index: Index, case: Case, rng: random.Random) -> str | None:
    beside = _beside(index, case, rng)
    if beside is None:
        return None
    entered = "".join(
        f"print(context.children({_path(index, number)[-1]!r}))\n"
        for number in _first(case)
        if _path(index, number)
    )
    return _search(case.question) + entered + _read(index, [beside]) + _answer(index, [beside])


def listed_leaves_and_read_beside(index: Index, case: Case, rng: random.Random) -> str | None:
    beside = _beside(index, case, rng)
    if beside is None:
        return None
    entered = "".join(
        f"print(context.leaves({_path(index, number)[-1]!r}))\n"
        for number in _first(case)
        if _path(index, number)
    )
    return entered + _read(index, [beside]) + _answer(index, [beside])


def searched_the_branch_for_something_else(index: Index, case: Case, rng: random.Random) -> str | None:
    beside = _beside(index, case, rng)
    if beside is None:
        return None
    under = [_path(index, number)[0] for number in _first(case) if _path(index, number)]
    asked = "".join(_search(case.other, 5, branch) for branch in dict.fromkeys(under))
    return asked + _read(index, [beside]) + _answer(index, [beside])


# -- not cited -------------------------------------------------------------------------------------------------


def read_and_cited_another_hit(index: Index, case: Case, rng: random.Random) -> str | None:
    other = rng.choice(list(case.others[:HITS]))
    return _search(case.question) + _read(index, [*_first(case), other]) + _answer(index, [other])


def descended_and_cited_elsewhere(index: Index, case: Case, rng: random.Random) -> str | None:
    steps = "".join(_descend(index, _path(index, number)) for number in _first(case))
    read = [*_first(case), case.elsewhere[0]]
    return steps + _read(index, read) + _answer(index, case.elsewhere[:1])


def gathered_and_cited_elsewhere(index: Index, case: Case, rng: random.Random) -> str | None:
    looked = f"print(len(context.gather({case.question!r})))\n"
    return looked + _read(index, [*_first(case), case.elsewhere[1]]) + _answer(index, [case.elsewhere[1]])


SCRIPTS: Mapping[str, Sequence[Script]] = {
    RIGHT: (searched_read_cited, descended_read_cited, gathered_read_cited, read_more_than_cited),
    "not offered": (searched_for_something_else, searched_under_another_branch, grepped_for_something_else),
    "not entered": (
        passed_by_the_hit,
        listed_branches_and_went_elsewhere,
        listed_and_searched_in_the_wrong_one,
    ),
    "not read": (
        entered_the_branch_and_read_beside,
        listed_leaves_and_read_beside,
        searched_the_branch_for_something_else,
    ),
    "not cited": (read_and_cited_another_hit, descended_and_cited_elsewhere, gathered_and_cited_elsewhere),
}
