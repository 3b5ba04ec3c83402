"""HTML: the text of a page, extracted in one pass, without building a tree.

Nothing is executed or fetched, nesting costs nothing, and every scan either moves on or ends the page, so the time
is linear in its length. (In Python 3.11 the standard library's parser takes half a minute over 60 kB of `<a <a`.)
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from raptor.loading.plain import decode
from raptor.loading.types import Failure, Loaded, Section, SourceFile, Text, own_title, title_of

MAX_BYTES = 64 * 2**20
Event = tuple[str, str]  # ("open" | "close", tag), ("text" | "raw title", characters)
Heading = tuple[int, int, str]  # character offset, level, words

_TAG = re.compile(
    r"<(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?+)*+)>",
)
_RAW = frozenset({"script", "style", "title", "textarea", "iframe", "noscript", "noembed", "noframes", "xmp"})
_RAW_END = {tag: re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE) for tag in _RAW}
_SKIPPED = frozenset({"nav", "svg", "template", "object", "canvas", "math"})
_PARAGRAPHS = frozenset(
    (  # noqa: SIM905
        "address article aside blockquote body details dialog dl fieldset figure footer form h1 h2 h3 h4 h5 h6 "
        "header hr main ol p pre section table ul"
    ).split()
)
_LINES = frozenset(
    "br caption center dd div dt figcaption legend li option summary tbody tfoot thead tr".split()  # noqa: SIM905
)
_CELLS = frozenset({"td", "th"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LONG_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)


def read_html(file: SourceFile) -> Iterator[Loaded]:
    """The page as one document, its headings as sections. Raises OSError."""
    declared = _CHARSET.search(file.raw(MAX_BYTES)[:1024])
    source = decode(file, declared[1].decode() if declared else "")
    yield source if isinstance(source, Failure) else _page_of(source)


def _page_of(source: Text) -> Text:
    text, title, headings = extract(source.text.removeprefix("\ufeff"))
    sections = tuple(Section(*heading) for heading in headings)
    title = title_of(own_title(title), sections[0].heading if sections else "", source.title)
    return replace(source, title=title, text=text, sections=sections)


def extract(source: str) -> tuple[str, str, list[Heading]]:
    """`(text, title, headings)`: block elements on lines of their own, white space folded outside `<pre>`."""
    page = _Page()
    for kind, value in _outside_skipped(_events(source)):
        if kind == "text":
            _write(page, value)
        elif kind == "raw title":
            page.title = page.title or " ".join(value.split())
        else:
            _turn(page, kind, value)
    _end_heading(page)
    return "".join(page.parts), page.title, page.headings


@dataclass(slots=True)
class _Page:
    """The text so far. `gap`: line ends owed before the next word; `heading`: level and first part."""

    parts: list[str] = field(default_factory=list)
    chars: int = 0
    title: str = ""
    headings: list[Heading] = field(default_factory=list)
    heading: tuple[int, int] | None = None
    gap: int = 0
    joint: str = ""
    pre: int = 0


def _events(source: str) -> Iterator[Event]:
    at = 0
    while at < len(source):
        if source[at] != "<":
            end = source.find("<", at)
            end = len(source) if end < 0 else end
            yield "text", _unescape(source[at:end])
            at = end
        elif source.startswith("<!--", at):
            at = _past(source, "-->", at + 4)
        elif source.startswith(("<!", "<?"), at) or re.match(r"</[^a-zA-Z]", source[at : at + 3]):
            at = _past(source, ">", at + 2)
        elif not source[at + 1 : at + 3].lstrip("/")[:1].isalpha():
            yield "text", "<"
            at += 1
        else:
            match = _TAG.match(source, at)
            if match is None:
                return  # a tag that never ends takes the rest of the page with it, as in a browser
            at = match.end()
            yield from _tag_events(match)
            if not match[1] and match[2].lower() in _RAW:
                end, raw = _raw_text(source, at, match[2].lower())
                yield from raw
                at = end


def _tag_events(match: re.Match[str]) -> Iterator[Event]:
    tag = match[2].lower()
    if match[1] or tag not in _RAW:
        yield ("close" if match[1] else "open"), tag
        if not match[1] and match[3].endswith("/") and tag in _SKIPPED:
            yield "close", tag


def _raw_text(source: str, at: int, tag: str) -> tuple[int, list[Event]]:
    match = _RAW_END[tag].search(source, at)
    end = match.start() if match else len(source)
    kind = {"title": "raw title", "textarea": "text", "xmp": "text"}.get(tag)
    return end, [(kind, _unescape(source[at:end]))] if kind else []


def _past(source: str, mark: str, at: int) -> int:
    """The offset after the next `mark`, or the end of the page."""
    start = source.find(mark, at)
    return len(source) if start < 0 else start + len(mark)


def _unescape(text: str) -> str:
    """Character references resolved; a number too long to be one (`int` refuses 4,300 digits) is U+FFFD."""
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text)).replace("\0", "\ufffd")


def _outside_skipped(events: Iterator[Event]) -> Iterator[Event]:
    skipped, depth = "", 0
    for kind, value in events:
        if depth:
            depth += (value == skipped) * {"open": 1, "close": -1}.get(kind, 0)
        elif kind == "open" and value in _SKIPPED:
            skipped, depth = value, 1
        else:
            yield kind, value


def _turn(page: _Page, kind: str, tag: str) -> None:
    if tag in _CELLS:
        page.joint = "\t"
    elif tag in _PARAGRAPHS or tag in _LINES:
        _end_heading(page)
        page.gap = max(page.gap, 2 if tag in _PARAGRAPHS else 1)
    if tag == "pre":
        page.pre = max(0, page.pre + (1 if kind == "open" else -1))
    if kind == "open" and tag in _HEADINGS:
        page.heading = (_HEADINGS[tag], len(page.parts))


def _write(page: _Page, text: str) -> None:
    words = text.strip("\n") if page.pre else " ".join(text.split())
    if not words.strip():
        page.joint = page.joint or (" " if text else "")
        return
    joint = page.joint or (" " if text[0].isspace() and not page.pre else "")
    before = ("\n" * page.gap or joint) if page.parts else ""
    page.parts += [before, words]
    page.chars += len(before) + len(words)
    page.gap, page.joint = 0, " " if text[-1].isspace() and not page.pre else ""


def _end_heading(page: _Page) -> None:
    if page.heading is None:
        return
    level, first = page.heading
    page.heading = None
    words = "".join(page.parts[first:])
    if words.strip():
        start = page.chars - len(words) + len(words) - len(words.lstrip())
        page.headings.append((start, level, " ".join(words.split())))
