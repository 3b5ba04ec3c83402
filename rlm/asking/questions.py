"""Read files of questions: one JSON object a line, {"_id" or "id"?, "text" or "question", "scope"?}."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from index_store.terminal import brief
from index_store.types import Json, Scope
from rlm.asking.runs import check_text
from rlm.errors import RlmError

EXPECTED = 'expected {"_id": ..., "text": "...", "scope": document id or {"doc", "where", "section"}}'


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `id`: as it is in its file. `scope`: the part of the index that it is about, None for that of the
    other options. `line`: the file and line that it was read from, for errors."""

    id: Json
    text: str
    scope: Scope | None = None
    line: str = ""


def read_questions(path: str | Path) -> list[Question]:
    """All questions of a file; ids become text, and each is there once. Raises RlmError, naming the line."""
    questions: dict[str, Question] = {}
    for question in questions_in(path):
        if not isinstance(question.id, str | int) or isinstance(question.id, bool):
            raise RlmError(f"{question.line}: {EXPECTED}")
        id = str(question.id)
        if id in questions:
            raise RlmError(f"{question.line}: the id {id[:80]!r} stands twice")
        questions[id] = replace(question, id=id)
    if not questions:
        raise RlmError(f'{path} holds no questions; give one {{"_id", "text"}} a line')
    return list(questions.values())


def questions_in(path: str | Path) -> Iterator[Question]:
    """The questions of a file, one by one as they are read; one without an id has its line's number, as text, as id.

    Blank lines are passed over. Raises RlmError, naming the line.
    """
    return (question for question, _ in rows_in(path))


def rows_in(path: str | Path) -> Iterator[tuple[Question, dict[str, Json]]]:
    """As `questions_in`, each with all that its line holds."""
    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = _row(line, f"{path}, line {number}")
                    yield _question(row, number, f"{path}, line {number}"), row
    except OSError as e:
        raise RlmError(f"cannot read the questions {path}: {e.strerror or e}") from e


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
    """A scope as a file has it: a document's id, or an object with "doc", "where" and "section". Raises RlmError."""
    if isinstance(value, str | None):
        return None if value is None else Scope(doc=value)
    if not isinstance(value, dict) or not value.keys() <= {"doc", "where", "section"}:
        raise RlmError(
            f'{where}: the scope is {brief(value)}; give a document\'s id, or "doc", "where", "section"'
        )
    doc, fields, section = value.get("doc"), value.get("where") or {}, value.get("section")
    if not (isinstance(doc, str | None) and isinstance(section, str | None) and isinstance(fields, dict)):
        raise RlmError(f'{where}: in a scope "doc" and "section" are texts, "where" an object of texts')
    return Scope(doc, {str(name): str(field) for name, field in fields.items()}, section)
