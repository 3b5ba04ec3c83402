"""What a build will cost, before it costs anything: all of it that is free is done, and the rest is counted.

Chunks are embedded and clustered for real, and summarised by the extractive stand-in, level by level; requests are
counted as the paid model would count them. What was embedded is kept in the index folder's checkpoint, so a build that
follows starts from there. Of a large corpus only some runs of neighbouring chunks are taken, and the rest is scaled.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raptor.checkpoint import key_of
from raptor.clustering.planning import Group
from raptor.corpus import corpus_of, new_parts, titled
from raptor.errors import RaptorError
from raptor.growing import Grower
from raptor.loading.parsed import Parsed
from raptor.settings import BuildSettings
from raptor.summarising import Summary, parse_summary, summary_request
from raptor.types import Changes, Level
from raptor.workspace import (
    Clock,
    check_target,
    embedder_for,
    find_files,
    load_texts,
    opened_when_needed,
    silent,
)
from rlm.gateway.models import check_model, price
from rlm.gateway.offline.registry import find_handler
from rlm.gateway.tokens import count_tokens, truncate
from rlm.gateway.types import Request

if TYPE_CHECKING:
    from raptor.loading.types import Failure
    from raptor.types import Part
    from raptor.workspace import Progress, Sources

SAMPLE = 20_000
RUN = 500
OFFLINE = "offline/extractive"
NODE_BYTES = 120  # a node's row, edges and words for lexical search, beside its vector; measured
TEXT_COPIES = 1.6  # the text, and what summaries and BM25 columns add to it; measured
CALL_S = 3.0  # a middling provider's time for a summary; offline models are measured instead


@dataclass(frozen=True, slots=True)
class Estimate:
    """`levels[i]`: nodes expected at level i. `calls`, tokens and dollars: what is still to be paid for, besides the
    `recorded` summaries that an earlier run paid for. Dollars: `usd_low` for replies of half the length that is
    allowed, `usd_high` for all of it; None where the model's price is not known. `disk_bytes`: of the index."""

    documents: int
    chunks: int
    sampled: int
    levels: tuple[int, ...]
    calls: int
    recorded: int
    prompt_tokens: int
    completion_tokens: int
    usd_low: float | None
    usd_high: float | None
    minutes: float
    disk_bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"tokens": self.prompt_tokens + self.completion_tokens}


def estimate(
    sources: "Sources",
    index: str | Path,
    *,
    summarizer: str = OFFLINE,
    embedder: str = "minilm",
    settings: BuildSettings | None = None,
    progress: "Progress | None" = None,
) -> tuple[Estimate, "list[Failure]"]:
    """What `build_index` with the same arguments would take. Raises as it does; publishes nothing."""
    settings, clock, out = settings or BuildSettings(), Clock(), Path(index)
    check_target(out)
    check_model(summarizer)
    found = find_files(out, sources, clock)
    model = embedder_for(embedder, settings)
    with opened_when_needed(out) as checkpoint:
        texts, failures = load_texts(found, progress or silent, clock, Parsed(out, checkpoint))
        grower = Grower(model, summarizer, settings, checkpoint(), progress or silent)
        parts = new_parts(texts, grower)
        return _estimate(parts, grower, clock), failures


def _estimate(parts: "Sequence[Part]", grower: Grower, clock: "Clock") -> Estimate:
    with clock.stage("sample"):
        leaves, chunks = sampled_leaves(parts, grower)
        rungs = scaled(
            chunks, len(leaves), rungs_of(grower, leaves, grower.summarizer), grower.settings.root_children
        )
    nodes, recorded = sum(r.nodes for r in rungs), sum(r.recorded for r in rungs)
    if len(leaves) < chunks:  # what was paid for is of other clusters than the part's
        recorded = min(nodes, grower.checkpoint.count("summary"))
        rungs = [r.less(recorded / nodes) for r in rungs]
    calls = nodes - recorded
    asked, said = (sum(r.prompt_tokens for r in rungs), sum(r.completion_tokens for r in rungs))
    low, high = dollars(grower.summarizer, calls, asked, grower.settings.summary_tokens)
    text_bytes = sum(len(part.text.encode()) for part in parts)
    offline = grower.summarizer.startswith("offline/")
    waiting_s = 0.0 if offline else calls * CALL_S / grower.settings.concurrency
    working_s = clock.seconds["sample"] * (chunks + nodes) / max(1, len(leaves)) + sum(clock.seconds.values())
    return Estimate(
        documents=len(parts),
        chunks=chunks,
        sampled=len(leaves),
        levels=(chunks, *(r.nodes for r in rungs)),
        calls=calls,
        recorded=recorded,
        prompt_tokens=asked,
        completion_tokens=said,
        usd_low=low,
        usd_high=high,
        minutes=round((waiting_s + working_s) / 60, 1),
        disk_bytes=round(
            (chunks + nodes) * (grower.embedder.dim * 4 + NODE_BYTES) + text_bytes * TEXT_COPIES
        ),
    )


def refuse_above_cap(usd: float | None, parts: "Sequence[Part]", grower: Grower) -> None:
    """Raise RaptorError where what is still to be paid for is expected to cost more than `usd`."""
    if usd is not None and price(grower.summarizer, 1000, 1000):
        check_cap(_estimate(parts, grower, Clock()), usd)


def check_cap(expected: Estimate, usd: float | None) -> None:
    """Raise RaptorError where the least that is expected is more than `usd`."""
    if usd is not None and (expected.usd_low or 0) > usd:
        raise RaptorError(
            f"the build needs about ${expected.usd_low:.4f} to ${expected.usd_high:.4f}, above the cap of ${usd:.4f}, "
            "and was not started; raise --max-usd, or choose a cheaper --summarizer"
        )


def sampled_leaves(parts: "Sequence[Part]", grower: Grower) -> tuple[Level, int]:
    """The chunks of the part as a level, and how many chunks there are in all."""
    chunks = [(part, a, b) for part in parts for a, b in part.spans]
    if len(chunks) <= SAMPLE:
        return corpus_of(parts, Changes(), grower).leaves, len(chunks)  # the very batches that a build embeds
    taken = [chunks[i] for i in sample_of(len(chunks))]
    texts = [part.text[a:b] for part, a, b in taken]
    names = [f"{part.document.id} {a}-{b}" for part, a, b in taken]
    words = [titled(part.document.title, text) for (part, _, _), text in zip(taken, texts, strict=True)]
    tokens = np.array(grower.embedder.count_tokens(texts), dtype=np.int64)
    vectors = grower.embed(words, "embed")
    return Level(texts, names, tokens, vectors, [None] * len(texts), [False] * len(texts)), len(chunks)


@dataclass(frozen=True, slots=True)
class Rung:
    """One level of the part: its nodes, how many of them were recorded, and the tokens of the calls for the others."""

    nodes: int
    prompt_tokens: int
    completion_tokens: int
    recorded: int = 0

    def less(self, share: float) -> "Rung":
        """Without a share of its calls."""
        left = 1 - share
        asked, said = round(self.prompt_tokens * left), round(self.completion_tokens * left)
        return replace(self, prompt_tokens=asked, completion_tokens=said)


def sample_of(count: int) -> list[int]:
    """Places of the chunks in the part: all of a small corpus, else runs spread evenly over it."""
    if count <= SAMPLE:
        return list(range(count))
    starts = np.linspace(0, count - RUN, SAMPLE // RUN).astype(int)
    return sorted({i for start in starts.tolist() for i in range(start, start + RUN)})


def rungs_of(grower: Grower, leaves: Level, model: str) -> list[Rung]:
    """The levels above `leaves`, built with the offline stand-in but counted as `model` would be."""
    level, rungs = leaves, list[Rung]()
    while len(level) > 1:
        groups = grower.plan(level, len(rungs) + 1)
        requests = [
            summary_request(model, grower.blocks(level, g), grower.settings.summary_tokens) for g in groups
        ]
        known = [recorded_summary(grower, r) for r in requests]
        new = [r for r, summary in zip(requests, known, strict=True) if summary is None]
        handler = find_handler(OFFLINE)
        replies = [truncate(handler(list(r.messages), r.max_tokens), r.max_tokens) for r in new]
        asked = sum(count_tokens(model, r.messages) for r in new)
        said = sum(count_tokens(model, reply) for reply in replies)
        rungs.append(Rung(len(groups), asked, said, len(groups) - len(new)))
        rest = map(parse_summary, replies)
        level = _above(grower, groups, [summary or next(rest) for summary in known])
    return rungs


def recorded_summary(grower: Grower, request: Request) -> Summary | None:
    """What an earlier run was given for this request; offline calls cost nothing, and so are counted again."""
    if request.model.startswith("offline/"):
        return None
    key = key_of("summary", request.model, list(request.messages), request.max_tokens)
    found = grower.checkpoint.get_json(key)
    return None if found is None else Summary(found["label"], found["text"])


def _above(grower: Grower, groups: Sequence[Group], made: Sequence[Summary]) -> Level:
    texts = [s.text for s in made]
    vectors = grower.embed([f"{s.label}\n{s.text}" for s in made], "estimate")
    tokens = np.array(grower.embedder.count_tokens(texts), dtype=np.int64)
    return Level(texts, [s.label for s in made], tokens, vectors, [None] * len(made), [False] * len(made))


def scaled(chunks: int, sampled: int, rungs: Sequence[Rung], root_children: int) -> list[Rung]:
    """The levels of the whole tree, by the part's ratios; above the part's top, by its last full ratio."""
    if chunks == sampled or not rungs:
        return list(rungs)
    below, out, ratio, last = chunks, [], 1.0, rungs[0]
    sizes = [sampled, *(r.nodes for r in rungs)]
    for height in range(64):
        if height < len(rungs) and (sizes[height] > root_children or height == 0):
            ratio, last = sizes[height] / rungs[height].nodes, rungs[height]
        nodes = 1 if below <= root_children else max(1, round(below / ratio))
        share = below / (
            last.nodes * ratio
        )  # tokens go with the nodes that are read, not with those that are made
        written = nodes / last.nodes
        out.append(Rung(nodes, round(last.prompt_tokens * share), round(last.completion_tokens * written)))
        if nodes == 1:
            return out
        below = nodes
    return out


def dollars(model: str, calls: int, asked: int, reply_tokens: int) -> tuple[float | None, float | None]:
    """(low, high) for calls with `asked` tokens in all; None where there is no price."""
    low = price(model, asked, calls * reply_tokens // 2)
    return low, price(model, asked, calls * reply_tokens)
