"""How two runs differ: question, answer, claims, branches entered, steps side by side, where they part, cost.

From the events alone, so that two runs of different indexes, models or versions can be held against each other; a trace
without an end is read as far as it goes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Literal, TypeAlias

from index_store.terminal import count, one_line
from index_store.types import Json
from rlm.audit.claims import Claim, counted, in_words
from rlm.audit.costs import costs, in_dollars
from rlm.audit.events import RecordedEvent
from rlm.audit.maps import PACKS, MapEvents, is_one_map, map_in_words, maps_of
from rlm.audit.pairs import pairs_of
from rlm.audit.routing import Branch, branches
from rlm.gateway.types import Usage

Side: TypeAlias = Literal["both", "a", "b"]
#: Steps of a run that are held against those of another; a longer run is compared up to here.
MOST_STEPS = 1_000
_SHOWN = 60  # lines of steps in a text, from a little before the first that differs


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the root of a run did, from event `seq` on: a verb with its `arguments`, a "cell" with its code, a
    call, an answer. `result`: what came of it, as text; '' where nothing is recorded."""

    seq: int
    verb: str
    arguments: str
    result: str = ""


@dataclass(frozen=True, slots=True)
class Aligned:
    """A step of both runs, the same verb with the same arguments, or of one that has none beside it in the other."""

    side: Side
    a: Step | None
    b: Step | None

    @property
    def is_same(self) -> bool:
        """Whether both took the step, and the same came of it."""
        return self.a is not None and self.b is not None and self.a.result == self.b.result


@dataclass(frozen=True, slots=True)
class Run:
    """One side: what a run was asked, said, claimed, entered and cost. `stored`: rows and replies from the store."""

    question: str
    answer: str | None
    stop: str
    claims: Sequence[Claim]
    branches: Sequence[Branch]
    steps: Sequence[Step]
    usage: Usage
    seconds: float
    events: int
    is_closed: bool
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Two runs, with their steps aligned. `parting`: the next step of each where they part, None where they do not."""

    a: Run
    b: Run
    steps: Sequence[Aligned]
    parting: Aligned | None

    @property
    def is_same(self) -> bool:
        """Whether both asked the same, took the same steps and came to the same answer and claims, wherever the replies
        came from."""
        a, b = self.a, self.b
        nodes = [[branch.node for branch in run.branches] for run in (a, b)]
        told = [(run.question, run.answer, list(run.claims), run.stop) for run in (a, b)]
        return told[0] == told[1] and nodes[0] == nodes[1] and self.parting is None

    @property
    def in_words(self) -> str:
        """Whether the runs are the same, in one sentence without its stop."""
        a, b = self.a.stored, self.b.stored
        if not self.is_same:
            return "the runs differ"
        if a == b:
            return "the runs are the same"
        return (
            f"the runs are the same but for where the replies came from: A had {a:,} from the store, B {b:,}"
        )

    def as_json(self) -> dict[str, Json]:
        """The difference as the command line prints it."""
        a, b = self.a, self.b
        entered = [[branch.node for branch in run.branches] for run in (a, b)]
        labels = {branch.node: branch.label for run in (b, a) for branch in run.branches}
        return {
            "same": self.is_same,
            "question": _sides(a.question, b.question),
            "answer": _sides(a.answer, b.answer) | {"stop": {"a": a.stop, "b": b.stop}},
            "claims": _sides([_claim(c) for c in a.claims], [_claim(c) for c in b.claims]),
            "branches": {
                **{name: list(nodes) for name, nodes in zip("ab", entered, strict=True)},
                "both": [node for node in entered[0] if node in set(entered[1])],
                "only_a": [node for node in entered[0] if node not in set(entered[1])],
                "only_b": [node for node in entered[1] if node not in set(entered[0])],
                "labels": labels,
            },
            "stored": _sides(a.stored, b.stored),
            "steps": [_aligned(step) for step in self.steps],
            "first_divergence": None if self.parting is None else _aligned(self.parting),
            "cost": {name: asdict(run.usage) | {"seconds": run.seconds} for name, run in (("a", a), ("b", b))}
            | {"same": a.usage == b.usage},
        }


def difference(a: Sequence[RecordedEvent], b: Sequence[RecordedEvent]) -> Difference:
    """How the runs with these events differ; each has at least one."""
    first, second = run_of(a), run_of(b)
    steps = aligned(first.steps, second.steps)
    return Difference(first, second, steps, _parting(steps))


def _parting(steps: Sequence[Aligned]) -> Aligned | None:
    """The next step of each, where the first two differ; None where none does."""
    at = next((i for i, step in enumerate(steps) if not step.is_same), None)
    if at is None or steps[at].side == "both":
        return None if at is None else steps[at]
    a = next((step.a for step in steps[at:] if step.a), None)
    b = next((step.b for step in steps[at:] if step.b), None)
    return Aligned("b" if a is None else "a" if b is None else "both", a, b)


def run_of(events: Sequence[RecordedEvent]) -> Run:
    """One side, from the events of a run; of a chat the last question that has an answer, and the steps of all."""
    pairs = pairs_of(events)
    told = next((pair for pair in reversed(pairs) if pair.answered), pairs[-1])
    paid, steps = costs(events), steps_of(events)
    last = events[-1]
    # The answer of a run that is one map tells what came from the store.
    content = steps[-1].arguments if is_one_map(events[0]) and steps else told.content
    is_closed = last["kind"] == "run_closed"
    stop = str(told.answered["stop"]) if told.answered else str(last["stop"]) if is_closed else ""
    return Run(
        " / ".join(pair.question for pair in pairs),
        content if told.answered else None,
        stop,
        told.claims,
        branches(events),
        steps,
        paid[-1].usage if paid else Usage(),
        last["time_s"],
        len(events),
        is_closed,
        0 if "parent" in events[0] else sum(map(_stored, events)),  # a fork has replies from its record
    )


def _stored(event: RecordedEvent) -> int:
    if event["kind"] == "map_returned":
        return int(event["stored"])
    return int(event["kind"] == "model_answered" and event["cached"])


def steps_of(events: Sequence[RecordedEvent]) -> list[Step]:
    """What the root did, in order, MOST_STEPS at most."""
    steps: list[Step] = []
    begun: dict[str, int] = {}  # where the step is whose result a later event tells
    maps = {one.called["seq"]: one for one in maps_of(events)}
    for event in events:
        kind = event["kind"]
        if event["conversation"] != "0":
            continue
        began, results = _ENDS.get(kind, ("", ()))
        if began in begun:
            at = begun.pop(began)
            steps[at] = replace(steps[at], result=_text([event.get(name) for name in results]))
        if len(steps) >= MOST_STEPS or (kind == "child_called" and event["verb"] in PACKS):
            continue
        if kind in ("code_scanned", "child_called", "reduce_called"):
            begun[kind] = len(steps)
        if kind == "map_called":
            steps.append(_map(maps[event["seq"]]))
        elif kind == "answered" and is_one_map(events[0]) and steps and steps[-1].seq in maps:
            steps.append(Step(event["seq"], "answer", steps[-1].result.partition("\n")[0]))
        elif kind in _STEPS:
            steps.append(_STEPS[kind](event))
    return steps


def _map(one: MapEvents) -> Step:
    """A map is one step: what each row was asked, and the answer of each, whichever call or store gave it."""
    called = one.called
    told = [called[name] for name in ("question", "columns", "rows", "model")]
    answers = [[row["row"], row.get("values"), row.get("error")] for row in one.answers]
    counted = {**one.returned, "asked_again": 0, "stored": 0} if one.returned else None
    came = f"{map_in_words(counted)}\n{_text(answers)}" if counted else ""
    return Step(called["seq"], called["verb"], _text(told), came)


#: The events that tell what came of a step: the kind of the event that began it, and the fields that do.
_ENDS = {
    "code_run": ("code_scanned", ("status", "stdout", "error")),
    "child_returned": ("child_called", ("results",)),
    "reduce_returned": ("reduce_called", ("answer", "cut", "failed")),
}
_STEPS: Mapping[str, Callable[[RecordedEvent], Step]] = {
    "code_scanned": lambda e: Step(e["seq"], "cell", e["code"]),
    "visited": lambda e: Step(
        e["seq"], f"context.{e['verb']}", _text(e["arguments"]), _text([e["result"], e.get("error")])
    ),
    "child_called": lambda e: Step(e["seq"], e["verb"], _text([e["prompts"], e["under"]])),
    "reduce_called": lambda e: Step(
        e["seq"], "llm_reduce", _text([e["question"], e["packs"], e["passages"], e["model"]])
    ),
    "model_failed": lambda e: Step(e["seq"], "failed call", e["error"]),
    "answered": lambda e: Step(e["seq"], "answer", e["content"]),
}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def aligned(a: Sequence[Step], b: Sequence[Step]) -> list[Aligned]:
    """The steps of two runs side by side: those with the same verb and arguments beside each other, all in order."""
    found: list[Aligned] = []
    numbers: dict[tuple[str, str], int] = {}
    keys = [[numbers.setdefault((s.verb, s.arguments), len(numbers)) for s in side] for side in (a, b)]
    for what, low_a, high_a, low_b, high_b in SequenceMatcher(
        None, keys[0], keys[1], autojunk=False
    ).get_opcodes():
        if what == "equal":
            found += [Aligned("both", x, y) for x, y in zip(a[low_a:high_a], b[low_b:high_b], strict=True)]
        else:
            found += [Aligned("a", x, None) for x in a[low_a:high_a]]
            found += [Aligned("b", None, y) for y in b[low_b:high_b]]
    return found


def _sides(a: Json, b: Json) -> dict[str, Json]:
    return {"same": a == b, "a": a, "b": b}


def _claim(claim: Claim) -> dict[str, Json]:
    return {"quote": claim.quote, "supported": claim.supported}


def _aligned(step: Aligned) -> dict[str, Json]:
    return {"side": step.side, "same": step.is_same, "a": _told(step.a), "b": _told(step.b)}


def _told(step: Step | None) -> Json:
    return None if step is None else {"seq": step.seq, "verb": step.verb, "arguments": step.arguments[:2_000]}


# -- as text -----------------------------------------------------------------------------------------------


def in_text(found: Difference, names: tuple[str, str] = ("A", "B")) -> str:
    """The difference as a terminal shows it."""
    return "\n".join([*_heads(found, names), *_routes(found, names), *_steps(found)])


def _heads(found: Difference, names: tuple[str, str]) -> list[str]:
    a, b = found.a, found.b
    lines = [f"A  {one_line(names[0], 200)}", f"B  {one_line(names[1], 200)}"]
    lines.append(found.in_words)
    for what, one, other in (
        ("question", a.question, b.question),
        ("answer", _answer(a), _answer(b)),
        ("claims", counted(a.claims), counted(b.claims)),
        ("cost", _cost(a), _cost(b)),
    ):
        lines += _both(what, one, other)
    for name, run, beside in (("A", a, b), ("B", b, a)):
        own = [claim for claim in run.claims if claim not in beside.claims]
        lines += [
            f"  only {name} claims ({in_words(c.supported)}): {one_line(c.quote, 160)}" for c in own[:20]
        ]
    return lines


def _both(what: str, one: str, other: str) -> list[str]:
    if one == other:
        return [f"{what:<10} {one_line(one, 300)}"]
    return [f"{what:<10} A: {one_line(one, 300)}", f"{'':<10} B: {one_line(other, 300)}"]


def _answer(run: Run) -> str:
    if run.answer is None:
        return "(none: the trace has no end)" if not run.is_closed else f"(none: {run.stop})"
    return f"{run.answer or '(empty)'} ({run.stop})"


def _cost(run: Run) -> str:
    used = run.usage
    return f"{count(used.calls, 'call')}, {count(used.tokens, 'token')}, {in_dollars(used.usd)}, {run.seconds:.1f} s"


def _routes(found: Difference, names: tuple[str, str]) -> list[str]:
    sides = [{branch.node: branch for branch in run.branches} for run in (found.a, found.b)]
    both = sides[0].keys() & sides[1].keys()
    lines = [f"branches   {len(both):,} entered by both"]
    for name, own in zip("AB", sides, strict=True):
        only = [branch for node, branch in own.items() if node not in both]
        lines += [f"  only {name}: {branch.node} {one_line(branch.label, 80)}" for branch in only[:20]]
        lines += [f"  and {len(only) - 20:,} more"] if len(only) > 20 else []
    return lines


def _steps(found: Difference) -> list[str]:
    steps = found.steps
    if found.parting is None:
        return [f"steps      {count(len(steps), 'step')}, all the same"]
    at = next(i for i, step in enumerate(steps) if not step.is_same)
    first = max(at - 2, 0)
    lines = [f"steps      {at:,} the same, then:"]
    lines += [_line(step) for step in steps[first : first + _SHOWN]]
    more = len(steps) - first - _SHOWN
    return lines + ([f"  and {more:,} more"] if more > 0 else [])


def _line(step: Aligned) -> str:
    shown = step.a or step.b
    assert shown is not None
    mark = {"both": " " if step.is_same else "≠", "a": "A", "b": "B"}[step.side]
    return f"  {mark} {shown.seq:>5}  {shown.verb}: {one_line(shown.arguments, 140)}"
