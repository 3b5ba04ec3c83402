"""Office files load as Markdown with their pages, or say in a sentence what is missing."""

import importlib.util
import sys
import zipfile
from pathlib import Path

import pytest

from raptor.loading.find import find
from raptor.loading.load import load
from raptor.loading.office import page_starts
from raptor.loading.readers import read_file
from raptor.loading.types import Failure, Section, SourceFile, Text

needs_office = pytest.mark.skipif(
    importlib.util.find_spec("kreuzberg") is None, reason="the extra 'office' is not installed"
)

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SLIDE = (
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    f'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:r="{REL}"'
)


def relations(*targets: tuple[str, str]) -> str:
    rows = (
        f'<Relationship Id="rId{i}" Type="{REL}/{t}" Target="{to}"/>' for i, (t, to) in enumerate(targets, 1)
    )
    inside = "".join(rows)
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inside}'
        "</Relationships>"
    )


def packed(path: Path, parts: dict[str, str], types: dict[str, str]) -> Path:
    """An Office Open XML package; the first of `types` (part to content type) is its main part."""
    kinds = "".join(
        f'<Override PartName="/{part}" ContentType="application/vnd.openxmlformats-officedocument.{kind}+xml"/>'
        for part, kind in types.items()
    )
    with zipfile.ZipFile(path, "w") as package:
        package.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default '
            'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Default Extension="xml" ContentType="application/xml"/>{kinds}</Types>',
        )
        package.writestr("_rels/.rels", relations(("officeDocument", next(iter(types)))))
        for name, xml in parts.items():
            package.writestr(name, xml)
    return path


def docx(path: Path, *paragraphs: tuple[str, str]) -> Path:
    """Paragraphs as (style, text); the style `page` begins a new page."""
    body = "".join(
        '<w:p><w:r><w:br w:type="page"/></w:r><w:r>' + f"<w:t>{text}</w:t></w:r></w:p>"
        if style == "page"
        else f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    document = f"<w:document {WORD}><w:body>{body}</w:body></w:document>"
    return packed(
        path, {"word/document.xml": document}, {"word/document.xml": "wordprocessingml.document.main"}
    )


def pptx(path: Path, *slides: tuple[str, str]) -> Path:
    ids = "".join(f'<p:sldId id="{255 + i}" r:id="rId{i}"/>' for i in range(1, len(slides) + 1))
    names = [f"ppt/slides/slide{i}.xml" for i in range(1, len(slides) + 1)]
    parts = {
        "ppt/presentation.xml": f"<p:presentation {SLIDE}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(*(("slide", n.removeprefix("ppt/")) for n in names)),
    }
    for name, words in zip(names, slides, strict=True):
        shapes = "".join(
            f'<p:sp><p:nvSpPr><p:cNvPr id="{i}" name="s{i}"/><p:cNvSpPr/><p:nvPr><p:ph type="{kind}"/></p:nvPr>'
            f"</p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
            for i, (kind, text) in enumerate(zip(("title", "body"), words, strict=True), 2)
        )
        parts[name] = (
            f'<p:sld {SLIDE}><p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/>'
            f"</p:nvGrpSpPr><p:grpSpPr/>{shapes}</p:spTree></p:cSld></p:sld>"
        )
    types = {"ppt/presentation.xml": "presentationml.presentation.main"}
    return packed(path, parts, types | dict.fromkeys(names, "presentationml.slide"))


def xlsx(path: Path, name: str, *rows: tuple[str, ...]) -> Path:
    cells = "".join(
        f'<row r="{r}">'
        + "".join(f'<c r="{"ABC"[c]}{r}" t="inlineStr"><is><t>{v}</t></is></c>' for c, v in enumerate(row))
        + "</row>"
        for r, row in enumerate(rows, 1)
    )
    parts = {
        "xl/workbook.xml": f'<workbook {SHEET} xmlns:r="{REL}"><sheets><sheet name="{name}" sheetId="1" r:id="rId1"/>'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": relations(("worksheet", "worksheets/sheet1.xml")),
        "xl/worksheets/sheet1.xml": f"<worksheet {SHEET}><sheetData>{cells}</sheetData></worksheet>",
    }
    types = {"xl/workbook.xml": "spreadsheetml.sheet.main"}
    return packed(path, parts, types | {"xl/worksheets/sheet1.xml": "spreadsheetml.worksheet"})


def loaded(path: Path) -> Text:
    (found,) = load(find([str(path)]))
    assert isinstance(found, Text), found
    return found


def pages(text: Text) -> list[str]:
    return [
        text.text[a:b].strip() for a, b in zip(text.pages, [*text.pages[1:], len(text.text)], strict=True)
    ]


def test_without_the_extra_a_file_fails_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kreuzberg", None)
    path = docx(tmp_path / "a.docx", ("Normal", "words"))
    (failure,) = read_file(SourceFile(path, "a.docx"))
    assert isinstance(failure, Failure)
    assert "pip install 'raptor-rlm[office]'" in failure.reason


@needs_office
def test_a_docx_gives_sections_and_pages(tmp_path: Path) -> None:
    path = docx(
        tmp_path / "a.docx", ("Heading1", "Größe"), ("Normal", "Öl \U0001f34e."), ("page", "Zweite – ünd.")
    )
    text = loaded(path)
    assert text.title == "Größe"
    assert [(s.start, s.heading) for s in text.sections] == [(0, "Größe")]
    assert pages(text) == ["## Größe\n\nÖl \U0001f34e.", "Zweite – ünd."]


@needs_office
def test_a_pptx_gives_a_page_for_each_slide(tmp_path: Path) -> None:
    text = loaded(pptx(tmp_path / "a.pptx", ("Über uns", "Ä erste"), ("Plan", "zweite ö")))
    assert [page.split("\n")[0] for page in pages(text)] == ["## Über uns", "## Plan"]
    assert [s.heading for s in text.sections] == ["Über uns", "Plan"]


@needs_office
def test_an_xlsx_gives_a_section_for_each_sheet(tmp_path: Path) -> None:
    text = loaded(xlsx(tmp_path / "a.xlsx", "Käufe", ("Name", "Wert"), ("Öl", "3")))
    assert text.sections == (Section(0, 2, "Käufe"),)
    assert "| Öl | 3 |" in text.text


@needs_office
@pytest.mark.parametrize("suffix", ["docx", "pptx", "xlsx"])
def test_a_damaged_file_fails_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    for number, data in enumerate([b"", b"PK\x03\x04 nonsense", b"words"]):
        (tmp_path / f"{number}.{suffix}").write_bytes(data)
    for failure in load(find([str(tmp_path)])):
        assert isinstance(failure, Failure), failure
        assert "\n" not in failure.reason


def test_pages_are_counted_in_characters_and_begin_with_their_words() -> None:
    text = "Öl\n\nzwei\U0001f34e\n\ndrei"
    starts = [0, 4, 13]
    assert [text[a:] for a in page_starts(text, starts)] == [text, "zwei\U0001f34e\n\ndrei", "drei"]
    assert page_starts(text, []) == ()
    assert page_starts("", [0, 7]) == (0, 0)
