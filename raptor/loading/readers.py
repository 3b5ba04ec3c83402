"""Find documents and load them.

The canonical text of a document is its decoded text, not one character changed, so that offsets made elsewhere fit;
for HTML and PDF it is the text that was extracted.
"""

import codecs
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raptor.loading.html import extract
from raptor.loading.kinds import _TYPES, HTML, MARKDOWN, OFFICE, PLAIN
from raptor.loading.types import Failure, Found, Loaded, Section, Text, meta_of, state_of

if TYPE_CHECKING:
    pass


MAX_PAGES = 20_000
_MAX_TITLE_CHARS = 200
_BAD_LINES_BEFORE_THE_FIRST_GOOD = 100
_MAX_HTML_BYTES = 64 * 2**20


def read_file(file: Found) -> list[Loaded]:
    """A file's documents, or why there are none, read in this process; again where it was changed meanwhile."""
    for _ in range(2):
        before = state_of(file.path)
        loaded = list(_read(file))
        if state_of(file.path) == before:
            return loaded
    return [Failure(str(file.path), "it changes while it is read; wait until it is whole, or copy it first")]


def _read(file: Found) -> Iterator[Loaded]:
    reader = _reader(file.path.suffix.lower())
    if reader is None:
        yield Failure(str(file.path), f"its type {file.path.suffix!r} is unknown; known types are {_TYPES}")
        return
    try:
        if not file.path.is_file():
            yield Failure(
                str(file.path),
                "it is not a regular file that can be read; name a file, or fix its permissions",
            )
            return
        yield from reader(file)
    except OSError as error:
        yield Failure(
            str(file.path),
            f"it cannot be read ({error.strerror or error}); check the file and its permissions",
        )


def _reader(suffix: str) -> Callable[[Found], Iterator[Loaded]] | None:
    if suffix in PLAIN:
        return _read_plain
    if suffix in MARKDOWN:
        return _read_markdown
    if suffix in HTML:
        return _read_html
    if suffix in OFFICE:
        return _read_office
    return {".pdf": _read_pdf, ".jsonl": _read_jsonl}.get(suffix)


def _decode(file: Found) -> str | Failure:
    data = file.path.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return Failure(str(file.path), _encoding_fault(data, error))


def _encoding_fault(data: bytes, error: UnicodeDecodeError) -> str:
    for mark, name in (
        (codecs.BOM_UTF32_LE, "UTF-32"),
        (codecs.BOM_UTF16_LE, "UTF-16"),
        (codecs.BOM_UTF16_BE, "UTF-16"),
    ):
        if data.startswith(mark):
            return (
                f"it is {name} by its byte order mark, not UTF-8; convert it with: iconv -f {name} -t UTF-8"
            )
    return (
        f"it is not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start:,}); "
        "convert it to UTF-8, for example with: iconv -f WINDOWS-1252 -t UTF-8"
    )


def _read_plain(file: Found) -> Iterator[Loaded]:
    text = _decode(file)
    yield text if isinstance(text, Failure) else Text(file.id, file.path.name, str(file.path), text)


def _read_markdown(file: Found) -> Iterator[Loaded]:
    text = _decode(file)
    if isinstance(text, Failure):
        yield text
        return
    sections = tuple(markdown_sections(text))
    title = _title(sections[0].heading if sections else "", file.path.name)
    yield Text(file.id, title, str(file.path), text, (), sections)


def _title(*candidates: str | None) -> str:
    """The first that has words, on one line and of a length to show beside every hit."""
    folded = (" ".join((title or "").split()) for title in candidates)
    return next((title[:_MAX_TITLE_CHARS] for title in folded if title), "")


_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t\r]|\Z)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def markdown_sections(text: str) -> Iterator[Section]:
    """The ATX headings (`# one` to `###### six`) of `text`, those inside fenced code left out."""
    at, fence = 0, ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence = mark[1]
        elif (opening := _ATX.match(line)) and (words := _heading_words(line[opening.end() :])):
            yield Section(at, len(opening[1]), words)
        at += len(line) + 1


def _heading_words(rest: str) -> str:
    """What follows the opening `#`s, without closing ones, which must stand apart."""
    words = rest.strip()
    open_end = words.rstrip("#")
    return open_end.strip() if open_end != words and open_end[-1:] in ("", " ", "\t") else words


def _read_html(file: Found) -> Iterator[Loaded]:
    source = _decode_html(file)
    if isinstance(source, Failure):
        yield source
        return
    text, title, headings = extract(source)
    sections = tuple(Section(*heading) for heading in headings)
    title = _title(title, sections[0].heading if sections else "", file.path.name)
    yield Text(file.id, title, str(file.path), text, (), sections)


_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)


def _decode_html(file: Found) -> str | Failure:
    """UTF-8, or else the encoding that the page declares in its first kilobyte."""
    size = file.path.stat().st_size
    if size > _MAX_HTML_BYTES:
        return Failure(str(file.path), f"the page is {size:,} bytes, more than {_MAX_HTML_BYTES:,}; split it")
    source = _decode(file)
    declared = _CHARSET.search(file.path.read_bytes()[:1024])
    if isinstance(source, str) or declared is None:
        return source.removeprefix("\ufeff") if isinstance(source, str) else source
    try:
        return file.path.read_bytes().decode(declared[1].decode())
    except (LookupError, UnicodeError):
        return Failure(
            source.source,
            f"its declared encoding {declared[1].decode()!r} does not fit its bytes; convert it to UTF-8",
        )


def _read_pdf(file: Found) -> Iterator[Loaded]:
    try:
        with _quiet("pypdf"):
            yield _pdf(file)
    # A parser of hostile files fails in ways its own base error does not cover (KeyError, RecursionError, ...).
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {str(error)[:200]}".split())
        yield Failure(
            str(file.path), f"it cannot be read as PDF ({fault}); open it in a viewer and print it anew"
        )


def _pdf(file: Found) -> Loaded:
    from pypdf import PasswordType, PdfReader

    reader = PdfReader(file.path)
    source = str(file.path)
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        return Failure(source, "it is encrypted; decrypt it first, for example with: qpdf --decrypt")
    if len(reader.pages) > MAX_PAGES:
        return Failure(source, f"it has {len(reader.pages):,} pages, more than {MAX_PAGES:,}; split it")
    pages = [_without_faults(page.extract_text()) for page in reader.pages]
    if not any(page.strip() for page in pages):
        return Failure(
            source, f"its {len(pages):,} pages hold no text, perhaps scanned images; run OCR on it first"
        )
    title = _without_faults(str((reader.metadata and reader.metadata.title) or ""))
    return Text(file.id, _title(title, file.path.name), source, "\n".join(pages), _page_starts(pages))


def _read_office(file: Found) -> Iterator[Loaded]:
    from raptor.loading.office import extract_office

    found = extract_office(file.path)
    if isinstance(found, str):
        yield Failure(str(file.path), found)
        return
    text, title, pages = found
    sections = tuple(markdown_sections(text))
    title = _title(title, sections[0].heading if sections else "", file.path.name)
    yield Text(file.id, title, str(file.path), text, pages, sections)


def _page_starts(pages: Sequence[str]) -> tuple[int, ...]:
    starts = [0]
    for page in pages[:-1]:
        starts.append(starts[-1] + len(page) + 1)
    return tuple(starts)


def _without_faults(text: str) -> str:
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


def _read_jsonl(file: Found) -> Iterator[Loaded]:
    """One document a line. Bad lines before the first good one are held back, lest another kind of file flood."""
    held: list[Loaded] = []
    good = False
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            loaded = _json_document(file, number, line)
            good = good or isinstance(loaded, Text)
            held.append(loaded)
            if good:
                yield from held
                held.clear()
            elif len(held) == _BAD_LINES_BEFORE_THE_FIRST_GOOD:
                break
    if not good:
        yield _no_documents(file, held)


def _no_documents(file: Found, held: Sequence[Loaded]) -> Failure:
    first = f", the first because {held[0].reason}" if held and isinstance(held[0], Failure) else ""
    return Failure(
        str(file.path),
        f"none of its first {len(held)} lines is a document{first}; "
        'write each as {"_id": ..., "title": ..., "text": ...}, or name the file .txt to load it as it stands',
    )


def _json_document(file: Found, number: int, line: bytes) -> Loaded:
    source = f"{file.path}:{number}"
    try:
        row: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        return Failure(
            source,
            f"line {number:,} is not UTF-8 (byte {error.start:,} of the line); convert the file to UTF-8",
        )
    except RecursionError:
        return Failure(source, f"line {number:,} is nested too deeply to read; flatten it")
    except ValueError as error:
        return Failure(
            source, f"line {number:,} is not JSON ({str(error)[:120]}); write one JSON object a line"
        )
    fault = _row_fault(row)
    if fault:
        return Failure(source, f"line {number:,} {fault}")
    title = _title(row.get("title"), str(row["_id"]))
    return Text(str(row["_id"]), title, source, row["text"], meta=meta_of(row))


def _row_fault(row: Any) -> str:
    if not isinstance(row, dict):
        return f'is a JSON {type(row).__name__}, not an object with "_id" and "text"; write one object a line'
    missing = [name for name in ("_id", "text") if name not in row]
    if missing:
        return f"has no {' and no '.join(json.dumps(name) for name in missing)}; add what is missing"
    if isinstance(row["_id"], bool) or not isinstance(row["_id"], str | int):
        return f'has an "_id" of type {type(row["_id"]).__name__}; make it a string or a whole number'
    wrong = [
        name for name, kinds in (("text", str), ("title", str | None)) if not isinstance(row.get(name), kinds)
    ]
    return (
        f"has a {json.dumps(wrong[0])} of type {type(row[wrong[0]]).__name__}; make it a string"
        if wrong
        else ""
    )
