"""Measurements: `python -m benchmarks [part ...]`. A part is a module here with a function `measure(Options)`, which
gives tables, claims and losses one after another; see `_report`."""

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Options:
    """`data`: the development data; `work`: where indexes are kept between runs; `sets`: names, () for all.

    `questions`: at most so many of each set, evenly chosen. `nodes`: of the made-up index. `reference`: a checkout of
    the reference RAPTOR to compare with, if any. `model`: the one that the part `models` asks, '' for the first whose
    key is there; `usd`: what it may spend. `seconds`: for which the part `serve` asks. `embedded`: texts that the part
    `scale` embeds by each way.
    """

    data: Path
    work: Path
    sets: tuple[str, ...] = ()
    questions: int = 150
    nodes: int = 100_000
    reference: Path | None = None
    model: str = ""
    usd: float = 5.0
    seconds: float = 120.0
    embedded: int = 512
