"""Corpora that grow, with vectors that are there already."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth
from benchmarks._sets import write
from benchmarks.growth import seed
from index_store import open_index
from raptor import build_index
from tests.helpers import tiny_embedder


def test_a_build_takes_the_vectors_that_were_put_there_and_makes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_embedder.use(monkeypatch)
    texts = {name: f"The {name} lies at anchor in the bay." for name in ("ketch", "yawl", "sloop")}
    rows = [{"_id": name, "title": name, "text": text} for name, text in texts.items()]
    write(tmp_path / "corpus.jsonl", rows)
    known = np.eye(tiny_embedder.DIM, dtype=np.float32)[3]
    seed(tmp_path / "i", tmp_path / "corpus.jsonl", {f"yawl\n{texts['yawl']}": known})
    build_index(tmp_path / "corpus.jsonl", tmp_path / "i")
    vectors = open_index(tmp_path / "i").vectors
    assert vectors[1].tolist() == known.tolist()
    assert vectors[0] == pytest.approx(tiny_embedder.encode([f"ketch\n{texts['ketch']}"])[0])


def test_what_grows_is_said_with_both_sizes() -> None:
    def asked(times: int, cited: float, chars: float) -> growth.Asked:
        return growth.Asked(
            times, "rlm", np.full(4, cited), np.full(4, cited), [8_000.0], [chars], [1.0], 1.04
        )

    claims = growth._claims([asked(1, 80.0, 1_000.0), asked(50, 60.0, 1_100.0)], ("rlm",))
    told = {claim.target: (claim.figure, claim.holds) for claim in claims}
    assert told == {
        "growth": ("60.0 (0.75)", False),
        "reading": ("1,100 (1.10 times)", True),
        "lean": ("8,000", False),
        "blocks": ("1.04", True),
    }


def test_an_answer_of_quotes_alone_says_nothing_of_its_own() -> None:
    assert growth.is_bare('"The ketch has two masts." [1]\n"A yawl differs." [2]')
    assert not growth.is_bare('These passages speak of it:\n"The ketch has two masts." [1]')
    assert not growth.is_bare("Two.") and not growth.is_bare("")
    assert growth.CLOSED.match("Are both of them ships?") and growth.CLOSED.match("How many masts are there?")
    assert not growth.CLOSED.match("Which ship has two masts?")
