"""Quotes from the development texts, altered as models alter them, and how similar each is found to be.

python -m tests.helpers.altered   prints the table by which the threshold of rlm.answers.citations.NEAREST was chosen
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlm.answers.similar import nearest
from rlm.gateway.offline.sentences import split
from tests.helpers.places import data_file

SETS = ("chroma", "qmsum", "covidqa", "contractnli", "fairytaleqa", "filings")
DOCUMENTS, QUOTES = 5, 12  # of a set, of a document
_MISREAD = {"m": "rn", "l": "1", "e": "c", "o": "0", "i": "l", "h": "b", "n": "u"}
_DENIED = re.compile(r"\bnot ")
_SAID = re.compile(r"\b(is|are|was|were|will|shall|may) ")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a document, and the one after the next."""

    set: str
    text: str
    start: int
    end: int
    later: str
    gap: int  # characters between the two

    @property
    def words(self) -> list[str]:
        return self.text[self.start : self.end].split()


Alter = Callable[[Sentence, random.Random], str]


def sentences(rng: random.Random) -> list[Sentence]:
    return [s for name in SETS for text in _texts(name, rng) for s in _chosen(name, text, rng)]


def _texts(name: str, rng: random.Random) -> list[str]:
    with data_file(f"{name}/corpus.jsonl").open(encoding="utf-8", newline="\n") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    return rng.sample(texts, min(DOCUMENTS, len(texts)))


def _chosen(name: str, text: str, rng: random.Random) -> Iterator[Sentence]:
    spans = [(a, b) for a, b in split(text) if len(text[a:b].split()) >= 6]
    pairs = list(zip(spans, spans[2:], strict=False))
    for (a, b), (c, d) in rng.sample(pairs, min(QUOTES, len(pairs))):
        yield Sentence(name, text, a, b, text[c:d], c - b)


def _without(s: Sentence, rng: random.Random) -> str:
    words = s.words
    del words[rng.randrange(1, len(words) - 1)]
    return " ".join(words)


def _changed(s: Sentence, rng: random.Random, times: int = 1) -> str:
    words = s.words
    for _ in range(times):
        words[rng.randrange(1, len(words) - 1)] = "xylophone"
    return " ".join(words)


def _shortened(s: Sentence, rng: random.Random) -> str:
    third = len(s.words) // 3 + 1
    return " ".join([*s.words[:third], "...", *s.words[-third:]])


def _misread(s: Sentence, rng: random.Random) -> str:
    return "".join(_MISREAD[c] if c in _MISREAD and rng.random() < 0.04 else c for c in " ".join(s.words))


def _miscounted(s: Sentence, rng: random.Random) -> str:
    return re.sub(r"\d{1,9}", lambda m: str(int(m[0]) + 7), " ".join(s.words), count=1)


def _denied(s: Sentence, rng: random.Random) -> str:
    text = " ".join(s.words)
    return _DENIED.sub("", text, count=1) if _DENIED.search(text) else _SAID.sub(r"\1 not ", text, count=1)


def _paraphrased(s: Sentence, rng: random.Random) -> str:
    return " ".join(word if rng.random() < 0.5 else "xylophone" for word in s.words)


ALTERATIONS: dict[str, Alter] = {
    "capitals, Markdown": lambda s, rng: "**" + " ".join(s.words).upper() + "**",
    "hyphenated over lines": lambda s, rng: re.sub(r"(\w{4})(\w{4})", r"\1-\n\2", " ".join(s.words), count=2),
    "ellipsis in a sentence": _shortened,
    "ellipsis over a sentence": lambda s, rng: f"{' '.join(s.words)} [...] {s.later}" if s.gap < 800 else "",
    "a word left out": _without,
    "a word changed": _changed,
    "two words changed": lambda s, rng: _changed(s, rng, 2),
    "4% of letters misread": _misread,
    "a number changed": _miscounted,
    "'not' put in or left out": _denied,
    "two sentences joined": lambda s, rng: f"{' '.join(s.words)} {s.later}",
    "every second word changed": _paraphrased,
}


def similarities(kind: str, some: list[Sentence], rng: random.Random) -> list[float]:
    """Of each sentence, altered, in its own document; where it can be altered so."""
    altered = ((s, ALTERATIONS[kind](s, rng)) for s in some)
    return [_found(s.text, quote) for s, quote in altered if quote and quote != " ".join(s.words)]


def unrelated(same_set: bool, some: list[Sentence], rng: random.Random) -> list[float]:
    """Of sentences of other documents that do not stand in this one."""
    pairs = [(s, rng.choice(some)) for s in some]
    wanted = [(s, o) for s, o in pairs if (s.set == o.set) == same_set and s.text is not o.text]
    return [
        _found(s.text, o.text[o.start : o.end]) for s, o in wanted if o.text[o.start : o.end] not in s.text
    ]


def _found(text: str, quote: str) -> float:
    near = nearest(text, quote)
    return near.similarity if near else 0.0


def table() -> Iterator[str]:
    rng = random.Random(7)
    some = sentences(rng)
    measured = {kind: similarities(kind, some, rng) for kind in ALTERATIONS}
    measured["another document, same set"] = unrelated(True, some * 5, rng)
    measured["another set"] = unrelated(False, some, rng)
    yield f"{'':27} {'n':>4}  {'5%':>4} {'50%':>4} {'95%':>4}  >=.70 >=.75 >=.80"
    for kind, found in measured.items():
        ranked = sorted(found)
        parts = " ".join(f"{ranked[int(share * len(ranked))]:4.2f}" for share in (0.05, 0.5, 0.95))
        above = " ".join(f"{sum(f >= least for f in found) / len(found):5.0%}" for least in (0.7, 0.75, 0.8))
        yield f"{kind:27} {len(found):4}  {parts}  {above}"


if __name__ == "__main__":
    print("\n".join(table()))
