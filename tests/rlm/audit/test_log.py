"""Writing a trace: what is refused, what survives, and that many threads write one chain."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from index_store.terminal import one_line, visible
from rlm.audit import Trace, TraceError, read, verify
from rlm.audit.conversation import messages_seen
from rlm.audit.events import EVENTS, event_problem, table
from tests.helpers.audit_sample import Script, sample_run, usage


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
    opened.record("note", "0", text="seen at once")
    assert b"seen at once" in (tmp_path / "trace.jsonl").read_bytes()


def test_a_run_opens_with_its_start_in_iso_form(opened: Trace, tmp_path: Path) -> None:
    event = json.loads((tmp_path / "trace.jsonl").read_text())
    assert event["started"].endswith("+00:00") and event["format"] == 1


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
            {"spent": usage(1, 1, 1), "reserved": usage(0, 0, 0), "left": {"a": float("nan")}, "reason": ""},
            "nan",
        ),
        ("run_closed", {"stop": "x", "usage": usage(1, 1, 1), "seconds": -1}, "0 or more"),
        ("run_closed", {"stop": "x", "usage": usage(1, 1, 1), "seconds": float("inf")}, "inf"),
        ("run_closed", {"stop": "x", "usage": usage(1, 1, 1), "seconds": 10**5000}, "found int"),
        ("run_closed", {"stop": "x", "usage": usage(1, 1, 1), "seconds": True}, "found True"),
        ("run_opened", {}, "run_opened comes first, and once"),
    ],
)
def test_an_event_the_table_does_not_know_is_refused(
    opened: Trace, kind: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(TraceError, match=words):
        opened.record(kind, "0", **fields)


def test_a_refused_event_leaves_the_chain_whole(opened: Trace, tmp_path: Path) -> None:
    with pytest.raises(TraceError):
        opened.record("note", "0", text=None)
    opened.record("run_closed", "0", stop="answered", usage=usage(0, 0, 0), seconds=0.1)
    assert verify(tmp_path).ok


@pytest.mark.parametrize("conversation", ["", "root", "0.", "0.1\n", "٣", "0" + ".1" * 64])
def test_a_conversation_has_a_dotted_number(opened: Trace, conversation: str) -> None:
    with pytest.raises(TraceError, match="conversation"):
        opened.record("note", conversation, text="x")


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
        script.trace.record("note", "0", text="late")


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
        sample_opening(trace)


@given(st.text())
@example("\ud800")
@example('\x00\n\r\u2028\u2029\U0010ffff\\"</script>')
def test_any_text_survives_as_it_was(text: str) -> None:
    written = json.loads(json.dumps(text))
    assert sealed_and_read(text) == written


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
    def ask(seq: int, total: int, *words: str) -> dict[str, Any]:
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


def test_every_kind_says_what_it_means() -> None:
    assert all(f"`{name}`" in table() for name in EVENTS)
    assert event_problem({}) != ""


def test_characters_that_act_unseen_are_written_out() -> None:
    assert visible("a\x1b[2Jb\u202ec\ud800\U000e0041\r\n\td") == "a\\x1b[2Jb\\u202ec\\ud800\\U000e0041\n\td"
    assert one_line("two\n words", 20) == "two words"
    assert one_line("x" * 50, 5) == "xxxx…"


def visit(trace: Trace, arguments: dict[str, Any], result: Any) -> int:
    return trace.record(
        "visited",
        "0",
        cell=1,
        verb="read",
        arguments=arguments,
        shown=(),
        not_taken=[],
        result_chars=0,
        result=result,
    )


def write_notes(trace: Trace, conversation: str) -> None:
    for i in range(25):
        trace.record("note", conversation, text=f"note {i}")


def sample_opening(trace: Trace) -> None:
    trace.record(
        "run_opened",
        "0",
        question="q",
        index={"name": "i", "generation": 1, "digest": "", "documents": 0, "nodes": 0},
        models={},
        prompts={"version": 1, "sha256": "0" * 64},
        limits={},
        code_version="",
        route="tree",
    )


def sealed_and_read(text: str) -> str:
    from rlm.audit.log import FIRST_PREV, canonical, seal
    from rlm.audit.verify import _unseal

    line = seal(FIRST_PREV, canonical({"text": text}))
    body, _ = _unseal(line, FIRST_PREV)
    assert line.count(b"\n") == 1
    return str(json.loads(body)["text"])
