"""Which branches of the tree a run entered, and what else was on offer, from its events alone."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from index_store.terminal import one_line
from rlm.audit.events import RecordedEvent
from rlm.gateway.blocks import Block, unquote

Standing: TypeAlias = Literal["cited", "entered", "seen", "passed"]

#: Verbs whose result is the words of the nodes shown; the others list nodes, which are then only on offer.
_OPENING = frozenset({"gather", "peek", "read"})
#: Verbs that ask where a node lies; naming a node to them is not yet going there.
LOCATING = frozenset(
    {
        "parents",
        "path",
    }
)
#: The name of a block of several chunks.
_PIECE = re.compile(r"L0-(\d{5,12})\.\.L0-(\d{5,12})", re.ASCII)
#: Arguments that are words, not places: a query that happens to read like a node id enters nothing.
_WORDS = frozenset({"query", "pattern", "question", "prompt", "doc"})


@dataclass(frozen=True, slots=True)
class Branch:
    """A node that the run entered, as it did so first: event `seq` opened it, named it to a verb or a child run, or
    gave its words to a model. `verb` is "given" where no verb did."""

    node: str
    label: str
    level: int | None
    parent: str | None
    verb: str
    conversation: str
    seq: int


@dataclass(slots=True)
class Place:
    """All that the trace says of one node.

    `entered`, `seen`, `passed`: the seq of each event that entered it, that showed it, and that had it on offer without
    showing it. `cited`: the answer cites it.
    """

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
        """How near the run came: it cited the node, entered it, was shown it, or passed it by."""
        if self.cited:
            return "cited"
        return "entered" if self.entered else "seen" if self.seen else "passed"


def branches(events: Sequence[RecordedEvent]) -> list[Branch]:
    """The branches that a run entered, in the order in which it first did."""
    first: dict[str, Branch] = {}
    for branch in entries(events):
        first.setdefault(branch.node, branch)
    return list(first.values())


def entries(events: Sequence[RecordedEvent]) -> Iterator[Branch]:
    """Every entry of a branch, in order; one that was entered again comes again."""
    places, given = places_of(events), given_to_models(events)
    verbs = {name: event["verb"] for event in _of_kind("child_called", events) for name in event["children"]}
    for event in events:
        verb = event.get("verb") or verbs.get(event["conversation"], "given")
        for node in entered_by(event, places, given):
            place = places[node]
            yield Branch(
                node, place.label, place.level, place.parent, verb, event["conversation"], event["seq"]
            )


def held_to(event: RecordedEvent, most: int = 4) -> str:
    """` under L1-00003, L1-00007`: the branches that the children of a call are held to; '' where they see all."""
    named = list(dict.fromkeys(node for node in event["under"] if node))
    more = [f"{len(named) - most:,} more"] if len(named) > most else []
    return f" under {', '.join([*(one_line(node, 40) for node in named[:most]), *more])}" if named else ""


def places_of(events: Sequence[RecordedEvent]) -> dict[str, Place]:
    """Every node that the events name, by id, in the order in which they first do."""
    places: dict[str, Place] = {}
    for event in _of_kind("visited", events):
        for name, refs in (("seen", event["shown"]), ("passed", event["not_taken"])):
            for ref in refs:
                _note(places, ref, name, event["seq"])
    given = given_to_models(events)
    for event in events:
        for node in entered_by(event, places, given):
            places[node].entered.append(event["seq"])
        for citation in event.get("citations", ()):
            if citation["node"] in places:
                places[citation["node"]].cited = True
    return places


def given_to_models(events: Sequence[RecordedEvent]) -> dict[int, list[Block]]:
    """The data blocks that the engine itself put into each ask of a model, by the seq of the ask.

    A block's name is the id of its node, or of its first and last, or the place of its span. Code can print lines that
    look like a block, so only asks that no output of a cell can have reached are read: the first of the root, and those
    of llm_query, without the blocks that the code wrote into its own prompt.
    """
    prompts = _prompts(events)
    first = next(
        (event["seq"] for event in _of_kind("model_asked", events) if event["conversation"] == "0"), None
    )
    given: dict[int, list[Block]] = {}
    for event in _of_kind("model_asked", events):
        if event["seq"] == first or event["conversation"] in prompts:
            own = unquote(prompts.get(event["conversation"], ""))
            blocks = (block for message in event["messages"] for block in unquote(message["content"]))
            given[event["seq"]] = [block for block in blocks if block not in own]
    return given


def words_by_node(event: RecordedEvent) -> dict[str, str]:
    """The words that a visit showed of each node, as far as its result says which words are whose."""
    refs = {ref["node"]: ref for ref in event["shown"] if ref["node"] is not None}
    names, result = list(refs), event["result"]
    if isinstance(result, str):
        return {names[0]: result} if len(names) == 1 else {}
    by_node: dict[str, str] = {}
    for item in _objects(result):
        node = next((item[key] for key in ("node", "id") if item.get(key) in names), None)
        words = next(
            (item[key] for key in ("text", "summary", "line") if isinstance(item.get(key), str)), None
        )
        if node is not None and words:
            by_node.setdefault(node, words)
        elif words and isinstance(item.get("nodes"), list):
            for node in filter(names.__contains__, item["nodes"]):
                by_node.setdefault(node, _part(words, item.get("start"), refs[node]))
    return by_node


def _part(words: str, start: Any, ref: dict[str, Any]) -> str:
    """What of a piece, which begins at character `start` of a document, is of one node; all where that is not told."""
    low, high = ref.get("start"), ref.get("end")
    if not all(isinstance(place, int) for place in (start, low, high)):
        return words
    return words[max(low - start, 0) : max(high - start, 0)]


def words_shown(events: Sequence[RecordedEvent]) -> Iterator[tuple[int, dict[str, str]]]:
    """(seq, words by node) of each event that showed words of nodes, to the code or to a model."""
    given = given_to_models(events)
    for event in events:
        if event["kind"] == "visited":
            yield event["seq"], words_by_node(event)
        elif event["seq"] in given:
            yield (
                event["seq"],
                {node: block.text for block in given[event["seq"]] for node in nodes_of(block)},
            )


def nodes_of(block: Block) -> list[str]:
    """The ids of the nodes that a block is of, by its name; the name itself where it is no piece.

    A chunk has a character at least, so that no name in a trace from elsewhere stands for more nodes than its text.
    """
    match = _PIECE.fullmatch(block.name)
    if match is None:
        return [block.name]
    first, last = int(match[1]), int(match[2])
    return [f"L0-{place:05d}" for place in range(first, min(last, first + len(block.text)) + 1)]


def texts_held(events: Sequence[RecordedEvent]) -> dict[int, list[str]]:
    """All the texts that each event showed, by its seq: those in a visit's result, or the data blocks in an ask."""
    held = {seq: [block.text for block in blocks] for seq, blocks in given_to_models(events).items()}
    return held | {event["seq"]: _texts(event["result"]) for event in _of_kind("visited", events)}


def where_shown(held: Mapping[int, list[str]], words: str) -> list[int]:
    """The seq of each event of `held`, as from `texts_held`, that showed these words exactly; [] for no words."""
    return sorted(seq for seq, texts in held.items() if words and any(words in text for text in texts))


def _of_kind(kind: str, events: Iterable[RecordedEvent]) -> Iterator[RecordedEvent]:
    return (event for event in events if event["kind"] == kind)


def _prompts(events: Iterable[RecordedEvent]) -> dict[str, str]:
    """What the code asked in each conversation that is one call."""
    calls = [event for event in _of_kind("child_called", events) if not event["verb"].startswith("rlm_query")]
    return {
        name: prompt
        for call in calls
        for name, prompt in zip(call["children"], call["prompts"], strict=False)
    }


def _note(places: dict[str, Place], ref: dict[str, Any], name: str, seq: int) -> None:
    if ref["node"] is None:
        return
    place = places.setdefault(ref["node"], Place(ref["node"]))
    place.label = place.label or ref["label"]
    for fact in ("level", "parent", "doc", "start", "end"):
        if getattr(place, fact) is None:
            setattr(place, fact, ref.get(fact))
    getattr(place, name).append(seq)


def entered_by(event: RecordedEvent, known: Container[str], given: Mapping[int, list[Block]]) -> list[str]:
    """The nodes an event enters, each once, those it names before those it opens; only those that are `known`.

    `given`: as from `given_to_models`.
    """
    if event["kind"] == "child_called":
        named = event["under"]
    elif event["kind"] == "model_asked":
        named = [node for block in given.get(event["seq"], ()) for node in nodes_of(block)]
    elif event["kind"] == "visited" and event["verb"] not in LOCATING and not event.get("error"):
        named = [value for key, value in event["arguments"].items() if key not in _WORDS]
        named = [node for value in named for node in (value if isinstance(value, list) else [value])]
        named = [node.get("node") if isinstance(node, dict) else node for node in named]
        named += [ref["node"] for ref in event["shown"]] if event["verb"] in _OPENING else []
    else:
        return []
    return list(dict.fromkeys(node for node in named if isinstance(node, str) and node in known))


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


def _texts(result: object) -> list[str]:
    return [value for value in _values(result) if isinstance(value, str)]
