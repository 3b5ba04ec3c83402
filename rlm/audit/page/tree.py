"""The tree as the run saw it: a map of the branches entered and passed by, and the words each was shown with."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from index_store.terminal import count, one_line
from rlm.audit.events import RecordedEvent
from rlm.audit.page.html import Html, fold, join, pre, tag
from rlm.audit.routing import Branch, Place, Standing, branches, words_shown

_WIDE, _ROW, _GAP = 1000, 40, 2
_MOST_DEEP = 24  # levels drawn; a real tree has a handful, a stranger's trace may have any number
_MOST_TAKEN = 400  # nodes entered, listed or drawn under one parent
_MOST_FIRST, _MOST_ENTRIES = 10, 1000  # branches of the ordered list: shown at once, and at all
_MOST_LISTED = 5  # nodes passed by, listed under one parent before the rest is folded
_MOST_DRAWN = 14  # nodes passed by, drawn under one parent before the rest becomes one box
_CHAR = 7.8  # width of a letter of the map, in its own units
_WEIGHT: dict[Standing, float] = {"cited": 3.0, "entered": 2.4, "seen": 1.0, "passed": 0.7}
_WORDS: dict[Standing, str] = {
    "cited": "cited in the answer",
    "entered": "entered",
    "seen": "shown, not entered",
    "passed": "on offer, not taken",
}
_ON_THE_WAY = "on the way"


@dataclass(frozen=True, slots=True)
class Twig:
    """A node with the nodes below it, as the page draws them. `taken`: the run entered it, or one of those."""

    place: Place
    below: tuple["Twig", ...]

    @property
    def taken(self) -> bool:
        return self.place.standing in ("cited", "entered") or any(twig.taken for twig in self.below)

    @property
    def weight(self) -> float:
        """Its share of the map's width: what was taken gets more of it than what was not."""
        return max(_WEIGHT[self.place.standing], sum(twig.weight for twig in self.below))


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the map, which is _WIDE units wide; `depth` is its row, from 0 at the top. Where `more` is not 0,
    the rectangle stands for so many nodes that are not drawn one by one."""

    twig: Twig
    left: float
    width: float
    depth: int
    more: int = 0


def tree_section(
    events: Sequence[RecordedEvent], places: Mapping[str, Place], anchors: Mapping[str, str]
) -> Html:
    """The map, the branches in the order they were entered, and the tree with its words."""
    if not places:
        return tag(
            "section", tag("h2", "Route"), tag("p", "The run looked at no node of the tree."), id="route"
        )
    tops, words = grown(places), _words_by_node(events)
    return tag(
        "section",
        tag("h2", "Route"),
        _legend(places.values()),
        _map(tops, anchors),
        tag("h3", "Branches entered, in order"),
        entered(branches(events), anchors),
        tag("h3", "The tree, as far as the run saw it"),
        tag("p", "Open a node for the words it was shown with.", cls="meta screen"),
        _listing(tops, anchors, words, 0),
        id="route",
    )


def grown(places: Mapping[str, Place]) -> tuple[Twig, ...]:
    """The places as trees. A place stands on top where its parent is not known, or is among its own descendants."""
    below: dict[str | None, list[Place]] = {}
    for place in places.values():
        below.setdefault(place.parent if place.parent in places else None, []).append(place)
    done: set[str] = set()
    tops = [_twig(place, below, done, 0) for place in _sorted(below.get(None, []))]
    rest = (place for place in places.values() if place.node not in done)
    return (*tops, *(_twig(place, below, done, 0) for place in rest if place.node not in done))


def _twig(place: Place, below: Mapping[str | None, list[Place]], done: set[str], depth: int) -> Twig:
    done.add(place.node)
    if depth >= _MOST_DEEP:
        return Twig(place, ())
    children = (child for child in _sorted(below.get(place.node, [])))
    return Twig(
        place, tuple(_twig(child, below, done, depth + 1) for child in children if child.node not in done)
    )


def _sorted(places: Iterable[Place]) -> list[Place]:
    return sorted(places, key=lambda place: (-(place.level or 0), place.node))


def boxes(twigs: Sequence[Twig], left: float, width: float, depth: int = 0) -> Iterator[Box]:
    """The rectangles of the map, each before those below it. Of the nodes that were passed by a few are drawn, and the
    rest share one rectangle."""
    drawn, folded = _few(twigs, _MOST_DRAWN)
    total = sum(twig.weight for twig in drawn) + (1.0 if folded else 0.0)
    for twig in drawn:
        share = width * twig.weight / total
        yield Box(twig, left, share, depth)
        yield from boxes(twig.below, left, share, depth + 1)
        left += share
    if folded:
        yield Box(folded[0], left, width / total, depth, len(folded))


def _few(twigs: Sequence[Twig], most: int) -> tuple[list[Twig], list[Twig]]:
    """All that was taken, up to _MOST_TAKEN, and the first `most` of the others, in order; and the rest."""
    taken = [twig.place.node for twig in twigs if twig.taken][:_MOST_TAKEN]
    other = [twig.place.node for twig in twigs if not twig.taken][:most]
    few = {*taken, *other}
    return [twig for twig in twigs if twig.place.node in few], [
        twig for twig in twigs if twig.place.node not in few
    ]


def _more(folded: Sequence[Twig]) -> str:
    return f"{len(folded)} more" + ("" if any(twig.taken for twig in folded) else " on offer, not taken")


def _map(tops: Sequence[Twig], anchors: Mapping[str, str]) -> Html:
    drawn = list(boxes(tops, 0.0, _WIDE))
    high = (max(box.depth for box in drawn) + 1) * _ROW
    picture = tag(
        "svg",
        *(_box(box, anchors) for box in drawn),
        viewBox=f"0 0 {_WIDE} {high}",
        role="group",
        aria_label="Map of the tree: each row is a level, the branches taken are filled",
    )
    return tag("div", picture, cls="map")


def _box(box: Box, anchors: Mapping[str, str]) -> Html:
    place = box.twig.place
    standing = "passed" if box.more else _tone(box.twig)
    label = f"{box.more} more" if box.more else place.label or place.node
    letters = int((box.width - 16) / _CHAR)
    top = box.depth * _ROW
    shape = tag(
        "rect",
        x=f"{box.left + _GAP / 2:.1f}",
        y=top,
        width=f"{max(box.width - _GAP, 0.5):.1f}",
        height=_ROW - _GAP,
        rx="4",
    )
    words = (
        tag("text", one_line(label, letters), x=f"{box.left + 9:.1f}", y=top + 24) if letters >= 3 else None
    )
    hint = count(box.more, "more node") if box.more else f"{label}: {_standing_words(box.twig)}"
    link = anchors[place.node]
    return tag(
        "a",
        tag("title", hint),
        shape,
        words,
        href=f"#{link}",
        cls=standing,
        tabindex="-1" if box.more else None,
    )


def _tone(twig: Twig) -> str:
    """Its standing; or, where only something below it was entered, that it lies on the way."""
    return "way" if twig.taken and twig.place.standing in ("seen", "passed") else twig.place.standing


def _standing_words(twig: Twig) -> str:
    return _ON_THE_WAY if _tone(twig) == "way" else _WORDS[twig.place.standing]


def _legend(places: Iterable[Place]) -> Html:
    counts: dict[Standing, int] = dict.fromkeys(_WORDS, 0)
    for place in places:
        counts[place.standing] += 1
    items = (
        tag("li", tag("i", cls="dot"), f"{counts[name]} {words}", cls=name) for name, words in _WORDS.items()
    )
    return tag("ul", *items, cls="legend")


def entered(taken: Sequence[Branch], anchors: Mapping[str, str]) -> Html:
    """The branches as a numbered list, each with the event that entered it."""
    if not taken:
        return tag("p", "No branch was entered.")
    rows = [_entry(branch, anchors) for branch in taken[:_MOST_ENTRIES]]
    later = tag("ol", *rows[_MOST_FIRST:], start=_MOST_FIRST + 1, cls="order")
    rest = fold(f"{len(taken) - _MOST_FIRST} more", later, cls="sent") if len(taken) > _MOST_FIRST else None
    first = tag("ol", *rows[:_MOST_FIRST], cls="order")
    return join([first, rest])


def _entry(branch: Branch, anchors: Mapping[str, str]) -> Html:
    return tag(
        "li",
        tag("span", _level(branch.level), cls="level"),
        tag("a", branch.label or branch.node, href=f"#{anchors[branch.node]}"),
        tag("span", f" {branch.verb}, ", tag("a", f"event {branch.seq}", href=f"#e{branch.seq}"), cls="meta"),
    )


def _listing(
    twigs: Sequence[Twig], anchors: Mapping[str, str], words: Mapping[str, list[tuple[int, str]]], depth: int
) -> Html:
    shown, folded = _few(twigs, _MOST_LISTED)
    rows = [_row(twig, anchors, words, depth) for twig in shown]
    if folded:
        inner = tag("ul", *(_row(twig, anchors, words, depth) for twig in folded[:500]))
        rows.append(tag("li", fold(_more(folded), inner, cls="more")))
    return tag("ul", *rows, cls="tree" if depth == 0 else None)


def _row(
    twig: Twig, anchors: Mapping[str, str], words: Mapping[str, list[tuple[int, str]]], depth: int
) -> Html:
    place = twig.place
    name = [
        tag("i", cls="dot"),
        tag("span", _level(place.level), cls="level"),
        tag("span", place.label or place.node, cls="label"),
        tag("span", place.node, cls="id"),
        tag("span", _standing_words(twig), cls="standing"),
    ]
    body = _body(place, words.get(place.node, []))
    is_evidence = _tone(twig) in ("cited", "entered")
    node = fold(join(name), body, id=anchors[place.node], cls=None if is_evidence else "aside")
    below = _listing(twig.below, anchors, words, depth + 1) if twig.below else None
    return tag("li", node, below, cls=_tone(twig))


def _body(place: Place, words: list[tuple[int, str]]) -> Html:
    span = (
        f"{place.doc}, characters {place.start}–{place.end}" if place.doc and place.end is not None else None
    )
    where = tag("p", span, cls="meta") if span and place.start is not None else None
    texts = [
        join([tag("p", "Shown at ", _at([seq]), cls="meta"), pre(text, "words")]) for seq, text in words[:6]
    ]
    nothing = None if texts else tag("p", "No words of it were shown beside its label.", cls="meta")
    links = [("Entered at ", place.entered), ("Listed at ", place.seen), ("On offer at ", place.passed)]
    lines = (tag("p", name, _at(seqs), cls="meta") for name, seqs in links if seqs)
    return tag("div", where, *texts, nothing, *lines, cls="body")


def _at(seqs: Sequence[int]) -> Html:
    links = (
        join([", " if i else "", tag("a", f"event {seq}", href=f"#e{seq}")])
        for i, seq in enumerate(seqs[:12])
    )
    return join([*links, f" and {len(seqs) - 12} more" if len(seqs) > 12 else None])


def _words_by_node(events: Sequence[RecordedEvent]) -> dict[str, list[tuple[int, str]]]:
    """For each node the different words it was shown with, and the event that first did."""
    by_node: dict[str, list[tuple[int, str]]] = {}
    for seq, texts in words_shown(events):
        for node, text in texts.items():
            known = by_node.setdefault(node, [])
            if text not in (words for _, words in known):
                known.append((seq, text))
    return by_node


def _level(level: int | None) -> str:
    return "L?" if level is None else f"L{level}"
