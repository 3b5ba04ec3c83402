"""The generations of an index: list them, make an earlier one live again, delete old ones."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from index_store.errors import BrokenIndex, IndexStoreError
from index_store.folder import current_generation, generation_folder, read_manifest
from index_store.index import open_generation
from index_store.writer import numbers, sole_writer, switch


@dataclass(frozen=True, slots=True)
class Generation:
    """One published state of an index.

    `live`: whether this is the one that opens. `parent`: the generation that was live before it. `levels[i]`: nodes at
    level i. `bytes`: of all its files, those that it shares with other generations included.
    """

    number: int
    live: bool
    parent: int | None
    documents: int
    levels: tuple[int, ...]
    digest: str
    bytes: int


def list_generations(path: str | Path) -> list[Generation]:
    """All generations of the index at `path`, oldest first. Raises BrokenIndex where there is no index."""
    path = Path(path)
    live = _live(path)
    try:
        return [_generation(path, number, live) for number in sorted(numbers(path))]
    except OSError as e:
        raise BrokenIndex(f"cannot read the index {path}: {e.strerror or e}; copy or build it again") from e


def rollback(path: str | Path, number: int) -> None:
    """Make generation `number` the live one again.

    Raises BrokenIndex where it does not exist or does not open, IndexStoreError where the index cannot be changed.
    """
    path = Path(path)
    _live(path)
    with _changing(path):
        if number not in sorted(numbers(path)):
            raise BrokenIndex(
                f"there is no generation {number} in {path}; there are {_listed(sorted(numbers(path)))}"
            )
        open_generation(path, number)
        switch(path, number)


def prune(path: str | Path, keep: int = 1) -> list[int]:
    """Delete all generations but the live one and the `keep` - 1 newest others; returns the numbers of those deleted.

    A process that has one of them open can go on reading it. Raises BrokenIndex where there is no index,
    IndexStoreError where it cannot be changed.
    """
    path = Path(path)
    if keep < 1:
        raise BrokenIndex(f"keep is {keep}; at least the live generation stays, so give 1 or more")
    _live(path)  # raises where there is no index
    with _changing(path):
        live = _live(path)
        others = [n for n in sorted(numbers(path)) if n != live]
        old = others[: len(others) - (keep - 1)] if keep > 1 else others
        for number in old:
            shutil.rmtree(generation_folder(path, number))
    return old


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Hold the lock of an index; an OSError becomes an IndexStoreError."""
    try:
        with sole_writer(path):
            yield
    except OSError as e:
        raise IndexStoreError(f"cannot change the index {path}: {e.strerror or e}; make it writable") from e


def _live(path: Path) -> int:
    try:
        live = current_generation(path)
    except OSError as e:
        raise BrokenIndex(f"cannot read the index {path}: {e.strerror or e}; copy or build it again") from e
    if live is None:
        raise BrokenIndex(f"there is no index at {path}; build one with: raptor build SOURCE -o {path}")
    return live


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _generation(path: Path, number: int, live: int) -> Generation:
    manifest = read_manifest(generation_folder(path, number))
    size = sum(f.size for f in manifest.files.values())
    return Generation(
        number, number == live, manifest.parent, manifest.documents, manifest.levels, manifest.digest, size
    )
