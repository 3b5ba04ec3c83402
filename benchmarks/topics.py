"""What is in a corpus, in so many tokens: how many of its known documents and topics the upper levels name, against
passages.

Definitions, fixed before the first measurement. A document has ten *own words*: of the words of at least three letters
that stand in no other document of the corpus, its title among its text, those that it has most often. It is
*represented* in what is read where at least one of them stands there: as nobody else has these words, the text read
goes back to that document, be it a passage, the title in front of it, a sentence in a summary, or a label. A *topic* is
a group of documents (the set that they come from; of code, the file), with ten own words among topics in the same way.
Words are whole and compared in lower case, the same way in whatever is read.

All ways spend the same tokens, with what stands in front of each piece: id and share of an area, title and headings of
a passage; the last piece is cut to what is left. `levels`: what `rlm ask --route overview` reads (`index_store.areas`).
`search`: the hits of hybrid search for a general question. `mmr`: maximal marginal relevance over the chunks' vectors
to that question (Carbonell and Goldstein, SIGIR 1998, lambda 0.5). `random`: passages drawn at random, the mean of 20
seeds. `titles`, beside these: no passages, but titles of documents at random, the mean of 20 seeds.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import Options
from benchmarks.retrieval import FLOORS, built_index, interval
from index_store.areas import Homes, levels_read
from index_store.index import Index
from rlm.gateway.tokens import count_tokens, truncate

TOKENS = (500, 1_000, 2_000, 4_000)
QUESTION = "What is in these documents? What are the main topics?"
OWN_WORDS = 10
SEEDS = 20
RELEVANCE = 0.5  # in maximal marginal relevance; the rest is novelty
MODEL = "offline/reader"  # by whose tokens is counted
FLAT = ("search", "mmr", "random")
MIXED = "mixed"  # a piece of each set; its topics are the sets
MIXED_CHARS, MIXED_DOCUMENT_CHARS = 150_000, 30_000  # of each set, and of each document, in the mixed corpus
_WORD = re.compile(r"[^\W\d_]{3,}")

Found = npt.NDArray[np.float64]
Pieces = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Group:
    """A document, or a topic, by its words and its own words among its kind."""

    name: str
    own: frozenset[str]


@dataclass(frozen=True, slots=True)
class Row:
    """Of `count` documents or topics (`kind`), the shares in percent that are represented in `tokens` tokens, by way.

    `gained`: of `levels` over the best flat way `best`, with the low and high end of its 95 % interval, by a paired
    bootstrap over the documents or topics. `spread`: the least and the most of the 20 seeds of `random`.
    """

    corpus: str
    kind: str
    count: int
    tokens: int
    shares: Mapping[str, float]
    best: str
    gained: tuple[float, float, float]
    spread: tuple[float, float]


def run(options: Options) -> None:
    """Print the table; a sentence where there is no data."""
    names = [*(n for n in options.sets or FLOORS if (options.data / n / "corpus.jsonl").is_file()), MIXED]
    if names == [MIXED]:
        print(f"nothing is measured without the development data, expected in {options.data}\n")
        return
    print("Documents and topics named in so many tokens read, in percent; see benchmarks/topics.py.\n")
    ways = "".join(f"{way:>8}" for way in ("levels", *FLAT, "titles"))
    print(f"{'corpus':12}{'':11}{'of':>6}{'tokens':>8}{ways}  gained over the best flat way [95 % interval]")
    for name in names:
        for row in rows(options, name):
            print(_line(row), flush=True)
    print()


def rows(options: Options, name: str) -> Iterator[Row]:
    """The rows of one set, or of MIXED: of its documents, and of its topics where it has several."""
    corpus = _mixed(options) if name == MIXED else options.data / name / "corpus.jsonl"
    index = built_index(corpus, options.work / f"topics-{name}" if name == MIXED else options.work / name)
    kinds = {"documents": own_words(_documents(index)), "topics": own_words(_topics(index, name))}
    vector = index.embed_queries([QUESTION])[0]
    for tokens in TOKENS:
        read = {way: [words_in(text)] for way, text in _ways(index, vector, tokens).items()}
        for way, make in (("random", passages_at_random), ("titles", titles_at_random)):
            read[way] = [words_in(spent(make(index, seed), tokens)) for seed in range(SEEDS)]
        for kind, groups in kinds.items():
            if len(groups) > 1:
                yield row_of(name, kind, groups, tokens, read)


def row_of(
    corpus: str, kind: str, groups: Sequence[Group], tokens: int, read: Mapping[str, Sequence[frozenset[str]]]
) -> Row:
    """A row. `read`: the words that each way has read, once for each seed."""
    found = {way: np.array([represented(groups, words) for words in each]) for way, each in read.items()}
    each = {way: 100 * values.mean(axis=0) for way, values in found.items()}
    best = max(FLAT, key=lambda way: float(each[way].mean()))
    seeds = 100 * found["random"].mean(axis=1)
    return Row(
        corpus,
        kind,
        len(groups),
        tokens,
        {way: float(values.mean()) for way, values in each.items()},
        best,
        interval(each["levels"] - each[best]),
        (float(seeds.min()), float(seeds.max())),
    )


def _line(row: Row) -> str:
    shares = "".join(f"{row.shares[way]:8.1f}" for way in ("levels", *FLAT, "titles"))
    mean, low, high = row.gained
    gained = f"{mean:+.1f} [{low:+.1f} {high:+.1f}] over {row.best}"
    return f"{row.corpus:12}{row.kind:11}{row.count:6,}{row.tokens:8,}{shares}  {gained}"


# -- what is represented -----------------------------------------------------------------------------------


def words_in(text: str) -> frozenset[str]:
    """The words of at least three letters in a text, in lower case."""
    return frozenset(word.lower() for word in _WORD.findall(text))


def own_words(texts: Mapping[str, str]) -> list[Group]:
    """Each text by its own words; one that has none is left out, as nothing could name it."""
    counts = {name: Counter(word.lower() for word in _WORD.findall(text)) for name, text in texts.items()}
    spread = Counter(word for words in counts.values() for word in words)
    groups = []
    for name, words in counts.items():
        own = sorted((word for word in words if spread[word] == 1), key=lambda word: (-words[word], word))
        if own:
            groups.append(Group(name, frozenset(own[:OWN_WORDS])))
    return groups


def represented(groups: Sequence[Group], words: frozenset[str]) -> Found:
    """1 for each group that has an own word among these, else 0, (groups,)."""
    return np.array([float(not group.own.isdisjoint(words)) for group in groups])


def _documents(index: Index) -> dict[str, str]:
    return {d.id: f"{d.title}\n{index.document_text(d.id)}" for d in index.documents}


def _topics(index: Index, name: str) -> dict[str, str]:
    """The texts of each topic: of the mixed corpus its sets, of code its files; else there is one topic."""
    grouped: dict[str, list[str]] = {}
    for document in index.documents:
        topic = document.id.partition("/")[0] if name == MIXED else ""
        topic = document.title.partition("#")[0] if name == "codebase" else topic
        grouped.setdefault(topic, []).append(f"{document.title}\n{index.document_text(document.id)}")
    return {topic: "\n".join(texts) for topic, texts in grouped.items()}


# -- what is read ------------------------------------------------------------------------------------------


def spent(pieces: Pieces, tokens: int) -> str:
    """The pieces, each with what stands in front of it, as far as the tokens go; the last is cut to what is left."""
    taken, left = [], tokens
    for head, text in pieces:
        piece = f"[{head}]\n{text}" if text else head
        size = _cost(piece)
        taken.append(piece if size <= left else truncate(piece, max(left, 0)))
        left -= size
        if left <= 0:
            break
    return "\n".join(taken)


def _ways(index: Index, vector: Any, tokens: int) -> dict[str, str]:
    """What is read without chance."""
    return {
        "levels": spent(upper_levels(index, tokens), tokens),
        "search": spent(_passages(index, by_search(index, vector)), tokens),
        "mmr": spent(_passages(index, by_marginal_relevance(index, vector)), tokens),
    }


def upper_levels(index: Index, tokens: int) -> Pieces:
    """The areas that the route overview reads, each under its id and share."""
    for area in levels_read(Homes(index), len(index) - 1, tokens, _cost):
        yield f"{index.id_of(area.number)} | {area.share:.0%} of the text", area.text


def by_search(index: Index, vector: Any) -> Iterator[int]:
    """Numbers of the chunks that hybrid search ranks for the general question."""
    hits = index.search(QUESTION, 200, vector=vector)
    return (index.number_of(hit.node) for hit in hits)


def by_marginal_relevance(index: Index, vector: npt.NDArray[np.float32]) -> Iterator[int]:
    """Numbers of chunks, each as near to the question and as far from those before as can be."""
    rows = index.vectors[: index.levels[0]]
    relevance = rows @ vector
    nearest = np.zeros(len(rows), dtype=np.float32)
    for _ in range(min(200, len(rows))):
        best = int(np.argmax(RELEVANCE * relevance - (1 - RELEVANCE) * nearest))
        yield best
        relevance[best] = -np.inf
        nearest = np.maximum(nearest, rows @ rows[best])


def passages_at_random(index: Index, seed: int) -> Pieces:
    """All chunks in an order of chance."""
    return _passages(index, np.random.default_rng(seed).permutation(index.levels[0]).tolist())


def titles_at_random(index: Index, seed: int) -> Pieces:
    """The titles of all documents in an order of chance, in pieces of one title."""
    for number in np.random.default_rng(seed).permutation(len(index.documents)).tolist():
        yield index.documents[number].title, ""


def _passages(index: Index, numbers: Iterable[int]) -> Pieces:
    for number in numbers:
        span = index.span_at(number)
        yield index.place(span) if span else "", index.text_at(number)


@lru_cache(1 << 16)
def _cost(text: str) -> int:
    return count_tokens(MODEL, text)


# -- the mixed corpus --------------------------------------------------------------------------------------


def _mixed(options: Options) -> Path:
    """A piece of each set, as one file: its first documents, long ones cut, MIXED_CHARS in all."""
    folder = options.work / "topics-mixed-source"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "corpus.jsonl"
    with file.open("w", encoding="utf-8", newline="\n") as out:
        for name in (n for n in FLOORS if (options.data / n / "corpus.jsonl").is_file()):
            for row in _piece(options.data / name / "corpus.jsonl"):
                out.write(json.dumps(row | {"_id": f"{name}/{row['_id']}"}) + "\n")
    return file


def _piece(corpus: Path) -> Iterator[dict[str, Any]]:
    left = MIXED_CHARS
    with corpus.open(encoding="utf-8", newline="\n") as lines:
        for row in map(json.loads, lines):
            text = row["text"][: min(MIXED_DOCUMENT_CHARS, left)]
            left -= len(text)
            if not text:
                return
            yield row | {"text": text}
