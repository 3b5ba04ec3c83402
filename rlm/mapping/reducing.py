"""A reduction: an answer from all passages of a branch, by notes that climb the tree.

The leaves are packs of passages. A model notes of each what bears on the question; where it notes nothing, that branch
is cut. Notes of branches that are near in the tree are then made fewer together, level by level, until all of them fit
into one prompt, which gives the answer. A note keeps its sources, exact words of passages, all the way up: no model
hands them on, as code unites those of the notes that a new one is said to rest on.

How many levels and calls that takes at most is known before: a reply may hold a quarter of a prompt's notes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from index_store.terminal import brief
from rlm.gateway.blocks import Block
from rlm.gateway.tokens import count_tokens
from rlm.mapping.notes import (
    Messages,
    Note,
    Read,
    Source,
    answer_messages,
    leaf_messages,
    note_line,
    parent_messages,
    read_answer,
    read_leaf,
    read_parent,
)
from rlm.mapping.types import Ask, MappingError, Prompt, Reading
from rlm.prompts import NOT_IN_DOCUMENTS

PACK_TOKENS = 6_000  # of passages, or of notes, in one prompt
#: A reply of notes holds at most so much of a prompt's: then there are fewer notes on each level than below it.
OF_PACK = 1 / 4
#: The answer has room for so much of that.
OF_ANSWER = 1 / 3
#: A prompt is asked so often at most, and of all prompts so many a second or third time: this share, and no fewer.
TRIES, AGAIN, LEAST_AGAIN = 3, 0.1, 2
#: Sources that an answer cites. An answer's citations are looked up, and no more of one answer.
CITED = 100
NO_SOURCE = "its reply gave nothing that rests on what it read"
CUT_SHORT = "its reply was cut before the first note ended"
#: With less room there might be no fewer notes on a level than below it.
LEAST_ROOM = 100


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is asked, and of whom. `room`: tokens of passages or notes in one prompt. `reply_tokens`: the most that one
    reply may have. `wave`: prompts that are asked side by side.

    Raises MappingError for what is out of range.
    """

    question: str
    model: str
    room: int = PACK_TOKENS
    reply_tokens: int = 4_000
    wave: int = 64

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise MappingError("the question is empty; say what is to be answered")
        for name, least in (("room", LEAST_ROOM), ("reply_tokens", 1), ("wave", 1)):
            if getattr(self, name) < least:
                raise MappingError(f"{name} is {getattr(self, name)}; give at least {least}")

    @property
    def note_tokens(self) -> int:
        """The most that one reply of notes may have, and its notes in the next prompt."""
        return min(self.reply_tokens, math.floor(self.room * OF_PACK))

    @property
    def answer_tokens(self) -> int:
        """The most that the reply with the answer may have."""
        return min(self.reply_tokens, math.floor(self.room * OF_ANSWER))


@dataclass(frozen=True, slots=True)
class Weight:
    """Something to pack. `above`: the branches over it, topmost first, each by a number of its own; () for none."""

    tokens: int
    above: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    """Passages for one prompt, one at least. `above`: the branches over all of them, topmost first."""

    blocks: tuple[Block, ...]
    above: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its first and its last passage."""
        first, last = self.blocks[0].name, self.blocks[-1].name
        return first if len(self.blocks) == 1 else f"{first} to {last}"


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of a prompt, and of its reply at most."""

    prompt_tokens: int
    reply_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reduction takes at most. `levels`: the calls of each, the leaves first and the answer last. `again`: the
    calls that may be made once more."""

    levels: tuple[tuple[Size, ...], ...]
    again: tuple[Size, ...]

    @property
    def calls(self) -> tuple[Size, ...]:
        """All of them."""
        return tuple(size for level in (*self.levels, self.again) for size in level)


@dataclass(frozen=True, slots=True)
class Reduced:
    """What came of it.

    `answer`: statements with marks such as [2], which count `sources` from 1; "Not in these documents." where nothing
    was noted, '' where it failed. `notes`: those that the answer was made of. `cut`: names of the packs without
    evidence. `failed`: what was not read or not put together, and why, a sentence each. `dropped`: notes that rested
    on nothing. `uncited`: sources that the notes have beyond those that an answer cites.
    """

    answer: str
    sources: tuple[Source, ...]
    notes: tuple[Note, ...]
    cut: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    dropped: int = 0
    uncited: int = 0


# -- packing -----------------------------------------------------------------------------------------------


def pack(weights: Sequence[Weight], room: int) -> list[list[int]]:
    """The places of all weights, in order, in packs of at most `room` tokens: a branch that fits is in one pack, a
    larger one is divided as its branches are, and neighbours that fit together share a pack. What is larger than the
    room stands alone. Weights of a branch have to follow one another. Any two packs that do hold more than the room.
    """
    return _packed([*range(len(weights))], weights, room, 0) if weights else []


def _packed(places: list[int], weights: Sequence[Weight], room: int, depth: int) -> list[list[int]]:
    def branch(place: int) -> tuple[int, ...]:
        return weights[place].above[depth : depth + 1]

    if len(places) == 1 or _tokens(places, weights) <= room:
        return [places]
    parts = [list(part) for _, part in groupby(places, branch)]
    if len(parts) == 1 and not branch(places[0]):
        parts = [[place] for place in places]
    return _joined((one for part in parts for one in _packed(part, weights, room, depth + 1)), weights, room)


def _joined(packs: Iterable[list[int]], weights: Sequence[Weight], room: int) -> list[list[int]]:
    joined: list[list[int]] = []
    left = 0
    for one in packs:
        tokens = _tokens(one, weights)
        if joined and tokens <= left:
            joined[-1] += one
            left -= tokens
        else:
            joined.append([*one])
            left = room - tokens
    return joined


def _tokens(places: Iterable[int], weights: Sequence[Weight]) -> int:
    return sum(weights[place].tokens for place in places)


def shared(paths: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The branches over all of them: what their paths begin with alike."""
    least, most = min(paths), max(paths)
    same = next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    return least[:same]


# -- planning ----------------------------------------------------------------------------------------------


def plan(task: Reduction, leaves: Sequence[Leaf]) -> Plan:
    """What the reduction of these leaves takes at most."""
    levels = [
        tuple(
            Size(_prompt_tokens(task, leaf_messages(task.question, leaf.blocks)), task.note_tokens)
            for leaf in leaves
        )
    ]
    parent = Size(_prompt_tokens(task, parent_messages(task.question, ())) + task.room, task.note_tokens)
    while (tokens := len(levels[-1]) * task.note_tokens) > task.room:
        # Any two packs together hold more than the room, and one reply's notes are never divided.
        calls = min(len(levels[-1]), 2 * math.ceil(tokens / task.room) - 1)
        levels.append((parent,) * calls)
    head = _prompt_tokens(task, answer_messages(task.question, ()))
    held = min(task.room, len(levels[-1]) * task.note_tokens)
    levels.append((Size(head + held, task.answer_tokens),))
    sizes = [size for level in levels for size in level]
    largest = Size(max(s.prompt_tokens for s in sizes), max(s.reply_tokens for s in sizes))
    return Plan(tuple(levels), (largest,) * _spare(len(sizes)))


def _spare(calls: int) -> int:
    return max(LEAST_AGAIN, math.ceil(AGAIN * calls))


def _prompt_tokens(task: Reduction, messages: Messages) -> int:
    return count_tokens(task.model, messages)


# -- the climb ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Branch:
    """Notes of one reply. `tokens`: that they take in the next prompt."""

    notes: tuple[Note, ...]
    tokens: int
    above: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt about what `name` says, and how its reply is read, given that and whether it was cut."""

    name: str
    messages: Messages
    max_tokens: int
    read: Callable[[str, bool], Read]


@dataclass(slots=True)
class _Climb:
    """A reduction under way. `again`: prompts that may still be asked once more; `stopped`: the cap that was met."""

    task: Reduction
    ask: Ask
    again: int
    stopped: str = ""
    dropped: int = 0
    cut: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def readings(self, asked: Sequence[_Asked]) -> list[Read | None]:
        """What each prompt gave, in order; None for one that failed, which is told."""
        reads: dict[int, Read] = {}
        errors: dict[int, str] = {}
        waiting = [*range(len(asked))]
        for attempt in range(TRIES):
            for at in range(0, len(waiting), self.task.wave):
                await self._wave(asked, waiting[at : at + self.task.wave], reads, errors)
            waiting = [place for place in waiting if place not in reads]
            if self.stopped or attempt + 1 == TRIES:
                break
            waiting = waiting[: self.again]
            self.again -= len(waiting)
        self.failed += [f"{asked[place].name}: {errors[place]}" for place in sorted({*errors} - {*reads})]
        self.dropped += sum(read.dropped for read in reads.values())
        return [reads.get(place) for place in range(len(asked))]

    async def _wave(
        self, asked: Sequence[_Asked], places: Sequence[int], reads: dict[int, Read], errors: dict[int, str]
    ) -> None:
        if self.stopped:
            errors |= dict.fromkeys(places, self.stopped)
            return
        prompts = [
            Prompt(asked[place].messages, asked[place].max_tokens, self.task.model, ()) for place in places
        ]
        readings = dict[int, Reading]()

        async def take(place: int, reading: Reading) -> None:
            readings[place] = reading

        await self.ask(prompts, take)
        for number, place in enumerate(places):
            reading = readings[number]
            self.stopped = reading.error if reading.stopped else self.stopped
            read = None if reading.error else asked[place].read(reading.text, reading.cut)
            if read is None or read.is_bad:
                errors[place] = reading.error or _fault(reading)
            else:
                reads[place] = read

    def branch(self, notes: Sequence[Note], above: tuple[int, ...]) -> _Branch:
        """As many of these notes, from the first, as a reply may hold."""
        kept: list[Note] = []
        used = 0
        for note in notes:
            tokens = count_tokens(self.task.model, note_line(1_000, note.text) + "\n")
            if used + tokens > self.task.note_tokens:
                break
            kept.append(note)
            used += tokens
        self.dropped += len(notes) - len(kept)
        return _Branch(tuple(kept), used, above)


def _fault(reading: Reading) -> str:
    return CUT_SHORT if reading.cut else f"{NO_SOURCE} (it begins {brief(reading.text)})"


async def reduce(task: Reduction, leaves: Sequence[Leaf], ask: Ask) -> Reduced:
    """The answer to the question from the passages of the leaves, which are in the order of the tree.

    It makes no more calls than `plan` says. Prompts of a level are asked side by side, and their replies are read in
    their order, so that the order of arrival changes nothing.
    """
    climb = _Climb(task, ask, len(plan(task, leaves).again))
    branches = await _noted(climb, leaves)
    while sum(branch.tokens for branch in branches) > task.room and not climb.stopped:
        branches = await _fewer(climb, branches)
    notes = tuple(note for branch in branches for note in branch.notes)
    statements = await _answered(climb, notes)
    answer, sources, uncited = _with_marks(statements)
    if not answer and not climb.failed:
        answer = f"{NOT_IN_DOCUMENTS}."
    return Reduced(answer, sources, notes, tuple(climb.cut), tuple(climb.failed), climb.dropped, uncited)


async def _noted(climb: _Climb, leaves: Sequence[Leaf]) -> list[_Branch]:
    """The notes of each leaf that has any; the others are cut."""
    task = climb.task
    asked = [_about_leaf(task, place, leaf) for place, leaf in enumerate(leaves)]
    reads = await climb.readings(asked)
    climb.cut += [leaf.name for leaf, read in zip(leaves, reads, strict=True) if read and read.is_empty]
    pairs = zip(leaves, reads, strict=True)
    return [climb.branch(read.notes, leaf.above) for leaf, read in pairs if read and read.notes]


def _about_leaf(task: Reduction, place: int, leaf: Leaf) -> _Asked:
    return _Asked(
        leaf.name,
        leaf_messages(task.question, leaf.blocks),
        task.note_tokens,
        lambda reply, cut: read_leaf(reply, place, leaf.blocks, cut),
    )


async def _fewer(climb: _Climb, branches: Sequence[_Branch]) -> list[_Branch]:
    """Fewer notes, of several branches together. Where that fails, the first notes go on as they are."""
    task = climb.task
    packs = pack([Weight(branch.tokens, branch.above) for branch in branches], task.room)
    paths = [shared([branches[place].above for place in places]) for places in packs]
    notes = [tuple(note for place in places for note in branches[place].notes) for places in packs]
    asked = [_about_notes(task, number, several) for number, several in enumerate(notes, 1)]
    reads = await climb.readings(asked)
    climb.cut += [one.name for one, read in zip(asked, reads, strict=True) if read and read.is_empty]
    together = zip(notes, paths, reads, strict=True)
    fewer = [climb.branch(read.notes if read else several, path) for several, path, read in together]
    return [branch for branch in fewer if branch.notes]


def _about_notes(task: Reduction, number: int, notes: Sequence[Note]) -> _Asked:
    return _Asked(
        f"pack {number:,} of notes",
        parent_messages(task.question, notes),
        task.note_tokens,
        lambda reply, cut: read_parent(reply, notes, cut),
    )


async def _answered(climb: _Climb, notes: Sequence[Note]) -> tuple[Note, ...]:
    """The statements of the answer; none where there are no notes, or where it failed."""
    task = climb.task
    if not notes:
        return ()
    if climb.stopped:
        climb.failed.append(f"the answer: {climb.stopped}")
        return ()
    asked = _Asked(
        "the answer",
        answer_messages(task.question, notes),
        task.answer_tokens,
        lambda reply, cut: read_answer(reply, notes, cut),
    )
    (read,) = await climb.readings([asked])
    return read.notes if read else ()


def _with_marks(statements: Sequence[Note]) -> tuple[str, tuple[Source, ...], int]:
    """(the statements, each with the numbers of its sources, the sources, how many more there are). Where there are
    more than CITED, each statement keeps as many of its first as leave room for the others'."""
    whole = tuple(dict.fromkeys(source for one in statements for source in one.sources))
    most = max((len(one.sources) for one in statements), default=0)
    sources = whole
    while len(sources) > CITED and most > 1:
        most -= 1
        sources = tuple(dict.fromkeys(source for one in statements for source in one.sources[:most]))
    numbers = {source: number for number, source in enumerate(sources[:CITED], 1)}
    lines = (
        one.text + " " + "".join(f"[{numbers[s]}]" for s in one.sources[:most] if s in numbers)
        for one in statements
    )
    return "\n".join(line.strip() for line in lines), sources[:CITED], len(whole) - len(numbers)
