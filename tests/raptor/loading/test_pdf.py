"""PDFs have sections and rows, are opened by a password, and say which of their pages are pictures."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from raptor.loading.find import find
from raptor.loading.load import load
from raptor.loading.pdf import ranges
from raptor.loading.types import Failure, SourceFile, Text
from tests.raptor.loading.test_loading import pdf

needs_aes = pytest.mark.skipif(
    importlib.util.find_spec("cryptography") is None, reason="the extra 'pdf' is not installed"
)


def one(path: Path, password: str = "") -> Text:
    (text,) = load([SourceFile(path, path.name, password=password)])
    assert isinstance(text, Text), text
    return text


def failed(path: Path, password: str = "") -> str:
    (failure,) = load([SourceFile(path, path.name, password=password)])
    assert isinstance(failure, Failure), failure
    return failure.reason


def platypus(path: Path, *flowables: Any) -> Path:
    from reportlab.platypus import SimpleDocTemplate  # type: ignore[import-untyped]

    SimpleDocTemplate(str(path)).build(list(flowables))
    return path


def paragraph(words: str, style: str = "Normal") -> Any:
    from reportlab.lib.styles import getSampleStyleSheet  # type: ignore[import-untyped]
    from reportlab.platypus import Paragraph

    return Paragraph(words, getSampleStyleSheet()[style])


PROSE = "Some words of a paragraph that is long enough to take more than a line. " * 5
ROWS = [
    ["Name", "Year", "Place of birth"],
    ["Ann", "1999", "Köln"],
    ["Bob Smith", "2001", "York"],
    ["Zed", "7", "Rome"],
]


def table(rows: Sequence[Sequence[str]]) -> Any:
    from reportlab.platypus import Table

    return Table(rows)


# -- titles --------------------------------------------------------------------------------------------------


def titles(folder: Path, given: Sequence[str]) -> list[str]:
    """What PDFs of these titles are named, read at once: each alone would start a parser of its own."""
    for number, title in enumerate(given):
        pdf(folder / f"{number:02}.pdf", "Words.", title=title)
    return [item.title for item in load(find([str(folder)])) if isinstance(item, Text)]


def test_a_title_that_a_program_wrote_is_none(tmp_path: Path) -> None:
    written = [
        "(anonymous)",
        "untitled",
        "Untitled-1",
        "(unspecified)",
        "Untitled Document",
        "Document1",
        " ",
    ]
    written += ["PowerPoint Presentation", "Presentation 2"]
    written += ["Microsoft Word - x.doc", "microsoft word  - Report 2020"]
    assert titles(tmp_path, written) == [f"{number:02}.pdf" for number in range(len(written))]


def test_a_title_that_only_begins_or_ends_like_one_stays(tmp_path: Path) -> None:
    own = [
        "Anonymous letters",
        "The untitled",
        "Documents of 1848",
        "Microsoft Word for lawyers",
        "2020",
        "Paget",
    ]
    assert titles(tmp_path, own) == own


def test_a_page_is_then_named_by_its_first_heading(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<title>Untitled Document</title><h1>Boats</h1><p>Words.")
    assert one(tmp_path / "a.html").title == "Boats"


# -- sections ------------------------------------------------------------------------------------------------


def test_the_entries_of_an_outline_are_sections_on_their_pages(tmp_path: Path) -> None:
    def outlined(writer: Any) -> None:
        first = writer.add_outline_item(title="Ketches  and sloops", page_number=0)
        writer.add_outline_item(title="Größe", page_number=1, parent=first)
        writer.add_outline_item(title="Not on the page", page_number=2)

    words = ("Intro. Ketches and sloops", "Words on Größe", "Third.")
    text = one(pdf(tmp_path / "a.pdf", *words, change=outlined))
    assert [(s.level, s.heading) for s in text.sections] == [
        (1, "Ketches and sloops"),
        (2, "Größe"),
        (1, "Not on the page"),
    ]
    assert [text.text[s.start :].split("\n")[0].strip() for s in text.sections] == [
        "Ketches and sloops",
        "Größe",
        "Third.",
    ]


def test_without_an_outline_large_print_is_the_heading(tmp_path: Path) -> None:
    parts = [
        *(
            paragraph("Boats", "Heading1"),
            paragraph(PROSE),
            paragraph("Two masts", "Heading2"),
            paragraph(PROSE),
        ),
        *(paragraph("Sails", "Heading1"), paragraph(PROSE)),
    ]
    text = one(platypus(tmp_path / "a.pdf", *parts))
    assert [(s.level, s.heading) for s in text.sections] == [(1, "Boats"), (2, "Two masts"), (1, "Sails")]
    for section in text.sections:
        assert text.text[section.start :].startswith(section.heading)


def test_print_of_one_size_has_no_sections(tmp_path: Path) -> None:
    assert one(pdf(tmp_path / "a.pdf", "First page.", "Second page.")).sections == ()


# -- tables --------------------------------------------------------------------------------------------------


def test_the_rows_of_a_table_stay_rows(tmp_path: Path) -> None:
    text = one(platypus(tmp_path / "a.pdf", paragraph(PROSE), table(ROWS), paragraph(PROSE)))
    assert "Name\tYear\tPlace of birth\nAnn\t1999\tKöln\nBob Smith\t2001\tYork\nZed\t7\tRome\n" in text.text
    assert " ".join(text.text.split()).count("Some words of a paragraph") == 10


def test_a_table_that_is_drawn_by_columns_is_read_by_rows(tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

    canvas = Canvas(str(tmp_path / "a.pdf"))
    for column in range(3):
        for row, cells in enumerate(ROWS):
            canvas.drawString(72 + 120 * column, 700 - 16 * row, cells[column])
    canvas.save()
    assert "Ann\t1999\tKöln\nBob Smith\t2001\tYork" in one(tmp_path / "a.pdf").text


def test_two_columns_of_prose_stay_columns(tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(800, 800))
    lines = [f"line {n} of a column that goes on and on until its edge" for n in range(20)]
    for x, side in ((20, "left"), (420, "right")):
        for row, line in enumerate(lines):
            canvas.drawString(x, 700 - 16 * row, f"{side} {line}")
    canvas.save()
    text = one(tmp_path / "a.pdf").text
    assert text.index("left line 19") < text.index("right line 0")


# -- passwords -------------------------------------------------------------------------------------------------


def test_a_pdf_is_opened_by_the_password_that_was_given(tmp_path: Path) -> None:
    locked = pdf(tmp_path / "a.pdf", "Secret.", change=lambda w: w.encrypt("open", algorithm="RC4-128"))
    assert one(locked, "open").text.strip() == "Secret."
    assert (
        failed(locked, "wrong")
        == "it is encrypted, and --password does not open it; check it, or leave the file out"
    )
    assert failed(locked).endswith("or give --password")


@needs_aes
def test_aes_is_opened_too_where_its_package_is_installed(tmp_path: Path) -> None:
    for algorithm in ("AES-128", "AES-256"):
        free = pdf(
            tmp_path / "a.pdf", "Open.", change=lambda w, a=algorithm: w.encrypt("", "owner", algorithm=a)
        )
        assert one(free).text.strip() == "Open."
        locked = pdf(
            tmp_path / "b.pdf", "Secret.", change=lambda w, a=algorithm: w.encrypt("open", algorithm=a)
        )
        assert one(locked, "open").text.strip() == "Secret."


def test_aes_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pypdf.errors import DependencyError

    from raptor.loading import pdf as reading

    def missing(_: SourceFile) -> Any:
        raise DependencyError("cryptography>=3.1 is required for AES algorithm")

    monkeypatch.setattr(reading, "_pdf", missing)
    (failure,) = reading.read_pdf(SourceFile(tmp_path / "a.pdf", "a.pdf"))
    assert isinstance(failure, Failure)
    assert "pip install 'raptor-rlm[pdf]'" in failure.reason


# -- pages without text ------------------------------------------------------------------------------------------


def test_pages_without_text_are_named(tmp_path: Path) -> None:
    pages = ["One", "Two", "", "Four", "Five", "Six", "", "", ""]
    text = one(pdf(tmp_path / "a.pdf", *pages))
    assert text.notes[0].startswith("it holds no text on pages 3, 7-9 of 9, which may be scanned; ")
    assert one(pdf(tmp_path / "b.pdf", "One", "")).notes[0].startswith("it holds no text on page 2 of 2,")
    assert one(pdf(tmp_path / "c.pdf", "One")).notes == ()


@given(st.sets(st.integers(1, 30)))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    named: list[int] = []
    for run in filter(None, ranges(sorted(numbers)).split(", ")):
        first, _, last = run.partition("-")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(numbers)


def test_a_pdf_of_images_alone_fails_and_names_scans(tmp_path: Path) -> None:
    (loaded,) = load(find([str(pdf(tmp_path / "a.pdf", "", ""))]))
    assert isinstance(loaded, Failure)
    assert "2 pages hold no text, perhaps scanned images; " in loaded.reason
