"""The loop: documents to chunks, chunks to vectors, vectors to clusters, clusters to summaries, up to one root.

Stages are pure maps over batches; only `index_store.writer.publish` touches the index folder.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raptor.errors import RaptorError
from raptor.settings import BuildSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from index_store.embedder import Embedder
    from index_store.types import Document
    from index_store.writer import Draft, Published
    from raptor.documents import Failure, Found, Text
    from raptor.summarising import Summary
    from rlm.gateway.blocks import Block
    from rlm.gateway.gateway import Gateway
    from rlm.gateway.types import Usage

#: Told (stage, done, total) as work goes on; total is 0 where it is not known yet.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    `levels[i]`: nodes at level i. `seconds`: wall time of each stage. Calls, tokens, dollars: the summarizer's.
    """

    index: str
    generation: int
    digest: str
    new: bool
    documents: int
    failures: tuple["Failure", ...]
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
class _Tree:
    """The tree as it grows: columns over all nodes so far, and what each summary stands on."""

    texts: list[str]
    names: list[str]
    tokens: list[int]
    vectors: "list[npt.NDArray[np.float32]]"
    levels: list[int]
    labels: list[str] = field(default_factory=list)
    children: "list[npt.NDArray[np.int64]]" = field(default_factory=list)


@dataclass(slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)


def build_index(
    sources: Sequence[str | Path] | str | Path,
    index: str | Path,
    *,
    summarizer: str = "offline/extractive",
    embedder: str = "minilm",
    settings: BuildSettings | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build an index of `sources` (files, folders, globs, .jsonl) in the folder `index` and publish it.

    Raises RaptorError, GatewayError or IndexStoreError, each one sentence; nothing is published then.
    """
    from index_store.writer import publish
    from raptor.documents import find
    from rlm.gateway.provider import check_model

    settings, progress, clock = settings or BuildSettings(), progress or _silent, _Clock()
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    out = Path(index)
    _check_target(out)
    check_model(summarizer)
    found = _outside(out, find([str(s) for s in listed]))
    with clock.stage("load"):
        texts, failures = _load(found, progress)
    with clock.stage("embed"):
        model = _load_embedder(embedder, settings)
    tree, chunks = _leaves(texts, model, settings, progress, clock)
    usage = _grow(tree, model, summarizer, settings, progress, clock)
    with clock.stage("write"):
        progress("write", 0, 1)
        models = {"embedder": embedder, "embedder_fingerprint": model.fingerprint, "summarizer": summarizer}
        published = publish(out, _draft(texts, chunks, tree), models, _lasting(settings))
        progress("write", 1, 1)
    return _report(out, published, texts, failures, tree, usage, clock.seconds)


def _silent(stage: str, done: int, total: int) -> None:
    """No progress wanted."""


def _check_target(out: Path) -> None:
    """Raise RaptorError unless an index can be written at `out`: better now than after the work is paid for."""
    try:
        fault = _target_fault(out)
    except OSError as e:
        fault = f"cannot be looked at ({e.strerror})"
    if fault:
        raise RaptorError(f"{out} {fault}; choose a new or empty folder for the index")


def _target_fault(out: Path) -> str:
    if out.is_dir() and any(out.iterdir()) and not (out / "generations").is_dir():
        return "is a folder with other files in it"
    there = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        return "is a file" if there == out else f"lies below {there}, which is no folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"cannot be written: {there} is read-only"


def _outside(out: Path, found: "Sequence[Found]") -> "list[Found]":
    """What does not lie in the index itself, which may stand among its sources, half built."""
    inside = os.path.realpath(out)
    return [file for file in found if not Path(os.path.realpath(file.path)).is_relative_to(inside)]


def _lasting(settings: BuildSettings) -> dict[str, Any]:
    """The settings that bear on what an index holds: how many calls ran at once is none of them."""
    return {name: value for name, value in asdict(settings).items() if name != "concurrency"}


def _load(found: "Sequence[Found]", progress: Progress) -> "tuple[list[Text], list[Failure]]":
    from raptor.documents import Text, load

    texts: list[Text] = []
    failures: list[Failure] = []
    progress("load", 0, 0)
    for item in load(found):
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


def _load_embedder(name: str, settings: BuildSettings) -> "Embedder":
    from index_store.embedder import load_embedder

    model = load_embedder(name)
    if settings.chunk_tokens > model.max_tokens:
        raise RaptorError(
            f"chunk_tokens is {settings.chunk_tokens}, but the embedder {name} reads only the first "
            f"{model.max_tokens} tokens of a text; give at most {model.max_tokens}"
        )
    return model


def _leaves(
    texts: "Sequence[Text]", model: "Embedder", settings: BuildSettings, progress: Progress, clock: _Clock
) -> "tuple[_Tree, npt.NDArray[np.int64]]":
    """The tree's first level, and its chunks as (n0, 3): document number, start, end in characters."""
    import numpy as np

    from raptor.chunking import chunk

    spans: list[tuple[int, int, int]] = []
    progress("chunk", 0, len(texts))
    with clock.stage("chunk"):
        for d, text in enumerate(texts):
            spans += [(d, a, b) for a, b in chunk(text.text, model.token_spans, settings.chunk_tokens)]
            progress("chunk", d + 1, len(texts))
    words = [texts[d].text[a:b] for d, a, b in spans]
    # What is embedded is the chunk under its document's title: alone, many do not say what they are about.
    titled = [f"{texts[d].title}\n{t}" for (d, _, _), t in zip(spans, words, strict=True)]
    with clock.stage("embed"):
        vectors = _embed(model, titled, "embed", progress)
    names = [f"{texts[d].id} {a}-{b}" for d, a, b in spans]
    tree = _Tree(words, names, model.count_tokens(words), [vectors], [len(spans)])
    return tree, np.array(spans, dtype=np.int64)


def _embed(
    model: "Embedder", texts: Sequence[str], stage: str, progress: Progress
) -> "npt.NDArray[np.float32]":
    from raptor.embedding import embed

    progress(stage, 0, len(texts))
    return embed(model, texts, partial(progress, stage))


def _grow(
    tree: _Tree,
    model: "Embedder",
    summarizer: str,
    settings: BuildSettings,
    progress: Progress,
    clock: _Clock,
) -> "Usage":
    """Add levels until one node stands at the top; returns what the model calls used."""
    from rlm.gateway.blocking import run_blocking
    from rlm.gateway.gateway import Gateway
    from rlm.gateway.ledger import Caps, Ledger

    ledger = Ledger(Caps())
    while tree.levels[-1] > 1:
        level = len(tree.levels)
        with clock.stage("cluster"):
            progress(f"cluster level {level}", 0, tree.levels[-1])
            groups = _groups(tree, settings)
            progress(f"cluster level {level}", tree.levels[-1], tree.levels[-1])
        with clock.stage("summarise"):
            gateway = Gateway(ledger, concurrency=settings.concurrency)
            report = partial(progress, f"summarise level {level}")
            made = run_blocking(_summaries(gateway, summarizer, tree, groups, settings, report))
        with clock.stage("embed"):
            texts = [f"{s.label}\n{s.text}" for s in made]
            vectors = _embed(model, texts, f"embed level {level}", progress)
        _add_level(tree, groups, made, vectors, model.count_tokens([s.text for s in made]))
    return ledger.spent


def _groups(tree: _Tree, settings: BuildSettings) -> "list[npt.NDArray[np.int64]]":
    """The clusters of the top level, as numbers of nodes of the whole tree."""
    import numpy as np

    from raptor.clustering import cluster

    n, first = tree.levels[-1], len(tree.texts) - tree.levels[-1]
    tokens = np.array(tree.tokens[first:], dtype=np.int64)
    if n <= settings.root_children and tokens.sum() <= settings.cluster.max_tokens:
        return [np.arange(first, first + n)]
    return [
        np.asarray(g, dtype=np.int64) + first for g in cluster(tree.vectors[-1], tokens, settings.cluster)
    ]


async def _summaries(
    gateway: "Gateway",
    model: str,
    tree: _Tree,
    groups: "Sequence[npt.NDArray[np.int64]]",
    settings: BuildSettings,
    report: Callable[[int, int], None],
) -> "list[Summary]":
    from raptor.summarising import summarise

    done = iter(range(1, 2 * len(groups) + 1))
    report(0, len(groups))
    async with gateway:
        return await summarise(
            gateway,
            model,
            [_members(tree, g, settings.cluster.max_tokens) for g in groups],
            settings.summary_tokens,
            lambda _: report(min(next(done), len(groups)), len(groups)),
        )


def _members(tree: _Tree, group: "npt.NDArray[np.int64]", max_tokens: int) -> "list[Block]":
    """A cluster as data blocks; members that together pass the cap are each cut to their share of it."""
    from rlm.gateway.blocks import Block

    share = min(1.0, max_tokens / max(1, sum(tree.tokens[i] for i in group.tolist())))
    return [Block(tree.names[i], tree.texts[i][: int(len(tree.texts[i]) * share)]) for i in group.tolist()]


def _add_level(
    tree: _Tree,
    groups: "Sequence[npt.NDArray[np.int64]]",
    made: "Sequence[Summary]",
    vectors: "npt.NDArray[np.float32]",
    tokens: Sequence[int],
) -> None:
    tree.names += [s.label.replace("\n", " ") for s in made]
    tree.labels += [s.label for s in made]
    tree.texts += [s.text for s in made]
    tree.tokens += tokens
    tree.children += list(groups)
    tree.vectors.append(vectors)
    tree.levels.append(len(groups))


def _draft(texts: "Sequence[Text]", chunks: "npt.NDArray[np.int64]", tree: _Tree) -> "Draft":
    import numpy as np

    from index_store.writer import Draft

    return Draft(
        documents=[(_document(t), t.text) for t in texts],
        chunks=chunks,
        labels=tree.labels,
        summaries=tree.texts[len(chunks) :],
        levels=tree.levels,
        children=tree.children,
        tokens=np.array(tree.tokens, dtype=np.int64),
        vectors=np.concatenate(tree.vectors),
    )


def _document(text: "Text") -> "Document":
    from index_store.types import Document

    digest = hashlib.sha256(text.text.encode()).hexdigest()
    return Document(text.id, text.title, text.source, digest, len(text.text), tuple(text.pages))


def _report(
    out: Path,
    published: "Published",
    texts: "Sequence[Text]",
    failures: "Sequence[Failure]",
    tree: _Tree,
    usage: "Usage",
    seconds: Mapping[str, float],
) -> BuildReport:
    return BuildReport(
        index=str(out),
        generation=published.generation,
        digest=published.digest,
        new=published.new,
        documents=len(texts),
        failures=tuple(failures),
        chunks=tree.levels[0],
        levels=tuple(tree.levels),
        calls=usage.calls,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        usd=usage.usd,
        bytes=published.bytes,
        seconds=dict(seconds),
    )
