"""Documents that say nearly the same are found, measured and told, whatever their order, in linear time."""

import json
import random
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings, strategies as st

from index_store import duplicates
from index_store.duplicates import Twin, near_duplicates, twins_by_access
from index_store.index import open_index
from index_store.verify import verify_index
from raptor.cli import main
from tests.helpers import tiny_embedder


def prose(seed: int, count: int = 200) -> list[str]:
    chosen = random.Random(seed)
    return [f"word{chosen.randrange(3_000)}" for _ in range(count)]


def jaccard(a: str, b: str) -> float:
    """By hand, on words as they stand."""
    runs = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (a.split(), b.split())]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def test_the_same_words_in_another_dress_are_the_same() -> None:
    found = near_duplicates(
        [("a", "Two masts, and a mizzen."), ("b", "other words"), ("c", "TWO masts\n\nand a – mizzen")]
    )
    assert found == [Twin("c", "a", 1.0)]


class Labels(frozenset[str]):
    """Labels that count how often two of them are compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Labels.compared += 1
        return frozenset.__eq__(self, other)

    __hash__ = frozenset.__hash__


def test_documents_of_many_readers_are_not_each_compared_with_the_readers_of_all_others() -> None:
    documents = [(f"{n}", "Ada left the harbour") for n in range(400)]
    found = twins_by_access(documents, [Labels([f"reader {n // 2}"]) for n in range(400)])
    assert [(twin.doc, twin.of) for twin in found] == [(f"{n + 1}", f"{n}") for n in range(0, 400, 2)]
    assert Labels.compared <= 400


def test_a_copy_with_some_words_changed_is_measured() -> None:
    words = prose(1)
    changed = [*words]
    changed[50], changed[120] = "other", "others"
    found = near_duplicates([("x", " ".join(prose(2))), ("a", " ".join(words)), ("b", " ".join(changed))])
    assert found == [Twin("b", "a", round(jaccard(" ".join(words), " ".join(changed)), 3))]
    assert found[0].similarity == pytest.approx(186 / 206, abs=0.001)


def test_what_shares_only_some_words_is_no_duplicate() -> None:
    shared = prose(1)
    assert near_duplicates([(str(n), " ".join([*shared, *prose(n, 200)])) for n in range(2, 12)]) == []


def test_few_words_are_duplicates_only_when_they_are_the_same() -> None:
    texts = [("a", "yes"), ("b", "no"), ("c", "Yes!"), ("d", "..."), ("e", "---"), ("f", "")]
    assert near_duplicates(texts) == [Twin("c", "a", 1.0)]


def test_texts_without_spaces_are_compared_too() -> None:
    text = "これは日本語のテキストです。文字コードの判定を試します。長い文章をもう少し書いてみましょう。" * 1
    longer = text + "終わり"
    assert [(twin.doc, twin.of) for twin in near_duplicates([("a", text), ("b", longer)])] == [("b", "a")]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 6))
def test_what_is_told_is_what_is_so(seed: int, changes: int) -> None:
    words = prose(seed)
    changed = [*words]
    for place in random.Random(seed).sample(range(len(words)), changes):
        changed[place] = "changed"
    exact = jaccard(" ".join(words), " ".join(changed))
    found = near_duplicates([("a", " ".join(words)), ("b", " ".join(changed))])
    assert [twin.similarity for twin in found] == ([round(exact, 3)] if exact >= duplicates.ALIKE else [])


def test_many_copies_take_time_in_proportion_to_their_number() -> None:
    shared = prose(1, 300)
    texts = [(str(n), " ".join([*shared, *prose(n, 20)])) for n in range(1_200)]
    times = []
    for count in (300, 1_200):
        began = process_time()
        found = near_duplicates(texts[:count])
        times.append(process_time() - began)
        assert len(found) == count - 1
    assert times[1] < 12 * times[0]


def test_a_build_names_near_duplicates_and_the_index_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_embedder.use(monkeypatch)
    docs = tmp_path / "docs"
    docs.mkdir()
    words = prose(1)
    (docs / "a.txt").write_text(" ".join(words))
    (docs / "b.txt").write_text(" ".join([*words, "more"]))
    (docs / "c.txt").write_text(" ".join(prose(2)))
    assert main(["build", str(docs), "-o", str(tmp_path / "i"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "1 document says nearly the same as another: b.txt ~ a.txt (0.99)"
    report = json.loads(out)
    assert report["near_duplicates"] == [{"doc": "b.txt", "of": "a.txt", "similarity": 0.995}]
    index = open_index(tmp_path / "i")
    assert index.alike.tolist() == [0, 0, 2]
    assert index.copies(0) == [1]
    assert index.copies(2) == []
    assert verify_index(tmp_path / "i") == []
    for number in range(13):
        (docs / f"d{number:02}.txt").write_text(" ".join(prose(3)))
    assert main(["update", str(tmp_path / "i"), str(docs)]) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "13 documents say nearly the same as others: b.txt ~ a.txt (0.99), d01.txt ~ d00.txt (1.00)"
    )
    assert said.endswith(", and 3 more, which --json lists")
