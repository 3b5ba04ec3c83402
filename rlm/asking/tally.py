"""What came of many questions together: how many were answered, what it cost, what those left may cost."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from index_store.types import Json
from rlm.asking.many import Outcome
from rlm.gateway.types import Usage

BUDGET, NOT_ASKED = "budget", "not asked"


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of questions. `before`: those that an earlier run had answered; all other counts are of this run.

    `out_of_budget` had begun when a cap was met, and `not_asked` never did. `failed`: how many for each reason.
    `stopped`: those that had not ended, or not begun, when all was stopped. `unmet`: of those answered, how many lack
    what was demanded.
    `spent`: by all. `an_answer`: what those that were answered used, on average; None where none was. `priced`: whether
    the prices of all models are known. `read_by`: who read the text, where that was no language model.
    `stored`, `cached_tokens`: as of an answer, of those that there are.
    """

    before: int
    answered: int
    out_of_budget: int
    not_asked: int
    failed: dict[str, int]
    stopped: int
    unmet: int
    spent: Usage
    an_answer: Usage | None
    priced: bool
    read_by: str
    stored: int = 0
    cached_tokens: int = 0

    @property
    def left(self) -> int:
        """How many have no answer."""
        return self.out_of_budget + self.not_asked + sum(self.failed.values()) + self.stopped

    @property
    def asked(self) -> int:
        """How many were asked and ended."""
        return self.answered + self.left - self.not_asked - self.stopped

    @property
    def needed(self) -> Usage | None:
        """What those left may need, if they are like those that were answered; None where none was, or none is left."""
        one = self.an_answer
        if one is None or not self.left:
            return None
        sizes = (one.calls, one.prompt_tokens, one.completion_tokens)
        calls, prompt, completion = (size * self.left for size in sizes)
        return Usage(calls, prompt, completion, one.usd * self.left)

    def as_json(self) -> dict[str, Json]:
        """The tally as the command line prints it: always the same fields, null where there is nothing to say."""
        return {
            "asked": self.asked,
            "answered": self.answered,
            "answered_before": self.before,
            "out_of_budget": self.out_of_budget,
            "not_asked": self.not_asked,
            "failed": self.failed,
            "stopped": self.stopped,
            "unmet": self.unmet,
            "spent": asdict(self.spent) | {"cached_tokens": self.cached_tokens, "stored": self.stored},
            "priced": self.priced,
            "read_by": self.read_by or None,
            "left": self.left,
            "estimate_for_those_left": None if self.needed is None else asdict(self.needed),
        }


def tally(outcomes: Iterable[Outcome], before: int = 0, stopped: int = 0) -> Tally:
    """The tally of these outcomes. `before`: how many more questions an earlier run had answered; `stopped`: how many
    more have no outcome, as all was stopped."""
    listed = list(outcomes)
    done = [outcome for outcome in listed if outcome.done]
    budget, unasked = ([o for o in listed if o.stop == stop] for stop in (BUDGET, NOT_ASKED))
    others = [o for o in listed if not (o.done or o.stop in (BUDGET, NOT_ASKED))]
    return Tally(
        before,
        len(done),
        len(budget),
        len(unasked),
        dict(Counter(map(_why, others)).most_common()),
        stopped,
        sum(outcome.stop == "unmet" for outcome in done),
        sum((outcome.usage for outcome in listed), Usage()),
        _average([outcome.usage for outcome in done]),
        all(outcome.answer is None or outcome.answer.priced for outcome in listed),
        next((outcome.answer.read_by for outcome in listed if outcome.answer), ""),
        sum(outcome.answer.stored for outcome in listed if outcome.answer),
        sum(outcome.answer.cached_tokens for outcome in listed if outcome.answer),
    )


def _why(outcome: Outcome) -> str:
    """Why there is no answer, without what only this question has: its trace."""
    return f"stopped by {outcome.stop}" if outcome.answer else (outcome.error or "").partition(" (trace: ")[0]


def _average(usages: list[Usage]) -> Usage | None:
    """The average, with whole calls and tokens rounded up; None of none."""
    if not usages:
        return None
    total, count = sum(usages, Usage()), len(usages)
    sizes = (total.calls, total.prompt_tokens, total.completion_tokens)
    calls, prompt, completion = (-(-size // count) for size in sizes)
    return Usage(calls, prompt, completion, total.usd / count)
