"""Any change to a trace is found, on its line, with a reason."""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rlm.audit import TraceError, Verdict, read, verify
from rlm.audit.kinds import Note
from rlm.audit.lines import Sealer
from rlm.audit.verifying import check
from tests.helpers.audit_sample import Script, sample_run
from tests.helpers.forging import events_in, sealed, sealed_as_before


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("small")
    script = Script(folder)
    script.open('Why é \\ "?')
    script.record(Note(text="tab\t, line\n, \ud800, ☂"))
    script.close("an answer", [])
    return (folder / "trace.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return (
        (sample_run(tmp_path_factory.mktemp("whole")) / "trace.jsonl").read_bytes().splitlines(keepends=True)
    )


def verdict_on(data: bytes, **expected: Any) -> Verdict:
    return check(BytesIO(data), **expected)


def test_a_trace_as_written_is_whole(whole: list[bytes]) -> None:
    verdict = verdict_on(b"".join(whole))
    assert verdict.ok and verdict.events == len(whole) and verdict.first_bad_line is None
    assert verdict.head.encode() in whole[-1]


def test_a_changed_byte_is_found_on_its_line_wherever_it_stands(small: bytes) -> None:
    for position, byte in enumerate(small):
        line = small.count(b"\n", 0, position) + 1
        for other in {byte ^ 1, byte ^ 0x20, byte ^ 0x80, 0, 0x0A, 0x20, 0x39} - {byte}:
            verdict = verdict_on(small[:position] + bytes([other]) + small[position + 1 :])
            assert not verdict.ok and verdict.reason and not verdict.only_unclosed
            assert verdict.first_bad_line == line, (position, byte, other, verdict)


def test_a_byte_put_in_or_taken_out_is_found_on_its_line(small: bytes) -> None:
    for position in range(len(small)):
        line = small.count(b"\n", 0, position) + 1
        without = verdict_on(small[:position] + small[position + 1 :])
        assert not without.ok and without.first_bad_line == line
        assert without.only_unclosed == (position == len(small) - 1)
        for extra in (b" ", b"\n", b"\r", b"0"):
            added = verdict_on(small[:position] + extra + small[position:])
            # A second newline makes an empty line after this one; anything else spoils this one.
            second = extra == b"\n" == small[position : position + 1]
            assert not added.ok and added.first_bad_line == line + second, (position, extra, added)


@given(data=st.data())
def test_lines_taken_out_repeated_or_moved_are_found(whole: list[bytes], data: st.DataObject) -> None:
    here = data.draw(st.integers(0, len(whole) - 1))
    there = data.draw(st.integers(0, len(whole) - 1).filter(lambda i: i != here))
    swapped = list(whole)
    swapped[here], swapped[there] = whole[there], whole[here]
    removed = verdict_on(b"".join(whole[:here] + whole[here + 1 :]))
    assert not removed.ok and removed.first_bad_line == here + 1
    repeated = verdict_on(b"".join(whole[: here + 1] + whole[here:]))
    assert not repeated.ok and repeated.first_bad_line == here + 2
    moved = verdict_on(b"".join(swapped))
    assert not moved.ok and moved.first_bad_line == min(here, there) + 1


def test_a_tail_cut_off_between_lines_is_found(whole: list[bytes]) -> None:
    for kept in range(len(whole)):
        verdict = verdict_on(b"".join(whole[:kept]))
        assert not verdict.ok and verdict.first_bad_line == kept + 1
        assert ("without run_closed" if kept else "the trace is empty") in verdict.reason


def test_a_line_cut_in_two_is_found(whole: list[bytes]) -> None:
    verdict = verdict_on(b"".join(whole)[:-20])
    assert verdict.first_bad_line == len(whole) and "does not end in a newline" in verdict.reason


@pytest.mark.parametrize("tail", [b"\n", b" \n", b"{}\n", b"\x00"])
def test_anything_after_run_closed_is_found(whole: list[bytes], tail: bytes) -> None:
    verdict = verdict_on(b"".join(whole) + tail)
    assert verdict.first_bad_line == len(whole) + 1 and "follows run_closed" in verdict.reason


def test_an_event_sealed_by_the_rules_but_put_after_run_closed_is_found(whole: list[bytes]) -> None:
    head = whole[-1][-67:-3].decode()
    note = {"seq": len(whole), "time_s": 99.0, "conversation": "0", "kind": "note", "text": "x"}
    extra = Sealer(head, len(whole)).line(note)
    assert not verdict_on(b"".join(whole) + extra).ok


def test_a_file_rewritten_whole_is_found_only_by_its_head(whole: list[bytes]) -> None:
    head = whole[-1][-67:-3].decode()
    rewritten = resealed(whole, question="another question")
    assert verdict_on(rewritten).ok  # what a chain alone cannot show
    verdict = verdict_on(rewritten, expected_head=head)
    assert not verdict.ok and "not the expected one" in verdict.reason and verdict.first_bad_line is None
    assert verdict_on(b"".join(whole), expected_head=head).ok


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "gossip"}, "not one a trace can hold: kind"),
        ({"question": 7}, "question: expected text"),
        ({"extra": 1}, "unknown field 'extra'"),
        ({"seq": 4}, "says it is number 4"),
        ({"format": 4}, "format 4"),
        ({"conversation": "0\n"}, "conversation"),
    ],
)
def test_an_event_sealed_by_the_rules_but_not_a_traces_is_found(
    whole: list[bytes], change: dict[str, Any], words: str
) -> None:
    verdict = verdict_on(resealed(whole, **change))
    assert verdict.first_bad_line == 1 and words in verdict.reason


def test_an_event_sealed_by_the_rules_in_another_form_is_found(whole: list[bytes]) -> None:
    verdict = verdict_on(b"".join([whole[0].replace(b",", b", ", 1), *whole[1:]]))
    assert verdict.first_bad_line == 1 and "one form" in verdict.reason


def test_a_line_put_in_place_of_another_must_follow_the_one_before(whole: list[bytes]) -> None:
    note = {"seq": 3, "time_s": 1.0, "conversation": "0", "kind": "note", "text": "not what was said"}
    verdict = verdict_on(b"".join([*whole[:3], Sealer("ab" * 32, 3).line(note), *whole[4:]]))
    assert verdict.first_bad_line == 4 and "does not follow" in verdict.reason


def test_time_never_runs_backwards(whole: list[bytes]) -> None:
    events = events_in(b"".join(whole))
    events[5]["time_s"] = 0.0
    verdict = verdict_on(sealed(events))
    assert verdict.first_bad_line == 6 and "before the event before it" in verdict.reason


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"\x00" * 40,
        b"{" + b'"a":{' * 50_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"seq":' + b"9" * 5000 + b"}",
        b'{"seq":1e999}',
        b'{"seq":NaN}',
        b'{ "seq":0}',
        b'{"seq":0,"seq":0}',
        '{"seq":"é"}'.encode(),
        b'"text"',
        b"null",
        b"}",
        b"",
    ],
    ids=range(14),
)
def test_a_hostile_line_is_one_clear_sentence(body: bytes) -> None:
    for data in (
        body,
        body + b"\n",
        *(sealed_as_before([raw]) for raw in (b'{"a":' + body + b"}", body + b"}")),
    ):
        verdict = verdict_on(data)
        assert not verdict.ok and verdict.first_bad_line == 1
        assert verdict.reason.isprintable() and len(verdict.reason) < 300


def test_a_line_too_long_is_refused_before_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["rlm.audit.verifying"], "MAX_LINE_BYTES", 1000)
    verdict = verdict_on(b"x" * 5000)
    assert "longer than 1000 bytes" in verdict.reason


def test_no_trace_at_all_is_an_error_that_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="name a run folder"):
        verify(tmp_path)


def test_the_events_before_the_first_bad_line_can_still_be_read(tmp_path: Path, whole: list[bytes]) -> None:
    (tmp_path / "trace.jsonl").write_bytes(b"".join(whole[:7]) + b"nonsense\n" + b"".join(whole[7:]))
    events, verdict = read(tmp_path)
    assert len(events) == 7 and verdict.first_bad_line == 8 and not verdict.ok


def resealed(lines: list[bytes], **change: Any) -> bytes:
    """The events sealed anew, as someone would who rewrites the whole file; `change` goes into the first."""
    first, *rest = events_in(b"".join(lines))
    return sealed([first | change, *rest])
