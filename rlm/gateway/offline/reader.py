"""offline/reader: the sentences that best answer a question, word for word, or `NOT FOUND`.

A sentence scores the idf weight of the question's content words in it (stems, each once), more where they stand close
together, and a little for those in the title of its passage and in the sentences beside it. Code and signatures name
what is asked about and seldom answer: they count half. What was chosen leads on: a passage whose title it names gains,
and one that was quoted already loses, so that the quotes together cover a question that needs several passages.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rlm.gateway.blocks import Block, outside, unquote
from rlm.gateway.offline.areas import are_areas, tell
from rlm.gateway.offline.questions import what_quotes_are
from rlm.gateway.offline.rows import are_rows, tell_rows
from rlm.gateway.offline.sentences import is_prose, split, words
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message

MODEL = "offline/reader"
NO_PASSAGE = "NOT FOUND"  # the whole reply where no sentence bears on the question
_QUESTION = re.compile(r"^[ \t]*QUESTION:[ \t]*(.*)$", re.MULTILINE)
_MOST = 4
_NEIGHBOUR = 0.25
_NEARNESS = 0.5
_TITLE = 0.5  # of a word's weight, where it stands in the title and not in the sentence
_WORTH_SHOWING = 0.45  # of the best one's score
_NO_PROSE = 0.5
_AGAIN = 0.8  # of the score of a sentence in a passage that is quoted already
_LEADS = 0.8  # of the weight of a name in the title that a chosen sentence brings
_NAME = re.compile(r"(?<!\w)[^\W\d_a-z]\w+")  # begins with a capital


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the passage number `passage`, which is named `block`."""

    block: str
    passage: int
    text: str
    stems: list[str]


def read(messages: list[Message], max_tokens: int) -> str:
    """Up to four sentences, best first, each as `[block name] "sentence"` on a line of its own, or `NOT FOUND`.

    A sentence is quoted as it stands in its source, where it may run over several lines. The question is the last line
    `QUESTION: ...` outside the data blocks. Without blocks, the rest of the prompt is the text to read. Where quotes
    are no answer to such a question, the reply begins by saying so, and repeats them with their numbers.
    """
    prompt = "\n".join(message["content"] for message in messages)
    instructions = outside(prompt)
    if are_rows(asked := unquote(prompt)):
        return tell_rows(asked[0], instructions)  # the gateway cuts it
    questions = _QUESTION.findall(instructions)
    if not questions:
        return NO_PASSAGE
    blocks = unquote(prompt) or [Block("text", _QUESTION.sub("", instructions))]
    if are_areas(blocks):
        return tell(blocks, max_tokens, instructions)
    quotes = [(chosen.block, chosen.text) for chosen in best(questions[-1], blocks)]
    sources = [f'[{block}] "{text}"' for block, text in quotes]
    if quotes and (no_answer := what_quotes_are(questions[-1])):
        numbered = [f'"{" ".join(text.split())}" [{n}]' for n, (_, text) in enumerate(quotes, 1)]
        return _fitting(["\n".join([no_answer, *numbered, "", *sources])], max_tokens)
    return _fitting(sources, max_tokens)


def asked(instructions: str) -> str:
    """The question of a prompt, given without its data blocks: its last line `QUESTION: ...`; '' where it has none."""
    return "".join(_QUESTION.findall(instructions)[-1:])


def best(question: str, blocks: Sequence[Block], most: int = _MOST) -> list[Sentence]:
    """The sentences to quote, `most` at most, best first."""
    wanted = set(words(question))
    titles = [set(words(block.about)) for block in blocks]
    rows = [
        Sentence(block.name, passage, block.text[start:end], words(block.text[start:end]))
        for passage, block in enumerate(blocks)
        for start, end in split(block.text)
    ]
    held = [titles[row.passage].union(row.stems) for row in rows]
    weights = _idf(wanted, held)
    own = [_score(row.stems, weights) for row in rows]
    scores = [
        (
            own[i]
            + _TITLE * _weight(held[i].difference(row.stems), weights)
            + _NEIGHBOUR * _beside(rows, own, i)
        )
        * (1 if is_prose(row.text) else _NO_PROSE)
        if held[i] & wanted
        else 0.0
        for i, row in enumerate(rows)
    ]
    spread = Counter(stem for stems in held for stem in stems)
    rarity = {stem: math.log1p(len(rows) / n) for stem, n in spread.items()}
    chosen: list[int] = []
    least = _WORTH_SHOWING * max(scores, default=0.0)
    while len(chosen) < most and (found := _next(rows, titles, scores, chosen, wanted, rarity)) is not None:
        at, score = found
        if score < least or score <= 0:
            break
        chosen.append(at)
    return [rows[at] for at in chosen]


def _next(
    rows: Sequence[Sentence],
    titles: Sequence[set[str]],
    scores: Sequence[float],
    chosen: Sequence[int],
    wanted: set[str],
    rarity: dict[str, float],
) -> tuple[int, float] | None:
    """(the place of the sentence that adds most to the chosen ones, its score); None where none says anything new."""
    quoted = {rows[at].passage for at in chosen}
    named = {stem for at in chosen for stem in words(" ".join(_NAME.findall(rows[at].text)))} - wanted
    leads = [
        0.0 if i in quoted else _LEADS * _weight(title & named, rarity) for i, title in enumerate(titles)
    ]
    said = [_plain(rows[at].text) for at in chosen]
    best: tuple[int, float] | None = None
    for i, row in enumerate(rows):
        score = scores[i] * (_AGAIN if row.passage in quoted else 1) + leads[row.passage]
        if (
            (best is None or score > best[1])
            and i not in chosen
            and not any(_plain(row.text) in one for one in said)
        ):
            best = i, score
    return best


def _plain(text: str) -> str:
    return " ".join(text.replace("|", " ").split()).lower()


def _weight(stems: Iterable[str], weights: Mapping[str, float]) -> float:
    """The weights of these stems together, in an order that does not hang on string hashes."""
    return sum(weights[stem] for stem in sorted(stems) if stem in weights)


def _idf(wanted: set[str], rows: Sequence[Collection[str]]) -> dict[str, float]:
    spread = Counter(stem for stems in rows for stem in wanted.intersection(stems))
    return {stem: math.log1p(len(rows) / n) for stem, n in spread.items()}


def _score(stems: Sequence[str], weights: dict[str, float]) -> float:
    hits = [(at, stem) for at, stem in enumerate(stems) if stem in weights]
    distinct = dict.fromkeys(stem for _, stem in hits)  # in order, so that sums do not hang on string hashes
    if not distinct:
        return 0.0
    near = sum(stem != other and b - a <= 3 for (a, stem), (b, other) in pairwise(hits))
    return sum(weights[stem] for stem in distinct) * (1 + _NEARNESS * near / len(weights))


def _beside(rows: Sequence[Sentence], own: Sequence[float], at: int) -> float:
    beside = (i for i in (at - 1, at + 1) if 0 <= i < len(rows) and rows[i].passage == rows[at].passage)
    return max((own[i] for i in beside), default=0.0)


def _fitting(lines: Sequence[str], max_tokens: int) -> str:
    """As many lines as fit; the first always, for the gateway to cut."""
    fitting = list(lines[:1])
    for line in lines[1:]:
        if count_tokens(MODEL, "\n".join([*fitting, line])) > max_tokens:
            break
        fitting.append(line)
    return "\n".join(fitting) or NO_PASSAGE
