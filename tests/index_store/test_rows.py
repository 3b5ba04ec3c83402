"""The rows of a view: exact spans, in order, and nothing that is not in view."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from index_store import rows as r
from index_store.errors import BadQuery, NoSuchNode
from index_store.index import Index, open_index, text_index
from index_store.rows import SPLITS, Rows, Split, kind_of, rows_of
from index_store.types import Document, Scope
from index_store.view import View
from index_store.writer import Draft
from tests.helpers.places import data_file
from tests.helpers.toy import CUTS, TEXTS, document, publish_toy, toy_draft, unit_rows
from tests.index_store.test_grep import index_of

texts = st.lists(
    st.text(alphabet='ab1,;\t:{}" \n\r\u2028\u0085\u00a0\ufeff\x1c\x0cé\U0001f34e', max_size=40), min_size=1, max_size=3
).filter(lambda listed: any(text.strip() for text in listed))  # fmt: skip
HALF = "L1-00000"


def plain(text: str, name: str = "notes.txt") -> View:
    return View(text_index(Path(name), text.encode()))


def told(rows: Rows) -> list[str]:
    return [rows.text(place) for place in range(len(rows))]


def records(text: str, name: str = "notes.txt") -> list[str]:
    return told(rows_of(plain(text, name), "record"))


def fields(text: str, name: str = "notes.txt") -> list[Any]:
    return [row.fields for row in rows_of(plain(text, name), "record")]


def is_blank(text: str) -> bool:
    return not text.replace("\ufeff", "").strip()


def seen_of(view: View) -> dict[str, set[int]]:
    """The characters of each document that are in view."""
    seen: dict[str, set[int]] = {}
    for span in (view.index.span_at(chunk) for chunk in view.chunks):
        assert span
        seen.setdefault(span.doc, set()).update(range(span.start, span.end))
    return seen


# -- what holds of every split and every view ----------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(listed=texts, window=st.sampled_from([1, 3, 4 << 20]), half=st.booleans())
@example(listed=["a\r\nb\rc\n\nd"], window=1, half=False)
@example(listed=["a\r", "\nb"], window=4 << 20, half=False)
@example(listed=["", "\ufeff", "a"], window=1, half=False)
@example(listed=['x,y\n"1\n2",3\n4,5\n'], window=4 << 20, half=True)
def test_rows_are_exact_in_order_apart_and_in_view(
    tmp_path_factory: pytest.TempPathFactory, split: Split, listed: list[str], window: int, half: bool
) -> None:
    index = index_of(tmp_path_factory.mktemp("rows") / "rows.index", listed)
    view = View(index, HALF if half else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(r, "WINDOW_BYTES", window)
        rows = rows_of(view, split)
    seen, last = seen_of(view), ("", 0)
    for place, row in enumerate(rows):
        assert rows.text(place) == index.span_text(row.span) and not is_blank(rows.text(place))
        assert (row.span.doc, row.span.start) >= last and row.span.start < row.span.end
        last = (row.span.doc, row.span.end)
        assert set(range(row.span.start, row.span.end)) <= seen[row.span.doc]
        assert row.id == (index.id_of(int(rows.chunks(place)[0])) if split == "chunk" else
                          f"{row.span.doc} {row.span.start}-{row.span.end}")  # fmt: skip
        seen[row.span.doc] -= set(range(row.span.start, row.span.end))
    if split != "record":  # of which a header is none, and one that is only partly in view
        left = [index.document_text(doc)[place] for doc, places in seen.items() for place in places]
        assert is_blank("".join(left)), "a text that is in view is in no row"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(alphabet='ab," \n\r\u2028\u0085\ufeffé', min_size=1, max_size=60))
@example(text="a\r\n\r\nb\n\rc")
@example(text="a\u2028b")
def test_lines_are_those_of_the_text(text: str) -> None:
    expected = [line for line in re.split("\r\n|\r|\n", text) if not is_blank(line)]
    if text.strip():
        assert told(rows_of(plain(text), "line")) == expected


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(listed=texts)
def test_the_records_of_a_branch_are_those_of_the_whole_that_lie_in_it(
    tmp_path_factory: pytest.TempPathFactory, listed: list[str]
) -> None:
    index = index_of(tmp_path_factory.mktemp("rows") / "rows.index", listed)
    whole, half = rows_of(View(index), "record"), rows_of(View(index, HALF), "record")
    seen = seen_of(View(index, HALF))
    inside = [{*range(row.span.start, row.span.end)} & seen.get(row.span.doc, set()) for row in whole]
    chars = [row.span.end - row.span.start for row in whole]
    expected = [row.id for row, part, n in zip(whole, inside, chars, strict=True) if len(part) == n]
    assert [row.id for row in half] == expected
    assert half.left_out == sum(0 < len(part) < n for part, n in zip(inside, chars, strict=True))


def test_a_slice_is_a_view_of_the_same_rows() -> None:
    rows = rows_of(plain("a\nb\nc\nd"), "line")
    assert told(rows[1:3]) == ["b", "c"] and rows[1:3][-1] == rows[2]
    assert np.shares_memory(rows[1:3].places, rows.places)
    assert rows.places.nbytes == 24 * len(rows)
    with pytest.raises(IndexError):
        rows[4]


# -- scopes --------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path) -> Index:
    draft = toy_draft()
    headings = {"boats.txt": ((0, 1, "Masts"), (48, 2, "Rudders"), (10**9, 1, "Nowhere"))}
    listed = [
        (Document(d.id, d.title, d.source, d.sha256, d.chars, (), headings.get(d.id, ()), {"n": str(n)}), text)
        for n, (d, text) in enumerate(draft.documents)
    ]  # fmt: skip
    from dataclasses import replace

    publish_toy(tmp_path / "toy.index", replace(draft, documents=listed))
    return open_index(tmp_path / "toy.index")


def test_documents_and_sections_are_cut_at_headings_and_at_what_is_in_view(toy: Index) -> None:
    boats = TEXTS["boats.txt"]
    assert told(rows_of(View(toy), "document")) == list(TEXTS.values())
    assert told(rows_of(View(toy), "section"))[:2] == [boats[:48], boats[48:]]
    assert told(rows_of(View(toy, "L1-00001"), "document"))[0] == boats[48:]
    assert told(rows_of(View(toy, "L0-00001"), "section")) == [boats[25:48]]


def test_rows_keep_to_a_branch_a_document_and_metadata(toy: Index) -> None:
    whole = View(toy)
    assert told(rows_of(whole, "line", doc="one.txt")) == ["single"]
    assert told(rows_of(whole, "line", where={"n": "2"})) == ["single"]
    assert {row.id for row in rows_of(whole, "chunk", under="L1-00000")} == {f"L0-0000{i}" for i in range(3)}
    assert told(rows_of(View(toy, scope=Scope(doc="one.txt")), "line")) == ["single"]
    assert len(rows_of(View(toy, "L1-00000"), "line", doc="one.txt")) == 0
    assert len(rows_of(View(toy, "L1-00000"), "line", under="L1-00001")) == 1  # the chunk that both have
    starts = [a for cuts in CUTS.values() for a in cuts]
    assert [row.span.start for row in rows_of(whole, "chunk")] == starts


def test_what_is_not_there_is_refused_in_a_sentence(toy: Index) -> None:
    with pytest.raises(BadQuery, match="no split 'page'; there are document, section, chunk, line, record"):
        rows_of(View(toy), "page")  # type: ignore[arg-type]
    with pytest.raises(NoSuchNode, match=r"did you mean 'one\.txt'"):
        rows_of(View(toy), "line", doc="on.txt")
    with pytest.raises(BadQuery, match="no document has the metadata field"):
        rows_of(View(toy), "line", where={"colour": "red"})


def test_it_can_be_stopped() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    for split in ("line", "record", "chunk"):
        with pytest.raises(Stop):
            rows_of(plain("a\nb"), split, check=stop)


# -- records -------------------------------------------------------------------------------------------------


def test_a_table_has_a_row_a_record_and_its_header_names_the_fields() -> None:
    table = '\ufeffname,said\r\nAnn,"Yes, ""now"""\r\nBob,"two\r\n\r\nlines"\r\n\r\nCy,'
    assert records(table) == ['Ann,"Yes, ""now"""', 'Bob,"two\r\n\r\nlines"', "Cy,"]
    assert fields(table) == [
        {"name": "Ann", "said": 'Yes, "now"'},
        {"name": "Bob", "said": "two\r\n\r\nlines"},
        {"name": "Cy", "said": ""},
    ]
    assert fields("a\tb\n1\t2\n3\t4\n") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert fields('"multi\nline head",b\n1,2\n3,4') == [
        {"multi\nline head": "1", "b": "2"},
        {"multi\nline head": "3", "b": "4"},
    ]


def test_a_cell_of_several_lines_may_be_any_of_a_row() -> None:
    assert records('a,b,c\n"1\n2",3,4\n5,"6\n7",8\n9,0,"1\n2"\n') == [
        '"1\n2",3,4', '5,"6\n7",8', '9,0,"1\n2"',
    ]  # fmt: skip


def test_a_table_without_a_header_has_numbers_for_names() -> None:
    assert fields("ham\thello\nspam\twin\nham\tbye\n") == [
        {"1": "ham", "2": "hello"}, {"1": "spam", "2": "win"}, {"1": "ham", "2": "bye"},
    ]  # fmt: skip


def test_a_stray_quotation_mark_swallows_no_rows() -> None:
    table = 'kind\ttext\nham\t"hello\nspam\twin\nham\tbye"\nham\the said "so" twice\n'
    assert records(table) == table.splitlines()[1:]
    assert [row["text"] for row in fields(table)] == ['"hello', "win", 'bye"', 'he said "so" twice']


def test_a_table_by_its_name_alone_is_one() -> None:
    assert fields("a,b\n1,2\n", "t.csv") == [{"a": "1", "b": "2"}]
    assert fields("word\nx\ny\n", "t.csv") == [{"word": "x"}, {"word": "y"}]
    assert fields("a,b\n1,2,3\n4\n", "t.csv") == [{"a": "1", "b": "2", "3": "3"}, {"a": "4"}]
    assert fields("a,b\n", "t.csv") == []


def test_prose_with_commas_is_no_table() -> None:
    prose = "First, it rained.\nThen, it snowed, and so on.\n\nAt last, the sun.\n"
    assert records(prose) == ["First, it rained.\nThen, it snowed, and so on.", "At last, the sun."]


def test_json_lines_are_records_with_their_keys() -> None:
    lines = '{"a": "x\u2028y", "n": 1}\n\n{"a": [2], "b": null}\r\n{"a": 3}\n{}\n{"é": true}\nbroken'
    assert len(records(lines)) == 6
    assert fields(lines) == [
        {"a": "x\u2028y", "n": "1"}, {"a": "[2]", "b": "null"}, {"a": "3"}, {}, {"é": "true"}, None,
    ]  # fmt: skip
    assert fields('{"a": ' + "[" * 100_000 + "\n{}") == [None]  # nested too deep to be read: a paragraph


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-01-31 12:00:01,123", "[2024-01-31T12:00:01Z]", "31/Jan/2024:12:00:01", "Jan 31 12:00:01",
        "12:00:01", "10.0.0.1 - - [31/Jan/2024:12:00:01 +0000]", "Wed Jan 31 12:00:01", "1/31/24, 12:00 PM",
    ],
)  # fmt: skip
def test_an_entry_of_a_log_goes_from_one_time_stamp_to_the_next(stamp: str) -> None:
    entries = [f"{stamp} started", f"{stamp} failed\n  Traceback\n\n  ValueError: 3", f"{stamp} ended"]
    assert records("\n".join(entries)) == entries


def test_mails_and_turns_are_records() -> None:
    mails = ["From: ann@x\nTo: bob@x\n\nHi.\n\nAnn", "From: bob@x\nTo: ann@x\n\nHo."]
    assert records("\n\n".join(mails)) == mails
    turns = ["Ann Lee: Hello.\nIs it you?", "BOB: Yes.", "Ann Lee: Good."]
    assert records("\n".join(turns)) == turns


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_letter_is_one_record_whichever_header_it_begins_with(end: str) -> None:
    mails = [
        "Date: 3 May\nFrom: ann@x\n\nDear Bob,\n\nSubject: is what I say.\n\nAnn",
        "Received: by x\n\tfor bob\nSubject: Re: boats\n\nDear Ann,\n\nNo.\n\nBob",
        "From: ann@x\nRe: boats\n\nWhy?",
    ]
    sent = [mail.replace("\n", end) for mail in mails]
    assert records((end * 2).join(sent)) == sent
    assert records("Subject: boats\n\nThey sail.") == ["Subject: boats", "They sail."]


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_broken_line_among_json_lines_is_a_record_of_its_own(at: int) -> None:
    lines = [json.dumps({"n": n}) for n in range(6)]
    lines[at] = '{"n": 1, "cut'
    for name in ("notes.txt", "notes.jsonl"):
        assert records("\n".join(lines), name) == lines
        given = fields("\n".join(lines), name)
        assert given[at] is None and given[3] == {"n": "3"}
    few = ['{"n": ', '{"n": 2}', '{"n":', "{}"]
    assert records("\n".join(few), "few.jsonl") == few and len(records("\n".join(few))) == 1


def test_else_paragraphs_are_records() -> None:
    assert records("one\ntwo\n\u00a0\r\n\r\n three\n") == ["one\ntwo", " three"]


def test_what_a_document_is_does_not_hang_on_the_one_before(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", ["a\tb\n1\t2\n3\t4", "one\n\ntwo", '{"a": 1}', "three"], width=50)
    assert told(rows_of(View(index), "record")) == ["1\t2", "3\t4", "one", "two", '{"a": 1}', "three"]


@settings(max_examples=200, deadline=None)
@given(head=st.binary(max_size=80), name=st.sampled_from(["a.csv", "a.tsv", "a"]), is_cut=st.booleans())
@example(head=b'"' * 70, name="a.csv", is_cut=False)
@example(head=b"\x00,\x00\n\xff,\xfe\n", name="a.csv", is_cut=True)
def test_any_beginning_is_of_some_kind(head: bytes, name: str, is_cut: bool) -> None:
    kind = kind_of(name, head, is_cut)
    r.fields_of(kind, head.decode("utf-8", "replace"))


def test_a_long_beginning_is_told_apart_without_trying_every_way() -> None:
    for head in (b"a" * r.HEAD_BYTES, b"A b " * 4_000, b"a a a " * 2_700, b'"' * r.HEAD_BYTES, b"A:" * 8_000):
        assert kind_of("x", head).name  # a pattern that tries every way would take hours


def test_sms_are_a_row_each() -> None:
    raw = data_file("sms_spam.tsv").read_bytes()
    index = text_index(Path("sms_spam.tsv"), raw)
    lines, listed = rows_of(View(index), "line"), rows_of(View(index), "record")
    assert len(lines) == len(listed) == 5_574
    labels = [(row.fields or {})["1"] for row in listed]
    assert (labels.count("ham"), labels.count("spam")) == (4_827, 747)
    assert told(listed) == [line for line in raw.decode().split("\n") if line]


def test_a_hostile_place_of_a_heading_is_no_row(tmp_path: Path) -> None:
    text = "one two"
    facts, _ = document("a.txt", text)
    odd = ((3, 1, "x"), (3, 1, "x"), (1, 1, "y"), (7, 1, "z"), (2**40, 1, "w"))
    facts = Document(facts.id, facts.title, facts.source, facts.sha256, facts.chars, (), odd)
    draft = Draft([(facts, text)], np.array([[0, 0, 7]]), ["a"], ["a"], [1, 1], [np.array([0])],
                  np.ones(2, dtype=np.int64), unit_rows(2))  # fmt: skip
    publish_toy(tmp_path / "i", draft)
    assert told(rows_of(View(open_index(tmp_path / "i")), "section")) == ["o", "ne", " two"]
