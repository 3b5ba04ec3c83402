"""Contents that were taken out of a trace: the rest verifies, what is missing is told, and nobody can guess it."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.errors import IndexStoreError
from rlm.audit import TraceError, read, render, show, verify
from rlm.audit.kinds import Note
from rlm.audit.lines import canonical
from rlm.audit.redacting import redact_field, redact_words
from rlm.cli import main
from tests.helpers.audit_sample import Script, sample_run
from tests.helpers.forging import events_in, sealed, sealed_as_before

BY, WHY = "Ann Ek", "erasure was asked for"
GONE = f"[redacted by {BY}: {WHY}]"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return sample_run(tmp_path / "run")


def raw_of(run: Path) -> bytes:
    return (run / "trace.jsonl").read_bytes()


def test_words_are_gone_from_every_field_and_the_chain_and_head_are_as_before(run: Path) -> None:
    before, head = read(run)[0], verify(run).head
    done = redact_words(run, "(?i)frost", BY, WHY)
    assert done is not None and len(done.taken) > 3 and b"rost" not in raw_of(run)
    verdict = verify(run, expected_head=head)
    assert verdict.ok and verdict.vouched and verdict.head == head == done.head
    (taken,) = verdict.taken_out
    assert (taken.by, taken.why, taken.at, taken.contents) == (BY, WHY, done.at, len(done.taken))
    assert taken.places == done.taken and taken.hash == done.redaction
    assert any("what was taken out" in words for words in verdict.unchecked)
    after = read(run)[0]
    changed = {seq for seq, _ in done.taken}
    assert [event for event in after if event["seq"] not in changed] == [
        event for event in before if event["seq"] not in changed
    ]
    seq, path = next((seq, path) for seq, path in done.taken if path == "prompts/0")
    assert after[seq]["prompts"][0] == GONE
    assert after[seq]["redacted"][path] == {"by": BY, "why": WHY, "at": done.at}


def test_a_redacted_run_is_shown_and_has_its_page(run: Path, tmp_path: Path, capsys: Any) -> None:
    question = read(run)[0][0]["question"]
    assert main(["trace", "redact", str(run), "--words", "margin", "--by", BY, "--why", WHY]) == 0
    assert "taken out: " in capsys.readouterr().out
    events, verdict = read(run)
    assert GONE in render(events, verdict).replace("&#x27;", "'") and question not in show(events, verdict)
    assert main(["trace", "show", str(run)]) == main(["trace", "show", "--full", str(run)]) == 0
    assert GONE in capsys.readouterr().out
    assert main(["review", str(run), "-o", str(tmp_path / "page.html")]) == 0
    assert main(["trace", "verify", str(run)]) == 0
    out = capsys.readouterr().out
    assert f"by {BY}: {WHY}" in out and "not checked" in out
    assert main(["trace", "verify", str(run), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] and said["closed"]
    assert [(one["by"], one["why"]) for one in said["redacted"]] == [(BY, WHY)]


def test_one_field_of_one_event_is_taken_out_and_where_else_it_stands_is_told(run: Path) -> None:
    done = redact_field(run, 0, "question", BY, WHY)
    assert done is not None and done.taken == ((0, "question"),)
    assert (1, "messages/1/content") in done.elsewhere
    assert read(run)[0][0]["question"] == GONE
    again = redact_field(run, 1, "messages/1", "Bo", "the same")
    assert again is not None and again.taken == ((1, "messages/1/content"),)
    assert read(run)[0][1]["messages"][1] == {"role": "user", "content": "[redacted by Bo: the same]"}
    verdict = verify(run)
    assert verdict.ok and [one.by for one in verdict.taken_out] == [BY, "Bo"]
    assert redact_field(run, 0, "question", BY, WHY) is None


def test_every_kind_of_content_can_be_taken_out_by_itself(run: Path) -> None:
    head = verify(run).head
    whole = raw_of(run)
    for event in events_in(whole):
        for field in sorted(event):
            (run / "trace.jsonl").write_bytes(whole)
            try:
                redact_field(run, event["seq"], field, BY, WHY)
            except TraceError:
                continue
            verdict = verify(run)
            assert verdict.ok and verdict.head == head, (event["seq"], field, verdict)
            events, chain = read(run)
            show(events, chain, full=True)
            render(events, chain)


def test_a_text_that_is_stored_once_is_gone_from_all_that_refer_to_it(tmp_path: Path) -> None:
    script, long = Script(tmp_path), "All of this is known to nobody. " * 40
    script.open()
    for _ in range(3):
        script.say("system", long, "0")
        script.ask("Yes.", 10, 10)
    script.close("an answer", [])
    raw = raw_of(tmp_path)
    assert raw.count(b"known to nobody") == 40 and raw.count(b'"same_as"') == 2
    asks = [event for event in read(tmp_path)[0] if event["kind"] == "model_asked"]
    assert [ask["messages"][-1]["content"] for ask in asks] == [long] * 3
    done = redact_field(tmp_path, asks[1]["seq"], "messages", BY, WHY)
    assert done is not None
    assert {(ask["seq"], f"messages/{len(ask['messages']) - 1}/content") for ask in asks} <= set(done.taken)
    assert b"known to nobody" not in raw_of(tmp_path) and verify(tmp_path).ok


def test_what_was_taken_out_cannot_be_guessed_from_what_is_left(tmp_path: Path) -> None:
    names = [f"{first} {last}" for first in names_of("first") for last in names_of("last")]
    assert len(names) == 10_000
    secret, code = random.Random(5).choice(names), "4711"
    script = Script(tmp_path / "run")
    script.open(secret)
    script.record(Note(text=secret))
    script.scan(f"print({code})")
    script.close(f"It was {secret}.", [])
    for words in (secret, code):
        assert redact_words(tmp_path / "run", words, BY, WHY)
    left = b"".join(path.read_bytes() for path in (tmp_path / "run").iterdir())
    assert secret.encode() not in left and code.encode() not in left
    hexes = {text for text in strings(left) if len(text) in (32, 64) and set(text) <= set("0123456789abcdef")}
    salts = [b"", *(bytes.fromhex(text) for text in hexes)]
    paths = [b"question", b"text", b"content", b"code"]
    keys = [hashlib.blake2b(path, key=salt, digest_size=16).digest() for salt in salts for path in paths]
    forms: list[Callable[[bytes], bytes]] = [lambda b: b, lambda b: hashlib.sha256(b).digest()]
    # One value at a time by every salt there is; all ten thousand by those in the line itself.
    for guess in [secret, *names[:30]]:
        for raw in (guess.encode(), canonical(guess), canonical(f"It was {guess}.")):
            for form in forms:
                for salt in (*salts, *keys):
                    for tried in (salt + form(raw), form(raw) + salt):
                        assert hashlib.sha256(tried).hexdigest() not in hexes
    for guess in [*names, *map(str, range(10_000))]:
        for raw in (guess.encode(), canonical(guess), canonical(f"print({guess})")):
            assert hashlib.sha256(raw).hexdigest() not in hexes
            assert hashlib.sha256(hashlib.sha256(raw).digest()).hexdigest() not in hexes


def test_without_the_redaction_the_same_guess_is_right(tmp_path: Path) -> None:
    """What the guesses above are worth: with its salt, a content is found among the hashes of its line."""
    event = {"seq": 0, "time_s": 0.0, "conversation": "0", "kind": "note", "text": "4711"}
    stored = json.loads(sealed([event]))
    salt = hashlib.blake2b(b"text", key=bytes.fromhex(stored["salt"]), digest_size=16).digest()
    committed = hashlib.sha256(salt + canonical("4711")).hexdigest()
    hashed = canonical({**event, "text": {"commitment": committed}})
    assert hashlib.sha256(b"0" * 64 + hashed).hexdigest() == stored["hash"]


@pytest.mark.parametrize(
    "field", ["by", "why", "at", "prev", "taken", "hash", "here", "commitment", "redaction"]
)
def test_nobody_changes_unseen_who_took_out_what_and_why(run: Path, field: str) -> None:
    redact_words(run, "(?i)frost", BY, WHY)
    redact_field(run, 0, "question", "Bo", "another reason")
    lines = raw_of(run).splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        stored = json.loads(line)
        marks = [*stored.get("redactions", {}).values(), *stored.get("redacted", {}).values()]
        for mark in (mark for mark in marks if field in mark):
            mark[field] = (
                mark[field] % 2 + 1 if field == "redaction" else "f" * 64 if field != "by" else "Eve"
            )
            verdict = verdict_with(run, lines, number, stored)
            assert not verdict.ok and verdict.first_bad_line == number, (number, verdict)
            break


def test_a_redaction_that_is_taken_back_or_cut_off_is_found(run: Path) -> None:
    whole = raw_of(run).splitlines(keepends=True)
    redact_words(run, "(?i)frost", BY, WHY)
    lines = raw_of(run).splitlines(keepends=True)
    marked = [number for number, line in enumerate(lines) if b'"redacted"' in line]
    back = [*lines[: marked[0]], whole[marked[0]], *lines[marked[0] + 1 :]]
    (run / "trace.jsonl").write_bytes(b"".join(back))
    assert "took out more or less" in verify(run).reason
    (run / "trace.jsonl").write_bytes(b"".join(lines[: marked[-1]]))
    verdict = verify(run)
    assert not verdict.ok and not verdict.only_unclosed and verdict.first_bad_line == marked[-1] + 1
    assert "the tail was cut off" in verdict.reason


def test_an_unclosed_trace_can_be_redacted_and_loses_its_unfinished_line(run: Path) -> None:
    lines = raw_of(run).splitlines(keepends=True)
    (run / "trace.jsonl").write_bytes(b"".join(lines[:30]) + lines[30][:50])
    assert redact_words(run, "(?i)margin", BY, WHY)
    verdict = verify(run)
    assert verdict.only_unclosed and verdict.events == 30 and verdict.taken_out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--words", "x"], "required: --by, --why"),
        (["--by", "a", "--why", "b"], "name what to take out"),
        (["--by", "a", "--why", "b", "--words", "x", "--event", "1"], "name what to take out"),
        (["--by", "a", "--why", "b", "--event", "1"], "name what to take out"),
        (["--by", "", "--why", "b", "--words", "x"], "--by is ''"),
        (["--by", "a", "--why", "Jane asked", "--words", "(?i)jane"], "--why has the words itself"),
        (["--by", "a", "--why", " ", "--words", "x"], "--why is ''"),
        (["--by", "a", "--why", "b", "--words", "("], "refused by RE2"),
        (["--by", "a", "--why", "b", "--words", "x*"], "fits an empty text"),
        (["--by", "a", "--why", "b", "--event", "99999", "--field", "text"], "there is no event 99999"),
        (["--by", "a", "--why", "b", "--event", "-1", "--field", "text"], "there is no event -1"),
        (
            ["--by", "a", "--why", "b", "--event", "0", "--field", "models"],
            "none of its fields with contents",
        ),
        (["--by", "a", "--why", "b", "--words", "openai/gpt-5"], "cannot be taken out"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(
    run: Path, given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = raw_of(run)
    try:
        code = main(["trace", "redact", str(run), *given])
    except SystemExit as stopped:
        code = int(str(stopped.code))
    err = capsys.readouterr().err
    assert code == 2 and words in err and "Traceback" not in err
    assert raw_of(run) == before and [path.name for path in run.iterdir()] == ["trace.jsonl"]


def test_words_that_stand_nowhere_are_told_with_exit_code_one(run: Path, capsys: Any) -> None:
    assert main(["trace", "redact", str(run), "--words", "zyzzyva", "--by", BY, "--why", WHY, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"taken": [], "contents": 0, "events": 0}


def test_files_beside_the_trace_that_hold_the_words_are_named(run: Path, capsys: Any) -> None:
    (run / "review.jsonl").write_text('{"text": "the frost of January"}\n')
    assert main(["trace", "redact", str(run), "--words", "frost", "--by", BY, "--why", WHY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["beside"] == ["review.jsonl"]
    with pytest.raises(TraceError, match=r"in review\.jsonl, which cannot be taken out"):
        redact_words(run, "frost", BY, WHY)


def test_a_pattern_that_would_run_for_ever_elsewhere_ends(run: Path) -> None:
    script = Script(run / "long")
    script.open("a" * 30_000 + "!")
    script.close("x", [])
    assert redact_words(run / "long", "(a+)+$", BY, WHY) is None
    with pytest.raises(IndexStoreError, match="refused by RE2"):
        redact_words(run, r"(a)\1", BY, WHY)


def test_a_run_that_is_still_written_is_left_alone(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.open("a question")
    with pytest.raises(TraceError, match="is being written"):
        redact_words(tmp_path, "question", BY, WHY)
    script.close("an answer", [])
    assert redact_words(tmp_path, "question", BY, WHY)


def test_an_old_trace_and_a_broken_one_are_not_rewritten(run: Path) -> None:
    events = events_in(raw_of(run))
    (run / "trace.jsonl").write_bytes(sealed_as_before([events[0] | {"format": 2}, *events[1:]]))
    assert verify(run).ok
    with pytest.raises(TraceError, match="has format 2, which seals whole lines"):
        redact_words(run, "margin", BY, WHY)
    (run / "trace.jsonl").write_bytes(sealed(events)[:-400] + b"\n")
    with pytest.raises(TraceError, match="only a trace that is as it was written"):
        redact_words(run, "margin", BY, WHY)


def test_keys_of_objects_and_numbers_are_searched_too(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.open()
    script.cell = 1
    script.visit("peek", [], {"Jane Doe": 1}, query="x")
    script.visit("peek", [], [{"id": 47110815}, "kept"], query="Jane Doe")
    script.close("x", [])
    done = redact_words(tmp_path, "Jane|47110815", BY, WHY)
    assert done and done.taken == ((1, "result"), (2, "arguments"), (2, "result/0"))
    event = read(tmp_path)[0][2]
    assert event["result"] == [GONE, "kept"] and event["arguments"] == {"redacted": GONE}


def verdict_with(run: Path, lines: list[bytes], number: int, stored: dict[str, Any]) -> Any:
    """The verdict where one line is another, written as a trace writes it."""
    body = canonical({name: value for name, value in stored.items() if name not in ("prev", "hash")})
    line = body[:-1] + f',"prev":"{stored["prev"]}","hash":"{stored["hash"]}"}}\n'.encode()
    (run / "trace.jsonl").write_bytes(b"".join([*lines[: number - 1], line, *lines[number:]]))
    return verify(run)


def names_of(what: str) -> list[str]:
    return [f"{what.title()}{number:02}" for number in range(100)]


def strings(data: bytes) -> set[str]:
    """All that stands between quotation marks."""
    return {part.decode("ascii", "replace") for part in data.split(b'"')}


def test_words_that_stand_beside_a_trace_are_told_however_they_are_written_there(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "20260101-what-does-frost-do")
    (run / "review.jsonl").write_text(
        json.dumps({"text": 'Frau "Müller"\nobjected'}) + "\n", encoding="ascii"
    )
    (run / "deep").mkdir()
    (run / "deep" / "page.html").write_text("Müller & Frost", encoding="utf-8")
    done = redact_words(run, '(?i)frost|"Müller"\n', BY, WHY)
    assert done is not None
    assert set(done.beside) == {f"the name of the folder, {run.name}", "deep/page.html", "review.jsonl"}
    with pytest.raises(
        TraceError, match=r"in no contents of the trace, but in deep/page\.html, review\.jsonl"
    ):
        redact_words(run, "Müller", BY, WHY)


def test_the_page_of_a_redacted_run_raises_no_doubt_about_the_words_in_place_of_a_quote(run: Path) -> None:
    seq = next(e["seq"] for e in reversed(read(run)[0]) if e["kind"] == "answered" and e["citations"])
    assert redact_field(run, seq, "citations", BY, WHY)
    assert "characters long, and the words found are" not in render(*read(run))


def test_what_is_missing_stands_beside_that_the_trace_is_whole(run: Path) -> None:
    assert "taken out" not in show(*read(run))
    assert redact_words(run, "(?i)frost", BY, WHY)
    events, _ = read(run)
    verdict = verify(run)
    (line,) = [one for one in show(events, verdict).splitlines() if one.startswith("The trace is whole")]
    assert f"contents were taken out of it by {BY}" in line
