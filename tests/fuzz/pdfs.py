"""PDFs that were damaged, or made to do harm: their parsers give a text or a sentence for each, in time."""

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pypdf import PdfWriter
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

from raptor.loading.processes import parse_many
from raptor.loading.types import Failure, SourceFile
from tests.fuzz.mutate import mutated_bytes
from tests.fuzz.target import Target

LIMIT_S = 10.0  # of a file here
AT_ONCE = 6  # files of one example
WORDS = (
    b"endobj", b"endstream", b"stream\n", b"xref", b"trailer", b"startxref\n0\n%%EOF", b"<<", b">>", b"[",
    b"]", b"/Kids [3 0 R]",
    b"/Parent 2 0 R", b"/Length 999999999", b"/Length -1", b"/Filter /FlateDecode",
    b"/Filter [/FlateDecode /FlateDecode]", b"/Filter /LZWDecode",
    b"/Filter /ASCIIHexDecode", b"/Filter /RunLengthDecode", b"/Predictor 15 /Columns 999999999",
    b"/Count 2147483647", b"1 0 R", b"0 0 R", b"99999 0 R",
    b"(", b")", b"<", b"/Type /Page", b"/ObjStm", b"/Encrypt 1 0 R", b"/Contents 4 0 R", b"BT", b"ET",
    b"(x) Tj", b"9" * 500, b"-", b"\0", b"%",
    b"/ToUnicode 1 0 R", b"beginbfrange <0000> <ffff> <0000> endbfrange", b"[" * 1_000, b"<<" * 1_000,
    b"/W [1 99999999 1]", b"/Index [0 999999999]",
)  # fmt: skip


def honest(compressed: int, pages: int, title: str) -> bytes:
    """A small PDF."""
    file = io.BytesIO()
    canvas = Canvas(file, pageCompression=compressed)
    canvas.setTitle(title)
    for page in range(pages):
        canvas.bookmarkPage(f"p{page}")
        canvas.addOutlineEntry(f"Page {page}", f"p{page}")
        canvas.drawString(72, 720, f"Page {page}: the ketch has two masts, é.")
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def locked() -> bytes:
    """One that is encrypted with an empty password."""
    writer, file = PdfWriter(clone_from=io.BytesIO(honest(0, 1, "Locked"))), io.BytesIO()
    writer.encrypt("", algorithm="RC4-128")
    writer.write(file)
    return file.getvalue()


def drawn(rng: random.Random, whole: list[bytes]) -> list[bytes]:
    """The files of one example."""
    return [mutated_bytes(rng, rng.choice(whole), WORDS) for _ in range(AT_ONCE)]


@contextmanager
def pdfs(folder: Path) -> Iterator[Target]:
    """Parser processes, started anew for each handful of files."""
    whole = [honest(0, 1, "One"), honest(0, 3, "Three"), honest(1, 2, "Two"), locked()]
    paths = [folder / f"{i}.pdf" for i in range(AT_ONCE)]

    def check(example: list[bytes]) -> None:
        for path, raw in zip(paths, example, strict=True):
            path.write_bytes(raw)
        parsed = list(parse_many([SourceFile(path, path.name) for path in paths]))
        assert len(parsed) == AT_ONCE
        for loaded in parsed:
            assert len(loaded) == 1
            (item,) = loaded
            if isinstance(item, Failure):
                assert "\n" not in item.reason and len(item.reason) < 1_000, item.reason
            else:
                (item.text + item.title).encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raptor.loading.processes.LIMIT_S", LIMIT_S)
        yield Target(lambda rng: drawn(rng, whole), check, deadline_s=AT_ONCE * LIMIT_S + 30)
