"""Build an index, and change one: documents to chunks to vectors to clusters to summaries, up to one root.

An update is a build that starts from a generation. Stages are pure maps over batches whose results are recorded in the
checkpoint; only `index_store.writer.publish` touches the generations.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raptor.errors import RaptorError
from raptor.settings import BuildSettings

if TYPE_CHECKING:
    from index_store.embedder import Embedder
    from index_store.reader import Index
    from index_store.writer import Draft, Published
    from raptor.checkpoint import Checkpoint
    from raptor.corpus import Changes, Corpus
    from raptor.growing import Grower, Level
    from raptor.loading.metadata import Metadata
    from raptor.loading.processes import Kept
    from raptor.loading.readers import Failure, Found, Text
    from rlm.gateway.gateway import Gateway
    from rlm.gateway.types import Usage

#: Told (stage, done, total) as work goes on; total is 0 where it is not known yet.
Progress = Callable[[str, int, int], None]
MOST_USD = 10**9
Sources = Sequence[str | Path] | str | Path
#: Where the checkpoint keeps the folders that documents came from.
ROOTS = "roots"
#: What could not be loaded, and metadata about documents that there are none of.
Faults = tuple[Sequence["Failure"], Sequence["Failure"]]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    `levels[i]`: nodes at level i. `seconds`: wall time of each stage. Calls, tokens, dollars: the summarizer's, in this
    run; what an earlier run had paid for is not counted again. `unused_metadata`: what is
    said of documents that there are none of.
    """

    index: str
    generation: int
    digest: str
    new: bool
    documents: int
    changes: "Changes"
    failures: tuple["Failure", ...]
    unused_metadata: tuple["Failure", ...]
    chunks: int
    levels: tuple[int, ...]
    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float
    bytes: int
    seconds: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"tokens": self.prompt_tokens + self.completion_tokens}


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


@dataclass(frozen=True, slots=True)
class Spending:
    """`usd`: most that the summaries of one run may cost, and a build does not start that is expected to cost more;
    `max_errors`: failed ones after which it stops at once."""

    usd: float | None = None
    max_errors: int = 10

    def __post_init__(self) -> None:
        if self.usd is not None and not 0 <= self.usd <= MOST_USD:
            raise RaptorError(f"max-usd is {self.usd}; give a number of dollars from 0 to {MOST_USD:,}")
        if self.max_errors < 0:
            raise RaptorError(f"max-errors is {self.max_errors}; give 0 or more")


def build_index(
    sources: Sources,
    index: str | Path,
    *,
    summarizer: str = "offline/extractive",
    embedder: str = "minilm",
    settings: BuildSettings | None = None,
    metadata: "Metadata | None" = None,
    spending: Spending | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build an index of `sources` (files, folders, globs, .jsonl) in the folder `index` and publish it.

    `metadata`: what `raptor.loading.metadata.read_metadata` read. A build that was cut short goes on where it was.
    Raises RaptorError, GatewayError or IndexStoreError, each one sentence; nothing is published then.
    """
    from raptor.corpus import Changes, corpus_of, new_parts
    from raptor.estimate import refuse_above_cap
    from raptor.loading.metadata import described
    from raptor.loading.parsed import Parsed
    from raptor.loading.readers import roots_of
    from rlm.gateway.provider import check_model

    settings, progress, clock = settings or BuildSettings(), progress or silent, Clock()
    spending = spending or Spending()
    out = Path(index)
    check_target(out)
    check_model(summarizer)
    found = find_files(out, sources, clock)
    with clock.stage("embed"):
        model = embedder_for(embedder, settings)
    with opened_when_needed(out) as checkpoint:
        texts, failures = load_texts(found, progress, clock, Parsed(out, checkpoint))
        grower = _grower(model, summarizer, settings, checkpoint(), progress, spending)
        with clock.stage("chunk"):
            parts, unknown = described(new_parts(texts, grower), metadata)
        refuse_above_cap(spending.usd, parts, grower)
        with clock.stage("embed"):
            corpus = corpus_of(parts, Changes(added=len(parts)), grower)
        report = _finish(out, grower, corpus, embedder, (failures, unknown), spending, clock)
        checkpoint().put_json(ROOTS, "roots", roots_of(listed(sources)))
        return report


def update_index(
    index: str | Path,
    sources: Sources = (),
    *,
    remove: Collection[str] = (),
    summarizer: str | None = None,
    metadata: "Metadata | None" = None,
    spending: Spending | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Add and replace the documents of `sources`, drop those in `remove`, and publish a new generation.

    Unchanged documents cost nothing; only clusters whose members changed, and their ancestors, are summarised again.
    A file below a folder that documents came from before is named as then: by its path below that folder.
    A document keeps the metadata that it had, save what its source or `metadata` says anew. Settings and models are
    those of the index, but for another `summarizer`. Raises as `build_index` does.
    """
    from index_store.reader import open_index
    from raptor.corpus import corpus_of, merged_parts
    from raptor.loading.parsed import Parsed
    from raptor.loading.readers import is_below, named_below, roots_of
    from rlm.gateway.provider import check_model

    progress, clock, out = progress or silent, Clock(), Path(index)
    previous = open_index(out)
    settings = BuildSettings.from_json(previous.manifest.settings)
    summarizer = summarizer or previous.manifest.models["summarizer"]
    check_model(summarizer)
    with opened(out) as checkpoint:
        previous = open_index(out)  # again, now that no other build can publish
        roots = checkpoint.get_json(ROOTS) or []
        found = named_below(find_files(out, sources, clock), roots) if sources else []
        parsed = Parsed(out, lambda: checkpoint)
        texts, failures = load_texts(found, progress, clock, parsed) if found else ([], [])
        with clock.stage("embed"):
            model = same_embedder(previous, settings)
        grower = _grower(model, summarizer, settings, checkpoint, progress, spending or Spending(), previous)
        with clock.stage("chunk"):
            parts, changes, unknown = merged_parts(previous, texts, frozenset(remove), metadata, grower)
        with clock.stage("embed"):
            corpus = corpus_of(parts, changes, grower)
        name = previous.manifest.models["embedder"]
        report = _finish(out, grower, corpus, name, (failures, unknown), spending or Spending(), clock)
        roots += [root for root in roots_of(listed(sources)) if not is_below(root, roots)]
        checkpoint.put_json(ROOTS, "roots", roots)
        return report


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
    from raptor.loading.readers import find

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
    from raptor.loading.readers import Text, load

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


def _grower(
    model: "Embedder",
    summarizer: str,
    settings: BuildSettings,
    checkpoint: "Checkpoint",
    progress: Progress,
    spending: Spending,
    previous: "Index | None" = None,
) -> "Grower":
    from raptor.growing import Grower

    return Grower(model, summarizer, settings, checkpoint, progress, spending.max_errors, previous)


def _finish(
    out: Path,
    grower: "Grower",
    corpus: "Corpus",
    embedder: str,
    faults: Faults,
    spending: Spending,
    clock: Clock,
) -> BuildReport:
    """Grow the tree over a corpus and publish it."""
    from index_store.writer import publish
    from raptor.growing import grow
    from rlm.gateway.gateway import Gateway
    from rlm.gateway.ledger import Caps, Ledger

    ledger = Ledger(Caps(usd=spending.usd))

    def gateway() -> "Gateway":
        return Gateway(ledger, concurrency=grower.settings.concurrency)

    levels = grow(grower, corpus.leaves, gateway, clock)
    with clock.stage("write"):
        grower.progress("write", 0, 1)
        models = {
            "embedder": embedder,
            "embedder_fingerprint": grower.embedder.fingerprint,
            "summarizer": grower.summarizer,
        }
        published = publish(out, draft_of(corpus, levels), models, lasting(grower.settings))
        grower.checkpoint.settle("embed", "cluster")
        grower.progress("write", 1, 1)
    return _report(out, published, corpus, faults, levels, ledger.spent, clock.seconds)


def lasting(settings: BuildSettings) -> dict[str, Any]:
    """The settings that bear on what an index holds: how many calls ran at once is none of them."""
    return {name: value for name, value in asdict(settings).items() if name != "concurrency"}


def draft_of(corpus: "Corpus", levels: "Sequence[Level]") -> "Draft":
    """A corpus and the tree over it, as the writer takes them."""
    import numpy as np

    from index_store.writer import Draft
    from raptor.growing import numbers_below

    above = levels[1:]
    return Draft(
        documents=corpus.documents,
        chunks=corpus.chunks,
        labels=[label for level in above for label in level.labels],
        summaries=[text for level in above for text in level.texts],
        levels=[len(level) for level in levels],
        children=numbers_below(levels),
        tokens=np.concatenate([level.tokens for level in levels]),
        vectors=np.concatenate([level.vectors for level in levels]),
    )


def _report(
    out: Path,
    published: "Published",
    corpus: "Corpus",
    faults: Faults,
    levels: "Sequence[Level]",
    usage: "Usage",
    seconds: Mapping[str, float],
) -> BuildReport:
    return BuildReport(
        index=str(out),
        generation=published.generation,
        digest=published.digest,
        new=published.new,
        documents=len(corpus.documents),
        changes=corpus.changes,
        failures=tuple(faults[0]),
        unused_metadata=tuple(faults[1]),
        chunks=len(corpus.leaves),
        levels=tuple(len(level) for level in levels),
        calls=usage.calls,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        usd=usage.usd,
        bytes=published.bytes,
        seconds=dict(seconds),
    )
