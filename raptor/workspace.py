"""What a build and its estimate both stand on: clock, progress, opened index folder, texts of the sources, embedder."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from raptor.errors import RaptorError
from raptor.settings import BuildSettings

if TYPE_CHECKING:
    from index_store.embedder import Embedder
    from index_store.index import Index
    from raptor.checkpoint import Checkpoint
    from raptor.loading.processes import Kept
    from raptor.loading.types import Failure, Found, Text


#: Told (stage, done, total) as work goes on; total is 0 where it is not known yet.
Progress = Callable[[str, int, int], None]


Sources = Sequence[str | Path] | str | Path


@dataclass(slots=True)
class Clock:
    """Wall time of each stage, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)


@contextmanager
def opened(out: Path) -> "Iterator[Checkpoint]":
    """The index folder, locked against other builds, with its checkpoint open."""
    from raptor.checkpoint import Checkpoint
    from raptor.lock import build_lock

    with build_lock(out), Checkpoint(out) as checkpoint:
        yield checkpoint


@contextmanager
def opened_when_needed(out: Path) -> "Iterator[Callable[[], Checkpoint]]":
    """`opened`, from the first time that its checkpoint is asked for: a folder is made only for what goes into it."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(opened(out)))


def silent(stage: str, done: int, total: int) -> None:
    """No progress wanted."""


def check_target(out: Path) -> None:
    """Raise RaptorError unless an index can be written at `out`: better now than after the work is paid for."""
    try:
        fault = _target_fault(out)
    except OSError as e:
        fault = f"cannot be looked at ({e.strerror})"
    if fault:
        raise RaptorError(f"{out} {fault}; choose a new or empty folder for the index")


def _target_fault(out: Path) -> str:
    from raptor.checkpoint import NAME as CHECKPOINT
    from raptor.lock import NAME as LOCK

    ours = {"generations", "CURRENT", LOCK, CHECKPOINT, f"{CHECKPOINT}-wal", f"{CHECKPOINT}-shm"}
    if out.is_dir() and any(out.iterdir()) and not ours & {p.name for p in out.iterdir()}:
        return "is a folder with other files in it"
    there = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        return "is a file" if there == out else f"lies below {there}, which is no folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"cannot be written: {there} is read-only"


def find_files(out: Path, sources: Sources, clock: Clock) -> "list[Found]":
    """The files that the sources stand for. Raises RaptorError where there are none."""
    from raptor.loading.find import find

    with clock.stage("load"):
        return _outside(out, find(listed(sources)))


def listed(sources: Sources) -> list[str]:
    return [str(s) for s in ([sources] if isinstance(sources, str | Path) else sources)]


def load_texts(
    found: "Sequence[Found]", progress: Progress, clock: Clock, kept: "Kept | None" = None
) -> "tuple[list[Text], list[Failure]]":
    """What the files hold, and what could not be read. Raises RaptorError where they hold nothing."""
    with clock.stage("load"):
        return _load(found, progress, kept)


def _outside(out: Path, found: "Sequence[Found]") -> "list[Found]":
    """What does not lie in the index itself, which may stand among its sources, half built."""
    inside = os.path.realpath(out)
    return [file for file in found if not Path(os.path.realpath(file.path)).is_relative_to(inside)]


def _load(
    found: "Sequence[Found]", progress: Progress, kept: "Kept | None"
) -> "tuple[list[Text], list[Failure]]":
    from raptor.loading.load import load
    from raptor.loading.types import Text

    texts: list[Text] = []
    failures: list[Failure] = []
    progress("load", 0, 0)
    for item in load(found, kept):
        if isinstance(item, Text):
            texts.append(item)
        else:
            failures.append(item)
        progress("load", len(texts) + len(failures), 0)
    if not texts:
        raise RaptorError(_nothing_loaded(failures))
    return texts, failures


def _nothing_loaded(failures: "Sequence[Failure]") -> str:
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    why = f": {failures[0].source}: {failures[0].reason}{more}" if failures else ""
    return f"there is nothing to index{why}"


def embedder_for(name: str, settings: BuildSettings) -> "Embedder":
    """The embedder; raises RaptorError where chunks would be longer than what it reads."""
    from index_store.embedder import load_embedder

    model = load_embedder(name)
    if settings.chunk_tokens > model.max_tokens:
        raise RaptorError(
            f"chunk_tokens is {settings.chunk_tokens}, but the embedder {name} reads only the first "
            f"{model.max_tokens} tokens of a text; give at most {model.max_tokens}"
        )
    return model


def same_embedder(index: "Index", settings: BuildSettings) -> "Embedder":
    """The embedder that built `index`; raises where it is no longer the same weights."""
    index.embed_queries([])  # compares fingerprints
    return embedder_for(index.manifest.models["embedder"], settings)
