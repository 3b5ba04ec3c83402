"""A child that answers the rows of a pack by a rule, and can be made to fail in the ways that real ones do."""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm.gateway.blocks import unquote
from rlm.mapping.types import Prompt, Reading, Take, Values, Wanted
from rlm.prompts import MAP, MAP_SHARED
from tests.helpers.model_server import Step

Rule = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong: of calls and replies, then of rows."""

    failed: float = 0.0
    cut: float = 0.0
    cut_untold: float = 0.0
    dropped: float = 0.0
    doubled: float = 0.0
    foreign: float = 0.0
    wrong: float = 0.0


def asks_about_rows(body: Mapping[str, Any]) -> bool:
    """Whether a request is a pack of a map."""
    return body["messages"][0]["content"] in (MAP, MAP_SHARED)


def rows_in(prompt: str) -> dict[int, str]:
    """The rows of a prompt by their number, as a reader sees them: a line that is indented goes on with its row."""
    (block,) = unquote(prompt)
    rows: dict[int, str] = {}
    for line in block.text.split("\n"):
        if begun := re.fullmatch(r"(\d+): (.*)", line, re.DOTALL):
            rows[int(begun[1])] = begun[2]
        else:
            assert line.startswith(" "), "a row has begun a line of its own"
            rows[max(rows)] += "\n" + line[1:]
    return rows


def reply_to(messages: Sequence[Mapping[str, Any]], rule: Rule, faults: Faults, chance: random.Random) -> str:
    """What a child replies, whole: one JSON object a line, but for its faults; a line for all rows of the same answer
    where the prompt allows it."""
    rows, told = rows_in(messages[-1]["content"]), list[tuple[int, str]]()
    for number, text in rows.items():
        values = dict(rule(text))
        if chance.random() < faults.dropped:
            continue
        if chance.random() < faults.foreign:
            number = chance.choice([0, -3, len(rows) + number, 10**9])
        if chance.random() < faults.wrong:
            values[chance.choice(list(values))] = chance.choice([[1], {"a": 2}, "\ud800", 1e400])
        told += [(number, json.dumps(values))] * (2 if chance.random() < faults.doubled else 1)
    if messages[0]["content"] == MAP_SHARED:
        lists = {values: [number for number, other in told if other == values] for _, values in told}
        return "\n".join(f'{{"row": {numbers}, {values[1:]}' for values, numbers in lists.items())
    return "\n".join(f'{{"row": {number}, {values[1:]}' for number, values in told)


class Child:
    """Asks no one: it answers by the rule. `prompts`: all that it was asked, in order."""

    def __init__(self, rule: Rule, faults: Faults | None = None, seed: int = 0) -> None:
        self.rule, self.faults, self.chance = rule, faults or Faults(), random.Random(seed)
        self.prompts: list[Prompt] = []

    async def __call__(self, prompts: Sequence[Prompt], take: Take, /) -> None:
        for place, reading in enumerate([self.read(prompt) for prompt in prompts]):
            await take(place, reading)

    def read(self, prompt: Prompt) -> Reading:
        """One reading."""
        self.prompts.append(prompt)
        call = f"0.{len(self.prompts)}"
        if self.chance.random() < self.faults.failed:
            return Reading(error="the provider answered 500", call=call)
        text = reply_to(prompt.messages, self.rule, self.faults, self.chance)
        told, untold = self.chance.random() < self.faults.cut, self.chance.random() < self.faults.cut_untold
        if told or untold:
            text = text[: self.chance.randrange(len(text) + 1)]
        return Reading(text, cut=told, call=call)

    @property
    def rows(self) -> int:
        """Rows that it was asked about, each time counted."""
        return sum(len(prompt.rows) for prompt in self.prompts)


@dataclass
class Kept:
    """A memo that is a dict."""

    values: dict[str, Values] = field(default_factory=dict)

    async def recall(self, wanted: Sequence[Wanted], /) -> list[Values | None]:
        """What is kept of each."""
        return [self.values.get(one.key) for one in wanted]

    async def keep(self, answers: Mapping[str, Values], /) -> None:
        """Keep them."""
        self.values |= answers


def row_script(
    rule: Rule, faults: Faults | None = None, seed: int = 0
) -> Callable[[Mapping[str, Any]], Step]:
    """The script of a server (tests/helpers/model_server.py) that answers packs as `Child` does, by the prompt alone:
    the same prompt in another order of arrival has the same faults, and one that is tried again has others."""
    asked: dict[str, int] = {}
    wanted = faults or Faults()

    def script(body: Mapping[str, Any]) -> Step:
        prompt = body["messages"][-1]["content"]
        asked[prompt] = asked.get(prompt, 0) + 1
        chance = random.Random(f"{seed} {asked[prompt]} {prompt}")
        if chance.random() < wanted.failed:
            return Step("scripted error", status=500)
        text = reply_to(body["messages"], rule, wanted, chance)
        told, untold = chance.random() < wanted.cut, chance.random() < wanted.cut_untold
        if told or untold:
            text = text[: chance.randrange(len(text) + 1)]
        return Step(text.encode("utf-8", "replace").decode(), finish_reason="length" if told else "stop")

    return script
