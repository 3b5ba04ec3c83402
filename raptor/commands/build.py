"""`raptor build`, `update` and `remove`: what they are told, and what they tell."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from index_store.terminal import count, human_size

if TYPE_CHECKING:
    from raptor.estimate import Estimate
    from raptor.loading.metadata import Metadata
    from raptor.loading.types import Failure
    from raptor.settings import BuildSettings
    from raptor.types import BuildReport, Spending


def _build(args: argparse.Namespace) -> int:
    from raptor.build import build_index
    from raptor.progress import show_progress

    spending = _spending(args)
    if args.dry_run:
        return _dry_run(args)
    with show_progress() as progress:
        report = build_index(
            args.source,
            args.output,
            summarizer=args.summarizer,
            embedder=args.embedder,
            settings=_settings(args),
            metadata=_metadata(args.meta),
            spending=spending,
            progress=progress,
        )
    return _tell(report, args.json)


def _metadata(file: str | None) -> "Metadata | None":
    from raptor.loading.metadata import read_metadata

    return read_metadata(file) if file else None


def _settings(args: argparse.Namespace) -> "BuildSettings":
    from dataclasses import replace

    from raptor.settings import BuildSettings, read_settings

    settings = read_settings(args.config) if args.config else BuildSettings()
    if args.cluster:
        settings = replace(settings, cluster=replace(settings.cluster, method=args.cluster))
    return settings


def _spending(args: argparse.Namespace) -> "Spending":
    from raptor.types import Spending

    return Spending(args.max_usd, args.max_errors)


def _dry_run(args: argparse.Namespace) -> int:
    from raptor.estimate import check_cap, estimate
    from raptor.progress import show_progress

    _metadata(args.meta)  # a bad file is better told now than by the build
    with show_progress() as progress:
        expected, failures = estimate(
            args.source,
            args.output,
            summarizer=args.summarizer,
            embedder=args.embedder,
            settings=_settings(args),
            progress=progress,
        )
    _tell_skipped(failures)
    print(json.dumps(expected.as_json()) if args.json else _estimate_said(expected, args))
    check_cap(expected, args.max_usd)
    return 0


def _estimate_said(expected: "Estimate", args: argparse.Namespace) -> str:
    levels = " -> ".join(f"{n:,}" for n in expected.levels)
    price = "its price is not known"
    if expected.usd_low is not None and expected.usd_high is not None:
        price = f"${expected.usd_low:.4f} to ${expected.usd_high:.4f}"
    paid = (
        f"; {count(expected.recorded, 'more is', 'more are')} paid for already" if expected.recorded else ""
    )
    return (
        f"{count(expected.documents, 'document')}, {count(expected.chunks, 'chunk')}; "
        f"nodes a level: {levels}\n"
        f"  {count(expected.calls, 'call')} of {args.summarizer}, {expected.prompt_tokens:,} tokens in, "
        f"{expected.completion_tokens:,} out: {price}{paid}\n"
        f"  about {expected.minutes:g} minutes more, {human_size(expected.disk_bytes)} on disk\n"
        f"  nothing was paid for; embeddings are kept in {args.output}/build.sqlite for the build"
    )


def _update(args: argparse.Namespace) -> int:
    return _changed(args, args.source, [], _metadata(args.meta))


def _remove(args: argparse.Namespace) -> int:
    return _changed(args, [], args.doc)


def _changed(
    args: argparse.Namespace,
    sources: Sequence[str],
    remove: Sequence[str],
    metadata: "Metadata | None" = None,
) -> int:
    from raptor.build import update_index
    from raptor.progress import show_progress

    with show_progress() as progress:
        report = update_index(
            args.index,
            sources,
            remove=remove,
            summarizer=args.summarizer,
            metadata=metadata,
            spending=_spending(args),
            progress=progress,
        )
    return _tell(report, args.json)


def _tell(report: "BuildReport", as_json: bool) -> int:
    _tell_skipped(report.failures)
    for unused in report.unused_metadata:
        print(f"metadata {unused.source}: {unused.reason}", file=sys.stderr)
    print(json.dumps(report.as_json()) if as_json else _said(report))
    return 0


def _tell_skipped(failures: "Sequence[Failure]") -> None:
    for failure in failures:
        print(f"skipped {failure.source}: {failure.reason}", file=sys.stderr)


def _said(report: "BuildReport") -> str:
    levels = " -> ".join(f"{n:,}" for n in report.levels)
    stages = ", ".join(f"{stage} {s:.1f} s" for stage, s in report.seconds.items())
    skipped = f", {len(report.failures):,} skipped" if report.failures else ""
    tokens = report.prompt_tokens + report.completion_tokens
    again = "" if report.new else " (unchanged: nothing new was published)"
    return (
        f"{report.index}: generation {report.generation}{again}, {human_size(report.bytes)}\n"
        f"  {count(report.documents, 'document')}{skipped}{_changes_said(report)}; nodes a level: {levels}\n"
        f"  {count(report.calls, 'model call')}, {count(tokens, 'token')}, ${report.usd:.4f}\n"
        f"  {stages}"
    )


def _changes_said(report: "BuildReport") -> str:
    c = report.changes
    if not (c.unchanged or c.changed or c.removed):
        return ""
    return f" ({c.added:,} added, {c.changed:,} changed, {c.removed:,} removed)"
