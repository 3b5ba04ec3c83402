"""A map over rows: waves of packs, until each row has an answer or an error.

All packs of a wave are asked side by side. What a reply answers is stored as it comes; all else is done in the order of
the packs: the order in which replies arrive changes nothing, so a replay repeats. Rows without an answer are pooled,
and asked again when all others were.

The first reading lets rows of the same answer share a line. Rows that are asked again, or judged by another reading,
have a line each: so two readings that agree do so in either form.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from index_store.terminal import brief, count
from rlm.mapping import calibrating
from rlm.mapping.certainty import agreement, differ, sample
from rlm.mapping.packing import Size, full_packs, halves, pack
from rlm.mapping.planning import (
    Keys,
    Prepared,
    Sizes,
    key,
    plan,
    prepare,
    recalled,
    share_read_twice,
    sizes,
)
from rlm.mapping.types import (
    Agreement,
    Answer,
    Ask,
    Field,
    Mapped,
    Memo,
    Pack,
    Progress,
    Prompt,
    Reader,
    Reading,
    Turn,
    Wanted,
)
from rlm.mapping.wording import LEFT_OUT, messages, read_reply

__all__ = ["key", "map_rows", "plan", "prepare"]

#: A row is asked so many times at most, in packs of these shares of a full one: a row that spoils its pack (a provider
#: may refuse it, a model stumble over it) stands alone in the end, and spoils nothing but itself.
PARTS = (1.0, 1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 64, 0.0)
#: So many waves without one valid answer, at the start or full ones, end a reading: paying on would buy nothing.
BARREN = 2
NONE_VALID = (
    "{packs} in succession gave no answer that can be read ({why}), so no more was asked; try another model or a "
    "simpler question"
)
TOO_LARGE = "the row has {tokens}, and the model's window has room for {room}; split it"


async def map_rows(prepared: Prepared, ask: Ask, memo: Memo, tell: Callable[[Progress], None]) -> Mapped:
    """An answer or an error for each text that was prepared, in order.

    Every text is read once, and a second time where `sure` draws it; it is asked again only where no answer can be
    read, at most 8 times, beside those in which a reply was cut before it. `ask` is given one wave after another, and
    what a reply answered is kept in `memo` as it comes; `tell` hears of each wave. Where a strong model should judge
    and cannot, the first reading stays.

    Raises MappingError, before anything is asked, where not one row can be asked about.
    """
    rows, task = prepared, prepared.task
    board = _Board(rows.times, tell, Progress(len(rows.texts)))
    cheap = _Reads(rows, task.reader, "first", ask, memo, board)
    strong = task.strong and _Reads(rows, task.strong, "strong", ask, memo, board)
    drawn = sample(rows.keys, share_read_twice(task))
    found = await cheap.answers(list(rows.keys), later=len(drawn))
    board.count_failed(found)
    again, first = dict[int, Answer](), dict[int, Answer]()
    if not board.stopped:
        second = _Reads(rows, task.reader, "second", ask, memo, board, cheap.full)
        again = await second.answers([row for row in drawn if not found[row].error])
        board.agreed(agreement(task.fields, found, again))
    if strong and not board.stopped:
        judged = await strong.answers(_apart(task.fields, found, again))
        first = {row: found[row] for row, answer in judged.items() if not answer.error}
        found |= {row: judged[row] for row in first}
    board.to_come("", 0, 0, 0)
    return Mapped(
        task.fields,
        [found[row] for row in rows.asked],
        board.progress,
        rows.asked,
        again,
        first,
        board.progress.agreement,
        cheap.full.tokens,
        board.stopped,
    )


def _apart(fields: Sequence[Field], first: Mapping[int, Answer], again: Mapping[int, Answer]) -> list[int]:
    """The rows, in order, on which two readings differ."""
    both = sorted(row for row, other in again.items() if not other.error)
    return [row for row in both if differ(fields, first[row].values, again[row].values)]


@dataclass(slots=True)
class _Board:
    """How far a map is, as it goes. `times`: how many rows have the text of each that is asked."""

    times: Mapping[int, int]
    tell: Callable[[Progress], None]
    progress: Progress
    stopped: str = ""

    def rows(self, rows: Iterable[int]) -> int:
        return sum(self.times[row] for row in rows)

    def add(self, **more: int) -> None:
        before = self.progress
        self.progress = replace(before, **{name: getattr(before, name) + n for name, n in more.items()})

    def to_come(self, model: str, calls: int, prompt_tokens: int, reply_tokens: int) -> None:
        self.progress = replace(
            self.progress,
            model=model,
            calls_to_come=calls,
            prompt_tokens_to_come=prompt_tokens,
            reply_tokens_to_come=reply_tokens,
        )
        self.tell(self.progress)

    def count_failed(self, found: Mapping[int, Answer]) -> None:
        self.add(failed=self.rows(row for row, answer in found.items() if answer.error))
        self.tell(self.progress)

    def agreed(self, agreement: Mapping[str, Agreement]) -> None:
        self.progress = replace(self.progress, agreement=agreement)
        self.tell(self.progress)


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of one pack: the answers of its rows, and why others have none."""

    pack: Pack
    reading: Reading
    found: dict[int, Answer]
    why: dict[int, str]


def _read(pack: Pack, reading: Reading, fields: Sequence[Field]) -> _Read:
    said = {} if reading.error else read_reply(reading.text, fields, len(pack.rows))
    found, why = dict[int, Answer](), dict[int, str]()
    for number, row in enumerate(pack.rows, 1):
        values = said.get(number, reading.error or LEFT_OUT)
        if isinstance(values, str):
            why[row] = values
        else:
            found[row] = Answer(values, call=reading.call, number=number)
    return _Read(pack, reading, found, why)


@dataclass(slots=True)
class _Wave:
    """What came of the packs of a wave. Rows without an answer are asked again: `pooled` with others, or where the
    reply was cut in `halves` of their pack, at once if it answered some (`rest`)."""

    found: dict[int, Answer] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)
    pooled: list[int] = field(default_factory=list)
    halves: list[Pack] = field(default_factory=list)
    rest: list[Pack] = field(default_factory=list)
    began: str = ""
    stopped: str = ""

    def add(self, read: _Read) -> None:
        """Add what was read of one pack."""
        reading, missed = read.reading, tuple(read.why)
        self.found |= read.found
        self.why |= read.why
        if not reading.cut:
            self.pooled += missed
        elif read.found:
            self.rest += halves(missed)
        else:
            self.halves += halves(missed)
        self.began = self.began or reading.error or f"the first reply began {brief(reading.text)}"
        self.stopped = self.stopped or reading.error * reading.stopped


class _Reads:
    """One reading of rows by one model, in packs of at most `full`."""

    def __init__(
        self,
        rows: Prepared,
        reader: Reader,
        turn: Turn,
        ask: Ask,
        memo: Memo,
        board: _Board,
        full: Size | None = None,
    ) -> None:
        self.task, self.reader, self.turn, self.rows = rows.task, reader, turn, rows
        self.ask, self.memo, self.board = ask, memo, board
        self.keys = Keys(self.task, reader)
        self.sizes: Sizes = sizes(self.task, reader)
        self.full = full or self.sizes.full
        self.tokens: Mapping[int, int] = {}
        self.roomy = False  # a reply was cut, so all are given the most that they may have
        self.later = (0, 0)  # rows of the reading after this one, and their tokens
        self.waves = self.barren = 0
        self.fruitful = False

    async def answers(self, rows: Sequence[int], later: int = 0) -> dict[int, Answer]:
        """The answer of each row, stored or asked. `later`: rows that are to be read a second time after this."""
        found = await self._recalled(rows)
        left = [row for row in rows if row not in found]
        self.tokens = self.rows.tokens(left, self.reader.model)
        self.later = later, math.ceil(later * sum(self.tokens.values()) / max(1, len(left)))
        found |= self._too_large(left)
        left = [row for row in left if row not in found]
        if self.turn == "first" and self.task.calibrate and left:
            found |= await self._calibrated(left)
            left = [row for row in left if row not in found]
        why = dict[int, str]()
        if not self.board.stopped:
            asked, why = await self._asked(pack(left, self.tokens, self.full), len(PARTS))
            found |= asked
        stopped = self.board.stopped
        return found | {row: Answer(error=stopped or why[row]) for row in left if row not in found}

    async def _recalled(self, rows: Sequence[int]) -> dict[int, Answer]:
        wanted = [Wanted(row, self.turn, self._key(row)) for row in rows]
        stored = await recalled(self.task, wanted, self.memo)
        known = {row: Answer(values, stored=True) for row, values in stored.items()}
        if self.turn == "first":
            self.board.add(stored=self.board.rows(known), done=self.board.rows(known))
        return known

    def _key(self, row: int) -> str:
        return self.keys.of(self.rows.texts[row], self.turn)

    def _too_large(self, rows: Sequence[int]) -> dict[int, Answer]:
        if self.task.window is None:
            return {}
        room = self.task.window - self.sizes.head - self.sizes.reply(1, self.task.reply_tokens)
        large = {row: tokens for row in rows if (tokens := self.tokens[row]) > room}
        said = {row: (count(tokens, "token"), count(room, "token")) for row, tokens in large.items()}
        return {row: Answer(error=TOO_LARGE.format(tokens=a, room=b)) for row, (a, b) in said.items()}

    # -- rounds ----------------------------------------------------------------------------------------

    async def _asked(
        self, queue: list[Pack], tries: int, *, kept: bool = True, shared: bool = True
    ) -> tuple[dict[int, Answer], dict[int, str]]:
        """The answers to packs, each row asked so many times at most, and why other rows have none.

        `kept`: whether they count, or may be replaced by better ones. `shared`: whether rows that are asked for the
        first time may share a line.
        """
        found, why = dict[int, Answer](), dict[int, str]()
        fresh = len(queue)  # packs whose rows were not asked before
        self._tell(queue, [])
        for part in [*PARTS[1:tries], None]:
            pooled, halved, at = list[int](), list[Pack](), 0
            while at < len(queue):
                packs = queue[at : at + self.task.wave]
                self._again(queue[max(at, fresh) : at + len(packs)])
                first = fresh - at if shared else 0
                wave = await self._wave(packs, max(0, first), kept=kept)
                at += len(packs)
                found |= wave.found
                why |= wave.why
                pooled += wave.pooled
                halved += wave.halves
                queue += wave.rest
                self._tell([*queue[at:], *halved], pooled)
                if self.board.stopped:
                    return found, why
            if part is None or not (pooled or halved):
                break
            queue, fresh = [*halved, *pack(pooled, self.tokens, self.full.part(part))], 0
        return found, why

    def _again(self, packs: Sequence[Pack]) -> None:
        self.board.add(asked_again=self.board.rows(row for one in packs for row in one.rows))

    async def _wave(self, packs: Sequence[Pack], shared: int, *, kept: bool) -> _Wave:
        """What comes of packs, in the first so many of which rows may share a line."""
        read = dict[int, _Read]()

        async def take(place: int, reading: Reading) -> None:
            one = read[place] = _read(packs[place], reading, self.task.fields)
            if kept:
                await self._keep(one.found)

        prompts = [self._prompt(one, shared=place < shared) for place, one in enumerate(packs)]
        await self.ask(prompts, take)
        self.board.add(calls=len(packs))
        wave = _Wave()
        for place in range(len(packs)):
            wave.add(read[place])
            self.roomy = self.roomy or read[place].reading.cut
        self.waves += 1
        self.barren = 0 if wave.found else self.barren + len(packs)
        self.fruitful = self.fruitful or bool(wave.found)
        self.board.stopped = wave.stopped or self._given_up(wave)
        return wave

    def _given_up(self, wave: _Wave) -> str:
        """Why it is of no use to go on, or ''."""
        begun = not self.fruitful and self.waves >= BARREN
        if not begun and self.barren < BARREN * self.task.wave:
            return ""
        return NONE_VALID.format(packs=count(self.barren, "prompt"), why=wave.began)

    def _prompt(self, one: Pack, *, shared: bool) -> Prompt:
        texts = [self.rows.texts[row] for row in one.rows]
        most = self.task.reply_tokens
        room = most if self.roomy else self.sizes.reply(len(one.rows), most)
        if self.task.window is not None:
            used = self.sizes.head + sum(self.tokens[row] for row in one.rows)
            room = max(1, min(room, self.task.window - used))
        told = messages(self.task, texts, shared=shared and self.turn == "first")
        return Prompt(told, room, self.reader.model, one.rows)

    async def _keep(self, found: Mapping[int, Answer]) -> None:
        await self.memo.keep({self._key(row): answer.values for row, answer in found.items()})
        if self.turn == "first":
            self.board.add(done=self.board.rows(found))

    def _tell(self, queue: Sequence[Pack], pooled: Sequence[int]) -> None:
        """Say how far it is, and what is to come: the packs of this reading, and its share again for the next one."""
        rows = [*pooled, *(row for one in queue for row in one.rows)]
        tokens = sum(self.tokens[row] for row in rows)
        pooled_tokens = sum(self.tokens[row] for row in pooled)
        later_rows, later_tokens = self.later
        calls = len(queue) + full_packs(len(pooled), pooled_tokens, self.full)
        calls += full_packs(later_rows, later_tokens, self.full)
        prompt_tokens = tokens + later_tokens + calls * self.sizes.head
        reply_tokens = self.sizes.line * (len(rows) + later_rows)
        self.board.to_come(self.reader.model, calls, prompt_tokens, reply_tokens)

    # -- calibration -----------------------------------------------------------------------------------

    async def _calibrated(self, rows: Sequence[int]) -> dict[int, Answer]:
        """Take the size of packs that stands its trial: the answers that were read in packs of no more than it."""
        tokens = sum(self.tokens[row] for row in rows)
        rows_a_pack = len(rows) / max(1, full_packs(len(rows), tokens, self.full))
        smaller = [self.full.part(share) for share in calibrating.shares(rows_a_pack)]
        sizes, quarter = [self.full, *smaller], self.full.part(calibrating.LOOK)
        wanted = calibrating.sampled(len(rows), rows_a_pack)
        packs = calibrating.trial(rows, self.tokens, self.full, wanted)
        whole = [row for one in packs for row in one.rows]
        drawn = calibrating.spaced(whole, wanted)
        shuffled = sample({row: self.rows.keys[row] for row in drawn}, 1.0)
        read, third = [await self._tried(packs)], dict[int, Answer]()
        look = await self._tried(pack(shuffled, self.tokens, quarter)) if smaller else {}
        if smaller == [quarter]:
            read.append(look)
        elif calibrating.apart(self.task.fields, [read[0], look], drawn):  # size matters
            for size, again in zip(smaller, (shuffled, whole), strict=False):
                read.append(await self._tried(pack(again, self.tokens, size)))
                if not calibrating.apart(self.task.fields, read, drawn):
                    break
        if differing := calibrating.apart(self.task.fields, read, drawn):
            third = await self._tried(pack(differing, self.tokens, sizes[-1]), shared=False)
        stopped = bool(self.board.stopped)  # then what was read is all there will be
        taken = 0 if stopped else calibrating.largest(self.task.fields, read, third, drawn)
        self.full = sizes[taken]
        readings = [*read[taken:], third] if taken else [look, *read, third]
        good = {row: answer for answers in readings for row, answer in answers.items()}
        await self._keep(good)
        return good

    async def _tried(self, packs: Sequence[Pack], *, shared: bool = True) -> dict[int, Answer]:
        """What packs on trial answer, asked once; nothing where no more may be asked."""
        if self.board.stopped:
            return {}
        return (await self._asked(list(packs), 1, kept=False, shared=shared))[0]
