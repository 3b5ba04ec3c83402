"""The choices of a run: what was on offer at a step, how an independent ranking orders it, and what was taken."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlm.audit.checking.findings import Choice, Option, Step, StepVerdict
from rlm.audit.events import RecordedEvent
from rlm.gateway.blocks import outside

#: Verbs whose result is text, not a list to choose from.
_TEXTS = frozenset(
    {"gather", "peek", "read", "slice", "text", "contains", "length", "packs", "rows", "read_rows"}
)
#: Verbs that tell where a node lies.
_LOCATING = frozenset({"parents", "path"})
_CHOICES: Mapping[str, Choice] = {
    "search": "hits",
    "grep": "hits",
    "branches": "branches",
    "areas": "branches",
}
MOST_OFFERED = 1_000  # nodes of one step that are ranked


@dataclass(frozen=True, slots=True)
class Offer:
    """What a step could be taken to. `seq`: of the event that showed it; `queries`: those in force there, the
    question of the run first; `nodes`: their ids, in the order in which they were shown."""

    seq: int
    choice: Choice
    queries: tuple[str, ...]
    nodes: tuple[str, ...]
    entered: tuple[str, ...] = ()


def prompts_of(run: Sequence[RecordedEvent]) -> dict[str, str]:
    """What each child of a run was asked, without the passages in it, by the id of its conversation."""
    return {
        child: outside(prompt)
        for event in run
        if event["kind"] == "child_called"
        for child, prompt in zip(event["children"], event["prompts"], strict=False)
    }


def offers_of(question: str, events: Sequence[RecordedEvent], prompts: Mapping[str, str]) -> Iterator[Offer]:
    """The choices among the events of a question, in order; `prompts`: as from `prompts_of`."""
    listed: set[str] = set()
    for event in events:
        if event["kind"] != "visited" or event.get("error"):
            continue
        own = event["arguments"].get("query") or event["arguments"].get("question")
        asked = (question, prompts.get(event["conversation"]), own)
        queries = tuple(dict.fromkeys(one for one in asked if isinstance(one, str) and one.strip()))
        beside = [ref["node"] for ref in event["not_taken"] if ref["node"]]
        entered = [node for node in _named(event) if node not in beside]
        if beside and entered and not listed & {*beside} and _level(entered[0]) > 0:
            yield Offer(event["seq"], "siblings", queries, _first([*entered, *beside]), tuple(entered))
        nodes = [] if event["verb"] in _TEXTS | _LOCATING else _listed(event)
        listed.update(nodes)
        if len(nodes) > 1:
            yield Offer(event["seq"], _CHOICES.get(event["verb"], "children"), queries, _first(nodes))


def _first(nodes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(nodes))[:MOST_OFFERED]


def _listed(event: RecordedEvent) -> list[str]:
    """The nodes that a list showed; of `branches` the branches alone, of `overview` the children of what it is of."""
    shown = [ref for ref in event["shown"] if ref["node"]]
    if event["verb"] == "branches" and isinstance(event["result"], list):
        named = {item.get("node") for item in event["result"] if isinstance(item, dict)}
        shown = [ref for ref in shown if ref["node"] in named]
    if event["verb"] == "overview":
        shown = shown[1:]
    return [ref["node"] for ref in shown]


def _named(event: RecordedEvent) -> list[str]:
    """The nodes that an event names as arguments, or peeked at."""
    values = [event["arguments"].get(name) for name in ("node", "under")]
    each = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in each if isinstance(one, str)]


def _level(node: str) -> int:
    level = node[1 : node.find("-")] if node[:1] == "L" else ""
    return int(level) if level.isascii() and level.isdigit() and len(level) < 4 else 0


def judged(
    offer: Offer,
    masses: Mapping[str, Callable[[str], float]],
    is_taken: Callable[[str], bool],
    *,
    most_regret: float,
    least_on_offer: float,
    ranked_by: str,
    labels: Mapping[str, str] = {},
) -> Step:
    """The step of an offer, by the one of its queries that speaks best for what was taken.

    `masses`: for each query what share of all evidence a node holds. A step whose options together hold less than
    `least_on_offer` of the evidence cannot be judged.
    """
    steps = [
        _by(offer, query, masses[query], is_taken, most_regret, least_on_offer, ranked_by)
        for query in offer.queries
        if query in masses
    ]
    told = [step for step in steps if step.verdict != "cannot tell"]
    return min(told or steps, key=lambda step: (step.rank or step.of + 1, step.regret or 0.0))


def _by(
    offer: Offer,
    query: str,
    mass: Callable[[str], float],
    is_taken: Callable[[str], bool],
    most_regret: float,
    least_on_offer: float,
    ranked_by: str,
) -> Step:
    held = {node: mass(node) for node in offer.nodes}
    total = sum(held.values())
    options = sorted(
        (
            Option(node, one / total if total else 0.0, node in offer.entered or is_taken(node))
            for node, one in held.items()
        ),
        key=lambda option: -option.mass,
    )
    best = next((option for option in options if option.taken), None)
    passed = next((option for option in options if not option.taken), None)
    rank = None if best is None else 1 + sum(option.mass > best.mass for option in options)
    regret = 0.0 if passed is None else max(passed.mass - (best.mass if best else 0.0), 0.0)
    verdict, why = _verdict(best, passed, rank, len(options), regret, total, most_regret, least_on_offer)
    known = verdict != "cannot tell"
    return Step(
        offer.seq,
        offer.choice,
        best.node if best else None,
        rank,
        len(options),
        round(regret, 4) if known or total else None,
        verdict,
        f"{why}{ranked_by}",
        query,
        tuple(options),
    )


def _verdict(
    best: Option | None,
    passed: Option | None,
    rank: int | None,
    of: int,
    regret: float,
    total: float,
    most_regret: float,
    least_on_offer: float,
) -> tuple[StepVerdict, str]:
    if total < least_on_offer:
        return (
            "cannot tell",
            f"only {_percent(total)} of the evidence was on offer here, too little to judge by",
        )
    if best is None:
        told = (
            f"none of the {of} on offer was entered; {passed.node} holds {_percent(passed.mass)}"
            if passed
            else ""
        )
        return ("questionable" if regret > most_regret else "reasonable"), f"{told} of the evidence on offer"
    told = f"{best.node} ranks {rank} of {of} with {_percent(best.mass)} of the evidence on offer"
    if passed is None:
        return "reasonable", f"{told}, and nothing was passed by"
    beside = f"{passed.node}, the best that was passed by, holds {_percent(passed.mass)}"
    return ("questionable" if regret > most_regret else "reasonable"), f"{told}; {beside}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
