"""Questions that need every row, by a simulated model: one flat call, code as models write it, and the map's verbs.

The model, its error and its price are those of `_simulated`, for all alike; the corpora, questions and scores those of
`_oolong`. What is measured is the plumbing: what packs, parsing and asking again make of the same model. It says
nothing of what a real model answers. The root model, which all but the flat call have, is not counted.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import Options, _sets, _simulated
from benchmarks._oolong import KINDS, Answer, Corpus, Question, Row, Seen, answer, made_up, of_texts, score
from benchmarks._report import Claim, Item, Loss, Table, bounds, gained, percent
from benchmarks._sets import interval
from benchmarks._simulated import (
    CHEAP,
    CURVE,
    EVEN,
    NEVER,
    PROSE,
    STEEP,
    STRONG,
    USD,
    WINDOW,
    Asked,
    Child,
    Curve,
    Faults,
    Spent,
    folded,
)
from rlm.gateway.tokens import count_tokens, truncate
from rlm.mapping.mapping import map_rows, plan, prepare
from rlm.mapping.packing import full_packs
from rlm.mapping.planning import sizes
from rlm.mapping.types import Field, Forgetful, Mapped, Reader, Task

#: Corpora of each length: the more of them the shorter they are, as each has about 30 questions.
CORPORA: Mapping[int, int] = {10_000: 6, 100_000: 2, 1_000_000: 3}
SMS = "sms_spam.tsv"
SMS_LABELS = ("ham", "spam")
CHUNKS = (10_000, 30_000, 100_000)  # characters that code cuts at a time
PACKS = (750, 1_500, 3_000, 6_000, 24_000)
DEARER, CALLS, SENT_ROWS, SENT_CHUNKS = 1.1, 1.05, 1.15, 1.05
CHUNK_CHARS = 450
PLUMBING = "The plumbing alone, by a model that reads right"
TOLD = (
    "10 in 100 calls fail, 10 in 100 replies are cut, and 5 in 100 rows each are left out, doubled, or named by a "
    "number that there is not"
)
FAULTS = Faults(failed=0.1, cut=0.1, dropped=0.05, doubled=0.05, foreign=0.05)

ASKED = "What is the text of the row about?"
COUNTS = (
    "Below are rows of a data set, one a line. Classify each row as one of these labels: {labels}. Return only a JSON "
    "object that gives for each label the number of rows.\n\nRows:\n{rows}"
)
LINES = (
    "Below are rows of a data set, one a line. Classify each row as one of these labels: {labels}. Return one line for "
    "each row, as: date | user | label\n\nRows:\n{rows}"
)
FLAT = (
    "Below are rows of a data set, one a line. Each row has one of these labels, which must be inferred: {labels}. "
    "Answer the question with the answer alone.\n\nRows:\n{rows}\n\nQuestion: "
)
DEFAULT, CALIBRATED, CASCADE, FLAT_CALL = (
    "map, as it is set",
    "map, calibrated",
    "map, two models",
    "one flat call",
)
SHORT = "map, packs of 1,500, replies with blanks"
APART = "map, a line a row"
PLAIN, MADE, FIXED = "plain code", "made-up rows", "map, packs of {:,}"
PARTS = ("calls", "prompt_tokens", "reply_tokens")
LEAD = 17  # tokens of date and user in front of a text
ROOM = 2_000  # tokens of the window that a flat call leaves for all beside the rows


#: Models whose errors grow otherwise; the corpora that each reads whole, of so many tokens that a map of them tries out
#: the size of its packs by itself; and the sizes that are held against it.
CURVES: Mapping[str, Curve] = {"even": EVEN, "as above": CURVE, "steep": STEEP}
CURVED_TOKENS, CURVED_CORPORA = 300_000, 6
CURVED_PACKS = (375, 750, 3_000, 6_000)
MODEL = " ".join((_simulated.__doc__ or "").split()) + "".join(
    f" {model}: ${a} and ${b} a million tokens of prompts and replies." for model, (a, b) in USD.items()
)
Floats = npt.NDArray[np.float64]
Asking = tuple[str, int, Corpus]
Read = tuple[list[Seen], Spent]


@dataclass(frozen=True, slots=True)
class Found:
    """A question of a corpus of so many tokens, as one way answered it. `right`: the share of all rows that it read
    right, where it told of single rows. `alone`: what the question took; `shared_usd`: where one reading of all rows
    serves all questions of a corpus, its share of that."""

    source: str
    tokens: int
    kind: str
    way: str
    score: float
    right: float
    alone: Spent
    shared_usd: float


# -- the ways ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trial:
    """A corpus that is read by one way after another. `text`: of all rows, as far as a window holds it."""

    corpus: Corpus
    truth: Mapping[str, str]
    text: str

    @classmethod
    def of(cls, corpus: Corpus) -> "Trial":
        """Nothing read yet."""
        text = truncate("\n".join(row.line for row in corpus.rows), WINDOW - ROOM)
        return cls(corpus, {folded(row.line): row.label for row in corpus.rows}, text)

    def child(self) -> Child:
        """A model that was asked nothing so far."""
        return Child(self.truth, self.corpus.labels)

    def rows(self, question: Question) -> list[Row]:
        """The rows that it is about, which code can choose by what stands in the line."""
        return [row for row in self.corpus.rows if question.holds(row)]

    def truly(self, question: Question) -> Answer:
        """The true answer."""
        return answer(question, [row.seen for row in self.rows(question)])

    def asked(self, words: str, rows: str) -> Asked:
        """A prompt of one message to the cheap model."""
        content = words.format(labels=", ".join(self.corpus.labels), rows=rows)
        return Asked.of(CHEAP, [{"role": "user", "content": content}])


def flat(trial: Trial, question: Question) -> Read:
    """One call with as much of the text as the window holds; a row that is cut is not read. Charitable: the prompt is
    the same for all questions but for their words, which are left out, and the answer is not charged."""
    child, rows = trial.child(), trial.corpus.rows
    if len(trial.text) < sum(len(row.line) + 1 for row in rows) - 1:
        rows = rows[: trial.text.count("\n")]
    asked = trial.asked(FLAT, rows=trial.text)
    read = _labelled(rows, child.read(asked, [row.line for row in rows]))
    child.charge(asked, "")
    return [_seen(row, label) for row, label in read], child.spent


def plain(chars: int, counts: bool, trial: Trial, question: Question) -> Read:
    """Code that cuts the rows into chunks, asks once for each, and takes what it can read of the replies. `counts`: it
    asks for counts alone where these suffice, else for a line a row. Charitable: it cuts between lines."""
    child, seen = trial.child(), list[Seen]()
    counted = counts and question.counts_suffice
    for rows in chunks(trial.rows(question), chars):
        lines = [row.line for row in rows]
        asked = trial.asked(COUNTS if counted else LINES, rows="\n".join(lines))
        read = _labelled(rows, child.read(asked, lines))
        reply = PROSE if child.strays(asked) else _counts(read) if counted else _lines(read)
        child.charge(asked, reply)
        seen += read_counts(reply, question) if counted else read_lines(reply)
    return seen, child.spent


def mapped(
    trial: Trial,
    question: Question,
    pack_tokens: int = 0,
    *,
    calibrate: bool | None = None,
    blanks: bool = False,
    shares: bool = True,
    strong: bool = False,
) -> Read:
    """`llm_map` over the rows, and code that counts. `pack_tokens`: 0 as it is set."""
    child, rows = replace(trial.child(), blanks=blanks, shares=shares), trial.rows(question)
    task = replace(
        task_of(trial.corpus.labels), calibrate=calibrate, strong=Reader(STRONG) if strong else None
    )
    if pack_tokens:
        task = replace(task, pack_tokens=pack_tokens, reply_tokens=max(task.reply_tokens, pack_tokens))
    answers = run_map(task, [row.line for row in rows], child).answers
    read = [
        (row, str(found.values["label"])) for row, found in zip(rows, answers, strict=True) if not found.error
    ]
    return [_seen(row, label) for row, label in read], child.spent


def task_of(labels: Sequence[str]) -> Task:
    """What a map is asked here, all else as it is set."""
    return Task(ASKED, (Field("label", "label", tuple(labels)),), Reader(CHEAP), window=WINDOW)


def run_map(task: Task, texts: Sequence[str], child: Child) -> Mapped:
    """A map without a store."""
    return asyncio.run(map_rows(prepare(task, texts), child, Forgetful(), lambda _: None))


Way = Callable[[Trial, Question], Read]
WAYS: Mapping[str, Way] = {
    FLAT_CALL: flat,
    **{f"{PLAIN}, counts, {chars // 1_000}k characters": partial(plain, chars, True) for chars in CHUNKS},
    **{f"{PLAIN}, lines, {chars // 1_000}k characters": partial(plain, chars, False) for chars in CHUNKS},
    **{FIXED.format(size): partial(mapped, pack_tokens=size, calibrate=False) for size in PACKS},
    DEFAULT: mapped,
    APART: partial(mapped, shares=False),
    CALIBRATED: partial(mapped, calibrate=True),
    SHORT: partial(mapped, pack_tokens=1_500, calibrate=False, blanks=True),
    CASCADE: partial(mapped, strong=True),
}


def chunks(rows: Sequence[Row], chars: int) -> Iterator[list[Row]]:
    """The rows in order, so many characters at a time, cut between lines."""
    held, used = list[Row](), 0
    for row in rows:
        if held and used + len(row.line) > chars:
            yield held
            held, used = [], 0
        held.append(row)
        used += len(row.line) + 1
    if held:
        yield held


def _labelled(rows: Sequence[Row], labels: Sequence[str | None]) -> list[tuple[Row, str]]:
    return [(row, label) for row, label in zip(rows, labels, strict=True) if label is not None]


def _seen(row: Row, label: str) -> Seen:
    return Seen(row.user, row.month, label)


def _counts(read: Sequence[tuple[Row, str]]) -> str:
    return json.dumps(Counter(label for _, label in read))


def read_counts(reply: str, question: Question) -> list[Seen]:
    """What loose code takes for counts: the first thing in braces, if that is JSON."""
    found = re.search(r"\{.*\}", reply, re.DOTALL)
    counts = json.loads(found[0]) if found else {}
    user, month = question.user or 0, question.month or ""
    return [Seen(user, month, label) for label, count in counts.items() for _ in range(count)]


def _lines(read: Sequence[tuple[Row, str]]) -> str:
    return "\n".join(f"{row.date} | {row.user} | {label}" for row, label in read)


def read_lines(reply: str) -> list[Seen]:
    """What loose code takes for lines: a date, a user and a label between bars."""
    found = re.findall(r"(\d{4}-\d\d)-\d\d\s*\|\s*(\d+)\s*\|\s*(.+)", reply)
    return [Seen(int(user), month, label.strip().lower()) for month, user, label in found]


# -- measured ------------------------------------------------------------------------------------------------


def measure(options: Options) -> Iterator[Item]:
    """What each way scores and takes at each length, what is claimed of it, and the figures of a map alone."""
    found = [one for some in _sets.each(tried, list(corpora(options))) for one in some]
    for source, tokens in dict.fromkeys((one.source, one.tokens) for one in found):
        yield table(source, tokens, _of(found, source, tokens))
    yield Table("The simulated model", ("tokens of a prompt", "rows misread"), _curve(), MODEL)
    made = [one for one in found if one.source == MADE]
    for tokens in CORPORA:
        yield from claims(tokens, _of(made, MADE, tokens))
    yield from of_curves()
    yield from _figures(options)


def corpora(options: Options) -> Iterator[Asking]:
    """Source, tokens and corpus of all that is asked about."""
    for tokens, number in CORPORA.items():
        yield from ((MADE, tokens, made_up(tokens, seed)) for seed in range(number))
    texts = sms(options.data)
    mean = count_tokens(CHEAP, "\n".join(text for _, text in texts)) / max(1, len(texts)) + LEAD
    for tokens, number in CORPORA.items() if texts else ():
        if (size := int(tokens / mean)) < len(texts):
            for seed in range(number):
                random = np.random.default_rng([tokens, seed])
                drawn = [texts[at] for at in random.permutation(len(texts))[:size].tolist()]
                yield SMS, tokens, of_texts(drawn, SMS_LABELS, random)


def sms(data: Path) -> list[tuple[str, str]]:
    """Label and text of each message, each text once; [] where they are not given."""
    if not (data / SMS).is_file():
        return []
    lines = (data / SMS).read_text(encoding="utf-8").split("\n")
    pairs = (line.partition("\t") for line in lines if line.strip())
    return [(label, text) for text, label in {text: label for label, _, text in pairs}.items()]


def tried(asking: Asking) -> list[Found]:
    """Every question of a corpus by every way."""
    source, tokens, corpus = asking
    trial = Trial.of(corpus)
    return [one for name in WAYS for one in _by(name, source, tokens, trial)]


def _by(name: str, source: str, tokens: int, trial: Trial) -> Iterator[Found]:
    questions, read = trial.corpus.questions, dict[object, Read]()
    for question in questions:
        if (key := _prompts(name, question)) not in read:
            read[key] = WAYS[name](trial, question)
    whole = next(question for question in questions if question.form == "pairs")
    right = overlap(read[_prompts(name, whole)][0], [row.seen for row in trial.corpus.rows])
    most = max(spent.usd for _, spent in read.values())
    for question in questions:
        seen, alone = read[_prompts(name, question)]
        told = score(answer(question, [row for row in seen if question.holds(row)]), trial.truly(question))
        yield Found(source, tokens, question.kind, name, told, right, alone, most / len(questions))


def overlap(seen: Sequence[Seen], true: Sequence[Seen]) -> float:
    """The share of rows that were seen as they are; of equal rows as many as were seen."""
    return (Counter(seen) & Counter(true)).total() / len(true)


def _prompts(way: str, question: Question) -> object:
    """Questions that are alike in this are asked by the same prompts."""
    counted = question.counts_suffice and way.startswith(PLAIN)
    return () if way == FLAT_CALL else (question.user, question.month, counted)


def _of(found: Sequence[Found], source: str, tokens: int) -> list[Found]:
    return [one for one in found if (one.source, one.tokens) == (source, tokens)]


# -- told ----------------------------------------------------------------------------------------------------


def by_way(found: Sequence[Found]) -> dict[str, list[Found]]:
    """The findings of each way, all in the same order of questions."""
    return {name: [one for one in found if one.way == name] for name in WAYS}


def scores(found: Sequence[Found]) -> Floats:
    """In percent, (questions,)."""
    return np.array([100 * one.score for one in found])


def usd(found: Sequence[Found]) -> float:
    """Dollars of a question, on the average."""
    return sum(one.alone.usd for one in found) / len(found)


def table(source: str, tokens: int, found: Sequence[Found]) -> Table:
    """A row for each way."""
    columns = (
        "way",
        "score",
        *KINDS,
        "rows right",
        "calls",
        "prompt tokens",
        "reply tokens",
        "$ a question",
        "$ with a store",
    )
    rows = tuple(_row(name, each) for name, each in by_way(found).items())
    note = (
        f"{len(by_way(found)[FLAT_CALL])} questions. Scores in percent; calls, tokens and dollars are the mean of a "
        "question that is asked alone; rows right are those of all rows, where each is told of. With a store: where "
        "all questions of a corpus are asked of one map."
    )
    return Table(f"{source}, {tokens:,} tokens", columns, rows, note)


def _row(name: str, found: Sequence[Found]) -> tuple[str, ...]:
    kinds = [percent(float(scores([one for one in found if one.kind == kind]).mean())) for kind in KINDS]
    means = [sum(getattr(one.alone, part) for one in found) / len(found) for part in PARTS]
    shared = sum(one.shared_usd for one in found) / len(found)
    return (
        name,
        percent(float(scores(found).mean())),
        *kinds,
        percent(100 * sum(one.right for one in found) / len(found)),
        *(f"{mean:,.0f}" for mean in means),
        f"{usd(found):.5f}",
        f"{shared:.5f}" if name.startswith("map") else "",
    )


def claims(tokens: int, found: Sequence[Found]) -> Iterator[Item]:
    """What the map is to reach at a length, and where something else does better."""
    ways, at = by_way(found), f"at {tokens:,} tokens"
    ours = ways[DEFAULT]
    others = {name: each for name, each in ways.items() if not name.startswith("map")}
    best = max(others, key=lambda name: scores(others[name]).mean())
    yield _ahead("map best", f"score of the map {at}", "the best of all", ours, others[best], best)
    coded = {name: each for name, each in others.items() if name.startswith(PLAIN)}
    dear = max(coded, key=lambda name: scores(coded[name]).mean())
    for name in dict.fromkeys((dear, *sorted(coded, key=lambda name: usd(coded[name]))[:1])):
        yield _no_dearer(f"dollars of a question {at}", usd(ours), coded[name], name)
    shared = sum(one.shared_usd for one in ours) / len(ours)
    yield _no_dearer(f"dollars of a question {at}, all asked of one map", shared, coded[dear], dear)
    for name, each in others.items():
        if scores(each).mean() > scores(ours).mean():
            theirs, mine = (percent(float(scores(one).mean())) for one in (each, ours))
            yield Loss(name, f"score {at}", theirs, mine, bounds(*interval(scores(each) - scores(ours))[1:]))
        elif usd(each) * DEARER < usd(ours) and name.startswith(PLAIN):
            yield Loss(name, f"dollars of a question {at}", f"{usd(each):.5f}", f"{usd(ours):.5f}")


def _ahead(
    key: str, text: str, wanted: str, ours: Sequence[Found], others: Sequence[Found], name: str
) -> Claim:
    mine, theirs = scores(ours), scores(others)
    peer = f"{percent(float(theirs.mean()))} {name}"
    holds = bool(mine.mean() > theirs.mean())
    return Claim(
        key, text, wanted, percent(float(mine.mean())), peer, gained(*interval(mine - theirs)), holds=holds
    )


def _no_dearer(text: str, ours: float, others: Sequence[Found], name: str) -> Claim:
    ratio = ours / usd(others)
    told, peer = f"{ours:.5f} ({ratio:.2f} times)", f"{usd(others):.5f} {name}"
    return Claim("map cost", text, f"at most {DEARER} times", told, peer, holds=ratio <= DEARER)


def _curve() -> tuple[tuple[str, ...], ...]:
    return tuple((f"{tokens:,}", f"{share:.1%}") for tokens, share in CURVE)


# -- models that differ --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """A corpus that one map read whole, in packs of `size` tokens (0: calibrated, to `taken`), by a model that errs by
    a curve of that name. `scores`: of its questions, in percent; `right`: the share of rows."""

    curve: str
    size: int
    taken: int
    scores: tuple[float, ...]
    right: float
    usd: float


def of_curves() -> Iterator[Item]:
    """What each size of packs and a calibrated one make of models of which nobody knows beforehand how they err."""
    asked = [(name, seed) for name in CURVES for seed in range(CURVED_CORPORA)]
    done = [one for some in _sets.each(wholes, asked) for one in some]
    yield from told_of_curves(done)


def wholes(asking: tuple[str, int]) -> list[Whole]:
    """A corpus of chance by a model that errs by the curve of that name, in packs of each size."""
    name, seed = asking
    corpus = made_up(CURVED_TOKENS, seed)
    trial = Trial.of(corpus)
    return [_whole(name, size, trial) for size in (*CURVED_PACKS, 0)]


def _whole(name: str, size: int, trial: Trial) -> Whole:
    rows, child = trial.corpus.rows, Child(trial.truth, trial.corpus.labels, curve=CURVES[name], blanks=False)
    task = task_of(trial.corpus.labels)
    if size:
        task = replace(task, pack_tokens=size, calibrate=False)
    found = run_map(task, [row.line for row in rows], child)
    pairs = [(row, one) for row, one in zip(rows, found.answers, strict=True) if not one.error]
    seen = [_seen(row, str(one.values["label"])) for row, one in pairs]
    told = (
        100 * score(answer(one, [row for row in seen if one.holds(row)]), trial.truly(one))
        for one in trial.corpus.questions
    )
    right = overlap(seen, [row.seen for row in rows])
    return Whole(name, size, found.pack_tokens, tuple(told), right, child.spent.usd)


def told_of_curves(done: Sequence[Whole]) -> Iterator[Item]:
    """A table of each size by each curve and by all of them, and calibrated packs against each fixed size by all."""
    columns = (
        "packs",
        *(f"{name}: {what}" for name in (*CURVES, "all") for what in ("score", "rows right", "$")),
    )
    sizes_ = {size: [one for one in done if one.size == size] for size in (*CURVED_PACKS, 0)}
    rows = tuple(
        (
            f"{size:,}" if size else "calibrated",
            *(cell for name in CURVES for cell in _cells([one for one in each if one.curve == name])),
            *_cells(each),
        )
        for size, each in sizes_.items()
    )
    points = "; ".join(
        f"{name}: {', '.join(f'{share:.1%} at {tokens:,}' for tokens, share in curve)}"
        for name, curve in CURVES.items()
    )
    taken = "; ".join(
        f"{name}: {', '.join(f'{one.taken:,}' for one in sizes_[0] if one.curve == name)}" for name in CURVES
    )
    yield Table(
        f"Models that err otherwise, {CURVED_TOKENS:,} tokens",
        columns,
        rows,
        f"{CURVED_CORPORA} corpora of made-up rows, each read whole by one map, of which all questions are asked. Rows "
        f"misread, by tokens of a prompt: {points}. Sizes that were taken: {taken}.",
    )
    ours = sizes_[0]
    for size in CURVED_PACKS:
        yield _calibrated(ours, sizes_[size], FIXED.format(size))


def _cells(found: Sequence[Whole]) -> tuple[str, str, str]:
    right, dollars = _means(found)
    return percent(float(_scores(found).mean())), percent(100 * right), f"{dollars:.4f}"


def _means(found: Sequence[Whole]) -> tuple[float, float]:
    return sum(one.right for one in found) / len(found), sum(one.usd for one in found) / len(found)


def _scores(found: Sequence[Whole]) -> Floats:
    return np.array([score for one in found for score in one.scores])


def _calibrated(ours: Sequence[Whole], others: Sequence[Whole], name: str) -> Claim:
    """More in score, or as much, where the interval of the difference holds 0, for fewer dollars."""
    gain, low, high = interval(_scores(ours) - _scores(others))
    (_, mine), (_, theirs) = _means(ours), _means(others)
    figures = [
        f"{percent(float(_scores(each).mean()))}, ${usd:.4f}"
        for each, usd in ((ours, mine), (others, theirs))
    ]
    return Claim(
        "calibrated",
        "score of calibrated packs, and dollars of a map, over three models that err otherwise",
        "a higher score, or an equal one for fewer dollars",
        figures[0],
        f"{figures[1]} {name}",
        gained(gain, low, high),
        holds=low > 0 or (high >= 0 and mine < theirs),
    )


# -- the plumbing alone --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plumbing:
    """A map over rows by a model that reads each right. `sent`: tokens of prompts over those of the rows' texts;
    `calls` over those that `full` packs would be; `again`: rows that were asked once more."""

    rows: int
    wrong: int
    calls: int
    full: int
    sent: float
    again: int

    def cells(self, name: str) -> tuple[str, ...]:
        """A row of a table."""
        counts = (self.rows, self.wrong, self.calls, self.full, self.again)
        return name, *(f"{count:,}" for count in counts), f"{self.sent:.3f}"


def plumbing(truth: Mapping[str, str], faults: Faults) -> Plumbing:
    """What a map over texts with their labels takes, with what goes wrong besides."""
    texts, labels = list(truth), tuple(dict.fromkeys(truth.values()))
    task = task_of(labels)
    child = Child({folded(text): label for text, label in truth.items()}, labels, curve=NEVER, faults=faults)
    found = run_map(task, texts, child)
    prepared = prepare(task, texts)
    right = [
        answer.values.get("label") == truth[text] for text, answer in zip(texts, found.answers, strict=True)
    ]
    tokens = sum(prepared.tokens(range(len(texts)), CHEAP).values())
    own = sum(count_tokens(CHEAP, text) for text in texts)
    return Plumbing(
        len(texts),
        right.count(False),
        child.spent.calls,
        full_packs(len(texts), tokens, sizes(prepared.task, task.reader).full),
        child.spent.prompt_tokens / own,
        found.progress.asked_again,
    )


def _figures(options: Options) -> Iterator[Item]:
    """The figures of a map over the given texts; nothing where they are not there."""
    rows = {folded(text): label for label, text in sms(options.data)}
    parts = {piece: "even" if at % 2 else "odd" for at, piece in enumerate(_pieces(options.data))}
    ways = {
        "messages": (rows, Faults(), SENT_ROWS),
        "messages, with faults": (rows, FAULTS, None),
        f"pieces of {CHUNK_CHARS} characters": (parts, Faults(), SENT_CHUNKS),
    }
    done = {name: (plumbing(truth, faults), most) for name, (truth, faults, most) in ways.items() if truth}
    if not done:
        return
    columns = (
        "rows",
        "number",
        "wrong or none",
        "calls",
        "full packs",
        "asked again",
        "tokens sent over text",
    )
    yield Table(
        PLUMBING, columns, tuple(one.cells(name) for name, (one, _) in done.items()), f"With faults: {TOLD}."
    )
    plain_ones = {name: list(ways[name][0]) for name, (_, most) in done.items() if most is not None}
    by_size = tuple(
        (f"{size:,}", *(f"{sent_over_text(texts, size):.3f}" for texts in plain_ones.values()))
        for size in PACKS
    )
    yield Table("Tokens sent over text, by the size of packs", ("tokens of a pack", *plain_ones), by_size)
    for name, (one, most) in done.items():
        if most is not None:
            sent, calls = f"{one.sent:.3f}", f"{one.calls / one.full:.3f}"
            text = f"tokens sent over text, {name}"
            yield Claim("map tokens", text, f"at most {most}", sent, holds=one.sent <= most)
            text, holds = f"calls over full packs, {name}", one.calls <= CALLS * one.full
            yield Claim("map tokens", text, f"at most {CALLS}", calls, holds=holds)
        told = f"{one.wrong} wrong or without an answer, of {one.rows:,}"
        yield Claim("map exact", f"rows, {name}", "none wrong", told, holds=not one.wrong)


def sent_over_text(texts: Sequence[str], pack_tokens: int) -> float:
    """Tokens of the prompts over those of the texts, in packs of that size."""
    task = replace(task_of(SMS_LABELS), pack_tokens=pack_tokens)
    first = asyncio.run(plan(prepare(task, texts))).stages[0]
    return first.prompt_tokens / first.text_tokens


def _pieces(data: Path) -> Iterator[str]:
    """Pieces of the given meetings, of the characters of a chunk."""
    file = data / "qmsum" / "corpus.jsonl"
    if file.is_file():
        for row in _sets.rows(file):
            text = folded(row["text"])
            yield from (text[at : at + CHUNK_CHARS] for at in range(0, len(text), CHUNK_CHARS))
