"""Questions that need every row: made-up corpora as OOLONG has them, their questions, and how answers are scored.

After Bertsch et al. 2025, OOLONG, and the pairs of Zhang et al. 2025, Recursive Language Models. A row is one line with
a date, a user and a text; what the text is about, its label, stands nowhere and must be read. The texts are
questions of six sorts, as in TREC's, put together here from frames, subjects and turns of phrase; or given ones with
known labels.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np

#: How a question is answered; by `KIND_OF` it counts towards one of OOLONG's kinds.
Form = Literal["number", "label", "comparison", "user", "month", "pairs"]
KINDS = ("count", "most frequent", "comparison", "by user", "by month", "pairs")
Answer: TypeAlias = int | str | frozenset[tuple[int, int]]

ROW_TOKENS = 33  # of a made-up row, about
MONTHS = 12
#: Shares of the labels, in an order of chance; the last two are equally frequent.
SHARES = (0.27, 0.21, 0.18, 0.14, 0.10, 0.10)

FRAMES = {
    "abbreviation": (
        "what does {a} stand for",
        "how is {a} spelled out in full",
        "what do the letters {a} mean on a form about the {t}",
        "which words are shortened to {a}",
    ),
    "entity": (
        "which tool is best for mending the {t}",
        "what kind of paint sticks to the {t}",
        "what is the {t} mostly made of",
        "which animal likes to sleep under the {t}",
    ),
    "description": (
        "why does the {t} creak when it is cold",
        "how does one clean the {t} without harming it",
        "what is the difference between the {t} and a newer one",
        "how did the {t} come to be used in {p}",
    ),
    "human being": (
        "who invented the {t}",
        "which painter drew the {t} most often",
        "who repairs the {t} for the people of {p}",
        "what is the name of the woman that brought the {t} to {p}",
    ),
    "location": (
        "where can one see the oldest {t}",
        "which town near {p} is known for its {t}",
        "in what country was the {t} first sold",
        "where in {p} is the museum of the {t}",
    ),
    "numeric value": (
        "how many years does the {t} last",
        "what does the {t} cost in {p}",
        "how far is it from {p} to where the {t} is made",
        "when was the {t} first shown in {p}",
    ),
}
LABELS = tuple(FRAMES)
THINGS = [
    "lantern",
    "ladder",
    "kettle",
    "plough",
    "barrel",
    "compass",
    "loom",
    "bellows",
    "anvil",
    "harp",
    "sledge",
    "mirror",
    "clock",
    "saddle",
    "trunk",
]
LOOKS = ["old", "small", "red", "wooden", "heavy", "painted", "broken", "folding", "iron", "travelling"]
PLACES = [
    "Lisbon",
    "Bergen",
    "Tartu",
    "Graz",
    "Leiden",
    "Cork",
    "Ghent",
    "Turku",
    "Porto",
    "Basel",
    "Riga",
    "Malmo",
]
LETTERS = ["ABS", "CNC", "DIN", "FOB", "GRP", "HVAC", "ISO", "LED", "MDF", "PVC", "RPM", "VAT"]
OPENINGS = (
    "",
    "Please tell me, ",
    "For a quiz: ",
    "My aunt would like to know: ",
    "I wonder, ",
    "Quick one, ",
)
ENDINGS = ("?", ", and is that sure?", " these days?", ", if anyone knows?")


@dataclass(frozen=True, slots=True)
class Seen:
    """A row as far as a question can be answered from it. `label`: as it was read, or the true one."""

    user: int
    month: str
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a corpus, with what it is about."""

    date: str
    user: int
    text: str
    label: str

    @property
    def line(self) -> str:
        """As it stands in the text."""
        return f"Date: {self.date} || User: {self.user} || {self.text}"

    @property
    def month(self) -> str:
        """YYYY-MM."""
        return self.date[:7]

    @property
    def seen(self) -> Seen:
        """The row with its true label."""
        return Seen(self.user, self.month, self.label)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `labels`: those that it names; `user`, `month`: only their rows count, None for all rows; `least`:
    of pairs, the rows that a user must have."""

    kind: str
    form: Form
    labels: tuple[str, ...] = ()
    user: int | None = None
    month: str | None = None
    least: int = 0

    def holds(self, row: "Row | Seen") -> bool:
        """Whether the question is about this row; code can tell, without reading what it says."""
        return self.user in (None, row.user) and self.month in (None, row.month)

    @property
    def counts_suffice(self) -> bool:
        """Whether the number of its rows with each label is all that it needs."""
        return self.form in ("number", "label", "comparison")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows, what they may be about, and the questions."""

    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    questions: tuple[Question, ...]


# -- made ----------------------------------------------------------------------------------------------------


def made_up(tokens: int, seed: int) -> Corpus:
    """A corpus of about so many tokens; the same arguments give the same corpus."""
    random = np.random.default_rng([tokens, seed])
    number = tokens // ROW_TOKENS
    shares = random.permutation(LABELS)
    equal = int(SHARES[-1] * number)
    labels = [label for label, share in zip(shares, SHARES, strict=True) for _ in range(int(share * number))]
    labels = [*labels, *[str(shares[0])] * (number - len(labels))]
    assert labels.count(str(shares[-1])) == labels.count(str(shares[-2])) == equal
    texts = [(str(label), _text(str(label), random)) for label in random.permutation(labels)]
    return of_texts(texts, LABELS, random)


def of_texts(
    texts: Sequence[tuple[str, str]], labels: tuple[str, ...], random: np.random.Generator
) -> Corpus:
    """A corpus of labels with their texts, each with a user and a date of chance."""
    users = 10_000 + random.choice(80_000, max(8, math.isqrt(len(texts))), replace=False)
    days = random.integers(0, MONTHS * 28, len(texts)).tolist()
    whose = random.choice(users, len(texts)).tolist()
    rows = tuple(
        Row(f"2024-{day // 28 + 1:02}-{day % 28 + 1:02}", user, text, label)
        for day, user, (label, text) in zip(days, whose, texts, strict=True)
    )
    return Corpus(labels, rows, tuple(_questions(rows, labels, random)))


def _text(label: str, random: np.random.Generator) -> str:
    def one_of(words: Sequence[str]) -> str:
        return words[int(random.integers(len(words)))]

    thing = f"{one_of(LOOKS)} {one_of(THINGS)}"
    frame = one_of(FRAMES[label]).format(a=one_of(LETTERS), t=thing, p=one_of(PLACES))
    return f"{one_of(OPENINGS)}{frame}{one_of(ENDINGS)}"


def _questions(rows: Sequence[Row], labels: tuple[str, ...], random: np.random.Generator) -> list[Question]:
    counts = Counter(row.label for row in rows)
    ranked = [label for label, _ in counts.most_common()]
    some = [str(label) for label in random.choice(labels, 3)]
    users = random.choice(sorted({row.user for row in rows}), 4).tolist()
    months = random.choice(sorted({row.month for row in rows}), 4).tolist()
    near = [(ranked[i], ranked[i + 1]) for i in range(len(ranked) - 1)]
    mean = {label: counts[label] / len({row.user for row in rows}) for label in labels}

    def at_least(label: str) -> int:
        return math.ceil(mean[label]) + 1

    return [
        *(Question("count", "number", (label,)) for label in labels[:4]),
        Question("most frequent", "label"),
        *(Question("most frequent", "label", user=user) for user in users),
        *(Question("comparison", "comparison", pair) for pair in near),
        *(
            Question("by user", "number", (ranked[i % len(ranked)],), user=user)
            for i, user in enumerate(users)
        ),
        *(Question("by user", "user", (label,)) for label in some[:2]),
        *(Question("by month", "number", (ranked[i % len(ranked)],), month=m) for i, m in enumerate(months)),
        *(Question("by month", "month", (label,)) for label in some[:2]),
        *(Question("pairs", "pairs", (label,), least=at_least(label)) for label in dict.fromkeys(some)),
        *(Question("pairs", "pairs", pair, least=at_least(pair[1])) for pair in near[:2]),
    ]


# -- answered and scored -------------------------------------------------------------------------------------


def answer(question: Question, seen: Sequence[Seen]) -> Answer:
    """The answer from rows as they were seen, those alone that the question is about. Of equals the first in order
    counts; of no rows the answer is "" or 0 or no pairs."""
    counts = Counter(row.label for row in seen)
    match question.form:
        case "number":
            return counts[question.labels[0]]
        case "label":
            return _most(counts)
        case "comparison":
            one, other = (counts[label] for label in question.labels)
            return "same" if one == other else "more common" if one > other else "less common"
        case "user":
            return _most(Counter(str(row.user) for row in seen if row.label in question.labels))
        case "month":
            return _most(Counter(row.month for row in seen if row.label in question.labels))
        case "pairs":
            return _pairs(question, seen)


def _most(counts: Counter[str]) -> str:
    return min(counts, key=lambda name: (-counts[name], name), default="")


def _pairs(question: Question, seen: Sequence[Seen]) -> frozenset[tuple[int, int]]:
    """Pairs of users, the lower first, of whom one has at least so many rows of the first label, the other of the
    last."""
    of = Counter((row.user, row.label) for row in seen)
    users = sorted({row.user for row in seen})
    first, last = question.labels[0], question.labels[-1]
    one, other = ({u for u in users if of[u, label] >= question.least} for label in (first, last))
    either = combinations(sorted(one | other), 2)
    return frozenset((a, b) for a, b in either if (a in one and b in other) or (a in other and b in one))


def score(found: Answer, true: Answer) -> float:
    """From 0 to 1: 0.75 to the power of the difference for numbers, F1 for pairs, else whether they are the same."""
    if isinstance(found, int) and isinstance(true, int):
        return float(0.75 ** abs(found - true))
    if isinstance(found, frozenset) and isinstance(true, frozenset):
        return 2 * len(found & true) / (len(found) + len(true)) if found or true else 1.0
    return float(found == true)
