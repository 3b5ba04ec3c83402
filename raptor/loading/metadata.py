"""What a user says of documents: a .jsonl or .csv of rows, each with a document's id and fields of its own."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raptor.errors import RaptorError
from raptor.loading.types import Failure, meta_of

if TYPE_CHECKING:
    from raptor.types import Part

_IDS = ("_id", "doc")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Fields by document id, and the line of the file that has each."""

    file: str
    fields: Mapping[str, Mapping[str, str]]
    lines: Mapping[str, int]


def read_metadata(file: str) -> Metadata:
    """Raises RaptorError, one sentence, for a file that cannot be read, is of another kind, or has a bad row."""
    suffix = Path(file).suffix.lower()
    if suffix not in (".jsonl", ".csv"):
        raise RaptorError(f"the metadata {file} is neither .jsonl nor .csv; write it as one of them")
    fields, lines = dict[str, Mapping[str, str]](), dict[str, int]()
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as opened:
            for line, row in (_json_rows if suffix == ".jsonl" else _csv_rows)(opened):
                doc, said = _said(line, row)
                if doc in lines:
                    raise ValueError(
                        f"line {line:,} says more of {doc!r}, of which line {lines[doc]:,} speaks"
                    )
                fields[doc], lines[doc] = said, line
    except OSError as e:
        raise RaptorError(f"the metadata {file} cannot be read ({e.strerror or e}); check the path") from e
    except (ValueError, csv.Error, RecursionError) as e:
        raise RaptorError(
            f'the metadata {file} cannot be used: {e}; give each row an "_id" or "doc" and its fields'
        ) from e
    return Metadata(file, fields, lines)


def described(parts: "Sequence[Part]", metadata: Metadata | None) -> "tuple[list[Part], list[Failure]]":
    """Each part with the fields said of its document, over those it has; and a Failure for each unknown id."""
    if metadata is None:
        return list(parts), []
    known = {part.document.id for part in parts}
    unknown = [
        Failure(f"{metadata.file}:{line}", f"there is no document {doc!r}; check the id")
        for doc, line in metadata.lines.items()
        if doc not in known
    ]
    return [_with(part, metadata.fields.get(part.document.id)) for part in parts], unknown


def _with(part: "Part", fields: Mapping[str, str] | None) -> "Part":
    if not fields:
        return part
    return replace(part, document=replace(part.document, meta={**part.document.meta, **fields}))


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as e:
            raise ValueError(f"line {number:,} is not JSON ({e})") from e
        if not isinstance(row, dict):
            raise ValueError(f"line {number:,} is a JSON {type(row).__name__}, not an object")
        yield number, row


def _csv_rows(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(lines, strict=True)
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"line {rows.line_num:,} has more or fewer fields than the first line")
        yield rows.line_num, row


def _said(line: int, row: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The id and the fields of a row."""
    name = next((name for name in _IDS if name in row), None)
    if name is None:
        raise ValueError(f'line {line:,} has neither "_id" nor "doc"')
    if isinstance(row[name], bool) or not isinstance(row[name], str | int):
        raise ValueError(f"line {line:,} has an id of type {type(row[name]).__name__}")
    doc, fields = str(row[name]), meta_of(row, without=(name,))
    try:
        "".join([doc, *fields, *fields.values()]).encode()
    except UnicodeEncodeError:
        raise ValueError(f"line {line:,} holds half a surrogate pair") from None
    return doc, fields
