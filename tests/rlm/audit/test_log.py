"""Writing a trace: what is refused, what survives, and that many threads write one chain."""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from rlm.audit import Trace, TraceError, messages_seen, read, verify
from rlm.audit.events import RecordedEvent
from rlm.audit.kinds import Event, Note, RunClosed, Visited
from rlm.audit.verifying import check
from rlm.gateway.types import Usage
from tests.helpers.audit_sample import Script, opening, sample_run


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Trace]:
    script = Script(tmp_path)
    script.open()
    with script.trace as trace:
        yield trace


def test_a_run_is_one_file_of_one_event_a_line(tmp_path: Path) -> None:
    lines = (sample_run(tmp_path) / "trace.jsonl").read_bytes().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    assert [event["seq"] for event in events] == list(range(len(lines)))
    assert events[0]["kind"] == "run_opened" and events[-1]["kind"] == "run_closed"
    assert all(line.endswith(b"}\n") and line.isascii() for line in lines)


def test_each_line_is_on_disk_as_soon_as_it_is_recorded(opened: Trace, tmp_path: Path) -> None:
    opened.record("0", Note(text="seen at once"))
    assert b"seen at once" in (tmp_path / "trace.jsonl").read_bytes()


def test_a_run_opens_with_its_start_in_iso_form(opened: Trace, tmp_path: Path) -> None:
    event = json.loads((tmp_path / "trace.jsonl").read_text())
    assert event["started"].endswith("+00:00") and event["format"] == 3


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("nothing", {}, "kind: expected run_opened"),
        ("note", {}, "lacks text"),
        ("note", {"text": 1}, "text: expected text"),
        ("note", {"text": "x", "texts": "y"}, "unknown field 'texts'"),
        ("note", {"text": "x", "seq": 9}, "seq is set by the trace itself"),
        ("budget", {"spent": {}, "reserved": {}, "left": {}, "reason": ""}, "spent: lacks calls"),
        (
            "budget",
            {"spent": Usage(), "reserved": Usage(), "left": {"a": float("nan")}, "reason": ""},
            "nan",
        ),
        ("run_closed", {"stop": "x", "usage": Usage(), "seconds": -1}, "0 or more"),
        ("run_closed", {"stop": "x", "usage": Usage(), "seconds": float("inf")}, "inf"),
        ("run_closed", {"stop": "x", "usage": Usage(), "seconds": 10**5000}, "found 100000000000"),
        ("run_closed", {"stop": "x", "usage": Usage(), "seconds": True}, "found True"),
        ("run_opened", {}, "run_opened comes first, and once"),
    ],
)
def test_an_event_the_table_does_not_know_is_refused(
    opened: Trace, kind: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(TraceError, match=words):
        opened.record("0", odd(kind, **fields))


def test_a_refused_event_leaves_the_chain_whole(opened: Trace, tmp_path: Path) -> None:
    with pytest.raises(TraceError):
        opened.record("0", odd("note", text=None))
    opened.record("0", RunClosed(stop="answered", usage=Usage(), seconds=0.1))
    assert verify(tmp_path).ok


@pytest.mark.parametrize("conversation", ["", "root", "0.", "0.1\n", "٣", "0" + ".1" * 64])
def test_a_conversation_has_a_dotted_number(opened: Trace, conversation: str) -> None:
    with pytest.raises(TraceError, match="conversation"):
        opened.record(conversation, Note(text="x"))


def test_arguments_nested_without_end_are_refused_in_one_sentence(opened: Trace) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TraceError, match="nested more than 64 deep"):
        visit(opened, {"x": deep}, "")


def test_nothing_is_recorded_after_run_closed_or_close(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.open()
    script.close("", [])
    script.trace.close()
    with pytest.raises(TraceError, match="the trace is closed"):
        script.trace.record("0", Note(text="late"))


def test_a_folder_that_holds_a_trace_is_refused(tmp_path: Path) -> None:
    sample_run(tmp_path)
    with pytest.raises(TraceError, match="never overwritten"):
        Trace.open(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="cannot create"):
        Trace.open(tmp_path / "file" / "run")


def test_a_full_disk_ends_the_trace_with_one_sentence() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(TraceError, match="No space left"):
        trace = Trace(full)
        trace.record("0", opening("q"))


@given(st.text())
@example("\ud800")
@example('\x00\n\r\u2028\u2029\U0010ffff\\"</script>')
def test_any_text_survives_as_it_was(text: str) -> None:
    written = json.loads(json.dumps(text))
    assert written_and_read(text) == written


def test_threads_write_one_whole_chain(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.open()
    notes = [threading.Thread(target=write_notes, args=(script.trace, f"0.{i}")) for i in range(8)]
    for thread in notes:
        thread.start()
    for thread in notes:
        thread.join()
    script.close("", [])
    verdict = verify(tmp_path)
    assert verdict.ok and verdict.events == 8 * 25 + 3
    assert verdict.head == script.trace.head


def test_what_a_model_saw_is_put_together_from_what_each_ask_added(tmp_path: Path) -> None:
    events, _ = read(sample_run(tmp_path))
    asks = [event for event in events if event["kind"] == "model_asked" and event["conversation"] == "0"]
    seen = messages_seen(events, asks[1]["seq"])
    assert [message["role"] for message in seen] == ["system", "user", "assistant", "user"]
    assert len(messages_seen(events, asks[-1]["seq"])) == asks[-1]["conversation_messages"]
    assert messages_seen(events, 0) == []


def test_a_conversation_that_was_shortened_is_told_truly() -> None:
    def ask(seq: int, total: int, *words: str) -> RecordedEvent:
        new = [{"role": "user", "content": word} for word in words]
        return {
            "kind": "model_asked",
            "seq": seq,
            "conversation": "0",
            "messages": new,
            "conversation_messages": total,
        }

    events = [ask(0, 2, "a", "b"), ask(1, 4, "c", "d"), ask(2, 3, "e", "f")]
    assert [message["content"] for message in messages_seen(events, 2)] == ["a", "e", "f"]


def visit(trace: Trace, arguments: dict[str, Any], result: Any) -> int:
    event = Visited(
        cell=1, verb="read", arguments=arguments, shown=(), not_taken=[], result_chars=0, result=result
    )
    return trace.record("0", event)


def write_notes(trace: Trace, conversation: str) -> None:
    for i in range(25):
        trace.record(conversation, Note(text=f"note {i}"))


def odd(kind: str, **given: Any) -> Event:
    """An event that no type checker would let pass."""

    class Odd(Event):
        def fields(self) -> dict[str, Any]:
            return {
                name: asdict(value) if isinstance(value, Usage) else value for name, value in given.items()
            }

    Odd.kind = kind
    return Odd()


def written_and_read(text: str) -> str:
    """A text after it was written to a trace and read from it."""
    file, events = BytesIO(), list[RecordedEvent]()
    Trace(file).record("0", opening(text))
    check(BytesIO(file.getvalue()), on_event=events.append)
    assert file.getvalue().count(b"\n") == 1
    return str(events[0]["question"])
