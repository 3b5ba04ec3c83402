"""offline/reader: the sentences that best answer a question, word for word, or `NOT FOUND`.

A sentence scores the idf weight of the question's content words in it (stems, each once), more where they
stand close together, and a little for those in the sentences beside it. Code and signatures name what is asked
about and seldom answer: they count half.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rlm.gateway.blocks import Block, outside, unquote
from rlm.gateway.offline.areas import are_areas, tell
from rlm.gateway.offline.sentences import is_prose, split, words
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message

MODEL = "offline/reader"
NO_PASSAGE = "NOT FOUND"  # the whole reply where no sentence bears on the question
_QUESTION = re.compile(r"^[ \t]*QUESTION:[ \t]*(.*)$", re.MULTILINE)
_MOST = 3
_NEIGHBOUR = 0.25
_NEARNESS = 0.5
_WORTH_SHOWING = 0.5
_NO_PROSE = 0.5


@dataclass(frozen=True, slots=True)
class _Passage:
    block: str
    text: str
    score: float
    order: int


def read(messages: list[Message], max_tokens: int) -> str:
    """Up to three sentences, best first, each as `[block name] "sentence"` on a line of its own, or `NOT FOUND`.

    A sentence is quoted as it stands in its source, where it may run over several lines. The question is the last line
    `QUESTION: ...` outside the data blocks. Without blocks, the rest of the prompt is the text to read.
    """
    prompt = "\n".join(message["content"] for message in messages)
    instructions = outside(prompt)
    questions = _QUESTION.findall(instructions)
    if not questions:
        return NO_PASSAGE
    blocks = unquote(prompt) or [Block("text", _QUESTION.sub("", instructions))]
    if are_areas(blocks):
        return tell(blocks, max_tokens)
    return _fitting(
        [f'[{passage.block}] "{passage.text}"' for passage in _best(questions[-1], blocks)], max_tokens
    )


def _best(question: str, blocks: Sequence[Block]) -> list[_Passage]:
    wanted = set(words(question))
    rows = [(block.name, text, words(text)) for block in blocks for text in _texts(block)]
    weights = _idf(wanted, [stems for _, _, stems in rows])
    own = [_score(stems, weights) for _, _, stems in rows]
    scores = [
        score and (score + _NEIGHBOUR * _beside(rows, own, i)) * (1 if is_prose(rows[i][1]) else _NO_PROSE)
        for i, score in enumerate(own)
    ]
    passages = [_Passage(name, text, scores[i], i) for i, (name, text, _) in enumerate(rows) if scores[i] > 0]
    return _distinct(sorted(passages, key=lambda passage: (-passage.score, passage.order)))


def _distinct(ranked: Sequence[_Passage]) -> list[_Passage]:
    """The best few, without those whose words all stand in a better one."""
    chosen: dict[str, _Passage] = {}
    for passage in ranked:
        if len(chosen) == _MOST or passage.score < _WORTH_SHOWING * ranked[0].score:
            break
        folded = " ".join(passage.text.replace("|", " ").split()).lower()
        if not any(folded in better for better in chosen):
            chosen[folded] = passage
    return list(chosen.values())


def _texts(block: Block) -> list[str]:
    return [block.text[start:end] for start, end in split(block.text)]


def _idf(wanted: set[str], rows: Sequence[Sequence[str]]) -> dict[str, float]:
    spread = Counter(stem for stems in rows for stem in wanted.intersection(stems))
    return {stem: math.log1p(len(rows) / n) for stem, n in spread.items()}


def _score(stems: Sequence[str], weights: dict[str, float]) -> float:
    hits = [(at, stem) for at, stem in enumerate(stems) if stem in weights]
    distinct = dict.fromkeys(stem for _, stem in hits)  # in order, so that sums do not hang on string hashes
    if not distinct:
        return 0.0
    near = sum(stem != other and b - a <= 3 for (a, stem), (b, other) in pairwise(hits))
    return sum(weights[stem] for stem in distinct) * (1 + _NEARNESS * near / len(weights))


def _beside(rows: Sequence[tuple[str, str, list[str]]], own: Sequence[float], at: int) -> float:
    beside = (i for i in (at - 1, at + 1) if 0 <= i < len(rows) and rows[i][0] == rows[at][0])
    return max((own[i] for i in beside), default=0.0)


def _fitting(lines: Sequence[str], max_tokens: int) -> str:
    """As many lines as fit; the first always, for the gateway to cut."""
    fitting = list(lines[:1])
    for line in lines[1:]:
        if count_tokens(MODEL, "\n".join([*fitting, line])) > max_tokens:
            break
        fitting.append(line)
    return "\n".join(fitting) or NO_PASSAGE
