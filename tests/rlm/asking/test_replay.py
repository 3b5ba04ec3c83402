"""A recorded run, done again from its record: it comes out the same, or the first difference is named."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index, open_index
from index_store.writer import Draft
from rlm import Limits, Models
from rlm.asking.replaying.forking import fork
from rlm.asking.replaying.replay import replay
from rlm.audit import read, verify
from rlm.audit.given import given
from rlm.audit.log import FILE_NAME
from rlm.audit.redacting import redact_field
from rlm.cli import main
from rlm.errors import RlmError
from rlm.loop.checks import Refused
from rlm.loop.verbs import Verbs
from rlm.prompts import refusals
from tests.helpers.forging import forged
from tests.helpers.model_server import MODEL
from tests.helpers.recorded import (
    DONE,
    LOOK,
    MODELS,
    RECORDED,
    TAKING_LONG,
    Play,
    Recording,
    events_of,
    traces_in,
)
from tests.helpers.toy import TEXTS, publish_toy, toy_draft


@pytest.fixture
def recording(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    return Recording(index, tmp_path / "runs", monkeypatch)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in TAKING_LONG else ()) for name in RECORDED]
)
def test_a_run_comes_out_the_same(name: str, recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    RECORDED[name](recording)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for run in traces_in(recording.runs):
        done = replay(run, recording.index)
        assert done.difference is None
        assert done.is_same and done.events == len(events_of(run))


def test_what_was_read_of_rows_stands_in_the_trace_and_agrees_with_the_index(recording: Recording) -> None:
    RECORDED["rows"](recording)
    (run,) = traces_in(recording.runs)
    assert verify(run, index=recording.index).ok
    events = events_of(run)
    read_rows = [event for event in events if event["kind"] == "visited" and event["verb"] == "read_rows"]
    texts = [row["text"] for event in read_rows for row in event["result"]]
    lines = [line for text in TEXTS.values() for line in text.split("\n")]
    assert texts[: len(lines)] == lines
    assert [(one["doc"], one["supported"]) for one in first_of(events, "answered")["citations"]] == [
        ("boats.txt", "verbatim")
    ] * 2
    assert {span.doc for span in given(recording.index, events)} == {*TEXTS}


def test_a_row_that_a_trace_tells_otherwise_than_the_index_is_found(
    recording: Recording, tmp_path: Path
) -> None:
    RECORDED["rows"](recording)
    (run,) = traces_in(recording.runs)

    def change(events: list[dict[str, Any]]) -> None:
        (row,) = next(e for e in events if e["kind"] == "visited" and e["verb"] == "read_rows")["result"]
        row["text"] = row["text"].replace("two", "six")

    changed = altered(run, tmp_path, change)
    assert not verify(changed, index=recording.index).ok


# -- what is not as it was -----------------------------------------------------------------------------------


def altered(run: Path, folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> Path:
    """A copy of a trace, changed and sealed anew, so that only what it says can give it away."""
    events = events_of(run)
    change(events)
    return forged(events, folder)


def other_draft() -> Draft:
    """The toy index with another summary."""
    draft = toy_draft()
    return replace(draft, summaries=["A ketch has a mizzen, and so has a yawl.", *draft.summaries[1:]])


def first_of(events: list[dict[str, Any]], kind: str, number: int = 0) -> dict[str, Any]:
    return [event for event in events if event["kind"] == kind][number]


def test_a_changed_reply_is_named_where_its_code_is_another(recording: Recording, tmp_path: Path) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)

    def change(events: list[dict[str, Any]]) -> None:
        reply = first_of(events, "model_answered")
        reply["text"] = reply["text"].replace("masts of a ketch", "a mizzen")

    done = replay(altered(run, tmp_path, change), recording.index)
    scanned = first_of(events_of(run), "code_scanned")
    assert done.difference is not None
    assert (done.difference.seq, done.difference.kind, done.difference.field) == (
        first_of(events_of(run), "visited")["seq"] - 1,
        "code_scanned",
        "code",
    )
    assert scanned["seq"] == done.difference.seq
    assert "a mizzen" in str(done.difference.replayed) and "a mizzen" not in str(done.difference.recorded)


def test_a_changed_prompt_is_named_at_the_call_it_was_sent_with(recording: Recording, tmp_path: Path) -> None:
    RECORDED["a batch"](recording)
    (run,) = traces_in(recording.runs)

    def change(events: list[dict[str, Any]]) -> None:
        first_of(events, "model_asked", 3)["messages"][-1]["content"] += " Be brief."

    done = replay(altered(run, tmp_path, change), recording.index)
    assert done.difference is not None
    assert (done.difference.seq, done.difference.field) == (
        first_of(events_of(run), "model_asked", 3)["seq"],
        "messages",
    )


def test_changed_words_of_the_program_are_named_where_they_make_a_difference(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    RECORDED["a sub-call"](recording)
    (run,) = traces_in(recording.runs)
    monkeypatch.setattr("rlm.prompts.SUB_CALL", "Answer in one word.")
    done = replay(run, recording.index)
    assert done.difference is not None
    asked = first_of(events_of(run), "model_asked", 1)
    assert (done.difference.seq, done.difference.conversation) == (asked["seq"], "0.1")
    assert "Answer in one word." in str(done.difference.replayed)


@pytest.mark.parametrize(
    "kind, field", [("visited", "result_chars"), ("code_run", "stdout"), ("answered", "content")]
)
def test_any_other_change_is_named_at_its_event(
    recording: Recording, tmp_path: Path, kind: str, field: str
) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)

    def change(events: list[dict[str, Any]]) -> None:
        event = first_of(events, kind)
        event[field] = 1 if isinstance(event[field], int) else "another"

    done = replay(altered(run, tmp_path, change), recording.index)
    assert done.difference is not None
    assert (done.difference.seq, done.difference.field) == (first_of(events_of(run), kind)["seq"], field)


def test_an_event_more_or_less_is_named(recording: Recording, tmp_path: Path) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)
    visits = [event["seq"] for event in events_of(run) if event["kind"] == "visited"]
    less = replay(altered(run, tmp_path, lambda events: events.pop(visits[3])), recording.index)
    assert less.difference is not None and less.difference.seq == visits[3]
    more = replay(
        altered(run, tmp_path, lambda events: events.insert(visits[3], dict(events[visits[2]]))),
        recording.index,
    )
    assert more.difference is not None and more.difference.seq == visits[3]


def test_another_index_is_refused_and_with_anyway_its_first_other_result_is_named(
    recording: Recording, tmp_path: Path
) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)
    publish_toy(tmp_path / "other.index", other_draft())
    other = open_index(tmp_path / "other.index")
    with pytest.raises(RlmError, match="is another index than the run asked, or another state of it"):
        replay(run, other)
    done = replay(run, other, anyway=True)
    assert done.index == {"recorded": recording.index.digest, "given": other.digest}
    assert done.difference is not None and done.difference.kind == "visited"
    assert "has a mizzen" in str(done.difference.replayed)


def test_an_older_state_of_an_index_is_found_in_it(recording: Recording, tmp_path: Path) -> None:
    publish_toy(tmp_path / "kept.index")
    kept = Recording(open_index(tmp_path / "kept.index"), recording.runs, recording.patch)
    RECORDED["every way to look"](kept)
    (run,) = traces_in(recording.runs)
    publish_toy(tmp_path / "kept.index", other_draft())
    assert replay(run, open_index(tmp_path / "kept.index")).is_same


def test_a_trace_without_an_end_comes_out_the_same_as_far_as_it_goes(
    recording: Recording, tmp_path: Path
) -> None:
    RECORDED["children side by side"](recording)
    (run,) = traces_in(recording.runs)
    events = events_of(run)
    for end in range(1, len(events), 13):
        done = replay(forged(events[:end], tmp_path), recording.index)
        assert done.difference is None
        assert done.events == end and not done.is_closed


def test_a_trace_that_was_changed_is_refused(recording: Recording) -> None:
    RECORDED["an answer at once"](recording)
    (run,) = traces_in(recording.runs)
    path = run / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b"masts", b"mists", 1))
    with pytest.raises(RlmError, match=r"not as it was written|nothing to do again"):
        replay(run, recording.index)


def test_what_was_done_again_and_what_was_taken_over_is_told(recording: Recording) -> None:
    RECORDED["an endless cell"](recording)
    (run,) = traces_in(recording.runs)
    capture: Any = replay(run, recording.index).as_json()["capture"]
    assert capture["redone"]["code"] == 4 and capture["redone"]["outputs"] == 3
    assert capture["taken_over"]["model replies"] == 4 and capture["taken_over"]["ends of killed cells"] == 1


def test_a_verb_that_was_out_of_time_is_so_again(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(verbs: Verbs) -> None:
        raise Refused(refusals.OUT_OF_TIME)

    with monkeypatch.context() as patch:
        patch.setattr(Verbs, "_check_time", late)
        recording.play(Play(["try:\n    context.grep('mizzen')\nexcept RuntimeError as e: print(e)", DONE]))
    (run,) = traces_in(recording.runs)
    done = replay(run, recording.index)
    assert done.difference is None and done.capture["taken_over"]["verbs out of time"] == 1


def test_where_an_object_lies_in_memory_is_no_difference(recording: Recording, tmp_path: Path) -> None:
    recording.play(Play(["def f(): pass\nprint(f)", DONE]))
    (run,) = traces_in(recording.runs)
    (address,) = set(re.findall(r"at 0x[0-9a-f]+", json.dumps(events_of(run))))
    elsewhere = json.loads(json.dumps(events_of(run)).replace(address, "at 0x7f0123456780"))
    assert replay(forged(elsewhere, tmp_path), recording.index).is_same


# -- forks ---------------------------------------------------------------------------------------------------


def test_a_fork_goes_on_live_and_names_its_parent(recording: Recording, tmp_path: Path) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)
    other = Play(
        ["unused", "unused", "print('otherwise')", 'answer["content"] = "Three."; answer["ready"] = True']
    )
    with recording.served(other) as server:
        answer = fork(run, recording.index, 3, Models(MODEL, MODEL, {"temperature": 1}), tmp_path / "fork")
    assert (answer.content, server.calls, answer.usage.calls) == ("Three.", 2, 2)
    events, _ = read(tmp_path / "fork")
    assert verify(tmp_path / "fork").ok
    assert events[0]["parent"] == {"head": read(run)[1].head, "turn": 3}
    assert [event["cached"] for event in events if event["kind"] == "model_answered"] == [
        True,
        True,
        False,
        False,
    ]
    before = first_of(events, "models_changed")["seq"]
    assert [event["kind"] for event in events[:before]] == [
        event["kind"] for event in events_of(run)[:before]
    ]
    assert replay(tmp_path / "fork", recording.index).is_same


def test_a_fork_from_the_first_turn_asks_all_anew(recording: Recording, tmp_path: Path) -> None:
    RECORDED["an answer at once"](recording)
    (run,) = traces_in(recording.runs)
    answer = fork(run, recording.index, 1, Models(), tmp_path / "fork")
    assert answer.read_by and verify(tmp_path / "fork").ok
    with pytest.raises(RlmError, match="the run has 1 turn, and --from is 2"):
        fork(run, recording.index, 2, Models(), tmp_path / "other")


def test_the_caps_of_a_fork_are_its_own(recording: Recording, tmp_path: Path) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)
    with recording.served(Play([LOOK], single="Two.")) as server:
        answer = fork(run, recording.index, 2, MODELS, tmp_path / "fork", caps=Limits(calls=3))
    assert answer.stop == "budget" and server.calls <= 3
    assert verify(tmp_path / "fork").ok


def test_a_fork_whose_record_does_not_come_out_the_same_is_refused(
    recording: Recording, tmp_path: Path
) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)

    def change(events: list[dict[str, Any]]) -> None:
        first_of(events, "code_run")["stdout"] = "another"

    with pytest.raises(RlmError, match="does not come out the same up to that turn: event"):
        fork(altered(run, tmp_path, change), recording.index, 3, Models(), tmp_path / "fork")
    assert not (tmp_path / "fork").exists()


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_prints_json_and_exits_by_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recording: Recording
) -> None:
    RECORDED["a sub-call"](recording)
    (run,) = traces_in(recording.runs)
    folder = str(recording.index.path)
    assert main(["trace", "replay", str(run), "--index", folder, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["same"], told["difference"], told["events"]) == (True, None, len(events_of(run)))

    def change(events: list[dict[str, Any]]) -> None:
        first_of(events, "code_run")["stdout"] = "another"

    other = altered(run, tmp_path, change)
    assert main(["trace", "replay", str(other), "--index", folder, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {"seq", "conversation", "kind", "field", "recorded", "replayed"} == told["difference"].keys()
    assert main(["trace", "replay", str(other), "--index", folder]) == 1
    assert "different: event" in capsys.readouterr().out
    assert main(["trace", "replay", str(run)]) == 2


def test_a_trace_that_lacks_contents_is_refused_and_with_anyway_the_gap_is_named(
    recording: Recording,
) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)
    asked = next(event["seq"] for event in read(run)[0] if event["kind"] == "visited")
    assert redact_field(run, asked, "result", "Ann", "a name")
    with pytest.raises(RlmError, match="contents were taken out of the trace"):
        replay(run, recording.index)
    done = replay(run, recording.index, anyway=True)
    assert done.difference is not None and (done.difference.seq, done.difference.field) == (asked, "result")


def test_a_fork_never_touches_a_trace_that_is_there(recording: Recording, tmp_path: Path) -> None:
    RECORDED["every way to look"](recording)
    (run,) = traces_in(recording.runs)
    before = (run / FILE_NAME).read_bytes()
    with pytest.raises(RlmError, match="exists already; a trace is never overwritten"):
        fork(run, recording.index, 1, Models("offline/navigator", "offline/reader"), run)
    assert (run / FILE_NAME).read_bytes() == before
