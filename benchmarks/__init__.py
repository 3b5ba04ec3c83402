"""Measurements: `python -m benchmarks [part ...]`. A part is a module here with a function `run(Options)`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """`data`: the development data; `work`: where indexes are kept between runs; `sets`: names, () for all.

    `nodes`: of the made-up index; `reference`: a checkout of the reference RAPTOR to compare with, if any.
    """

    data: Path
    work: Path
    sets: tuple[str, ...] = ()
    nodes: int = 1_000_000
    reference: Path | None = None
