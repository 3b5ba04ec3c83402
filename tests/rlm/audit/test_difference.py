"""Two runs held against each other: what they said, where they went, and where they part."""

import json
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm.audit.difference import MOST_STEPS, Step, aligned, difference, in_text
from rlm.cli import main
from tests.helpers.forging import forged
from tests.helpers.recorded import DONE, LOOK, Play, Recording, events_of, traces_in

SAME = ["print(context.peek('L1-00000'))", DONE]
OTHER = ["print(context.peek('L1-00000'))", "print(context.read('L0-00002'))", DONE.replace("Two", "Three")]


@pytest.fixture
def runs(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    recording = Recording(index, tmp_path / "runs", monkeypatch)
    for root in (SAME, SAME, OTHER):
        recording.play(Play(root))
    return traces_in(recording.runs)


def test_two_runs_that_did_the_same_are_the_same(runs: list[Path]) -> None:
    found = difference(events_of(runs[0]), events_of(runs[1]))
    assert found.is_same and found.parting is None
    assert all(step.is_same for step in found.steps)
    assert "the runs are the same" in in_text(found)


def test_what_only_one_did_is_named_and_where_they_part(runs: list[Path]) -> None:
    told: Any = difference(events_of(runs[0]), events_of(runs[2])).as_json()
    assert told.keys() == {
        "same", "question", "answer", "claims", "branches", "stored", "steps", "first_divergence", "cost",
    }  # fmt: skip
    assert (told["same"], told["question"]["same"], told["answer"]["same"]) == (False, True, False)
    assert (told["answer"]["a"], told["answer"]["b"]) == ("Two.", "Three.")
    assert told["branches"]["only_b"] == ["L0-00002"] and told["branches"]["both"] == ["L1-00000"]
    assert told["first_divergence"]["a"]["arguments"] == DONE
    assert "context.read(" in told["first_divergence"]["b"]["arguments"]
    assert [step["side"] for step in told["steps"]][:2] == ["both", "both"]
    assert {"calls", "prompt_tokens", "completion_tokens", "usd", "seconds"} <= told["cost"]["a"].keys()
    assert told["cost"]["b"]["calls"] == 3


def test_a_step_with_another_result_is_where_they_part(runs: list[Path], tmp_path: Path) -> None:
    events = events_of(runs[0])
    visit = next(event for event in events if event["kind"] == "visited")
    visit["result"] = {"text": "another"}
    found = difference(events_of(runs[1]), events_of(forged(events, tmp_path)))
    assert found.parting is not None and found.parting.side == "both" and found.parting.a is not None
    assert found.parting.a.seq == visit["seq"]


def test_a_trace_without_an_end_is_compared_as_far_as_it_goes(runs: list[Path], tmp_path: Path) -> None:
    events = events_of(runs[0])
    for end in range(1, len(events)):
        found = difference(events, events_of(forged(events[:end], tmp_path)))
        assert not found.is_same or end == len(events) - 1
        assert in_text(found)


def test_the_longest_runs_are_aligned_in_bounded_work() -> None:
    steps = [Step(i, "v", str(i % 2)) for i in range(MOST_STEPS)]
    assert len(aligned(steps, steps[1:])) == MOST_STEPS


def test_the_command_prints_text_or_json(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "diff", str(runs[0]), str(runs[1])]) == 0
    assert "all the same" in capsys.readouterr().out
    assert main(["trace", "diff", str(runs[0]), str(runs[2]), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["same"] is False
    assert main(["trace", "diff", str(runs[0])]) == 2
    assert "name two runs" in capsys.readouterr().err


def test_words_of_a_run_are_shown_on_one_line(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording(index, tmp_path / "runs", monkeypatch)
    recording.play(Play([LOOK, "answer['content'] = 'a\\x1b[31m\\nb'; answer['ready'] = True"]))
    recording.play(Play([DONE]))
    text = in_text(difference(*map(events_of, traces_in(recording.runs))))
    assert "\x1b" not in text
