"""How large packs should be: the largest in which a model reads as it does in the smallest."""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from rlm.mapping.calibrating import apart, largest, sampled, shares, spaced, trial
from rlm.mapping.fields import parse_fields
from rlm.mapping.mapping import map_rows, prepare
from rlm.mapping.packing import Size
from rlm.mapping.types import PACK_TOKENS, Answer, Forgetful, Mapped, Prompt, Reader, Reading, Task
from tests.helpers.row_reader import Child, Kept, rows_in

FIELDS = parse_fields({"letter": ["a", "b"]})


def answers(letters: str) -> dict[int, Answer]:
    """A reading of rows from 0 on, a letter each; a blank is a row that it left out."""
    return {row: Answer({"letter": letter}) for row, letter in enumerate(letters) if letter != " "}


def taken(*read: str, third: str) -> int:
    """Which of the sizes is taken, by the rows on which they differ and a third reading that gives these letters."""
    readings = [answers(letters) for letters in read]
    differing = apart(FIELDS, readings, range(len(read[0])))
    again = {row: answer for row, answer in answers(third).items() if row in differing}
    return largest(FIELDS, readings, again, range(len(read[0])))


def test_the_largest_is_taken_that_is_not_wrong_more_often_than_the_smallest() -> None:
    assert taken("aaaa", "aaaa", third="    ") == 0
    assert taken("aaab", "aaaa", third="aaab") == 0, "the smaller packs were wrong"
    assert taken("aaab", "aaaa", third="aaaa") == 1
    assert taken("abab", "aaaa", third="aaab") == 0, "each was wrong once"
    assert taken("bbaa", "baaa", "aaaa", third="aaaa") == 2
    assert taken("bbaa", "aaaa", "aaaa", third="aaaa") == 1


def test_a_row_that_one_reading_leaves_out_tells_nothing_and_a_size_that_answers_few_is_not_taken() -> None:
    assert taken(" aaa", "aaaa", third="aaaa") == 0
    assert taken("   a", "aaaa", third="aaaa") == 1
    assert taken("bbaa", "    ", third="    ") == 0, "there is nothing against it"
    assert apart(FIELDS, [answers("abba"), answers("aba ")], range(4)) == [2]


def test_the_packs_on_trial_hold_as_many_rows_as_are_sampled() -> None:
    rows, size = list(range(5_000)), Size(2_000, 100)
    packs = [trial(rows, dict.fromkeys(rows, 20), size.part(share), 50) for share in (1.0, 1 / 4)]
    assert [[len(one.rows) for one in of] for of in packs] == [[100], [25, 25]]
    assert all(
        [row for one in of for row in one.rows] == list(range(sum(len(one.rows) for one in of)))
        for of in packs
    )
    assert (sampled(100), sampled(20_000), sampled(10**6)) == (40, 200, 400)
    assert (sampled(20_000, 51), sampled(20_000, 3)) == (17, 16)
    assert [shares(rows) for rows in (64, 60, 31, 16, 15)] == [[1 / 8, 1 / 16], [1 / 8], [1 / 4], [1 / 4], []]


def test_a_sample_is_taken_from_the_whole_of_a_pack() -> None:
    assert spaced(range(100), 4) == [0, 25, 50, 75]
    assert spaced([5, 6], 4) == [5, 6]


TASK = Task("Which letter?", FIELDS, Reader("openai/gpt-5-mini"), pack_tokens=1_600, calibrate=True)
TEXTS = [f"number {n} has the letter {'ab'[n % 3 % 2]} in it, beside other words" for n in range(4_000)]


def rule(text: str) -> Mapping[str, str]:
    return {"letter": "a" if " a " in text else "b"}


class Tires(Child):
    """It errs in a share of rows that grows with their number in the prompt above `well`; otherwise it is exact."""

    well = 20

    def read(self, prompt: Prompt) -> Reading:
        self.prompts.append(prompt)
        rows = rows_in(prompt.messages[-1]["content"])
        error = min(0.4, 0.01 * max(0, len(rows) - self.well))
        lines = []
        for number, text in rows.items():
            letter = rule(text)["letter"]
            wrong = self.chance.random() < error
            lines.append(json.dumps({"row": number, "letter": "ba"["ab".index(letter)] if wrong else letter}))
        return Reading("\n".join(lines))


def mapped(child: Child, task: Task, memo: Kept | None = None) -> tuple[Mapped, float]:
    found = asyncio.run(map_rows(prepare(task, TEXTS), child, memo or Forgetful(), lambda progress: None))
    right = sum(dict(one.values) == rule(text) for one, text in zip(found.answers, TEXTS, strict=True))
    return found, right / len(TEXTS)


def test_a_model_that_tires_gets_small_packs_and_one_that_does_not_full_ones() -> None:
    tired, right = mapped(tires := Tires(rule), TASK)
    _, fixed = mapped(Tires(rule), replace(TASK, calibrate=False))
    assert fixed < 0.75 < 0.95 < right
    assert tired.pack_tokens < 800
    assert tired.progress.done == len(TEXTS)
    fresh, exact = mapped(child := Child(rule), TASK)
    assert (exact, fresh.pack_tokens) == (1.0, TASK.pack_tokens)
    assert len(child.prompts) < len(tires.prompts)


def test_answers_of_packs_that_are_too_large_are_not_kept() -> None:
    memo = Kept()
    found, right = mapped(Tires(rule), TASK, memo)
    again, right_again = mapped(child := Child(rule), TASK, memo)
    assert (child.rows, right_again) == (0, right)
    assert [one.values for one in again.answers] == [one.values for one in found.answers]


def test_what_was_read_before_a_cap_ended_the_trial_is_kept() -> None:
    class Capped(Child):
        def read(self, prompt: Prompt) -> Reading:
            return Reading(error="the cap is met", stopped=True) if self.prompts else super().read(prompt)

    found, _ = mapped(child := Capped(rule), replace(TASK, pack_tokens=300))
    assert found.stopped == "the cap is met"
    assert found.progress.done == len(child.prompts[0].rows) > 0


@pytest.mark.parametrize(("texts", "calibrate"), [(400, None), (4_000, False), (400, True)])
def test_a_small_map_is_calibrated_only_where_it_is_told_to(texts: int, calibrate: bool | None) -> None:
    child = Child(rule)
    task = replace(TASK, calibrate=calibrate, pack_tokens=None)
    found = asyncio.run(map_rows(prepare(task, TEXTS[:texts]), child, Forgetful(), lambda progress: None))
    assert (child.rows > texts) is bool(calibrate)
    assert not any(answer.error for answer in found.answers)


def test_a_large_map_of_a_model_that_reads_well_takes_one_call_more_than_full_packs() -> None:
    child, texts = Child(rule), [f"{text} and some more words, {n}" for n, text in enumerate(TEXTS * 4)]
    found = asyncio.run(
        map_rows(prepare(replace(TASK, pack_tokens=None), texts), child, Forgetful(), lambda _: None)
    )
    assert found.pack_tokens == PACK_TOKENS
    full = replace(TASK, pack_tokens=PACK_TOKENS, calibrate=False)
    asyncio.run(map_rows(prepare(full, texts), plain := Child(rule), Forgetful(), lambda _: None))
    check = math.ceil(sampled(len(texts)) / 60)  # rows in packs of a quarter of the size, at least
    assert len(plain.prompts) < len(child.prompts) <= len(plain.prompts) + check
