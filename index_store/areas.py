"""The tree as nested areas: what is in a corpus, from its upper levels, told within bounds whatever its size.

Each chunk counts once, where it is at home, so that the areas inside another add up to it. What is read of the levels
for a prompt is `levels_read`; what a person looks at is `area_of`.
"""

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from email.utils import parsedate
from functools import cached_property

import numpy as np
import numpy.typing as npt

from index_store.branches import held_at_home
from index_store.name_table import Names
from index_store.names import folded
from index_store.outline import shortened
from index_store.tree import Tree

MOST_AREAS = 400  # of one overview
MOST_INSIDE = 12  # areas that are told of the same one
NAMES = 5  # of an area
LOOKED_NAMES = 40  # of an area, of which those are taken that say something new
TITLE, SEVERAL_WORDS = 2.0, 2.0  # how much more such a name tells
LOOKED_CHARS = 20_000  # of a chunk, for how it writes a name
TOLD_CHARS = 120  # of a label or a title in what is read
SUMMARY_SHARE = 0.25  # of what is read of an area, at most, on words of its own summary
LABELS_SHARE = 0.33  # of what is left then, on labels inside it
AREA_TOKENS = 250  # of what is read, on average, for each area that it is divided into
FURTHER_NAMES = 3  # of a document, after its title
LEAST_TOKENS = 20  # that a summary is begun with
MOST_BRANCHES = 2_000  # of one area that are looked at

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_DATED = re.compile(r"date|year|time|publish|created|modified|sent|issued|signed|filed", re.IGNORECASE)
_ISO = re.compile(r"\s*((?:1[5-9]|20)\d\d)(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01]))?)?(?![\d-])")
#: Names by the rules, since they are written with a capital, that tell nothing of a text.
_DULL = frozenset(
    """
    january february march april may june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday yes no oh ah very well thereupon meanwhile maybe sometimes however
    """.split()  # noqa: SIM905  (one would have to read past a hundred quotation marks)
)  # fmt: skip
_SAYS = re.compile(r"[^\W\d_]{3}")
_INSIDE = "Inside: "
_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"'”’)\]]*(?=\s)|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Area:
    """A branch, as far as it is at home there.

    `share`: of the characters of the whole index. `names`: the most telling, as the texts write them. `dates`: the
    first and the last in its documents' metadata, as YYYY, YYYY-MM or YYYY-MM-DD; () where they have none. `inside`:
    the largest areas of it; `more`: how many there are besides.
    """

    node: str
    level: int
    label: str
    share: float
    documents: int
    chunks: int
    chars: int
    names: tuple[str, ...]
    dates: tuple[str, ...]
    inside: tuple["Area", ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """What is read of one area for a prompt. `share`: of the characters of all that is read about."""

    number: int
    share: float
    text: str


class Homes:
    """How large each branch of a tree is, as far as it is at home there, or of it what is among some chunks.

    `chunks`: their numbers, ascending; None for all. `chars`: the characters of each node, (nodes,).
    """

    def __init__(self, tree: Tree, chunks: Numbers | None = None) -> None:
        self.tree, self.within = tree, tree.numbers(tree.level_range(0)) if chunks is None else chunks
        self._is_within = np.zeros(len(tree), dtype=bool)
        self._is_within[self.within] = True
        self.chars = held_at_home(tree, self.within, tree.leaf_chars[self.within].astype(np.float64))

    def inside(self, number: int) -> list[int]:
        """Numbers of the nodes that are at home directly below one and have any of the text, the largest first."""
        here = self.tree.at_home_in(np.array([number]))
        here = here[self.chars[here] > 0]
        return [int(one) for one in here[np.argsort(-self.chars[here], kind="stable")]]

    def chunks(self, number: int) -> Numbers:
        """Numbers, ascending, of the chunks that are at home below a node; of a chunk, its own."""
        layer = np.array([number])
        for _ in range(self.tree.level_of(number)):
            layer = self.tree.at_home_in(layer)
        here: Numbers = layer[self._is_within[layer]]
        return here


# -- for a person to look at -------------------------------------------------------------------------------


def area_of(tree: Tree, under: str | None = None, depth: int = 2, most: int = MOST_AREAS) -> Area:
    """The area of a node, or of the whole tree, with those inside it down to `depth`, `most` in all, large ones first.

    Raises NoSuchNode.
    """
    top = len(tree) - 1 if under is None else tree.number_of(under)
    homes = Homes(tree)
    return _Drawing(tree, homes, _opened(homes, top, depth, most)).area(top)


def _opened(homes: Homes, top: int, depth: int, most: int) -> dict[int, list[int]]:
    """The areas that are told inside of others: of each opened one, the largest is opened first."""
    opened: dict[int, list[int]] = {}
    waiting, left = [(-homes.chars[top], top, depth)], most - 1
    while waiting and left > 0:
        _, number, deeper = heapq.heappop(waiting)
        if not deeper:
            continue
        opened[number] = homes.inside(number)[: min(MOST_INSIDE, left)]
        left -= len(opened[number])
        for one in opened[number]:
            heapq.heappush(waiting, (-homes.chars[one], one, deeper - 1))
    return opened


@dataclass(frozen=True)
class _Drawing:
    """What is told of each area. `opened`: the areas inside of each that has some."""

    tree: Tree
    homes: Homes
    opened: dict[int, list[int]]

    def area(self, number: int) -> Area:
        tree, chars = self.tree, int(self.homes.chars[number])
        node, chunks = tree.at(number), self.homes.chunks(number)
        documents = np.unique(tree.leaf_documents[chunks]).astype(np.int64)
        inside = self.opened.get(number, [])
        more = len(self.homes.inside(number)) - len(inside) if node.level else 0
        return Area(
            node.id,
            node.level,
            node.label,
            chars / max(tree.chars, 1),
            len(documents),
            len(chunks),
            chars,
            tuple(self._names(chunks, node.label)),
            self._dates(documents),
            tuple(self.area(one) for one in inside),
            more,
        )

    def _names(self, chunks: Numbers, label: str) -> Iterator[str]:
        """The most telling names of some chunks, that neither say what the label says nor each other."""
        if self.tree.names is None:
            return
        said = [f" {folded(label)} "]
        told = 0
        for name, chunk in _telling(self.tree.names, chunks):
            words = self.tree.names.in_words(name)
            if told < NAMES and not any(f" {words} " in one or one in f" {words} " for one in said):
                said.append(f" {words} ")
                told += 1
                yield _as_written(self.tree, words, chunk)

    def _dates(self, documents: Numbers) -> tuple[str, ...]:
        dates = sorted(one for number in documents.tolist() for one in self._dated[number])
        return (dates[0], dates[-1]) if dates else ()

    @cached_property
    def _dated(self) -> list[list[str]]:
        """The dates of each document, by its number."""
        return [list(dates_of(document.meta)) for document in self.tree.documents]


def _telling(names: Names, chunks: Numbers) -> Iterator[tuple[int, int]]:
    """Numbers of the names that tell most of some chunks, each with a chunk that bears it: those that many of them bear
    and few others; titles before what else is named, and names of several words before single ones."""
    numbers, own, is_title = names.borne(chunks)
    if not len(numbers):
        return
    here, first, held = np.unique(numbers, return_index=True, return_counts=True)
    titles = np.bincount(np.searchsorted(here, numbers), is_title, len(here)) > 0
    scores = held * (held / names.sizes(here)) * np.where(titles, TITLE, 1.0)
    best = np.argsort(-scores, kind="stable")[:LOOKED_NAMES].tolist()
    words = {place: names.in_words(int(here[place])) for place in best}
    for place in sorted(best, key=lambda one: -scores[one] * (SEVERAL_WORDS if " " in words[one] else 1.0)):
        if words[place] not in _DULL:
            yield int(here[place]), int(own[first[place]])


def _as_written(tree: Tree, words: str, chunk: int) -> str:
    """A name as it stands in a chunk that bears it, or in the title and headings over that; else as it was folded."""
    pattern = re.compile(r"\b" + r"\W{1,3}".join(map(re.escape, words.split())) + r"\b", re.IGNORECASE)
    span = tree.span_at(chunk)
    texts = [
        tree.head_at(chunk, LOOKED_CHARS),
        *([" ".join(tree.outline(tree.document_number(span.doc)).parts(span.start))] if span else []),
    ]
    found = (match for text in texts for match in pattern.finditer(text))
    written = Counter(" ".join(match[0].split()) for match in found)
    return max(written, key=lambda one: (written[one], any(map(str.isupper, one)))) if written else words


def dates_of(meta: Mapping[str, str]) -> Iterator[str]:
    """The dates in a document's metadata, as YYYY, YYYY-MM or YYYY-MM-DD: of fields that are called after one."""
    for name, value in meta.items():
        if not _DATED.search(name):
            continue
        if found := _ISO.match(value):
            yield "-".join(part for part in found.groups() if part)
        elif parsed := _mail_date(value):
            yield parsed


def _mail_date(value: str) -> str:
    """The date in the form of RFC 5322, `Mon, 21 Nov 1997 09:55:06 -0600`; "" where it is none."""
    try:
        parsed = parsedate(value[:100])
        return date(*parsed[:3]).isoformat() if parsed else ""
    except (ValueError, OverflowError, TypeError):
        return ""


# -- for a prompt ------------------------------------------------------------------------------------------


def levels_read(
    homes: Homes,
    top: int,
    tokens: int,
    cost: Callable[[str], int],
    *,
    weights: Floats | None = None,
    readable: Callable[[int], bool] = lambda number: True,
    unit: int = 1,
) -> list[Read]:
    """What to read of the upper levels below the node `top`, `tokens` together at most, the largest area first.

    The branch is divided where it is largest, into as many areas as the tokens allow, and each area gets tokens by its
    size: for its label, the first words of its summary, the labels inside it, and names of its documents, spread over
    its branches; where then something is left, for more summaries. `cost`: the tokens of a text. `weights`: (nodes,),
    what counts for size in place of the characters. `readable`: whether the words of a node may be told. `unit`: how
    many there are to a token, where `cost` counts something smaller, such as characters.
    """
    sizes = homes.chars if weights is None else weights
    areas = _divided(homes, sizes, top, max(tokens // (unit * AREA_TOKENS), 1))
    total = max(float(homes.chars[top]), 1.0)
    said, read, left = set[str](), list[Read](), tokens
    rest = sum(float(sizes[number]) for number in areas)
    for number in areas:
        own = int(left * float(sizes[number]) / max(rest, 1e-12))
        rest -= float(sizes[number])
        if text := _Telling(homes, number, said, cost, readable, unit).text(min(own, left)):
            read.append(Read(number, float(homes.chars[number]) / total, text))
            left -= cost(text)
    return read


def _divided(homes: Homes, sizes: Floats, top: int, most: int) -> list[int]:
    """At most `most` nodes, above the chunks, that a branch is divided into, the largest first."""
    areas, waiting = [top], [(-sizes[top], top)]
    while waiting:
        _, number = heapq.heappop(waiting)
        inside = homes.inside(number) if homes.tree.level_of(number) > 1 else []
        if inside and len(areas) - 1 + len(inside) <= most:
            areas.remove(number)
            areas += inside
            for one in inside:
                heapq.heappush(waiting, (-sizes[one], one))
    return sorted(areas, key=lambda one: (-sizes[one], one))


@dataclass(frozen=True)
class _Telling:
    """What is told of one area. `said`: what was told before, of it or another, and need not be told again."""

    homes: Homes
    number: int
    said: set[str]
    cost: Callable[[str], int]
    readable: Callable[[int], bool]
    unit: int

    @property
    def tree(self) -> Tree:
        return self.homes.tree

    def text(self, tokens: int) -> str:
        """The area in so many tokens; "" where its label alone has more."""
        label = self._label(self.number)
        lines, left = [label], tokens - self.cost(label) - 1
        if left < 0 or not self.homes.chars[self.number]:
            return ""
        self.said.update(_parts(label))
        first = self._beginning(self.number, int(SUMMARY_SHARE * left))
        first = first or self._beginning(self.number, left // 2, 1)
        if first := first or ("" if label else self._opening(left // 2)):
            lines.append(first)
            left -= self.cost(first) + 1
        inside = self._fitting(self._labels(int(LABELS_SHARE * left)), int(LABELS_SHARE * left))
        rest = left - self.cost(_INSIDE) - sum(self.cost(f"; {one}") for one in inside)
        inside += self._fitting(self._names(), rest)
        if inside:
            lines.append(_INSIDE + "; ".join(inside))
            left -= self.cost(lines[-1]) + 1
        branches = self._branches()[1:]
        for place, one in enumerate(branches):
            if left < self.unit * LEAST_TOKENS:
                break
            own = max(left // (len(branches) - place), self.unit * LEAST_TOKENS)
            if first := self._beginning(one, own):
                lines.append(first)
                left -= self.cost(first) + 1
        while self.cost("\n".join(lines)) > tokens:  # a text may have more tokens than its parts
            del lines[-1]
        return "\n".join(lines)

    def _fitting(self, words: Iterable[str], tokens: int) -> list[str]:
        taken = []
        for one in words:
            tokens -= self.cost(f"; {one}")
            if tokens < 0:
                break
            taken.append(one)
        return taken

    def _label(self, number: int) -> str:
        return shortened(self.tree.at(number).label, TOLD_CHARS) if self.readable(number) else ""

    def _beginning(self, number: int, tokens: int, most: int | None = None) -> str:
        """The first sentences of a summary that fit, `most` of them; "" where the first does not, or was told."""
        if not self.tree.level_of(number) or not self.readable(number):
            return ""
        taken = ""
        for sentence in _SENTENCE.findall(self.tree.head_at(number, 8 * max(tokens, 0)))[:most]:
            if sentence.strip() in self.said or self.cost(taken + sentence) > tokens:
                break
            taken += sentence
            self.said.add(sentence.strip())
        return taken.strip()

    def _opening(self, tokens: int) -> str:
        """The first sentence of the first text in the area that fits, where no summary of it may be told."""
        for chunk in self.homes.chunks(self.number)[:1].tolist():
            for sentence in _SENTENCE.findall(self.tree.text_at(chunk)):
                if self.cost(words := sentence.strip()) <= tokens and _SAYS.search(words):
                    return str(words)
        return ""

    def _branches(self) -> list[int]:
        """The area and the branches inside it above the chunks, level by level, the largest of each first."""
        branches, layer = list[int](), [self.number]
        while layer and len(branches) < MOST_BRANCHES:
            branches += layer
            below = [one for number in layer for one in self.homes.inside(number)]
            layer = sorted((one for one in below if self.tree.level_of(one)), key=self._by_size)
        return branches[:MOST_BRANCHES]

    def _by_size(self, number: int) -> tuple[float, int]:
        return -self.homes.chars[number], number

    def _labels(self, tokens: int) -> Iterator[str]:
        """The labels of the finest division of the area whose labels fit, the largest part first, without what was
        said."""
        spent = {self.number: 0}
        waiting, left = [self._by_size(self.number)], tokens
        while waiting:
            _, number = heapq.heappop(waiting)
            inside = self.homes.inside(number) if self.tree.level_of(number) > 1 else []
            costs = {one: self.cost(self._label(one)) + 1 for one in inside}
            if inside and sum(costs.values()) - spent[number] <= left:
                left -= sum(costs.values()) - spent.pop(number)
                spent |= costs
                for one in inside:
                    heapq.heappush(waiting, self._by_size(one))
        spent.pop(self.number, None)
        for number in sorted(spent, key=self._by_size):
            if label := ", ".join(self._new(self._label(number).split(","))):
                yield label

    def _new(self, words: Iterable[str]) -> Iterator[str]:
        for one in words:
            if (key := folded(one)) not in self.said and _SAYS.search(key):
                self.said.add(key)
                yield one.strip()

    def _names(self) -> Iterator[str]:
        """A name of each document, those of one branch not before those of the others; then further ones of each."""
        tree = self.tree
        lowest = [one for one in self._branches() if tree.level_of(one) == min(1, tree.level_of(self.number))]
        for name_of in (self._title, *[self._name] * FURTHER_NAMES):
            named, waiting = set[int](), [self._documents(one) for one in lowest]
            while waiting:
                waiting = [documents for documents in waiting if documents]
                for documents in waiting:
                    while documents and (number := documents.pop()) in named:
                        pass
                    named.add(number)
                    yield from self._new([name_of(number)])

    def _documents(self, number: int) -> list[int]:
        """Numbers of the documents of a branch, the one with most chunks there last."""
        documents, counts = np.unique(self.tree.leaf_documents[self.homes.chunks(number)], return_counts=True)
        return [int(one) for one in documents[np.argsort(counts, kind="stable")]]

    def _title(self, document: int) -> str:
        """A document's title; its name where that says nothing, as a number or a hash."""
        title = shortened(self.tree.documents[document].title, TOLD_CHARS)
        return title if _SAYS.search(title) else self._name(document)

    def _name(self, document: int) -> str:
        """The most telling name of a document; "" where it has none."""
        names, leaves = self.tree.names, self.tree.document_leaves(document)
        if names is None:
            return ""
        own = self.homes.within[slice(*np.searchsorted(self.homes.within, [leaves.start, leaves.stop]))]
        for name, chunk in _telling(names, own):
            words = names.in_words(name)
            if words not in self.said and _SAYS.search(words):
                return _as_written(self.tree, words, chunk)
        return ""


def _parts(label: str) -> list[str]:
    return [folded(part) for part in label.split(",")]
