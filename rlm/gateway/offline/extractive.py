"""offline/extractive: a summary made of the most central sentences of its input, word for word.

Centrality is continuous LexRank (Erkan and Radev, "LexRank: Graph-based Lexical Centrality as Salience in
Text Summarization", JAIR 22, 2004, section 3.3) over tf-idf vectors; repetition is held down by maximal
marginal relevance (Carbonell and Goldstein, SIGIR 1998). No model and no chance: equal input, equal output.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.gateway.blocks import Block, unquote
from rlm.gateway.offline.labels import UNTITLED, label
from rlm.gateway.offline.sentences import split, words
from rlm.gateway.tokens import count_tokens, truncate
from rlm.gateway.types import Message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
else:
    Matrix = Any

MODEL = "offline/extractive"
_SHARE_OF_LABEL = 1 / 3  # of the reply, where its words are of many tokens
_SHARE_OF_INPUT = 1 / 3
_LEAST_TOKENS = 80
_DAMPING = 0.85
_ROUNDS = 15
_RELEVANCE = 0.7
_MAX_WORDS = 2000


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: its text, the number of its block, its number in the block, and the stems of its words."""

    text: str
    block: int
    place: int
    stems: list[str]


def summarise(messages: list[Message], max_tokens: int) -> str:
    """`LABEL: ...` and, on the next line, `SUMMARY: ...` of a prompt's data blocks; of its whole text if it has none.

    The summary takes at most a third of the input, or 80 tokens if that is more, and never more than `max_tokens`.
    """
    prompt = "\n".join(message["content"] for message in messages)
    blocks = unquote(prompt) or [Block("", prompt)]
    sentences = list(_sentences(blocks))
    name = truncate(label(blocks), int(max_tokens * _SHARE_OF_LABEL)).rstrip(" ,") or UNTITLED
    head = f"LABEL: {name}\nSUMMARY: "
    left = max_tokens - count_tokens(MODEL, head) - 1
    wanted = max(_LEAST_TOKENS, int(_SHARE_OF_INPUT * sum(len(s.text) for s in sentences) / 4))
    chosen = choose(sentences, min(left, wanted))
    if not chosen and sentences:  # not even one fits: as much of the first as does
        text = truncate(sentences[0].text, left)
    else:
        text = _joined([sentences[i] for i in sorted(chosen)])
    return head + (text if any(map(str.isalnum, text)) else truncate("(no words)", left))


def choose(sentences: Sequence[Sentence], max_tokens: int) -> list[int]:
    """Indices of the best sentences, best first, that fit in `max_tokens` together; of no sentences, none."""
    import numpy as np

    if not sentences:
        return []
    with np.errstate(invalid="ignore"):  # BLAS kernels read past short rows, and flag what they then drop
        return _choose(sentences, max_tokens)


def _choose(sentences: Sequence[Sentence], max_tokens: int) -> list[int]:
    import numpy as np

    vectors = _vectors(sentences)
    relevance = _centrality(vectors) * _prior(sentences)
    relevance /= relevance.max() or 1.0
    repeated = np.zeros(len(sentences), dtype=np.float32)
    waiting = np.ones(len(sentences), dtype=bool)
    chosen: list[int] = []
    left, misses = max_tokens, 0
    while waiting.any() and left > 0 and misses < 8:
        gain = np.where(waiting, _RELEVANCE * relevance - (1 - _RELEVANCE) * repeated, -np.inf)
        best = int(gain.argmax())
        waiting[best] = False
        cost = count_tokens(MODEL, sentences[best].text) + 1
        if cost > left:
            misses += 1
            continue
        left -= cost
        chosen.append(best)
        repeated = np.maximum(repeated, vectors @ vectors[best])
    return chosen


def _sentences(blocks: Sequence[Block]) -> Iterator[Sentence]:
    for number, block in enumerate(blocks):
        for place, (start, end) in enumerate(split(block.text)):
            text = block.text[start:end]
            yield Sentence(text, number, place, words(text))


def _vectors(sentences: Sequence[Sentence]) -> Matrix:
    """tf-idf rows of length 1, `(sentences, words)` float32, over the words that most sentences share."""
    import numpy as np

    spread = Counter(stem for sentence in sentences for stem in dict.fromkeys(sentence.stems))  # in order
    columns = {stem: i for i, (stem, _) in enumerate(spread.most_common(_MAX_WORDS))}
    cells = [
        row * len(columns) + columns[stem]
        for row, sentence in enumerate(sentences)
        for stem in sentence.stems
        if stem in columns
    ]
    shape = (len(sentences), len(columns))
    counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    within = np.fromiter((spread[stem] for stem in columns), dtype=np.float32, count=len(columns))
    weighted = np.sqrt(counts, dtype=np.float32) * np.log1p(len(sentences) / within)
    lengths = np.linalg.norm(weighted, axis=1, keepdims=True)
    unit: Matrix = np.divide(weighted, lengths, out=weighted, where=lengths > 0)
    return unit


def _centrality(vectors: Matrix) -> Matrix:
    """LexRank scores `(sentences,)`; the n by n similarity matrix is never formed."""
    import numpy as np

    n = len(vectors)
    score = np.full(n, 1 / n, dtype=np.float32)
    degree = np.maximum(vectors @ vectors.sum(axis=0), 1e-6)
    for _ in range(_ROUNDS):
        score = (1 - _DAMPING) / n + _DAMPING * (vectors @ (vectors.T @ (score / degree)))
    return score


def _prior(sentences: Sequence[Sentence]) -> Matrix:
    """Openings weigh a little more; lines of few content words, and what starts in mid-sentence, less."""
    import numpy as np

    return np.asarray([_weight(sentence) for sentence in sentences], dtype=np.float32)


def _weight(sentence: Sentence) -> float:
    opening = 1 + 0.3 / (1 + sentence.place)
    substance = min(1.0, (1 + len(sentence.stems)) / 8)
    whole = 1.0 if sentence.place or sentence.text[0].isupper() else 0.4
    return opening * substance * whole


def _joined(sentences: Sequence[Sentence]) -> str:
    parts = [s.text + (" " if s.text[-1] in ".!?…\"'”’)" else "\n") for s in sentences]
    return "".join(parts).rstrip()
