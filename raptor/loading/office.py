"""Office files (.docx, .pptx, .xlsx): their text as Markdown, through kreuzberg, which comes with an extra."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from raptor.loading.markdown import markdown_sections
from raptor.loading.types import MAX_PACKED_BYTES, Failure, Loaded, SourceFile, Text, own_title, title_of

MISSING = (
    "reading it takes a package that is not installed; install it with: pip install 'raptor-rlm[office]'"
)
_MIME = {
    suffix: f"application/vnd.openxmlformats-officedocument.{kind}"
    for suffix, kind in (
        (".docx", "wordprocessingml.document"),
        (".pptx", "presentationml.presentation"),
        (".xlsx", "spreadsheetml.sheet"),
    )
}


def read_office(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document, its headings as sections, with the place where each page or slide starts."""
    extracted = extract_office(file.raw(MAX_PACKED_BYTES), file.suffix)
    if isinstance(extracted, str):
        yield Failure(str(file.path), extracted)
        return
    text, title, pages = extracted
    sections = tuple(markdown_sections(text))
    title = title_of(own_title(title), sections[0].heading if sections else "", file.path.name)
    yield Text(file.id, title, str(file.path), text, pages, sections)


def extract_office(raw: bytes, suffix: str) -> tuple[str, str, tuple[int, ...]] | str:
    """`(text, title, pages)`: Markdown, and the character offset of each page or slide; or, in words, why not."""
    try:
        from kreuzberg import ExtractionConfig, KreuzbergError, PageConfig, extract_bytes_sync
    except ImportError:
        return MISSING
    # Nothing is fetched and nothing is kept: no OCR models, no cache outside the index.
    config = ExtractionConfig(
        use_cache=False, disable_ocr=True, output_format="markdown", pages=PageConfig(extract_pages=True)
    )
    try:
        result = extract_bytes_sync(raw, _MIME[suffix], config)
    except KreuzbergError as error:
        fault = " ".join(f"{type(error).__name__}: {str(error)[:200]}".split())
        return f"it cannot be read as {suffix} ({fault}); open it in its program and save it anew"
    metadata: Mapping[str, Any] = result.metadata
    boundaries = (metadata.get("pages") or {}).get("boundaries") or ()
    title = (metadata.get("core_properties") or {}).get("title") or metadata.get("title") or ""
    pages = page_starts(result.content, [int(page["byte_start"]) for page in boundaries])
    return result.content.replace("\0", "\ufffd"), str(title), pages


def page_starts(text: str, starts: Sequence[int]) -> tuple[int, ...]:
    """Byte offsets of pages in UTF-8 as character offsets, past the line breaks between pages; () for none."""
    if not starts:
        return ()
    raw, borders = text.encode(), [0, *sorted(starts[1:])]
    places = accumulate(len(raw[a:b].decode(errors="ignore")) for a, b in pairwise(borders))
    return (0, *(at + _breaks(text, at) for at in places))


def _breaks(text: str, at: int) -> int:
    rest = text[at : at + 8]
    return len(rest) - len(rest.lstrip("\n"))
