"""Many runs at a glance: only the ends of their traces are read, and none stops the list."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from index_store.index import Index
from rlm.audit import listing, verify
from rlm.audit.beside import opened
from rlm.audit.lines import canonical
from rlm.audit.reviewing import add, note
from tests.helpers.audit_sample import QUESTION, Script, sample_run
from tests.helpers.chat_sample import QUESTIONS, chat_sample
from tests.rlm.audit.conftest import Command


def small_run(
    folder: Path, question: str, answer: str = "An answer.", stop: str = "answer", long: int = 0
) -> Path:
    script = Script(folder)
    script.open(question)
    script.say("user", question + "x" * long)
    script.ask("A reply.", 100, 10)
    script.close(answer, [], stop)
    return folder


@pytest.fixture
def rlm(command: Command) -> Any:
    def call(*arguments: object) -> tuple[int, str]:
        code, out, err = command("trace", "list", *arguments)
        return code, out + err

    return call


def rows(rlm: Any, *arguments: object) -> list[dict[str, Any]]:
    code, out = rlm(*arguments, "--json")
    assert code == 0, out
    found: list[dict[str, Any]] = json.loads(out)
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    small_run(folder / "a", "Who signed the lease?", "Jane did.")
    small_run(folder / "deep" / "b", "When does it end?", "In 2031.", "budget")
    sample_run(folder / "c")
    return folder


def test_a_run_is_listed_with_what_its_trace_says(rlm: Any, runs: Path) -> None:
    found = {row["run"]: row for row in rows(rlm, runs)}
    assert sorted(found) == [str(runs / name) for name in ("a", "c", "deep/b")]
    one = found[str(runs / "c")]
    assert (
        one["question"] == QUESTION and one["stop"] == "answered" and one["head"] == verify(runs / "c").head
    )
    assert one["cost"] > 0 and one["calls"] == 8 and one["seconds"] > 0 and one["problem"] is None
    assert one["answer"].startswith("Operating margin fell")
    others = ("coverage", "regret", "unsupported", "verdict", "signer")
    assert [one[name] for name in others] == [None] * len(others)
    said = rlm(runs)[1]
    assert (
        "Who signed the lease?" in said
        and "deep/b" in said
        and "3 runs; nothing of this is verified here" in said
    )


def test_runs_are_sorted_filtered_and_searched(rlm: Any, runs: Path) -> None:
    def names(*arguments: object) -> list[str]:
        return [Path(row["run"]).name for row in rows(rlm, runs, *arguments)]

    assert names("--sort", "run") == ["a", "c", "b"]
    assert names("--sort", "cost")[0] == "c" and names("--sort", "cost", "--reverse")[-1] == "c"
    assert names("--stop", "budget") == ["b"]
    assert names("--search", "LEASE jane") == ["a"] and names("--search", "lease 2031") == []
    assert names("--search", "megalitres") == []  # only questions and answers are searched
    assert sorted(names("--since", "2020-01-31")) == ["a", "b", "c"] and names("--since", "2999-01-01") == []
    add(runs / "a", [note("jane", "rejected"), note("jane", text="more")])
    add(runs / "c", [note("bob", "accepted")])
    assert names("--verdict", "rejected") == ["a"] and names("--verdict", "none") == ["b"]
    assert names("--sort", "verdict") == ["c", "a", "b"]
    for line, words in (
        (("--sort", "beauty"), "no run has a field 'beauty'"),
        (("--since", "soon"), "'soon' is no date"),
        (("--verdict", "fine"), "--verdict is 'fine'"),
    ):
        code, said = rlm(runs, *line)
        assert code == 2 and words in said
    assert rlm(runs / "nowhere")[0] == 2


def test_each_answer_of_a_chat_is_searched(rlm: Any, index: Index, tmp_path: Path) -> None:
    chat_sample(index, tmp_path / "runs")
    assert len(rows(rlm, tmp_path / "runs", "--search", "two oars")) == 1
    assert len(rows(rlm, tmp_path / "runs", "--search", "who built it")) == 1
    (one,) = rows(rlm, tmp_path / "runs")
    assert one["question"] == QUESTIONS[0] and one["answer"].startswith("Not in these documents")


def test_a_check_that_was_kept_is_listed_where_it_is_of_this_head(rlm: Any, runs: Path) -> None:
    head = verify(runs / "a").head
    coverage = {"offered": 1.0, "entered": 0.9, "read": 0.8, "cited": 0.5}
    kept = {"head": head, "verdict": "questionable", "coverage": coverage, "regret": 0.25, "unsupported": 2}
    (runs / "a" / "check.json").write_text(json.dumps(kept))
    odd = {"head": verify(runs / "c").head, "verdict": ["x"], "coverage": 0.7, "regret": "much"}
    (runs / "c" / "check.json").write_text(json.dumps(odd))
    (runs / "deep" / "b" / "check.json").write_text(json.dumps(kept))  # of another head
    found = {Path(row["run"]).name: row for row in rows(rlm, runs)}
    names = ("checked", "coverage", "regret", "unsupported")
    assert [found["a"][n] for n in names] == ["questionable", 0.5, 0.25, 2]
    assert [found["c"][n] for n in names] == [None] * 4
    assert [found["b"][n] for n in names] == [None] * 4
    first, *_ = rows(rlm, runs, "--sort", "coverage")
    assert Path(first["run"]).name == "a"


def test_signers_are_listed_where_they_signed_this_head(rlm: Any, runs: Path) -> None:
    statement = {"head": verify(runs / "a").head, "signer": "jane", "signed_at": "2026-01-31"}
    for name, signer in (("head.json", "jane"), ("head.2.json", "bob")):
        (runs / "a" / name).write_bytes(canonical(statement | {"signer": signer}) + b"\n")
    (runs / "c" / "head.json").write_bytes(canonical(statement) + b"\n")
    found = {Path(row["run"]).name: row["signer"] for row in rows(rlm, runs)}
    assert found == {"a": "jane, bob", "b": None, "c": None}
    assert [Path(row["run"]).name for row in rows(rlm, runs, "--signer", "bob")] == ["a"]


def test_a_run_that_never_ended_or_is_broken_is_told(rlm: Any, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    whole = (small_run(runs / "whole", "Is it whole?") / "trace.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    spoilt = {
        "cut": b"".join(lines[:-1]),
        "half": whole[:-20],
        "empty": b"",
        "other": b"a text\n",
        "deep": b"[" * 200_000 + b"\n",
        "zeros": b"\0" * 100_000,
        "nothing": b'{"kind":"run_opened"}\n',
        "tail": whole + b"more\n",
        "odd": whole.replace(b'"usd":', b'"usd":1e400,"x":').replace(b'"question"', b'"question":[1],"q"'),
    }
    for name, content in spoilt.items():
        (runs / name).mkdir()
        (runs / name / "trace.jsonl").write_bytes(content)
    (runs / "link").mkdir()
    (runs / "link" / "trace.jsonl").symlink_to(runs / "whole" / "trace.jsonl")
    (runs / "pipe").mkdir()
    os.mkfifo(runs / "pipe" / "trace.jsonl")
    found = {Path(row["run"]).name: row for row in rows(rlm, runs)}
    assert len(found) == len(spoilt) + 3
    assert {name for name, row in found.items() if row["stop"] == "unclosed"} == {"cut", "half"}
    assert {name for name, row in found.items() if row["stop"] == "answer"} == {"whole", "odd"}
    assert all(row["problem"] for row in found.values() if row["stop"] in ("unclosed", "broken"))
    assert found["odd"]["cost"] is None and found["odd"]["question"] == "[redacted]"
    assert found["cut"]["question"] == "Is it whole?"
    said = rlm(runs)[1]
    assert "\0" not in said and len(said.splitlines()) == len(found) + 2


def test_hostile_files_beside_a_trace_cost_only_their_own_column(rlm: Any, runs: Path) -> None:
    for name in ("check.json", "review.jsonl", "head.json"):
        (runs / "a" / name).write_bytes(b"[" * 100_000)
        (runs / "c" / name).symlink_to("/dev/zero")
    found = {Path(row["run"]).name: row for row in rows(rlm, runs)}
    assert found["a"]["stop"] == "answer" and found["c"]["stop"] == "answered"
    assert found["c"]["problem"] and found["a"]["verdict"] is None


def test_of_a_thousand_runs_only_the_ends_are_read(
    rlm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is two seconds for a thousand; what makes them is counted, since machines are noisy."""
    runs = tmp_path / "runs"
    first = small_run(runs / "0000", "Who signed the lease?", long=400_000)
    for number in range(1, 1000):
        other = runs / f"{number:04}"
        other.mkdir()
        os.link(first / "trace.jsonl", other / "trace.jsonl")
    read: list[int] = []
    files: list[Path] = []

    class Counted:
        def __init__(self, file: BinaryIO) -> None:
            self.file = file

        def read(self, size: int) -> bytes:
            read.append(len(content := self.file.read(size)))
            return content

        def readline(self, size: int) -> bytes:
            read.append(len(content := self.file.readline(size)))
            return content

        def seek(self, *place: int) -> int:
            return self.file.seek(*place)

    @contextmanager
    def counted(path: Path) -> Iterator[Counted]:
        files.append(path)
        with opened(path) as file:
            yield Counted(file)

    monkeypatch.setattr(listing, "opened", counted)
    assert len(rows(rlm, runs)) == 1000
    assert len(files) == 1000 and len(read) == 2000
    assert sum(read) < 1000 * 40_000
    shutil.rmtree(runs)


def test_an_answer_that_is_longer_than_what_is_read_at_first_is_found(rlm: Any, tmp_path: Path) -> None:
    small_run(tmp_path / "a", "Why?", "word " * 20_000)
    (one,) = rows(rlm, tmp_path)
    assert one["answer"].startswith("word word") and one["stop"] == "answer"
