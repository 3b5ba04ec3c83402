"""Read questions that have given answers and gold: where in the documents the answer stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from index_store.arguments import checked
from index_store.index import Index
from index_store.terminal import brief
from index_store.types import Json, Span
from rlm.asking.many import check_scope
from rlm.asking.questions import Question, rows_in
from rlm.errors import RlmError

GOLD = '"gold" is a list of {"doc", "start", "end"}, characters of the document, or null, null for the whole of it'

NAMES, ALIKE = (
    ("answers", "gold", "scope"),
    0.75,
)  # of a field that is read; how alike one is that is meant for it


@dataclass(frozen=True, slots=True)
class Gold:
    """A place that holds what a question asks for: characters `start:end` of document `doc`; None, None for all."""

    doc: str
    start: int | None = None
    end: int | None = None

    def overlaps(self, doc: str | None, start: int | None, end: int | None) -> bool:
        """Whether it shares a character with the place `start:end` of a document."""
        if doc != self.doc or start is None or end is None:
            return False
        return self.start is None or self.end is None or (start < self.end and self.start < end)

    def as_json(self) -> dict[str, Json]:
        """The place as it is in a file of questions."""
        return {"doc": self.doc, "start": self.start, "end": self.end}


@dataclass(frozen=True, slots=True)
class Case:
    """A question with what its answer is held against. `set`: the file that it is from, without its ending.

    `answers`: each is right; () for none. `gold`: () where it is not known. Its id stands once in all sets.
    """

    question: Question
    answers: tuple[str, ...]
    gold: tuple[Gold, ...]
    set: str

    @property
    def id(self) -> str:
        """The id of its question."""
        return str(self.question.id)


@checked(RlmError)
def read_cases(paths: Sequence[str | Path]) -> list[Case]:
    """The cases of all files, in order. Raises RlmError, naming the line; an id that stands twice is refused."""
    cases: dict[str, Case] = {}
    for path in paths:
        for question, row in rows_in(path):
            if str(question.id) in cases:
                raise RlmError(f"{question.line}: the id {str(question.id)[:80]!r} stands twice")
            _check_names(row, question.line)
            case = Case(question, _answers(row, question.line), _gold(row, question.line), Path(path).stem)
            cases[case.id] = case
    if not cases:
        raise RlmError(
            f'{", ".join(map(str, paths))}: no questions; give one {{"_id", "text", "answers", "gold"}} a line'
        )
    return list(cases.values())


def check_cases(index: Index, cases: Sequence[Case]) -> None:
    """Raise RlmError, naming the line, where a scope holds no text, or gold lies outside the documents of the index."""
    for case in cases:
        check_scope(index, case.question)
        for gold in case.gold:
            if not index.has_document(gold.doc):
                raise RlmError(
                    f"{case.question.line}: the gold names the document {brief(gold.doc)}, which the index "
                    f"does not have; "
                    "raptor inspect INDEX --documents lists those it has"
                )
            chars = index.document(gold.doc).chars
            if gold.end is not None and gold.end > chars:
                raise RlmError(
                    f"{case.question.line}: the gold ends at character {gold.end} of {brief(gold.doc)}, which "
                    f"has {chars}"
                )


def span_of(index: Index, gold: Gold) -> Span:
    """The characters of gold; of a whole document all of them."""
    if gold.start is None or gold.end is None:
        return Span(gold.doc, 0, index.document(gold.doc).chars)
    return Span(gold.doc, gold.start, gold.end)


def _check_names(row: dict[str, Json], where: str) -> None:
    """Raise RlmError where a field is called nearly as one that is read: it would be passed over in silence."""
    for name in row:
        near = [] if name in NAMES else get_close_matches(name[:40], NAMES, 1, ALIKE)
        if near and near[0] not in row:
            raise RlmError(f'{where}: there is no field {brief(name)}; it is called "{near[0]}"')


def _answers(row: dict[str, Json], where: str) -> tuple[str, ...]:
    given = row.get("answers", [])
    given = [given] if isinstance(given, str | int | float) else given
    if not isinstance(given, list) or not all(isinstance(one, str | int | float) for one in given):
        raise RlmError(f'{where}: "answers" is {brief(given)}; give a list of texts, each of them right')
    return tuple(dict.fromkeys(str(one) for one in given if str(one).strip()))


def _gold(row: dict[str, Json], where: str) -> tuple[Gold, ...]:
    given = row.get("gold") or []
    if not isinstance(given, list):
        raise RlmError(f"{where}: {GOLD}")
    return tuple(dict.fromkeys(_place(one, where) for one in given))


def _place(value: Json, where: str) -> Gold:
    if not isinstance(value, dict) or not isinstance(value.get("doc"), str):
        raise RlmError(f"{where}: {GOLD}")
    start, end = value.get("start"), value.get("end")
    if start is None and end is None:
        return Gold(value["doc"])
    if type(start) is not int or type(end) is not int or not 0 <= start < end:
        raise RlmError(f"{where}: the gold is characters {brief(start)} to {brief(end)}; {GOLD}")
    return Gold(value["doc"], start, end)
