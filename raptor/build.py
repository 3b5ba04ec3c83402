"""Build an index, and change one: documents to chunks to vectors to clusters to summaries, up to one root.

An update is a build that starts from a generation. Stages are pure maps over batches whose results are recorded in the
checkpoint; only `index_store.writer.publish` touches the generations.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raptor.settings import BuildSettings
from raptor.types import BuildReport, Faults, Spending
from raptor.workspace import (
    Clock,
    Progress,
    Sources,
    check_target,
    embedder_for,
    find_files,
    listed,
    load_texts,
    opened,
    opened_when_needed,
    same_embedder,
    silent,
)

if TYPE_CHECKING:
    from index_store.embedder import Embedder
    from index_store.index import Index
    from index_store.writer import Draft, Published
    from raptor.checkpoint import Checkpoint
    from raptor.corpus import Corpus
    from raptor.growing import Grower
    from raptor.loading.metadata import Metadata
    from raptor.types import Level
    from rlm.gateway.gateway import Gateway
    from rlm.gateway.types import Usage

#: Where the checkpoint keeps the folders that documents came from.
ROOTS = "roots"


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
    from raptor.corpus import corpus_of, new_parts
    from raptor.estimate import refuse_above_cap
    from raptor.loading.find import roots_of
    from raptor.loading.metadata import described
    from raptor.loading.parsed import Parsed
    from raptor.types import Changes
    from rlm.gateway.models import check_model

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
    from index_store.index import open_index
    from raptor.corpus import corpus_of, merged_parts
    from raptor.loading.find import is_below, named_below, roots_of
    from raptor.loading.parsed import Parsed
    from rlm.gateway.models import check_model

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
