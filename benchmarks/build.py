"""Building the sets' indexes, which the other parts read; and what a whole run takes."""

from collections.abc import Iterator

from benchmarks import Options
from benchmarks._report import Item, Table
from benchmarks._sets import build_all
from index_store.index import open_index


def measure(options: Options) -> Iterator[Item]:
    """A row for each set: what its build took, now or when it was built. Raises NotRun without data."""
    rows = []
    for name, took in build_all(options).items():
        index = open_index(options.work / name)
        cpu_s = "-" if took.cpu_s is None else f"{took.cpu_s:,.0f}"
        speed = "-" if not took.cpu_s else f"{index.levels[0] / took.cpu_s:,.0f}"
        mb = sum(file.size for file in index.manifest.files.values()) / 2**20
        memory = "-" if not took.peak_mb else f"{took.peak_mb:,.0f}"
        sizes = (f"{len(index.documents):,}", f"{index.chars / 1e6:.1f}", f"{index.levels[0]:,}")
        summaries = f"{sum(index.levels[1:]):,}"
        rows.append((name, *sizes, summaries, cpu_s, speed, memory, f"{mb:.0f}", took.commit or "-"))
    columns = (
        "set",
        "documents",
        "million characters",
        "chunks",
        "summaries",
        "processor s",
        "chunks a processor s",
        "memory, MB",
        "on disk, MB",
        "built at",
    )
    note = (
        "Each in a process of its own with one thread, as many at a time as there are cores; offline summaries. "
        "Memory: the most beside mapped files, of the process and its children. An index that was there is not built "
        "again: then the figures are those of its build."
    )
    yield Table("Builds", columns, tuple(rows), note)
