"""A simulated model that reads rows, and errs as models do: more in longer prompts, and more on some rows.

It knows the true label of each row, and misreads it with the chance that `CURVE` gives for the tokens of its prompt
(between its points a line over the logarithm of the tokens), times the weight of the row. One row in ten is hard, and
misread 11 times as often as the others; the mean weight is 1, and no row is misread more often than 9 times of 10. Of
the misreadings 80 in 100 give the row's own second label, the same in every reading, and the others any wrong one. A
row is passed over a quarter as often as it is misread, where rows share lines as often as that; and one reply in 100 is
prose instead of what was asked for. That lists of rows are misread no more often than lines is taken for granted.
All of this is by a hash of the row and of the whole prompt: the same prompt is read the same way, and other company is
another chance. It adds without error, and it is charged no reasoning tokens.
"""

import bisect
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rlm.gateway.blocks import unquote
from rlm.gateway.tokens import count_tokens, truncate
from rlm.gateway.types import Message
from rlm.mapping.types import Prompt, Reading, Take
from rlm.prompts import MAP_SHARED

#: The share of rows misread, by the tokens of the prompt.
Curve: TypeAlias = Sequence[tuple[int, float]]
CURVE: Curve = ((250, 0.005), (1_000, 0.01), (4_000, 0.03), (16_000, 0.08), (64_000, 0.25), (256_000, 0.5))
#: Models that bear long prompts better, and worse.
EVEN: Curve = ((6_000, 0.005), (16_000, 0.08), (64_000, 0.25), (256_000, 0.5))
STEEP: Curve = ((400, 0.005), (1_000, 0.04), (4_000, 0.15), (16_000, 0.4), (64_000, 0.6))
#: It never errs.
NEVER: Curve = ((1, 0.0),)
#: The weights of hard rows and of the others, and how many are hard; what a chance is at most; misreadings in 100 that
#: give the row's second label.
HARD, EASY, HARD_ONES, MOST, SECOND = 5.5, 0.5, 0.1, 0.9, 80
#: Rows passed over for one misread, and where they share lines; replies that are prose.
DROPPED, DROPPED_OF_LISTS, STRAY = 0.25, 1.0, 0.01
#: Tokens of a prompt with its reply.
WINDOW = 272_000
#: Dollars for a million tokens of prompts, and of replies; the strong model errs a third as often.
CHEAP, STRONG = "gpt-5-mini", "gpt-5"
USD = {CHEAP: (0.25, 2.0), STRONG: (1.25, 10.0)}
ERRS = {CHEAP: 1.0, STRONG: 1 / 3}
PROSE = "Here is a short overview of the rows, most of which speak for themselves."


@dataclass(frozen=True, slots=True)
class Spent:
    """What readings took."""

    calls: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Of prompts and replies."""
        return self.prompt_tokens + self.reply_tokens

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.reply_tokens + other.reply_tokens,
            self.usd + other.usd,
        )


@dataclass(frozen=True, slots=True)
class Faults:
    """What else goes wrong, as shares: of calls that fail and of replies that are cut; of rows that a reply leaves out,
    names twice, or names by a number that there is not."""

    failed: float = 0.0
    cut: float = 0.0
    dropped: float = 0.0
    doubled: float = 0.0
    foreign: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt as far as it bears on how rows are read: whose, its tokens, and a hash of all that stands in it."""

    model: str
    tokens: int
    company: bytes

    @classmethod
    def of(cls, model: str, messages: Sequence[Message]) -> "Asked":
        """From its messages."""
        words = "\0".join(message["content"] for message in messages).encode("utf-8", "surrogatepass")
        return cls(model, count_tokens(model, messages), hashlib.blake2b(words, digest_size=16).digest())


def errs(tokens: int, curve: Curve = CURVE) -> float:
    """The share of rows that is misread in a prompt of so many tokens; below and beyond the curve, as at its end."""
    at = bisect.bisect_left(curve, (tokens, 0.0))
    if at in (0, len(curve)):
        return curve[max(at - 1, 0)][1]
    (low, one), (high, other) = curve[at - 1], curve[at]
    return one + (other - one) * math.log(tokens / low) / math.log(high / low)


def folded(line: str) -> str:
    """A row without what a prompt may change of it: breaks and blanks."""
    return " ".join(line.split())


def chances(words: str, company: bytes) -> tuple[float, float, float]:
    """Three numbers from 0 to 1 by hash."""
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), key=company, digest_size=12).digest()
    return tuple(int.from_bytes(digest[at : at + 4], "big") / 2**32 for at in (0, 4, 8))  # type: ignore[return-value]


@dataclass
class Child:
    """The model, over rows whose labels it knows. `truth`: of each row as `folded`. `curve`: by which it errs;
    `faults`: what goes wrong besides. `blanks`: whether its replies have blanks between names and values; `shares`:
    whether rows of the same label share a line of them where they may; `spent`: so far."""

    truth: Mapping[str, str]
    labels: Sequence[str]
    name: str = "label"
    curve: Curve = CURVE
    faults: Faults = Faults()
    blanks: bool = True
    shares: bool = True
    spent: Spent = Spent()
    _natures: dict[str, tuple[float, str]] = field(default_factory=dict)

    # -- what it reads ---------------------------------------------------------------------------------------

    def read(self, asked: Asked, lines: Sequence[str], dropped: float = DROPPED) -> list[str | None]:
        """The label of each row that stands in the prompt, as it is read; None for one that is passed over, `dropped`
        times as often as one is misread."""
        chance = errs(asked.tokens, self.curve) * ERRS[asked.model]
        return [self._label(line, chance, chance * dropped, asked.company) for line in map(folded, lines)]

    def strays(self, asked: Asked) -> bool:
        """Whether the reply is prose."""
        return self.curve != NEVER and chances("stray", asked.company)[0] < STRAY

    def _label(self, line: str, chance: float, dropped: float, company: bytes) -> str | None:
        wrong, which, left_out = chances(line, company)
        if left_out < dropped:
            return None
        weight, second = self._nature(line)
        if wrong >= min(MOST, chance * weight):
            return self.truth[line]
        if which * 100 < SECOND:
            return second
        others = [label for label in self.labels if label != self.truth[line]]
        return others[int((which * 100 - SECOND) / (100 - SECOND) * len(others))]

    def _nature(self, line: str) -> tuple[float, str]:
        if line not in self._natures:
            hard, second, _ = chances(line, b"nature")
            others = [label for label in self.labels if label != self.truth[line]]
            self._natures[line] = (HARD if hard < HARD_ONES else EASY, others[int(second * len(others))])
        return self._natures[line]

    def charge(self, asked: Asked, reply: str) -> None:
        """Count a call."""
        got, (price, price_of_replies) = count_tokens(asked.model, reply), USD[asked.model]
        self.spent += Spent(1, asked.tokens, got, (asked.tokens * price + got * price_of_replies) / 1e6)

    # -- as a map asks it ------------------------------------------------------------------------------------

    async def __call__(self, prompts: Sequence[Prompt], take: Take, /) -> None:
        """Hand over a reading of each pack of a map."""
        for place, prompt in enumerate(prompts):
            await take(place, self._reading(prompt))

    def _reading(self, prompt: Prompt) -> Reading:
        again = str(self.spent.calls).encode()  # a fault is of one call, not of its prompt
        asked = Asked.of(prompt.model, prompt.messages)
        failed, cut, where = chances("call", again)
        if failed < self.faults.failed:
            return self._answered(asked, Reading(error="the provider answered 503"))
        reply = PROSE if self.strays(asked) else self._lines(asked, prompt, again)
        if cut < self.faults.cut:
            return self._answered(asked, Reading(reply[: int(where * len(reply))], cut=True))
        whole = truncate(reply, prompt.max_tokens)
        return self._answered(asked, Reading(whole, cut=len(whole) < len(reply)))

    def _answered(self, asked: Asked, reading: Reading) -> Reading:
        self.charge(asked, reading.text)
        return replace(reading, call=str(self.spent.calls))

    def _lines(self, asked: Asked, prompt: Prompt, again: bytes) -> str:
        rows = rows_in(prompt.messages[-1]["content"])
        shares = self.shares and prompt.messages[0]["content"] == MAP_SHARED
        labels = self.read(asked, rows, DROPPED_OF_LISTS if shares else DROPPED)
        told: list[tuple[int, str]] = []
        for number, label in enumerate(labels, 1):
            dropped, doubled, foreign = chances(str(number), again)
            if label is not None and dropped >= self.faults.dropped:
                named = number + len(rows) if foreign < self.faults.foreign else number
                told += [(named, label)] * (2 if doubled < self.faults.doubled else 1)
        lists = (
            (sorted(n for n, of in told if of == label), label) for label in dict.fromkeys(labels) if label
        )
        between = (", ", ": ") if self.blanks else (",", ":")
        return "\n".join(
            json.dumps({"row": named, self.name: label}, separators=between)
            for named, label in (lists if shares else told)
        )


def rows_in(prompt: str) -> list[str]:
    """The rows of a map's prompt, in order: an indented line goes on with its row."""
    (block,) = unquote(prompt)
    rows: list[str] = []
    for line in block.text.split("\n"):
        if line.startswith(" "):
            rows[-1] += "\n" + line[1:]
        else:
            rows.append(line.partition(": ")[2])
    return rows
