"""Random indexes of documents with labels: what a reader may see of one is fixed, what is hidden from them is drawn."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store import access
from index_store.duplicates import first_alike, near_duplicates
from index_store.index import Index, open_index
from index_store.name_table import name_table
from index_store.outline import Outline
from index_store.types import Document
from index_store.writer import Draft
from tests.helpers.toy import document, publish_toy, unit_rows

READER = ("a", "b", "c")
OTHERS = ("x", "y")
WORDS = "rent notice pets boat mast mizzen sail harbour Captain Ahab Moby Dick lease deposit 2021 tax"


@dataclass(frozen=True, slots=True)
class Source:
    """A document in its chunks, with the word that stands in no other, and the labels of who may read it."""

    document: Document
    parts: tuple[str, ...]
    word: str


@dataclass(slots=True)
class Node:
    """A node while a tree is drawn. `below`: its members, `guests`: nodes that it is not about."""

    words: tuple[str, ...]
    text: str = ""
    below: "list[Node]" = field(default_factory=list)
    guests: "list[Node]" = field(default_factory=list)
    number: int = -1


def source(rng: random.Random, name: str, labels: Sequence[str]) -> Source:
    """A document whose id, title, text, heading and metadata have a word of its own."""
    word = f"q{name}{rng.randrange(10**6):06d}z"
    copied = rng.random() < 0.3  # near-duplicates, but for their own word
    drawn = random.Random(7) if copied else rng
    parts = tuple(
        f"{' '.join(drawn.choices(WORDS.split(), k=drawn.randint(8, 20)))} {word}.\n"
        for _ in range(drawn.randint(1, 3))
    )
    meta = {"note": f"n{word}", "year": rng.choice(["2020", "2021"])}
    if labels:
        meta[access.KEY] = ", ".join(sorted(labels))
    held, text = document(f"{rng.choice('abc')}/{word}.txt", "".join(parts))
    titled = replace(held, title=f"Title {word}", sections=((0, 1, f"Part {word}"),), meta=meta)
    assert text == "".join(parts)
    return Source(titled, parts, word)


@dataclass(slots=True)
class World:
    """What READER may see: its documents in order, and the summaries over them, a list for each level."""

    sources: list[Source]
    leaves: dict[str, list[Node]]
    levels: list[list[Node]]


def seen(rng: random.Random) -> World:
    """Documents that a reader of READER may read, and some summaries of them."""
    some = [rng.sample(READER, rng.randint(0, 2)) for _ in range(rng.randint(1, 5))]
    sources = [
        source(rng, f"v{n}", labels + (rng.sample(OTHERS, 1) if labels and rng.random() < 0.2 else []))
        for n, labels in enumerate(some)
    ]
    leaves = {one.word: [Node((one.word,), part) for part in one.parts] for one in sources}
    below, levels = [leaf for own in leaves.values() for leaf in own], list[list[Node]]()
    for height in range(rng.randint(0, 2)):
        level = [_over(part, f"visible {height}") for part in _drawn_parts(rng, below) if rng.random() < 0.7]
        levels.append(level)
        below = level
        if len(level) < 2:
            break
    return World(sources, leaves, levels)


def _drawn_parts(rng: random.Random, nodes: list[Node]) -> list[list[Node]]:
    """Nodes in parts of random sizes, in a random order."""
    left, parts = rng.sample(nodes, len(nodes)), list[list[Node]]()
    while left:
        size = rng.randint(1, 4)
        parts.append(left[:size])
        left = left[size:]
    return parts


def _over(below: list[Node], kind: str) -> Node:
    words = tuple(dict.fromkeys(word for node in below for word in node.words))
    return Node(words, f"Summary {kind} of {' '.join(words)}", list(below))


def draft(rng: random.Random, world: World) -> tuple[Draft, list[Source]]:
    """The content of an index in which hidden documents stand among those of a world; and the hidden ones."""
    hidden = [source(rng, f"h{n}", rng.sample(OTHERS, rng.randint(1, 2))) for n in range(rng.randint(1, 4))]
    order = list(world.sources)
    for one in hidden:
        order.insert(rng.randint(0, len(order)), one)
    mine = {one.word: [Node((one.word,), part) for part in one.parts] for one in hidden}
    leaves = [leaf for one in order for leaf in (mine | world.leaves)[one.word]]
    labels = {one.word: one.document.meta.get(access.KEY, "") for one in order}
    levels = _tree(rng, leaves, [node for own in mine.values() for node in own], world, labels)
    return _as_draft(rng, order, levels), hidden


def _tree(
    rng: random.Random, leaves: list[Node], hidden: list[Node], world: World, labels: dict[str, str]
) -> list[list[Node]]:
    """Levels up to one root: the world's own summaries, and others, each of which is about something hidden."""

    def kinds(node: Node) -> set[str]:
        return {labels[word] for word in node.words}

    levels, below, dark = [leaves], leaves, set(map(id, hidden))
    while len(below) > 1 or len(levels) <= len(world.levels):
        own = world.levels[len(levels) - 1] if len(levels) <= len(world.levels) else []
        held = {id(node) for summary in own for node in summary.below}
        free = [node for node in below if id(node) not in held]
        lights, darks = ([n for n in free if (id(n) in dark) is is_dark] for is_dark in (False, True))
        groups = [[node] for node in darks[: max(1, rng.randint(1, 2))]]
        for node in [*lights, *darks[len(groups) :]]:
            rng.choice(groups).append(node)
        others = [_over(part, "of what is hidden") for part in groups]
        dark |= set(map(id, others))
        level = rng.sample([*own, *others], len(own) + len(others))
        for summary in level:  # by a name: such as no build chooses without regard to what is hidden
            strangers = [
                node
                for node in below
                if node not in summary.below and (kinds(node) != kinds(summary) or len(kinds(node)) > 1)
            ]
            summary.guests = rng.sample(strangers, min(len(strangers), rng.randint(0, 2)))
        levels.append(level)
        below = level
    return levels


def _as_draft(rng: random.Random, order: Sequence[Source], levels: Sequence[Sequence[Node]]) -> Draft:
    for number, node in enumerate(node for level in levels for node in level):
        node.number = number
    above = [node for level in levels[1:] for node in level]
    numbers = {
        id(node): np.array(sorted(n.number for n in [*node.below, *node.guests]), dtype=np.int64)
        for node in above
    }
    spans = [
        (d, sum(map(len, one.parts[:i])), sum(map(len, one.parts[: i + 1])))
        for d, one in enumerate(order)
        for i in range(len(one.parts))
    ]
    documents = [(one.document, "".join(one.parts)) for one in order]
    outlines = [Outline(held) for held, _ in documents]
    twins = near_duplicates([(held.id, text) for held, text in documents])
    return Draft(
        documents=documents,
        chunks=np.array(spans, dtype=np.int64),
        labels=[f"Label {' '.join(node.words)}" for node in above],
        summaries=[node.text for node in above],
        levels=list(map(len, levels)),
        children=[numbers[id(node)] for node in above],
        guests=[np.array(sorted(n.number for n in node.guests), dtype=np.int64) for node in above],
        tokens=np.array([len(node.text) for level in levels for node in level]),
        vectors=np.concatenate([_vector(node) for level in levels for node in level]),
        alike=first_alike((held.id for held, _ in documents), twins, len(documents)),
        names=name_table((documents[d][1][a:b], outlines[d].parts(a)) for d, a, b in spans),
    )


def _vector(node: Node) -> npt.NDArray[np.float32]:
    """The same for the same text."""
    return unit_rows(1, seed=sum(node.text.encode()) * 1_000 + len(node.text))


def written(path: Path, content: Draft) -> Index:
    """The index of a draft, opened."""
    publish_toy(path, content)
    return open_index(path)
