"""What a map will take, before anything is asked: which texts differ, how large packs may be, how many calls it is."""

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from index_store.terminal import count
from rlm.gateway.models import most_prompt_tokens
from rlm.gateway.tokens import count_tokens
from rlm.mapping.certainty import sample
from rlm.mapping.fields import Malformed, line_tokens, read_values
from rlm.mapping.packing import Size, pack
from rlm.mapping.types import (
    LARGE,
    PACK_TOKENS,
    SMALL_PACK_TOKENS,
    MappingError,
    Memo,
    Plan,
    Reader,
    Stage,
    Task,
    Turn,
    Values,
    Wanted,
)
from rlm.mapping.wording import asked, head_tokens, row_tokens

#: Of English, rather few.
CHARS_A_TOKEN = 3
#: The share of a model's window that the rows of a pack may fill, where it is small.
OF_WINDOW = 0.4
#: Rows whose answers are recalled at once.
RECALLED = 5_000
#: A reply has room for more than its lines should take: by this factor, and by some tokens.
MARGIN, SPARE = 1.5, 64
#: Rows of a pack are so many that their lines, this much longer than they should be, fit into a reply.
ROOM = 1.2
#: The share of rows on which two readings differ, where a plan has to guess it.
DIFFER = 0.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one task and one model, in tokens: `head`, a prompt without rows; `line`, a row's line of a reply; and what a
    full pack holds."""

    head: int
    line: int
    full: Size

    def reply(self, rows: int, most: int) -> int:
        """Tokens that a reply on so many rows is given."""
        return min(most, math.ceil(rows * self.line * MARGIN) + SPARE)


def sizes(task: Task, reader: Reader) -> Sizes:
    """The sizes of prompts and replies. Raises MappingError where not one row can be asked about."""
    head, line = head_tokens(reader.model, task), line_tokens(reader.model, task.fields)
    rows = math.floor(task.reply_tokens / (line * ROOM))
    if not rows:
        raise MappingError(
            f"a reply of {count(task.reply_tokens, 'token')} has no room for one row, whose fields take {line}; "
            "allow longer replies or ask for fewer fields"
        )
    tokens = PACK_TOKENS if task.pack_tokens is None else task.pack_tokens
    if task.window is not None:
        tokens = min(tokens, task.window - head - task.reply_tokens)
    if tokens < 1:
        raise MappingError(
            f"the model's window of {count(task.window or 0, 'token')} has no room for rows beside the question "
            f"({head}) and a reply ({task.reply_tokens:,}); allow shorter replies or take another model"
        )
    return Sizes(head, line, Size(tokens, rows))


class Keys:
    """The keys of the answers that one model gives to one task."""

    def __init__(self, task: Task, reader: Reader) -> None:
        words = "\0".join([asked(task), reader.model, reader.identity])
        self._asked = hashlib.sha256(words.encode("utf-8", "surrogatepass"))

    def of(self, text: str, turn: Turn = "first") -> str:
        """The key of one row. What a strong model reads is its first reading, for whichever map."""
        whole = self._asked.copy()
        again = b"second" if turn == "second" else b"first"
        whole.update(b"\0" + again + b"\0" + text.encode("utf-8", "surrogatepass"))
        return whole.hexdigest()


def key(task: Task, text: str, turn: Turn = "first") -> str:
    """The sha256, as 64 hexadecimal digits, of all that bears on the answer of a row with that text: the words of the
    prompt, the question and fields, the model with its identity, the reading, the text."""
    reader = task.strong if turn == "strong" and task.strong else task.reader
    return Keys(task, reader).of(text, turn)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task over texts, for a plan and for the map that goes on with it. `task`: with the size of its packs. `asked`:
    for each row the first with the same text; `keys`: of those first ones, by row, to draw them by; `times`: how often
    the text of each stands."""

    task: Task
    texts: Sequence[str]
    asked: Sequence[int]
    keys: Mapping[int, str]
    times: Mapping[int, int]
    _tokens: dict[str, dict[int, int]] = field(default_factory=dict)

    def tokens(self, rows: Iterable[int], model: str) -> dict[int, int]:
        """Tokens that each row takes in its pack; each is counted once."""
        known = self._tokens.setdefault(model, {})
        listed = list(rows)
        known |= {row: row_tokens(model, self.texts[row]) for row in listed if row not in known}
        return {row: known[row] for row in listed}


def prepare(task: Task, texts: Sequence[str]) -> Prepared:
    """A task over texts, of which equal ones are asked about once.

    Their keys leave the identity of the model out: by them rows are drawn, and a replay, which may run where the model
    has another address or none, must draw the same.
    """
    keys, firsts, same = Keys(task, Reader(task.reader.model)), dict[str, int](), array("q")
    for row in range(len(texts)):
        same.append(firsts.setdefault(keys.of(texts[row]), row))
    chars = sum(len(texts[row]) for row in firsts.values())
    return Prepared(
        _sized(task, chars), texts, same, {row: key for key, row in firsts.items()}, Counter(same)
    )


async def recalled(task: Task, wanted: Sequence[Wanted], memo: Memo) -> dict[int, Values]:
    """What is stored of what is wanted, by row. Values that the fields do not allow are none: a store may be old, or a
    stranger's."""
    found = dict[int, Values]()
    for at in range(0, len(wanted), RECALLED):
        page = wanted[at : at + RECALLED]
        for one, values in zip(page, await memo.recall(page), strict=True):
            if values is not None and (known := _allowed(task, values)) is not None:
                found[one.row] = known
    return found


def _allowed(task: Task, values: Values) -> Values | None:
    try:
        return read_values(task.fields, values)
    except Malformed:
        return None


def share_read_twice(task: Task) -> float:
    """The share of rows that is read twice: a cascade compares two readings of all, unless told otherwise."""
    return task.sure or float(task.strong is not None)


def _sized(task: Task, chars: int) -> Task:
    """The task with the size of its packs, by the characters that are to be asked about, where it is not given."""
    if task.pack_tokens is not None:
        return task
    is_large = chars > LARGE * PACK_TOKENS * CHARS_A_TOKEN
    tokens = PACK_TOKENS if is_large or task.calibrate else SMALL_PACK_TOKENS
    if task.window is not None:
        tokens = min(tokens, max(1, int(task.window * OF_WINDOW)))
    return replace(task, pack_tokens=tokens, calibrate=is_large if task.calibrate is None else task.calibrate)


async def plan(prepared: Prepared, memo: Memo | None = None) -> Plan:
    """What a map will take if every call succeeds and nothing is calibrated. `memo`: has answers; None: none is known.

    Raises MappingError where not one row can be asked about.
    """
    task, rows = prepared.task, prepared.keys
    drawn = sample(rows, share_read_twice(task))
    first = await _stage(prepared, "first", task.reader, list(rows), memo)
    stages = [first] if first.rows else []
    if drawn and (second := await _stage(prepared, "second", task.reader, drawn, memo)).rows:
        stages.append(second)
    if task.strong is not None and drawn:
        guess = drawn[: math.ceil(DIFFER * len(drawn))]
        stages.append(await _stage(prepared, "strong", task.strong, guess, memo))
    return Plan(len(prepared.texts), len(rows), len(rows) - first.rows, tuple(stages))


async def _stage(
    prepared: Prepared, turn: Turn, reader: Reader, rows: Sequence[int], memo: Memo | None
) -> Stage:
    task, texts = prepared.task, prepared.texts
    keys, size = Keys(task, reader), sizes(task, reader)
    stored: Mapping[int, Values] = {}
    if memo is not None:
        stored = await recalled(task, [Wanted(row, turn, keys.of(texts[row], turn)) for row in rows], memo)
    left = [row for row in rows if row not in stored]
    tokens = prepared.tokens(left, reader.model)
    packs = pack(left, tokens, size.full)
    return Stage(
        turn,
        reader.model,
        rows=len(left),
        calls=len(packs),
        text_tokens=sum(count_tokens(reader.model, texts[row]) for row in left),
        prompt_tokens=sum(tokens.values()) + size.head * len(packs),
        reply_tokens=size.line * len(left),
        most_prompt_tokens=sum(
            most_prompt_tokens(reader.model, sum(tokens[row] for row in one.rows) + size.head)
            for one in packs
        ),
        most_reply_tokens=sum(size.reply(len(one.rows), task.reply_tokens) for one in packs),
    )
