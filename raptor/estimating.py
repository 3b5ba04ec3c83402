"""What a build will take, in seconds, calls and dollars, said within seconds: from a part of the corpus, to be scaled.

Some of the files are read, some pieces of their texts cut, some chunks embedded and clustered, and summarised by the
extractive stand-in, level by level; requests are counted as the paid model would count them. Of a small corpus all of
it is. Nothing is written.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from index_store import embedder as embedders
from index_store.arguments import checked
from index_store.duplicates import near_duplicates
from index_store.embedder import AUTO, Embedder
from index_store.manifest import SHARDS
from index_store.paths import file_of
from raptor import metering
from raptor.checkpoint import SETTLED, Checkpoint
from raptor.corpus import new_parts
from raptor.errors import RaptorError
from raptor.grower import Grower
from raptor.loading.kinds import is_slow
from raptor.loading.load import load
from raptor.loading.metadata import Metadata
from raptor.loading.parsed import CheckpointCache
from raptor.loading.picking import picked
from raptor.loading.processes import is_known
from raptor.loading.types import Failure, SourceFile, Text
from raptor.metering import Meter
from raptor.places import at_place
from raptor.reconciling import drops
from raptor.sampling import (
    QUICK,
    QUICK_RUN,
    RUN,
    SAMPLE,
    LevelCost,
    above_roots,
    level_costs,
    sampled_leaves,
    scaled,
    side_by_side,
    windows,
)
from raptor.settings import EMBEDDER, SUMMARIZER, BuildSettings, Sharding
from raptor.sharding.planning import expected_sizes, planned_shards
from raptor.types import Part
from raptor.workspace import (
    Clock,
    Progress,
    Sources,
    check_target,
    embedder_for,
    find_files,
    load_texts,
    looked_at,
    reading,
    silent,
)
from rlm.gateway.embeddings import embeds
from rlm.gateway.models import most_prompt_tokens, price, provider_of
from rlm.gateway.offline.registry import PREFIX
from rlm.gateway.options import check_options
from rlm.gateway.tokens import count_tokens

NODE_BYTES = 120  # a node's row, edges and words for lexical search, beside its vector; measured
TEXT_COPIES = 1.6  # the text, and what summaries and BM25 columns add to it; measured
CALL_S = (1.0, 6.0)  # a provider's time for a summary; offline models are measured instead
# What nine of ten builds took lies between these, as a share of what was expected: see `benchmarks/estimates.py`.
LOW, HIGH = 0.6, 1.6
READ_BYTES, PARSED_BYTES = 4 << 20, 1 << 20  # most that is read, and of files that parse slowly
EMBED_S = 3.0  # of the processor: a corpus that is embedded in less is not sampled
MOST = 1_000  # chunks that are embedded at most
SOON = 400  # chunks that a build embeds in seconds: more are first sampled, to hold it to its cap
NEIGHBOURS = 160  # nodes above which clustering needs UMAP


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a build is expected to take.

    `sampled`: chunks that were embedded and clustered to know it. `levels[i]`: nodes at level i. `parsed`, `embedded`,
    `recorded`: texts of files that parse slowly, embeddings and summaries that an earlier run has left in the index
    folder; the rest is about what is left to do. `usd_low`: for replies of half the length that is allowed, `usd_high`:
    of all of it; None where the model's price is not known. `seconds_low`, `seconds_high`: on the clock, on this
    machine if it stays as busy as it was; `pace`: seconds of the clock that passed for each one of the processor.
    `measured_s`: how long was measured. `disk_bytes`: size of the index. `dropped`: ids of the documents that an index
    there holds and the build would drop. `excluded`: files that `include` and `exclude` leave out. `shards`: how many,
    0 for one index.
    """

    documents: int
    chunks: int
    sampled: int
    levels: tuple[int, ...]
    calls: int
    parsed: int
    embedded: int
    recorded: int
    prompt_tokens: int
    completion_tokens: int
    usd_low: float | None
    usd_high: float | None
    seconds_low: float
    seconds_high: float
    pace: float
    measured_s: float
    disk_bytes: int
    dropped: tuple[str, ...] = ()
    excluded: int = 0
    shards: int = 0

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON has them, with `tokens`, which is prompt and completion tokens together."""
        return asdict(self) | {"tokens": self.prompt_tokens + self.completion_tokens}


@dataclass(frozen=True, slots=True)
class _Read:
    """Texts that were read to know the others. `share`: for how much of the corpus each stands, at least 1.

    `parsed`: files that parse slowly whose text is known; `left`: bytes of those whose text is not; `size`: of all.
    """

    texts: Sequence[Text]
    failures: list[Failure]
    share: float
    parsed: int
    left: int
    size: int


@dataclass(frozen=True, slots=True)
class _Tree:
    """The levels above the chunks as they cost, and how many of their summaries are paid for. `repeated`: at each level
    the roots of shards that are lower; `shards`: how many."""

    costs: Sequence[LevelCost]
    recorded: int
    repeated: Sequence[int] = ()
    shards: int = 0

    @property
    def nodes(self) -> int:
        return sum(cost.nodes for cost in self.costs)

    @property
    def prompt_tokens(self) -> int:
        return sum(cost.prompt_tokens for cost in self.costs)

    @property
    def levels(self) -> tuple[int, ...]:
        """Nodes at each, as the index has them."""
        repeated = [*self.repeated, *[0] * (len(self.costs) - len(self.repeated))]
        return tuple(cost.nodes + more for cost, more in zip(self.costs, repeated, strict=True))


@dataclass(frozen=True, slots=True)
class Expected:
    """What is still to be paid for of a tree, at least and at most; 0 for that of which no price is known. `costs`: its
    levels above so many `chunks`, where summaries have a price."""

    low: float
    high: float
    chunks: int
    costs: Sequence[LevelCost] = ()


@dataclass(frozen=True, slots=True)
class _Division:
    """How the index at `out` is to be divided."""

    out: Path
    sharding: Sharding

    def folders(self) -> list[Path]:
        """Those of shards that are there, of a build before."""
        return [one for one in sorted((self.out / SHARDS).glob("*")) if one.is_dir() and not one.is_symlink()]


@checked(RaptorError)
@at_place(publishes=False)
def estimate(
    sources: Sources,
    index: str | Path,
    *,
    follow_links: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    password: str = "",
    summarizer: str = SUMMARIZER,
    summarizer_options: Mapping[str, Any] | None = None,
    embedder: str = EMBEDDER,
    embedder_options: Mapping[str, Any] | None = None,
    device: str = AUTO,
    settings: BuildSettings | None = None,
    metadata: Metadata | None = None,
    shards: Sharding | None = None,
    progress: Progress | None = None,
) -> tuple[Estimate, list[Failure]]:
    """What `build_index` with the same arguments would take, and the sources, of those read, that it could not load.

    `shards`: as of `build_index`, and `metadata`, by which a document may have its shard.
    It takes seconds, whatever the size of the corpus, calls no model that costs money, so needs no key, and writes
    nothing. Raises as `build_index` does.
    """
    settings, clock, out, meter = settings or BuildSettings(), Clock(), Path(index), Meter()
    check_target(out)
    provider_of(summarizer)  # its key is not needed, as it is not called
    options = check_options(summarizer_options or {})
    pick = picked(include, exclude)
    told = reading(settings, password)
    files, excluded = find_files(out, sources, clock, follow_links=follow_links, picked=pick, **told)
    progress = progress or silent
    progress("measure", 0, 0)
    with looked_at(out) as checkpoint:
        read = _read(files, CheckpointCache(out, lambda: checkpoint), meter)
        with meter.measuring("loading"):
            model = embedder_for(embedder, settings, device, check_options(embedder_options or {}))
        grower = Grower(model, summarizer, settings, checkpoint, silent, options=options)
        division = None if shards is None else _Division(out, shards)
        expected = _forecast(read, grower, meter, _dropped(out, read, files), metadata, division)
        progress("measure", expected.documents, expected.documents)
        return replace(expected, excluded=excluded), read.failures


def _read(files: Sequence[SourceFile], cache: CheckpointCache, meter: Meter) -> _Read:
    """The texts of some of the files, spread over all. Raises RaptorError where there is no document."""
    slow = [file for file in files if is_slow(file)]
    are_known = [cache.is_there and is_known(file, cache) for file in slow]
    known = [file for file, is_one in zip(slow, are_known, strict=True) if is_one]
    new = [file for file, is_one in zip(slow, are_known, strict=True) if not is_one]
    fast = [file for file in files if not is_slow(file)] + known
    parsed, read = _spread(new, PARSED_BYTES), _spread(fast, READ_BYTES)
    found, failures = list[Text](), list[Failure]()
    for name, part in (("parse", parsed), ("read", read)):
        with meter.measuring(name, max(_size(part), 1)):
            for item in load(part, cache):
                found.append(item) if isinstance(item, Text) else failures.append(item)
    texts: Sequence[Text] = sorted(found, key=_places(files))  # as a build reads them
    if not texts:
        texts, failures = load_texts(files, silent, Clock(), cache)
        parsed, read = new, fast
    size = _size(files)
    return _Read(texts, failures, size / max(_size(parsed) + _size(read), 1), len(known), _size(new), size)


def _places(files: Sequence[SourceFile]) -> Callable[[Text], int]:
    """The number of the file that a text was read from, or out of."""
    numbers = {str(file.path): number for number, file in enumerate(files)}

    def place(text: Text) -> int:
        path = file_of(text.source)
        return next(
            (numbers[up] for up in (path, *map(str, Path(path).parents)) if up in numbers), len(files)
        )

    return place


def _spread(files: Sequence[SourceFile], most: int) -> list[SourceFile]:
    """Some of the files, in their order, that together have about `most` bytes; all where these have no more."""
    taken, size = list[int](), 0
    for number in np.random.default_rng(0).permutation(len(files)).tolist():
        if size >= most:
            break
        taken.append(number)
        size += _size([files[number]])
    return [files[number] for number in sorted(taken)]


def _size(files: Sequence[SourceFile]) -> int:
    """Bytes of files; those that cannot be looked at have none."""
    total = 0
    for file in files:
        try:
            total += file.path.stat().st_size if file.path.is_file() else 0
        except OSError:
            continue
    return total


def _dropped(out: Path, read: _Read, files: Sequence[SourceFile]) -> tuple[str, ...]:
    """What the build would drop; a file that was not read counts as the document of its name."""
    ids = {text.id for text in read.texts}
    rest = [Text(file.id, "", str(file.path), "") for file in files if file.id not in ids]
    return tuple(drops(out, [*read.texts, *rest] if read.share > 1 else read.texts))


def _forecast(
    read: _Read,
    grower: Grower,
    meter: Meter,
    dropped: tuple[str, ...],
    metadata: Metadata | None,
    division: _Division | None,
) -> Estimate:
    called, grower = grower, computing(grower)
    pieces = windows(read.texts)
    read_chars, chars = (sum(len(text.text) for text in texts) for texts in (read.texts, pieces))
    with meter.measuring("chunk", chars):
        parts = [_told(part, metadata) for part in new_parts(pieces, grower)]
    with meter.measuring("twins", chars):
        near_duplicates([(part.document.id, part.text) for part in parts])
    share = read.share * read_chars / chars
    chunks = max(1, round(sum(len(part.spans) for part in parts) * share))
    most = _most(parts, chunks, grower.embedder, meter)
    if division is None:
        sampled, costs = _measured(parts, most, grower, meter)
        tree = _scaled(chunks, sampled, costs, grower)
    else:
        sampled, tree = _divided(parts, chunks, most, grower, meter, division)
    embedded = min(chunks, _embedded(grower, division))
    low, high, pace = _seconds(read, chunks - embedded, tree, grower, meter, read_chars * read.share)
    calls = tree.nodes - tree.recorded
    usd_low, usd_high = _usd(tree, grower)
    if sampled < chunks:
        usd_low, usd_high = _widened(usd_low, usd_high)
    embedding = embedding_usd(called, parts, chunks, tree.nodes)
    usd_low, usd_high = _sum(usd_low, embedding), _sum(usd_high, embedding)
    text_bytes = share * sum(len(part.text.encode()) for part in parts)
    return Estimate(
        documents=max(1, round(len(read.texts) * read.share)),
        chunks=chunks,
        sampled=sampled,
        levels=(chunks, *tree.levels),
        calls=calls,
        parsed=read.parsed,
        embedded=embedded,
        recorded=tree.recorded,
        prompt_tokens=tree.prompt_tokens,
        completion_tokens=sum(cost.completion_tokens for cost in tree.costs),
        usd_low=usd_low,
        usd_high=usd_high,
        seconds_low=round(low, 1),
        seconds_high=round(high, 1),
        pace=round(pace, 2),
        measured_s=round(sum(meter.clock.values()), 1),
        disk_bytes=round(
            (chunks + tree.nodes) * (grower.embedder.dim * 4 + NODE_BYTES) + text_bytes * TEXT_COPIES
        ),
        dropped=dropped,
        shards=tree.shards,
    )


def _told(part: Part, metadata: Metadata | None) -> Part:
    """The part with what is told of its document: by that it may have its shard."""
    fields = metadata.fields.get(part.document.id) if metadata else None
    return (
        replace(part, document=replace(part.document, meta={**part.document.meta, **fields}))
        if fields
        else part
    )


def _most(parts: Sequence[Part], chunks: int, model: Embedder, meter: Meter) -> int:
    """How many chunks are measured at most."""
    words = [part.text[a:b] for part in parts for a, b in part.spans][:25]
    with meter.measuring("loading", 0):
        model.encode(words[:9])  # from so many texts on it takes what it takes for many
    trial = meter.metered(model, "embed")
    trial.encode(words[9:] or words)
    fits = EMBED_S / max(meter.rate("embed"), 1e-6)
    return MOST if chunks <= min(MOST, fits) else QUICK


def _measured(
    parts: Sequence[Part], most: int, grower: Grower, meter: Meter
) -> tuple[int, Sequence[LevelCost]]:
    """How many chunks were measured, and the levels of the tree over them."""
    model = grower.embedder
    leaves, _ = sampled_leaves(parts, _with(grower, meter.metered(model, "embed")), most, QUICK_RUN)
    above = _with(grower, meter.metered(model, "embed summaries"))
    return len(leaves), level_costs(above, leaves, grower.summarizer, meter)


def _divided(
    parts: Sequence[Part], chunks: int, most: int, grower: Grower, meter: Meter, division: _Division
) -> tuple[int, _Tree]:
    """How many chunks were measured, and the trees of all shards with the one over their roots. Where all is measured,
    each shard is, as it will be divided; else it has the share of its chunks in the tree over all."""
    sizes = [(part.document, len(part.spans)) for part in parts]
    read, root_children = sum(size for _, size in sizes), grower.settings.root_children
    if read == chunks <= most:
        counts, trees = list[int](), list[Sequence[LevelCost]]()
        for name, numbers in planned_shards(sizes, division.sharding).items():
            with looked_at(division.out / SHARDS / name) as checkpoint:
                own = [parts[number] for number in numbers]
                count, costs = _measured(own, most, replace(grower, checkpoint=checkpoint), meter)
            counts.append(count)
            trees.append(costs)
        sampled, below = chunks, side_by_side(trees)
        above, _ = _less(above_roots(counts, trees, root_children), _paid(grower.checkpoint))
        levels, recorded = [*below, *above], sum(cost.recorded for cost in [*below, *above])
    else:
        sampled, costs = _measured(parts, most, grower, meter)
        counts = expected_sizes(sizes, chunks / read, division.sharding)
        trees = [scaled(count, sampled, costs, root_children) for count in counts]
        levels = [*side_by_side(trees), *above_roots(counts, trees, root_children)]
        levels, recorded = _less(levels, _paid(grower.checkpoint) + _of_shards(division, _paid))
    height = max(map(len, trees))
    repeated = [sum(len(tree) <= level for tree in trees) for level in range(height)]
    return sampled, _Tree(levels, recorded, repeated, len(trees))


def _scaled(chunks: int, sampled: int, costs: Sequence[LevelCost], grower: Grower) -> _Tree:
    """The tree over all chunks by that over some."""
    costs = scaled(chunks, sampled, costs, grower.settings.root_children)
    recorded = sum(c.recorded for c in costs)
    if sampled < chunks:  # what was paid for is of other clusters than the part's
        costs, recorded = _less(costs, _paid(grower.checkpoint))
    return _Tree(costs, recorded)


def _less(costs: Sequence[LevelCost], paid: int) -> tuple[list[LevelCost], int]:
    """The levels without the calls of so many summaries, spread over all, and how many these are."""
    nodes = sum(cost.nodes for cost in costs)
    recorded = min(nodes, paid)
    return [
        replace(c.less(recorded / nodes), recorded=round(c.nodes * recorded / nodes)) for c in costs
    ], recorded


def _paid(checkpoint: Checkpoint) -> int:
    """How many summaries are recorded, of a build that has ended too."""
    return sum(checkpoint.count(kind) for kind in ("summary", f"{SETTLED}summary"))


def _of_shards(division: _Division, counted: Callable[[Checkpoint], int]) -> int:
    """What is counted in the checkpoints of all shards together."""
    total = 0
    for folder in division.folders():
        with looked_at(folder) as checkpoint:
            total += counted(checkpoint)
    return total


def _with(grower: Grower, model: Embedder) -> Grower:
    return replace(grower, embedder=model, progress=silent)


def _embedded(grower: Grower, division: _Division | None) -> int:
    """How many embeddings an earlier run has left."""

    def counted(checkpoint: Checkpoint) -> int:
        return checkpoint.bytes_of("embed") // (4 * grower.embedder.dim)

    return counted(grower.checkpoint) + (_of_shards(division, counted) if division else 0)


def _seconds(
    read: _Read, chunks: int, tree: _Tree, grower: Grower, meter: Meter, chars: float
) -> tuple[float, float, float]:
    """Seconds on the clock, at least and at most, to build with so many `chunks` to embed, and the clock's pace."""
    yard, nodes = meter.yardstick(), tree.nodes
    new = nodes - tree.recorded
    offline = grower.summarizer.startswith(PREFIX)
    clustered = chunks + nodes
    used = (
        meter.rate("read") * (read.size - read.left)
        + meter.rate("parse") * read.left
        + (meter.rate("chunk") + meter.rate("twins")) * chars
        + meter.used["loading"]
        + meter.rate("embed") * chunks
        + (meter.rate("embed summaries") or meter.rate("embed")) * nodes
        + yard * (metering.UMAP if clustered > NEIGHBOURS else 0)
        + yard * metering.CLUSTERED * clustered
        + (yard * (metering.CLIENT + metering.CALLED * new) if new else 0)
        + (meter.rate("summarise") * new if offline else 0)
        + yard * metering.WRITTEN * clustered
    )
    rounds = sum(math.ceil(c.nodes * new / max(nodes, 1) / grower.settings.concurrency) for c in tree.costs)
    waits = [0.0, 0.0] if offline else [rounds * call_s for call_s in CALL_S]
    pace = meter.pace()
    return used * pace * LOW + waits[0], used * pace * HIGH + waits[1], pace


def dollars(
    model: str, calls: int, prompt_tokens: int, reply_tokens: int
) -> tuple[float | None, float | None]:
    """(low, high) of calls with `prompt_tokens` in all and `reply_tokens` in each reply at most; None: no price."""
    low = price(model, prompt_tokens, calls * reply_tokens // 2)
    return low, price(model, prompt_tokens, calls * reply_tokens)


def computing(grower: Grower) -> Grower:
    """The grower with an embedder that costs nothing: of trees over vectors of others, sizes are much the same."""
    if not embeds(grower.embedder.name):
        return grower
    return replace(grower, embedder=embedders.load_embedder())


def embedding_usd(grower: Grower, parts: Sequence[Part], chunks: int, summaries: int) -> float | None:
    """Dollars of embedding so many chunks, of which `parts` holds some, and summaries; None: no price."""
    model = grower.embedder.name
    if not embeds(model):
        return 0.0
    step = max(1, chunks // MOST)
    texts = (part.text[a:b] for part in parts for a, b in part.spans)
    some = list(islice(texts, 0, MOST * step, step))
    names = sum(count_tokens(model, part.document.title) for part in parts[:MOST]) / max(len(parts[:MOST]), 1)
    tokens = sum(count_tokens(model, text) for text in some) / max(len(some), 1) + names
    total = int(chunks * tokens + summaries * grower.settings.summary_tokens / 2)
    return price(model, most_prompt_tokens(model, total), 0)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _widened(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """A range of dollars that a small sample gave: how many clusters it stands for is known no better than how long
    they take."""
    return low and low * LOW, high and high * HIGH


def refuse_above_cap(usd: float | None, parts: Sequence[Part], grower: Grower) -> None:
    """Raise RaptorError where what is still to be paid for is expected to cost more than `usd`: by a small sample where
    all would take minutes to embed, and then by all, or a large one."""
    if usd is None:
        return
    chunks = sum(len(part.spans) for part in parts)
    embedding = embedding_usd(grower, parts, chunks, 0) or 0.0
    check_cap(embedding, embedding, usd)
    if not price(grower.summarizer, 1000, 1000):
        return
    usd, grower = usd - embedding, computing(grower)
    if sum(len(part.spans) for part in parts) > SOON:
        check_cap(
            *_widened(*_usd(_expected(parts, replace(grower, progress=silent), QUICK, QUICK_RUN), grower)),
            usd,
        )
    check_cap(*_usd(_expected(parts, grower, SAMPLE, RUN), grower), usd)


def expected_usd(parts: Sequence[Part], grower: Grower) -> Expected:
    """What is still to be paid for of a tree over these parts, by a small sample where there are many chunks."""
    chunks = sum(len(part.spans) for part in parts)
    embedding = embedding_usd(grower, parts, chunks, 0) or 0.0
    if not price(grower.summarizer, 1000, 1000):
        return Expected(embedding, embedding, chunks)
    grower = computing(grower)
    many = chunks > SOON
    tree = _expected(parts, grower, *((QUICK, QUICK_RUN) if many else (SAMPLE, RUN)))
    low, high = _widened(*_usd(tree, grower)) if many else _usd(tree, grower)
    return Expected(embedding + (low or 0.0), embedding + (high or 0.0), chunks, tree.costs)


def expected_above(shards: Sequence[Expected], grower: Grower) -> Expected:
    """What is still to be paid for of the tree over the roots of shards, whose checkpoint is the grower's."""
    costs = above_roots(
        [one.chunks for one in shards], [one.costs for one in shards], grower.settings.root_children
    )
    tree = _Tree(*_less(costs, _paid(grower.checkpoint)))
    embedding = embedding_usd(grower, [], 0, tree.nodes) or 0.0
    low, high = _usd(tree, grower)
    return Expected(embedding + (low or 0.0), embedding + (high or 0.0), len(shards), tree.costs)


def _expected(parts: Sequence[Part], grower: Grower, most: int, run: int) -> _Tree:
    """A tree as it costs, by so many chunks at most."""
    leaves, chunks = sampled_leaves(parts, grower, most, run)
    return _scaled(chunks, len(leaves), level_costs(grower, leaves, grower.summarizer), grower)


def _usd(tree: _Tree, grower: Grower) -> tuple[float | None, float | None]:
    """(low, high) dollars of what of a tree is still to be paid for."""
    calls = tree.nodes - tree.recorded
    return dollars(grower.summarizer, calls, tree.prompt_tokens, grower.settings.summary_tokens)


def check_cap(low: float | None, high: float | None, usd: float | None) -> None:
    """Raise RaptorError where the least that is expected, of `low` to `high` dollars, is more than `usd`."""
    if usd is not None and (low or 0) > usd:
        raise RaptorError(
            f"the build needs about ${low:.4f} to ${high:.4f}, above the cap of ${usd:.4f}, "
            "and was not started; raise --max-usd, or choose a cheaper --summarizer"
        )
