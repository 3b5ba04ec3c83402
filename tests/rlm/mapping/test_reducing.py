"""A reduction over random trees and with random failures: what it takes, what it keeps, and what it tells."""

import asyncio
import json
import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from rlm.gateway.blocks import Block, unquote
from rlm.gateway.tokens import count_tokens
from rlm.mapping.notes import Note, Source
from rlm.mapping.reducing import (
    CITED,
    Leaf,
    Reduced,
    Reduction,
    Weight,
    _with_marks,
    pack,
    plan,
    reduce,
    shared,
)
from rlm.mapping.types import MappingError, Prompt, Reading, Take
from rlm.prompts import NOT_IN_DOCUMENTS, REDUCE_ANSWER, REDUCE_LEAF

MODEL = "offline/reader"
QUESTION = "What is told of masts?"
PATHS = st.lists(st.lists(st.integers(0, 2), max_size=3).map(tuple), max_size=40).map(sorted)

Rule = Callable[[Prompt], Reading]


@given(PATHS, st.randoms(use_true_random=False), st.integers(1, 120))
def test_packs_hold_everything_in_order_and_any_two_that_touch_are_too_much_for_one(
    paths: list[tuple[int, ...]], chance: random.Random, room: int
) -> None:
    weights = [Weight(chance.randint(0, 60), path) for path in paths]
    packs = pack(weights, room)
    sizes = [sum(weights[place].tokens for place in one) for one in packs]
    assert [place for one in packs for place in one] == [*range(len(paths))]
    assert all(size <= room or len(one) == 1 for size, one in zip(sizes, packs, strict=True))
    assert all(a + b > room for a, b in pairwise(sizes))


def test_a_branch_that_fits_is_in_one_pack_and_small_ones_share_one_with_their_siblings() -> None:
    paths = [(9, 1)] * 3 + [(9, 2)] + [(9, 3)] + [(9, 4)] * 3
    packs = pack([Weight(10, path) for path in paths], 30)
    assert packs == [[0, 1, 2], [3, 4], [5, 6, 7]]
    assert pack([Weight(40, (1,)), Weight(5, (1,))], 30) == [[0], [1]]
    assert pack([], 30) == []


def test_what_branches_share_is_how_their_paths_begin() -> None:
    assert shared([(9, 1, 4), (9, 1, 5), (9, 1)]) == (9, 1)
    assert shared([(9, 1), (8, 1)]) == ()
    assert shared([(9, 1)]) == (9, 1)


@pytest.mark.parametrize("options", [{"question": " "}, {"room": 99}, {"reply_tokens": 0}, {"wave": 0}])
def test_what_cannot_be_reduced_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MappingError):
        Reduction(**{"question": QUESTION, "model": MODEL} | options)


# -- the climb ---------------------------------------------------------------------------------------------


def leaves_of(paths: Sequence[tuple[int, ...]], chars: int = 40) -> list[Leaf]:
    texts = [f"Passage {number} tells of mast {number}. {'x ' * chars}" for number in range(len(paths))]
    return [
        Leaf((Block(f"p{n}", text),), path) for n, (path, text) in enumerate(zip(paths, texts, strict=True))
    ]


class Asking:
    """An ask that answers by a rule, and keeps what it was asked; a wave's readings have names in its order."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.prompts = rule, list[Prompt]()
        self.waves: list[int] = []

    async def __call__(self, prompts: Sequence[Prompt], take: Take, /) -> None:
        self.prompts += prompts
        self.waves.append(len(prompts))
        for place, reading in enumerate([self.rule(prompt) for prompt in prompts]):
            await take(place, reading)


def good(prompt: Prompt) -> Reading:
    """Notes of all that a prompt holds, as many as its reply may have."""
    system, user = (message["content"] for message in prompt.messages)
    blocks = unquote(user)
    if system == REDUCE_LEAF:
        lines = [
            {"note": f"It tells of {b.text[22:29].strip()}", "from": [b.name], "quote": b.text[:28].strip()}
            for b in blocks
        ]
    else:
        name = "statement" if system == REDUCE_ANSWER else "note"
        numbers = [line.partition(":")[0] for line in blocks[0].text.split("\n")]
        lines = [{name: "masts " * 8, "from": numbers[at::4]} for at in range(min(4, len(numbers)))]
    return Reading("\n".join(map(json.dumps, lines)), call="c")


def bad_by(chance: random.Random, share: float) -> Rule:
    """A rule that fails in one of many ways for a share of the prompts."""
    ways: list[Rule] = [
        lambda prompt: Reading(error="it failed"),
        lambda prompt: Reading("I cannot."),
        lambda prompt: Reading("NONE"),
        lambda prompt: Reading("", cut=True),
        lambda prompt: Reading(good(prompt).text[: chance.randrange(80)], cut=True),
        lambda prompt: Reading(good(prompt).text.replace('"from": [', '"from": [99999, ')),
        lambda prompt: Reading("\n".join([good(prompt).text] * 40)),
        lambda prompt: Reading(
            '{"note": "' + "masts " * 3_000 + '", "from": [1, "p0"], "quote": "Passage 0"}'
        ),
    ]
    return lambda prompt: (chance.choice(ways) if chance.random() < share else good)(prompt)


def run(leaves: Sequence[Leaf], rule: Rule, **options: int) -> tuple[Reduced, Asking, Reduction]:
    task, asking = Reduction(QUESTION, MODEL, **{"room": 400} | options), Asking(rule)
    return asyncio.run(reduce(task, leaves, asking)), asking, task


@settings(max_examples=60, deadline=None)
@given(
    PATHS.filter(bool),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(100, 500),
)
def test_no_more_is_asked_than_was_planned_and_every_citation_stands(
    paths: list[tuple[int, ...]], chance: random.Random, share: float, room: int
) -> None:
    leaves = leaves_of(paths)
    reduced, asking, task = run(leaves, bad_by(chance, share), room=room, wave=7)
    worst = plan(task, leaves)
    assert len(asking.prompts) <= len(worst.calls)
    assert sum(p.max_tokens for p in asking.prompts) <= sum(s.reply_tokens for s in worst.calls)
    sent = sum(count_tokens(MODEL, p.messages) for p in asking.prompts)
    assert sent <= sum(s.prompt_tokens for s in worst.calls)
    assert max(asking.waves) <= 7
    for source in (*reduced.sources, *(s for note in reduced.notes for s in note.sources)):
        text = leaves[source.pack].blocks[source.block].text
        assert text[source.start : source.end] == source.quote != ""
    assert all(note.sources for note in reduced.notes)
    marks = {int(mark) for mark in re.findall(r"\[(\d+)\]", reduced.answer)}
    assert marks == {*range(1, len(reduced.sources) + 1)}
    assert reduced.answer or reduced.failed


@given(st.integers(1, 60), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_same_replies_give_the_same_answer(count: int, chance: random.Random) -> None:
    seed, leaves = chance.random(), leaves_of([(n // 9, n // 3) for n in range(count)])
    one, other = (run(leaves, bad_by(random.Random(seed), 0.3))[0] for _ in range(2))
    assert one == other


def test_all_leaves_reach_the_answer_through_several_levels() -> None:
    leaves = leaves_of([(0, n // 6, n // 3) for n in range(60)])
    reduced, _, task = run(leaves, good)
    assert {source.pack for source in reduced.sources} == {*range(60)}
    assert len(plan(task, leaves).levels) > 3
    assert not (reduced.failed or reduced.cut or reduced.dropped)


def test_notes_that_fit_into_one_prompt_are_answered_from_at_once() -> None:
    _, asking, _ = run(leaves_of([(0,), (0,), (1,)]), good, room=2_000)
    assert len(asking.prompts) == 4


def test_a_branch_without_evidence_is_cut_and_named() -> None:
    reduced, asking, _ = run(
        leaves_of([(0,), (1,)]),
        lambda p: (
            Reading("NONE")
            if "<<<DATA" in p.messages[1]["content"] and "p1>>>" in p.messages[1]["content"]
            else good(p)
        ),
    )
    assert (reduced.cut, [s.pack for s in reduced.sources]) == (("p1",), [0])
    assert len(asking.prompts) == 3


def test_where_nothing_is_noted_the_documents_do_not_hold_it() -> None:
    reduced, asking, _ = run(leaves_of([(0,), (1,)]), lambda prompt: Reading("NONE"))
    assert (reduced.answer, reduced.cut, reduced.failed) == (f"{NOT_IN_DOCUMENTS}.", ("p0", "p1"), ())
    assert len(asking.prompts) == 2


def test_where_the_leaves_failed_nothing_is_said_of_the_documents() -> None:
    reduced, asking, _ = run(leaves_of([(0,), (1,)]), lambda prompt: Reading(error="no route"))
    assert (reduced.answer, reduced.failed) == ("", ("p0: no route", "p1: no route"))
    assert len(asking.prompts) == 4  # two again, in all


def test_a_bad_reply_is_asked_again_and_then_forgotten() -> None:
    replies = iter([Reading("I cannot."), Reading(error="busy")])
    reduced, asking, _ = run(leaves_of([(0,)]), lambda prompt: next(replies, None) or good(prompt))
    assert not reduced.failed
    assert reduced.answer
    assert len(asking.prompts) == 4


def test_a_parent_that_fails_hands_the_first_notes_on_and_is_told() -> None:
    leaves = leaves_of([(n // 8,) for n in range(40)])

    def rule(prompt: Prompt) -> Reading:
        return (
            good(prompt)
            if prompt.messages[0]["content"] in (REDUCE_LEAF, REDUCE_ANSWER)
            else Reading(error="down")
        )

    reduced, _, _ = run(leaves, rule)
    assert reduced.answer
    assert reduced.dropped
    assert {one.rpartition(": ")[2] for one in reduced.failed} == {"down"}


def test_a_cap_ends_it_with_what_is_missing_named() -> None:
    left = iter(range(3))
    reduced, asking, _ = run(
        leaves_of([(n,) for n in range(9)]),
        lambda prompt: (
            good(prompt)
            if next(left, None) is not None
            else Reading(error="the cap of 3 calls", stopped=True)
        ),
        wave=2,
    )
    assert reduced.answer == ""
    assert len(reduced.failed) == 7
    assert all(one.endswith(": the cap of 3 calls") for one in reduced.failed)
    assert len(asking.prompts) == 4


def test_an_answer_cites_no_more_than_is_looked_up_and_each_statement_some() -> None:
    few, many = ([Source(0, 0, n, n + 1, "x") for n in range(a, b)] for a, b in ((0, 3), (3, 400)))
    answer, sources, uncited = _with_marks([Note("All.", tuple(many)), Note("Few.", tuple(few))])
    assert len(sources) + uncited == 400
    assert len(sources) <= CITED
    assert few[0] in sources
    assert answer.split("\n")[1].startswith("Few. [")
