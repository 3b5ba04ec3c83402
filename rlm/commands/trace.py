"""`rlm trace show` and `rlm trace verify`: a run as text, and whether it is as it was written."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from index_store.index import open_any
from index_store.terminal import count, one_line, print_json, say
from rlm.audit import Verdict, read, verify
from rlm.audit.reviewing import Review, in_words, reviewed
from rlm.audit.signing import Signature, chosen, held, signatures
from rlm.audit.stamping import Stamped
from rlm.audit.timeline import show
from rlm.audit.verifying import NOT_VOUCHED, read_verified
from rlm.commands.answers import UNFINISHED
from rlm.commands.endings import ending_facts, ending_words
from rlm.errors import RlmError


def trace(args: argparse.Namespace) -> int:
    """Show a run as text, or verify it. Returns the exit code: 1 where the trace is not as it was written; UNFINISHED
    where it verifies up to its last line and that is not its end, which `show` counts as 1."""
    head = checked_head(args.head)
    if args.action == "verify":
        return _verify(args, head)
    events, verdict = read_verified(args.run_folder, head)
    if args.json:
        for event in events:
            print_json(event)
    else:
        say(show(events, verdict, full=args.full))
        if review := reviewed(args.run_folder, verdict.head):
            say(in_words(review))
    return 0 if verdict.ok else 1


def _verify(args: argparse.Namespace, head: str | None) -> int:
    """Verify a trace, and what lies beside it: signatures, their timestamps, notes."""
    if args.signer and not args.allowed_signers:
        raise RlmError("--signer goes with --allowed-signers, which says by which key a name signs")
    run, index = args.run_folder, None if args.index is None else open_any(args.index)
    found = signatures(run, args.allowed_signers, args.timestamp_ca)
    signature = chosen(found, args.signer)
    verdict = verify(
        run, expected_head=head or (signature and signature.ok and signature.head) or None, index=index
    )
    if found:
        events, chain = read(run)
        found = [held(one, events, chain.head) if events else one for one in found]
        signature = chosen(found, args.signer)
    verdict = _as_signed(verdict, signature)
    notes = reviewed(run, verdict.head)
    sound = verdict.ok or verdict.only_unclosed
    wrong = [] if sound else [in_a_sentence(verdict)]
    wrong += _unsigned(args, signature)
    if sound and not (signature and signature.ok):  # a good one stands, whatever lies beside it
        wrong += [
            one_line(f"{one.file.name} does not hold: {one.reason}", 2_000)
            for one in found
            if one is not signature and one.ok is False and one.head not in ("", verdict.head)
        ]
    wrong += (
        [f"line {notes.line} of {notes.file.name}: {notes.reason}"] if sound and notes and notes.line else []
    )
    if args.json:
        print_json(_facts(verdict, wrong, signature, found, notes, args))
    else:
        say(_faults(verdict, wrong) if wrong else in_a_sentence(verdict, signature, notes))
    return 1 if wrong else UNFINISHED if verdict.only_unclosed else 0


def _faults(verdict: Verdict, wrong: Sequence[str]) -> str:
    if verdict.only_unclosed:
        return "; ".join([in_a_sentence(verdict), *wrong])
    return "; ".join([f"the trace is whole, but {wrong[0]}" if verdict.ok else wrong[0], *wrong[1:]])


def _as_signed(verdict: Verdict, signature: Signature | None) -> Verdict:
    """The verdict, which says whether there is a signature that nobody checked."""
    if signature and signature.ok is not None:
        return verdict
    bears = (
        "its signature was not checked: --allowed-signers" if signature else "the trace bears no signature"
    )
    told = f"{NOT_VOUCHED} (no head was given, and {bears})"
    return replace(
        verdict, unchecked=tuple(told if one.startswith(NOT_VOUCHED) else one for one in verdict.unchecked)
    )


def _unsigned(args: argparse.Namespace, signature: Signature | None) -> list[str]:
    """Why a trace does not bear the signature, or the timestamp, that was asked for; or bears one that cannot hold."""
    wrong = []
    is_bad = signature is not None and signature.ok is False
    if is_bad or (args.allowed_signers and not (signature and signature.ok)):
        whose = f" of {args.signer}" if args.signer else ""
        why = (
            f"its signature does not hold: {signature.reason}"
            if signature
            else f"it bears no signature{whose}"
        )
        wrong.append(one_line(why, 2_000))
    stamp = signature and signature.stamp
    if args.timestamp_ca and not (stamp and stamp.ok):
        why = f"its timestamp does not hold: {stamp.reason}" if stamp else "it bears no timestamp"
        wrong.append(one_line(why, 2_000))
    return wrong


def _facts(
    verdict: Verdict,
    wrong: Sequence[str],
    signature: Signature | None,
    found: Sequence[Signature],
    notes: Review | None,
    args: argparse.Namespace,
) -> dict[str, Any]:
    lacking = {"by": None, "at": None, "ok": False, "reason": "there is no such signature"}
    return {
        "ok": verdict.ok and not wrong,
        "unclosed": verdict.only_unclosed and not wrong,
        "events": verdict.events,
        "line": verdict.first_bad_line,
        "reason": wrong[0]
        if wrong and (verdict.ok or verdict.only_unclosed)
        else f"{verdict.reason}{_compared(verdict)}",
        "head": verdict.head,
        **ending_facts(verdict),
        "signed": _signed(signature) if signature else lacking if args.allowed_signers else None,
        "signatures": [_signed(one) for one in found],
        "timestamp": _stamped(signature.stamp) if signature and signature.stamp else None,
        "review": notes and notes.facts(),
    }


def _signed(one: Signature) -> dict[str, Any]:
    return {"by": one.by or None, "at": one.at or None, "ok": one.ok, "reason": one.reason}


def _stamped(stamp: Stamped) -> dict[str, Any]:
    return {"at": stamp.at or None, "ok": stamp.ok, "reason": stamp.reason}


def checked_head(head: str | None) -> str | None:
    """The hash that was kept elsewhere, if one was given. Raises RlmError where it is none."""
    if head is not None and not re.fullmatch(r"[0-9a-f]{64}", head):
        raise RlmError(f"--head is {head[:80]!r}; give all 64 hex digits of the hash")
    return head


def in_a_sentence(verdict: Verdict, signature: Signature | None = None, notes: Review | None = None) -> str:
    """The verdict on a trace, and what else is known of it, in a sentence."""
    if verdict.ok:
        chain = "an unbroken chain without contradictions"
        parts = [f"ok: {count(verdict.events, 'event')}, {chain}", f"head {verdict.head}"]
        if signature and signature.ok:
            parts.append(f"signed by {one_line(signature.by, 200)}, who says at {one_line(signature.at, 40)}")
        if signature and signature.stamp and signature.stamp.ok:
            parts.append(f"there at {signature.stamp.at} by its timestamp")
        parts += [f"{count(len(notes.notes), 'note')} of reviewers"] if notes else []
        return f"{'; '.join(parts)}{ending_words(verdict)}{_compared(verdict)}"
    line = f"line {verdict.first_bad_line}: " if verdict.first_bad_line else ""
    end = (
        f"; {count(verdict.events, 'event')} verified up to the last line, head {verdict.head}"
        if verdict.only_unclosed
        else ""
    )
    return one_line(f"{line}{verdict.reason}{end}{ending_words(verdict)}", 2_000)


def _compared(verdict: Verdict) -> str:
    compared = f"; {verdict.compared}" if verdict.compared else ""
    return f"{compared}; not checked: {'; '.join(verdict.unchecked)}" if verdict.unchecked else compared
