"""A file without a suffix is read as what it holds."""

import zipfile
from pathlib import Path

import pytest

from raptor.loading.content import suffix_by_content
from raptor.loading.find import find
from raptor.loading.load import load
from raptor.loading.types import Failure, Text
from tests.raptor.loading.test_loading import pdf

MAIL = b"Return-Path: <a@b.c>\r\nReceived: from x\r\n\tby y\r\nFrom: A <a@b.c>\r\nDate: Mon, 1 Jan 2001\r\n\r\nWords."


@pytest.mark.parametrize(
    ("raw", "suffix"),
    [
        (b"Permission is hereby granted", ".txt"),
        (b"", ".txt"),
        (b"all: build\n\tcc x.c\n", ".txt"),
        (b"%PDF-1.7\n", ".pdf"),
        (b"\x1f\x8b\x08", ".gz"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><p>x", ".html"),
        (b"<!-- x --><HTML lang=de>", ".html"),
        (b'<?xml version="1.0"?><html xmlns="x">', ".html"),
        (b'<?xml version="1.0"?><feed>', ".xml"),
        (b'{"_id": "x", "text": "y"}\n', ".jsonl"),
        (MAIL, ".eml"),
        (MAIL.replace(b"\r\n", b"\n"), ".eml"),
        (b"Subject: x\nTo: y\n\nno mail", ".txt"),
        (b"Note: one\nfrom: nobody\n", ".txt"),
        (b"PK\x03\x04 nonsense", ".zip"),
    ],
)
def test_a_kind_is_known_by_its_first_bytes(raw: bytes, suffix: str) -> None:
    assert suffix_by_content(raw) == suffix


@pytest.mark.parametrize(
    ("part", "suffix"),
    [
        ("word/document.xml", ".docx"),
        ("xl/workbook.xml", ".xlsx"),
        ("META-INF/container.xml", ".epub"),
        ("a", ".zip"),
    ],
)
def test_a_package_is_known_by_what_is_in_it(tmp_path: Path, part: str, suffix: str) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as package:
        package.writestr(part, "x")
    assert suffix_by_content((tmp_path / "x").read_bytes()) == suffix


def test_files_without_a_suffix_are_documents_under_their_own_names(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("Permission is hereby granted.")
    (tmp_path / "page").write_text("<html><h1>A page</h1>Words.")
    (tmp_path / "old").write_bytes("Die Größe, das Übermaß und die Füße.".encode("latin-1"))
    pdf(tmp_path / "sheet.pdf", "A sheet.").rename(tmp_path / "sheet")
    (tmp_path / "blob").write_bytes(bytes(range(256)) * 10)
    loaded = list(load(find([str(tmp_path)])))
    (blob,) = [item for item in loaded if isinstance(item, Failure)]
    assert blob.source == str(tmp_path / "blob")
    assert "; give --encoding NAME" in blob.reason
    texts = {item.id: item.text.strip() for item in loaded if isinstance(item, Text)}
    assert texts == {
        "LICENSE": "Permission is hereby granted.",
        "old": "Die Größe, das Übermaß und die Füße.",
        "page": "A page\n\nWords.",
        "sheet": "A sheet.",
    }


def test_headers_without_end_are_looked_at_quickly() -> None:
    for part in (b"a: b\n", b"a: b\n c\n", b"a: ", b"a", b"<!-- ", b"<!--\n-->"):
        assert suffix_by_content(part * 100_000) == ".txt"
