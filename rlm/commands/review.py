"""`rlm review`: the page of a run, that of two side by side, and a static site of many."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from index_store.errors import IndexStoreError
from index_store.index import Index, open_any
from index_store.own import make_folder
from index_store.terminal import count, one_line, say, spelled
from index_store.types import Span
from rlm.audit import Verdict
from rlm.audit.checking import Report, check_read
from rlm.audit.difference import difference
from rlm.audit.events import RecordedEvent
from rlm.audit.given import rows_told
from rlm.audit.listing import listed, runs_below
from rlm.audit.log import FILE_NAME, TraceError
from rlm.audit.page import Beside, render
from rlm.audit.page.sides import render_difference
from rlm.audit.page.site import INDEX, Row, file_of, site_index
from rlm.audit.reviewing import reviewed
from rlm.audit.signing import held, signatures
from rlm.audit.sources import generation_asked
from rlm.audit.verifying import read_verified
from rlm.commands.pages import write_page
from rlm.commands.trace import checked_head, in_a_sentence
from rlm.errors import RlmError

_TELL_S = 2.0  # between two signs of life
_MOST_PASSAGES, _PASSAGE_CHARS = 200, 2_000  # of lost evidence, whose words are shown
_ROW_CHARS, _ROWS_CHARS = 2_000, 4_000_000  # of a row, and of all


def review(args: argparse.Namespace) -> int:
    """Write the page of a run, of two side by side, or the site of many. Returns the exit code: 1 where a trace is not
    as it was written."""
    head = checked_head(args.head)
    if len(args.runs) > 2:
        raise RlmError(f"{len(args.runs)} runs are given; name one, two to compare, or a folder of many")
    if len(args.runs) == 2:
        return _both(args)
    if _is_folder_of_runs(Path(args.runs[0])):
        return _site(args, Path(args.runs[0]), Path(args.output))
    events, verdict = read_verified(args.runs[0], head)
    write_page(
        args.output,
        render(events, verdict, args.runs[0], beside(args, args.runs[0], events, verdict, _index(args))),
    )
    code = _code(verdict)
    say(spelled(args.output))
    return code


def _index(args: argparse.Namespace) -> Index | None:
    return None if args.index is None else open_any(args.index, args.embedder)


def _code(verdict: Verdict) -> int:
    """The exit code of a run, told on standard error where its trace is not as it was written."""
    if not verdict.ok:
        what = "has no end" if verdict.only_unclosed else "is not as it was written"
        nothing = "" if verdict.events else "; the page holds nothing of it"
        say(f"rlm: the trace {what}: {in_a_sentence(verdict)}{nothing}", file=sys.stderr, flush=True)
    return 0 if verdict.ok else 1


def _both(args: argparse.Namespace) -> int:
    """The page of two runs side by side, each as far as it is as it was written."""
    if args.index or args.head or args.allowed_signers or args.timestamp_ca:
        raise RlmError("--index, --head, --allowed-signers and --timestamp-ca are for the page of one run")
    read = [read_verified(run, None) for run in args.runs]
    for run, (events, verdict) in zip(args.runs, read, strict=True):
        if not events:
            raise TraceError(f"there is nothing to compare in {run}: {verdict.reason}")
    found = difference(read[0][0], read[1][0])
    write_page(args.output, render_difference(found, (args.runs[0], args.runs[1])))
    code = max(_code(verdict) for _, verdict in read)
    say(spelled(args.output))
    return code


def _is_folder_of_runs(path: Path) -> bool:
    return path.is_dir() and not (path / FILE_NAME).exists()


def _site(args: argparse.Namespace, folder: Path, output: Path) -> int:
    """A page for each run below a folder, one after another, and an index of them."""
    if args.head:
        raise RlmError("--head is of one run; name that")
    runs = list(runs_below(folder))
    if not runs:
        raise TraceError(
            f"no trace at {folder}; name a run folder, which holds {FILE_NAME}, or a folder of those"
        )
    try:
        make_folder(output)
    except OSError as error:
        raise RlmError(
            f"cannot make the folder {output}: {error.strerror}; name a folder for the site"
        ) from error
    index, rows, said = _index(args), list[Row](), time.monotonic()
    for number, run in enumerate(runs):
        if not args.quiet and time.monotonic() - said > _TELL_S:
            say(f"{number:,} of {count(len(runs), 'run')}", file=sys.stderr, flush=True)
            said = time.monotonic()
        rows.append(_row(args, run, str(run.relative_to(folder)), output, index))
    write_page(str(output / INDEX), site_index(rows, str(folder)))
    wrong = [row for row in rows if not row.is_whole]
    if wrong:
        told = one_line(f"{wrong[0].name}: {wrong[0].problem}", 500)
        say(f"rlm: {count(len(wrong), 'run')} with a fault, such as {told}", file=sys.stderr, flush=True)
    say(spelled(str(output / INDEX)))
    return 1 if wrong else 0


def _row(args: argparse.Namespace, run: Path, name: str, output: Path, index: Index | None) -> Row:
    """Write the page of a run of a site, and give its line in the index. None stops the others."""
    one, file = listed(run), file_of(name)
    try:
        events, verdict = read_verified(str(run), None)
        if index is not None and not (events and generation_asked(index, events[0])):
            say(
                f"rlm: {one_line(name, 200)}: it asked another index, so it is checked without one",
                file=sys.stderr,
            )
            index = None
        known = beside(args, str(run), events, verdict, index)
        write_page(str(output / file), render(events, verdict, str(run), known, INDEX))
    except (RlmError, IndexStoreError) as error:
        return Row(one, name, "", problem=str(error))
    report = known.report
    return Row(
        one,
        name,
        file,
        report.verdict if report else None,
        report.coverage.cited if report else None,
        verdict.ok,
        "" if verdict.ok else in_a_sentence(verdict),
    )


def beside(
    args: argparse.Namespace,
    run: str,
    events: Sequence[RecordedEvent],
    verdict: Verdict,
    index: Index | None,
) -> Beside:
    """What is known of a run beside its trace: the check, with the index where that is given, notes, signatures."""
    report = check_read(events, verdict, index) if events else None
    asked = generation_asked(index, events[0]) if events and index is not None else None
    signed = signatures(run, args.allowed_signers, args.timestamp_ca) if events else []
    return Beside(
        report,
        _passages(report, asked) if report and asked is not None else {},
        reviewed(run, verdict.head),
        [held(one, events, verdict.head) for one in signed],
        _rows(events, asked) if asked is not None else {},
    )


def _rows(events: Sequence[RecordedEvent], index: Index) -> dict[str, str]:
    """The words of the rows that were answered, by their ids, as far as a page has room for them."""
    words, chars = dict[str, str](), 0
    for _, row, span in rows_told(index, events):
        said = words[row["row"]] = _words(index, span, _ROW_CHARS)
        chars += len(said)
        if chars > _ROWS_CHARS:
            break
    return words


def _passages(report: Report, index: Index) -> dict[str, str]:
    """The words of the evidence that was lost, by node."""
    words: dict[str, str] = {}
    for lost in report.lost[:_MOST_PASSAGES]:
        try:
            words[lost.node] = _words(index, Span(lost.doc, lost.start, lost.end), _PASSAGE_CHARS)
        except IndexStoreError:
            continue
    return words


def _words(index: Index, span: Span, most: int) -> str:
    text = index.span_text(Span(span.doc, span.start, min(span.end, span.start + most)))
    return text + (" …" if span.end - span.start > most else "")
