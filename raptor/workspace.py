"""What a build and its estimate both start with: clock, progress, the index folder, the sources' texts, embedder."""

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from index_store import embedder as embedders
from index_store.embedder import Embedder
from index_store.index import Index
from index_store.spool import Spool
from raptor.checkpoint import LOCK, NAME, Checkpoint, build_lock
from raptor.engines.engine import Engine
from raptor.errors import RaptorError
from raptor.loading.find import files_of, find, matching, named_below, once_each
from raptor.loading.load import load
from raptor.loading.ocr import check_language
from raptor.loading.origins import FOLDER, PATTERN, ROOT, Origins, Source, is_gone
from raptor.loading.picking import ALL, Picked
from raptor.loading.processes import ParseCache
from raptor.loading.spooled import keep, texts_in
from raptor.loading.types import Failure, SourceFile, Text
from raptor.settings import EMBEDDER, BuildSettings
from rlm.gateway.embeddings import embeds, fingerprint
from rlm.gateway.models import provider_of, window

#: Called with (stage, done, total) as work goes on; total is 0 where it is not known yet.
Progress = Callable[[str, int, int], None]
#: Says whether sources may be read, given their paths.
Allow = Callable[[Sequence[str]], bool]
#: Where the checkpoint keeps what documents came from, and the key and kind under which it once kept folders alone.
ORIGINS, ROOTS = "origins", "roots"
#: Files, folders, patterns and .jsonl files; or one of them.
Sources = Sequence[str | Path] | str | Path
#: Tokens that an embedder is taken to read which is called and litellm does not know.
_READS = 8_000


_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Clock:
    """Wall time of each stage, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to the stage `name`."""
        began = time.monotonic()
        try:
            yield
        finally:
            took_s = time.monotonic() - began
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took_s, 3)
            _log.debug("%s took %.3f s", name, took_s)


def silent(stage: str, done: int, total: int) -> None:
    """Progress that is shown nowhere."""


# -- the index folder --------------------------------------------------------------------------------------


@contextmanager
def opened(out: Path) -> Iterator[Checkpoint]:
    """The checkpoint of an index folder, which is locked against other builds while it is open."""
    with build_lock(out), Checkpoint(out) as checkpoint:
        yield checkpoint


@contextmanager
def looked_at(out: Path) -> Iterator[Checkpoint]:
    """The checkpoint of an index folder, in which nothing is written."""
    with Checkpoint(out, read_only=True) as checkpoint:
        yield checkpoint


@contextmanager
def opened_when_needed(out: Path) -> Iterator[Callable[[], Checkpoint]]:
    """A function that opens the checkpoint when it is first called: no folder is made for a build that is refused."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(opened(out)))


def recorded_origins(checkpoint: Checkpoint) -> Origins:
    """Where the documents of an index came from, as its last build or change recorded it."""
    return Origins.from_json(
        checkpoint.get_json(ORIGINS, lambda value: isinstance(value, dict)),
        checkpoint.get_json(ROOTS, lambda value: isinstance(value, list)),
    )


def record_origins(checkpoint: Checkpoint, origins: Origins, *, ours: bool = True) -> None:
    """Record where the documents of an index came from. `ours`: whether someone on this machine named it all."""
    record = origins.as_json()
    assert isinstance(record, dict)
    checkpoint.put_json(ORIGINS, ROOTS, record | ({"mark": _mark(checkpoint)} if ours else {}))


def is_ours(checkpoint: Checkpoint) -> bool:
    """Whether what is recorded of sources was named by this user on this machine, and not by whoever gave the index."""
    record = checkpoint.get_json(ORIGINS, lambda value: isinstance(value, dict))
    return record is not None and record.get("mark") == _mark(checkpoint)


def _mark(checkpoint: Checkpoint) -> str:
    """What another machine, another user and a copy of the file have otherwise, and what a stranger cannot know."""
    try:
        machine = Path("/etc/machine-id").read_text()
    except OSError:
        machine = ""
    node = uuid.getnode()
    if node & 1 << 40:  # where there is no network card, it is another number each time
        node = 0
    file = checkpoint.path.stat().st_ino if checkpoint.path.exists() else 0
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME")
    return hashlib.sha256(repr((machine, node, user, file)).encode()).hexdigest()


def refuse_unknown_sources(
    out: Path, outside: Sequence[str], checkpoint: Checkpoint, allow: Allow | None, purpose: str
) -> None:
    """Raise RaptorError where an index that came from elsewhere names sources `outside` the working folder, unless they
    are allowed: whoever made it would say which of the user's files are read. `purpose`: what --yes is for."""
    if is_ours(checkpoint) or not outside or (allow is not None and allow(outside)):
        return
    raise RaptorError(
        f"{out} was not built here and names sources outside of this folder: {', '.join(map(repr, outside[:5]))}"
        f"{' and more' if len(outside) > 5 else ''}; give --yes {purpose}"
    )


def check_target(out: Path) -> None:
    """Raise RaptorError unless an index can be written at `out`: better now than after the work is paid for."""
    try:
        fault = _target_fault(out)
    except OSError as e:
        fault = f"cannot be looked at ({e.strerror})"
    if fault:
        raise RaptorError(f"{out} {fault}; choose a new or empty folder for the index")


def _target_fault(out: Path) -> str:
    ours = {"generations", "CURRENT", LOCK, NAME, f"{NAME}-wal", f"{NAME}-shm"}
    if out.is_dir() and any(out.iterdir()) and not ours & {p.name for p in out.iterdir()}:
        return "is a folder with other files in it"
    there = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        return "is a file" if there == out else f"lies below {there}, which is no folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"cannot be written: {there} is read-only"


# -- the sources -------------------------------------------------------------------------------------------


def listed(sources: Sources) -> list[str]:
    """The sources as a list, whether one was given or many."""
    return [str(s) for s in ([sources] if isinstance(sources, str | Path) else sources)]


def reading(settings: BuildSettings, password: str) -> dict[str, str]:
    """How files are read, as `find_files` and `find_recorded` take it."""
    return {"encoding": settings.encoding, "ocr_language": settings.ocr_language, "password": password}


def find_files(
    out: Path,
    sources: Sources,
    clock: Clock,
    *,
    follow_links: bool = False,
    picked: Picked = ALL,
    encoding: str = "",
    ocr_language: str = "",
    password: str = "",
) -> tuple[list[SourceFile], int]:
    """The files that the sources stand for, but for those of the index at `out`, which may lie among them; and how many
    `picked` leaves out.

    `encoding`: that of their text, `ocr_language`: that of their pictures, `password`: what opens them; "" where the
    user named none. Raises RaptorError where there are none, and where tesseract lacks the language.
    """
    with clock.stage("load"):
        found = find(listed(sources), follow_links=follow_links, picked=picked)
        return _taken(_outside(out, found, encoding, ocr_language, password))


def _taken(files: Sequence[SourceFile]) -> tuple[list[SourceFile], int]:
    """The files that patterns take, and how many they leave out."""
    taken = [file for file in files if not file.excluded]
    return taken, len(files) - len(taken)


def _outside(
    out: Path, files: Sequence[SourceFile], encoding: str, ocr_language: str, password: str
) -> list[SourceFile]:
    index = os.path.realpath(out)
    check_language(ocr_language)
    return [
        replace(file, encoding=encoding, ocr_language=ocr_language, password=password)
        for file in files
        if not Path(os.path.realpath(file.path)).is_relative_to(index)
    ]


def find_recorded(
    out: Path,
    origins: Origins,
    clock: Clock,
    *,
    encoding: str = "",
    ocr_language: str = "",
    password: str = "",
) -> tuple[list[SourceFile], int]:
    """The files, sorted by id, that the sources of the index at `out` stand for now, under absolute paths; and how many
    the patterns leave out that were recorded with them.

    The rest is as in `find_files`. Raises RaptorError where the sources are not recorded, and where a
    folder of theirs is missing: it may be no more than not mounted, and its documents cost money.
    """
    sources = [source for source in origins.sources if source.kind != ROOT]
    if not sources:
        raise RaptorError(
            f"{out} does not say what it was built from; name that once: raptor update {out} SOURCE..."
        )
    with clock.stage("load"):
        there = [source for source in sources if _is_there(out, source, origins)]
        paths = [(str(Path(origins.folder, source.given)), source) for source in there]
        files = [
            file
            for path, source in paths
            for file in files_of(path, follow_links=source.follow_links, picked=source.picked)
        ]
        taken, excluded = _taken(_outside(out, once_each(files), encoding, ocr_language, password))
        return named_below(taken, origins.roots), excluded


def _is_there(out: Path, source: Source, origins: Origins) -> bool:
    """Whether a source has files; a file or the matches of a pattern may be deleted, and so may not be a folder."""
    path, folder = Path(origins.folder, source.given), origins.folder_of(source)
    if not folder.is_dir() or (source.kind == FOLDER and not path.is_dir()):
        raise RaptorError(
            f"the source {source.given!r} is gone: there is no folder {folder}; bring it back, or take its documents "
            f"out with: raptor remove {out} {source.given}"
        )
    if source.kind == PATTERN:
        return bool(matching(str(path), follow_links=source.follow_links))
    return not is_gone(str(path))


def load_texts(
    files: Sequence[SourceFile],
    progress: Progress,
    clock: Clock,
    cache: ParseCache | None = None,
    folder: Path | None = None,
    engine: Engine | None = None,
) -> tuple[Sequence[Text], list[Failure]]:
    """The documents in the files, and what could not be read. Many are kept in a file in `folder`, and read back.

    Raises RaptorError where there is no document, IndexStoreError where the disk is full.
    """
    spool, failures = Spool(folder), list[Failure]()
    with clock.stage("load"):
        progress("load", 0, 0)
        for item in load(files, cache, engine, folder):
            if isinstance(item, Text):
                keep(item, spool)
            else:
                failures.append(item)
            progress("load", len(spool) // 2 + len(failures), 0)
    if not len(spool):
        raise RaptorError(_nothing_loaded(failures))
    return texts_in(spool), failures


_NAMED = 10  # sources that could not be loaded, of all


def _nothing_loaded(failures: Sequence[Failure]) -> str:
    more = f" (and {len(failures) - _NAMED} more)" if len(failures) > _NAMED else ""
    named = "; ".join(f"{failure.source}: {failure.reason}" for failure in failures[:_NAMED])
    return f"there is nothing to index{': ' if named else ''}{named}{more}"


# -- the embedder ------------------------------------------------------------------------------------------


def embedder_for(
    name: str, settings: BuildSettings, device: str = embedders.CPU, options: Mapping[str, Any] | None = None
) -> Embedder:
    """The embedder that the user named, at the precision of the settings, on a device; `options`: what is sent with
    its calls, where it is one that is called.

    Raises RaptorError where chunks would be longer than what it reads, IndexStoreError or GatewayError where it cannot
    be had.
    """
    if embeds(name):
        return reading_chunks(called_embedder(name, options or {}), settings)
    model = reading_chunks(embedders.load_embedder(name), settings)
    return embedders.on_device(embedders.at_precision(model, settings.precision), device)


def same_embedder(
    index: Index,
    embedder: str | None,
    settings: BuildSettings,
    device: str = embedders.CPU,
    options: Mapping[str, Any] | None = None,
) -> Embedder:
    """The embedder that built `index`: the built-in one, or the one that the user named when opening it.

    It computes as it did then, or in float32 where that was bfloat16 and this processor has none, or elsewhere: their
    vectors fit.
    Raises IndexStoreError where it has to be named, or its weights are others by now.
    """
    if embedder is not None and embeds(embedder):
        called = called_embedder(embedder, options or {}, index.vectors.shape[1])
        index.check_fingerprint(called.name, called.fingerprint)
        return reading_chunks(called, settings)
    index.embed_queries([])  # compares fingerprints
    model = reading_chunks(embedders.load_embedder(embedder or EMBEDDER, offline=True), settings)
    precise = settings.precision == embedders.FLOAT32
    model = model if precise else embedders.at_precision(model, embedders.AUTO)
    return embedders.on_device(model, device)


def called_embedder(model: str, options: Mapping[str, Any], dim: int = 0) -> Embedder:
    """An embedder that `Grower.embed` calls; 0 where nobody knows yet how long its vectors are. Raises GatewayError."""
    provider_of(model)
    return embedders.called(model, fingerprint(model, options, dim), dim, window(model) or _READS)


def reading_chunks(model: Embedder, settings: BuildSettings) -> Embedder:
    if settings.chunk_tokens > model.max_tokens:
        raise RaptorError(
            f"chunk_tokens is {settings.chunk_tokens}, but the embedder {model.name} reads only the first "
            f"{model.max_tokens} tokens of a text; give at most {model.max_tokens}"
        )
    return model
