"""What follows from the costs of one chunk: tables of the simulation, and of arithmetic. Pure."""

import math
from collections.abc import Iterator, Sequence

from benchmarks import _plan
from benchmarks._plan import Costs
from benchmarks._report import Table
from benchmarks._simulation import Cluster, asked
from index_store.manifest import MOST_NODES
from index_store.shards.layout import MOST_SHARDS
from index_store.word_list import MOST_BYTES, MOST_WORDS
from raptor.embedding import BATCH
from raptor.settings import SHARD_CHUNKS

POWERS = tuple(10**power for power in range(3, 10))
PLANNED = (10**6, 10**8, 10**9)
NODES = (1, 3, 10, 30, 100, 300, 1_000)
LOST = (0.0, 1.0, 10.0)  # of a node, an hour

#: Rows of (passages, words, bytes of them, names, bytes of them), the fewest passages first.
Lists = Sequence[tuple[int, int, int, int, int]]


def costs_table(own: Costs) -> Table:
    """What one chunk more takes."""
    found = (
        ("a chunk: to parse it and cut it", _ms(own.load.each + own.chunk.each)),
        ("a chunk: its vector, by the model on one core", _ms(own.embed.each)),
        ("a chunk: its names and tokens, by the driver", _ms(own.record.each)),
        ("a node: to cluster it", _ms(own.cluster.each)),
        ("a summary offline", _ms(own.summarise.each)),
        ("a summary of any model: what the driver does for it", _ms(own.call)),
        (f"a batch of {BATCH} vectors: to keep it, by the driver", _ms(own.keep)),
        ("a node: to write it", _ms(own.write.each)),
        ("partition of a level of a million nodes, by the driver", f"{own.partition * 1e12:,.0f} s"),
        ("nodes of a summary", f"{own.fanout:.1f}"),
        ("prompt tokens of a summary", f"{own.prompt_tokens:,.0f}"),
        ("reply tokens of a summary", f"{own.reply_tokens:,.0f}"),
        ("bytes of a chunk in an index, summaries and all", f"{own.disk:,.0f}"),
        ("bytes of a chunk in the checkpoint while it is built", f"{own.kept:,.0f}"),
        ("bytes of memory of a chunk, beside mapped files", f"{own.anon.each * 2**20:,.0f}"),
    )
    note = (
        "Processor time, of what one chunk more takes: the difference of the two largest builds. The vector's: from "
        "the rounds on one core. The partition grows with the square of the nodes."
    )
    return Table("Costs", ("of", "measured"), found, note)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3f} ms"


def simulated(own: Costs) -> Iterator[Table]:
    """Tables of builds on more and more nodes."""
    nodes = [Cluster(count, _plan.CORES) for count in NODES]
    found = []
    for cluster in nodes:
        ended = _plan.built(own, _plan.SHARD, cluster)
        whole = _plan.together(list(ended.values()))
        slowest = max(ended, key=lambda name: ended[name].wall_s)
        cells = (_hours(whole.wall_s), f"{100 * whole.driver_s / whole.wall_s:.0f}", slowest)
        found.append((f"{cluster.nodes:,}", *cells))
    note = (
        f"A build of {_plan.SHARD:,} chunks without shards, offline, on nodes of {_plan.CORES} cores, and what it "
        "waits for: one driver keeps each batch, partitions each level, and writes. Its share is of the whole time: "
        "near 100, more nodes change nothing."
    )
    columns = ("nodes", "hours", "driver busy, percent", "longest stage")
    yield Table("One index on more nodes", columns, tuple(found), note)
    yield _nodes_table(own, nodes)
    yield _lost_table(own)


def _nodes_table(own: Costs, nodes: Sequence[Cluster]) -> Table:
    small, middle, large = PLANNED
    found = []
    for cluster in nodes:
        ended = (
            _plan.whole(own, small, cluster),
            _plan.whole(own, small, cluster, paid=True),
            _plan.whole(own, middle, cluster),
            _plan.whole(own, middle, cluster, drivers=cluster.nodes),
            _plan.whole(own, large, cluster, drivers=cluster.nodes),
        )
        found.append((f"{cluster.nodes:,}", *(_hours(one.wall_s) for one in ended)))
    columns = (
        "nodes",
        f"{small:,}",
        f"{small:,}, paid summaries",
        f"{middle:,}, one driver",
        f"{middle:,}, a driver a node",
        f"{large:,}, a driver a node",
    )
    note = (
        f"Hours for so many chunks, offline where nothing else is said, on nodes of {_plan.CORES} cores. Above "
        f"{_plan.SHARD:,} chunks in shards of so many. One driver: as `raptor shard` builds, one shard after another "
        "on all nodes. A driver a node: if each shard were built by a machine of its own, which no command does yet. "
        f"Paid: calls of {_plan.CALL_S:g} s, {_plan.CALLS} at once and {_plan.CALLS_PER_S:g} a second at most."
    )
    return Table("Builds on more nodes", columns, tuple(found), note)


def _lost_table(own: Costs) -> Table:
    found = []
    for rate in LOST:
        for count in (10, 100):
            cluster = Cluster(count, _plan.CORES, lost_per_hour=rate)
            ended = _plan.together(list(_plan.built(own, _plan.SHARD, cluster).values()))
            cells = (_hours(ended.wall_s), f"{ended.core_s / 3600:,.1f}", f"{ended.again:,}")
            found.append((f"{rate:g}", f"{count}", *cells))
    note = (
        f"{_plan.SHARD:,} chunks without shards. Each node is lost so often an hour, and another stands in its place "
        "after two minutes. Of large builds the simulation plays fewer and larger batches: it loses more with each "
        "node than a build would."
    )
    columns = ("lost an hour, of a node", "nodes", "hours", "core hours", "batches done again")
    return Table("Nodes that are lost", columns, tuple(found), note)


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2f}"


# -- what follows ----------------------------------------------------------------------------------------------


def follows(own: Costs, handles: int, lists: Lists) -> Iterator[Table]:
    """Tables of arithmetic. `handles`: files that an open index keeps open; `lists`: of words and names, or none."""
    yield _plan_table(own)
    yield _powers_table(own, handles)
    yield _shards_table(own)
    yield _limits_table(own, handles, lists)


def _plan_table(own: Costs) -> Table:
    found = []
    for chunks in PLANNED:
        one = _plan.whole(own, chunks, Cluster(1, _plan.CORES))
        core_h = (one.core_s + one.driver_s) / 3600
        count = _plan.summaries(own, chunks)
        tokens = count * (own.prompt_tokens + own.reply_tokens)
        found.append(
            (
                f"{chunks:,}",
                f"{max(math.ceil(chunks / _plan.SHARD), 1):,}",
                f"{core_h:,.0f}",
                f"{core_h * _plan.CORE_HOUR_USD:,.0f}",
                f"{count:,}",
                f"{tokens / 1e6:,.0f}",
                f"{_plan.dollars(own, chunks):,.0f}",
                _gb(own.disk * chunks),
                _gb(own.kept * min(chunks, _plan.SHARD)),
            )
        )
    columns = (
        "chunks",
        "shards",
        "core hours, offline",
        "$ of machines",
        "summaries",
        "million tokens of them",
        "$ of a summariser",
        "GB of one generation",
        "GB of a shard's checkpoint",
    )
    note = (
        f"Arithmetic on the costs. Machines at ${_plan.CORE_HOUR_USD:g} a core hour; a summariser at "
        f"${_plan.PROMPT_USD:g} and ${_plan.REPLY_USD:g} a million tokens of prompts and replies, each prompt read "
        "once; offline summaries cost nothing beside the core hours. A store holds as many generations as are not "
        "pruned; those that share files share them."
    )
    return Table("To larger corpora", columns, tuple(found), note)


def _gb(size: float) -> str:
    gb = size / 1e9
    return f"{gb:,.0f}" if gb >= 10 else f"{gb:.2f}"


def _powers_table(own: Costs, handles: int) -> Table:
    found = []
    for chunks in POWERS:
        shards = max(math.ceil(chunks / _plan.SHARD), 1)
        ended = _plan.built(own, chunks // shards, Cluster(1, _plan.CORES))
        slowest = max(ended, key=lambda name: ended[name].wall_s)
        whole = _plan.together(list(ended.values()))
        read = _plan.search_bytes(chunks // shards)
        found.append(
            (
                f"{chunks:,}",
                f"{shards:,}",
                slowest,
                f"{100 * whole.driver_s / whole.wall_s:.0f}",
                f"{own.anon.at(chunks // shards) / 1024:.1f}",
                _gb(own.kept * (chunks // shards)),
                f"{read / 1e6:,.1f}",
                f"{read * shards / 1e6:,.1f}",
                f"{handles * shards:,}",
            )
        )
    note = (
        f"One node of {_plan.CORES} cores, offline; above {_plan.SHARD:,} chunks in shards, and what a build takes is "
        "of one of them. Memory: beside mapped files, a line through the two largest builds. A dense search: bytes "
        "of codes, centroids and vectors that it compares, by the constants of the code; it reads words and names "
        "beside them. Handles: of all shards opened at once."
    )
    columns = (
        "chunks",
        "shards",
        "longest stage",
        "driver busy, percent",
        "driver's memory, GB",
        "checkpoint, GB",
        "dense search of a branch's shard, MB",
        "of all shards, MB",
        "handles",
    )
    return Table("At each power of ten", columns, tuple(found), note)


def _shards_table(own: Costs) -> Table:
    size, found = own.disk * _plan.SHARD, []
    for shards in (10, 100, 1_000):
        for share in (0.1, 0.5, 1.0):
            held = max(int(shards * share), 1)
            everywhere = asked(shards, held, size, 1.0, questions=20)
            branch = asked(shards, held, size, 0.0, questions=20_000)
            cells = (
                cell for one in (everywhere, branch) for cell in (f"{100 * one.hits:.0f}", _gb(one.pulled))
            )
            found.append((f"{shards:,}", f"{100 * share:.0f}", _gb(size * held), *cells))
    note = (
        f"Questions to an index in a store, of shards of {_plan.SHARD:,} chunks, each pulled whole when it is first "
        "opened, by the simulation. A search over all reads the shards in turn; a cache that drops what was used "
        "longest ago then drops each just before it is needed, unless it holds all. A question about a branch opens "
        "one shard, of which some are asked about more often, by Zipf's law."
    )
    columns = (
        "shards",
        "cache holds, percent",
        "cache, GB",
        "all: hits, percent",
        "all: GB pulled",
        "a branch: hits, percent",
        "a branch: GB pulled",
    )
    return Table("Questions to shards in a store", columns, tuple(found), note)


def _limits_table(own: Costs, handles: int, lists: Lists) -> Table:
    """Each limit, and at how many chunks it is reached, the nearest first."""
    memory, mapped = _plan.MEMORY_GB * 1024 - own.anon.fixed, _plan.MEMORY_GB * 2**30
    a_shard = handles / _plan.SHARD
    found = [
        (
            "memory of the driver, beside mapped files",
            f"{_plan.MEMORY_GB} GB",
            _plan.reached(memory, own.anon.each),
            "one index",
        ),
        (
            "vectors of a level, mapped, in memory",
            f"{_plan.MEMORY_GB} GB",
            _plan.reached(mapped, _plan.ROW),
            "one index",
        ),
        ("partition of a level by the driver", "a day", _plan.reached(86_400, own.partition, 2), "one index"),
        (
            "numbers of nodes, of 32 bits",
            f"{MOST_NODES:,}",
            _plan.reached(MOST_NODES, 1 + 1 / (own.fanout - 1)),
            "one index",
        ),
        (
            "files that a process may have mapped",
            f"{_plan.MAPPED:,}",
            _plan.reached(_plan.MAPPED, a_shard),
            "all shards opened",
        ),
        *(
            (f"shards of {size:,}", f"{MOST_SHARDS:,}", float(MOST_SHARDS * size), "all shards")
            for size in (SHARD_CHUNKS, _plan.SHARD)
        ),
        (
            "dense search of all shards",
            "10 GB read",
            _plan.reached(1e10, _plan.search_bytes(_plan.SHARD) / _plan.SHARD),
            "all shards",
        ),
    ]
    for name, amount, size in (("words", 1, 2), ("names", 3, 4)) if lists else ():
        for what, limit, column in (
            (f"{name} in their list", MOST_WORDS, amount),
            (f"bytes of the list of {name}", MOST_BYTES, size),
        ):
            each, power = _power([(row[0], row[column]) for row in lists])
            found.append((what, f"{limit:,}", _plan.reached(limit, each, power), "one index"))
    found.sort(key=lambda row: row[2])
    cells = tuple((what, limit, f"{chunks:.1e}", where) for what, limit, chunks, where in found)
    missing = "" if lists else " They were not there, so that those of words and names are missing."
    note = (
        "Arithmetic: where what was measured of one chunk comes to the limit. Lists of words and names grow by a "
        f"power of the chunks, fitted to passages of the development sets.{missing} A shard takes "
        f"{_plan.shard_bytes(own)} bytes of a manifest, about."
    )
    return Table("Limits", ("what", "limit", "reached at, chunks", "of"), cells, note)


def _power(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(a, b) of a * n ** b, by the first and last point."""
    (n0, y0), (n1, y1) = points[0], points[-1]
    power = math.log(y1 / y0) / math.log(n1 / n0)
    return y0 / n0**power, power
