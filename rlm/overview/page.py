"""An overview as one HTML file: a map of nested areas whose size is that of their text, and the areas one by one.

Built as the review page is: nothing from a document can become markup, and no script runs. It is bounded: what is not
drawn is counted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import wrap

from index_store.areas import Area
from index_store.terminal import count, one_line, percent
from rlm.audit.page import style
from rlm.audit.page.html import Html, document, fold, join, pre, tag
from rlm.overview.text import dates

_WIDE, _HIGH, _GAP, _HEAD = 1000.0, 560.0, 3.0, 24.0
_CHAR = 7.6  # width of a letter of the map, in its own units
_LINE = 16.0  # from one line of words to the next
_LEAST = 6.0  # of a side of what is drawn
_DEEPEST = 2  # levels in the map below the whole

Words = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the map, for an area, or, where `area` is None, for `more` areas that are not drawn one by one."""

    left: float
    top: float
    width: float
    height: float
    area: Area | None
    more: int = 0
    depth: int = 0


def render(area: Area, name: str, words: Words) -> str:
    """The page. `name`: of the index; `words`: the beginning of the text of a node, by its id."""
    title = one_line(area.label, 160) or name
    main = tag(
        "main",
        tag("p", f"An overview of {one_line(name, 120)}", cls="kicker"),
        tag("h1", title),
        tag("p", _facts(area), cls="meta"),
        _said(area, words),
        tag("section", tag("h2", "Map"), _map(area), id="map") if area.inside else None,
        tag("section", tag("h2", "Areas"), _areas(area, words), id="areas"),
        id="top",
    )
    links = (("map", "Map"), ("areas", "Areas")) if area.inside else (("areas", "Areas"),)
    nav = tag(
        "nav",
        tag("a", "raptor-rlm", href="#top", cls="home"),
        *(tag("a", words, href=f"#{anchor}") for anchor, words in links),
        aria_label="Parts of this page",
    )
    skip = tag("a", "Skip to the areas", href="#areas", cls="skip")
    return document(f"{title} · overview", join([skip, nav, main]), style() + _style(), "")


def _facts(area: Area) -> str:
    sizes = [count(area.documents, "document"), count(area.chunks, "chunk"), count(area.chars, "character")]
    return " · ".join([percent(area.share), *sizes, *([dates(area)] if area.dates else [])])


# -- the areas one by one ----------------------------------------------------------------------------------


def _areas(area: Area, words: Words) -> Html:
    if not area.inside:
        return tag("p", "There is nothing inside that could be told apart.", cls="meta")
    rows = [_row(one, words, 3) for one in area.inside]
    return tag("ol", *rows, *_more(area), cls="areas")


def _row(area: Area, words: Words, heading: int) -> Html:
    inner = tag("ol", *(_row(one, words, min(heading + 1, 6)) for one in area.inside), *_more(area))
    return tag(
        "li",
        tag(f"h{heading}", one_line(area.label, 200) or "(no label)", tag("span", area.node, cls="id")),
        tag("p", _facts(area), cls="meta"),
        tag("p", "; ".join(area.names), cls="names") if area.names else None,
        _said(area, words),
        inner if area.inside else None,
        id=_anchor(area),
        tabindex="-1",
    )


def _said(area: Area, words: Words) -> Html:
    return fold("Its summary" if area.level else "Its words", pre(words(area.node), "words"), cls="sent")


def _more(area: Area) -> Iterator[Html]:
    if area.more and area.inside:
        yield tag("li", f"and {count(area.more, 'more area')} inside {area.node}", cls="meta")


def _anchor(area: Area) -> str:
    return f"a-{area.node}"


# -- the map -----------------------------------------------------------------------------------------------


def _map(area: Area) -> Html:
    picture = tag(
        "svg",
        *map(_drawn, boxes(area)),
        viewBox=f"0 0 {_WIDE:g} {_HIGH:g}",
        role="group",
        aria_label="Map of the areas: each is as large as the text in it",
    )
    return tag("div", picture, cls="map")


def boxes(area: Area) -> Iterator[Box]:
    """The rectangles of the map, each before those inside it, and none outside of the one around it."""
    yield from _inside(Box(0.0, 0.0, _WIDE, _HIGH, area, depth=0), 0.0)


def _inside(box: Box, head: float) -> Iterator[Box]:
    area = box.area
    if area is None or box.depth >= _DEEPEST:
        return
    left, top = box.left + _GAP, box.top + max(head, _GAP)
    width, height = box.width - 2 * _GAP, box.height - max(head, _GAP) - _GAP
    if min(width, height) < _LEAST:
        return
    rest = max(area.chars - sum(one.chars for one in area.inside), 0) if area.more else 0
    parts: list[tuple[float, Area | None]] = [(float(one.chars), one) for one in area.inside if one.chars]
    parts += [(float(rest), None)] if rest else []
    sides = squarified([size for size, _ in parts], left, top, width, height)
    for (_, one), (x, y, w, h) in zip(parts, sides, strict=True):
        inner = Box(x, y, w, h, one, 0 if one else area.more, box.depth + 1)
        yield inner
        yield from _inside(inner, _HEAD)


def squarified(
    sizes: Sequence[float], left: float, top: float, width: float, height: float
) -> list[tuple[float, float, float, float]]:
    """(left, top, width, height) of a rectangle for each size, that together fill the one given; near to squares.

    Sizes are above 0, the largest first. The algorithm: Bruls, Huizing and van Wijk, "Squarified Treemaps", 2000.
    """
    made: list[tuple[float, float, float, float]] = []
    waiting, scale = list(sizes), width * height / sum(sizes) if sizes else 0.0
    while waiting:
        side = min(width, height)
        row = waiting[:1]
        while len(row) < len(waiting) and _worst(waiting[: len(row) + 1], side, scale) <= _worst(
            row, side, scale
        ):
            row = waiting[: len(row) + 1]
        waiting = waiting[len(row) :]
        thick = sum(row) * scale / side if side else 0.0
        at = 0.0
        for size in row:
            long = side * size / sum(row)
            made.append((left + at, top, long, thick) if width < height else (left, top + at, thick, long))
            at += long
        if width < height:
            top, height = top + thick, max(height - thick, 0.0)
        else:
            left, width = left + thick, max(width - thick, 0.0)
    return made


def _worst(row: Sequence[float], side: float, scale: float) -> float:
    """How far from a square the least square one of a row is."""
    area = sum(row) * scale
    if not side or not area:
        return 0.0
    return max(max(side**2 * size * scale / area**2, area**2 / (side**2 * size * scale)) for size in row)


def _drawn(box: Box) -> Html:
    letters = int((box.width - 14) / _CHAR)
    label = box.area.label if box.area else f"{box.more:,} more"
    shape = tag(
        "rect",
        x=f"{box.left + 0.5:.1f}",
        y=f"{box.top + 0.5:.1f}",
        width=f"{max(box.width - 1, 0.5):.1f}",
        height=f"{max(box.height - 1, 0.5):.1f}",
        rx="4",
    )
    is_around = box.area is not None and bool(box.area.inside) and box.depth < _DEEPEST
    words = join(
        tag("text", line, x=f"{box.left + 7:.1f}", y=f"{box.top + 16 + _LINE * row:.1f}")
        for row, line in enumerate(
            _wrapped(label, letters, 1 if is_around else int((box.height - 4) / _LINE))
        )
    )
    if box.area is None:
        return tag("g", tag("title", f"{box.more:,} more, not drawn"), shape, words, cls="passed")
    hint = tag("title", f"{label}: {_facts(box.area)}")
    return tag(
        "a",
        hint,
        shape,
        words,
        href=f"#{_anchor(box.area)}",
        cls="entered" if box.depth == 1 else "seen",
        tabindex=None if box.depth == 1 else "-1",  # the list has them all
    )


def _wrapped(label: str, letters: int, lines: int) -> list[str]:
    """A label in lines of so many letters; [] where there is no room for words."""
    if letters < 4 or lines < 1:
        return []
    return wrap(one_line(label, letters * lines), letters, max_lines=lines, placeholder="…")


@cache
def _style() -> str:
    return (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
