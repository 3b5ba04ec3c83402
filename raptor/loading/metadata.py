"""Metadata that a user has of documents: a .jsonl or .csv file, each row with a document's id and further fields."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index_store.arguments import checked
from index_store.errors import IndexStoreError
from raptor.errors import RaptorError
from raptor.loading.types import meta_of

_IDS = ("_id", "doc")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a metadata file holds: `fields` by document id, and `lines`, the line of the file for each id."""

    file: str
    fields: Mapping[str, Mapping[str, str]]
    lines: Mapping[str, int]


@checked(RaptorError)
def read_metadata(file: str | Path) -> Metadata:
    """The metadata in a .jsonl or .csv file, whose rows have an "_id" or "doc" and any further fields.

    Raises RaptorError, in one sentence, for a file that cannot be read, is of another kind, or has a bad row.
    """
    suffix = Path(file).suffix.lower()
    if suffix not in (".jsonl", ".csv"):
        raise RaptorError(f"the metadata {file} is neither .jsonl nor .csv; write it as one of them")
    fields, lines = dict[str, Mapping[str, str]](), dict[str, int]()
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as opened:
            for line, row in (_json_rows if suffix == ".jsonl" else _csv_rows)(opened):
                doc, row_fields = _document_fields(line, row)
                if doc in lines:
                    raise ValueError(
                        f"line {line:,} says more of {doc!r}, of which line {lines[doc]:,} speaks"
                    )
                fields[doc], lines[doc] = row_fields, line
    except IndexStoreError as e:
        raise RaptorError(f"the metadata {file} cannot be used: {e}") from e
    except OSError as e:
        raise RaptorError(f"the metadata {file} cannot be read ({e.strerror or e}); check the path") from e
    except (ValueError, csv.Error, RecursionError) as e:
        raise RaptorError(
            f'the metadata {file} cannot be used: {e}; give each row an "_id" or "doc" and its fields'
        ) from e
    return Metadata(str(file), fields, lines)


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


def _document_fields(line: int, row: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The id in a row, and its other fields. Raises ValueError."""
    name = next((name for name in _IDS if name in row), None)
    if name is None:
        raise ValueError(f'line {line:,} has neither "_id" nor "doc"')
    if isinstance(row[name], bool) or not isinstance(row[name], str | int):
        raise ValueError(f"line {line:,} has an id of type {type(row[name]).__name__}")
    doc, fields = str(row[name]), meta_of(row, f"line {line:,}", without=(name,))
    try:
        "".join([doc, *fields, *fields.values()]).encode()
    except UnicodeEncodeError:
        raise ValueError(f"line {line:,} holds half a surrogate pair") from None
    return doc, fields
