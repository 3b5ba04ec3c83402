"""Pages that are pictures are read by tesseract, which is confined, and a user is told."""

import ctypes
import importlib.util
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from raptor.cli import main
from raptor.loading import ocr
from raptor.loading.load import load
from raptor.loading.types import Failure, Section, SourceFile, Text
from tests.raptor.loading.test_loading import Remembered

needs_pillow = pytest.mark.skipif(
    importlib.util.find_spec("PIL") is None, reason="the extra 'ocr' is not installed"
)
# What it prints begins with what it was given; and it tries to write.
STAND_IN = """#!/bin/sh
head -c 4 | tail -c 3
printf ' %s %s words of a scan\\n\\f' "$1" "$2"
(echo x > "$(dirname "$0")/written") 2> /dev/null
exit 0
"""


def scanned(path: Path, *pages: str | None) -> Path:
    """A PDF with text on some pages, and a picture of words on those that are None."""
    from PIL import Image, ImageDraw
    from reportlab.lib.utils import ImageReader  # type: ignore[import-untyped]
    from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

    canvas = Canvas(str(path))
    for page in pages:
        if page is None:
            picture = Image.new("L", (900, 160), 255)
            ImageDraw.Draw(picture).text((40, 40), "A scanned ketch", fill=0, font_size=90)
            canvas.drawImage(ImageReader(picture), 72, 500, 450, 80)
        else:
            canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    return path


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "tesseract").write_text(STAND_IN)
    (folder / "tesseract").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def one(path: Path, cache: Any = None) -> Text | Failure:
    (loaded,) = load([SourceFile(path, path.name)], cache)
    return loaded


@needs_pillow
def test_pictures_of_pages_are_read_where_tesseract_is_there(tmp_path: Path, stand_in: Path) -> None:
    text = one(scanned(tmp_path / "a.pdf", "First.", None, "Third.", "", None))
    assert isinstance(text, Text)
    words = "PNG stdin stdout words of a scan"
    ends = [*text.pages[1:], len(text.text) + 1]
    pages = [text.text[a : b - 1].strip() for a, b in zip(text.pages, ends, strict=True)]
    assert pages == ["First.", words, "Third.", "", words]
    assert text.notes[0].startswith("its pages 2, 5 are pictures, read by OCR; ")
    assert text.notes[1].startswith("it holds no text on page 4 of 5,")
    whole = one(scanned(tmp_path / "b.pdf", None))
    assert isinstance(whole, Text)
    assert whole.text == words


LISTS = """#!/bin/sh
[ "$1" = --list-langs ] && printf 'List of languages:\\ndeu\\neng\\nosd\\n' && exit 0
printf '%s %s words of a scan\\n' "$3" "$4"
"""


@needs_pillow
def test_pictures_are_read_in_the_language_that_was_named(tmp_path: Path, stand_in: Path) -> None:
    (stand_in / "tesseract").write_text(LISTS)
    scan = scanned(tmp_path / "a.pdf", None)
    (text,) = load([SourceFile(scan, "a", ocr_language="deu+eng")])
    assert isinstance(text, Text)
    assert text.text == "-l deu+eng words of a scan"


@needs_pillow
def test_a_language_that_tesseract_lacks_is_one_sentence_before_any_work(
    tmp_path: Path, stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stand_in / "tesseract").write_text(LISTS)
    (tmp_path / "a.txt").write_text("words")
    build = ["build", str(tmp_path / "a.txt"), "-o", str(tmp_path / "i"), "--ocr-language"]
    assert main([*build, "deu+fra"]) == 2
    assert capsys.readouterr().err == (
        "raptor: tesseract has no language 'fra'; install it (tesseract-ocr-fra), or name some of: deu, eng\n"
    )
    for odd in ("../x", "--psm", "a b", "deu+"):
        assert main([*build[:-1], f"--ocr-language={odd}"]) == 2
        assert "give languages as tesseract names them, such as deu+eng" in capsys.readouterr().err


@needs_pillow
def test_scans_that_stand_in_archives_are_read(tmp_path: Path, stand_in: Path) -> None:
    scan = scanned(tmp_path / "scan.pdf", "First.", None).read_bytes()
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as package:
        package.writestr("a/scan.pdf", scan)
        package.writestr("b.txt", "Words.")
    with tarfile.open(tmp_path / "out.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "in.zip", "in.zip")
        packed.add(tmp_path / "scan.pdf", "scan.pdf")
    texts = {
        text.id: text for text in load([SourceFile(tmp_path / "out.tar.gz", "out")]) if isinstance(text, Text)
    }
    assert set(texts) == {"out/in.zip/a/scan.pdf", "out/in.zip/b.txt", "out/scan.pdf"}
    for doc in ("out/in.zip/a/scan.pdf", "out/scan.pdf"):
        assert "PNG stdin stdout words of a scan" in texts[doc].text
        assert texts[doc].notes[0].startswith("its pages 2 are pictures, read by OCR; ")


@needs_pillow
@pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
def test_tesseract_writes_no_file(tmp_path: Path, stand_in: Path) -> None:
    assert isinstance(one(scanned(tmp_path / "a.pdf", None)), Text)
    if (
        ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) > 0
    ):  # the kernel has Landlock
        assert not (stand_in / "written").exists()


@needs_pillow
def test_without_tesseract_a_scan_says_what_to_install_and_is_read_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    scan, kept = scanned(tmp_path / "a.pdf", None), Remembered()
    monkeypatch.setenv("PATH", str(tmp_path))
    failure = one(scan, kept)
    assert isinstance(failure, Failure)
    assert "; install tesseract, and pip install 'raptor-rlm[ocr]'" in failure.reason
    assert one(scan, kept) == failure
    request.getfixturevalue("stand_in")
    read = one(scan, kept)
    assert isinstance(read, Text)
    monkeypatch.setattr(ocr, "read_picture", None)
    assert one(scan, kept) == read


@needs_pillow
@pytest.mark.parametrize("act", ["exit 1", "kill -9 $$", "printf '\\377\\000'"])
def test_a_tesseract_that_fails_leaves_the_page_without_text(
    tmp_path: Path, stand_in: Path, act: str
) -> None:
    (stand_in / "tesseract").write_text(f"#!/bin/sh\n{act}\n")
    text = one(scanned(tmp_path / "a.pdf", "First.", None))
    assert isinstance(text, Text)
    assert text.text.startswith("First.")
    assert "\0" not in text.text


def test_sections_move_with_their_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "read_picture", lambda png: png.decode())
    sections = (Section(0, 1, "one"), Section(4, 1, "blank"), Section(6, 1, "three"))
    text = Text("a", "t", "s", "one\n\nx three", (0, 4, 5), sections)
    read = ocr.recognised(text, lambda number: b"words" if number == 2 else b"")
    assert read.text == "one\nwords\nx three"
    assert read.pages == (0, 4, 10)
    assert [read.text[s.start :].split()[0] for s in read.sections] == ["one", "words", "three"]
    assert ocr.recognised(text, lambda _: b"") == text


@needs_pillow
@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_tesseract_itself_reads_a_scan(tmp_path: Path) -> None:
    text = one(scanned(tmp_path / "a.pdf", None))
    assert isinstance(text, Text)
    assert "scanned ketch" in text.text
