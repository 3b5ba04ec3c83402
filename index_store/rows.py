"""The rows of a view: what a question about all of a text is asked of, one after another, each an exact span.

A row is told by its bytes in text.bin, 24 bytes a row, so that a million of them are a few arrays; spans, texts and
fields are made when they are asked for. Rows are ascending, disjoint, and never blank.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, get_args, overload

import numpy as np
import numpy.typing as npt

from index_store.errors import BadQuery
from index_store.filters import filtered
from index_store.grep import stretches
from index_store.index import Index
from index_store.search import among, candidates
from index_store.types import Check, Span, unchecked
from index_store.view import View

Split = Literal["document", "section", "chunk", "line", "record"]
SPLITS: tuple[Split, ...] = get_args(Split)

WINDOW_BYTES = 4 << 20  # of text that is looked at together
HEAD_BYTES, HEAD_LINES = 16 << 10, 100  # of a document, which tell what its records are
KINDS = 64  # of documents, in memory
TAKEN_APART = 1 << 20  # bytes of a record that has fields
CHECKED_LINES = 4_096  # between two looks at the clock
JOINED_LINES = 1_000  # of one record of a table
HEADING_CHARS = 100  # of a column's name
MOST_ARE = 0.8  # of the first lines, which are JSON objects, where the records are
SHARE = 0.3  # of the first lines, which begin a record, where the records are turns of a talk

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

#: What a byte says of the row it is in: nothing, that its characters must be looked at, or that it is not blank.
_BLANK, _ASK, _SOLID = 0, 1, 2
_SAYS = np.full(256, _SOLID, dtype=np.uint8)
_SAYS[[*range(9, 14), *range(28, 33), *range(0x80, 0xC0)]] = _BLANK
_SAYS[[0xC2, 0xE1, 0xE2, 0xE3, 0xEF]] = _ASK  # blanks outside of ASCII begin so, and the byte order mark

_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = rb"\d{1,2}:\d\d"
#: A line of a log begins with a time stamp, in brackets or not, or as web servers write it, after the visitor.
_STAMP = re.compile(
    rb"[\[(<]?(?:\d{4}[-/.]\d\d[-/.]\d\d[T ,]{1,2}" + _CLOCK
    + rb"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}[T ,]{1,2}" + _CLOCK
    + rb"|\d{1,2}[-/ ]" + _MONTH + rb"[-/ ]\d{4}[: ]" + _CLOCK
    + rb"|(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?" + _MONTH + rb" {1,2}\d{1,2},? (?:\d{4} )?" + _CLOCK
    + rb"|\d\d:\d\d:\d\d"
    + rb"|[^\s\[]{1,64} [^\s\[]{1,64} [^\s\[]{1,64} \[\d\d/" + _MONTH + rb"/\d{4}:)"
)  # fmt: skip
#: A turn of a talk begins with who speaks: one to five words, the first with a capital, and a colon.
_SPEAKER = re.compile(
    rb"(?:[A-Z]|[\xc3-\xf4])[^\x00-\x20:]{0,40}(?: [^\x00-\x20:]{1,40}){0,4}:(?=[ \t\r\n]|\Z)"
)
_MBOX, _MAIL = re.compile(rb"From "), re.compile(rb"From:")
_HEADER = re.compile(r"^(?:To|Subject|Date|Sent|Cc):", re.MULTILINE)
_NAMES = (
    rb"(?:From|To|Cc|Bcc|Date|Sent|Subject|Re|Sender|Reply-To|Return-Path|Received|Delivered-To|Message-I[Dd]"
    rb"|MIME-Version|X-[A-Za-z-]{1,40}):"
)
#: Two headers, of which the first may go on in indented lines; in a letter, after a blank line.
_HEADERS = re.compile(
    _NAMES + rb"[^\r\n]{0,2000}(?:\r\n|\r|\n)(?:[ \t][^\r\n]{0,2000}(?:\r\n|\r|\n)){0,20}" + _NAMES
)
_LETTER = re.compile(rb"(?:(?<=\n\n)|(?<=\r\n\r\n)|(?<=\r\r))" + _HEADERS.pattern)
_ENDINGS = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t"}


@dataclass(frozen=True, slots=True)
class Row:
    """A span of text that is asked about. `id`: of a chunk that of its node, else `DOC START-END`. `fields`: of a
    record of a table or of JSON lines, its values by name, as text."""

    id: str
    span: Span
    fields: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Sequence[Row]):
    """Rows in the order of the text. A slice is a view of the same arrays.

    `places`: (n, 3) int64, the number of each row's document, its first byte and its end in text.bin. `kind`: what the
    records of the document with a number are. `left_out`: how many records lie only partly in the view, and so are no
    rows of it.
    """

    tree: Index
    split: Split
    places: Numbers
    kind: "Callable[[int], Kind]"
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, key: int) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> "Rows": ...
    def __getitem__(self, key: int | slice) -> "Row | Rows":
        if isinstance(key, slice):
            return replace(self, places=self.places[key])
        document, start, end = self._place(key)
        span = self.tree.span_of_bytes(document, start, end)
        if self.split == "chunk":
            return Row(self.tree.id_of(int(self.chunks(key)[0])), span)
        fields = self._fields(document, start, end) if self.split == "record" else None
        return Row(f"{span.doc} {span.start}-{span.end}", span, fields)

    def text(self, key: int) -> str:
        """The text of a row."""
        _, start, end = self._place(key)
        return self.tree.bytes_text(start, end)

    def chunks(self, key: int) -> Numbers:
        """Numbers of the chunks that a row lies in, ascending."""
        _, start, end = self._place(key)
        first, last = self.tree.chunk_at(np.array([start, end - 1]))
        return np.arange(int(first), int(last) + 1)

    def _place(self, key: int) -> tuple[int, int, int]:
        document, start, end = self.places[key].tolist()
        return document, start, end

    def _fields(self, document: int, start: int, end: int) -> Mapping[str, str] | None:
        if end - start > TAKEN_APART:
            return None
        return fields_of(self.kind(document), self.tree.bytes_text(start, end))


def rows_of(
    view: View,
    split: Split,
    under: str | None = None,
    doc: str | None = None,
    where: Mapping[str, str] | None = None,
    check: Check = unchecked,
) -> Rows:
    """The rows of a view, or of what is in it below the node `under`, of the documents that `doc` names (see
    `Documents.named`), and of those whose metadata has each field of `where` with that value.

    `split`: "document"; "section", from one heading to the next, whatever their levels; "chunk"; "line", without what
    ends it (\\n, \\r\\n or \\r); "record", what repeats: rows of a table, JSON objects in lines, entries of a log from
    one time stamp to the next, mails or turns of a talk, else paragraphs.

    Of a document that is only partly in view, a document, a section and a line are cut to what is, so that together
    they cover all of it. A record is never cut, as half of it would be another: what reaches outside is left out, and
    counted (`Rows.left_out`). What a document's records are, and the header of a table, its beginning tells, in view or
    not, as its headings are told. `check`: may stop it by raising. Raises BadQuery or NoSuchNode.
    """
    parts = list(rows_in_parts(view, split, under, doc, where, check))
    places = np.concatenate([np.empty((0, 3), dtype=np.int64), *(rows.places for rows in parts)])
    kind = lru_cache(KINDS)(partial(kind_in, view.index))
    return Rows(view.index, split, places, kind, sum(rows.left_out for rows in parts))


def rows_in_parts(
    view: View,
    split: Split,
    under: str | None = None,
    doc: str | None = None,
    where: Mapping[str, str] | None = None,
    check: Check = unchecked,
) -> Iterator[Rows]:
    """As `rows_of`, but the rows of one part of the index after those of another, as they are looked for: those of an
    index of shards come shard by shard, and no shard is opened before its rows are asked for."""
    if split not in SPLITS:
        raise BadQuery(f"no split {split!r}; there are {', '.join(SPLITS)}")
    index = view.index
    chunks = _chunks(view, under, doc, where or {})
    kind = lru_cache(KINDS)(partial(kind_in, index))
    if split == "chunk":
        return (_of_chunks(index, part, kind, check) for part in index.in_parts(chunks))
    return (_of_stretches(index, split, seen, kind, check) for seen in stretches(index, chunks))


def _of_chunks(index: Index, chunks: Numbers, kind: "Callable[[int], Kind]", check: Check) -> Rows:
    is_run = len(chunks) and chunks[-1] - chunks[0] + 1 == len(chunks)
    table = index.rows[int(chunks[0]) : int(chunks[-1]) + 1] if is_run else index.rows[chunks]
    starts, ends = table["start"].astype(np.int64), table["end"].astype(np.int64)
    return _rows(index, "chunk", starts, ends, kind, check)


def _of_stretches(
    index: Index, split: Split, seen: Numbers, kind: "Callable[[int], Kind]", check: Check
) -> Rows:
    left_out = 0
    match split:
        case "section":
            starts, ends = _cut(seen, np.array(list(_headings(index, seen, check)), dtype=np.int64))
        case "line":
            starts, ends = _lines(index.text_bytes, seen, check)
        case "record":
            starts, ends, left_out = _records(index, seen, kind, check)
        case _:
            starts, ends = seen[:, 0], seen[:, 1]
    return _rows(index, split, starts, ends, kind, check, left_out)


def _rows(
    index: Index,
    split: Split,
    starts: Numbers,
    ends: Numbers,
    kind: "Callable[[int], Kind]",
    check: Check,
    left_out: int = 0,
) -> Rows:
    """The rows at these bytes that hold more than blanks."""
    solid = _solid(index.text_bytes, starts, ends, check)
    starts, ends = starts[solid], ends[solid]
    return Rows(index, split, np.stack([index.document_at(starts), starts, ends], axis=1), kind, left_out)


def _chunks(view: View, under: str | None, doc: str | None, where: Mapping[str, str]) -> Numbers | None:
    """Numbers of the chunks to look at, ascending; None for all of the index."""
    if view.is_whole and under is None and doc is None and not where:
        return None
    chosen = candidates(view.index, "lexical", 0, view.under if under is None else under, doc)
    chosen = filtered(view.index, chosen, where, None)
    return chosen if view.is_whole else among(chosen, np.asarray(view.chunks, dtype=np.int64))


def _headings(index: Index, seen: Numbers, check: Check) -> Iterator[int]:
    """Where each heading of the documents in view begins."""
    for number in np.unique(index.document_at(seen[:, 0])).tolist():
        check()
        document = index.documents[number]
        for start, _, _ in document.sections:
            if 0 < start < document.chars:
                yield index.byte_of(number, start)


def _cut(seen: Numbers, at: Numbers) -> tuple[Numbers, Numbers]:
    """(starts, ends) of the stretches that are seen, cut at these bytes where these are inside one."""
    at = np.unique(at)
    place = np.searchsorted(seen[:, 0], at, side="right") - 1
    at = at[(place >= 0) & (at < seen[np.maximum(place, 0), 1])] if len(seen) else at[:0]
    return np.sort(np.concatenate([seen[:, 0], at])), np.sort(np.concatenate([at, seen[:, 1]]))


# -- lines -------------------------------------------------------------------------------------------------


def _lines(text: Bytes, seen: Numbers, check: Check) -> tuple[Numbers, Numbers]:
    """(starts, ends) of all lines, the blank ones too, without what ends them."""
    breaks = np.concatenate([np.empty(0, dtype=np.int64), *_breaks(text, seen, check)])
    starts = np.sort(np.concatenate([seen[:, 0], breaks + 1]))
    ends = np.sort(np.concatenate([breaks, seen[:, 1]]))
    carried = np.zeros(len(ends), dtype=np.bool_)  # the \r of \r\n
    inside = np.flatnonzero((ends > starts) & (ends < seen[-1:, 1].sum()))
    carried[inside] = (text[ends[inside]] == 10) & (text[ends[inside] - 1] == 13)
    return starts, ends - carried


def _breaks(text: Bytes, seen: Numbers, check: Check) -> Iterator[Numbers]:
    """Where lines end, a window at a time: at \\n, and at \\r that has no \\n after it."""
    apart = np.flatnonzero(seen[1:, 0] != seen[:-1, 1]) + 1 if len(seen) else np.empty(0, dtype=np.int64)
    for run in np.split(seen, apart) if len(seen) else ():
        low, high = int(run[0, 0]), int(run[-1, 1])
        for start in range(low, high, WINDOW_BYTES):
            check()
            stop = min(start + WINDOW_BYTES, high)
            window = text[start : min(stop + 1, high)]
            followed = np.append(window[1:] == 10, False)
            yield start + np.flatnonzero(((window == 10) | ((window == 13) & ~followed))[: stop - start])


def _solid(text: Bytes, starts: Numbers, ends: Numbers, check: Check) -> Flags:
    """Which rows hold more than blanks. A byte order mark is a blank too."""
    solid = np.zeros(len(starts), dtype=np.bool_)
    filled = np.flatnonzero(ends > starts)
    windows = np.flatnonzero(np.diff(starts[filled] // WINDOW_BYTES)) + 1
    for rows in np.split(filled, windows) if len(filled) else ():
        check()
        low, high = int(starts[rows[0]]), int(ends[rows[-1]])
        edges = np.stack([starts[rows], ends[rows]], axis=1).ravel() - low
        says = np.maximum.reduceat(_SAYS[text[low:high]], edges[:-1])[::2]
        solid[rows] = says == _SOLID
        for row in rows[says == _ASK].tolist():
            words = text[starts[row] : ends[row]].tobytes().decode("utf-8", "replace")
            solid[row] = bool(words.replace("\ufeff", "").strip())
    return solid


# -- records -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """What the records of a document are. `name`: "table", "objects", "log", "mails", "talk" or "paragraphs". Of a
    table `delimiter`, `quoted` (whether quotation marks enclose cells), `columns`, how many, and `names` of them; () of
    one without a header."""

    name: str
    delimiter: str = ""
    quoted: bool = False
    columns: int = 0
    names: tuple[str, ...] = ()
    begins: re.Pattern[bytes] | None = None


PARAGRAPHS = Kind("paragraphs")


def _records(
    index: Index, seen: Numbers, kind_of_document: "Callable[[int], Kind]", check: Check
) -> tuple[Numbers, Numbers, int]:
    """(starts, ends) of the records that lie whole in the stretches that are seen, and how many do so in part."""
    text, borders = index.text_bytes, index.document_borders
    documents = np.unique(index.document_at(seen[:, 0]))
    starts, ends = _lines(text, np.stack([borders[documents], borders[documents + 1]], axis=1), check)
    solid = _solid(text, starts, ends, check)
    # A paragraph begins after a blank line, and with its document.
    begins = solid & np.append(True, ~solid[:-1])[: len(solid)]
    edges = [*np.searchsorted(starts, borders[documents], side="left").tolist(), len(starts)]
    for number, low, high in zip(documents.tolist(), edges[:-1], edges[1:], strict=True):
        check()
        first = low + int(np.argmax(solid[low:high])) if low < high else low
        begins[first:high][:1] = solid[first:high][:1]
        if (kind := kind_of_document(number)) != PARAGRAPHS:
            lines = slice(low, high)
            begins[lines] = _begin(kind, text, starts[lines], ends[lines], solid[lines], check)
            if kind.names:
                past = np.flatnonzero(begins[lines])[1:2]
                solid[low : low + int(past[0]) if len(past) else high] = False
    begins &= solid
    opened = np.flatnonzero(begins)
    if not len(opened):
        return starts[:0], ends[:0], 0
    filled = np.flatnonzero(solid)
    closed = np.append(filled[np.searchsorted(filled, opened[1:]) - 1], filled[-1:])
    starts, ends = starts[opened], ends[closed]
    place = np.searchsorted(seen[:, 0], starts, side="right") - 1
    is_whole = (place >= 0) & (ends <= seen[np.maximum(place, 0), 1])
    next_seen = np.append(seen[:, 0], len(text) + 1)[place + 1]
    touches = (next_seen < ends) | ((place >= 0) & (starts < seen[np.maximum(place, 0), 1]))
    return starts[is_whole], ends[is_whole], int((touches & ~is_whole).sum())


def _begin(kind: Kind, text: Bytes, starts: Numbers, ends: Numbers, solid: Flags, check: Check) -> Flags:
    """Which lines of one document begin a record; its first line that is not blank always does."""
    begins = solid.copy()
    if kind.begins is not None:
        low = int(starts[0])
        raw = text[low : int(ends[-1])].data
        for line in np.flatnonzero(solid)[1:].tolist():
            if not line % CHECKED_LINES:
                check()
            begins[line] = kind.begins.match(raw, int(starts[line]) - low) is not None
    elif kind.quoted:
        for line, past in _joined(kind, text, starts, ends):
            check()
            begins[line + 1 : past] = False
    return begins


def _joined(kind: Kind, text: Bytes, starts: Numbers, ends: Numbers) -> Iterator[tuple[int, int]]:
    """(first line, line past the last) of each record of a table that has line breaks inside quotation marks.

    A line with an odd number of marks opens or closes a cell. Stray marks do so too: lines are only put together where
    they then have as many cells as the table, and would not each be a record of their own.
    """
    low, high = int(starts[0]), int(ends[-1])
    marks, cuts = (np.flatnonzero(text[low:high] == byte) + low for byte in (ord('"'), ord(kind.delimiter)))
    odd = np.flatnonzero(_inside(marks, starts, ends) % 2).tolist()
    is_record = (_inside(cuts, starts, ends) == kind.columns - 1).tolist()
    place = 0
    while place + 1 < len(odd):
        line, last = odd[place], odd[place + 1]
        size = int(ends[last] - starts[line])
        place += 1
        if last - line < JOINED_LINES and size <= TAKEN_APART and not all(is_record[line : last + 1]):
            words = text[int(starts[line]) : int(ends[last])].tobytes().decode("utf-8", "replace")
            if len(_cells(kind, words) or ()) == kind.columns:
                yield line, last + 1
                place += 1


def _inside(places: Numbers, starts: Numbers, ends: Numbers) -> Numbers:
    """How many of these bytes are inside each line."""
    return np.searchsorted(places, ends) - np.searchsorted(places, starts)


def kind_in(index: Index, document: int) -> Kind:
    """What the records of the document with this number are, by its name and its beginning."""
    low, high = index.document_bytes(document)
    head = index.text_bytes[low : min(high, low + HEAD_BYTES)].tobytes()
    return kind_of(index.documents[document].id, head, is_cut=high - low > HEAD_BYTES)


def kind_of(name: str, head: bytes, is_cut: bool = False) -> Kind:
    """What the records of a document are, by its name and its first bytes; of `head` that `is_cut` the last line may be
    half a line."""
    lines = [line for line in re.split(rb"\r\n|\r|\n", head.removeprefix(b"\xef\xbb\xbf")) if line.strip()]
    lines = (lines[:-1] if is_cut and len(lines) > 1 else lines)[:HEAD_LINES]
    if not lines:
        return PARAGRAPHS
    objects = sum(_object(line) is not None for line in lines)
    if objects and (_is_json_lines(name) or objects >= MOST_ARE * len(lines)):
        return Kind("objects")
    if table := _table(name, head.decode("utf-8", "replace").removeprefix("\ufeff"), is_cut):
        return table
    if _STAMP.match(lines[0]) and sum(bool(_STAMP.match(line)) for line in lines) >= min(3, len(lines)):
        return Kind("log", begins=_STAMP)
    for begins in (_MBOX, _MAIL):
        if begins.match(lines[0]) and _HEADER.search(head[:2_000].decode("utf-8", "replace")):
            return Kind("mails", begins=begins)
    if _HEADERS.match(head.removeprefix(b"\xef\xbb\xbf").lstrip()):
        return Kind("mails", begins=_LETTER)
    spoken = [match[0] for line in lines if (match := _SPEAKER.match(line))]
    if (
        _SPEAKER.match(lines[0])
        and len(spoken) >= max(3, SHARE * len(lines))
        and len({*spoken}) < len(spoken)
    ):
        return Kind("talk", begins=_SPEAKER)
    return PARAGRAPHS


def _is_json_lines(name: str) -> bool:
    return name.lower().endswith((".jsonl", ".ndjson"))


def _object(line: bytes) -> dict[str, Any] | None:
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _table(name: str, head: str, is_cut: bool) -> Kind | None:
    """The table that a text is; None of one that is none. By its name, or as all its first rows have as many cells."""
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    is_named = ending in _ENDINGS
    found: list[Kind] = []
    for delimiter in _ENDINGS.get(ending, "\t;,"):
        for quoted in (True, False):
            kind = Kind("table", delimiter, quoted)
            rows = _first_rows(kind, head, is_cut)
            width = len(rows[0]) if rows else 0
            if width > 1 and len(rows) >= (1 if is_named else 3) and all(len(row) == width for row in rows):
                found.append(replace(kind, columns=width, names=_names(rows)))
                break
    if not found and is_named:
        rows = _first_rows(kind := Kind("table", _ENDINGS[ending][0], True), head, is_cut)
        return replace(kind, columns=len(rows[0]), names=_names(rows)) if rows else None
    return max(found, key=lambda kind: kind.columns, default=None)


def _first_rows(kind: Kind, head: str, is_cut: bool) -> list[list[str]]:
    """The first rows of a table that are whole, 20 at most."""
    reader = csv.reader(
        io.StringIO(head, newline=""),
        delimiter=kind.delimiter,
        quoting=csv.QUOTE_MINIMAL if kind.quoted else csv.QUOTE_NONE,
    )
    rows: list[list[str]] = []
    try:
        rows = [row for row in islice(reader, HEAD_LINES) if any(cell.strip() for cell in row)]
    except csv.Error:
        return []
    return (rows[:-1] if is_cut and len(rows) > 1 else rows)[:20]


def _names(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The names of the columns; () where the first row is one as any other: it has a cell that is empty, long, a number
    or twice there, or one that stands below it again."""
    first = [cell.strip() for cell in rows[0]]
    is_header = len({*first}) == len(first) and all(
        0 < len(cell) <= HEADING_CHARS and not _is_number(cell) for cell in first
    )
    below = [{row[i].strip() for row in rows[1:] if i < len(row)} for i in range(len(first))]
    return tuple(first) if is_header and not any(map(set.__contains__, below, first)) else ()


def _is_number(cell: str) -> bool:
    try:
        return float(cell.replace(",", "")) is not None
    except ValueError:
        return False


def fields_of(kind: Kind, text: str) -> dict[str, str] | None:
    """The values of a record by name, as text; columns without a name have their number, from 1. None where the record
    is none of a table or of JSON."""
    if kind.name == "objects":
        found = _object(text.encode())
        return None if found is None else {key: _as_text(value) for key, value in found.items()}
    if kind.name != "table":
        return None
    cells = _cells(kind, text)
    if cells is None or (len(cells) != kind.columns and kind.quoted):
        literal = text.split(kind.delimiter)
        cells = literal if cells is None or len(literal) == kind.columns else cells
    names = [*kind.names, *(str(i + 1) for i in range(len(kind.names), len(cells)))]
    return dict(zip(names, cells, strict=False))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cells(kind: Kind, text: str) -> list[str] | None:
    """The cells of one record; None where its quotation marks do not fit."""
    if not kind.quoted:
        return text.split(kind.delimiter)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=kind.delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
