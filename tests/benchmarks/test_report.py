"""What the benchmarks give is kept part by part, and written whole."""

from pathlib import Path

import pytest

from benchmarks import REPOSITORY, _targets
from benchmarks.__main__ import PAGE, RESULTS, lines, main, parts
from benchmarks._report import Claim, Loss, Part, Table, as_text, keep, kept, markdown_table, worst_of

TABLE = Table("Boats", ("boat", "masts"), (("ketch", "2"), ("a | b", "-")), "A note.")
CLAIM = Claim(
    "gain", "names on hotpotqa", "at least +5", "92.5", "85.0 without", "+7.5 [+1.0 +9.0]", holds=True
)
LOSS = Loss("BM25", "search on contractnli", "83.5", "79.5", "[-0.2 +12.2]")


def part(name: str, *items: Table | Claim | Loss, cpu_s: float = 1.0) -> Part:
    return Part(name, "2026-11-30", "abc1234", "Linux with 2 cores", cpu_s, 2.0, items)


def test_a_part_is_kept_as_it_was(tmp_path: Path) -> None:
    whole = part("retrieval", TABLE, CLAIM, LOSS)
    keep(tmp_path, whole)
    assert kept(tmp_path) == {"retrieval": whole}


def test_a_run_of_one_part_leaves_the_figures_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, page = tmp_path / "results", tmp_path / "page.md"
    keep(results, part("retrieval", TABLE, CLAIM))
    keep(results, part("sandbox", Table("Old", ("a",), (("1",),))))
    nothing = ["--data", str(tmp_path / "none"), "--work", str(tmp_path / "work")]
    assert main(["retrieval", "build", *nothing], results, page) == 0
    told = page.read_text(encoding="utf-8")
    assert "### Boats" in told and "### Old" in told and "92.5" in told
    assert "Not run: it needs questions with gold" in told  # the build, of which nothing is kept
    assert "not run: it needs questions with gold" in capsys.readouterr().out


def test_every_target_stands_in_the_page_measured_or_not() -> None:
    told = "\n".join(lines({"retrieval": part("retrieval", CLAIM)}, {}))
    for key, target in _targets.TARGETS.items():
        assert f"| {target.text} |" in told, key
    assert "| holds | names on hotpotqa | at least +5 | 92.5 | 85.0 without | +7.5 [+1.0 +9.0] |" in told
    assert "| not measured | the part sandbox was not run |" in told


def test_every_target_is_of_a_part_or_of_a_test_that_is_there() -> None:
    for target in _targets.TARGETS.values():
        assert bool(target.part) != bool(target.test)
        assert not target.test or Path(target.test).is_file(), target.test


def test_where_something_plainer_wins_the_page_says_so() -> None:
    assert "Nowhere that was measured." in "\n".join(lines({"retrieval": part("retrieval", CLAIM)}, {}))
    told = "\n".join(lines({"retrieval": part("retrieval", LOSS)}, {}))
    assert "| BM25 | search on contractnli | 83.5 | 79.5 | [-0.2 +12.2] |" in told
    assert as_text(LOSS) == "BM25 wins, search on contractnli: 83.5 against 79.5 [-0.2 +12.2]"


def test_a_part_that_was_not_run_is_said_to_be_so() -> None:
    told = "\n".join(lines({}, {"models": "no key of a model is in the environment"}))
    assert "## Models\n\nNot run: no key of a model is in the environment." in told


def test_columns_of_figures_stand_to_the_right_and_a_bar_breaks_no_row() -> None:
    assert list(markdown_table(TABLE.columns, TABLE.rows)) == [
        "| boat | masts |",
        "|---|---:|",
        "| ketch | 2 |",
        "| a \\| b | - |",
    ]
    assert as_text(TABLE) == "Boats\n\nboat   masts\nketch      2\na | b      -\n\nA note."


def test_of_claims_that_are_shown_as_one_the_worst_is_shown_and_all_must_hold() -> None:
    good = Claim("plain", "search on a", "", "2", holds=True)
    bad = Claim("plain", "search on b", "", "1", holds=False)
    assert worst_of([(2.0, good), (-1.0, bad)]).text == "search on b, the worst of 2"
    assert worst_of([(2.0, good), (-1.0, bad)]).holds is False
    assert worst_of([(-1.0, good), (2.0, bad)]).holds is False


def test_a_part_that_there_is_not_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retreival"]) == 2
    assert capsys.readouterr().err.startswith("no part retreival; there are build, retrieval, ")


def test_the_page_in_the_repository_is_what_is_kept_there() -> None:
    now = "\n".join(lines(kept(RESULTS), {})) + "\n"
    assert PAGE.read_text(encoding="utf-8") == now, "write it anew: python -m benchmarks --only-write"
    assert {*kept(RESULTS)} <= {*parts(), "whole"}
    for file in (PAGE, *RESULTS.glob("*.json")):
        assert str(REPOSITORY) not in file.read_text(encoding="utf-8")
