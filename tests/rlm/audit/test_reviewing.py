"""Notes of reviewers beside a trace: chained, bound to its head, never in it."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from index_store.terminal import visible
from rlm.audit import verify
from rlm.audit.reviewing import VERDICTS, Note, add, add_from, in_words, note, reviewed
from rlm.errors import RlmError
from tests.helpers.audit_sample import sample_run
from tests.rlm.audit.conftest import Command


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return sample_run(tmp_path / "run")


@pytest.fixture
def rlm(command: Command) -> Any:
    def call(*arguments: object) -> tuple[int, str]:
        code, out, err = command("trace", *arguments)
        return code, out + err

    return call


def test_a_note_is_written_beside_the_trace_and_listed(rlm: Any, run: Path) -> None:
    before = (run / "trace.jsonl").read_bytes()
    assert rlm("note", run, "--by", "jane", "--verdict", "needs another look")[0] == 0
    assert rlm("note", run, "--by", "bob", "--step", 12, "--text", "wrong year\nand place")[0] == 0
    assert (run / "trace.jsonl").read_bytes() == before
    notes = json.loads(rlm("note", run, "--list", "--json")[1])
    assert [(n["by"], n["verdict"], n["step"], n["text"]) for n in notes] == [
        ("jane", "needs another look", None, ""), ("bob", None, 12, "wrong year\nand place"),
    ]  # fmt: skip
    for line in (("note", run, "--list"), ("show", run)):
        assert "needs another look" in rlm(*line)[1] and "wrong year" in rlm(*line)[1]
    code, said = rlm("verify", run)
    assert code == 0 and "2 notes of reviewers" in said
    facts = json.loads(rlm("verify", run, "--json")[1])["review"]
    assert (
        facts["ok"]
        and facts["notes"] == 2
        and facts["verdict"] == "needs another look"
        and facts["by"] == "jane"
    )


def test_a_run_without_notes_says_nothing_of_them(rlm: Any, run: Path) -> None:
    assert json.loads(rlm("verify", run, "--json")[1])["review"] is None
    assert rlm("note", run, "--list") == (0, "nobody has noted anything\n")
    assert json.loads(rlm("note", run, "--list", "--json")[1]) == []


def test_each_byte_of_a_note_is_held_by_the_chain(run: Path) -> None:
    for text in ("first", "second", "third"):
        add(run, [note("jane", text=text)])
    whole, head = (run / "review.jsonl").read_bytes(), verify(run).head
    for at in range(len(whole)):
        (run / "review.jsonl").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = reviewed(run, head)
        assert found and found.line == whole.count(b"\n", 0, at) + 1, at
    lines = whole.splitlines(keepends=True)
    for wrong in (lines[1:], [lines[0], lines[2]], [lines[1], lines[0]], [lines[0], *lines]):
        (run / "review.jsonl").write_bytes(b"".join(wrong))
        found = reviewed(run, head)
        assert found and found.line


def test_a_changed_note_makes_verify_fail_and_name_the_line(rlm: Any, run: Path) -> None:
    for text in ("first", "second"):
        add(run, [note("jane", text=text)])
    path = run / "review.jsonl"
    path.write_bytes(path.read_bytes().replace(b"second", b"secund"))
    code, said = rlm("verify", run)
    assert code == 1 and "line 2 of review.jsonl" in said and "the trace is whole, but" in said
    facts = json.loads(rlm("verify", run, "--json")[1])
    assert not facts["ok"] and facts["line"] is None and facts["review"]["line"] == 2
    code, said = rlm("note", run, "--by", "bob", "--text", "third")
    assert code == 2 and "line 2 of" in said and "move the file away" in said
    assert rlm("note", run, "--list")[0] == 1


def test_notes_of_another_trace_are_told(rlm: Any, run: Path) -> None:
    add(run, [note("jane", "accepted")])
    other = sample_run(run.parent / "other", hostile=" changed")
    (other / "review.jsonl").write_bytes((run / "review.jsonl").read_bytes())
    code, said = rlm("verify", other)
    assert code == 1 and "line 1 of review.jsonl" in said and "another trace" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--by jane", "say one thing"),
        ("", "say one thing"),
        ("--list --text x", "say one thing"),
        ("--text x", "say who reviewed"),
        ("--by jane --step 3", "says nothing"),
        ("--by jane --verdict fine", "give one of accepted, rejected, needs another look"),
        ("--by jane --text x --step 999", "the trace has the events 0 to 44"),
        ("--by jane --text x --step -1", "step -1"),
        ("--by jane --text x --step 99999999999999999999999", "step 999999999999…"),
        ("--import nowhere.json", "there is no file nowhere.json"),
    ],
)
def test_a_note_that_cannot_be_is_one_sentence(rlm: Any, run: Path, line: str, words: str) -> None:
    code, said = rlm("note", run, *line.split())
    assert code == 2 and words in said and len(said.splitlines()) == 1
    assert not (run / "review.jsonl").exists()


def test_a_trace_that_is_not_as_it_was_written_takes_no_note(rlm: Any, run: Path) -> None:
    path = run / "trace.jsonl"
    path.write_bytes(path.read_bytes().replace(b"margin", b"profit", 1))
    code, said = rlm("note", run, "--by", "jane", "--verdict", "rejected")
    assert code == 2 and "nobody can vouch for it: line 1" in said


def test_what_a_page_saved_is_taken_once(rlm: Any, run: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    notes = [
        {"at": "2026-01-31T10:00:00Z", "by": "jane", "step": 3, "text": "why here?", "verdict": None},
        {"at": "2026-01-31T10:01:00Z", "by": "jane", "verdict": "rejected"},
    ]
    saved.write_text(json.dumps({"head": verify(run).head, "notes": notes}))
    assert rlm("note", run, "--import", saved)[1].startswith("2 notes added, 2 in")
    assert rlm("note", run, "--import", saved)[1].startswith("0 notes added, 2 in")
    found = reviewed(run, verify(run).head)
    assert found and found.notes[0] == Note("jane", "2026-01-31T10:00:00Z", None, 3, "why here?")
    assert found.verdict and found.verdict.verdict == "rejected"
    saved.write_text(json.dumps({"head": verify(run).head, "text": "one alone"}))
    assert rlm("note", run, "--import", saved)[0] == 2  # it does not say who
    assert rlm("note", run, "--import", saved, "--by", "bob")[0] == 0


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "not what a page saves"),
        ('{"notes": []}', "not what a page saves"),
        ('{"head": "0"}', "about another trace"),
        ('{"head": HEAD, "notes": 3}', '"notes" is no list'),
        ('{"head": HEAD, "notes": [3]}', "note 1: it is no object"),
        ('{"head": HEAD, "notes": [{"by": "j", "text": "x", "evil": 1}]}', "note 1: it is no object"),
        ('{"head": HEAD, "notes": [{"by": "j", "text": 7}]}', "no text as its text"),
        ('{"head": HEAD, "notes": [{"by": "j", "text": "x", "at": "yesterday"}]}', "give it in ISO form"),
        ('{"head": HEAD, "notes": [{"by": "j", "text": "x", "step": true}]}', "step True"),
        (
            '{"head": HEAD, "notes": [{"by": "j", "text": "x"}, {"by": "j\\n", "text": "x"}]}',
            "note 2: it is by",
        ),
        ('{"head": HEAD, "notes": [{"by": "j", "verdict": ["accepted"]}]}', "has the verdict list"),
    ],
)
def test_a_hostile_file_of_a_page_is_one_sentence_and_nothing_is_written(
    rlm: Any, run: Path, tmp_path: Path, saved: str, words: str
) -> None:
    (tmp_path / "saved.json").write_text(saved.replace("HEAD", json.dumps(verify(run).head)))
    code, said = rlm("note", run, "--import", tmp_path / "saved.json")
    assert code == 2 and words in said and len(said.splitlines()) == 1, said
    assert not (run / "review.jsonl").exists()


def _note_often(run: str, who: str, times: int) -> None:
    for number in range(times):
        add(run, [note(who, text=f"{number}")])


def test_notes_of_two_processes_at_once_all_land(run: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_note_often, args=(str(run), who, 10)) for who in ("jane", "bob", "carol")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    found = reviewed(run, verify(run).head)
    assert found and found.line is None
    assert sorted((n.by, int(n.text)) for n in found.notes) == sorted(
        (who, number) for who in ("jane", "bob", "carol") for number in range(10)
    )


def test_no_link_is_written_through(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (run / "review.jsonl").symlink_to(target)
    with pytest.raises(RlmError):
        add(run, [note("jane", "accepted")])
    assert target.read_text() == "precious"


@settings(max_examples=30, deadline=None)
@given(
    text=st.text(st.characters(), max_size=40).filter(str.strip),
    verdict=st.sampled_from([None, *VERDICTS]),
    step=st.sampled_from([None, 0, 44]),
)
def test_any_words_survive_and_are_shown_without_acting(
    tmp_path_factory: pytest.TempPathFactory, text: str, verdict: Any, step: int | None
) -> None:
    run = sample_run(tmp_path_factory.mktemp("run"))
    head = verify(run).head
    add(run, [Note("jane", "2026-01-31T10:00:00+00:00", verdict, step, text)])
    found = reviewed(run, head)
    assert found and found.line is None and found.notes[0].text == text
    assert in_words(found) == visible(in_words(found))


def test_from_python_the_page_s_file_needs_a_head(run: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("{}")
    with pytest.raises(RlmError, match="not what a page saves"):
        add_from(run, tmp_path / "f")
