"""Documents load with their text untouched, and whatever is wrong with a source is said in one sentence."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from index_store import open_index
from raptor.build import build_index, update_index
from raptor.checkpoint import Checkpoint
from raptor.cli import main
from raptor.errors import RaptorError
from raptor.loading import plain, processes
from raptor.loading.find import find
from raptor.loading.html import extract
from raptor.loading.kinds import PLAIN, TYPES
from raptor.loading.load import load
from raptor.loading.markdown import markdown_sections
from raptor.loading.metadata import read_metadata
from raptor.loading.pdf import storable as pdf_text
from raptor.loading.readers import READERS, read_file
from raptor.loading.types import Failure, Section, SourceFile, Text
from tests.helpers import tiny_embedder
from tests.helpers.places import ROOT

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)


def one(path: Path, data: bytes | str) -> Text | Failure:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    (loaded,) = load([SourceFile(path, path.name)])
    return loaded


def text_of(loaded: Text | Failure) -> Text:
    assert isinstance(loaded, Text), loaded
    return loaded


def reason(loaded: Text | Failure) -> str:
    assert isinstance(loaded, Failure), loaded
    assert "\n" not in loaded.reason
    return loaded.reason


def texts(*sources: Path | str) -> list[Text]:
    return [text_of(loaded) for loaded in load(find([str(source) for source in sources]))]


# -- finding ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.txt", "a/z.md", "a/y/x.txt", ".hidden.txt", ".git/config.txt"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    return tmp_path / "docs"


def ids(*sources: Path | str) -> list[str]:
    return [file.id for file in find([str(source) for source in sources])]


def test_a_folder_gives_all_its_files_by_relative_path_and_no_hidden_ones(folder: Path) -> None:
    assert ids(folder) == ["a/y/x.txt", "a/z.md", "b.txt"]


def test_a_file_is_named_by_its_name_even_when_hidden(folder: Path) -> None:
    assert ids(folder / "a/y/x.txt", folder / ".hidden.txt") == [".hidden.txt", "x.txt"]


def test_a_pattern_names_files_below_its_fixed_folder(folder: Path) -> None:
    assert ids(f"{folder}/a/**/*.txt") == ["y/x.txt"]
    assert ids(f"{folder}/*.txt") == ["b.txt"]


def test_a_pattern_may_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert ids("*/*.md") == ["a/z.md"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one")
    assert ids(tmp_path / "a[1].txt") == ["a[1].txt"]


def test_a_file_named_twice_is_loaded_once(folder: Path) -> None:
    assert ids(folder, folder / "b.txt", folder / "a" / ".." / "b.txt") == ["a/y/x.txt", "a/z.md", "b.txt"]


def test_an_index_among_the_documents_is_left_out(folder: Path) -> None:
    (folder / "my.index/generations").mkdir(parents=True)
    (folder / "my.index/CURRENT").write_text("000001")
    (folder / "my.index/documents.jsonl").write_text("{}")
    assert ids(folder) == ["a/y/x.txt", "a/z.md", "b.txt"]


def test_a_link_that_leads_back_up_ends(folder: Path) -> None:
    (folder / "a/loop").symlink_to(folder)
    (folder / "self.txt").symlink_to(folder / "self.txt")
    found = find([str(folder)])
    assert len(found) == 4
    assert [loaded for loaded in load(found) if isinstance(loaded, Failure)]


@pytest.mark.parametrize("source", ["docs", "docs/*"])
def test_a_link_that_leads_outside_is_skipped_and_named_unless_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(folder.parent)
    for name in ("secret.txt", "secret.html"):
        Path(name).write_text("secret")
        (folder / name).symlink_to(f"../{name}")
    (folder / "inside.txt").symlink_to("b.txt")
    loaded = list(load(find([source])))
    failed = [item for item in loaded if isinstance(item, Failure)]
    assert [Path(item.source).name for item in failed] == ["secret.html", "secret.txt"]
    assert all("leads out of what was named; give --follow-links" in reason(item) for item in failed)
    assert "secret" not in [item.text for item in loaded if isinstance(item, Text)]
    followed = list(load(find([source], follow_links=True)))
    assert [item.text for item in followed if isinstance(item, Text)].count("secret") == 2
    assert [text.text for text in texts("docs/secret.txt")] == ["secret"]  # who names a link wants it


@pytest.mark.parametrize("name", ["alink", "zlink"])
@pytest.mark.parametrize("follow_links", [False, True])
def test_a_link_inside_takes_nothing_from_what_it_leads_to(
    tmp_path: Path, name: str, follow_links: bool
) -> None:
    (tmp_path / "docs/sub").mkdir(parents=True)
    (tmp_path / "docs/sub/s.txt").write_text("s")
    (tmp_path / "docs/m.txt").write_text("m")
    (tmp_path / "docs" / name).symlink_to("sub")
    (tmp_path / "docs" / f"{name}.txt").symlink_to("m.txt")
    assert [file.id for file in find([str(tmp_path / "docs")], follow_links=follow_links)] == [
        "m.txt",
        "sub/s.txt",
    ]


def test_a_link_to_a_folder_outside_is_named_too_and_read_where_it_is_asked_for(folder: Path) -> None:
    private = folder.parent / "private"
    private.mkdir()
    (private / "secret.txt").write_text("secret")
    (private / "back").symlink_to(folder)
    (private / "again").symlink_to(private)
    (folder / "a/linked").symlink_to(private)
    (folder / "inside").symlink_to(folder / "a")
    (failed,) = [item for item in load(find([str(folder)])) if isinstance(item, Failure)]
    assert failed.source == str(folder / "a/linked")
    assert "give --follow-links" in reason(failed)
    followed = find([str(folder)], follow_links=True)
    assert [file.id for file in followed] == ["a/linked/secret.txt", "a/y/x.txt", "a/z.md", "b.txt"]
    assert not any(file.outside for file in followed)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.txt", "there is no file or folder"),
        ("", "''"),
        ("*.nothing", "no file matches the pattern"),
        ("x" * 5000, "cannot be looked at"),
    ],
)
def test_a_source_that_is_not_there_is_an_error_that_names_it(source: str, words: str) -> None:
    with pytest.raises(RaptorError, match=words):
        find([source])


def test_no_sources_at_all_is_an_error() -> None:
    with pytest.raises(RaptorError, match="name at least one"):
        find([])


def test_a_folder_without_known_types_is_an_error_that_lists_them(tmp_path: Path) -> None:
    with pytest.raises(RaptorError, match=r"holds no files; known types are .*\.pdf"):
        find([str(tmp_path)])
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    for source in (tmp_path, tmp_path / "image.png"):
        with pytest.raises(RaptorError, match=r"suffixes found: \.png\); known types are .*\.pdf"):
            find([str(source)])


def test_an_unknown_type_among_known_ones_fails_alone(folder: Path) -> None:
    (folder / "image.png").write_bytes(b"\x89PNG")
    loaded = list(load(find([str(folder)])))
    assert [type(each) for each in loaded] == [Text, Text, Text, Failure]
    assert "'.png' is unknown" in reason(loaded[3])


def test_the_second_document_of_one_id_fails_and_names_the_first(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.txt").write_text(name)
    first, second = load(find([str(tmp_path / "two"), str(tmp_path / "one")]))
    assert text_of(first).text == "two"
    assert str(tmp_path / "two") in reason(second)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (loaded,) = load([SourceFile(tmp_path / "pipe.txt", "pipe.txt")])
    assert "not a regular file" in reason(loaded)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_read_permission_fails(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("secret")
    (tmp_path / "a.txt").chmod(0)
    (loaded,) = load(find([str(tmp_path)]))
    assert "Permission denied" in reason(loaded)


def test_a_file_that_has_gone_fails(tmp_path: Path) -> None:
    (loaded,) = load([SourceFile(tmp_path / "gone.txt", "gone.txt")])
    assert "not a regular file" in reason(loaded)


def test_a_name_that_cannot_be_printed_fails(tmp_path: Path) -> None:
    assert "cannot be printed" in reason(one(tmp_path / "line\nbreak.txt", "text"))
    assert "cannot be printed" in reason(one(tmp_path / os.fsdecode(b"caf\xe9.txt"), "text"))


# -- plain text ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(storable)
@example("\ufeffmark\r\nline\rline\u2028line\x85\x0cpage \n\n")
@example("e\u0301 \u00e9")
def test_plain_text_is_kept_to_the_character(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "kept.txt"
    assert text_of(one(path, text)).text == text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "holds no text"),
        (b" \r\n\t\xc2\xa0", "holds no text"),
        (b"ok \xff bad", "byte 0xff at offset 3"),
        ("caf\u00e9".encode("latin-1"), "iconv"),
        ("Привет".encode("cp1251"), "give --encoding NAME"),
        (b"\xff\xfeabc", "it is not utf-16"),
        (b"ok \0 bad", "NUL at character 3"),
        (b"\xed\xa0\x80", "byte 0xed at offset 0"),
    ],
)
def test_what_is_no_text_fails_and_says_where(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in reason(one(tmp_path / "a.txt", data))


def test_one_bad_file_does_not_stop_the_others(folder: Path) -> None:
    (folder / "a/bad.txt").write_bytes(b"\xff")
    assert [type(loaded) for loaded in load(find([str(folder)]))] == [Failure, Text, Text, Text]


# -- Markdown --------------------------------------------------------------------------------------------


def test_markdown_is_titled_by_its_first_heading_and_has_sections(tmp_path: Path) -> None:
    source = "intro\r\n\r\n# One #\r\ntext\n```python\n# no\n```\n ## Two#\n#tag\n    # code\n#\n# ##\n###### Six\n"
    loaded = text_of(one(tmp_path / "a.md", source))
    assert loaded.text == source
    assert loaded.title == "One"
    assert [(s.level, s.heading) for s in loaded.sections] == [(1, "One"), (2, "Two#"), (6, "Six")]
    assert [source[s.start :].lstrip()[0] for s in loaded.sections] == ["#"] * 3


def test_markdown_without_a_heading_is_titled_by_its_name(tmp_path: Path) -> None:
    assert text_of(one(tmp_path / "notes.md", "no heading")).title == "notes.md"


def test_a_fence_is_closed_only_by_its_own_kind() -> None:
    text = "~~~\n```\n# a\n~~~\n# b\n````\n```\n# c\n````\n# d\n``` x `y`\n# e"
    assert [section.heading for section in markdown_sections(text)] == ["b", "d", "e"]


def test_a_long_line_of_hashes_or_spaces_is_quick() -> None:
    began = process_time()
    for line in ("#" * 200_000, "# a" + " " * 200_000 + "b", "# " + "# " * 100_000, "# a" + " #" * 100_000):
        list(markdown_sections(line))
    assert process_time() - began < 5


# -- JSON lines ------------------------------------------------------------------------------------------


def rows(path: Path, *lines: bytes | str) -> list[Text | Failure]:
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return list(load(find([str(path)])))


@settings(max_examples=60, deadline=None)
@given(storable, st.booleans())
@example("a\u2028b\x85c\r\nd\x0c", False)
def test_json_lines_keep_their_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, escaped: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "kept.jsonl"
    line = json.dumps({"_id": "x", "title": "T", "text": text}, ensure_ascii=escaped)
    assert rows(path, line, "") == [Text("x", "T", f"{path}:1", text)]


def test_json_ids_may_be_numbers_and_titles_may_be_missing(tmp_path: Path) -> None:
    loaded = rows(
        tmp_path / "a.jsonl", '\ufeff{"_id": 7, "text": "seven"}', '{"_id": "8", "title": null, "text": "8"}'
    )
    assert [(text_of(each).id, text_of(each).title) for each in loaded] == [("7", "7"), ("8", "8")]


GOOD = '{"_id": "good", "text": "good"}'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is a JSON list"),
        ('{"text": "x"}', 'line 2 has no "_id"'),
        ('{"_id": "x"}', 'line 2 has no "text"'),
        ('{"_id": "x", "text": 5}', 'line 2 has a "text" of type int'),
        ('{"_id": "x", "text": null}', 'line 2 has a "text" of type NoneType'),
        ('{"_id": "x", "text": "x", "title": 0}', 'line 2 has a "title" of type int'),
        ('{"_id": "x", "title": ["t"], "text": "x"}', 'line 2 has a "title" of type list'),
        ('{"_id": true, "text": "x"}', '"_id" of type bool'),
        ('{"_id": 1.5, "text": "x"}', '"_id" of type float'),
        ('{"_id": "", "text": "x"}', "document id has 0 characters"),
        ('{"_id": "a\\nb", "text": "x"}', "cannot be printed"),
        ('{"_id": "x", "text": "a \\ud800 b"}', "half a surrogate pair at character 2"),
        ('{"_id": "x", "title": "\\udfff", "text": "b"}', "half a surrogate pair"),
        ('{"_id": "\\udfff", "text": "b"}', "cannot be printed"),
        ('{"_id": "x", "text": "a\\u0000"}', "NUL at character 1"),
        ('{"_id": "x", "text": " "}', "holds no text"),
        ('{"_id": "good", "text": "again"}', "already taken"),
        (f'{{"_id": {"9" * 5000}, "text": "x"}}', "line 2 is not JSON"),
        (b'{"_id": "x", "text": "\xff"}', "line 2 is not UTF-8"),
        ("[" * 100_000, "line 2 is nested too deeply"),
    ],
)
def test_a_bad_line_fails_by_its_number_and_the_rest_load(
    tmp_path: Path, line: bytes | str, words: str
) -> None:
    first, bad, last = rows(tmp_path / "a.jsonl", GOOD, line, '{"_id": "last", "text": "last"}')
    assert (text_of(first).id, text_of(last).id) == ("good", "last")
    assert words in reason(bad)
    assert isinstance(bad, Failure)
    assert bad.source.endswith("a.jsonl:2")
    assert bad.reason.encode()


def test_bad_lines_before_the_first_good_one_are_told_too(tmp_path: Path) -> None:
    bad, good = rows(tmp_path / "a.jsonl", "{", GOOD)
    assert "line 1 is not JSON" in reason(bad)
    assert text_of(good).id == "good"


def test_a_title_is_one_line_of_limited_length(tmp_path: Path) -> None:
    (loaded,) = rows(
        tmp_path / "a.jsonl", json.dumps({"_id": "x", "title": " a\n\u2028 b" + "c" * 999, "text": "t"})
    )
    assert text_of(loaded).title == "a b" + "c" * 197


def test_a_bad_last_line_fails_alone(tmp_path: Path) -> None:
    good, bad = rows(tmp_path / "a.jsonl", GOOD, "{")
    assert text_of(good).id == "good"
    assert reason(bad).startswith("line 2 is not JSON")


def test_json_lines_of_another_kind_fail_once(tmp_path: Path) -> None:
    (loaded,) = rows(tmp_path / "log.jsonl", *['{"event": "x"}'] * 5000)
    assert "none of its first 100 lines is a document" in reason(loaded)
    assert '{"_id": ..., "title": ..., "text": ...}' in reason(loaded)


def test_an_empty_json_lines_file_fails(tmp_path: Path) -> None:
    (loaded,) = rows(tmp_path / "a.jsonl", "", "  ")
    assert "none of its first 0 lines" in reason(loaded)


# -- HTML ------------------------------------------------------------------------------------------------

PAGE = """\ufeff<!DOCTYPE html><html><head><title> The
 title </title><style>p { color: red }</style></head><body><nav>menu <nav>in</nav> more</nav>
<h1>First <em>heading</em></h1><p>A  paragraph
of&nbsp;two<b>bold</b> words &amp; more.</p><ul><li>one<li>two</ul>
<pre>keep
  this</pre><table><tr><td>1</td><td>2</td></tr></table><script>if (a < b) "<p>"</script>
<!-- <p>comment</p> --><h3>Second</h3>5 < 6<br/>end</body></html>"""


def test_html_gives_its_words_on_lines_without_scripts_and_menus(tmp_path: Path) -> None:
    loaded = text_of(one(tmp_path / "a.html", PAGE))
    assert loaded.title == "The title"
    assert loaded.text == (
        "First heading\n\nA paragraph of two"
        "bold words & more.\n\none\ntwo\n\nkeep\n  this\n\n1\t2\n\nSecond\n\n5 < 6\nend"
    )
    assert loaded.sections == (
        Section(0, 1, "First heading"),
        Section(loaded.text.index("Second"), 3, "Second"),
    )


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<nav>a<br>b<p>c</nav>d", "d"),
        ("<svg/>a", "a"),
        ("<svg><svg>a</svg>b</svg>c", "c"),
        ("<pre>a\n<pre>b</pre>\n  c</pre>d\n  e", "a\n\nb\n\n  c\n\nd e"),
        ("</pre>a\n  b<pre>c\n  d", "a b\n\nc\n  d"),
        ("a <b>b</b> <i> c</i>d<wbr>e", "a b cde"),
        ("<SCRIPT>a</Script >b</scripts>c", "bc"),
        ("<script>a</scripts>b", ""),
        ("<p title='>'>a</p><p title=\">\">b</p><p don't>c</p>", "a\n\nb\n\nc"),
        ("a < b <3 <- c </ d> e <?php f ?> g <!x> h", "a < b <3 <- c e g h"),
        ("a<a href='", "a"),
        ("a<!-- b > c", "a"),
        ("<textarea>a <b>b</textarea>", "a <b>b"),
    ],
)
def test_html_is_read_as_a_browser_would_show_it(page: str, text: str) -> None:
    assert extract(page)[0] == text


def test_html_keeps_its_first_title() -> None:
    assert extract("<title>One &amp; two</title><title>Three</title>")[1] == "One & two"


def test_html_without_a_title_takes_its_first_heading_or_its_name(tmp_path: Path) -> None:
    assert text_of(one(tmp_path / "a.html", "<h2>Head</h2>text")).title == "Head"
    assert text_of(one(tmp_path / "a.html", "text")).title == "a.html"


def test_html_in_its_declared_encoding_loads(tmp_path: Path) -> None:
    page = '<meta charset="windows-1252"><p>caf\u00e9</p>'
    assert text_of(one(tmp_path / "a.html", page.encode("cp1252"))).text == "caf\u00e9"
    for encoding in ("no-such", "ascii", "rot13", "hex"):
        data = page.replace("windows-1252", encoding).encode("cp1252")
        assert "does not fit its bytes" in reason(one(tmp_path / "a.html", data))
    assert "iconv" in reason(one(tmp_path / "a.html", "caf\u00e9".encode("cp1252")))
    assert text_of(one(tmp_path / "a.html", "One caf\u00e9.".encode("cp1252"))).text == "One caf\u00e9."


def test_html_without_words_fails(tmp_path: Path) -> None:
    assert "holds no text" in reason(one(tmp_path / "a.html", "<script>x</script><nav>y</nav>"))


def test_character_references_cannot_smuggle_what_cannot_be_stored(tmp_path: Path) -> None:
    page = f"<p>&#xD800; &#0; \0 &#x110000; &#{'9' * 5000}; &#x{'f' * 5000}; &bogus; ok</p>"
    assert text_of(one(tmp_path / "a.html", page)).text.endswith("&bogus; ok")


TAGS = "<p> </p> <h1> </h1> <nav> </nav> <script> </script> <pre> </pre> <td> <br> <!-- --> < > & &lt; = \" ' a \n"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(TAGS.split(" ")) | st.text(max_size=3)))
def test_any_html_gives_text_with_its_headings_in_it(parts: list[str]) -> None:
    text, title, headings = extract("".join(parts))
    assert title == " ".join(title.split())
    for start, level, heading in headings:
        assert 1 <= level <= 6
        assert heading
        assert " ".join(text[start:].split()).startswith(heading)


HOSTILE = (
    '<div> <a_ <a_b=" <!-- <! <? </a <script> </script & &#x < <a/ = <nav> <h1>x <title> <td> <p>x</p> &a'
)


@pytest.mark.parametrize(
    "part", [part.replace("_", " ") for part in [*HOSTILE.split(" "), "<![CDATA[", "<a b='", "<a =\"'", "\n"]]
)
def test_hostile_html_takes_time_in_proportion_to_its_length(part: str) -> None:
    began = process_time()
    for before in ("", "<a ", "<script>"):
        extract(before + part * 100_000)
    assert process_time() - began < 8


# -- PDF -------------------------------------------------------------------------------------------------


def pdf(
    path: Path, *pages: str, title: str = "", change: Callable[..., object] = lambda writer: None
) -> Path:
    from pypdf import PdfWriter
    from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

    canvas = Canvas(str(path))
    canvas.setTitle(title or "untitled")
    for page in pages:
        canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    writer = PdfWriter(clone_from=path)
    change(writer)
    writer.write(path)
    writer.close()
    return path


def test_a_pdf_gives_its_text_with_the_start_of_each_page(tmp_path: Path) -> None:
    (loaded,) = texts(pdf(tmp_path / "a.pdf", "First page.", "Second page.", "", "Fourth.", title="A  title"))
    starts = [*loaded.pages, len(loaded.text) + 1]
    assert [loaded.text[a : b - 1].strip() for a, b in pairwise(starts)] == [
        "First page.",
        "Second page.",
        "",
        "Fourth.",
    ]
    assert loaded.title == "A title"


def test_an_encrypted_pdf_fails_unless_its_password_is_empty(tmp_path: Path) -> None:
    locked = pdf(tmp_path / "a.pdf", "Secret.", change=lambda w: w.encrypt("secret", algorithm="RC4-128"))
    (loaded,) = load(find([str(locked)]))
    assert "is encrypted; decrypt it first" in reason(loaded)
    open_ = pdf(tmp_path / "b.pdf", "Open.", change=lambda w: w.encrypt("", "owner", algorithm="RC4-128"))
    assert texts(open_)[0].text.strip() == "Open."


def test_a_pdf_of_images_fails_and_names_scans(tmp_path: Path) -> None:
    (loaded,) = load(find([str(pdf(tmp_path / "a.pdf", "", ""))]))
    assert "2 pages hold no text, perhaps scanned images" in reason(loaded)


def test_a_pdf_of_too_many_pages_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raptor.loading.pdf.MAX_PAGES", 1)
    (loaded,) = read_file(SourceFile(pdf(tmp_path / "a.pdf", "a", "b"), "a.pdf"))
    assert "has 2 pages, more than 1" in reason(loaded)


def test_a_damaged_pdf_fails_or_loads(tmp_path: Path) -> None:
    whole = pdf(tmp_path / "a.pdf", "Some words.", "More words.").read_bytes()
    damaged = [b"", b"%PDF-1.7", b"not a pdf", whole[:50], whole[: len(whole) // 2], whole[:-40], whole[100:]]
    damaged += [whole[:at] + b"\xff<<[(" + whole[at + 5 :] for at in range(0, len(whole), 97)]
    for number, data in enumerate(damaged):
        (tmp_path / f"b{number}.pdf").write_bytes(data)
    for loaded in load(find([str(tmp_path)])):
        assert isinstance(loaded, Text) or ";" in reason(loaded)


def test_a_damaged_pdf_prints_nothing_and_leaves_logging_as_it_was(tmp_path: Path) -> None:
    whole = pdf(tmp_path / "a.pdf", "Some words.").read_bytes()
    (tmp_path / "a.pdf").write_bytes(b"junk " * 30 + whole[:-40])
    code = (
        "import logging, sys; from raptor.loading.find import find; from raptor.loading.load import load;"
        "print(len(list(load(find(sys.argv[1:])))));"
        "log = logging.getLogger('pypdf'); print(log.handlers);"
        "logging.getLogger('pypdf._reader').warning('heard again')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert (done.stdout, done.stderr) == ("1\n[]\n", "heard again\n")


def test_extracted_pdf_text_can_be_stored() -> None:
    assert pdf_text("a\0b \ud83d\ude00 \ud800") == "ab \U0001f600 \ufffd"


# -- parsing in processes --------------------------------------------------------------------------------


class Remembered(dict[tuple[str, str], Any]):
    """A `ParseCache` in memory."""

    def get(self, sha256: str, how: str) -> Any | None:  # type: ignore[override]
        return super().get((sha256, how))

    def put(self, sha256: str, how: str, value: Any) -> None:
        self[sha256, how] = json.loads(json.dumps(value))


def mixed(folder: Path, count: int) -> list[SourceFile]:
    """Plain, good, bad and titled pages, and a PDF."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02}.html").write_text(
            f"<h1>Page {number}</h1><h2>In</h2><p>{number} {'x ' * number}"
        )
        (folder / f"{number:02}.txt").write_text(f"plain {number}")
    (folder / "03.html").write_bytes(b"caf\xe9")
    (folder / "04.html").write_text("<p>untitled \u20ac")
    pdf(folder / "05 größe.pdf", "One.", "Two.", title="A title")
    return find([str(folder)])


def test_files_parsed_in_processes_come_as_if_they_were_read_one_by_one(tmp_path: Path) -> None:
    found = mixed(tmp_path / "docs", 20)
    assert list(load(found)) == [loaded for file in found for loaded in read_file(file)]


def test_what_was_parsed_before_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, kept = mixed(tmp_path / "docs", 6), Remembered()
    first = list(load(found, kept))
    assert len(kept) == 6  # five pages and a PDF; the bad page is not kept
    (tmp_path / "docs/03.html").unlink()
    monkeypatch.setattr(processes._Parsers, "parse", None)
    again = [file for file in found if file.path.name != "03.html"]
    assert list(load(again, kept)) == [t for t in first if isinstance(t, Text)]
    moved = tmp_path / "docs/04.html"
    moved.rename(moved.with_name("other.html"))
    assert text_of(next(load([SourceFile(moved.with_name("other.html"), "o")], kept))).title == "other.html"


def test_a_file_that_changed_after_it_was_hashed_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, kept, parse = tmp_path / "a.html", Remembered(), processes._Parsers.parse
    page.write_text("<p>old")

    def changed(parsers: Any, file: SourceFile) -> Any:
        page.write_text("<p>new words")
        return parse(parsers, file)

    monkeypatch.setattr(processes._Parsers, "parse", changed)
    assert text_of(next(load([SourceFile(page, "a")], kept))).text == "new words"
    assert not kept


HOSTILE = """
import os, sys, time
import raptor.loading.readers as documents
read_page = documents.READERS[".html"]
def read(file):
    act = file.path.read_text().removeprefix("<p>")
    if act == "die": os.kill(os.getpid(), 9)
    if act == "hang": time.sleep(1000)
    if act == "exit": os._exit(3)
    if act == "print": print("noise"); os.write(1, b"noise")
    return read_page(file)
documents.READERS[".html"] = read
"""


def test_a_parser_that_dies_or_hangs_fails_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LIMIT_S", 2.0)
    monkeypatch.setattr(processes, "SERVE", HOSTILE + processes.SERVE)
    docs = tmp_path / "docs"
    docs.mkdir()
    acts = ["die", "good", "hang", "print", "exit", "fine"]
    for number, act in enumerate(acts):
        (docs / f"{number}.html").write_text(f"<p>{act}")
    loaded = list(load(find([str(docs)])))
    assert [item.text for item in loaded if isinstance(item, Text)] == ["good", "print", "fine"]
    assert f"died of it (signal {signal.SIGKILL:d})" in reason(loaded[0])
    assert "took more than 2 s" in reason(loaded[2])
    assert "(exit code 3)" in reason(loaded[4])


SPY = """
import json, os, socket, subprocess, sys
import raptor.loading.readers as documents
from pathlib import Path
def tried(act):
    try: act()
    except OSError as error: return error.strerror
    return "done"
def read(file):
    from raptor.loading.types import Text
    here, parent = Path(file.path.parent), Path(f"/proc/{os.getppid()}")
    seen = {"environment": dict(os.environ), "path": sys.path, "modules": [*sys.modules], "tried": {
        "connect": tried(lambda: socket.create_connection(("127.0.0.1", int(file.path.read_text())), 2)),
        "run": tried(lambda: subprocess.run([sys.executable, "-c", ""])),
        "write": tried(lambda: (here / "written").write_text("x")),
        "spy": tried((parent / "environ").read_bytes),
    }}
    yield Text(file.id, "t", str(file.path), json.dumps(seen))
documents.READERS[".html"] = read
"""


def spied(folder: Path, monkeypatch: pytest.MonkeyPatch, port: int = 1) -> Any:
    """What a parser saw and could do that was started in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(processes, "SERVE", SPY + processes.SERVE)
    (folder / "spy.html").write_text(str(port))
    return json.loads(text_of(next(load(find(["spy.html"])))).text)


def test_no_key_reaches_a_parser_and_it_imports_nothing_from_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "PYTHONPATH", "PYTHONSTARTUP", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    seen = spied(tmp_path, monkeypatch)
    assert seen["environment"].keys() <= set(processes.ENVIRONMENT)
    assert not {"", ".", str(tmp_path)} & set(seen["path"])
    assert "numpy" not in seen["modules"]  # whose import takes longer than most files


def test_code_beside_the_documents_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    modules = ["html", "json", "pypdf", "kreuzberg", "encodings", "raptor", "index_store", "sitecustomize"]
    for name in modules:
        (docs / f"{name}.py").write_text(f"open({str(tmp_path / name)!r}, 'w')\nraise SystemExit(7)\n")
    (docs / "a.html").write_text("<p>A page.")
    pdf(tmp_path / "b.pdf", "A sheet.").rename(docs / "b.pdf")
    (docs / "c.docx").write_bytes(b"PK")
    monkeypatch.chdir(docs)
    page, sheet, office = load(find(["a.html", "b.pdf", "c.docx"]))
    assert (text_of(page).text, text_of(sheet).text.strip()) == ("A page.", "A sheet.")
    assert "exit code" not in reason(office)
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
def test_a_parser_reaches_no_network_no_program_and_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = spied(tmp_path, monkeypatch, server.getsockname()[1])
    denied = "Operation not permitted"
    assert (seen["tried"]["connect"], seen["tried"]["run"]) == (denied, denied)
    if (
        ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) > 0
    ):  # the kernel has Landlock
        assert (seen["tried"]["write"], seen["tried"]["spy"]) == ("Permission denied", "Permission denied")


def test_loading_may_stop_half_way(tmp_path: Path) -> None:
    loading = load(mixed(tmp_path / "docs", 20))
    next(loading)
    loading.close()  # type: ignore[attr-defined]


# -- sources that change -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "loads"), [(1, True), (2, False)])
def test_a_file_that_changes_while_it_is_read_is_read_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, loads: bool
) -> None:
    file, left, decode = tmp_path / "a.txt", [times], plain.decode
    file.write_text("one")

    def changing(found: SourceFile) -> Any:
        text = decode(found)
        if left[0]:
            left[0] -= 1
            with file.open("a") as f:
                f.write(" more")
        return text

    monkeypatch.setattr(plain, "decode", changing)
    (loaded,) = load([SourceFile(file, "a.txt")])
    assert text_of(loaded).text == "one more" if loads else "changes while it is read" in reason(loaded)


# -- metadata ----------------------------------------------------------------------------------------------


def test_further_fields_of_a_json_line_are_metadata(tmp_path: Path) -> None:
    row = {"_id": "a", "title": "T", "text": "words", "year": 2021, "who": "Müller", "tags": ["x"], "x": None}
    (loaded,) = rows(tmp_path / "a.jsonl", json.dumps(row))
    assert text_of(loaded).meta == {"year": "2021", "who": "Müller"}
    row |= {"meta": {"year": 1999, "place": "Köln", "deep": {"a": 1}}, "metadata": {"place": "x", "url": "u"}}
    (loaded,) = rows(tmp_path / "a.jsonl", json.dumps(row))
    assert text_of(loaded).meta == {"year": "2021", "who": "Müller", "place": "Köln", "url": "u"}
    (loaded,) = rows(tmp_path / "a.jsonl", r'{"_id": "a", "text": "words", "who": "\ud800"}')
    assert "half a surrogate" in reason(loaded)


def test_metadata_is_read_from_json_lines_and_csv(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"_id": "a b", "year": 2021}\n\n{"doc": 7, "title": "T"}\n')
    (tmp_path / "a.csv").write_text('\ufeffdoc,year,title\na b,2021,"T, and\nmore"\n', encoding="utf-8")
    assert read_metadata(str(tmp_path / "a.jsonl")).fields == {"a b": {"year": "2021"}, "7": {"title": "T"}}
    assert read_metadata(str(tmp_path / "a.csv")).fields == {"a b": {"year": "2021", "title": "T, and\nmore"}}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.txt", b"", "neither .jsonl nor .csv"),
        ("m.jsonl", b"{", "line 1 is not JSON"),
        ("m.jsonl", b"[]", "line 1 is a JSON list"),
        ("m.jsonl", b'{"year": 1}', 'line 1 has neither "_id" nor "doc"'),
        ("m.jsonl", b'{"_id": true}', "line 1 has an id of type bool"),
        ("m.jsonl", b'{"_id": "a"}\n{"doc": "a"}', "line 2 says more of 'a'"),
        ("m.jsonl", b'{"_id": "a", "b": "\\ud800"}', "half a surrogate"),
        ("m.jsonl", b"\xff", "cannot be used"),
        ("m.jsonl", b"[" * 100_000, "cannot be used"),
        ("m.csv", b"doc,year\na", "line 2 has more or fewer fields"),
        ("m.csv", b"doc,year\na,1,2", "line 2 has more or fewer fields"),
        ("m.csv", b"name,year\na,1", "neither"),
    ],
)
def test_bad_metadata_is_one_sentence(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RaptorError, match=words) as caught:
        read_metadata(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_metadata_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RaptorError, match="cannot be read"):
        read_metadata(str(tmp_path / "m.csv"))


# -- through a build ---------------------------------------------------------------------------------------

STRANGE = ["a b/größe – 1.md", "日本/a%20b?.txt", "'quoted' \"x\".txt"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)


@pytest.mark.usefixtures("tiny")
def test_strange_ids_sections_and_metadata_go_through_a_build_and_a_search(tmp_path: Path) -> None:
    for name in STRANGE:
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# Guide\n\nThe ketch.\n\n## Ändern\n\nThe mizzen.\n", encoding="utf-8")
    said = tmp_path / "m.jsonl"
    said.write_text(json.dumps({"_id": STRANGE[1], "year": 1999}) + '\n{"_id": "no such", "year": 1}\n')
    report = build_index(tmp_path / "docs", tmp_path / "i", metadata=read_metadata(str(said)))
    assert report.failures == ()
    assert [(f.source, f.reason) for f in report.unused_metadata] == [
        (f"{said}:2", "there is no document 'no such'; check the id")
    ]
    index = open_index(tmp_path / "i")
    assert sorted(d.id for d in index.documents) == sorted(STRANGE)  # the same text thrice is no fault
    assert {h.span.doc for h in index.search("ketch", 10, fold=False) if h.span} == set(STRANGE)
    assert {h.span.doc for h in index.search("ketch", where={"year": "1999"}) if h.span} == {STRANGE[1]}
    assert {m.span.doc for m in index.grep("mizzen").matches} == set(STRANGE)
    for name in STRANGE:
        assert index.search("ketch", doc=name)
        assert index.document_text(name).startswith("# Guide")
    assert index.document(STRANGE[0]).sections == ((0, 1, "Guide"), (21, 2, "Ändern"))


@pytest.mark.usefixtures("tiny")
def test_an_update_keeps_metadata_and_pays_nothing_for_more_of_it(tmp_path: Path) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 20)
    (tmp_path / "m.csv").write_text("doc,year,who\nd001.txt,2001,A\n")
    first = build_index(docs, tmp_path / "i", metadata=read_metadata(str(tmp_path / "m.csv")))
    assert not update_index(tmp_path / "i", docs).new
    (tmp_path / "m.csv").write_text("doc,year\nd001.txt,2002\nd002.txt,2003\n")
    told = read_metadata(str(tmp_path / "m.csv"))
    report = update_index(tmp_path / "i", docs / "d001.txt", metadata=told)
    assert (report.new, report.calls, report.changes.changed, report.failures) == (True, 0, 2, ())
    assert report.levels == first.levels
    index = open_index(tmp_path / "i")
    assert index.document("d001.txt").meta == {"year": "2002", "who": "A"}
    assert index.document("d002.txt").meta == {"year": "2003"}


@pytest.mark.usefixtures("tiny")
def test_a_rebuild_does_not_parse_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed(tmp_path / "docs", 6)
    first = build_index(tmp_path / "docs", tmp_path / "i")
    (tmp_path / "docs/03.html").unlink()
    monkeypatch.setattr(processes._Parsers, "parse", None)
    assert build_index(tmp_path / "docs", tmp_path / "i").digest == first.digest


@pytest.mark.usefixtures("tiny")
def test_parsed_texts_are_recorded_before_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed(tmp_path / "docs", 6)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raptor.build.new_parts", stop)
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "docs", tmp_path / "i")
    with Checkpoint(tmp_path / "i") as checkpoint:
        assert checkpoint._db.execute("SELECT count(*) FROM results WHERE kind = 'parsed'").fetchone()[0] == 6


def test_a_pattern_walks_no_link_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    for name in ("one", "two", "three"):
        (tmp_path / name).symlink_to(".")
    assert [file.path.name for file in find([f"{tmp_path}/**/*.txt"])] == ["a.txt"]


@pytest.mark.slow
def test_a_sparse_file_of_gigabytes_of_whatever_type_is_a_failure_and_not_read(tmp_path: Path) -> None:
    names = {"x", *(f"x{suffix}" for suffix in READERS.keys() - PLAIN | {".txt"})}
    for name in names:
        with (tmp_path / name).open("wb") as file:
            file.truncate(8 << 30)
    loaded = list(load(find([str(tmp_path)])))  # all at once: each alone would start a parser of its own
    told = {Path(item.source).name: item.reason for item in loaded if isinstance(item, Failure)}
    assert len(loaded) == len(told) and told.keys() == names
    assert [name for name, reason in told.items() if "has more than" not in reason] == []


def test_every_type_that_is_read_is_named_in_help_and_documentation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert TYPES.split(", ")[2].split() == sorted(READERS.keys() - PLAIN)
    with pytest.raises(SystemExit):
        main(["build", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    page = (ROOT / "docs/reference/files.md").read_text(encoding="utf-8")
    for suffix in sorted(READERS.keys() - PLAIN):
        assert f"{suffix} " in f"{told} ".replace(",", " "), suffix
        assert f"`{suffix}`" in page, suffix
