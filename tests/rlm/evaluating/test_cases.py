"""Files of questions with given answers and gold, and what is wrong with some."""

import json
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm.errors import RlmError
from rlm.evaluating.cases import Gold, check_cases, read_cases


def file_of(folder: Path, *rows: dict[str, Any], name: str = "q.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_that_ask_takes_is_taken_with_answers_and_gold_beside_each_question(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        {"_id": 7, "question": "Why?", "answers": ["so", "so"], "gold": [{"doc": "a", "start": 1, "end": 5}]},
        {
            "text": "How?",
            "answers": 12,
            "scope": "a",
            "gold": [{"doc": "a"}, {"doc": "a", "start": None, "end": None}],
        },
        {"id": "x", "text": "Who?"},
    )
    first, second, third = read_cases([path])
    assert (first.id, first.question.text, first.answers, first.gold) == (
        "7",
        "Why?",
        ("so",),
        (Gold("a", 1, 5),),
    )
    assert (second.id, second.answers, second.gold, second.set) == ("2", ("12",), (Gold("a"),), "q")
    assert second.question.scope is not None and second.question.scope.doc == "a"
    assert (third.answers, third.gold) == ((), ())


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({"text": "?", "answers": {"a": 1}}, '"answers" is dict'),
        ({"text": "?", "answers": [["a"]]}, '"answers" is list'),
        ({"text": "?", "gold": "a"}, '"gold" is a list'),
        ({"text": "?", "gold": [{"start": 1, "end": 2}]}, '"gold" is a list'),
        ({"text": "?", "gold": [{"doc": "a", "start": 1}]}, "characters 1 to None"),
        ({"text": "?", "gold": [{"doc": "a", "start": 2, "end": 2}]}, "characters 2 to 2"),
        ({"text": "?", "gold": [{"doc": "a", "start": True, "end": 2}]}, "characters True to 2"),
        ({"text": "?", "gold": [{"doc": "a", "start": -1, "end": 2}]}, "characters -1 to 2"),
        ({"text": " "}, "the question is empty"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, row: dict[str, Any], wrong: str) -> None:
    with pytest.raises(RlmError, match=r"q\.jsonl, line 2.*") as raised:
        read_cases([file_of(tmp_path, {"_id": "ok", "text": "?"}, row)])
    assert wrong in str(raised.value)


def test_an_id_stands_once_in_all_files(tmp_path: Path) -> None:
    one, two = (
        file_of(tmp_path, {"_id": "a", "text": "?"}, name=name) for name in ("one.jsonl", "two.jsonl")
    )
    with pytest.raises(RlmError, match=r"two\.jsonl, line 1: the id 'a' stands twice"):
        read_cases([one, two])


def test_gold_that_is_not_in_the_index_is_refused_before_anything_is_asked(
    index: Index, tmp_path: Path
) -> None:
    def check(**gold: Any) -> None:
        check_cases(index, read_cases([file_of(tmp_path, {"text": "?", "gold": [gold]})]))

    check(doc="one.txt", start=0, end=6)
    with pytest.raises(
        RlmError, match=r"line 1: the gold names the document 'two.txt', which the index does not have"
    ):
        check(doc="two.txt")
    with pytest.raises(RlmError, match=r"line 1: the gold ends at character 7 of 'one.txt', which has 6"):
        check(doc="one.txt", start=0, end=7)


@pytest.mark.parametrize(
    ("gold", "start", "end", "overlaps"),
    [
        (Gold("a", 5, 10), 9, 12, True),
        (Gold("a", 5, 10), 10, 12, False),
        (Gold("a", 5, 10), 0, 5, False),
        (Gold("a", 5, 10), 6, 7, True),
        (Gold("a"), 0, 1, True),
        (Gold("b"), 0, 1, False),
        (Gold("a", 5, 10), None, None, False),
    ],
)
def test_places_overlap_where_they_share_a_character(
    gold: Gold, start: Any, end: Any, overlaps: bool
) -> None:
    assert gold.overlaps("a", start, end) is overlaps


@pytest.mark.parametrize(
    ("written", "meant"),
    [("answer", "answers"), ("Answers", "answers"), ("golds", "gold"), ("scop", "scope")],
)
def test_a_field_that_is_nearly_called_as_one_that_is_read_is_named(
    tmp_path: Path, written: str, meant: str
) -> None:
    with pytest.raises(RlmError, match=f"line 1: there is no field '{written}'; it is called \"{meant}\""):
        read_cases([file_of(tmp_path, {"_id": "a", "text": "?", written: []})])
    assert read_cases([file_of(tmp_path, {"_id": "a", "text": "?", "note": written})])
