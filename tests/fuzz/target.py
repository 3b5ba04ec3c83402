"""What a target of the fuzzer is, and which there are."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

#: The targets by name: the module and the function that gets one ready.
TARGETS = {
    "frames": "tests.fuzz.frames:frames",
    "verbs": "tests.fuzz.verbs:verbs",
    "replies": "tests.fuzz.replies:replies",
    "indexes": "tests.fuzz.indexes:indexes",
    "servers": "tests.fuzz.servers:servers",
    "traces": "tests.fuzz.traces:traces",
    "texts": "tests.fuzz.texts:texts",
    "pdfs": "tests.fuzz.pdfs:pdfs",
}


@dataclass(frozen=True, slots=True)
class Target:
    """`draw` makes an example, the same one from the same numbers; `check` raises where the code does wrong by it.

    `deadline_s`: seconds that one example may take, on a machine that is busy.
    """

    draw: Callable[[random.Random], Any]
    check: Callable[[Any], object]
    deadline_s: float = 30.0


#: Gets a target ready in an empty folder of its own.
Prepare = Callable[[Path], AbstractContextManager[Target]]


def prepare_of(name: str) -> Prepare:
    """The function that gets a target ready; a name that is none of TARGETS is its module and name, "a.b:c"."""
    module, _, function = TARGETS.get(name, name).partition(":")
    prepare: Prepare = getattr(import_module(module), function)
    return prepare


def rng_of(name: str, seed: int, number: int) -> random.Random:
    """The numbers that one example is made of."""
    return random.Random(f"{name} {seed} {number}")
