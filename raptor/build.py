"""Build an index, and change one: documents to chunks to vectors to clusters to summaries, up to one root.

An update is a build that starts from a generation. Stages are pure maps over batches whose results are recorded in the
checkpoint; only `index_store.writer.publish` touches the generations.
"""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from index_store import access
from index_store.arguments import checked
from index_store.embedder import AUTO, Embedder
from index_store.generations import differences_between
from index_store.index import Index, Sharded, open_index
from index_store.narrowing import seen_by_label
from index_store.spool import only
from index_store.terminal import count
from index_store.writer import publish
from raptor.apart import named_by_kind
from raptor.corpus import (
    Corpus,
    corpus_of,
    merged_documents,
    merged_parts,
    new_parts,
    refuse_another_model,
    twins_in,
    with_metadata,
)
from raptor.engines.choosing import chosen
from raptor.engines.engine import LOCAL
from raptor.errors import RaptorError
from raptor.estimating import refuse_above_cap
from raptor.grower import Grower
from raptor.growing import draft_of, grow, models_of
from raptor.loading.find import named_below
from raptor.loading.metadata import Metadata
from raptor.loading.origins import Origins
from raptor.loading.parsed import CheckpointCache
from raptor.loading.picking import ALL, Picked, picked
from raptor.loading.types import Failure, Note, SourceFile, Text
from raptor.places import at_place
from raptor.reconciling import found_here, keeping_ids, reconciled, refuse_drops, refuse_joining, still_named
from raptor.selecting import selected
from raptor.settings import EMBEDDER, SUMMARIZER, BuildSettings, Sharding, Spending, lasting
from raptor.sharding.shards import Whole
from raptor.sharding.whole import change, divide
from raptor.types import BuildReport, Changes, Outcome, Part
from raptor.workspace import (
    Allow,
    Clock,
    Progress,
    Sources,
    check_target,
    embedder_for,
    find_files,
    find_recorded,
    is_ours,
    listed,
    load_texts,
    looked_at,
    opened,
    opened_when_needed,
    reading,
    record_origins,
    recorded_origins,
    refuse_unknown_sources,
    same_embedder,
    silent,
)
from rlm.gateway.embeddings import embeds
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.models import check_model
from rlm.gateway.offline.registry import PREFIX
from rlm.gateway.options import check_options

_log = logging.getLogger(__name__)
#: What leave is asked for, where a stranger's index names the sources.
READ_INTO = "to have them read, and their text put into it"


@dataclass(frozen=True, slots=True)
class _Told:
    """What a report tells of sources: those that could not be loaded, metadata of no document, what else to know."""

    failures: Sequence[Failure]
    unused_metadata: Sequence[Failure]
    notes: Sequence[Note]


@checked(RaptorError)
@at_place(publishes=True)
def build_index(
    sources: Sources,
    index: str | Path,
    *,
    follow_links: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    replace: bool = False,
    summarizer: str = SUMMARIZER,
    summarizer_options: Mapping[str, Any] | None = None,
    embedder: str = EMBEDDER,
    embedder_options: Mapping[str, Any] | None = None,
    device: str = AUTO,
    settings: BuildSettings | None = None,
    metadata: Metadata | None = None,
    password: str = "",
    spending: Spending | None = None,
    shards: Sharding | None = None,
    progress: Progress | None = None,
    engine: str = LOCAL,
    address: str = "",
) -> BuildReport:
    """Build an index of `sources` (files, folders, patterns, .jsonl) in the folder `index` and publish it.

    `summarizer`: a model, as litellm names it; `summarizer_options`: what is sent with its calls, such as
    {"temperature": 0}. `embedder`: "minilm", a sentence-transformers model, or "litellm/NAME", which is called and paid
    for, with `embedder_options` such as {"dimensions": 256}; `device`: where it computes, "auto"
    (a GPU if torch sees one), "cpu", "cuda" or "mps"; last bits differ there. `metadata`: fields of documents, as
    `read_metadata` gives them. `follow_links`: whether links that lead out of a folder of `sources` are read, which
    else are failures. `include`, `exclude`: patterns as in .gitignore, counted from each folder of `sources`: only
    files that one of `include` fits, () for all, and of these none that `exclude` fits. `replace`: whether documents
    may be dropped that an index there holds and `sources` do not.
    `password`: what opens encrypted files; it is kept nowhere. `shards`: how the documents are divided into indexes of
    their own, over whose roots one tree is grown; None for one index. `progress`: called with (stage, done, total) as
    work goes on. `engine`: where stages are computed, "local" or "ray"; `address`: host:port of a Ray cluster's head,
    "" for the one that RAY_ADDRESS names, or else one of this machine alone. The index is the same.
    A build that was cut short goes on where it was when it is called again with the same arguments.
    Raises RaptorError, GatewayError or IndexStoreError, each one sentence; nothing is published then.
    """
    settings, progress, clock = settings or BuildSettings(), progress or silent, Clock()
    spending = spending or Spending()
    out = Path(index)
    check_target(out)
    check_model(summarizer)
    if embeds(embedder):
        check_model(embedder)
    options = check_options(summarizer_options or {})
    sent = check_options(embedder_options or {})
    pick, told = picked(include, exclude), reading(settings, password)
    files, excluded = find_files(out, sources, clock, follow_links=follow_links, picked=pick, **told)
    with clock.stage("embed"):
        model = embedder_for(embedder, settings, device, sent)
    settings = _as_built(settings, model)
    with chosen(engine, address) as computing, opened_when_needed(out) as checkpoint:
        if not replace and shards is None:
            refuse_joining(out)  # before all is read
        texts, failures = load_texts(files, progress, clock, CheckpointCache(out, checkpoint), out, computing)
        if not replace:
            refuse_drops(out, texts)
        grower = Grower(
            model,
            summarizer,
            settings,
            checkpoint(),
            progress,
            spending.max_errors,
            options=options,
            engine=computing,
            embedder_options=sent,
            ledger=Ledger(Caps(usd=spending.usd)),
        )
        with clock.stage("chunk"):
            parts, unknown = with_metadata(new_parts(texts, grower), metadata)
        changes = Changes(added=len(parts))
        if shards is None:
            refuse_above_cap(spending.usd, parts, grower)
            with clock.stage("embed"):
                grower = grower.sized()
                corpus = corpus_of(parts, changes, grower)
            outcome = _published(out, grower, corpus, embedder, clock)
        else:
            outcome = divide(Whole(out, grower, embedder, spending.usd, clock), parts, shards)
        report = _report(out, outcome, changes, _told(texts, failures, unknown), clock.seconds)
        origins = Origins().adding(listed(sources), follow_links=follow_links, picked=pick)
        record_origins(checkpoint(), origins)
        return dataclasses.replace(report, excluded=excluded)


@checked(RaptorError)
@at_place(publishes=True)
def update_index(
    index: str | Path,
    sources: Sources = (),
    *,
    follow_links: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    remove: Collection[str] = (),
    dry_run: bool = False,
    summarizer: str | None = None,
    summarizer_options: Mapping[str, Any] | None = None,
    embedder: str | None = None,
    embedder_options: Mapping[str, Any] | None = None,
    device: str = AUTO,
    metadata: Metadata | None = None,
    encoding: str | None = None,
    password: str = "",
    spending: Spending | None = None,
    progress: Progress | None = None,
    engine: str = LOCAL,
    address: str = "",
) -> BuildReport:
    """Add and replace the documents of `sources`, drop those that `remove` names, and publish a new generation.

    Unchanged documents cost nothing; only clusters whose members changed, and their ancestors, are summarised again.
    A file in a folder that was indexed before has the id that it has there: its path below that folder. A document of
    another source is never replaced: a file that would have its id is a failure. `remove`: ids, files, folders,
    patterns and .jsonl files. `dry_run`: changes are counted, and nothing is written.
    A document keeps the metadata that it had, except for the fields that its source or `metadata` gives anew.
    Settings are those of the index (of `encoding` the one given here, if one is), and models too where they are built
    in; any other must be named, because an index may come from a stranger: `summarizer`, called with
    `summarizer_options`, and `embedder`, the folder of the one that built the index. Raises as `build_index` does.
    """
    pick = picked(include, exclude)
    wish = _Wish(
        tuple(listed(sources)), follow_links, tuple(remove), metadata, encoding, password, picked=pick
    )
    means = _Means(
        summarizer, summarizer_options or {}, embedder, embedder_options or {}, device, engine, address
    )
    return _changed(Path(index), wish, means, spending, progress, dry_run=dry_run)


@checked(RaptorError)
@at_place(publishes=True)
def sync_index(
    index: str | Path,
    *,
    follow_links: bool = False,
    dry_run: bool = False,
    again: bool = False,
    allow: Allow | None = None,
    summarizer: str | None = None,
    summarizer_options: Mapping[str, Any] | None = None,
    embedder: str | None = None,
    embedder_options: Mapping[str, Any] | None = None,
    device: str = AUTO,
    password: str = "",
    spending: Spending | None = None,
    progress: Progress | None = None,
    engine: str = LOCAL,
    address: str = "",
) -> BuildReport:
    """Make an index what its sources are now, and publish that: `changes` of the report counts what differed.

    The sources are those that its build and updates named, links that lead out of them followed as they were then, or,
    with `follow_links`, all, from now on. A document whose file, or line of .jsonl, is gone is removed; one that is
    there under another id, with the same text, costs no model call. What cannot be read now stays as it was, and is a
    failure. What was removed stays out (`left_out` of the report) until an update names it, or `again` is given.
    `allow`: called with the paths of sources that lie outside the working folder, where the index was not built on this
    machine, and says whether they may be read; without it they may not. The rest is as in `update_index`.
    Raises RaptorError where the sources are not recorded, may not be read, or a folder of them is missing; else as
    `build_index` does.
    """
    wish = _Wish((), follow_links, (), None, None, password, True, again, allow)
    means = _Means(
        summarizer, summarizer_options or {}, embedder, embedder_options or {}, device, engine, address
    )
    return _changed(Path(index), wish, means, spending, progress, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to change in an index. `sync`: it is to become what its recorded sources are, with `again` also what was
    removed; `allow`: says whether these may be read, where a stranger named them."""

    sources: tuple[str, ...]
    follow_links: bool
    remove: tuple[str, ...]
    metadata: Metadata | None
    encoding: str | None
    password: str
    sync: bool = False
    again: bool = False
    allow: Allow | None = None
    picked: Picked = ALL


@dataclass(frozen=True, slots=True)
class _Means:
    """What a change is made with, as its user named it: the models, what is sent with their calls, and where they and
    the stages compute."""

    summarizer: str | None
    summarizer_options: Mapping[str, Any]
    embedder: str | None
    embedder_options: Mapping[str, Any]
    device: str
    engine: str
    address: str


def _changed(
    out: Path,
    wish: _Wish,
    means: _Means,
    spending: Spending | None,
    progress: Progress | None,
    *,
    dry_run: bool,
) -> BuildReport:
    """Publish the next generation of an index, or say what would differ in it."""
    progress, clock, spending = progress or silent, Clock(), spending or Spending()
    options, sent = check_options(means.summarizer_options), check_options(means.embedder_options)
    summarizer, embedder = means.summarizer, means.embedder
    previous = open_index(out, embedder)
    settings = BuildSettings.from_json(previous.manifest.settings)
    settings = settings if wish.encoding is None else replace(settings, encoding=wish.encoding)
    if not dry_run:
        previous.check_embedder_named()
        summarizer = summarizer or _free_summarizer(previous)
        check_model(summarizer)
        if embedder is not None and embeds(embedder):
            check_model(embedder)
    with (
        chosen(means.engine, means.address) as engine,
        looked_at(out) if dry_run else opened(out) as checkpoint,
    ):
        previous = open_index(out, embedder)  # again, now that no other build can publish
        documents, before = list(previous.documents), recorded_origins(checkpoint)
        if wish.sync:
            before = still_named(before, documents, before.sources)
            refuse_unknown_sources(out, before.outside(), checkpoint, wish.allow, READ_INTO)
            before = before.following_links() if wish.follow_links else before
        there, excluded = _files(out, wish, before, settings, clock)
        before = found_here(before, documents, there)
        now = before.adding(wish.sources, follow_links=wish.follow_links, picked=wish.picked)
        files = keeping_ids(there, documents, before)
        cache = CheckpointCache(out, lambda: checkpoint)
        folder = checkpoint.folder
        texts, failures = load_texts(files, progress, clock, cache, folder, engine) if files else ([], [])
        read = reconciled(texts, failures, documents, before, now, all_read=wish.sync)
        faults = [*failures, *read.clashes]
        gone = [document.id for document in read.vanished]
        remove = frozenset(gone) if wish.sync else selected(previous, before, wish.remove)
        left_out = () if wish.again or not wish.sync else _left_out(read.texts, before, previous)
        if left_out:
            read = replace(read, texts=only(read.texts, lambda text: text.id not in left_out))
        vanished = [doc for doc in gone if doc not in remove]
        unseen = before.without_source(documents) if wish.sync else ()
        unread = tuple(kept for kept in read.kept if kept.doc not in remove)
        passed_by: dict[str, Any] = {
            "left_out": tuple(left_out),
            "unseen": unseen,
            "kept": unread,
            "excluded": excluded,
        }
        if dry_run:
            pairs = merged_documents(previous, read.texts, remove)
            expected, unknown = with_metadata(
                [Part(document, "", ()) for document, _ in pairs], wish.metadata
            )
            differences = differences_between(documents, [part.document for part in expected])
            changes = differences.counted(len(expected))
            told = _told(read.texts, faults, unknown)
            forecast = _forecast(out, previous, changes, told, vanished, clock)
            return replace(forecast, differences=differences, **passed_by)
        with clock.stage("embed"):
            model = same_embedder(previous, embedder, settings, means.device, sent)
        grower = Grower(
            model,
            summarizer or SUMMARIZER,
            settings,
            checkpoint,
            progress,
            spending.max_errors,
            previous,
            options,
            engine,
            sent,
            Ledger(Caps(usd=spending.usd)),
        )
        name = previous.manifest.models.get("embedder", model.name)
        with clock.stage("embed"):
            refuse_another_model(grower, previous)
        if isinstance(previous, Sharded):
            whole = Whole(out, grower, name, spending.usd, clock)
            outcome = change(whole, previous, read.texts, remove, wish.metadata)
        else:
            with clock.stage("chunk"):
                parts, unknown = merged_parts(previous, read.texts, remove, wish.metadata, grower)
            with clock.stage("embed"):
                corpus = corpus_of(parts, Changes(), grower)
            outcome = _published(out, grower, corpus, name, clock, unknown)
        differences = differences_between(documents, outcome.documents)
        changes = differences.counted(len(outcome.documents))
        report = _report(out, outcome, changes, _told(read.texts, faults, ()), clock.seconds, vanished)
        kept = () if wish.remove else before.sources
        now = still_named(now, outcome.documents, kept)
        held = {document.id for document in outcome.documents}
        taken = () if wish.sync else sorted(remove)
        removed = tuple(doc for doc in dict.fromkeys((*before.removed, *taken)) if doc not in held)
        allowed = wish.sync and bool(before.outside())  # or it had ended before
        ours = allowed or not before.sources or is_ours(checkpoint)
        record_origins(checkpoint, replace(now, removed=removed), ours=ours)
        return replace(report, differences=differences, **passed_by)


def _left_out(texts: Sequence[Text], before: Origins, index: Index) -> list[str]:
    """The ids of texts that were removed, and not named since."""
    removed = frozenset(before.removed)
    return [text.id for text in texts if text.id in removed and not index.has_document(text.id)]


def _files(
    out: Path, wish: _Wish, origins: Origins, settings: BuildSettings, clock: Clock
) -> tuple[list[SourceFile], int]:
    """The files to read, each with the id that it has below a folder that was indexed before; how many are left out."""
    told = reading(settings, wish.password)
    if wish.sync:
        return find_recorded(out, origins, clock, **told)
    if not wish.sources:
        return [], 0
    found, excluded = find_files(
        out, wish.sources, clock, follow_links=wish.follow_links, picked=wish.picked, **told
    )
    return named_below(found, origins.roots), excluded


def _free_summarizer(index: Index) -> str:
    """The summarizer that an index names, if it costs nothing and sends nothing. Raises RaptorError for any other."""
    name = index.manifest.models.get("summarizer", SUMMARIZER)
    if name.startswith(PREFIX):
        return name
    raise RaptorError(
        f"the index names the summarizer {name[:200]!r}, which is called only when you name it too; give "
        f"--summarizer {name[:200]}, or another"
    )


def _told(texts: Sequence[Text], failures: Sequence[Failure], unknown: Sequence[Failure]) -> _Told:
    return _Told(failures, unknown, [Note(text.source, words) for text in texts for words in text.notes])


def _published(
    out: Path,
    grower: Grower,
    corpus: Corpus,
    embedder: str,
    clock: Clock,
    unused_metadata: Sequence[Failure] = (),
) -> Outcome:
    """Grow the tree over a corpus and publish it."""
    ledger = grower.ledger
    levels = grow(grower, corpus.leaves, named_by_kind(corpus, grower.folder), grower.gateway, clock)
    with clock.stage("load"):  # what is found is about the sources
        twins = twins_in(corpus.documents, corpus.texts, grower.folder)
    with clock.stage("write"):
        grower.progress("write", 0, 1)
        draft = draft_of(corpus, levels, twins, grower.folder)
        published = publish(out, draft, models_of(grower, embedder), lasting(grower.settings))
        documents = count(len(corpus.documents), "document")
        _log.info("generation %d of %s: %s", published.generation, out, documents)
        grower.checkpoint.settle("embed", "cluster")
        grower.progress("write", 1, 1)
    return Outcome(
        published=published,
        documents=corpus.documents,
        levels=tuple(map(len, levels)),
        twins=twins,
        usage=ledger.spent,
        passed=ledger.passed(),
        unused_metadata=unused_metadata,
    )


def _as_built(settings: BuildSettings, model: Embedder) -> BuildSettings:
    """The settings with the precision that "auto" came to, which the index keeps."""
    return replace(settings, precision=model.precision)


def _report(
    out: Path,
    outcome: Outcome,
    changes: Changes,
    told: _Told,
    seconds: Mapping[str, float],
    vanished: Sequence[str] = (),
) -> BuildReport:
    published, usage = outcome.published, outcome.usage
    is_labelled = any(access.of_document(document.meta) != frozenset() for document in outcome.documents)
    return BuildReport(
        index=str(out),
        generation=published.generation,
        digest=published.digest,
        new=published.new,
        documents=len(outcome.documents),
        changes=changes,
        failures=tuple(told.failures),
        unused_metadata=(*told.unused_metadata, *outcome.unused_metadata),
        notes=(*told.notes, *outcome.notes),
        near_duplicates=tuple(outcome.twins),
        chunks=outcome.levels[0],
        levels=outcome.levels,
        calls=usage.calls,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        usd=usage.usd,
        bytes=published.bytes,
        seconds=dict(seconds),
        vanished=tuple(vanished),
        passed=outcome.passed,
        access=tuple(seen_by_label(open_index(out))) if is_labelled else (),
    )


def _forecast(
    out: Path,
    index: Index,
    changes: Changes,
    told: _Told,
    vanished: Sequence[str],
    clock: Clock,
) -> BuildReport:
    """What would change, beside what an index holds now."""
    return BuildReport(
        index=str(out),
        generation=index.generation,
        digest=index.digest,
        new=False,
        documents=len(index.documents),
        changes=changes,
        failures=tuple(told.failures),
        unused_metadata=tuple(told.unused_metadata),
        notes=tuple(told.notes),
        near_duplicates=(),
        chunks=index.levels[0],
        levels=tuple(index.levels),
        calls=0,
        prompt_tokens=0,
        completion_tokens=0,
        usd=0.0,
        bytes=sum(entry.size for entry in index.manifest.files.values()),
        seconds=dict(clock.seconds),
        vanished=tuple(vanished),
        dry_run=True,
    )
