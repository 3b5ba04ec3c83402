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

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import Options
from benchmarks._report import Claim, Item, Loss, Table, bounds, gained, percent
from benchmarks._sets import (
    build_all,
    build_in,
    each as in_processes,
    interval,
    rows as lines_of,
    there,
    write,
)
from index_store.areas import Homes, levels_read
from index_store.index import Index, open_index
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


def measure(options: Options) -> Iterator[Item]:
    """The table, and where the levels are ahead of every flat way and where not. Raises NotRun without data."""
    names = there(options)
    found = [row for of_one in in_processes(partial(_rows, options), [*names, MIXED]) for row in of_one]
    columns = ("corpus", "named", "of", "tokens", "levels", *FLAT, "titles", "levels less the best flat way")
    note = (
        f"Percent of documents, or topics, of which one of ten own words stands in so many tokens. `{MIXED}`: a piece "
        "of each set, whose topics are the sets. Flat ways: passages by hybrid search for a general question, by "
        "maximal marginal relevance to it, and at random. Titles: of documents at random, no passages. Definitions "
        "stand in `benchmarks/topics.py`."
    )
    yield Table("Documents and topics named", columns, tuple(map(_cells, found)), note)
    yield from _claims(found)


def _rows(options: Options, name: str) -> list[Row]:
    return list(rows(options, name))


def _cells(row: Row) -> tuple[str, ...]:
    shares = (percent(row.shares[way]) for way in ("levels", *FLAT, "titles"))
    told = f"{gained(*row.gained)} over {row.best}"
    return row.corpus, row.kind, f"{row.count:,}", f"{row.tokens:,}", *shares, told


def _claims(found: Sequence[Row]) -> Iterator[Item]:
    """On how many rows of each kind the levels are ahead, with the worst of them."""
    for kind in dict.fromkeys(row.kind for row in found):
        of_kind = [row for row in found if row.kind == kind]
        worst = min(of_kind, key=lambda row: row.gained[0])
        ahead = sum(row.gained[0] > 0 for row in of_kind)
        sure = sum(row.gained[1] > 0 for row in of_kind)
        yield Claim(
            "topics",
            f"{kind} named, the worst: {worst.corpus}, {worst.tokens:,} tokens",
            "ahead of each flat way, on all",
            f"ahead on {ahead} of {len(of_kind)}, by more than noise on {sure}",
            f"{percent(worst.shares[worst.best])} {worst.best}, there {percent(worst.shares['levels'])}",
            gained(*worst.gained),
            ahead == len(of_kind),
        )
    for row in found:
        mean, low, high = row.gained
        shares = {way: percent(share) for way, share in row.shares.items()}
        where = f"{row.kind} of {row.corpus} named in {row.tokens:,} tokens"
        if mean < 0:
            yield Loss(row.best, where, shares[row.best], shares["levels"], bounds(-high, -low))
        if row.shares["titles"] > row.shares["levels"]:
            yield Loss("titles alone", where, shares["titles"], shares["levels"])


def rows(options: Options, name: str) -> Iterator[Row]:
    """The rows of one set, or of MIXED: of its documents, and of its topics where it has several."""
    index = open_index(_mixed(options) if name == MIXED else _set(options, name))
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


def _set(options: Options, name: str) -> Path:
    build_all(replace(options, sets=(name,)))
    return options.work / name


def _mixed(options: Options) -> Path:
    """The index of a piece of each set: its first documents, long ones cut, MIXED_CHARS in all."""
    corpus, folder = options.work / "topics-mixed.jsonl", options.work / "topics-mixed"
    if not (folder / "CURRENT").is_file():
        pieces = (
            (name, row) for name in there(options) for row in _piece(options.data / name / "corpus.jsonl")
        )
        write(corpus, [row | {"_id": f"{name}/{row['_id']}"} for name, row in pieces])
        build_in({corpus: folder})
    return folder


def _piece(corpus: Path) -> Iterator[dict[str, Any]]:
    left = MIXED_CHARS
    for row in lines_of(corpus):
        text = row["text"][: min(MIXED_DOCUMENT_CHARS, left)]
        left -= len(text)
        if not text:
            return
        yield row | {"text": text}
