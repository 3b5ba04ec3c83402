"""An overview as text: a nested list that is cut to the width it is given."""

from collections.abc import Iterator

from index_store.areas import Area
from index_store.terminal import count, one_line, percent

LEAST_WIDTH = 40


def as_text(area: Area, width: int) -> str:
    """The areas, each in two lines of at most `width` characters, those inside set in. It is at least LEAST_WIDTH."""
    return "\n".join(_lines(area, max(width, LEAST_WIDTH), 0))


def facts(area: Area) -> str:
    """How large an area is, and what its documents are dated."""
    sizes = (
        count(area.documents, "document"),
        count(area.chunks, "chunk"),
        count(area.chars, "character"),
        dates(area),
    )
    return ", ".join(size for size in sizes if size)


def dates(area: Area) -> str:
    """From the first date to the last; "" for none."""
    return " to ".join(dict.fromkeys(area.dates))


def _lines(area: Area, width: int, depth: int) -> Iterator[str]:
    indent = " " * min(3 * depth, width // 2)
    own = width - len(indent) - 6
    yield f"{indent}{percent(area.share):>4}  {_beside(area.label or '(no label)', area.node, own)}"
    told = f"{facts(area)}{'; it names ' if area.names else ''}{'; '.join(area.names)}"
    yield f"{indent}      {one_line(told, own)}"
    for one in area.inside:
        yield from _lines(one, width, depth + 1)
    if area.more and area.inside:
        yield f"{indent}         {one_line(f'and {area.more:,} more inside {area.node}', own - 3)}"


def _beside(label: str, node: str, width: int) -> str:
    """A label, and its node's id beside it, at the end of the line."""
    words = one_line(label, max(width - len(node) - 2, 1))
    return f"{words}{' ' * max(width - len(words) - len(node), 2)}{node}"
