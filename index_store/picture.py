"""The tree of an index as one self-contained HTML file: levels, labels, sizes; click to read.

Nothing is fetched and no script runs: branches are <details>, so it works anywhere, and a hostile document is text.
"""

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from index_store.terminal import count, one_line, visible

if TYPE_CHECKING:
    from index_store.index import Index

    Floats = npt.NDArray[np.float64]

#: Above this many nodes the page leaves out the chunks, and says so: nobody could open one of a gigabyte.
MOST_NODES = 60_000
#: Of the children of one node that stand above already, so many are named again.
MOST_AGAIN = 20
LABEL_CHARS = 80
TEXT_CHARS = 1_200
MAP_WIDTH, ROW = 1000.0, 26

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #d9d9e0; --paper: #fbfbf9; --mark: #0b6e5f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #edeef0; --soft: #b0b4ba; --line: #363a3f; --paper: #141618; --mark: #5fd3bc; } }
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font: 1.6rem/1.3 Georgia, serif; } .soft { color: var(--soft); }
svg { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px; }
rect { stroke: var(--paper); } rect:hover { opacity: .7; }
svg text { font-size: 11px; fill: #fff; pointer-events: none; }
details, .leaf { margin-left: 1.1rem; border-left: 1px solid var(--line); padding-left: .7rem; }
summary { cursor: pointer; padding: .15rem 0; } summary:focus-visible { outline: 2px solid var(--mark); }
code { color: var(--mark); font-size: .85em; }
p { margin: .3rem 0 .6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def page(index: "Index") -> str:
    """The HTML. A node with several parents stands under the first of them; under the others there is a link to it."""
    m = index.manifest
    levels = " → ".join(f"{n:,}" for n in index.levels)
    with_leaves = len(index) <= MOST_NODES
    note = (
        ""
        if with_leaves
        else f"<p class=soft>{count(index.levels[0], 'chunk')} left out: too many for one page.</p>"
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f'<meta http-equiv=Content-Security-Policy content="{policy}">',
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>{_safe(index.path.name)}</title><style>{STYLE}</style>",
        f"<h1>{_safe(one_line(index.root.label, LABEL_CHARS))}</h1>",
        f"<p class=soft>{_safe(index.path.name)}, generation {m.generation}: "
        f"{count(len(index.documents), 'document')}, {count(index.chars, 'character')}; "
        f"nodes a level: {levels}</p>{note}",
        *_map(index),
        *_branch(index, len(index) - 1, set(), with_leaves, opened=True),
        "</html>",
    ]
    return "\n".join(parts)


def _map(index: "Index") -> Iterator[str]:
    """An icicle: the root on top, each node as wide as the chunks under it, three levels deep."""
    rows = min(3, len(index.levels))
    yield f'<svg viewBox="0 0 {MAP_WIDTH:g} {rows * ROW}" role=img aria-label="the tree from its root">'
    yield from _boxes(index, _chunks_below(index), len(index) - 1, 0.0, MAP_WIDTH, 0, rows)
    yield "</svg>"


def _boxes(
    index: "Index", chunks: "Floats", number: int, left: float, width: float, row: int, rows: int
) -> Iterator[str]:
    if width < 1.5:
        return
    node = index.at(number)
    label = _safe(one_line(node.label, LABEL_CHARS))
    hue = 165 + 25 * row
    yield (
        f'<a href="#{node.id}"><rect x="{left:.1f}" y="{row * ROW}" width="{width:.1f}" height="{ROW - 1}" rx="3" '
        f'fill="hsl({hue} 45% {28 + 7 * row}%)"><title>{node.id} {label}</title></rect>'
    )
    if width > 60:
        shown = _safe(one_line(node.label, LABEL_CHARS)[: int(width / 6.5)])
        yield f'<text x="{left + 5:.1f}" y="{row * ROW + 17}">{shown}</text>'
    yield "</a>"
    if row + 1 < rows:
        children = index.neighbours(number, "children")
        sizes = chunks[children]
        for child, share in zip(children, (width * sizes / max(1.0, sizes.sum())).tolist(), strict=True):
            yield from _boxes(index, chunks, child, left, share, row + 1, rows)
            left += share


def _chunks_below(index: "Index") -> "Floats":
    """How many chunks are below each node, (n,); one below several of its children counts for each of them."""
    parents, children = index.edges()
    counts = np.zeros(len(index))
    counts[: index.levels[0]] = 1
    for level in range(1, len(index.levels)):
        nodes = index.level_range(level)
        edges = slice(*np.searchsorted(parents, [nodes.start, nodes.stop]))
        sums = np.bincount(
            parents[edges] - nodes.start, weights=counts[children[edges]], minlength=len(nodes)
        )
        counts[nodes.start : nodes.stop] = np.minimum(sums, index.levels[0])
    return counts


def _branch(index: "Index", number: int, done: set[int], leaves: bool, opened: bool = False) -> Iterator[str]:
    """A node and what is under it, as nested <details>; depth is that of the tree, so recursion is bounded by it."""
    node = index.at(number)
    head = f"<code>{node.id}</code> {_safe(one_line(node.label, LABEL_CHARS))}"
    if number in done:
        yield f'<div class=leaf>{head} <a class=soft href="#{node.id}">stands above</a></div>'
        return
    done.add(number)
    children = [c for c in index.neighbours(number, "children") if leaves or c >= index.levels[0]]
    tokens = count(node.tokens, "token")
    size = f"{len(children):,} below, {tokens}" if children else tokens
    where = (
        f" · {_safe(one_line(node.span.doc, LABEL_CHARS))} {node.span.start}–{node.span.end}"
        if node.span
        else ""
    )
    begin = f'<details id="{node.id}"{" open" if opened else ""}>'
    yield f"{begin}<summary>{head} <span class=soft>{size}{where}</span></summary>"
    yield f"<p>{_safe(_cut(index.text_at(number)))}</p>"
    again = [c for c in children if c in done]
    left_out = set(again[MOST_AGAIN:])
    for child in children:
        if child not in left_out:
            yield from _branch(index, child, done, leaves)
    if left_out:
        yield f"<div class=leaf>and {len(left_out):,} more that stand above</div>"
    yield "</details>"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS else f"{text[:TEXT_CHARS]}…"


def _safe(text: str) -> str:
    return escape(visible(text))
