"""Lines of JSON: each is a document, {"_id": ..., "title": ..., "text": ...}, and its further fields are metadata."""

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from index_store.errors import IndexStoreError
from index_store.terminal import count
from raptor.loading.plain import decode
from raptor.loading.types import MAX_BYTES, Failure, Loaded, SourceFile, Text, meta_of, title_of

_BAD_LINES_BEFORE_THE_FIRST_GOOD = 100


def read_jsonl(file: SourceFile) -> Iterator[Loaded]:
    """One document a line, or why that line is none.

    Where none of the first hundred lines is a document, the file is of another kind: that is one Failure, not many.
    Raises OSError.
    """
    held: list[Loaded] = []
    good = False
    opened = _opened(file)
    if isinstance(opened, Failure):
        yield opened
        return
    with opened as lines:
        # A line is longer by its escapes than the text in it, which is what else a document is measured by.
        for number, line in enumerate(iter(lambda: lines.readline(MAX_BYTES + 1), b""), 1):
            if len(line) > MAX_BYTES:
                held.append(_too_long(file, number))
                break
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
    elif held:
        yield from held


def _too_long(file: SourceFile, number: int) -> Failure:
    return Failure(
        f"{file.path}:{number}",
        f"line {number:,} has more than {MAX_BYTES:,} bytes, and nothing after it was read; split it",
    )


def _opened(file: SourceFile) -> BinaryIO | Failure:
    """Its lines in UTF-8, which JSON is in unless the user named another encoding."""
    if not file.encoding:
        return file.path.open("rb") if file.content is None else io.BytesIO(file.content)
    whole = decode(file)
    return whole if isinstance(whole, Failure) else io.BytesIO(whole.text.encode(errors="surrogatepass"))


def _no_documents(file: SourceFile, held: Sequence[Loaded]) -> Failure:
    first = f", the first because {held[0].reason}" if held and isinstance(held[0], Failure) else ""
    return Failure(
        str(file.path),
        f"none of its first {count(len(held), 'line')} is a document{first}; "
        'write each as {"_id": ..., "title": ..., "text": ...}, or name the file .txt to load it as it stands',
    )


def _json_document(file: SourceFile, number: int, line: bytes) -> Loaded:
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
    title = title_of(row.get("title"), str(row["_id"]))
    try:
        return Text(str(row["_id"]), title, source, row["text"], meta=meta_of(row, f"line {number:,}"))
    except IndexStoreError as error:
        return Failure(source, str(error))


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
