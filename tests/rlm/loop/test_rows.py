"""`context.rows` in the parent: what is chosen and read is recorded, and no more than is in view."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index, open_text, text_index
from index_store.types import Json, Scope, Span
from index_store.view import View
from rlm.answers.citations import resolve
from rlm.audit.sources import passages_of
from rlm.loop import verbs as verbs_module
from rlm.loop.checks import Refused
from rlm.loop.verbs import Verbs
from tests.helpers.rlm_toy import Visit, ask_verb, embedded, recorded_verbs
from tests.helpers.toy import TEXTS, toy_index

BOATS, FRUIT = "L1-00000", "L1-00001"
LINES = '{"split": "line"}'


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        yield toy_index(tmp_path_factory.mktemp("rows") / "toy.index")


def refusal(verbs: Verbs, name: str, *arguments: Any, **named: Any) -> str:
    with pytest.raises(Refused) as caught:
        ask_verb(verbs, name, *arguments, **named)
    return str(caught.value)


def table(rows: int) -> Index:
    return text_index(Path("t.csv"), ("n,word\n" + "".join(f"{i},w{i}\n" for i in range(rows))).encode())


def test_rows_are_named_and_counted_and_not_yet_read(index: Index) -> None:
    verbs, visits = recorded_verbs(index)
    lines = sum(len(text.split("\n")) for text in TEXTS.values())
    assert ask_verb(verbs, "rows", split="line") == {"rows": LINES, "start": 0, "stop": lines, "count": lines}
    assert visits[-1]["arguments"] == {"split": "line"}
    assert TEXTS["one.txt"] not in json.dumps(visits[-1]["result"])


def test_a_selection_of_many_rows_shows_few_chunks() -> None:
    verbs, visits = recorded_verbs(table(5_000))
    assert ask_verb(verbs, "rows", split="record")["count"] == 5_000
    assert len(visits[-1]["shown"]) <= 5 and len(json.dumps(visits[-1])) < 2_000


def test_a_page_is_a_visit_with_its_texts(index: Index) -> None:
    verbs, visits = recorded_verbs(index)
    page = ask_verb(verbs, "read_rows", LINES, 0, 2)
    boats = TEXTS["boats.txt"]
    assert page == [
        {"row": "boats.txt 0-47", "doc": "boats.txt", "start": 0, "end": 47, "text": boats[:47]},
        {"row": "boats.txt 48-100", "doc": "boats.txt", "start": 48, "end": 100, "text": boats[48:]},
    ]
    assert visits[-1]["result"] == page and visits[-1]["verb"] == "read_rows"
    assert [entry["node"] for entry in visits[-1]["shown"]] == ["L0-00000", "L0-00001", "L0-00002"]
    assert ask_verb(verbs, "read_rows", LINES, 2, 2) == []


def test_what_was_read_of_rows_is_held_against_the_documents(index: Index) -> None:
    verbs, visits = recorded_verbs(index)
    ask_verb(verbs, "read_rows", LINES, 0, 4)
    passages = list(passages_of({"kind": "visited"} | visits[-1]))
    assert [index.span_text(Span(p.doc, p.start, p.end)) for p in passages] == [p.text for p in passages]
    assert len(passages) == 4


def test_chunks_have_their_node_and_records_their_fields(index: Index) -> None:
    verbs, _ = recorded_verbs(index)
    (chunk,) = ask_verb(verbs, "read_rows", ask_verb(verbs, "rows", split="chunk")["rows"], 5, 6)
    assert (chunk["row"], chunk["node"], chunk["text"]) == ("L0-00005", "L0-00005", "single")
    verbs, _ = recorded_verbs(table(3))
    (record,) = ask_verb(verbs, "read_rows", ask_verb(verbs, "rows")["rows"], 2, 3)
    assert record["fields"] == {"n": "2", "word": "w2"}


def test_a_branch_has_its_own_rows_alone(index: Index) -> None:
    verbs, visits = recorded_verbs(index, BOATS)
    chosen = ask_verb(verbs, "rows", split="line")
    texts = [row["text"] for row in ask_verb(verbs, "read_rows", chosen["rows"], 0, chosen["count"])]
    assert texts == TEXTS["boats.txt"].split("\n")
    assert "is outside the branch" in refusal(verbs, "rows", split="line", under=FRUIT)
    assert "no document 'one.txt' in the branch" in refusal(verbs, "rows", doc="one.txt")
    forged = json.dumps({"split": "line", "under": FRUIT})
    assert "is outside the branch" in refusal(verbs, "read_rows", forged, 0, 1)
    forged = json.dumps({"split": "line", "doc": "one.txt"})
    assert "no document 'one.txt' in the branch" in refusal(verbs, "read_rows", forged, 0, 1)
    assert all(not visit["shown"] for visit in visits[-4:])


def test_a_scope_has_its_own_rows_alone(index: Index) -> None:
    visits: list[Visit] = []
    verbs = Verbs(index, lambda visit: visits.append(asdict(visit)), scope=Scope(doc="one.txt"))
    assert ask_verb(verbs, "rows", split="line")["count"] == 1


def test_records_that_are_only_partly_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n\n".join("word " * 300 + str(i) for i in range(9)))
    verbs, visits = recorded_verbs(open_text(tmp_path / "long.txt"), "L0-00001")
    assert ask_verb(verbs, "rows")["count"] == 0
    assert visits[-1]["cut"] == (
        "context.rows gave 0 rows, without 1 that lie there only in part; split='line' cuts such to what is inside"
    )
    assert ask_verb(verbs, "rows", split="line")["count"] == 1


def test_a_branch_that_rows_are_asked_of_is_entered(index: Index) -> None:
    verbs, visits = recorded_verbs(index)
    ask_verb(verbs, "rows", split="chunk", under=BOATS)
    assert [entry["node"] for entry in visits[-1]["not_taken"]] == [FRUIT]


@pytest.mark.parametrize(
    ("verb", "arguments", "said"),
    [
        ("rows", ["page"], "split is one of document, section, chunk, line, record, found 'page'"),
        ("rows", [["line"]], "split is one of document, section, chunk, line, record, found list"),
        ("rows", ["line", None, None, "x"], "where is a dict such as"),
        ("read_rows", ["r1", 0, 1], "rows are what context.rows(...) gives, or a slice of it, found 'r1'"),
        ("read_rows", ['{"split": "line", "self": 1}', 0, 1], "rows are what context.rows(...) gives"),
        ("read_rows", ["[" * 9_000, 0, 1], "rows are what context.rows(...) gives"),
        ("read_rows", ['{"split": ["line"]}', 0, 1], "split is one of"),
        ("read_rows", [LINES, 0, 99], "there are rows 0 to 5, asked for 0 to 99"),
        ("read_rows", [LINES, 2, 1], "there are rows 0 to 5, asked for 2 to 1"),
        ("read_rows", [LINES, True, 1.5], "there are rows 0 to 5, asked for True to 1.5"),
    ],
)
def test_what_names_no_rows_is_refused(index: Index, verb: str, arguments: list[Any], said: str) -> None:
    verbs, visits = recorded_verbs(index)
    assert said in refusal(verbs, verb, *arguments)
    assert visits[-1]["error"] and not visits[-1]["shown"]


def test_a_page_holds_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    verbs, _ = recorded_verbs(table(2_000))
    name = ask_verb(verbs, "rows")["rows"]
    assert len(ask_verb(verbs, "read_rows", name, 0, 2_000)) == 500
    monkeypatch.setattr(verbs_module, "PAGE_CHARS", 40)
    page = ask_verb(verbs, "read_rows", name, 0, 500)
    chars = [len(row["text"]) + sum(map(len, [*row["fields"], *row["fields"].values()])) for row in page]
    assert 1 < len(page) < 5 and sum(chars) <= 40
    monkeypatch.setattr(verbs_module, "PAGE_CHARS", 1)
    assert len(ask_verb(verbs, "read_rows", name, 0, 500)) == 1


def test_a_row_that_is_too_long_to_read_is_refused_and_those_before_it_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verbs, _ = recorded_verbs(text_index(Path("a.txt"), b"short\n" + b"long " * 9))
    monkeypatch.setattr(verbs_module, "READ_CHARS", 20)
    assert [row["text"] for row in ask_verb(verbs, "read_rows", LINES, 0, 2)] == ["short"]
    said = "row a.txt 6-51 has 45 characters, at most 20 can be read at once; give a finer split"
    assert said in refusal(verbs, "read_rows", LINES, 1, 2)


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs_module, "MOST_ROWS", 10)
    verbs, _ = recorded_verbs(table(11))
    assert "11 rows, at most 10; give under=" in refusal(verbs, "rows")


def test_a_selection_that_is_no_longer_held_is_made_again(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs_module, "HELD_ROWS", 7)
    verbs, _ = recorded_verbs(index)
    names = [ask_verb(verbs, "rows", split=split)["rows"] for split in ("line", "chunk", "document")]
    assert len(verbs._selections) == 1
    assert [len(ask_verb(verbs, "read_rows", name, 0, 3)) for name in names] == [3, 3, 3]


def test_the_parent_knows_the_rows_that_a_cell_names(index: Index) -> None:
    verbs, visits = recorded_verbs(index)
    chosen = ask_verb(verbs, "rows", split="line")
    rows = verbs.selected({"rows": chosen["rows"], "start": 1, "stop": 3})
    assert [rows.text(i) for i in range(len(rows))] == [TEXTS["boats.txt"][48:], "# Maße"]
    assert len(visits) == 1
    for wrong in (None, "line", {"rows": chosen["rows"]}, {"rows": 3, "start": 0, "stop": 1}):
        with pytest.raises(Refused):
            verbs.selected(wrong)


def test_rows_and_answers_stand_among_citations_as_they_are(index: Index) -> None:
    verbs, _ = recorded_verbs(index)
    line = ask_verb(verbs, "read_rows", LINES, 1, 2)[0]
    chunk = ask_verb(verbs, "read_rows", '{"split": "chunk"}', 5, 6)[0]
    answer: dict[str, Json] = {
        "row": "boats.txt 0-47",
        "doc": "boats.txt",
        "start": 0,
        "end": 47,
        "label": "spam",
        "n": 3,
    }
    cited = resolve(View(index), "So it is.", [line | {"fields": {"a": "b"}}, chunk, answer])
    assert [(one.doc, one.start, one.end, one.supported) for one in cited] == [
        ("boats.txt", 48, 100, "verbatim"), ("one.txt", 0, 6, "verbatim"), ("boats.txt", 0, 47, "verbatim"),
    ]  # fmt: skip
    assert [one.quote for one in cited[:2]] == [line["text"], "single"]
