"""Draft questions with gold from an index, for a person to correct: by a model, or without one by patterns of
sentences.

A draft is worth no more than its reading: a model may ask what nobody would, and patterns only know what a sentence
looks like. So each says that it is one (`"draft": true`) and who wrote it, and its gold is the place of a quote that
stands there.
"""

import asyncio
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import TypeVar

from index_store.index import Index
from index_store.types import Json
from rlm import prompts
from rlm.answers.citations import find_exactly, find_nearly
from rlm.asking.runs import gateway_for, opened_for
from rlm.audit.fences import fenced_blocks
from rlm.evaluating.cases import Gold
from rlm.gateway.blocks import Block
from rlm.gateway.errors import CallFailed, OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.offline.sentences import is_prose, split
from rlm.gateway.types import Request, Usage
from rlm.limits import Limits, Models

T = TypeVar("T")
BY_PATTERNS = "patterns of sentences"
REPLY_TOKENS = 2_000
#: Passages that are tried for each draft that is wanted, at most, with a model: each is a call.
TRIES = 4
FAILURES = 5  # calls that fail one after another, after which no more are made
LEAST_CHARS = 40  # of a passage
_SENTENCE_CHARS = range(40, 301)
_NOT_A_NAME = frozenset(
    str.split(
        "a an the he she it they we you i this that these those there here his her its their our my your what "
        "which who "
        "when where while after before if in on at by for from with as but and or so then thus however also "
        "all some many "
        "most one both each no not"
    )
)
_DEFINED = re.compile(
    r"(?P<name>[A-Z][\w'’.-]{1,40}(?: (?:(?:of|the|and|de|von|van) )?[A-Z\d][\w'’.-]{0,40}){0,5})"
    r"(?: \([^()]{1,120}\))? (?P<verb>is|was|are|were) (?P<what>(?:an?|the|one of) [^.;]{8,200})"
)
_FACT = re.compile(r"(?<![\w.,])(?:\d[\d,.]*\d|\d)(?![\w%])|(?<=[a-z,] )[A-Z][\w'’-]+(?: [A-Z][\w'’-]+){0,3}")


@dataclass(frozen=True, slots=True)
class Draft:
    """A question with its answer, the gold that holds it, and who wrote it."""

    text: str
    answer: str
    gold: Gold
    by: str

    def as_json(self, number: int) -> dict[str, Json]:
        """The draft as a line of a file of questions."""
        return {
            "_id": f"draft-{number}",
            "text": self.text,
            "answers": [self.answer],
            "scope": None,
            "gold": [self.gold.as_json()],
            "draft": True,
            "by": self.by,
        }


@dataclass(slots=True)
class Drafts:
    """What came of drafting. `dropped`: passages of which none came, by why; `stopped`: why no more are tried, '' where
    nothing stopped it; `spent`: what was used."""

    made: list[Draft] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
    spent: Usage = Usage()  # noqa: RUF009  (frozen)

    def add(self, draft: "Draft | str") -> None:
        """Count a draft, or why there is none; a question that is there already is none."""
        if isinstance(draft, Draft) and draft.text in {one.text for one in self.made}:
            draft = "the question is there already"
        if isinstance(draft, Draft):
            self.made.append(draft)
        else:
            self.dropped[draft] = self.dropped.get(draft, 0) + 1


def passages(index: Index, seed: int) -> Iterator[int]:
    """The numbers of all chunks, each once, so that the first few are spread over the branches below the root, and in a
    branch over its documents; which ones, the seed says."""
    chance, chunks, below_root = (
        random.Random(seed),
        index.levels[0],
        index.neighbours(len(index) - 1, "children"),
    )
    branches = [index.below(child).tolist() for child in below_root if child >= chunks]
    branches.append([child for child in below_root if child < chunks])
    queues = [_by_document(index, [n for n in branch if n < chunks], chance) for branch in branches]
    chance.shuffle(queues)
    return iter(dict.fromkeys(in_turn(queues)))


def _by_document(index: Index, chunks: Sequence[int], chance: random.Random) -> list[int]:
    by_document: dict[int, list[int]] = {}
    for chunk in chunks:
        by_document.setdefault(int(index.leaf_documents[chunk]), []).append(chunk)
    queues = list(by_document.values())
    chance.shuffle(queues)
    for queue in queues:
        chance.shuffle(queue)
    return list(in_turn(queues))


def in_turn(queues: Iterable[Sequence[T]]) -> Iterator[T]:
    """The first of each queue, then the second of each, and so on."""
    missing = object()
    for turn in zip_longest(*queues, fillvalue=missing):
        yield from (one for one in turn if one is not missing)  # type: ignore[misc]


def draft_by_patterns(index: Index, number: int, seed: int = 0) -> Drafts:
    """So many drafts without a model, fewer where the index has no more sentences for them."""
    drafts = Drafts()
    for chunk in passages(index, seed):
        if len(drafts.made) == number:
            break
        drafts.add(_by_patterns(index, chunk))
    return drafts


async def draft_by_model(
    index: Index,
    number: int,
    model: str,
    options: Mapping[str, Json],
    limits: Limits,
    *,
    seed: int = 0,
    at_once: int = 4,
) -> Drafts:
    """So many drafts by a model, fewer where a cap is met, FAILURES calls fail one after another, or of TRIES passages
    for each too few give one. Raises GatewayError where the model is unknown or has no key.
    """
    drafts, failures = Drafts(), 0
    opened_for(index, Models(model))
    waiting = (n for n in passages(index, seed) if index.chars_at(n) >= LEAST_CHARS)
    left = TRIES * number
    async with gateway_for(limits) as gateway:
        while not drafts.stopped and len(drafts.made) < number:
            batch = list(islice(waiting, min(at_once, left, number - len(drafts.made))))
            left -= len(batch)
            if not batch:
                drafts.stopped = (
                    "no passage is left that was not tried" if left else f"{TRIES * number} were tried"
                )
            asked = (_by_model(gateway, index, chunk, model, options) for chunk in batch)
            for came in await asyncio.gather(*asked, return_exceptions=True):
                failures = failures + 1 if isinstance(came, CallFailed) else 0
                if isinstance(came, OverBudget) or failures == FAILURES:
                    drafts.stopped = str(came)
                elif isinstance(came, CallFailed):
                    drafts.add(str(came))
                elif isinstance(came, BaseException):
                    raise came
                else:
                    drafts.add(came)
        drafts.spent = gateway.ledger.spent
    return drafts


async def _by_model(
    gateway: Gateway, index: Index, chunk: int, model: str, options: Mapping[str, Json]
) -> Draft | str:
    span = index.span_at(chunk)
    assert span is not None
    block = Block(index.id_of(chunk), index.text_at(chunk), index.place(span))
    asked = prompts.sub_call("Write one question about the passage, as JSON.", [block])
    request = Request(
        model,
        ({"role": "system", "content": prompts.DRAFT}, {"role": "user", "content": asked}),
        REPLY_TOKENS,
        options=options,
    )
    reply = await gateway.complete(request)
    return read_reply(reply.text, index, chunk, model)


def read_reply(reply: str, index: Index, chunk: int, by: str) -> Draft | str:
    """The draft in a model's reply, or why it holds none: its quote must stand in the passage."""
    row: Json = None
    for text in (reply, *(block.code for block in fenced_blocks(reply))):
        with suppress(ValueError, RecursionError):
            row = json.loads(text)
            break
    fields = [row.get(name) for name in ("question", "answer", "quote")] if isinstance(row, dict) else []
    if not (fields and all(isinstance(one, str) and one.strip() for one in fields)):
        return "the reply is no JSON object with a question, an answer and a quote"
    question, answer, quote = (str(one).strip() for one in fields)
    if not question.endswith("?") or any(
        one != one.encode("utf-8", "replace").decode() for one in (question, answer)
    ):
        return "what was written is no question"
    return _draft(index, chunk, question, answer, quote, by) or "its quote does not stand in the passage"


def _draft(index: Index, chunk: int, question: str, answer: str, quote: str, by: str) -> Draft | None:
    span, text = index.span_at(chunk), index.text_at(chunk)
    at = find_exactly(text, quote) or find_nearly(text, quote)
    if span is None or at is None:
        return None
    return Draft(question, answer, Gold(span.doc, span.start + at[0], span.start + at[1]), by)


# -- by patterns -------------------------------------------------------------------------------------------


def _by_patterns(index: Index, chunk: int) -> Draft | str:
    text = index.text_at(chunk)
    sentences = [text[start:end] for start, end in split(text) if end - start in _SENTENCE_CHARS]
    for pattern in (asks_what, asks_for_the_gap):
        for sentence in sentences:
            if is_prose(sentence) and (found := pattern(" ".join(sentence.split()))):
                return (
                    _draft(index, chunk, *found, sentence, BY_PATTERNS)
                    or "its quote does not stand in the passage"
                )
    return "no sentence of the passage fits a pattern"


def asks_what(sentence: str) -> tuple[str, str] | None:
    """(question, answer) of a sentence that says what something with a name is: `X is a Y` gives `What is X?`, `a
    Y`."""
    match = _DEFINED.match(sentence)
    if match is None or match["name"].split()[0].lower() in _NOT_A_NAME:
        return None
    answer = match["what"].split(", ")[0].strip(" ,")
    return f"What {match['verb']} {match['name']}?", answer


def asks_for_the_gap(sentence: str) -> tuple[str, str] | None:
    """(question, answer) of a sentence with a number or a name in it, the last of which is left out."""
    found = [match for match in _FACT.finditer(sentence) if match[0].lower() not in _NOT_A_NAME]
    if not found:
        return None
    at = found[-1]
    gap = f"{sentence[: at.start()]}___{sentence[at.end() :]}"
    return f'What stands in the gap of "{gap}"?', at[0]
