"""The record: any single edit of a trace is found on its line; long texts stand once; the schema fits what is read."""

import json
import random
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from index_store.index import Index
from rlm import Models, RlmError, ask
from rlm.audit import lines as lines_module, read, show, verify
from rlm.audit.events import EVENTS
from rlm.audit.redacting import redact_field
from rlm.audit.schema import trace_schema
from rlm.audit.verifying import check
from rlm.cli import main
from tests.helpers.audit_sample import Script, sample_run
from tests.helpers.forging import events_in, sealed, sealed_as_before
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.random_traces import edited, random_events
from tests.helpers.thorough import cases

DONE = "```python\nFINAL('Two.')\n```"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_run(tmp_path_factory.mktemp("sample"))


def test_any_trace_gives_back_the_events_that_were_written() -> None:
    for seed in range(300):
        events = random_events(random.Random(seed))
        read_back = events_in(sealed(events))
        assert read_back == json.loads(json.dumps(events)), seed


@pytest.mark.parametrize(
    "seeds", [range(300), pytest.param(range(300, cases(600, 4_000)), marks=pytest.mark.slow)]
)
def test_any_single_edit_of_any_trace_is_found_on_its_line(seeds: range) -> None:
    found: dict[str, int] = {}
    for seed in seeds:
        rng = random.Random(seed)
        lines = sealed(random_events(rng)).splitlines(keepends=True)
        data, line, what = edited(rng, lines)
        if data == b"".join(lines):
            continue
        verdict = check(BytesIO(data))
        assert not verdict.ok and verdict.first_bad_line == line, (seed, what, line, verdict)
        assert verdict.reason and verdict.reason.isprintable()
        found[what.split()[0]] = found.get(what.split()[0], 0) + 1
    assert {"dropped", "swapped", "inserted", "truncated", "re-salted", "byte"} <= set(found)
    assert sum(found.values()) > 0.95 * len(seeds)


@pytest.mark.parametrize(
    "seeds", [range(60), pytest.param(range(60, cases(120, 400)), marks=pytest.mark.slow)]
)
def test_any_single_edit_of_a_redacted_trace_is_found_on_its_line(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        events = random_events(rng)
        (folder / "trace.jsonl").write_bytes(sealed(events))
        for by in ("Ann", "Bo"):
            event = rng.choice(events)
            for field in rng.sample(sorted(event), k=len(event)):
                try:
                    if redact_field(folder, event["seq"], field, by, "a reason"):
                        break
                except RlmError:
                    continue
        raw = (folder / "trace.jsonl").read_bytes()
        assert check(BytesIO(raw)).ok
        data, line, what = edited(rng, raw.splitlines(keepends=True))
        if data != raw:
            verdict = check(BytesIO(data))
            assert not verdict.ok and verdict.first_bad_line == line, (seed, what, line, verdict)


def test_a_text_that_stood_before_is_stored_once_and_read_whole(tmp_path: Path) -> None:
    script, long = Script(tmp_path), "Every conversation begins with these words. " * 100
    script.open()
    script.cell = 1
    for child in ("0", "0.1", "0.2"):
        script.say("system", long, child)
        script.ask("Yes.", 10, 10, child)
    script.visit("read", [], long, node="L0-00000")
    script.close("x", [])
    raw = (tmp_path / "trace.jsonl").read_bytes()
    assert raw.count(b"Every conversation begins with") == 100 and len(raw) < 2.5 * len(long)
    events, verdict = read(tmp_path)
    assert verdict.ok and events[5]["messages"][0]["content"] == events[7]["result"] == long
    pointing = raw.replace(b'"same_as":{"messages/0/content":[1,', b'"same_as":{"messages/0/content":[3,', 1)
    assert pointing != raw and check(BytesIO(pointing)).first_bad_line == 4


def test_a_file_full_of_references_is_bounded_and_what_is_written_stays_within(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "x" * 1_000
    note = {
        "conversation": "0",
        "cell": 1,
        "kind": "child_called",
        "verb": "llm_query",
        "under": [],
        "children": [],
    }
    events = [*random_events(random.Random(1), 1)[:1]]
    events += [{**note, "seq": i, "time_s": float(i), "prompts": [long] * 10} for i in range(1, 5)]
    free = sealed(events)
    monkeypatch.setattr(lines_module, "MOST_LENT", 20_000)
    verdict = check(BytesIO(free))
    assert "refers to more than 20,000 characters" in verdict.reason and verdict.first_bad_line == 4
    bounded = sealed(events)
    assert len(bounded) > len(free) + 10_000 and check(BytesIO(bounded)).only_unclosed
    monkeypatch.setattr(lines_module, "MOST_KEPT", 3_000)
    many = [{**events[1], "prompts": [c * 1_000 for c in "abcda"], "seq": 1}, {**events[2], "seq": 2}]
    kept = sealed([events[0], *many])
    assert b'"same_as"' not in kept.splitlines()[1] and check(BytesIO(kept)).only_unclosed


# -- the schema --------------------------------------------------------------------------------------------


def test_the_events_of_every_trace_fit_the_published_schema(
    sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == trace_schema() and schema["$id"] == "urn:raptor-rlm:trace:3"
    jsonschema.Draft202012Validator.check_schema(schema)
    fits = jsonschema.Draft202012Validator(schema)
    for seed in range(40):
        for event in events_in(sealed(random_events(random.Random(seed)))):
            fits.validate(event)
    assert main(["trace", "show", str(sample), "--json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        fits.validate(json.loads(line))


def test_a_redacted_event_fits_the_schema_and_what_the_table_refuses_does_not(tmp_path: Path) -> None:
    fits = jsonschema.Draft202012Validator(trace_schema())
    run = sample_run(tmp_path)
    redact_field(run, 0, "question", "Ann", "a reason")
    events = read(run)[0]
    assert events[0]["redacted"]
    for event in events:
        fits.validate(event)
    for change in (
        {"seq": -1},
        {"extra": 1},
        {"question": 7},
        {"kind": "gossip"},
        {"format": 2},
        {"conversation": "x"},
    ):
        assert not fits.is_valid(events[0] | change), change
    for kind in EVENTS:
        assert kind in trace_schema()["$defs"]  # type: ignore[operator]


# -- formats before ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [1, 2])
def test_a_trace_of_an_earlier_format_is_read_shown_and_verified_by_its_own_rule(
    sample: Path, tmp_path: Path, format: int
) -> None:
    events = read(sample)[0]
    events[0]["format"] = format
    old = [{name: value for name, value in event.items() if name != "ended"} for event in events]
    for event in old:
        if event["kind"] == "child_called":
            event["under"] = event["under"][0]  # one for all children
    raw = sealed_as_before(old)
    (tmp_path / "trace.jsonl").write_bytes(raw)
    verdict = verify(tmp_path)
    assert verdict.ok, verdict
    assert len(show(*read(tmp_path))) > 1_000
    for at in range(0, len(raw), 997):
        changed = check(BytesIO(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]))
        assert not changed.ok and changed.first_bad_line == raw[:at].count(b"\n") + 1


def test_what_the_rules_of_today_do_not_fit_in_format_one_is_told_as_not_checked(
    sample: Path, tmp_path: Path
) -> None:
    events = read(sample)[0]
    events[-1]["usage"]["calls"] += 1
    for format, ok in ((1, True), (2, False)):
        events[0]["format"] = format
        (tmp_path / "trace.jsonl").write_bytes(sealed_as_before(events))
        verdict = verify(tmp_path)
        assert verdict.ok is ok
        assert ok == any("this trace of format 1" in words for words in verdict.unchecked)


def test_a_trace_of_the_present_format_is_not_taken_for_an_old_one(sample: Path) -> None:
    raw = (sample / "trace.jsonl").read_bytes()
    for other in (b"1", b"2", b"4", b"true", b'"3"', b"null"):
        verdict = check(BytesIO(raw.replace(b'"format":3', b'"format":' + other, 1)))
        assert not verdict.ok and verdict.first_bad_line == 1


# -- who, what for, when, by what --------------------------------------------------------------------------


def test_who_asked_what_for_and_until_when_it_is_kept_is_recorded(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-verysecret-0123456789")
    with ModelServer([DONE]) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        answer = ask(
            index,
            "How many masts?",
            route="rlm",
            models=Models(MODEL, MODEL),
            runs=tmp_path,
            operator="Ann Ek",
            purpose="an audit, with sk-verysecret-0123456789",
            retain="2030-12-31",
        )
    events, verdict = read(answer.trace)
    opened, closed = events[0], events[-1]
    assert (opened["operator"], opened["retain_until"]) == ("Ann Ek", "2030-12-31")
    assert opened["purpose"] == "an audit, with [value of SOME_API_KEY]"
    assert b"verysecret" not in (answer.trace / "trace.jsonl").read_bytes()
    assert {"python", "litellm", "numpy"} <= set(opened["versions"])
    assert opened["started"] <= closed["ended"] and closed["ended"].endswith("+00:00")
    shown = show(events, verdict)
    assert "asked by   Ann Ek" in shown and "keep until 2030-12-31" in shown


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"retain": "tomorrow"}, "give a day, such as 2030-12-31"),
        ({"retain": "2030-02-31"}, "give a day"),
        ({"retain": "20301231"}, "give a day"),
        ({"operator": "x" * 1_001}, "at most 1000 characters"),
        ({"purpose": "a\nb"}, "that can be printed"),
        ({"operator": 7}, "operator is 7"),
    ],
)
def test_what_cannot_be_recorded_of_who_asks_is_refused_before_anything_is_spent(
    index: Index, tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(RlmError, match=words):
        ask(index, "How many masts?", runs=tmp_path / "runs", **given)
    assert not (tmp_path / "runs").exists()


# -- without an end ----------------------------------------------------------------------------------------


def test_a_trace_without_its_end_verifies_up_to_there_and_says_that_it_is_unclosed(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (sample / "trace.jsonl").read_bytes().splitlines(keepends=True)
    for kept, half in ((1, b""), (20, b""), (20, lines[20][:33]), (len(lines) - 1, lines[-1][:-1])):
        (tmp_path / "trace.jsonl").write_bytes(b"".join(lines[:kept]) + half)
        verdict = verify(tmp_path)
        assert (verdict.ok, verdict.closed, verdict.only_unclosed) == (False, False, True)
        assert (verdict.events, verdict.first_bad_line) == (kept, kept + 1)
        assert verdict.reason.startswith("unclosed: ") and "killed or its tail was cut off" in verdict.reason
        assert len(read(tmp_path)[0]) == kept
        assert main(["trace", "verify", str(tmp_path), "--json"]) == 3
        said = json.loads(capsys.readouterr().out)
        assert (said["ok"], said["unclosed"], said["closed"]) == (False, True, False)
        assert (said["events"], said["line"], said["head"]) == (kept, kept + 1, verdict.head)
        assert main(["trace", "verify", str(tmp_path)]) == 3
        assert "unclosed" in (out := capsys.readouterr().out) and "verified up to the last line" in out


@pytest.mark.parametrize("damage", ["a changed line", "another head", "another index", "what is no line"])
def test_a_trace_without_its_end_that_is_damaged_besides_is_not_called_unclosed(
    sample: Path, tmp_path: Path, damage: str, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (sample / "trace.jsonl").read_bytes().splitlines(keepends=True)[:20]
    if damage == "a changed line":
        lines[10] = lines[10].replace(b'"kind"', b'"kinb"', 1)
    if damage == "what is no line":
        lines[-1] = lines[-1][:-1] + b"\x0b"
    (tmp_path / "trace.jsonl").write_bytes(b"".join(lines))
    given = {"another head": ["--head", "0" * 64], "another index": ["--index", str(index.path)]}.get(
        damage, []
    )
    assert main(["trace", "verify", str(tmp_path), "--json", *given]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["unclosed"]) == (False, False)
    assert said["line"] == {"a changed line": 11, "what is no line": 20}.get(damage, 21)
    assert main(["trace", "verify", str(tmp_path), *given]) == 1
    assert capsys.readouterr().out.startswith(f"line {said['line']}: ")


def test_a_line_that_contradicts_is_found_in_an_unclosed_trace_too(sample: Path, tmp_path: Path) -> None:
    events = read(sample)[0][:-1]
    asked = next(event for event in reversed(events) if event["kind"] == "model_asked")
    asked["call"] += 5
    (tmp_path / "trace.jsonl").write_bytes(sealed(events))
    verdict = verify(tmp_path)
    assert verdict.first_bad_line == asked["seq"] + 1 and not verdict.only_unclosed
