"""Curves as a picture: an SVG that needs nothing else, both axes by powers of ten."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import cycle

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 780, 420, 70, 240, 56, 56
LINE = 17  # between names
COLOURS = ("#1f5fa8", "#b3402a", "#2d7d46", "#8a5ca8", "#a07a12", "#4a4a4a")
Points = Sequence[tuple[float, float]]
At = Callable[[float, float], tuple[float, float]]


def picture(title: str, across: str, up: str, curves: Mapping[str, Points]) -> str:
    """The curves by their names. Points that are not above 0 are left out; some must be left."""
    drawn = {name: [p for p in points if min(p) > 0] for name, points in curves.items()}
    xs = _range([x for points in drawn.values() for x, _ in points])
    ys = _range([y for points in drawn.values() for _, y in points])

    def at(x: float, y: float) -> tuple[float, float]:
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + wide * _share(x, xs), HEIGHT - BOTTOM - high * _share(y, ys)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 24, title, size=15),
        *_grid(at, xs, ys),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, across, anchor="middle"),
        _text(LEFT - 58, TOP - 6, up),
        *_curves(at, drawn),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _range(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that hold all values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _share(value: float, powers: tuple[int, int]) -> float:
    return (math.log10(value) - powers[0]) / (powers[1] - powers[0])


def _grid(at: At, xs: tuple[int, int], ys: tuple[int, int]) -> Iterator[str]:
    for power in range(xs[0], xs[1] + 1):
        (x, low), (_, high) = at(10**power, 10 ** ys[0]), at(10**power, 10 ** ys[1])
        yield f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="#dddddd"/>'
        yield _text(x, low + 18, _number(power), anchor="middle")
    for power in range(ys[0], ys[1] + 1):
        (low, y), (high, _) = at(10 ** xs[0], 10**power), at(10 ** xs[1], 10**power)
        yield f'<path d="M{low:.1f} {y:.1f}H{high:.1f}" stroke="#dddddd"/>'
        yield _text(low - 8, y + 4, _number(power), anchor="end")


def _curves(at: At, curves: Mapping[str, Points]) -> Iterator[str]:
    places = {name: [at(*point) for point in points] for name, points in curves.items()}
    colours = dict(zip(curves, cycle(COLOURS), strict=False))
    for name, line in places.items():
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        yield f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in line)
    below = 0.0
    for name in sorted(places, key=lambda name: places[name][-1][1]):  # names do not lie on each other
        x, y = places[name][-1]
        below = max(below + LINE, y)
        yield _text(x + 9, below + 4, name, colour=colours[name])


def _number(power: int) -> str:
    return f"{10**power:,}" if 0 <= power < 4 else f"{10**power:g}" if -4 < power < 0 else f"1e{power}"


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 13, colour: str = "#222222"
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {place}>{escape(words)}</text>"
