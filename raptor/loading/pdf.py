"""PDF: the text that can be extracted of each page, in order."""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from raptor.loading.types import Failure, Loaded, SourceFile, Text, title_of

MAX_PAGES = 20_000


def read_pdf(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document, with the place where each page starts."""
    try:
        with _quiet("pypdf"):
            yield _pdf(file)
    # A parser of hostile files fails in ways its own base error does not cover (KeyError, RecursionError, ...).
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {str(error)[:200]}".split())
        yield Failure(
            str(file.path), f"it cannot be read as PDF ({fault}); open it in a viewer and print it anew"
        )


def _pdf(file: SourceFile) -> Loaded:
    from pypdf import PasswordType, PdfReader

    reader = PdfReader(io.BytesIO(file.raw()))
    source = str(file.path)
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        return Failure(source, "it is encrypted; decrypt it first, for example with: qpdf --decrypt")
    if len(reader.pages) > MAX_PAGES:
        return Failure(source, f"it has {len(reader.pages):,} pages, more than {MAX_PAGES:,}; split it")
    pages = [storable(page.extract_text()) for page in reader.pages]
    if not any(page.strip() for page in pages):
        return Failure(
            source, f"its {len(pages):,} pages hold no text, perhaps scanned images; run OCR on it first"
        )
    title = storable(str((reader.metadata and reader.metadata.title) or ""))
    return Text(file.id, title_of(title, file.path.name), source, "\n".join(pages), _page_starts(pages))


def _page_starts(pages: Sequence[str]) -> tuple[int, ...]:
    starts = [0]
    for page in pages[:-1]:
        starts.append(starts[-1] + len(page) + 1)
    return tuple(starts)


def storable(text: str) -> str:
    """Extracted text that can be stored: surrogate pairs joined, stray halves replaced, NULs dropped."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "")


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's remarks on a damaged file off a terminal that asked for no log; what matters is raised."""
    logger, nowhere = logging.getLogger(name), logging.NullHandler()
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)
