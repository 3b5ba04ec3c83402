"""Many questions under one budget, several at once; what is answered is written down, and not asked again."""

import asyncio
import contextlib
import fcntl
import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from index_store.index import Index
from rlm.asking.asking import Answer, Manner, answered, gateway_for, ready
from rlm.errors import RlmError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.limits import Limits

Json = Any
#: How a question can have ended for good; one that met a limit or failed is asked again by the next run.
DONE = frozenset({"answer", "unmet"})
_BEGINNING = b'{"_id": '  # of every line that is written here, were it cut


@dataclass(frozen=True, slots=True)
class Question:
    """`scope`: the one document that is meant, if one is."""

    id: str
    text: str
    scope: str | None = None

    @property
    def asked(self) -> str:
        return self.text if self.scope is None else f"In the document {self.scope}: {self.text}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question with its answer, or with why there is none."""

    question: Question
    answer: Answer | None
    error: str | None

    @property
    def done(self) -> bool:
        return self.answer is not None and self.answer.stop in DONE

    def as_json(self) -> dict[str, Json]:
        known = {"_id": self.question.id, "question": self.question.asked}
        return known | (self.answer.as_json() if self.answer else {"stop": "failed", "error": self.error})


async def ask_many(
    index: str | Path | Index,
    questions: Sequence[Question],
    manner: Manner = Manner(),
    at_once: int = 4,
) -> AsyncGenerator[Outcome, None]:
    """Each outcome as it comes. The caps of `manner.limits` on dollars, tokens and calls hold for all together.

    Each question is given an even part of what is then left for those that are not done, so that none starves
    another; what it does not use is there for the rest. Its other limits are its own.
    """
    opened = ready(index, manner.models)
    async with gateway_for(manner.limits) as pool:
        waiting, undone = list(reversed(questions)), len(questions)
        running: set[asyncio.Task[Outcome]] = set()
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    asking = _outcome(opened, waiting.pop(), pool, manner, undone)
                    running.add(asyncio.ensure_future(asking))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                undone -= len(done)
                for task in done:
                    yield task.result()
        finally:
            await _cancelled(running)


async def _cancelled(tasks: set["asyncio.Task[Outcome]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def _outcome(opened: Index, question: Question, pool: Gateway, manner: Manner, undone: int) -> Outcome:
    part = _part(pool.ledger.left(), undone)
    limits = replace(manner.limits, usd=part.usd, tokens=part.tokens, calls=part.calls)
    own = pool.root(Ledger(part, parent=pool.ledger))
    try:
        answer = await answered(opened, question.asked, own, replace(manner, limits=limits))
    except RlmError as e:
        return Outcome(question, None, str(e))
    return Outcome(question, answer, None)


def _part(left: Caps, undone: int) -> Caps:
    """An even part of what is left, and of calls no more than a single question may make."""
    single = Limits().calls or 1
    return Caps(
        None if left.usd is None else left.usd / undone,
        None if left.tokens is None else left.tokens // undone,
        single if left.calls is None else min(single, max(left.calls // undone, 1)),
    )


# -- files -------------------------------------------------------------------------------------------------


def read_questions(path: Path) -> list[Question]:
    """The questions of a file with one JSON object a line: {"_id"?, "text" or "question", "scope"?}.

    A line without an id is known by its number. Raises RlmError, naming the line.
    """
    questions: dict[str, Question] = {}
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    question = _question(line, number, f"{path}, line {number}")
                    if question.id in questions:
                        raise RlmError(f"{path}, line {number}: the id {question.id[:80]!r} stands twice")
                    questions[question.id] = question
    except UnicodeDecodeError as e:
        raise RlmError(f"the questions {path} are not UTF-8 ({e.reason} at byte {e.start})") from e
    except OSError as e:
        raise RlmError(f"cannot read the questions {path}: {e.strerror or e}") from e
    if not questions:
        raise RlmError(f'{path} holds no questions; give one {{"_id", "text"}} a line')
    return list(questions.values())


def _question(line: str, number: int, where: str) -> Question:
    expected = 'expected {"_id": ..., "text": "...", "scope": document id or null}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise RlmError(f"{where} is not JSON ({e}); {expected}") from e
    text = row.get("text", row.get("question")) if isinstance(row, dict) else None
    if not (isinstance(text, str) and text.strip()):
        raise RlmError(f"{where}: {expected}")
    id, scope = row.get("_id", number), row.get("scope")
    if not (isinstance(id, str | int) and (scope is None or isinstance(scope, str))):
        raise RlmError(f"{where}: {expected}")
    return Question(str(id), text, scope)


@dataclass(frozen=True, slots=True)
class Answers:
    """A file of outcomes, one JSON object a line, which a next run goes on with."""

    path: Path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs away from the file. Raises RlmError where one holds it, or it cannot be written."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        with self._locked(lock):
            yield
            lock.unlink(missing_ok=True)

    def _locked(self, lock: Path) -> IO[str]:
        try:
            file = lock.open("a")
        except OSError as e:
            raise RlmError(f"cannot write the answers {self.path}: {e.strerror or e}") from e
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            file.close()
            raise RlmError(f"another run is writing {self.path}; wait for it, or name another file") from e
        return file

    def begin(self, questions: Sequence[Question]) -> list[Question]:
        """The questions that are still to be asked. Lines of those that failed are taken out of the file, and a last
        line that was cut; all others stay, whatever was asked. Raises RlmError for a file that is none of answers."""
        rows = self._rows()
        asked = {(question.id, question.asked) for question in questions}
        kept = [(row, line) for row, line in rows if row["stop"] in DONE or _known(row) not in asked]
        done = {_known(row) for row, _ in kept}
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            partial.write_bytes(b"".join(line for _, line in kept))
            partial.replace(self.path)
        except OSError as e:
            raise RlmError(f"cannot write the answers {self.path}: {e.strerror or e}") from e
        return [question for question in questions if (question.id, question.asked) not in done]

    def add(self, outcome: Outcome) -> None:
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(outcome.as_json()) + "\n")

    def _rows(self) -> list[tuple[dict[str, Json], bytes]]:
        try:
            *lines, last = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as e:
            raise RlmError(f"cannot read the answers {self.path}: {e.strerror or e}") from e
        rows = [(self._row(line, number), line + b"\n") for number, line in enumerate(lines, 1)]
        if last and not (rows and last.startswith(_BEGINNING)):
            rows.append((self._row(last, len(lines) + 1), last + b"\n"))
        return rows

    def _row(self, line: bytes, number: int) -> dict[str, Json]:
        row: Json = None
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
        if not (isinstance(row, dict) and row.keys() >= {"_id", "question", "stop"}):
            raise RlmError(
                f"{self.path}, line {number}, is no answer: {line[:80]!r}; take it out, or name another file"
            )
        return row


def _known(row: Mapping[str, Json]) -> tuple[str, str]:
    return str(row["_id"]), str(row["question"])
