"""The fuzzer finds what is planted, says how to play it again, and each of its targets plays."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import watch as watching
from tests.fuzz.__main__ import main
from tests.fuzz.mutate import mutated_bytes, mutated_json, mutated_text
from tests.fuzz.planted import BAD
from tests.fuzz.play import play
from tests.fuzz.target import TARGETS, rng_of
from tests.fuzz.watch import Finding, watch


def found(name: str, out: Path, count: int = 6) -> tuple[Finding, list[str]]:
    """The one finding of a planted target, and what was said."""
    said: list[str] = []
    tally = watch(f"tests.fuzz.planted:{name}", 1, 120, out, said.append, count=count)
    (finding,) = tally.findings.values()
    return finding, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("exception", "exception", "KeyError: 'nobody foresaw this'"),
        ("hang", "hang", "it took more than 1 s"),
        ("memory", "memory", "MB, more than 500"),
        ("huge", "memory", "MemoryError"),
        ("death", "exception", "its process ended with exit code 7"),
        ("stuck", "hang", "_block_everything"),
    ],
)
def test_a_planted_fault_is_found_and_kept_with_what_plays_it_again(
    name: str, kind: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SLACK_S", 2.0)
    finding, said = found(name, tmp_path, BAD + 1)
    assert (finding.kind, finding.number) == (kind, BAD)
    assert words in finding.text
    assert finding.command.endswith(f"--target tests.fuzz.planted:{name} --seed 1 --example {BAD}")
    (file,) = tmp_path.iterdir()
    assert finding.command in file.read_text() and words in file.read_text()
    assert any(finding.command in line for line in said)


@pytest.mark.slow
def test_after_a_death_the_next_example_is_played(tmp_path: Path) -> None:
    said: list[str] = []
    tally = watch("tests.fuzz.planted:death", 1, 120, tmp_path, said.append, count=BAD + 3)
    # Each process counts for itself, and the second ends before its own bad one.
    assert (tally.examples, tally.failures) == (BAD + 2, 1)


@pytest.mark.slow
def test_a_failure_is_the_exit_code_and_stands_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--minutes", "0.05", "--seed", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--target", "tests.fuzz.planted:exception"]) == 1
    *_, head, row = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:2] == ["target", "examples"]
    assert row.split()[-1] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_each_target_plays_and_what_it_plays_is_no_fault(name: str) -> None:
    told: list[dict[str, Any]] = []
    play(name, 1, 0, 3, 600, lambda **facts: told.append(facts))
    assert [line["text"] for line in told if "failed" in line] == []
    assert sum("end" in line for line in told) == 3


def test_the_same_numbers_make_the_same_example() -> None:
    for mutate in (
        lambda rng: mutated_json(rng, {"a": [1, "b", {"c": None}]}),
        lambda rng: mutated_text(rng, "some words"),
        lambda rng: mutated_bytes(rng, b"some bytes", [b"x"]),
    ):
        one, same, other = ([mutate(rng_of("x", seed, n)) for n in range(40)] for seed in (1, 1, 2))
        assert repr(one) == repr(same) != repr(other)
        json.dumps(repr(one))


def test_an_unknown_target_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--target", "tea"])
    assert "no target 'tea'; there are frames, verbs" in capsys.readouterr().err
