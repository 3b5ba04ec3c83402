"""offline/extractive: a summary made of the most central sentences of its input, word for word.

Centrality is continuous LexRank (Erkan and Radev, "LexRank: Graph-based Lexical Centrality as Salience in
Text Summarization", JAIR 22, 2004, section 3.3) over tf-idf vectors; repetition is held down by maximal
marginal relevance (Carbonell and Goldstein, SIGIR 1998). No model and no chance: equal input, equal output.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from rlm.gateway.blocks import Block, unquote
from rlm.gateway.offline.sentences import STOP_WORDS, split, words
from rlm.gateway.tokens import count_tokens, truncate, word_rank
from rlm.gateway.types import Message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
else:
    Matrix = Any

MODEL = "offline/extractive"
UNTITLED = "untitled"  # the label of blocks without a name and without words
_LABEL_WORDS = 8
_HELD = 0.3  # what a further term for a block is worth, against its first
_SHARE_OF_LABEL = 1 / 3  # of the reply, where its words are of many tokens
_SHARE_OF_INPUT = 1 / 3
_LEAST_TOKENS = 80
_RARE = 30_000  # the rank from which words count as equally rare
_DAMPING = 0.85
_ROUNDS = 15
_RELEVANCE = 0.7
_MAX_WORDS = 2000

_LONG_WORD = re.compile(r"[^\W\d_]{3,30}")
_NODE_ID = re.compile(r"^L\d+-\d+$")
_SPAN = re.compile(r"\s+\d+-\d+$")
_EXTENSION = re.compile(r"\.[a-z0-9]{1,5}$")
_NAME = re.compile(
    r"\b(?:[A-Z][\w’']{1,30}(?:[ -](?:of |the |and |de |von )?[A-Z][\w’']{1,30}){1,3}"  # Several Capitalised Words
    r"|[a-zA-Z]\w{0,30}_\w{1,30}|[A-Z][a-z]{1,30}[A-Z]\w{1,30}|[a-z]{2,30}[A-Z]\w{1,30}"  # some_name, SomeName
    r"|[A-Z]{2,8}\b)"
)


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


def label(blocks: Sequence[Block]) -> str:
    """Up to 8 words: terms that the blocks' names share, then names and words that stand out in their texts.

    A block that holds a chunk is named after its document, one that holds a summary by the summary's label. So the
    label over several summaries reads like a table of contents. "untitled" where there are no words at all.
    """
    terms: list[str] = []
    seen: set[str] = set()
    for term in chain(_named(blocks), _salient(blocks)):
        stems = set(_parts(term))
        if not stems <= seen or not terms:
            terms.append(term)
            seen |= stems
        if sum(len(t.split()) for t in terms) >= _LABEL_WORDS - 1:
            break
    return " ".join(", ".join(terms).split()[:_LABEL_WORDS]).rstrip(",") or UNTITLED


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


def _named(blocks: Sequence[Block]) -> Iterator[str]:
    """Terms of the blocks' names: each next one stands for as many blocks as possible that have none yet.

    Leading terms and rare words come first. A term of one summary's label counts, as it may speak for thousands of
    chunks; a title only where most chunks have it.
    """
    names = [_name_terms(block.name) for block in blocks]
    places = [{term: place for place, term in reversed(list(enumerate(terms)))} for terms in names]
    times = Counter(chain.from_iterable(places))
    waiting = {
        term
        for block, terms in zip(blocks, names, strict=True)
        for term in terms
        if not _SPAN.search(block.name) or 2 * times[term] > len(blocks)
    }
    held = [0] * len(blocks)
    while waiting:
        gains = {
            term: sum(_HELD**n / (1 + at[term]) for n, at in zip(held, places, strict=True) if term in at)
            for term in waiting
        }
        best = min(waiting, key=lambda term: (-gains[term] * _rarity(term) ** 0.5, term))
        waiting.remove(best)
        held = [n + (best in at) for n, at in zip(held, places, strict=True)]
        yield best


def _name_terms(name: str) -> list[str]:
    """The terms of a label, or of a chunk's name the title, without span and file ending; of a node id nothing."""
    title, is_chunk = _SPAN.subn("", name)
    title = re.sub(r"[_/]+", " ", _EXTENSION.sub("", title)) if is_chunk else name
    parts = [title] if is_chunk else title.split(",")[:_LABEL_WORDS]
    terms = [" ".join(part.split()[:4]) for part in parts]
    return [t for t in terms if any(map(str.isalpha, t)) and t != UNTITLED and not _NODE_ID.match(t)]


def _parts(term: str) -> list[str]:
    return words(term.replace("_", " "))


def _salient(blocks: Sequence[Block]) -> list[str]:
    """Names and content words, the most telling first: often here, in many blocks, names before words.

    Capitals at the head of a sentence make no other word: a term counts in all its forms and shows its commonest.
    """
    terms = [_terms(block.text) for block in blocks]
    forms = Counter(chain.from_iterable(terms))
    shown = {form.lower(): form for form, _ in reversed(forms.most_common())}
    times = Counter(form.lower() for form in forms.elements())
    spread = Counter(chain.from_iterable(dict.fromkeys(map(str.lower, forms_of)) for forms_of in terms))
    few = len(times) < 20
    weights = {
        term: n * (1 + spread[term]) * _bonus(shown[term]) * _rarity(term)
        for term, n in times.items()
        if few or n > 1
    }
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return [shown[term] for term, _ in ranked[:40]]


def _terms(text: str) -> list[str]:
    single = [word for word in _LONG_WORD.findall(text) if word.lower() not in STOP_WORDS]
    return _NAME.findall(text) + single


def _bonus(term: str) -> float:
    return 2.0 if " " in term or "_" in term else 1.3 if not term.islower() else 1.0


def _rarity(term: str) -> float:
    """0.2 for the commonest words to 6 for rare ones: of two as frequent here, the rarer elsewhere tells more."""
    return max(math.log10(min(word_rank(word.lower()), _RARE) / 100 + 1) for word in term.split()) ** 2
