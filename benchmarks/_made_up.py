"""Made-up corpora that a build takes as it takes a real one, and an embedder for them that costs next to nothing.

The words are those of MiniLM's vocabulary, as frequent as words are, so that a token has the length that tokens have;
each document has words and names of its own, and others that it shares with the documents of its topic. The embedder
adds up a fixed random direction for each word, rare words more than frequent ones: chunks of a topic so lie together.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store import minilm
from index_store.embedder import Embedder, load_embedder

Floats = npt.NDArray[np.float32]

NAME = "made-up"
CHUNKS = 10  # of a document, about
WORDS = 68  # of a chunk of 100 tokens, about
A_TOPIC = 8  # documents
TOPIC_WORDS, OWN_WORDS, TOPIC_NAMES, OWN_NAMES = 24, 10, 12, 3
SENTENCE, PARAGRAPH = 14, 5  # words, sentences
NAMED = 0.4  # of the sentences begin with a name
FREQUENT = (
    0.4  # of the words are any, as frequent as in the language; the rest are of the topic or the document
)


def documents(chunks: int, seed: int = 0) -> Iterator[Mapping[str, str]]:
    """Rows of a .jsonl corpus that is cut into about so many chunks."""
    random = np.random.default_rng(seed)
    count = -(-chunks // CHUNKS)
    topics = max(count // A_TOPIC, 1)
    for number in range(count):
        topic = np.random.default_rng((seed, int(random.integers(topics))))
        own, names = _words(topic, TOPIC_WORDS), _names(topic, TOPIC_NAMES)
        own, names = own + _words(random, OWN_WORDS), names + _names(random, OWN_NAMES)
        text = _text(random, CHUNKS * WORDS, own, names)
        yield {"_id": f"d{number:07}", "title": f"{names[-1]} {number}", "text": text}


def _words(random: np.random.Generator, count: int) -> list[str]:
    return [vocabulary()[i] for i in random.integers(200, len(vocabulary()), count).tolist()]


def _names(random: np.random.Generator, count: int) -> list[str]:
    words = _words(random, 2 * count)
    return [f"{a.title()} {b.title()}" for a, b in zip(words[::2], words[1::2], strict=True)]


def _text(random: np.random.Generator, words: int, own: Sequence[str], names: Sequence[str]) -> str:
    ranks = np.searchsorted(_shares(), random.random(words)).tolist()
    any_word, own_word = random.random(words), random.integers(0, len(own), words).tolist()
    chosen = [
        vocabulary()[rank] if share < FREQUENT else own[place]
        for rank, share, place in zip(ranks, any_word.tolist(), own_word, strict=True)
    ]
    sentences = []
    for start in range(0, words, SENTENCE):
        sentence = " ".join(chosen[start : start + SENTENCE])
        named = random.random() < NAMED
        head = f"{names[int(random.integers(len(names)))]} " if named else ""
        sentences.append(f"{head}{sentence}." if named else f"{sentence.capitalize()}.")
    starts = range(0, len(sentences), PARAGRAPH)
    return "\n\n".join(" ".join(sentences[i : i + PARAGRAPH]) for i in starts) + "\n"


@cache
def vocabulary() -> list[str]:
    """Whole words of MiniLM's vocabulary, the most frequent first."""
    told = json.loads((minilm.folder() / "tokenizer.json").read_text(encoding="utf-8"))
    return [word for word in told["model"]["vocab"] if len(word) > 1 and word.isascii() and word.isalpha()]


@cache
def _shares() -> npt.NDArray[np.float64]:
    """The share of all words that the words up to each of the vocabulary have: Zipf's law, as Mandelbrot mended it."""
    shares = 1 / (np.arange(len(vocabulary())) + 2.7)
    total: npt.NDArray[np.float64] = np.cumsum(shares / shares.sum())
    total[-1] = 1.0
    return total


@cache
def _directions() -> tuple[Mapping[str, int], Floats]:
    """The number of each word, and its direction, as long as it is rare."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((len(vocabulary()) + 1, minilm.DIM), dtype=np.float32)
    rows *= np.log1p(np.arange(len(rows), dtype=np.float32))[:, None]
    return {word: number for number, word in enumerate(vocabulary())}, rows


def encode(texts: Sequence[str]) -> Floats:
    """(n, dim) unit rows."""
    numbers, rows = _directions()
    other = len(rows) - 1
    out = np.empty((len(texts), minilm.DIM), dtype=np.float32)
    for place, text in enumerate(texts):
        words = text.lower().replace(".", " ").split() or [""]
        out[place] = rows[[numbers.get(word, other) for word in words]].sum(axis=0)
    return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), dtype=np.float32)


def load(
    name: str = NAME, *, offline: bool = False, encode: Callable[[Sequence[str]], Floats] = encode
) -> Embedder:
    """Stands in for `index_store.embedder.load_embedder`: MiniLM's tokens, and vectors that are made up."""
    return replace(load_embedder(), name=name, fingerprint=NAME, encode=encode, in_bfloat16=None)


def write(file: Path, chunks: int) -> None:
    """Write a corpus."""
    with file.open("w", encoding="utf-8") as out:
        for row in documents(chunks):
            out.write(json.dumps(row) + "\n")
