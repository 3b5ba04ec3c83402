"""The benchmarks from end to end, over made-up sets in the form of the given ones."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from benchmarks import growth, retrieval, tree
from benchmarks.__main__ import main
from benchmarks._sets import write
from tests.helpers.plain_umap import plain_neighbours

Argument = TypeVar("Argument")
Result = TypeVar("Result")
TRADES = ("ketches", "orchards", "ledgers", "lenses", "ovens", "bridges")


def write_set(folder: Path, count: int, seed: int) -> None:
    """Documents of people who work for houses, and questions that need a person and the house."""
    random = np.random.default_rng(seed)
    towns = [
        f"{start}{end}" for start in ("Nor", "Sel", "Kar", "Bel") for end in ("wick", "den", "holm", "ford")
    ]
    documents, queries = [], []
    for number in range(count):
        house, town = f"House of {towns[number % 16]}{number}", towns[int(random.integers(16))]
        person, trade = f"Ada {town.title()}son{number}", TRADES[number % len(TRADES)]
        about = f"{house} stands in {town}. It has dealt in {trade} since {1700 + number}. " * 3
        life = f"{person} kept the books of the {house} for years, and never learned of {trade}. " * 3
        documents.append({"_id": f"h{number}", "title": house, "text": about})
        documents.append({"_id": f"p{number}", "title": person, "text": life})
        gold = [{"doc": doc, "start": None, "end": None} for doc in (f"p{number}", f"h{number}")]
        text = f"Where is the house whose books {person} kept?"
        queries.append({"_id": f"q{number}", "text": text, "answers": [town], "scope": None, "gold": gold})
    write(folder / "corpus.jsonl", documents)
    write(folder / "queries.jsonl", queries)


def here(work: Callable[[Argument], Result], items: Sequence[Argument]) -> list[Result]:
    """What `each` gives, without processes, which would import for seconds what is here: all is pickled as for them."""
    return [_moved(_moved(work)(_moved(item))) for item in items]


def _moved(thing: Result) -> Result:
    moved: Result = pickle.loads(pickle.dumps(thing))  # noqa: S301 (it is ours)
    return moved


@pytest.mark.slow
def test_parts_over_made_up_sets_give_one_page_and_a_rerun_of_one_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_neighbours(monkeypatch)
    monkeypatch.setattr(growth, "QUESTIONS", 2)
    monkeypatch.setattr(growth, "TIMES", (1, 5, 5_000))
    for seed, name in enumerate(("hotpotqa", "musique")):
        write_set(tmp_path / "data" / name, 12, seed)
    results, page = tmp_path / "results", tmp_path / "page.md"
    where = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--questions", "4"]
    with monkeypatch.context() as patch:
        for part in (retrieval, tree, growth):
            patch.setattr(part, "each", here)
        assert main(["build", "retrieval", "tree", "growth", *where], results, page) == 0
    told = page.read_text(encoding="utf-8")
    assert str(tmp_path) not in told
    assert "| hotpotqa | 24 | " in told  # built
    assert "| hotpotqa | recall@5 | 4 | " in told  # ways
    assert "| musique | by meaning and name (ours) | 4 | " in told  # pairs
    assert "| musique | 8,000 | " in told  # at equal characters
    assert "| 5 | rlm | " in told and "| 5000 | " not in told  # growth, as far as there are texts
    assert "the part sandbox was not run" in told
    before = {file.name: file.read_bytes() for file in results.iterdir()}
    assert main(["retrieval", *where, "--sets", "musique"], results, page) == 0
    now = {file.name: file.read_bytes() for file in results.iterdir()}
    assert {name for name in now if now[name] != before[name]} == {"retrieval.json"}
    again = page.read_text(encoding="utf-8")
    assert "| hotpotqa | recall@5 | 4 | " not in again and "| hotpotqa | 24 | " in again
