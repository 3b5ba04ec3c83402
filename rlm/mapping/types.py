"""What a map is made of: a task over rows, packs of rows, readings of them, and an answer for each row.

A row is known by its place among the texts that are given to the map, from 0; its id and its span are the caller's.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, get_args

from index_store.terminal import brief
from rlm.errors import RlmError
from rlm.gateway.models import highest_price, price
from rlm.gateway.types import Message

#: What a field of a row may be: one of its labels, a date, a number and so on.
Kind = Literal["label", "YYYY-MM-DD", "YYYY-MM", "YYYY", "number", "integer", "yes/no", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: The value of a field; None where the row does not say.
Value: TypeAlias = bool | int | float | str | None
#: The values of a row, by field, in the order of the fields.
Values: TypeAlias = Mapping[str, Value]
#: Which reading of a row: the first, a second one in other company, or that of the strong model.
Turn = Literal["first", "second", "strong"]


#: Tokens of rows in one prompt. Models err more in longer prompts, and what a prompt holds beside its rows is paid for
#: with each: so a large map begins with large packs, and finds out whether the model reads smaller ones better.
PACK_TOKENS, SMALL_PACK_TOKENS = 6_000, 1_000
#: A map is large that would fill so many large packs.
LARGE = 20


class MappingError(RlmError):
    """A map that cannot be made: one sentence that says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Field:
    """What is asked of each row. `labels`: the values that a label may have, in the order given."""

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """A model that reads packs. `identity`: what else bears on its answers, such as its address and its options."""

    model: str
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of every row, of whom, and how many rows at once.

    `strong`: reads the rows on which two readings differ. `sure`: the share of rows that is read twice, from 0 to 1.
    `pack_tokens`: tokens of rows in one prompt; None: by how many rows there are. `reply_tokens`: the most that one
    reply may have. `window`: tokens that a prompt and its reply may have together; None is no limit. `wave`: packs that
    are asked side by side. `calibrate`: whether the size of packs is tried out first; None: where there are many.

    Raises MappingError for what is out of range.
    """

    question: str
    fields: tuple[Field, ...]
    reader: Reader
    strong: Reader | None = None
    sure: float = 0.0
    pack_tokens: int | None = None
    reply_tokens: int = 4_000
    window: int | None = None
    wave: int = 64
    calibrate: bool | None = None

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise MappingError("the question is empty; say what is asked of each row")
        if not self.fields:
            raise MappingError(
                'there are no fields; give what each row is asked for, such as {"amount": "number"}'
            )
        if not _is_number(self.sure) or not 0 <= self.sure <= 1:
            raise MappingError(f"sure is {brief(self.sure)}; give a share of rows from 0 to 1")
        for name in ("pack_tokens", "reply_tokens", "wave"):
            value = getattr(self, name)
            is_auto = value is None and name == "pack_tokens"
            if not is_auto and (type(value) is not int or value < 1):
                raise MappingError(f"{name} is {brief(value)}; give a whole number from 1 on")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Pack:
    """Rows of one prompt, in its order: row `rows[i]` stands there as number `i + 1`."""

    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A pack as it is asked. `max_tokens`: of the reply. `rows`: those in it."""

    messages: tuple[Message, ...]
    max_tokens: int
    model: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of one prompt. `cut`: the reply met `max_tokens`. `error`: why there is none, '' where there is one.

    `stopped`: nothing more may be asked, as a cap was met; `error` names it. `call`: who made it, for the record.
    """

    text: str = ""
    cut: bool = False
    error: str = ""
    stopped: bool = False
    call: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The values of a row, or an error that says why there are none. `call`: the one that answered, '' where it was
    stored; `number`: which row of its pack it answered there, from 1."""

    values: Values = field(default_factory=dict)
    error: str = ""
    call: str = ""
    number: int = 0
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """An answer that may be stored. `key`: a sha256 as 64 hexadecimal digits, over all that bears on the answer."""

    row: int
    turn: Turn
    key: str


#: Is given the reading of a prompt, with its place among those that were asked.
Take: TypeAlias = Callable[[int, Reading], Awaitable[None]]


class Ask(Protocol):
    """Asks all prompts of a wave side by side, and hands over a reading of each, once, as it comes: a reply before it
    is recorded, so that its answers are stored wherever the record has it. It raises for nothing that a model or a cap
    does: that is a reading with an error."""

    async def __call__(self, prompts: Sequence[Prompt], take: Take, /) -> None: ...


class Memo(Protocol):
    """Where answers are kept."""

    async def recall(self, wanted: Sequence[Wanted], /) -> Sequence[Values | None]:
        """The values that are stored for each, in order; None where there are none. Some thousands at once."""

    async def keep(self, answers: Mapping[str, Values], /) -> None:
        """Keep values by their keys."""


class Forgetful:
    """A memo that keeps nothing."""

    async def recall(self, wanted: Sequence[Wanted], /) -> Sequence[Values | None]:
        """None for each."""
        return [None] * len(wanted)

    async def keep(self, answers: Mapping[str, Values], /) -> None:
        """Nothing is kept."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one reading of rows takes, before anything is asked. `text_tokens`: of the rows themselves; `reply_tokens`:
    with a line for each row, where rows that share lines take fewer; `most_prompt_tokens`, `most_reply_tokens`: what is
    set aside for the calls."""

    turn: Turn
    model: str
    rows: int
    calls: int
    text_tokens: int
    prompt_tokens: int
    reply_tokens: int
    most_prompt_tokens: int
    most_reply_tokens: int

    @property
    def usd(self) -> float | None:
        """Dollars, as expected; None where the model's price is not known."""
        return price(self.model, self.prompt_tokens, self.reply_tokens)

    @property
    def most_usd(self) -> float | None:
        """Dollars at most, if no call is repeated; None where the model's price is not known."""
        return highest_price(self.model, self.most_prompt_tokens, self.most_reply_tokens)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a map will take if every call succeeds. `rows`: all; `distinct`: texts that differ, as equal ones are asked
    once; `stored`: distinct ones whose answer is known already. The stage of a strong model is a guess."""

    rows: int
    distinct: int
    stored: int
    stages: tuple[Stage, ...]

    @property
    def calls(self) -> int:
        """Calls of all stages."""
        return sum(stage.calls for stage in self.stages)

    @property
    def usd(self) -> float | None:
        """Dollars of all stages, as expected; None where a price is not known."""
        return _sum(stage.usd for stage in self.stages)

    @property
    def tokens(self) -> int:
        """Tokens of all stages, as expected."""
        return sum(stage.prompt_tokens + stage.reply_tokens for stage in self.stages)

    @property
    def most_tokens(self) -> int:
        """Tokens of all stages at most, if no call is repeated."""
        return sum(stage.most_prompt_tokens + stage.most_reply_tokens for stage in self.stages)

    @property
    def most_usd(self) -> float | None:
        """Dollars of all stages at most, if no call is repeated; None where a price is not known."""
        return _sum(stage.most_usd for stage in self.stages)


def _sum(amounts: Iterable[float | None]) -> float | None:
    known = list(amounts)
    return None if None in known else sum(filter(None, known))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two readings of a row gave a field the same value: a share, with a 95 % interval, over `rows` pairs."""

    share: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows have a value, with a 95 % interval of the noise of one more reading; without second readings the
    interval is None at both ends."""

    count: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a map is. `done`: rows with an answer; `failed`: rows with an error; `asked_again`: rows that were asked
    once more, each time counted; `stored`: rows whose answer was known; `calls`: packs that were asked. What is still
    to come is estimated: `calls_to_come`, and prompt and reply tokens of these, all of `model`."""

    rows: int
    done: int = 0
    failed: int = 0
    asked_again: int = 0
    stored: int = 0
    calls: int = 0
    calls_to_come: int = 0
    prompt_tokens_to_come: int = 0
    reply_tokens_to_come: int = 0
    model: str = ""
    agreement: Mapping[str, Agreement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a map gave: an answer for each row, in order.

    `asked`: for each row, the first row with the same text; that one was asked, and the others have its answer.
    `again`: the second readings, by row; `first`: the first ones of those rows that the strong model then read, and
    whose answers are its own. `agreement`: of the second readings with the first, by field. `pack_tokens`: of the
    packs, as calibrated. `stopped`: why it ended early, such as a cap, or ''. `progress`: the last, with all counts.
    """

    fields: tuple[Field, ...]
    answers: Sequence[Answer]
    progress: Progress
    asked: Sequence[int] = ()
    again: Mapping[int, Answer] = field(default_factory=dict)
    first: Mapping[int, Answer] = field(default_factory=dict)
    agreement: Mapping[str, Agreement] = field(default_factory=dict)
    pack_tokens: int = 0
    stopped: str = ""
