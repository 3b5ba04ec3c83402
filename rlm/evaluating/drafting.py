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
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import TypeVar
from unicodedata import category

from index_store.index import Index
from index_store.types import Json
from rlm import prompts
from rlm.answers.citations import find_exactly, find_nearly
from rlm.asking.runs import gateway_for, opened_for
from rlm.audit.fences import fenced_blocks
from rlm.evaluating.cases import Gold
from rlm.evaluating.scoring import normal
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


_WORDS = re.compile(r"\w+")
#: Words that are verbs whatever stands around them, and the ending of most that tell of what was.
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|does|did|can|could|will|would|may|might|must|shall|should|became|began|came|gave|"
    r"went|held|kept|knew|led|left|made|met|ran|said|sat|saw|sold|stood|took|told|won|wrote|says|makes|takes|gives|"
    r"holds|stands|shows|means|[a-z]{3,20}ed)\b"
)
#: What notices and addresses say, and what tells of a document does not.
_NOTICE = re.compile(
    r"copyright|©|\(c\) ?\d{4}|all rights reserved|\blicen[cs]e[ds]?\b.*\b(?:under|version|terms|conditions|copy)\b|"
    r"\b(?:under|terms|conditions|copy)\b.*\blicen[cs]e\b|without warranty|warranties or conditions|https?:|www\.|"
    r"\S@\S|\bspdx\b|project gutenberg|\bebook\b|\bISBN\b",
    re.IGNORECASE | re.DOTALL,
)
#: Begins as a sentence does, and ends as one: what was cut, or is an item of a list, does not.
_WHOLE = re.compile(r"[\"“'‘(]?[^\W_a-z].*[.!?…]{1,3}[\"”'’)]?", re.DOTALL)
_UNSPACED = "\u3040"  # from here on stand the scripts that put no spaces between words


@dataclass(frozen=True, slots=True)
class Draft:
    """A question with its answer, the gold that holds it in each document that says so, and who wrote it."""

    text: str
    answer: str
    gold: tuple[Gold, ...]
    by: str

    def as_json(self, number: int) -> dict[str, Json]:
        """The draft as a line of a file of questions."""
        return {
            "_id": f"draft-{number}",
            "text": self.text,
            "answers": [self.answer],
            "scope": None,
            "gold": [one.as_json() for one in self.gold],
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

    def add(self, draft: "Draft | str") -> bool:
        """Count a draft, or why there is none; a question that is there already is none. Whether it was one."""
        if isinstance(draft, Draft) and draft.text in {one.text for one in self.made}:
            draft = "the question is there already"
        if isinstance(draft, Draft):
            self.made.append(draft)
            return True
        self.dropped[draft] = self.dropped.get(draft, 0) + 1
        return False


def passages(index: Index, seed: int) -> list[list[int]]:
    """The numbers of all chunks, each once, by document, near-duplicates together; in which order, the seed says."""
    chance, by_document = random.Random(seed), dict[int, list[int]]()
    for chunk in range(index.levels[0]):
        document = int(index.leaf_documents[chunk])
        by_document.setdefault(int(index.alike[document]), []).append(chunk)
    queues = list(by_document.values())
    chance.shuffle(queues)
    for queue in queues:
        chance.shuffle(queue)
    return queues


def in_turn(queues: Iterable[Sequence[T]]) -> Iterator[T]:
    """The first of each queue, then the second of each, and so on."""
    missing = object()
    for turn in zip_longest(*queues, fillvalue=missing):
        yield from (one for one in turn if one is not missing)  # type: ignore[misc]


def draft_by_patterns(index: Index, number: int, seed: int = 0) -> Drafts:
    """So many drafts without a model, fewer where the index has no more sentences for them."""
    drafts, waiting = Drafts(), deque(map(iter, passages(index, seed)))
    while waiting and len(drafts.made) < number:
        chunks = waiting.popleft()
        if any(
            drafts.add(_by_patterns(index, chunk)) for chunk in chunks
        ):  # a draft of each document in turn
            waiting.append(chunks)
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
    waiting = (n for n in in_turn(passages(index, seed)) if _is_worth_a_call(index, n))
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


def _is_worth_a_call(index: Index, chunk: int) -> bool:
    return index.chars_at(chunk) >= LEAST_CHARS and is_mostly_letters(index.text_at(chunk))


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
    return _draft(index, chunk, question, answer, quote, by)


def _draft(index: Index, chunk: int, question: str, answer: str, quote: str, by: str) -> Draft | str:
    span, at = index.span_at(chunk), _find(index.text_at(chunk), quote)
    if span is None or at is None:
        return "its quote does not stand in the passage"
    if gives_away(question, answer):
        return "its answer stands in its question"
    own = Gold(span.doc, span.start + at[0], span.start + at[1])
    return Draft(question, answer, (own, *_in_copies(index, span.doc, quote)), by)


def _in_copies(index: Index, doc: str, quote: str) -> Iterator[Gold]:
    """Where the near-duplicates of a document say the same: an answer that cites one of them is as good."""
    for number in index.copies(index.document_number(doc)) if index.has_copies else ():
        copy = index.documents[number].id
        if at := _find(index.document_text(copy), quote):
            yield Gold(copy, *at)


def _find(text: str, quote: str) -> tuple[int, int] | None:
    return find_exactly(text, quote) or find_nearly(text, quote)


def gives_away(question: str, answer: str) -> bool:
    """Whether the words of an answer stand in its question, or it has none."""
    asked, said = normal(question), normal(answer)
    spaced = f" {said} " in f" {asked} "
    return not said or spaced or (said[0] >= _UNSPACED and said in asked)


def is_mostly_letters(text: str) -> bool:
    """Whether at least three quarters of what is no space are letters, as in no table, number or list of codes."""
    signs = "".join(text.split())
    return sum(category(sign)[0] in "LM" for sign in signs) >= 0.75 * len(signs)  # M: vowel signs of Hindi


# -- by patterns -------------------------------------------------------------------------------------------


def _by_patterns(index: Index, chunk: int) -> Draft | str:
    text = index.text_at(chunk)
    sentences = [text[start:end] for start, end in split(text) if end - start in _SENTENCE_CHARS]
    telling = sorted(filter(is_telling, sentences), key=lambda one: not (names_in(one) and _VERB.search(one)))
    why = "no sentence of the passage fits a pattern"
    for pattern in (asks_what, asks_for_the_gap):
        for sentence in telling:
            if found := pattern(" ".join(sentence.split())):
                draft = _draft(index, chunk, *found, sentence, BY_PATTERNS)
                if isinstance(draft, Draft):
                    return draft
                why = draft
    return why


def is_telling(sentence: str) -> bool:
    """Whether a sentence is whole and prose that may tell something: no address, no notice of a licence, no heading."""
    capitals = sum(map(str.isupper, sentence))
    return (
        _WHOLE.fullmatch(sentence) is not None
        and is_prose(sentence)
        and is_mostly_letters(sentence)
        and 2 * capitals <= sum(map(str.isalpha, sentence))
        and not _NOTICE.search(sentence)
        and not _is_address(sentence)
    )


def _is_address(sentence: str) -> bool:
    """Whether nearly all words begin with a capital or a digit, and none is a verb that is known."""
    words = _WORDS.findall(sentence)
    return not _VERB.search(sentence) and 3 * sum(
        word[0].isupper() or word[0].isdigit() for word in words
    ) >= 2 * len(words)


def names_in(sentence: str) -> list[str]:
    """The names that stand in a sentence, without its first word, which has a capital whatever it is."""
    found = (match[0] for match in _FACT.finditer(sentence))
    return [name for name in found if name[0].isalpha() and name.lower() not in _NOT_A_NAME]


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
