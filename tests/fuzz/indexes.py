"""Indexes as a stranger might send them: all that is done with one ends in a result, or in one sentence."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.target import Target
from tests.helpers.mutated import mutable_index, mutated_index, use


@contextmanager
def indexes(folder: Path) -> Iterator[Target]:
    """Open, verify, search, read and draw mutated copies of one index."""
    whole, copy = folder / "whole", folder / "mutated"
    mutable_index(whole)

    def drawn(rng: random.Random) -> str:
        shutil.rmtree(copy, ignore_errors=True)
        return mutated_index(rng, whole, copy)

    def check(example: str) -> None:
        for said in use(copy):
            assert "\n" not in said and len(said) < 3_000, said[:4_000]

    yield Target(drawn, check)
