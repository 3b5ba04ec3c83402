"""Read files of questions: one JSON object a line, {"_id" or "id"?, "text" or "question", "scope"?}."""

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from index_store.arguments import check_fields, checked
from index_store.terminal import brief
from index_store.types import Json, Scope
from rlm.errors import RlmError

EXPECTED = 'expected {"_id": ..., "text": "...", "scope": a document or {"doc", "where", "section"}}'
#: The name of a file that stands for standard input.
STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `id`: as it is in its file. `scope`: the part of the index that it is about, None for that of the
    other options. `line`: the file and line that it was read from, for errors."""

    id: Json
    text: str
    scope: Scope | None = None
    line: str = ""

    def __post_init__(self) -> None:
        check_fields(self, RlmError)


@checked(RlmError)
def read_questions(path: str | Path) -> list[Question]:
    """All questions of a file, or of standard input for "-"; ids become text, and each is there once.

    Raises RlmError, naming the line.
    """
    questions: dict[str, Question] = {}
    for question in questions_in(path):
        if not isinstance(question.id, str | int) or isinstance(question.id, bool):
            raise RlmError(f"{question.line}: {EXPECTED}")
        id = str(question.id)
        if id in questions:
            raise RlmError(f"{question.line}: the id {id[:80]!r} stands twice")
        questions[id] = replace(question, id=id)
    if not questions:
        name = "standard input" if path == STANDARD_INPUT else path
        raise RlmError(f'{name} holds no questions; give one {{"_id", "text"}} a line')
    return list(questions.values())


def questions_in(path: str | Path) -> Iterator[Question]:
    """The questions of a file, one by one as they are read; one without an id has its line's number, as text, as id.

    Blank lines are passed over. The path "-" is standard input. Raises RlmError, naming the line.
    """
    return (question for question, _ in rows_in(path))


def rows_in(path: str | Path) -> Iterator[tuple[Question, dict[str, Json]]]:
    """As `questions_in`, each with all that its line holds."""
    name = "standard input" if path == STANDARD_INPUT else path
    try:
        with standard_input() if path == STANDARD_INPUT else Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = _row(line, f"{name}, line {number}")
                    yield _question(row, number, f"{name}, line {number}"), row
    except OSError as e:
        raise RlmError(f"cannot read the questions {path}: {e.strerror or e}") from e


def standard_input() -> BinaryIO:
    """The bytes of standard input; none where it is closed."""
    if sys.stdin is None:
        return io.BytesIO()
    return io.BytesIO(sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode())


def check_text(text: str, what: str, where: str = "") -> str:
    """The text itself. Raises RlmError where it is not text, is blank, or was read from bytes that are not UTF-8.

    `what`: its name in the error; `where`: put before it.
    """
    if not isinstance(text, str):
        raise RlmError(f"{where}the {what} is text, found {type(text).__name__}")
    if not text.strip():
        raise RlmError(f"{where}the {what} is empty; ask with at least one word")
    if text != text.encode("utf-8", "replace").decode():
        raise RlmError(f"{where}the {what} {text[:80]!a} is not Unicode text; give it in UTF-8")
    return text


def _row(line: bytes, where: str) -> dict[str, Json]:
    try:
        row: Json = json.loads(line.decode())
    except (ValueError, RecursionError) as e:
        what = "UTF-8" if isinstance(e, UnicodeDecodeError) else "JSON"
        raise RlmError(f"{where} is not {what} ({e}); {EXPECTED}") from e
    if not isinstance(row, dict):
        raise RlmError(f"{where}: {EXPECTED}")
    return row


def _question(row: dict[str, Json], number: int, where: str) -> Question:
    text = row.get("text", row.get("question"))
    if not isinstance(text, str):
        raise RlmError(f"{where}: {EXPECTED}")
    id = row.get("_id", row.get("id", str(number)))
    return Question(id, check_text(text, "question", f"{where}: "), _scope(row.get("scope"), where), where)


def _scope(value: Json, where: str) -> Scope | None:
    """A scope as a file has it: a document as --doc names it, or an object with "doc", "where" and "section".

    Raises RlmError.
    """
    if isinstance(value, str | None):
        return None if value is None else Scope(doc=value)
    if not isinstance(value, dict) or not value.keys() <= {"doc", "where", "section"}:
        raise RlmError(
            f'{where}: the scope is {brief(value)}; give a document as --doc takes it, or "doc", "where", "section"'
        )
    doc, fields, section = value.get("doc"), value.get("where") or {}, value.get("section")
    if not (isinstance(doc, str | None) and isinstance(section, str | None) and isinstance(fields, dict)):
        raise RlmError(f'{where}: in a scope "doc" and "section" are texts, "where" an object of texts')
    return Scope(doc, {str(name): str(field) for name, field in fields.items()}, section)
