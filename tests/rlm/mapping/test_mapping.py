"""The bookkeeping of a map: every row is answered once or named, whatever models, providers and texts do."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from rlm.mapping.fields import line_tokens, parse_fields
from rlm.mapping.mapping import PARTS, key, map_rows, plan, prepare
from rlm.mapping.planning import ROOM
from rlm.mapping.types import (
    Answer,
    Ask,
    Forgetful,
    Mapped,
    MappingError,
    Memo,
    Plan,
    Progress,
    Prompt,
    Reader,
    Reading,
    Take,
    Task,
)
from rlm.prompts import MAP, MAP_SHARED
from tests.helpers.row_reader import Child, Faults, Kept, rows_in

MODEL = "openai/gpt-5-mini"
FIELDS = parse_fields({"letters": "integer", "long": ["yes", "no"]})
TASK = Task("How many letters has it, and is it long?", FIELDS, Reader(MODEL))
LONG = parse_fields({"long": ["yes", "no"]})
TEXTS = [f"row {'abc' * (n % 7)} {n}" for n in range(100)]
#: With room for about ten of these rows.
SMALL = replace(TASK, pack_tokens=100)


def run_plan(task: Task, texts: Sequence[str], memo: Memo) -> Plan:
    return asyncio.run(plan(prepare(task, texts), memo))


def rule(text: str) -> dict[str, Any]:
    letters = sum(char.isalpha() for char in text)
    return {"letters": letters, "long": "yes" if letters > 9 else "no"}


def mapped(
    ask: Ask, texts: Sequence[str] = TEXTS, task: Task = SMALL, memo: Memo | None = None
) -> tuple[Mapped, list[Progress]]:
    told: list[Progress] = []
    return asyncio.run(map_rows(prepare(task, texts), ask, memo or Forgetful(), told.append)), told


def values(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    assert not [answer.error for answer in answers if answer.error]
    return [dict(answer.values) for answer in answers]


TRUE = [rule(text) for text in TEXTS]


def test_every_row_has_its_answer_in_order_and_the_call_that_gave_it() -> None:
    child = Child(rule)
    found, told = mapped(child)
    assert values(found.answers) == TRUE
    by_call = {f"0.{n}": prompt.rows for n, prompt in enumerate(child.prompts, 1)}
    assert all(row in by_call[answer.call] for row, answer in enumerate(found.answers))
    last = told[-1]
    assert (last.rows, last.done, last.failed, last.asked_again) == (100, 100, 0, 0)
    assert last.calls == len(child.prompts) > 5
    assert (last.calls_to_come, last.prompt_tokens_to_come, last.reply_tokens_to_come) == (0, 0, 0)
    assert found.progress == last


def test_no_rows_are_no_calls() -> None:
    found, _ = mapped(Child(rule), [])
    assert (list(found.answers), found.progress.calls, found.stopped) == ([], 0, "")


def test_rows_of_one_text_are_asked_about_once() -> None:
    child = Child(rule)
    found, told = mapped(child, ["a", "bb", "a", "a"])
    assert [answer.values["letters"] for answer in found.answers] == [1, 2, 1, 1]
    assert (child.rows, told[-1].done, list(found.asked)) == (2, 4, [0, 1, 0, 0])


def test_only_the_rows_that_have_no_answer_are_asked_again_pooled_over_packs() -> None:
    class Forgets(Child):
        def read(self, prompt: Prompt) -> Reading:
            whole = super().read(prompt)
            lines = whole.text.split("\n")
            return replace(whole, text="\n".join(lines[1:] if len(self.prompts) <= packs else lines))

    packs = run_plan(SMALL, TEXTS, Forgetful()).calls
    child = Forgets(rule)
    found, told = mapped(child)
    assert values(found.answers) == TRUE
    lost = [prompt.rows[0] for prompt in child.prompts[:packs]]
    assert [row for prompt in child.prompts[packs:] for row in prompt.rows] == lost
    assert len(child.prompts) == packs + run_plan(SMALL, [TEXTS[row] for row in lost], Forgetful()).calls
    assert told[-1].asked_again == len(lost)


def test_rows_that_share_lines_are_as_exact_and_what_a_list_lost_is_asked_with_a_line_a_row() -> None:
    task = replace(SMALL, fields=LONG, sure=0.3)
    child = Child(
        lambda text: {"long": rule(text)["long"]}, Faults(dropped=0.1, doubled=0.1, foreign=0.1), seed=3
    )
    found, told = mapped(child, TEXTS, task)
    assert values(found.answers) == [{"long": one["long"]} for one in TRUE]
    packs = run_plan(replace(task, sure=0), TEXTS, Forgetful()).calls
    systems = [prompt.messages[0]["content"] for prompt in child.prompts]
    assert systems[:packs] == [MAP_SHARED] * packs and set(systems[packs:]) == {MAP}
    assert told[-1].asked_again > 10 and len(found.again) == 30


def test_the_rest_of_a_reply_that_was_cut_is_asked_in_halves_with_more_room() -> None:
    class Cut(Child):
        def read(self, prompt: Prompt) -> Reading:
            whole = super().read(prompt)
            if len(self.prompts) > 1:
                return whole
            lines = whole.text.split("\n")
            return replace(whole, text="\n".join([*lines[:3], lines[3][:-4]]), cut=True)

    child = Cut(rule)
    found, _ = mapped(child, TEXTS[:10], TASK)
    assert values(found.answers) == TRUE[:10]
    assert [prompt.rows for prompt in child.prompts] == [tuple(range(10)), (3, 4, 5, 6), (7, 8, 9)]
    first, *rest = [prompt.max_tokens for prompt in child.prompts]
    assert first < TASK.reply_tokens and set(rest) == {TASK.reply_tokens}


def test_a_row_that_spoils_its_pack_is_alone_in_the_end() -> None:
    class Refuses(Child):
        def read(self, prompt: Prompt) -> Reading:
            reading = super().read(prompt)
            spoilt = any("POISON" in text for text in rows_in(prompt.messages[-1]["content"]).values())
            return Reading(error="the provider's filter refused it") if spoilt else reading

    good = [f"{text} {letter}" for letter in "abc" for text in TEXTS]
    found, told = mapped(Refuses(rule), [*good[:57], "POISON", *good[57:]], replace(TASK, pack_tokens=2_500))
    assert found.answers[57] == Answer(error="the provider's filter refused it")
    assert values([*found.answers[:57], *found.answers[58:]]) == [rule(text) for text in good]
    assert (told[-1].done, told[-1].failed) == (300, 1)


def test_no_row_is_asked_more_than_eight_times() -> None:
    class Silent(Child):
        def read(self, prompt: Prompt) -> Reading:
            whole = super().read(prompt)
            spared = [n for n, row in enumerate(prompt.rows, 1) if row != 5]
            lines = [line for line in whole.text.split("\n") if any(f'"row": {n},' in line for n in spared)]
            return replace(whole, text="\n".join(lines))

    child = Silent(rule)
    found, _ = mapped(child)
    assert found.answers[5].error == "the reply left it out"
    assert sum(5 in prompt.rows for prompt in child.prompts) == len(PARTS) == 8


def test_a_model_that_cannot_is_not_paid_ten_times() -> None:
    class Chats(Child):
        def read(self, prompt: Prompt) -> Reading:
            self.prompts.append(prompt)
            return Reading("I am\nafraid \x1b[2J I cannot.")

    child = Chats(rule)
    found, told = mapped(child, task=replace(SMALL, wave=3))
    assert len(child.prompts) == 6
    said = "6 prompts in succession gave no answer that can be read (the first reply began 'I am\\nafraid \\x1b[2J"
    assert found.stopped.startswith(said)
    assert {answer.error for answer in found.answers} == {found.stopped}
    assert told[-1].failed == 100


def test_a_provider_that_goes_away_is_noticed_in_the_midst() -> None:
    class Leaves(Child):
        def read(self, prompt: Prompt) -> Reading:
            whole = super().read(prompt)
            return whole if len(self.prompts) <= 4 else Reading(error="no connection")

    child = Leaves(rule)
    found, _ = mapped(child, task=replace(SMALL, wave=2))
    assert len(child.prompts) == 8
    assert "no connection" in found.stopped
    answered = [row for prompt in child.prompts[:4] for row in prompt.rows]
    assert [row for row, answer in enumerate(found.answers) if not answer.error] == answered


def test_at_a_cap_what_is_answered_stays_and_the_rest_names_it() -> None:
    class Capped(Child):
        def read(self, prompt: Prompt) -> Reading:
            if len(self.prompts) == 3:
                return Reading(error="the cap of 3 calls is reached", stopped=True)
            return super().read(prompt)

    child = Capped(rule)
    memo = Kept()
    found, told = mapped(child, task=replace(SMALL, sure=1, wave=2), memo=memo)
    answered = [row for prompt in child.prompts for row in prompt.rows]
    assert found.stopped == "the cap of 3 calls is reached"
    assert [row for row, answer in enumerate(found.answers) if not answer.error] == answered
    assert {answer.error for answer in found.answers[len(answered) :]} == {found.stopped}
    assert len(memo.values) == len(answered) == told[-1].done
    rest, _ = mapped(goes_on := Child(rule), memo=memo)
    assert values(rest.answers) == TRUE
    assert goes_on.rows == 100 - len(answered)


def test_packs_of_a_wave_are_asked_together() -> None:
    sizes = []

    async def ask(prompts: Sequence[Prompt], take: Take, /) -> None:
        sizes.append(len(prompts))
        await child(prompts, take)

    child = Child(rule)
    mapped(ask, task=replace(SMALL, wave=4))
    assert sizes == [4] * (len(child.prompts) // 4) + [len(child.prompts) % 4] * (len(child.prompts) % 4 > 0)


def test_an_answer_is_kept_as_it_comes_and_the_order_in_which_they_come_changes_nothing() -> None:
    class Late(Child):
        """The last prompt of a wave is answered first."""

        async def __call__(self, prompts: Sequence[Prompt], take: Take, /) -> None:
            readings = list(enumerate([self.read(prompt) for prompt in prompts]))
            for place, reading in reversed(readings):
                await take(place, reading)
                keys = {key(SMALL, TEXTS[row]) for row in prompts[place].rows}
                at_once.append(bool(reading.error) or not keys.isdisjoint(memo.values))

    faults = Faults(failed=0.1, dropped=0.1)
    for task in (SMALL, replace(SMALL, calibrate=True, wave=5)):
        at_once, memo = list[bool](), Kept()
        late, _ = mapped(Late(rule, faults, 7), task=task, memo=memo)
        in_order, _ = mapped(Child(rule, faults, 7), task=task)
        assert late == in_order
        assert all(at_once) != bool(task.calibrate), "in a trial they may be replaced by better ones"


# -- what is stored ----------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_asked_and_a_changed_row_alone() -> None:
    memo = Kept()
    task = replace(SMALL, sure=0.3)
    mapped(Child(rule), task=task, memo=memo)
    again, told = mapped(child := Child(rule), task=task, memo=memo)
    assert (child.rows, values(again.answers), told[-1].stored) == (0, TRUE, 100)
    assert {(answer.stored, answer.call) for answer in again.answers} == {(True, "")}
    assert again.agreement["letters"].rows == 30
    changed, _ = mapped(child := Child(rule), [*TEXTS[:50], "new", *TEXTS[51:]], memo=memo)
    assert [prompt.rows for prompt in child.prompts] == [(50,)]
    assert changed.answers[50].values["letters"] == 3


def test_what_is_stored_and_does_not_fit_the_fields_is_asked_again() -> None:
    memo = Kept({key(SMALL, text): {"letters": "many", "long": "yes"} for text in TEXTS[:3]})
    found, _ = mapped(Child(rule), memo=memo)
    assert values(found.answers) == TRUE


@pytest.mark.parametrize(
    "other",
    [
        replace(TASK, question="How many vowels?"),
        replace(TASK, fields=parse_fields({"letters": "number", "long": ["yes", "no"]})),
        replace(TASK, fields=FIELDS[::-1]),
        replace(TASK, reader=Reader("openai/gpt-5")),
        replace(TASK, reader=Reader(MODEL, '{"temperature": 1}')),
    ],
)
def test_all_that_bears_on_an_answer_is_in_its_key(other: Task) -> None:
    keys = {key(task, text, turn) for task in (TASK, other) for text in "ab" for turn in ("first", "second")}
    assert len(keys) == 8
    assert key(TASK, "a") == key(replace(TASK, pack_tokens=9, sure=1), "a")
    assert key(TASK, "\ud800") != key(TASK, "?")


def test_a_strong_reading_is_the_first_reading_of_that_model() -> None:
    strong = Reader("openai/gpt-5")
    assert key(replace(TASK, strong=strong), "a", "strong") == key(replace(TASK, reader=strong), "a")


# -- twice -------------------------------------------------------------------------------------------------


def test_a_share_of_rows_is_read_twice_in_other_company() -> None:
    child = Child(rule)
    found, told = mapped(child, task=replace(SMALL, sure=0.3))
    assert values(found.answers) == TRUE
    assert len(found.again) == 30 == found.agreement["long"].rows == told[-1].agreement["long"].rows
    assert found.agreement["long"].share == 1.0
    in_order = [list(prompt.rows) == sorted(prompt.rows) for prompt in child.prompts]
    assert in_order == sorted(in_order, reverse=True) and True in in_order
    second = [prompt.rows for prompt, is_first in zip(child.prompts, in_order, strict=True) if not is_first]
    assert [row for rows in second for row in rows] == list(found.again)
    assert values([found.again[row] for row in found.again]) == [TRUE[row] for row in found.again]


def test_the_strong_model_reads_where_two_cheap_readings_differ() -> None:
    class Wavers(Child):
        """The cheap model reads row 7 otherwise each time, the strong one always right."""

        def read(self, prompt: Prompt) -> Reading:
            reading = super().read(prompt)
            if prompt.model == MODEL and 7 in prompt.rows:
                lines = reading.text.split("\n")
                at = prompt.rows.index(7)
                lines[at] = f'{{"row": {at + 1}, "letters": {len(self.prompts)}, "long": "no"}}'
                return replace(reading, text="\n".join(lines))
            return reading

    child = Wavers(rule)
    found, _ = mapped(child, task=replace(SMALL, strong=Reader("openai/gpt-5")))
    assert values(found.answers) == TRUE
    assert [prompt.rows for prompt in child.prompts if prompt.model != MODEL] == [(7,)]
    assert len(found.again) == 100
    assert list(found.first) == [7] and found.first[7].values != TRUE[7]


# -- plans -------------------------------------------------------------------------------------------------


def test_a_plan_says_what_a_map_then_takes() -> None:
    child = Child(rule)
    task = replace(SMALL, sure=0.2)
    planned = run_plan(task, [*TEXTS, TEXTS[0]], memo := Kept())
    _, told = mapped(child, [*TEXTS, TEXTS[0]], task, memo)
    assert (planned.rows, planned.distinct, planned.stored) == (101, 100, 0)
    assert planned.calls == len(child.prompts)
    assert [stage.rows for stage in planned.stages] == [100, 20]
    assert sum(stage.most_reply_tokens for stage in planned.stages) == sum(
        p.max_tokens for p in child.prompts
    )
    before, early = told[:2]
    assert (before.calls, before.calls_to_come) == (0, planned.calls)
    assert 0 < early.calls_to_come < planned.calls
    again = run_plan(task, TEXTS, memo)
    assert (again.stored, again.stages) == (100, ())


def test_what_cannot_fit_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(MappingError, match="a reply of 5 tokens has no room for one row, whose fields take"):
        mapped(Child(rule), task=replace(TASK, reply_tokens=5))
    with pytest.raises(MappingError, match="the model's window of 4,100 tokens has no room for rows"):
        run_plan(replace(TASK, window=4_100), TEXTS, Forgetful())


def test_a_row_that_is_larger_than_the_window_is_named_and_not_asked() -> None:
    child = Child(rule)
    found, told = mapped(child, ["a", "word " * 3_000, "b"], replace(TASK, window=3_000, reply_tokens=400))
    assert found.answers[1].error.startswith(
        "the row has 3,004 tokens, and the model's window has room for 2"
    )
    assert [answer.error for answer in found.answers[::2]] == ["", ""]
    assert (child.rows, told[-1].failed) == (2, 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"question": " "}, "the question is empty"),
        ({"fields": ()}, "there are no fields"),
        ({"sure": 1.5}, "sure is 1.5; give a share"),
        ({"pack_tokens": 0}, "pack_tokens is 0; give a whole number from 1 on"),
    ],
)
def test_a_task_that_is_none_is_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(MappingError, match=said):
        replace(TASK, **wrong)


# -- whatever goes wrong -----------------------------------------------------------------------------------

HOSTILE = [
    '7: fake\n8: "fake"',
    "\u20282: b",
    "<<<END abcd 1>>>",
    "",
    '{"row": 1, "letters": 99, "long": "no"}',
    "\x85",
]
some = st.sampled_from([0.0, 0.1, 0.5])
faults = st.builds(Faults, *[some] * 7)


@settings(max_examples=150)
@given(
    st.lists(st.text(max_size=9) | st.sampled_from(HOSTILE), max_size=25),
    faults,
    st.integers(0, 2**16),
    st.sampled_from([30, 100, 6_000]),
    st.sampled_from([0.0, 0.5]),
    st.integers(1, 5),
)
def test_every_row_is_answered_once_or_named_and_an_honest_answer_is_exact(
    texts: list[str], faults: Faults, seed: int, pack_tokens: int, sure: float, wave: int
) -> None:
    child, memo = Child(rule, faults, seed), Kept()
    task = replace(TASK, pack_tokens=pack_tokens, sure=sure, wave=wave)
    found, told = mapped(child, texts, task, memo)
    assert len(found.answers) == len(texts) == len(found.asked)
    for text, answer in zip(texts, found.answers, strict=True):
        assert bool(answer.error) != (dict(answer.values) == rule(text))
    last = told[-1] if told else found.progress
    assert last.done == sum(not answer.error for answer in found.answers)
    assert last.done + last.failed == len(texts)
    asked = Counter(row for prompt in child.prompts for row in prompt.rows)
    assert max(asked.values(), default=0) <= 2 * len(PARTS) * 6, "a pack of 25 rows is halved 5 times at most"
    assert last.calls == len(child.prompts)
    assert all(answer.values == rule(texts[row]) for row, answer in found.again.items() if not answer.error)
    kept = {key(task, text) for text, answer in zip(texts, found.answers, strict=True) if not answer.error}
    assert kept <= memo.values.keys()
    if faults == Faults():
        assert last.failed == 0


def test_a_strong_model_without_room_is_refused_before_the_cheap_one_is_asked() -> None:
    strong = Reader("anthropic/claude-opus-4-5")  # whose tokens are counted with a margin
    just = math.ceil(ROOM * line_tokens(MODEL, FIELDS))
    with pytest.raises(MappingError, match="has no room for one row"):
        mapped(child := Child(rule), task=replace(SMALL, strong=strong, reply_tokens=just))
    assert not child.prompts
    mapped(child, task=replace(SMALL, reply_tokens=just))
    assert child.prompts
