"""What a build will cost, before it costs anything: all of it that is free is done, and the rest is counted.

Chunks are embedded and clustered for real, and summarised by the extractive stand-in, level by level; requests are
counted as the paid model would count them. What was embedded is kept in the index folder's checkpoint, so a build that
follows starts from there. Of a large corpus only some runs of neighbouring chunks are taken, and the rest is scaled.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from raptor.corpus import new_parts
from raptor.errors import RaptorError
from raptor.grower import Grower
from raptor.loading.parsed import CheckpointCache
from raptor.loading.types import Failure
from raptor.reconciling import drops
from raptor.sampling import level_costs, sampled_leaves, scaled
from raptor.settings import EMBEDDER, SUMMARIZER, BuildSettings
from raptor.types import Part
from raptor.workspace import (
    Clock,
    Progress,
    Sources,
    check_target,
    embedder_for,
    find_files,
    load_texts,
    opened_when_needed,
    silent,
)
from rlm.gateway.models import check_model, price

NODE_BYTES = 120  # a node's row, edges and words for lexical search, beside its vector; measured
TEXT_COPIES = 1.6  # the text, and what summaries and BM25 columns add to it; measured
CALL_S = 3.0  # a middling provider's time for a summary; offline models are measured instead


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a build is expected to take.

    `sampled`: chunks that were clustered to know it. `levels[i]`: nodes at level i. `recorded`: summaries that an
    earlier run paid for; `calls`, tokens and dollars are of those still to be paid for. `usd_low`: for replies of half
    the length that is allowed, `usd_high`: of all of it; None where the model's price is not known. `disk_bytes`: size
    of the index. `dropped`: ids of the documents that an index there holds and the build would drop.
    """

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
    dropped: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON has them, with `tokens`, which is prompt and completion tokens together."""
        return asdict(self) | {"tokens": self.prompt_tokens + self.completion_tokens}


def estimate(
    sources: Sources,
    index: str | Path,
    *,
    follow_links: bool = False,
    password: str = "",
    summarizer: str = SUMMARIZER,
    embedder: str = EMBEDDER,
    settings: BuildSettings | None = None,
    progress: Progress | None = None,
) -> tuple[Estimate, list[Failure]]:
    """What `build_index` with the same arguments would take, and the sources that it could not load.

    Calls no model that costs money and publishes nothing. Raises as `build_index` does.
    """
    settings, clock, out = settings or BuildSettings(), Clock(), Path(index)
    check_target(out)
    check_model(summarizer)
    files = find_files(
        out,
        sources,
        clock,
        follow_links=follow_links,
        encoding=settings.encoding,
        ocr_language=settings.ocr_language,
        password=password,
    )
    model = embedder_for(embedder, settings)
    with opened_when_needed(out) as checkpoint:
        texts, failures = load_texts(files, progress or silent, clock, CheckpointCache(out, checkpoint))
        grower = Grower(model, summarizer, settings, checkpoint(), progress or silent)
        expected = _expected(new_parts(texts, grower), grower, clock)
        return replace(expected, dropped=tuple(drops(out, texts))), failures


def _expected(parts: Sequence[Part], grower: Grower, clock: Clock) -> Estimate:
    with clock.stage("sample"):
        leaves, chunks = sampled_leaves(parts, grower)
        costs = level_costs(grower, leaves, grower.summarizer)
        costs = scaled(chunks, len(leaves), costs, grower.settings.root_children)
    nodes, recorded = sum(c.nodes for c in costs), sum(c.recorded for c in costs)
    if len(leaves) < chunks:  # what was paid for is of other clusters than the part's
        recorded = min(nodes, grower.checkpoint.count("summary"))
        costs = [c.less(recorded / nodes) for c in costs]
    calls = nodes - recorded
    prompt, completion = sum(c.prompt_tokens for c in costs), sum(c.completion_tokens for c in costs)
    low, high = dollars(grower.summarizer, calls, prompt, grower.settings.summary_tokens)
    text_bytes = sum(len(part.text.encode()) for part in parts)
    offline = grower.summarizer.startswith("offline/")
    waiting_s = 0.0 if offline else calls * CALL_S / grower.settings.concurrency
    working_s = clock.seconds["sample"] * (chunks + nodes) / max(1, len(leaves)) + sum(clock.seconds.values())
    return Estimate(
        documents=len(parts),
        chunks=chunks,
        sampled=len(leaves),
        levels=(chunks, *(c.nodes for c in costs)),
        calls=calls,
        recorded=recorded,
        prompt_tokens=prompt,
        completion_tokens=completion,
        usd_low=low,
        usd_high=high,
        minutes=round((waiting_s + working_s) / 60, 1),
        disk_bytes=round(
            (chunks + nodes) * (grower.embedder.dim * 4 + NODE_BYTES) + text_bytes * TEXT_COPIES
        ),
    )


def dollars(
    model: str, calls: int, prompt_tokens: int, reply_tokens: int
) -> tuple[float | None, float | None]:
    """(low, high) of calls with `prompt_tokens` in all and `reply_tokens` in each reply at most; None: no price."""
    low = price(model, prompt_tokens, calls * reply_tokens // 2)
    return low, price(model, prompt_tokens, calls * reply_tokens)


def refuse_above_cap(usd: float | None, parts: Sequence[Part], grower: Grower) -> None:
    """Raise RaptorError where what is still to be paid for is expected to cost more than `usd`."""
    if usd is not None and price(grower.summarizer, 1000, 1000):
        check_cap(_expected(parts, grower, Clock()), usd)


def check_cap(expected: Estimate, usd: float | None) -> None:
    """Raise RaptorError where the least that is expected is more than `usd`."""
    if usd is not None and (expected.usd_low or 0) > usd:
        raise RaptorError(
            f"the build needs about ${expected.usd_low:.4f} to ${expected.usd_high:.4f}, above the cap of ${usd:.4f}, "
            "and was not started; raise --max-usd, or choose a cheaper --summarizer"
        )
