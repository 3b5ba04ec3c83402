"""A part of a corpus, and the cost of the whole tree by it: it is built with an offline stand-in, and scaled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from index_store.outline import Outline
from raptor.clustering.planning import Group
from raptor.corpus import corpus_of, headed
from raptor.grower import Grower
from raptor.loading.types import Text
from raptor.metering import Meter
from raptor.summarising import Summary, parse_summary, summary_request
from raptor.types import Changes, Level, Part
from rlm.gateway.offline.extractive import MODEL as STAND_IN
from rlm.gateway.offline.registry import find_handler
from rlm.gateway.tokens import count_tokens, truncate

SAMPLE, RUN = (
    20_000,
    500,
)  # most chunks in the part, and neighbouring ones taken together: to hold a build to its cap
QUICK, QUICK_RUN = 96, 16  # the same, where an estimate is wanted at once
WINDOWS, WINDOW = (
    20,
    15_000,
)  # of a large corpus so many pieces are cut into chunks, each of so many characters


@dataclass(frozen=True, slots=True)
class LevelCost:
    """One level above the chunks: its nodes, how many of them are recorded, and the tokens of calls for the others."""

    nodes: int
    prompt_tokens: int
    completion_tokens: int
    recorded: int = 0

    def less(self, share: float) -> "LevelCost":
        """Without a share of its calls."""
        left = 1 - share
        prompt, completion = round(self.prompt_tokens * left), round(self.completion_tokens * left)
        return replace(self, prompt_tokens=prompt, completion_tokens=completion)


def windows(texts: Sequence[Text]) -> list[Text]:
    """The texts, or pieces of them that lie evenly over all their characters."""
    ends = np.cumsum([len(text.text) for text in texts])
    if ends[-1] <= WINDOWS * WINDOW:
        return list(texts)
    pieces = []
    for place in np.linspace(0, ends[-1] - 1, WINDOWS, endpoint=False).astype(int).tolist():
        number, left = int(np.searchsorted(ends, place, side="right")), WINDOW
        start = place - int(ends[number]) + len(texts[number].text)
        while left > 0 and number < len(texts):
            words = texts[number].text
            start = max(0, min(start, len(words) - left))
            pieces.append(replace(texts[number], text=words[start : start + left]))
            left, number, start = left - len(words), number + 1, 0
    return pieces


def sampled_leaves(parts: Sequence[Part], grower: Grower, most: int, run: int) -> tuple[Level, int]:
    """The chunks of the part as a level, and how many chunks there are in all."""
    ends = np.cumsum([len(part.spans) for part in parts])
    chunks = int(ends[-1])
    if chunks <= most:
        return corpus_of(parts, Changes(), grower).leaves, chunks  # the very batches that a build embeds
    sample = list[tuple[Part, int, int]]()
    for d, numbers in groupby(sample_of(chunks, most, run), lambda i: int(np.searchsorted(ends, i, "right"))):
        part = parts[d]
        sample += [(part, *part.spans[i - int(ends[d])]) for i in numbers]
    texts = [part.text[a:b] for part, a, b in sample]
    names = [f"{part.document.id} {a}-{b}" for part, a, b in sample]
    outlines = {part.document.id: Outline(part.document) for part, _, _ in sample}
    heads = [outlines[part.document.id].heading(a) for part, a, _ in sample]
    words = [headed(head, text) for head, text in zip(heads, texts, strict=True)]
    places = [outlines[part.document.id].place(a) for part, a, _ in sample]
    return replace(_new_level(texts, names, words, "embed", grower), places=places), chunks


def sample_of(chunks: int, most: int, run: int) -> list[int]:
    """The numbers of the chunks in the part: all of a small corpus, else runs spread evenly over it."""
    if chunks <= most:
        return list(range(chunks))
    starts = np.linspace(0, chunks - run, most // run).astype(int)
    return sorted({i for start in starts.tolist() for i in range(start, start + run)})


def level_costs(grower: Grower, leaves: Level, model: str, meter: Meter | None = None) -> list[LevelCost]:
    """The levels above `leaves`, built with the offline stand-in but counted as `model` would be.

    `meter`: measures the summaries.
    """
    level, costs, meter = leaves, list[LevelCost](), meter or Meter()
    while len(level) > 1:
        groups = grower.plan(level, len(costs) + 1)
        requests = [
            summary_request(model, grower.blocks(level, g), grower.settings.summary_tokens, grower.options)
            for g in groups
        ]
        known = [grower.recorded(r) for r in requests]
        new = [r for r, summary in zip(requests, known, strict=True) if summary is None]
        handler = find_handler(STAND_IN)
        with meter.measuring("summarise", len(new)):
            replies = [truncate(handler(list(r.messages), r.max_tokens), r.max_tokens) for r in new]
        prompt = sum(count_tokens(model, r.messages) for r in new)
        completion = sum(count_tokens(model, reply) for reply in replies)
        costs.append(LevelCost(len(groups), prompt, completion, len(groups) - len(new)))
        rest = map(parse_summary, replies)
        level = _above(grower, groups, [summary or next(rest) for summary in known])
    return costs


def _above(grower: Grower, groups: Sequence[Group], summaries: Sequence[Summary]) -> Level:
    texts = [s.text for s in summaries]
    words = [f"{s.label}\n{s.text}" for s in summaries]
    return _new_level(texts, [s.label for s in summaries], words, "estimate", grower)


def _new_level(
    texts: Sequence[str], names: Sequence[str], words: Sequence[str], stage: str, grower: Grower
) -> Level:
    """A level that no generation has yet. `words`: what is embedded of each node."""
    vectors = grower.embed(words, stage)
    tokens = np.array(grower.embedder.count_tokens(texts), dtype=np.int64)
    return Level(texts, names, tokens, vectors, [None] * len(texts), [False] * len(texts))


def side_by_side(trees: Sequence[Sequence[LevelCost]]) -> list[LevelCost]:
    """The levels of trees that stand side by side, those of the same height together."""
    rows = [[tree[i] for tree in trees if i < len(tree)] for i in range(max(map(len, trees), default=0))]
    return [
        LevelCost(
            sum(c.nodes for c in row),
            sum(c.prompt_tokens for c in row),
            sum(c.completion_tokens for c in row),
            sum(c.recorded for c in row),
        )
        for row in rows
    ]


def above_roots(
    chunks: Sequence[int], trees: Sequence[Sequence[LevelCost]], root_children: int
) -> list[LevelCost]:
    """The levels of the tree over the roots of some trees, by what the tallest takes above its summaries, or, where it
    has but a root, above its chunks. `chunks`: of each tree. None is recorded."""
    if len(trees) < 2:
        return []
    sampled, costs = max(zip(chunks, trees, strict=True), key=lambda one: len(one[1]))
    if not costs:
        return [LevelCost(1, 0, 0)]
    if len(costs) > 1:
        sampled, costs = costs[0].nodes, costs[1:]
    return [replace(cost, recorded=0) for cost in scaled(len(trees), sampled, costs, root_children)]


def scaled(chunks: int, sampled: int, costs: Sequence[LevelCost], root_children: int) -> list[LevelCost]:
    """The levels of the whole tree, by the part's ratios; above the part's top, by its last full ratio."""
    if chunks == sampled or not costs:
        return list(costs)
    below, out, ratio, last = chunks, [], 1.0, costs[0]
    sizes = [sampled, *(c.nodes for c in costs)]
    for height in range(64):
        if height < len(costs) and (sizes[height] > root_children or height == 0):
            ratio, last = sizes[height] / costs[height].nodes, costs[height]
        nodes = 1 if below <= root_children else max(1, round(below / ratio))
        # Prompt tokens grow with the nodes that are read, completion tokens with those that are written.
        read, written = below / (last.nodes * ratio), nodes / last.nodes
        out.append(
            LevelCost(nodes, round(last.prompt_tokens * read), round(last.completion_tokens * written))
        )
        if nodes == 1:
            return out
        below = nodes
    return out
