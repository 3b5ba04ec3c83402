"""From what was measured to corpora of any size: the costs of one chunk, the stages that a simulation plays, and
arithmetic of bytes, dollars and limits. Pure."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from benchmarks._simulation import Cluster, Ended, Stage, played, together as together
from index_store import minilm, vectors
from index_store.inverted_write import AXES
from index_store.manifest import SHARDS
from index_store.shards.layout import Shard, settings_of
from raptor.embedding import BATCH

PARSED = 640  # chunks of the documents that are parsed and cut together
PART = 2_000  # nodes that are clustered together, about
ROOT_CHILDREN = 12
SHARD = 1_000_000  # chunks of a shard in the plan
#: What the plan takes for granted, beside what was measured.
CORES, CORE_HOUR_USD = 16, 0.04
CALLS, CALLS_PER_S, CALL_S = 256, 100.0, 3.0
PROMPT_USD, REPLY_USD = 0.25, 2.0  # a million tokens
MEMORY_GB, MAPPED = 64, 65_530  # the latter: files, by Linux's vm.max_map_count
ROW = 4 * minilm.DIM  # bytes of a vector


@dataclass(frozen=True, slots=True)
class Line:
    """What grows with n as `fixed + each * n`; neither is below 0."""

    fixed: float
    each: float

    def at(self, n: float) -> float:
        """At a size."""
        return self.fixed + self.each * n


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor seconds, of one chunk unless its name says otherwise.

    `load`, `chunk`: to parse and to cut. `embed`: a vector. `record`: names and counts of tokens, by the driver.
    `cluster`: of a node, in its part. `partition`: of a level of n nodes this times n squared, by the driver: there are
    as many more centres as nodes. `summarise`: of a summary, offline. `call`: of the driver for a summary. `keep`: of
    the driver for a batch. `write`: of a node, twins among documents included. `fanout`: nodes of a summary.
    `prompt_tokens`, `reply_tokens`: of a summary. `disk`: bytes of the index, `kept`: of the checkpoint. `anon`: MB of
    memory beside mapped files.
    """

    load: Line
    chunk: Line
    embed: Line
    record: Line
    cluster: Line
    partition: float
    summarise: Line
    call: float
    keep: float
    write: Line
    fanout: float
    prompt_tokens: float
    reply_tokens: float
    disk: float
    kept: float
    anon: Line


Told = Mapping[str, Any]


def line(small: tuple[float, float], large: tuple[float, float]) -> Line:
    """Through two points (n, what it takes)."""
    (n0, y0), (n1, y1) = small, large
    each = max((y1 - y0) / (n1 - n0), 0.0) if n1 != n0 else y1 / n1
    return Line(max(y1 - each * n1, 0.0), each)


def costs(small: Told, large: Told, at_once: Sequence[Told], kept: Told, many: Told) -> Costs:
    """From two builds of different sizes, two whose summaries are no work, the checkpoint, and vectors that were
    clustered alone. Vectors of the builds are made up, and so is what `embed` says until it is replaced."""
    sizes = [told["levels"][0] for told in (small, large)]
    nodes, summaries = ([sum(told["levels"][start:]) for told in (small, large)] for start in (0, 1))

    def of(stage: str, amounts: Sequence[float] = sizes, what: str = "cpu_s") -> Line:
        points = [(n, told["stages"][stage][what]) for n, told in zip(amounts, (small, large), strict=True)]
        return line(points[0], points[1])

    made_up = line((nodes[0], small["encode_s"]), (nodes[1], large["encode_s"]))
    record = of("embed")
    calls = line(*((sum(told["levels"][1:]), told["stages"]["summarise"]["cpu_s"]) for told in at_once))
    partition = many["stages"]["partition"]["cpu_s"] / many["vectors"] ** 2
    return Costs(
        load=of("load"),
        chunk=of("chunk"),
        embed=made_up,
        record=Line(record.fixed, max(record.each - made_up.each - kept["put_s"] / BATCH, 0.0)),
        cluster=of("cluster", nodes),
        partition=partition,
        summarise=of("summarise", summaries),
        call=calls.each,
        keep=kept["put_s"],
        write=of("write", nodes),
        fanout=large["levels"][0] / large["levels"][1],
        prompt_tokens=large["prompt_tokens"] / summaries[1],
        reply_tokens=large["reply_tokens"] / summaries[1],
        disk=sum(large["files"].values()) / sizes[1],
        kept=kept["bytes"] / BATCH,
        anon=Line(*_memory(small, large, sizes)),
    )


def _memory(small: Told, large: Told, sizes: Sequence[float]) -> tuple[float, float]:
    most = [max(taken["anon_mb"] for taken in told["stages"].values()) for told in (small, large)]
    found = line((sizes[0], most[0]), (sizes[1], most[1]))
    return found.fixed, found.each


def levels(chunks: int, fanout: float) -> list[int]:
    """Nodes of each level, from the chunks to the root."""
    found = [chunks]
    while found[-1] > ROOT_CHILDREN:
        found.append(max(math.ceil(found[-1] / fanout), 1))
    return found if found[-1] == 1 else [*found, 1]


def stages(own: Costs, chunks: int, *, paid: bool = False) -> Iterator[Stage]:
    """The stages of a build of so many chunks. `paid`: summaries are asked of a provider, else made offline."""
    nodes = levels(chunks, own.fanout)
    fixed = own.load.fixed + own.chunk.fixed + own.embed.fixed + own.record.fixed
    parsed = math.ceil(chunks / PARSED)
    each_s = chunks / parsed * (own.load.each + own.chunk.each)
    yield Stage("parse and cut", parsed, each_s, alone_s=fixed)
    yield _embed(own, chunks)
    yield Stage("names and tokens", 0, alone_s=own.record.each * chunks)
    for height, (below, above) in enumerate(pairwise(nodes), 1):
        first = (own.cluster.fixed + own.summarise.fixed) * (height == 1)
        parts = max(below // PART, 1)
        alone_s = first + own.partition * below**2 * (below > 2 * PART)
        yield Stage("cluster", parts, own.cluster.each * below / parts, alone_s=alone_s)
        if paid:
            yield Stage("summarise", above, CALL_S, own.call, slots=CALLS, calls_per_s=CALLS_PER_S)
        else:
            yield Stage("summarise", above, max(own.summarise.each - own.call, 0.0), own.call)
        yield _embed(own, above)
    yield Stage("write", 0, alone_s=own.write.at(sum(nodes)))


def _embed(own: Costs, texts: int) -> Stage:
    batches = math.ceil(texts / BATCH)
    return Stage("embed", batches, own.embed.each * texts / batches, own.keep)


def built(own: Costs, chunks: int, cluster: Cluster, *, paid: bool = False) -> dict[str, Ended]:
    """What each stage of a build takes by the simulation, all levels together, by its name."""
    row = list(stages(own, chunks, paid=paid))
    found: dict[str, Ended] = {}
    for stage, ended in zip(row, played(row, cluster), strict=True):
        found[stage.name] = found.get(stage.name, Ended()).and_then(ended)
    return found


def whole(own: Costs, chunks: int, cluster: Cluster, *, paid: bool = False, drivers: int = 1) -> Ended:
    """What a build takes; above SHARD chunks one of shards. One driver builds them in turn, each on all nodes; of
    `drivers` each has its share of the nodes. The upper tree over the roots is a build of its own."""
    if chunks <= SHARD:
        return together(list(built(own, chunks, cluster, paid=paid).values()))
    shards = math.ceil(chunks / SHARD)
    side_by_side = min(shards, cluster.nodes, drivers)
    share = replace(cluster, nodes=max(cluster.nodes // side_by_side, 1))
    one = together(list(built(own, chunks // shards, share, paid=paid).values()))
    upper = together(list(built(own, shards, replace(cluster, nodes=1), paid=paid).values()))
    rounds = math.ceil(shards / side_by_side)
    return Ended(
        one.wall_s * rounds + upper.wall_s,
        one.driver_s * shards + upper.driver_s,
        one.core_s * shards + upper.core_s,
        one.again * shards + upper.again,
        one.under_way,
    )


def summaries(own: Costs, chunks: int) -> int:
    """How many there are."""
    return sum(levels(chunks, own.fanout)[1:])


def dollars(own: Costs, chunks: int) -> float:
    """Of the summariser, at the prices that are stated."""
    each = own.prompt_tokens * PROMPT_USD + own.reply_tokens * REPLY_USD
    return summaries(own, chunks) * each / 1e6


def search_bytes(chunks: int) -> float:
    """Bytes of vectors, codes and centroids that a dense search of so many nodes reads (see `index_store.vectors`)."""
    if chunks <= vectors.EXACT_NODES:
        return float(chunks * ROW)
    root = math.sqrt(chunks)
    return vectors.READ * root * AXES + 4 * root * ROW + vectors.COMPARED * ROW


def shard_bytes(own: Costs) -> int:
    """Bytes of a shard in the manifest that names all."""
    nodes = tuple(levels(SHARD, own.fanout))
    big = 10**9  # bytes of a text, and the like
    sizes = tuple(nodes[1:])
    shard = Shard(
        "0000123",
        "0" * 64,
        SHARD,
        nodes,
        sizes,
        big,
        big,
        big,
        sizes,
        sizes,
        big,
        SHARD,
        "A label of some eight words or so",
        200,
    )
    return len(json.dumps(settings_of([shard])[SHARDS], indent=3))


def reached(size: float, each: float, power: float = 1.0) -> float:
    """At how many chunks `each * n ** power` comes to `size`."""
    return math.inf if each <= 0 else float((size / each) ** (1 / power))
