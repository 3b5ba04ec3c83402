"""The pictures of the notebooks: the tree, its chunks as a map, the way of a question, and its tokens.

Each function returns a small PNG that a notebook shows. They read the index and the trace by public names alone: take
one as a beginning for a picture of your own.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from corpus import shown
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

import index_store
from rlm import audit

matplotlib.rcParams.update(
    {"font.size": 9, "font.family": "DejaVu Sans"}
)  # a font that matplotlib brings along
#: Colours that stay apart for most eyes; a tree has at most twelve branches under its root by default.
COLOURS = """
#4477aa #ee6677 #228833 #ccbb44 #66ccee #aa3377 #8c564b #f28e2b #332288 #1b9e9e #999933 #d37fb8
""".split()  # noqa: SIM905
PALE, GREY, INK, ACCENT = "#d4d7db", "#9aa0a6", "#24292f", "#c2410c"
ROW = 0.21  # inches for a line of text
LABEL_ROWS = 4  # that a dot takes with its label under it
DPI = 80
COLOURS_KEPT = 128

Index = index_store.Index
Events = Sequence[Mapping[str, Any]]
#: Where each node is drawn: levels below the root, and row.
Places = dict[str, tuple[float, float]]


def tree(index: Index) -> Image:
    """The tree from its root on the left to the lowest summaries on the right; a dot is as large as the chunks below
    it are many. Thin dashed lines lead to a second parent."""
    figure, axes, at = _tree_axes(index, under=0.3)
    colours = _branch_colours(index)
    for node in _summaries(index):
        colour = colours.get(node.id, INK)
        for rank, parent in enumerate(index.parents(node.id)):
            line: dict[str, Any] = (
                {"lw": 1.4, "alpha": 0.8} if rank == 0 else {"lw": 0.6, "ls": "--", "alpha": 0.5}
            )
            _edge(axes, at[parent.id], at[node.id], color=colour, **line)
        axes.scatter(*at[node.id], s=14 + 5 * len(index.leaves(node.id)) ** 0.8, color=colour, zorder=3)
        _label(axes, index, node, at[node.id], INK)
    return _image(figure, f"The tree: {_levels(index)}")


def routes(index: Index, events: Events) -> Image:
    """The tree in grey, and in colour the way that a run took: the branches it entered, and under each of the lowest
    summaries how many chunks it read and cited. A hollow dot was on offer and not entered."""
    figure, axes, at = _tree_axes(index)
    entered, offered, read, cited = _visited(events)
    ways = {node for chunk in cited for node in (step.id for step in index.path_to(chunk))} & at.keys()
    under = {name: _by_parent(index, chunks) for name, chunks in (("read", read), ("cited", cited))}
    for node in _summaries(index):
        _marked_edge(axes, index, node, at, node.id in ways)
        counts = [f"{counted[node.id]} {what}" for what, counted in under.items() if counted[node.id]]
        touched = node.id in entered or bool(counts) or node.id in ways
        fill_ = ACCENT if node.id in entered else "white" if node.id in offered else PALE
        rim = ACCENT if node.id in entered | offered or touched else PALE
        axes.scatter(*at[node.id], s=48 if touched else 22, color=fill_, edgecolors=rim, zorder=3)
        note = f"  ({', '.join(counts)})" if counts else ""
        _label(axes, index, node, at[node.id], ACCENT if touched else GREY, note)
    figure.legend(
        handles=[
            Line2D([], [], color=ACCENT, lw=2.2, label="the way to what is cited"),
            _dot("entered", ACCENT, ACCENT),
            _dot("on offer, not entered", "white", ACCENT),
            _dot("never shown", PALE, PALE),
        ],
        loc="lower center",
        ncols=4,
        frameon=False,
    )
    return _image(
        figure, f"The way through the tree: {len(entered)} branches entered, {len(cited)} chunks cited"
    )


def changes(index: Index, before: Index) -> Image:
    """The tree in grey, and in colour the summaries that an earlier generation has not; beside the lowest how many of
    their chunks are new."""
    figure, axes, at = _tree_axes(index)
    known = {before.text_at(number) for number in range(len(before))}
    written = 0
    for node in _summaries(index):
        is_new = index.text(node.id) not in known
        written += is_new
        _marked_edge(axes, index, node, at, is_new)
        axes.scatter(*at[node.id], s=48 if is_new else 22, color=ACCENT if is_new else PALE, zorder=3)
        chunks = sum(index.text(leaf.id) not in known for leaf in index.leaves(node.id))
        note = f"  (new chunks: {chunks})" if chunks and node.level == 1 else ""
        _label(axes, index, node, at[node.id], ACCENT if is_new else GREY, note)
    handles = [_dot("written anew", ACCENT, ACCENT), _dot("kept", PALE, PALE)]
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False)
    return _image(figure, f"The tree after an update: {written} summaries written anew, the others kept")


def clusters(index: Index, question: str = "") -> Image:
    """Each chunk as a dot, near to those that say alike, in the colour of its branch under the root; the question as a
    star, and the chunks that a search finds for it with a ring."""
    chunks = [index.id_of(number) for number in index.level_range(0)]
    vectors = index.vectors[: len(chunks)]
    if question:
        vectors = np.concatenate([vectors, index.embed_queries([question])])
    with threadpool_limits(1):  # threads that wait for each other take far longer on a busy machine
        few = PCA(30, random_state=0).fit_transform(
            vectors
        )  # t-SNE finds the same neighbours in these, sooner
        points = TSNE(init="pca", random_state=0).fit_transform(few)
    branches = [index.path_to(chunk)[1].id for chunk in chunks]
    colours = _branch_colours(index)
    figure = Figure(figsize=(9, 6.2))
    axes = figure.add_axes((0.01, 0.02, 0.62, 0.96))
    axes.scatter(*points[: len(chunks)].T, s=20, c=[colours[b] for b in branches], linewidths=0)
    if question:
        found = [chunks.index(hit.node) for hit in index.search(question, 8)]
        axes.scatter(*points[found].T, s=80, facecolors="none", edgecolors=INK, linewidths=1.3)
        axes.scatter(*points[-1], s=260, marker="*", color=INK, edgecolors="white", zorder=4)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_color(PALE)
    handles = [
        _dot(fill(shown(index.node(branch).label, 64), 34) + f"  ({count})", colours[branch], colours[branch])
        for branch, count in sorted(Counter(branches).items())
    ]
    if question:
        handles.append(
            Line2D([], [], marker="*", ms=13, ls="", color=INK, label=fill(shown(question, 90), 34))
        )
        handles.append(_dot("what a search finds for it", "white", INK))
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.64, 0.5), frameon=False, labelspacing=0.9
    )
    return _image(figure, f"{len(chunks)} chunks as a map, in the colours of {len(set(branches))} branches")


def tokens(events: Events, usd_per_million: tuple[float, float]) -> Image:
    """Tokens of each turn, of the root model and of the calls that its code made, and what they would have cost so far
    at these prices: dollars for a million tokens that a model reads, and for a million that it writes."""
    turns: dict[str, Counter[int]] = defaultdict(Counter)
    dollars = Counter[int]()
    turn = 0
    for event in events:
        turn += event["kind"] == "model_asked" and event["conversation"] == "0"
        if event["kind"] == "model_answered":
            who = "root" if event["conversation"] == "0" else "sub-calls"
            used = event["usage"]
            turns[f"{who}: read"][turn] += used["prompt_tokens"]
            turns[f"{who}: wrote"][turn] += used["completion_tokens"]
            prices = np.array(usd_per_million) / 1e6
            dollars[turn] += float(prices @ [used["prompt_tokens"], used["completion_tokens"]])
    numbers = np.arange(1, turn + 1)
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    below = np.zeros(turn)
    for (what, counts), colour in zip(
        turns.items(), ("#4477aa", "#99bbdd", "#ee8866", "#ffccaa"), strict=False
    ):
        heights = np.array([counts[n] for n in numbers], dtype=float)
        axes.bar(numbers, heights, 0.6, below, color=colour, label=what)
        below += heights
    axes.set(xlabel="turn", ylabel="tokens", xticks=numbers)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    right = axes.twinx()
    sums = 100 * np.cumsum([dollars[n] for n in numbers])
    right.plot(numbers, sums, color=INK, marker="o", ms=4, label="cost so far, at the prices given")
    right.set(ylabel="US cents", ylim=(0, None))
    for side in (axes, right):
        side.spines["top"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return _image(figure, f"Tokens of {turn} turns")


# -- the tree as a drawing ---------------------------------------------------------------------------------


def _tree_axes(index: Index, under: float = 0.65) -> tuple[Figure, Axes, Places]:
    """An empty drawing for the summaries, and the place of each; `under`: inches below the last row, for its label and
    a legend."""
    top = index.root.level
    y: dict[str, float] = {}

    def place(node: index_store.Node, row: float) -> float:
        """Place a node whose rows begin here, and what is below it; returns the row behind them."""
        children = [
            child for child in index.children(node.id) if child.level and index.parents(child.id)[0] == node
        ]
        if not children:
            y[node.id] = row
            return row + 1
        end = row
        for child in children:
            end = place(child, end)
        y[node.id] = float(np.mean([y[child.id] for child in children]))
        return max(end, row + LABEL_ROWS)

    rows = place(index.root, 0.0)
    height = ROW * rows
    figure = Figure(figsize=(9.5, height + under))
    axes = figure.add_axes((0.0, under / (height + under), 1.0, height / (height + under)))
    axes.set(xlim=(-0.15, top + 1.0), ylim=(rows - 0.5, -0.5))
    axes.axis("off")
    return figure, axes, {node: (float(top - index.node(node).level), row) for node, row in y.items()}


def _summaries(index: Index) -> Iterable[index_store.Node]:
    return (node for level in range(1, len(index.levels)) for node in index.nodes(level))


def _edge(axes: Axes, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    """An S-shaped line between two nodes."""
    t = np.linspace(0, 1, 24)
    axes.plot(
        start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * (3 * t**2 - 2 * t**3), **style
    )


def _marked_edge(axes: Axes, index: Index, node: index_store.Node, at: Places, is_marked: bool) -> None:
    """The line from a node to its first parent, thick and in colour where it is marked."""
    style = {"color": ACCENT, "lw": 2.2} if is_marked else {"color": PALE, "lw": 0.8}
    for parent in index.parents(node.id)[:1]:
        _edge(axes, at[parent.id], at[node.id], **style)


def _label(
    axes: Axes, index: Index, node: index_store.Node, at: tuple[float, float], colour: str, note: str = ""
) -> None:
    """The label of a node: beside the lowest, under the others, where lines pass."""
    if node.level == 1:
        axes.text(at[0] + 0.05, at[1], shown(node.label, 62 - len(note)) + note, va="center", color=colour)
    elif node.level < index.root.level:
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.0}
        words = fill(shown(node.label, 84), 29) + note
        axes.text(at[0], at[1] + 0.75, words, ha="center", va="top", color=colour, bbox=box, zorder=4)


def _dot(label: str, inside: str, rim: str) -> Line2D:
    return Line2D([], [], marker="o", ls="", mfc=inside, mec=rim, label=label)


def _branch_colours(index: Index) -> dict[str, str]:
    """The colour of every node under the root: that of the branch in which its first parents lead to the root."""
    names = [child.id for child in index.children(index.root.id)]
    colours = dict(zip(names, COLOURS * len(names), strict=False))
    every = [node.id for level in range(len(index.levels) - 1) for node in index.nodes(level)]
    return {node: colours[index.path_to(node)[1].id] for node in every}


def _levels(index: Index) -> str:
    return ", ".join(f"{size} at level {level}" for level, size in reversed(list(enumerate(index.levels))))


def _visited(events: Events) -> tuple[set[str], set[str], set[str], set[str]]:
    """The nodes that a run entered, those that were on offer, and the chunks that it read and cited."""
    places = audit.places_of(list(events)).values()
    chunks = [place for place in places if place.level == 0]
    entered = {place.node for place in places if place.entered and place.level}
    offered = {place.node for place in places if place.level} - entered
    return entered, offered, {c.node for c in chunks if c.entered}, {c.node for c in chunks if c.cited}


def _by_parent(index: Index, chunks: Iterable[str]) -> Counter[str]:
    return Counter(index.path_to(chunk)[-2].id for chunk in chunks)


def _image(figure: Figure, alt: str) -> Image:
    """The figure as a PNG of few colours, which keeps a notebook small."""
    from PIL import Image as Picture

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=DPI, facecolor="white")
    Picture.open(drawn).convert("RGB").quantize(
        COLOURS_KEPT, Picture.Quantize.MAXCOVERAGE, dither=Picture.Dither.NONE
    ).save(small, "png", optimize=True)
    return Image(small.getvalue(), alt=alt)
