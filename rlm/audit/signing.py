"""A signature over the head of a trace, in OpenSSH's format: made and checked by stock `ssh-keygen`.

`head.json` is a small statement over the head; `head.json.sig` signs it, and a stranger needs none of our code:

    ssh-keygen -Y verify -f allowed_signers -I NAME -n raptor-rlm-trace -s head.json.sig < head.json

A second signer's are `head.2.json` and so on, so that nobody's is lost. `head.json.tsr` is a timestamp of the statement
(`rlm.audit.stamping`).

What it shows: whoever holds the key vouched for this head, and so for every line before it. Not that what was written
is true, nor when it was signed: the statement's times are the signer's own word.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from index_store.files import lock, replace_file
from index_store.terminal import brief, one_line
from rlm.audit.beside import bytes_of, folder_of, last_words, now, ran
from rlm.audit.events import RecordedEvent
from rlm.audit.lines import canonical
from rlm.audit.log import TraceError
from rlm.audit.stamping import MAX_BYTES as MAX_STAMP_BYTES, Stamped, ask_for, stamped
from rlm.audit.verifying import read, verify
from rlm.errors import RlmError

NAMESPACE = "raptor-rlm-trace"
STATEMENT = "head.json"
MOST_SIGNERS = 50
_MAX_BYTES = 64 * 1024
_HEAD = re.compile(r"[0-9a-f]{64}")
_NAME_CHARS = 200
_RANK = {True: 2, None: 1, False: 0}
NOT_CHECKED = "it was not checked; give whose signatures count as --allowed-signers"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature beside a trace. `by` and `at`: who signed and when, as the statement in `file` says; `head`: what it
    is over. `ok`: whether it is good and over this trace, None where nobody checked it. `stamp`: its timestamp."""

    file: Path
    by: str
    at: str
    head: str
    ok: bool | None
    reason: str
    stamp: Stamped | None = None


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement as it stands in its file: its bytes, what they say, and the `problem` where they are no statement."""

    file: Path
    content: bytes
    said: Mapping[str, str]
    problem: str = ""


# -- signing -----------------------------------------------------------------------------------------------


def sign(
    run: str | Path,
    key: str | Path,
    name: str,
    *,
    timestamp: str | None = None,
    unclosed: bool = False,
    force: bool = False,
    ask: bool = False,
) -> list[Path]:
    """Sign the head of a trace as `name`, and return the files that were written: statement, signature, timestamp.

    `key`: a private key, or a public one whose private one ssh-agent has. `timestamp`: the address of an authority.
    `unclosed`: sign a trace that was never closed, too. `force`: in place of what `name` signed before. `ask`: whether
    ssh-keygen may ask for a passphrase or a touch at the terminal. Raises RlmError, and then nothing is written.
    """
    _check_name(name)
    folder = folder_of(run)
    events, head, closed = vouchable(run)
    if not closed and not unclosed:
        raise RlmError(
            "the run never ended, so its trace may lack anything; sign it with --unclosed all the same"
        )
    facts = facts_of(events, head)
    busy = RlmError(f"somebody else signs in {folder} at this moment; try again")
    with lock(folder, busy):
        file = _file_for(folder, name, force)
        content = canonical({**facts, "signer": name, "signed_at": now()}) + b"\n"
        signature = _signature_of(content, Path(key), ask)
        stamp = ask_for(timestamp, content) if timestamp else None
        try:
            return list(_written(file, content, signature, stamp))
        except OSError as error:
            raise TraceError(
                f"cannot write {file}: {error.strerror}; the run's folder must be yours"
            ) from error


def _written(file: Path, content: bytes, signature: bytes, stamp: bytes | None) -> Iterator[Path]:
    for path, what in ((file, content), (_signature(file), signature), (_stamp(file), stamp)):
        if what is None:
            path.unlink(missing_ok=True)  # one of what was signed before
            continue
        replace_file(path, what)
        yield path


def _check_name(name: str) -> None:
    odd = not name.strip() or name != name.strip() or not name.isprintable() or set(name) & set(',"*?!#')
    if odd or len(name) > _NAME_CHARS:
        raise RlmError(
            f"{brief(name)} is no name of a signer; give one such as jane@example.com, without quotes and commas"
        )


def vouchable(run: str | Path) -> tuple[list[RecordedEvent], str, bool]:
    """(the events, the head, whether the run was closed) of a trace that is whole, or that only breaks off.

    Raises RlmError for any other: no head of it is worth a signature, or a note.
    """
    verdict = verify(run)
    events, chain = read(run)
    closed = bool(events) and events[-1]["kind"] == "run_closed"
    if events and not closed and _only_lacks_an_end(verdict.events, len(events), verdict.ok, chain.unread):
        return events, chain.head, False
    if not verdict.ok or not closed:
        line = f"line {verdict.first_bad_line}: " if verdict.first_bad_line else ""
        raise RlmError(
            f"the trace is not as it was written, so nobody can vouch for it: {line}{verdict.reason}"
        )
    return events, verdict.head, True


def _only_lacks_an_end(whole: int, events: int, ok: bool, unread: int) -> bool:
    """Whether nothing is wrong with a trace but that it breaks off, perhaps within a line."""
    return ok or (whole == events and unread <= 1)


def facts_of(events: Sequence[RecordedEvent], head: str) -> dict[str, Any]:
    """What a statement says of a trace: nothing of its contents. `ended` is null where the run never did."""
    opened, last = events[0], events[-1]
    return {
        "format": opened["format"],
        "head": head,
        "events": len(events),
        "index_digest": opened["index"]["digest"],
        "started": opened["started"],
        "ended": _ended(opened, last) if last["kind"] == "run_closed" else None,
    }


def _ended(opened: RecordedEvent, closed: RecordedEvent) -> str | None:
    """When a run ended: as it says, else as long after its start as it took."""
    if isinstance(closed.get("ended"), str):
        return str(closed["ended"])
    try:
        end = datetime.fromisoformat(opened["started"]) + timedelta(seconds=closed["time_s"])
        return end.isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        return None


def _file_for(folder: Path, name: str, force: bool) -> Path:
    """Where this signer's statement goes: over no other's, and over an own one only by force."""
    places = [folder / _file_name(number) for number in range(1, MOST_SIGNERS + 1)]
    own = next((s.file for s in statements(folder) if s.said.get("signer") == name), None)
    if own and not force:
        raise RlmError(f"{name} has signed this trace already ({own.name}); --force signs anew in its place")
    free = next((path for path in places if not path.exists() and not path.is_symlink()), None)
    if own is None and free is None:
        raise RlmError(f"{MOST_SIGNERS} have signed this trace already, and there is room for no more")
    return own or free or places[0]


def _signature_of(content: bytes, key: Path, ask: bool) -> bytes:
    if not key.is_file():
        raise RlmError(f"there is no key {key}; name a private key of OpenSSH, such as ~/.ssh/id_ed25519")
    done = ran("ssh-keygen", "-Y", "sign", "-f", key, "-n", NAMESPACE, given=content, ask=ask)
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise RlmError(f"ssh-keygen cannot sign with {key}: {_why_not(done.stderr or b'', last_words(done))}")
    return done.stdout


def _why_not(said: bytes, last: str) -> str:
    if b"passphrase" in said:
        return (
            "it has a passphrase, which nobody can be asked for here; load it into ssh-agent (ssh-add) first"
        )
    if b"UNPROTECTED" in said:
        return "others can read it, so it is no secret any more; make it yours alone (chmod 600)"
    if b"public key" in said:
        return "it is no key of OpenSSH; name a private one, such as ~/.ssh/id_ed25519"
    return f"{last}; name a private key of OpenSSH, or a public one whose private one ssh-agent has"


# -- checking ----------------------------------------------------------------------------------------------


def statements(folder: Path) -> list[_Statement]:
    """The statements beside a trace, that of `head.json` first, and files of their names that are none."""
    there = {path.name for path in folder.iterdir()}
    names = [name for name in map(_file_name, range(1, MOST_SIGNERS + 1)) if name in there]
    found = (_statement(folder / name) for name in names)
    return [statement for statement in found if statement]


def signatures(
    run: str | Path, allowed: str | Path | None = None, authority: str | Path | None = None
) -> list[Signature]:
    """What the signatures beside a trace are worth, in the order in which they were made; [] where there are none.

    `allowed`: whose count, a file as ssh-keygen reads it; `authority`: whose timestamps count, certificates as PEM.
    Not checked where they are None. Whether they are over this trace is for `held`. Raises TraceError where a file
    cannot be read, or what checks it is not installed.
    """
    if allowed is not None and not Path(allowed).is_file():
        raise TraceError(f"there is no file {allowed}; name the allowed signers, as ssh-keygen reads them")
    ca = None if authority is None else Path(authority)
    return [
        _checked(statement, None if allowed is None else Path(allowed), ca)
        for statement in statements(folder_of(run))
    ]


def chosen(found: Sequence[Signature], signer: str | None = None) -> Signature | None:
    """The signature that counts, of those of `signer` where one is named: the first of the best. A good one goes before
    one that nobody checked, and that before one that does not hold; then one with a timestamp that holds."""
    theirs = [one for one in found if signer in (None, one.by)]
    return max(theirs, key=lambda one: (_RANK[one.ok], bool(one.stamp and one.stamp.ok)), default=None)


def held(signature: Signature, events: Sequence[RecordedEvent], head: str) -> Signature:
    """The signature, and its timestamp, as far as they are over the trace with these events and this head."""
    if not signature.head:
        return signature  # of nothing at all
    facts, found = facts_of(events, head), _statement(signature.file)
    other = next((name for name, fact in facts.items() if not found or found.said.get(name) != fact), None)
    if other is None:
        return signature
    why = f"over another head, {signature.head}" if signature.head != head else f"over another {other!r}"
    stamp = signature.stamp and replace(signature.stamp, ok=False, reason=f"its statement is {why}")
    reason = signature.reason if signature.ok is False else f"it is {why} than the trace has"
    return replace(signature, ok=False, reason=reason, stamp=stamp)


def _statement(file: Path) -> _Statement | None:
    try:
        content = bytes_of(file, _MAX_BYTES)
    except TraceError as error:
        return _Statement(file, b"", {}, str(error))
    if content is None:
        return None
    try:
        said = json.loads(content)
        exact = isinstance(said, dict) and canonical(said) + b"\n" == content
    except (ValueError, RecursionError):
        exact = False
    texts = [said.get(name) for name in ("signer", "signed_at", "head")] if exact else []
    if not texts or not all(isinstance(text, str) for text in texts) or not _HEAD.fullmatch(said["head"]):
        return _Statement(file, content, {}, f"{file.name} is no statement over the head of a trace")
    return _Statement(file, content, said)


def _checked(statement: _Statement, allowed: Path | None, authority: Path | None) -> Signature:
    file, said = statement.file, statement.said
    if statement.problem:
        return Signature(file, "", "", "", False, statement.problem)
    ok, reason = _good(statement, allowed)
    reply = bytes_of(_stamp(file), MAX_STAMP_BYTES)
    stamp = None if reply is None else stamped(reply, statement.content, authority)
    return Signature(file, said["signer"], said["signed_at"], said["head"], ok, reason, stamp)


def _good(statement: _Statement, allowed: Path | None) -> tuple[bool | None, str]:
    """Whether the signature of a statement is by the allowed signer that it names, and over its bytes; and why."""
    signed = bytes_of(_signature(statement.file), _MAX_BYTES)
    if signed is None:
        return False, f"there is no {_signature(statement.file).name}"
    if allowed is None:
        return None, NOT_CHECKED
    name = statement.said["signer"]
    if "\0" in name or not name.isprintable():  # nothing that a program can be given
        return False, f"it is by {brief(name)}, which is no name"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sig")
        file.write_bytes(signed)
        whom: list[str | Path] = ["-f", allowed, "-I", name, "-n", NAMESPACE, "-s", file]
        done = ran("ssh-keygen", "-Y", "verify", *whom, given=statement.content)
        if not done.returncode:
            return True, "it is good"
        known = ran("ssh-keygen", "-Y", "find-principals", "-s", file, "-f", allowed)
    said = done.stderr or b""
    if b"incorrect signature" in said:
        return False, f"{statement.file.name} was changed after it was signed"
    if b"namespace" in said:
        return False, f"it was made for something else than {NAMESPACE}"
    if b"parse signature" in said or b"armor" in said:
        return False, "it is no signature of OpenSSH"
    if owner := known.stdout.decode("utf-8", "replace").strip() if not known.returncode else "":
        return False, f"the statement says {brief(name)}, and the key is that of {one_line(owner, 200)}"
    return False, f"its key is that of no allowed signer called {brief(name)} ({last_words(done)})"


# -- files -------------------------------------------------------------------------------------------------


def _file_name(number: int) -> str:
    return STATEMENT if number == 1 else f"head.{number}.json"


def _signature(file: Path) -> Path:
    return file.with_name(f"{file.name}.sig")


def _stamp(file: Path) -> Path:
    return file.with_name(f"{file.name}.tsr")
