"""Which branches of the tree a run entered, and what else was on offer, from its events alone."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rlm.audit.events import Event

Standing: TypeAlias = Literal["cited", "entered", "seen", "passed"]

#: Verbs that open what they show; the others list it, and what is listed is only on offer.
_OPENING = frozenset({"peek", "read"})
#: Arguments that are words, not places: a query that happens to read like a node id enters nothing.
_WORDS = frozenset({"query", "pattern", "question", "prompt", "doc"})


@dataclass(frozen=True, slots=True)
class Branch:
    """A node the run entered, the first time it did: by opening it, or by naming it to a verb or a child run."""

    node: str
    label: str
    level: int | None
    parent: str | None
    verb: str
    conversation: str
    seq: int


@dataclass(slots=True)
class Place:
    """All that the trace says of one node. `seen` and `passed` hold the seq of the events that showed it, and
    that had it on offer without showing it."""

    node: str
    label: str = ""
    level: int | None = None
    parent: str | None = None
    doc: str | None = None
    start: int | None = None
    end: int | None = None
    entered: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)
    cited: bool = False

    @property
    def standing(self) -> Standing:
        """How far the run went: cited the node, entered it, was shown it, or passed it by."""
        if self.cited:
            return "cited"
        return "entered" if self.entered else "seen" if self.seen else "passed"


def branches(events: Sequence[Event]) -> list[Branch]:
    """The nodes entered, in the order of their first entry."""
    places = places_of(events)
    first: dict[str, Branch] = {}
    for event in events:
        for node in _entered(event, places):
            if node not in first:
                place = places[node]
                first[node] = Branch(
                    node,
                    place.label,
                    place.level,
                    place.parent,
                    event["verb"],
                    event["conversation"],
                    event["seq"],
                )
    return list(first.values())


def places_of(events: Sequence[Event]) -> dict[str, Place]:
    """Every node the trace speaks of, by id, in the order in which they first appear."""
    places: dict[str, Place] = {}
    for event in _visits(events):
        for name, refs in (("seen", event["shown"]), ("passed", event["not_taken"])):
            for ref in refs:
                _note(places, ref, name, event["seq"])
    for event in events:
        for node in _entered(event, places):
            places[node].entered.append(event["seq"])
        for citation in event.get("citations", ()):
            if citation["node"] in places:
                places[citation["node"]].cited = True
    return places


def trail(places: dict[str, Place], node: str) -> list[Place]:
    """The place and its ancestors as far as the trace knows them, the highest first."""
    found: dict[str, Place] = {}
    here: str | None = node
    while here in places and here not in found:  # a stranger's trace may go in circles
        found[here] = places[here]
        here = places[here].parent
    return list(found.values())[::-1]


def texts_shown(event: Event) -> dict[str, str]:
    """The words each node of a visit was shown with, as far as the result tells which belong to which node."""
    names = [ref["node"] for ref in event["shown"] if ref["node"] is not None]
    result = event["result"]
    if isinstance(result, str):
        return {names[0]: result} if len(names) == 1 else {}
    found: dict[str, str] = {}
    for item in _objects(result):
        node = next((item[key] for key in ("node", "id") if item.get(key) in names), None)
        words = next(
            (item[key] for key in ("text", "summary", "line") if isinstance(item.get(key), str)), None
        )
        if node is not None and words:
            found.setdefault(node, words)
    return found


def where_shown(events: Iterable[Event], words: str) -> list[int]:
    """The seq of each visit whose result holds these words, character for character; [] for no words."""
    return [
        event["seq"]
        for event in _visits(events)
        if words and any(words in text for text in _texts(event["result"]))
    ]


def _visits(events: Iterable[Event]) -> Iterator[Event]:
    return (event for event in events if event["kind"] == "visited")


def _note(places: dict[str, Place], ref: dict[str, Any], name: str, seq: int) -> None:
    if ref["node"] is None:
        return
    place = places.setdefault(ref["node"], Place(ref["node"]))
    place.label = place.label or ref["label"]
    for fact in ("level", "parent", "doc", "start", "end"):
        if getattr(place, fact) is None:
            setattr(place, fact, ref.get(fact))
    getattr(place, name).append(seq)


def _entered(event: Event, places: dict[str, Place]) -> list[str]:
    """The nodes an event enters, each once, those it names before those it opens."""
    if event["kind"] == "child_called":
        named = [event["under"]]
    elif event["kind"] == "visited" and not event.get("error"):
        named = [value for key, value in event["arguments"].items() if key not in _WORDS]
        named = [node for value in named for node in (value if isinstance(value, list) else [value])]
        named += [ref["node"] for ref in event["shown"]] if event["verb"] in _OPENING else []
    else:
        return []
    return list(dict.fromkeys(node for node in named if isinstance(node, str) and node in places))


def _values(result: object) -> Iterator[object]:
    """Every value inside a JSON value, the outermost first, in order."""
    waiting = [result]
    while waiting:
        value = waiting.pop()
        yield value
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting.extend(reversed(list(inner)))


def _objects(result: object) -> Iterator[dict[str, Any]]:
    return (value for value in _values(result) if isinstance(value, dict))


def _texts(result: object) -> Iterator[str]:
    return (value for value in _values(result) if isinstance(value, str))
