"""Tables, JSON, XML, reStructuredText and notebooks keep their structure: rows, keys, elements, titles, cells."""

import json
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from raptor.loading.csv_table import columns_of
from raptor.loading.find import find
from raptor.loading.json_text import layout
from raptor.loading.load import load
from raptor.loading.rst import rst_sections
from raptor.loading.types import Failure, Text
from raptor.loading.xml_text import XmlPage, walk_xml


def loaded(path: Path, raw: str | bytes) -> Text:
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    (item,) = load(find([str(path)]))
    assert isinstance(item, Text), item
    return item


def failed(path: Path, raw: str | bytes) -> str:
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    (item,) = load(find([str(path)]))
    assert isinstance(item, Failure), item
    assert "\n" not in item.reason
    return item.reason


def headings(text: Text) -> list[tuple[int, str]]:
    """The sections, each of which stands where it says."""
    for section in text.sections:
        assert section.heading in text.text[section.start : section.start + len(section.heading) + 4]
    return [(section.level, section.heading) for section in text.sections]


# -- tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_rows_stay_rows_and_the_title_names_the_columns(tmp_path: Path, name: str, separator: str) -> None:
    rows = "Name,Year,Born in\nAnn,1999,Köln\r\nBob,2001,York\n".replace(",", separator)
    text = loaded(tmp_path / name, rows)
    assert text.text == rows
    assert text.title == f"{name}: Name, Year, Born in"
    assert text.meta == {"columns": "Name, Year, Born in"}


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("a,b\n1,2", ["a", "b"]),
        ('\ufeff"first\nname",b\n1,2', ["first name", "b"]),
        ("1,2\n3,4", []),
        ("Ann,1999\nBob,2001", []),
        ("one column\nx", []),
        ("a,,b\n", []),
        ("", []),
        ('"' * 50_000, []),
        ("a," * 500_000, []),
    ],
)
def test_columns_are_named_only_where_the_first_row_names_them(table: str, names: list[str]) -> None:
    assert columns_of(table) == names


# -- JSON ------------------------------------------------------------------------------------------------


def test_json_with_lines_is_kept_as_it_is_and_its_keys_are_sections(tmp_path: Path) -> None:
    source = '{\n  "title": "Boats",\n  "ketch": {"masts": 2},\n  "list": [{"in": 1}]\n}\n'
    text = loaded(tmp_path / "a.json", source)
    assert (text.text, text.title) == (source, "Boats")
    assert headings(text) == [(1, "title"), (1, "ketch"), (1, "list")]


def test_json_on_one_line_is_laid_out_with_words_instead_of_escapes(tmp_path: Path) -> None:
    value = {"name": "caf\u00e9", "big": [1, {"a": []}, {}], "empty": {}}
    text = loaded(tmp_path / "a.json", json.dumps(value))
    assert text.text == (
        '{\n  "name": "café",\n  "big": [\n    1,\n    {\n      "a": []\n    },\n    {}\n  ],\n  "empty": {}\n}\n'
    )
    assert headings(text) == [(1, "name"), (1, "big"), (1, "empty")]


def test_numbers_and_keys_stay_as_they_are_written(tmp_path: Path) -> None:
    long = "1" * 5_000
    source = f'{{"a": 1.50, "a": 1E400, "b": {long}, "c": "{"x " * 600}"}}'
    text = loaded(tmp_path / "a.json", source)
    assert '"a": 1.50,\n  "a": 1E400,\n' in text.text
    assert long in text.text


def test_what_is_not_json_is_read_as_the_text_that_it_is(tmp_path: Path) -> None:
    for source in ('// a comment\n{"a": 1}', "{", "[" * 100_000, '{"a": 1} trailing'):
        text = loaded(tmp_path / "a.json", source)
        assert text.text == source
        assert "was read as plain text" in text.notes[0]


values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(values, st.booleans())
def test_layout_changes_no_value_and_is_that_of_the_standard_library(value: Any, escaped: bool) -> None:
    text = "".join(layout(json.dumps(value, ensure_ascii=escaped)))
    assert json.loads(text) == value
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii="\\u" in text) + "\n" or "\\" in text


def test_deep_json_is_not_indented_to_gigabytes(tmp_path: Path) -> None:
    source = "[" * 900 + '"\\u00e9"' + "]" * 900
    assert loaded(tmp_path / "a.json", source).text == source


# -- XML -------------------------------------------------------------------------------------------------


def test_xml_gives_lines_with_the_names_of_short_values(tmp_path: Path) -> None:
    source = """<?xml version="1.0"?><!DOCTYPE books SYSTEM "books.dtd">
    <books xmlns="urn:x"><book id="b1"><title>Boats</title><price currency="EUR">30</price>
    <para>A <b>ketch</b> has two masts, H<sub>2</sub>O &amp; more.</para><para><b>Bold</b> first.</para>
    <x:long xmlns:x="y">%s</x:long><empty/><part of="a"/></book><!-- c --><![CDATA[raw <b>]]></books>"""
    text = loaded(tmp_path / "a.xml", source % ("word " * 40))
    assert text.text == (
        "book (id=b1)\nBoats\nprice (currency=EUR): 30\nA ketch has two masts, H2O & more.\nBold first.\n"
        f"{('word ' * 40).strip()}\npart (of=a)\nraw <b>"
    )
    assert text.title == "Boats"
    assert headings(text) == [(1, "Boats")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "shift_jis"])
def test_xml_is_read_in_the_encoding_it_declares(tmp_path: Path, encoding: str) -> None:
    words = "日本語の文書です" if encoding == "shift_jis" else "Größe"
    raw = f'<?xml version="1.0" encoding="{encoding}"?><a><b>{words}</b></a>'.encode(encoding)
    assert loaded(tmp_path / "a.xml", raw).text == f"b: {words}"


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
BOMBS = [
    f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l11;</x>',
    f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x a="&l11;"/>',
    f'<!DOCTYPE x [<!ENTITY a "{"a" * 10_000}">]><x>{"&a;" * 10_000}</x>',
    '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>',
    '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x.dtd"> %p;]><x/>',
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_entities_are_refused_in_one_sentence(tmp_path: Path, bomb: str) -> None:
    began = process_time()
    assert "it declares the entity" in failed(tmp_path / "a.xml", bomb)
    assert process_time() - began < 5


@pytest.mark.parametrize("source", ["", "words", "<a>", "<a></b>", "<a>&nbsp;</a>", "<a/><b/>", "<a \0/>"])
def test_what_is_not_well_formed_is_one_sentence(tmp_path: Path, source: str) -> None:
    assert "not well-formed XML" in failed(tmp_path / "a.xml", source)


def test_deep_or_wide_xml_ends(tmp_path: Path) -> None:
    assert "nested more than 1,000 deep" in failed(tmp_path / "a.xml", "<a>" * 100_000)
    began = process_time()
    page = XmlPage()
    walk_xml("<r>" + "<a b='c'>x <i>y</i></a>" * 30_000 + "</r>", page.start, page.end, page.text)
    assert process_time() - began < 10
    assert len(page.lines) == 30_000


# -- reStructuredText --------------------------------------------------------------------------------------

RST = """======
Manual
======

Ketches
-------

Words of a ketch::

    In code
    -------

Ändern
~~~~~~
A
-
----------

==== ====
a    b
==== ====

Sloops
------
"""


def test_underlined_titles_are_sections_by_their_style(tmp_path: Path) -> None:
    text = loaded(tmp_path / "a.rst", RST)
    assert (text.text, text.title) == (RST, "Manual")
    assert [(s.level, s.heading) for s in text.sections] == [
        (1, "Manual"),
        (2, "Ketches"),
        (3, "Ändern"),
        (2, "Sloops"),
    ]
    assert RST[text.sections[1].start :].startswith("Ketches")
    assert RST[text.sections[0].start :].startswith("======\nManual")


def test_titles_with_windows_line_ends_are_found_and_none_in_plain_words() -> None:
    assert [s.heading for s in rst_sections("One\r\n===\r\n\r\nx\r\n")] == ["One"]
    assert list(rst_sections("a\n\nno title\n--\n\n-----\n\n....\n....\n")) == []


# -- notebooks -----------------------------------------------------------------------------------------------


def notebook(*cells: Any, **more: Any) -> str:
    return json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, **more})


def cell(kind: str, source: Any, *outputs: Any) -> dict[str, Any]:
    return {"cell_type": kind, "source": source, "metadata": {}} | (
        {"outputs": outputs} if kind == "code" else {}
    )


def test_a_notebook_is_its_cells_in_order_with_what_they_printed(tmp_path: Path) -> None:
    source = notebook(
        cell("markdown", ["# Boats\n", "\n", "Two masts."]),
        cell(
            "code",
            "# not a heading\nprint(1)",
            {"output_type": "stream", "text": ["1\n", "2\n"]},
            {"output_type": "execute_result", "data": {"text/plain": "<3>", "image/png": "AAAA"}},
            {"output_type": "display_data", "data": {"image/png": "AAAA"}},
            {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": ["\x1b[31m..."]},
        ),
        cell("code", ""),
        cell("markdown", "## Größe"),
        metadata={"kernelspec": {"language": "python"}},
    )
    text = loaded(tmp_path / "a.ipynb", source)
    assert text.text == (
        "# Boats\n\nTwo masts.\n\n# not a heading\nprint(1)\n\n1\n2\n\n<3>\n\nKeyError: 'x'\n\n## Größe"
    )
    assert (text.title, text.meta) == ("Boats", {"language": "python"})
    assert headings(text) == [(1, "Boats"), (2, "Größe")]


def test_a_notebook_of_version_3_has_sheets(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Old"},
        {"cell_type": "code", "input": "print 1", "outputs": [{"output_type": "stream", "text": "1"}]},
    ]
    text = loaded(tmp_path / "a.ipynb", json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}))
    assert text.text == "## Old\n\nprint 1\n\n1"
    assert headings(text) == [(2, "Old")]


@pytest.mark.parametrize(
    "source",
    [
        "{}",
        "[]",
        "{",
        "null",
        "[" * 100_000,
        '{"cells": 1}',
        '{"cells": [1]}',
        '{"cells": [{"cell_type": "code", "source": 5}]}',
    ],
)
def test_what_is_no_notebook_is_one_sentence(tmp_path: Path, source: str) -> None:
    assert "it is no notebook" in failed(tmp_path / "a.ipynb", source)


def test_a_notebook_without_words_is_skipped(tmp_path: Path) -> None:
    assert "holds no text" in failed(tmp_path / "a.ipynb", notebook())
