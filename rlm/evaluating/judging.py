"""Citation recall and precision by ALCE (Gao et al. 2023, arXiv 2305.14627, section 4), with a model as the judge.

A statement is a sentence of the answer; its citations are those that its marks `[2]` name, and where no mark of the
answer names any, all of them. A citation's text is the words at its place in the documents; one that is not there has
none.

    recall     of a statement: 1 where it has citations and their texts together entail it, else 0;
               of an answer: the mean over its statements
    precision  of a citation of a statement: 1 where the statement's recall is 1 and the citation is not irrelevant,
               else 0; it is irrelevant where its text alone does not entail the statement and the others' texts
               together do; of an answer: the mean over the citations of all its statements, 0 where there are none

An answer that says that the documents do not hold it, or none at all, has neither figure. The judge is asked once for
each pair of texts and sentence; what it said stands in `judge.jsonl` beside the trace, a line each, and is not asked
again.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from index_store.types import Json
from rlm import prompts
from rlm.answers.demands import is_not_found
from rlm.audit.claims import STANDING, statements
from rlm.errors import RlmError
from rlm.gateway.blocks import Block, quote
from rlm.gateway.gateway import Gateway
from rlm.gateway.offline.judge import CITED, SENTENCE
from rlm.gateway.types import Message, Request, Usage

FILE_NAME = "judge.jsonl"
_SAID = {"model", "options", "cited", "sentence", "entails", "reply", "usage"}
REPLY_TOKENS = 1_000  # of a judge that reasons first
_WORD = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer, with the texts of its citations, '' for one that is not in the documents."""

    words: str
    cited: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alce:
    """The figures of one answer."""

    recall: float
    precision: float


@dataclass(slots=True)
class Judge:
    """A model that is asked whether texts entail sentences; what it says of one run is kept in that run's folder."""

    model: str
    gateway: Gateway
    file: Path
    options: Mapping[str, Json] = field(default_factory=dict)
    _said: dict[tuple[str, str], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        take_out_a_cut_line(self.file)
        self._said = {
            (row["cited"], row["sentence"]): bool(row["entails"])
            for row in judgements(self.file)
            if (row["model"], row["options"]) == (self.model, dict(self.options))
        }

    async def entails(self, cited: Sequence[str], sentence: str) -> bool:
        """Whether these texts together entail the sentence; without any text they do not. Raises GatewayError."""
        text = "\n\n".join(one for one in cited if one)
        if not text:
            return False
        if (text, sentence) not in self._said:
            self._said[text, sentence] = await self._ask(text, sentence)
        return self._said[text, sentence]

    async def _ask(self, text: str, sentence: str) -> bool:
        messages = asked(text, sentence)
        reply = await self.gateway.complete(Request(self.model, messages, REPLY_TOKENS, options=self.options))
        verdict = verdict_of(reply.text)
        row: dict[str, Json] = {
            "model": self.model,
            "options": dict(self.options),
            "cited": text,
            "sentence": sentence,
            "entails": verdict,
            "reply": reply.text,
        }
        row |= {"usage": asdict(reply.usage), "seconds": round(reply.seconds, 3)}
        try:
            with self.file.open("ab") as out:
                out.write(json.dumps(row).encode() + b"\n")
        except OSError as e:
            raise RlmError(f"cannot write {self.file}: {e.strerror or e}; make room, and go on") from e
        return bool(verdict)


def asked(text: str, sentence: str) -> tuple[Message, ...]:
    """The messages to a judge; both texts are data."""
    texts = {CITED: text, SENTENCE: sentence}
    # Half a surrogate pair, which a model may write, cannot be sent.
    blocks = quote([Block(name, one.encode("utf-8", "replace").decode()) for name, one in texts.items()])
    ask = f"{blocks}\n\nDoes the cited text support the sentence? Write YES or NO."
    return {"role": "system", "content": prompts.JUDGE}, {"role": "user", "content": ask}


def verdict_of(reply: str) -> bool | None:
    """What a judge said: its last yes or no; None where it said neither, which counts as no."""
    said = _WORD.findall(reply)
    return said[-1].lower() == "yes" if said else None


def take_out_a_cut_line(file: Path) -> None:
    """Take out what a judge that was killed had begun to write, so that the next line begins one."""
    with suppress(FileNotFoundError), file.open("r+b") as lines:
        lines.truncate(lines.read().rfind(b"\n") + 1)


def judgements(file: Path) -> list[dict[str, Any]]:
    """What a judge has said of a run, each as a line of its file; a last line that was cut is passed over.

    Raises RlmError for a file that holds anything else.
    """
    try:
        *lines, _ = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows = [_row(line) for line in lines if line.strip()]
    if any(not row.keys() >= _SAID for row in rows):
        raise RlmError(
            f"{file} holds a line that no judge wrote; delete the file, and the judge is asked again"
        )
    return rows


def _row(line: bytes) -> dict[str, Any]:
    """What a line holds; {} where it is no object."""
    with suppress(ValueError, RecursionError):
        row = json.loads(line)
        return row if isinstance(row, dict) else {}
    return {}


def statements_of(answered: Mapping[str, Any]) -> list[Statement]:
    """The statements of a recorded answer; [] where it says that the documents do not hold what was asked."""
    content, cited = str(answered["content"]), answered["citations"]
    if is_not_found(content):
        return []
    sentences = [(said.strip(), numbers) for said, numbers in statements(content) if words_in(said)]
    texts = [text_of(one) for one in cited]
    names = any(numbers for _, numbers in sentences)
    return [
        Statement(
            said,
            tuple(texts[n - 1] for n in dict.fromkeys(numbers) if 0 < n <= len(texts))
            if names
            else tuple(texts),
        )
        for said, numbers in sentences
    ]


def words_in(text: str) -> bool:
    """Whether a text holds anything that can be true or not."""
    return any(map(str.isalnum, text))


def text_of(cited: Mapping[str, Any]) -> str:
    """The words at the place of a citation, '' for one that does not stand in the documents."""
    if cited["supported"] not in STANDING:
        return ""
    return str(cited.get("found") or cited["quote"])


async def alce(judge: Judge, said: Sequence[Statement]) -> Alce | None:
    """The figures of an answer with these statements; None for none. Raises GatewayError."""
    if not said:
        return None
    recalls = [await judge.entails(one.cited, one.words) for one in said]
    precise = [
        recall and not await _irrelevant(judge, one, i)
        for one, recall in zip(said, recalls, strict=True)
        for i in range(len(one.cited))
    ]
    return Alce(sum(recalls) / len(recalls), sum(precise) / len(precise) if precise else 0.0)


async def _irrelevant(judge: Judge, statement: Statement, i: int) -> bool:
    others = statement.cited[:i] + statement.cited[i + 1 :]
    if await judge.entails([statement.cited[i]], statement.words):
        return False
    return await judge.entails(others, statement.words)


def spent(file: Path) -> Usage:
    """What a judge has used for a run."""
    return sum((Usage(**row["usage"]) for row in judgements(file)), Usage())
