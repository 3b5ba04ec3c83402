"""`raptor build`, `update`, `sync` and `remove`: the arguments of a build, and its report as text or JSON."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from index_store.duplicates import Twin
from index_store.narrowing import Seen
from index_store.paths import is_url
from index_store.terminal import byte_size, count, one_line, print_json, say, span_of_time, spelled
from raptor.build import build_index, sync_index, update_index
from raptor.commands.leave import may_be_read
from raptor.engines.engine import LOCAL
from raptor.errors import RaptorError
from raptor.estimating import Estimate, check_cap, estimate
from raptor.loading.kinds import LISTED
from raptor.loading.metadata import Metadata, read_metadata
from raptor.loading.types import Failure
from raptor.progress import show_progress
from raptor.pruning import places_of_removed, prune_at, prune_index
from raptor.reconciling import named
from raptor.settings import BuildSettings, Sharding, Spending, settings_of
from raptor.types import BuildReport, Changes, Differences
from rlm.gateway.models import give_price, not_sent
from rlm.gateway.naming import Named, embedder_named, named_by
from rlm.gateway.offline.registry import PREFIX

_NAMED = 10  # documents of a kind, or near-duplicates, that are named


def build(args: argparse.Namespace) -> int:
    """Build an index, or say what that would cost."""
    return _build(args)


def shard(args: argparse.Namespace) -> int:
    """Build an index in parts, or say what that would cost."""
    return _build(args, Sharding(args.by, args.shard_chunks))


def _build(args: argparse.Namespace, shards: Sharding | None = None) -> int:
    spending = _spending(args)
    if args.dry_run:
        return _dry_run(args, shards)
    with show_progress(quiet=args.quiet) as progress:
        report = build_index(
            args.source,
            args.output,
            **_summarizer(args),
            **_embedder(args),
            settings=_settings(args),
            metadata=_metadata(args.meta),
            password=args.password,
            spending=spending,
            follow_links=args.follow_links,
            **_patterns(args),
            replace=args.replace,
            shards=shards,
            progress=progress,
            engine=args.engine,
            address=args.address,
        )
    return _print_report(report, args)


def update(args: argparse.Namespace) -> int:
    """Add documents to an index, or replace changed ones."""
    report = _update(
        args,
        args.source,
        [],
        _metadata(args.meta),
        follow_links=args.follow_links,
        patterns=_patterns(args),
        encoding=args.encoding,
        password=args.password,
        engine=args.engine,
        address=args.address,
    )
    return _print_report(report, args)


def remove(args: argparse.Namespace) -> int:
    """Remove documents from an index, and say where their text still is, or delete it there."""
    report = _update(args, [], args.doc, dry_run=args.dry_run)
    try:
        if args.purge and not args.dry_run:
            prune_at(args.index, grace_h=0) if is_url(args.index) else prune_index(args.index)
    except KeyboardInterrupt:
        left = f"raptor prune {spelled(args.index)}"
        say(f"raptor: stopped; removed, but to purge is left to: {left}", file=sys.stderr)
        return 130
    return _print_report(report, args, removes=True)


def sync(args: argparse.Namespace) -> int:
    """Make an index what its sources are now."""
    with show_progress(quiet=args.quiet) as progress:
        report = sync_index(
            args.index,
            follow_links=args.follow_links,
            dry_run=args.dry_run,
            again=args.again,
            allow=lambda paths: args.yes or may_be_read(args.index, paths, ", and put their text into it"),
            **_summarizer(args),
            **_embedder(args),
            password=args.password,
            spending=_spending(args),
            progress=progress,
            engine=args.engine,
            address=args.address,
        )
    return _print_report(report, args, removes=True)


def _update(
    args: argparse.Namespace,
    sources: Sequence[str],
    removed: Sequence[str],
    metadata: Metadata | None = None,
    *,
    follow_links: bool = False,
    patterns: Mapping[str, Any] = {},
    encoding: str | None = None,
    password: str = "",
    dry_run: bool = False,
    engine: str = LOCAL,
    address: str = "",
) -> BuildReport:
    with show_progress(quiet=args.quiet) as progress:
        return update_index(
            args.index,
            sources,
            remove=removed,
            dry_run=dry_run,
            **_summarizer(args),
            **_embedder(args),
            metadata=metadata,
            encoding=encoding,
            password=password,
            spending=_spending(args),
            follow_links=follow_links,
            **patterns,
            progress=progress,
            engine=engine,
            address=address,
        )


def _dry_run(args: argparse.Namespace, shards: Sharding | None) -> int:
    metadata = _metadata(args.meta)  # a bad file is better refused now than by the build
    with show_progress(quiet=args.quiet) as progress:
        expected, failures = estimate(
            args.source,
            args.output,
            **_summarizer(args),
            **_embedder(args),
            settings=_settings(args),
            follow_links=args.follow_links,
            **_patterns(args),
            password=args.password,
            metadata=metadata,
            shards=shards,
            progress=progress,
        )
    if not args.quiet:
        _print_skipped(failures)
    if expected.dropped and not args.replace:
        say(f"it would drop {named(expected.dropped)}, and so needs --replace", file=sys.stderr)
    if args.json:
        print_json(expected.as_json())
    else:
        say(_estimate_text(expected, args))
    check_cap(expected.usd_low, expected.usd_high, args.max_usd)
    return 0


# -- what the arguments stand for --------------------------------------------------------------------------


def _metadata(file: str | None) -> Metadata | None:
    return read_metadata(file) if file else None


def _patterns(args: argparse.Namespace) -> dict[str, Any]:
    """The patterns that a command line gives, each kind else as raptor.toml has it."""
    settings = getattr(args, "settings", {})
    typed = {"include": args.include, "exclude": args.exclude}
    return {name: settings.get(name, []) if ones is None else ones for name, ones in typed.items()}


def _settings(args: argparse.Namespace) -> BuildSettings:
    settings = settings_of(getattr(args, "settings", {}), getattr(args, "settings_from", ""))
    if args.encoding is not None:
        settings = replace(settings, encoding=args.encoding)
    if args.ocr_language is not None:
        settings = replace(settings, ocr_language=args.ocr_language)
    if args.precision is not None:
        settings = replace(settings, precision=args.precision)
    if args.cluster:
        settings = replace(settings, cluster=replace(settings.cluster, method=args.cluster))
    return settings


def _summarizer(args: argparse.Namespace) -> dict[str, Any]:
    """The summarizer that is named, and what is sent with its calls. Raises RaptorError for options that go nowhere."""
    named = named_by(args.summarizer or "", args)
    give_price(named.model, named.usd_per_million)
    if named.options and (not named.model or named.model.startswith(PREFIX)):
        raise RaptorError(
            f"{', '.join(named.options)} would be sent with the calls of a model, and an offline one has none; name it "
            "with --summarizer"
        )
    if not args.quiet and named.options and (untaken := not_sent(named.model, named.options)):
        say(f"note: {untaken}", file=sys.stderr)
    return {"summarizer": named.model or None, "summarizer_options": named.options}


def _embedder(args: argparse.Namespace) -> dict[str, Any]:
    """The embedder that is named, what is sent with its calls where it is called, and where it computes else."""
    named = embedder_named(args.embedder, args.models) if args.embedder else Named("")
    give_price(named.model, named.usd_per_million)
    return {"embedder": named.model or None, "embedder_options": named.options, "device": args.device}


def _spending(args: argparse.Namespace) -> Spending:
    return Spending(args.max_usd, args.max_errors)


# -- what is printed ---------------------------------------------------------------------------------------


def _print_report(report: BuildReport, args: argparse.Namespace, *, removes: bool = False) -> int:
    still_in = places_of_removed(report.index) if removes and report.changes.removed else []
    for note in () if args.quiet else report.notes:
        say(f"note {spelled(note.source)}: {one_line(note.words, 10_000)}", file=sys.stderr)
    if report.near_duplicates and not args.quiet:
        say(one_line(_twins_text(report.near_duplicates), 10_000), file=sys.stderr)
    if not args.quiet:
        for unused in report.unused_metadata:
            say(f"metadata {_reason(unused)}", file=sys.stderr)
        _print_skipped(_never_indexed(report))
        _print_kept(report)
    if report.passed:
        say(f"warning: {report.passed}", file=sys.stderr)
    if args.json:
        print_json(report.as_json() | ({"text_still_in": still_in} if removes else {}))
    else:
        say(
            _report_text(report)
            + _names_text(report.differences)
            + _rest_text(report, still_in, removes=removes)
        )
    return 0


def _twins_text(twins: Sequence[Twin]) -> str:
    named = ", ".join(f"{twin.doc} ~ {twin.of} ({twin.similarity:.2f})" for twin in twins[:_NAMED])
    more = f", and {len(twins) - _NAMED:,} more, which --json lists" if len(twins) > _NAMED else ""
    verb = "says nearly the same as another" if len(twins) == 1 else "say nearly the same as others"
    return f"{count(len(twins), 'document')} {verb}: {named}{more}"


def _print_skipped(failures: Sequence[Failure]) -> None:
    """A line for each; where the types that are known are listed is told in the first alone."""
    told = f" ({LISTED})"
    first = next((failure for failure in failures if failure.reason.endswith(told)), None)
    for failure in failures:
        reason = failure.reason if failure is first else failure.reason.removesuffix(told)
        say(f"skipped {_reason(replace(failure, reason=reason))}", file=sys.stderr)


def _never_indexed(report: BuildReport) -> list[Failure]:
    """What could not be loaded, and the index holds nothing of."""
    held = {kept.source for kept in report.kept}
    return [failure for failure in report.failures if failure.source not in held]


def _print_kept(report: BuildReport) -> None:
    """A line for each source that can be read no more, and so has documents as they were."""
    docs: dict[tuple[str, str], list[str]] = {}
    for kept in report.kept:
        docs.setdefault((kept.source, kept.reason), []).append(kept.doc)
    for (source, reason), of_it in docs.items():
        name = of_it[0] if len(of_it) == 1 else source
        text = "its old text" if len(of_it) == 1 else f"the old text of its {len(of_it):,} documents"
        fault = one_line(spelled(reason.partition("; ")[0]), 10_000)
        say(
            f"{spelled(name)} can no longer be read ({fault}); {text} is kept, raptor remove takes it out",
            file=sys.stderr,
        )


def _reason(failure: Failure) -> str:
    # A reason is one line, so a newline in it is one of a name.
    return f"{spelled(failure.source)}: {one_line(spelled(failure.reason), 10_000)}"


def _report_text(report: BuildReport) -> str:
    levels = " -> ".join(f"{n:,}" for n in report.levels)
    stages = ", ".join(f"{stage} {s:.1f} s" for stage, s in report.seconds.items())
    never = len(_never_indexed(report))
    skipped = f", {never:,} skipped" if never else ""
    skipped += _excluded_text(report.excluded)
    skipped += f", {len(report.kept):,} kept that can no longer be read" if report.kept else ""
    tokens = report.prompt_tokens + report.completion_tokens
    again = "" if report.new else " (unchanged: nothing new was published)"
    if report.dry_run:
        held = f"{count(report.documents, 'document')}{skipped}"
        expected = f"would be {_changes_words(report.changes)}"
        return f"{spelled(report.index)}: generation {report.generation}, {held}; {expected}; nothing was written"
    return (
        f"{spelled(report.index)}: generation {report.generation}{again}, {byte_size(report.bytes)}\n"
        f"  {count(report.documents, 'document')}{skipped}{_changes_text(report)}; nodes a level: {levels}\n"
        f"{_access_text(report)}"
        f"  {count(report.calls, 'model call')}, {count(tokens, 'token')}, ${report.usd:.4f}\n"
        f"  {stages}"
    )


def _excluded_text(files: int) -> str:
    return f" ({count(files, 'file')} left out by patterns)" if files else ""


def _access_text(report: BuildReport) -> str:
    """A line for each label: how much of the index its readers see."""
    summaries = sum(report.levels[1:])
    return "".join(f"  {line}\n" for line in access_lines(report.access, report.documents, summaries))


def access_lines(seen: Sequence[Seen], documents: int, summaries: int) -> list[str]:
    """How much of an index of so many documents and summaries readers of each label see, a line each."""
    return [
        f"{f'readers of {spelled(one.label)}' if one.label else 'readers without a label'} see {one.documents:,} of "
        f"{count(documents, 'document')} and {one.summaries:,} of {count(summaries, 'summary', 'summaries')}"
        for one in seen
    ]


def _changes_text(report: BuildReport) -> str:
    c = report.changes
    if not (c.unchanged or c.changed or c.removed or c.renamed):
        return ""
    return f" ({_changes_words(c)})"


def _changes_words(c: Changes) -> str:
    renamed = f"{c.renamed:,} renamed, " if c.renamed else ""
    return f"{c.added:,} added, {c.changed:,} changed, {renamed}{c.removed:,} removed"


def _names_text(differences: Differences | None) -> str:
    """The first documents of each kind, a line each."""
    if differences is None:
        return ""
    kinds = {
        "added": differences.added,
        "changed": differences.changed,
        "renamed": [f"{old} -> {new}" for old, new in differences.renamed],
        "removed": differences.removed,
    }
    return "".join(f"\n  {kind}: {_first_names(names)}" for kind, names in kinds.items() if names)


def _first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(spelled, names[:_NAMED])) + more


def _rest_text(report: BuildReport, still_in: Sequence[str], *, removes: bool) -> str:
    """What the index still holds though its files are gone, and where text still is that the index gave up."""
    lines, index = [], spelled(report.index)
    if report.vanished:
        lines.append(
            f"  {named(report.vanished)} vanished from the sources; take them out with: raptor sync {index}"
        )
    if report.unseen:
        lines.append(
            f"  not looked at: {named(report.unseen)}, of no source that is known here; name theirs with: raptor "
            f"update {index} SOURCE"
        )
    if report.left_out:
        verb = "was removed and stays out" if len(report.left_out) == 1 else "were removed and stay out"
        lines.append(
            f"  {named(report.left_out)} {verb}; bring back what was removed with: raptor sync {index} --again"
        )
    if still_in and not report.dry_run:
        lines.append(
            f"  text that was removed is still in {' and in '.join(still_in)}, and in runs that quoted it; delete it "
            f"but for those runs with: raptor prune {index} (or at once, by remove --purge)"
        )
    elif removes and report.changes.removed and not report.dry_run:
        lines.append(
            "  text that was removed is no longer in the index folder, nor in your cache; runs that quoted it have it "
            "still"
        )
    return "".join(f"\n{line}" for line in lines)


def _estimate_text(expected: Estimate, args: argparse.Namespace) -> str:
    levels = " -> ".join(f"{n:,}" for n in expected.levels)
    price = "its price is not known"
    if expected.usd_low is not None and expected.usd_high is not None:
        price = f"${expected.usd_low:.4f} to ${expected.usd_high:.4f}"
    done = [
        count(expected.parsed, "parsed text") if expected.parsed else "",
        count(expected.embedded, "embedding") if expected.embedded else "",
        count(expected.recorded, "summary", "summaries") if expected.recorded else "",
    ]
    kept = ", ".join(filter(None, done)) or "nothing"
    about = "about " if expected.sampled < expected.chunks else ""
    shards = f" in {count(expected.shards, 'shard')}" if expected.shards else ""
    part = f"{expected.sampled:,} of its chunks embedded and clustered"
    return (
        f"{about}{count(expected.documents, 'document')}{_excluded_text(expected.excluded)}, "
        f"{count(expected.chunks, 'chunk')}{shards}; "
        f"nodes a level: {levels}\n"
        f"  {count(expected.calls, 'call')} of {spelled(args.summarizer)}, {expected.prompt_tokens:,} tokens in, "
        f"{expected.completion_tokens:,} out: {price}\n"
        f"  {span_of_time(expected.seconds_low, expected.seconds_high)}, if this machine stays as busy as it is; "
        f"{byte_size(expected.disk_bytes)} on disk\n"
        f"  done already: {kept}\n"
        f"  measured here in {expected.measured_s:.0f} s: {part}; nothing was paid for, and nothing written"
    )
