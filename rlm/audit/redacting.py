"""Take contents out of a trace, so that its chain and its head stay as they are and all the rest can be verified.

What is taken out is gone from the file with its salt: what is left of it is a commitment, a hash that nobody can guess
it from. By whom, why and when stands in its place, sealed to what was taken out and to the redactions before it.

What this proves: that the run recorded some content there, and that nothing else was changed. What it does not: what
the content was; nor, unless the hash of the last redaction is kept elsewhere, that who and why were not rewritten, with
all redactions after it. And it is one file: copies, backups and the blocks of a disk are as they were.
"""

import io
import json
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from index_store.files import lock, replace_file
from index_store.grep import compile_pattern
from index_store.terminal import brief, one_line
from index_store.types import Json
from rlm.audit.beside import now
from rlm.audit.events import FORMAT, RecordedEvent, replaced
from rlm.audit.lines import (
    FIRST_PREV,
    MAX_LINE_BYTES,
    NAME_CHARS,
    OWN,
    WHY_CHARS,
    Redaction,
    Taken,
    canonical,
    commitment,
    salt_of,
    seal,
    short,
)
from rlm.audit.log import TraceError, trace_file
from rlm.audit.verifying import check
from rlm.gateway.redaction import redacted as without_keys

#: Of the files beside a trace that are searched for words that were taken out of it.
_BESIDE_BYTES, _MOST_BESIDE = 64 << 20, 10_000
_MOST_SOUGHT = 20  # texts of a field that was taken out that are looked for elsewhere, the longest

#: (seq, path) of a content.
Where = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Redacted:
    """What was taken out of a trace: `taken`, each content; `head`, of the trace, as before; `redaction`, the hash of
    this redaction.

    `left`: fields in which the words stand still, since they hold no contents, such as the name of a model; `beside`:
    files of the run's folder in which they stand; `elsewhere`: contents that hold what was taken out, where one field
    was named.
    """

    taken: tuple[Where, ...]
    by: str
    why: str
    at: str
    head: str
    redaction: str
    left: tuple[Where, ...] = ()
    beside: tuple[str, ...] = ()
    elsewhere: tuple[Where, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the file, what stands in it and the event that it gives."""

    raw: bytes
    stored: dict[str, Any]
    event: RecordedEvent

    @property
    def seq(self) -> int:
        return int(self.event["seq"])

    def contents(self) -> dict[str, Json]:
        """The contents that are there, by path."""
        found = dict[str, Json]()
        gone = self.event.get("redacted", {})

        def note(path: str, value: Json, is_object: bool) -> Json:
            if value is not None and path not in gone:
                found[path] = value
            return value

        replaced(self.event, note)
        return found


def redact_words(run: str | Path, words: str, by: str, why: str) -> Redacted | None:
    """Take out each content in which the regular expression `words` (RE2) is found; None where there is none.

    Raises TraceError, or IndexStoreError where `words` is no pattern.
    """
    pattern = compile_pattern(words, False)
    if pattern.search(b""):
        raise TraceError(
            f"the pattern {brief(words)} fits an empty text, so it would take out everything; name the words"
        )
    fits = _Fits(pattern.search)
    for name, text in (("by", by), ("why", why)):
        if fits(text):
            raise TraceError(
                f"--{name} has the words itself, and would keep them in the trace; say it without them"
            )
    file = trace_file(run)

    def chosen(line: _Line) -> Iterator[str]:
        return (path for path, value in line.contents().items() if fits(value))

    done, lines = _redact(run, chosen, by, why)
    left = tuple((line.seq, name) for line in lines for name in _names_left(line, fits))
    beside = tuple(_beside(file.parent, file.name, fits))
    if done is None and (left or beside):
        where = [f"event {seq} {name}" for seq, name in left[:3]] + list(beside[:3])
        raise TraceError(
            f"the words stand in no contents of the trace, but in {one_line(', '.join(where), 300)}, which cannot be "
            "taken out; change, rename or delete these"
        )
    return done and replace(done, left=left, beside=beside)


def redact_field(run: str | Path, seq: int, field: str, by: str, why: str) -> Redacted | None:
    """Take out the contents of a field of event number `seq`, or of a part of it such as "messages/0"; and wherever the
    trace refers to them. None where they are empty or gone. Raises TraceError, also where there is no such field."""
    held = set[str]()

    def chosen(line: _Line) -> Iterator[str]:
        if line.seq != seq:
            return
        _check_field(line, field)
        for path, value in line.contents().items():
            if (path == field or path.startswith(f"{field}/")) and value not in ("", {}, []):
                held.update(text for text in _strings(value) if len(text) >= 8)
                yield path

    done, lines = _redact(run, chosen, by, why)
    texts = sorted(held, key=len, reverse=True)[:_MOST_SOUGHT]
    if not any(line.seq == seq for line in lines):
        raise TraceError(f"there is no event {seq}; the trace has {len(lines):,}, numbered from 0")
    if done is None:
        return None
    gone = set(done.taken)
    elsewhere = (
        (line.seq, path)
        for line in lines
        for path, value in line.contents().items()
        if (line.seq, path) not in gone and any(text in other for other in _strings(value) for text in texts)
    )
    return replace(done, elsewhere=tuple(elsewhere))


def _check_field(line: _Line, field: str) -> None:
    """Raise TraceError where an event has no such field with contents."""
    known = [*line.contents(), *line.event.get("redacted", ())]
    if not any(path == field or path.startswith(f"{field}/") for path in known):
        names = ", ".join(dict.fromkeys(path.partition("/")[0] for path in known)) or "none"
        raise TraceError(
            f"event {line.seq} is a {line.event['kind']}, and {brief(field)} is none of its fields with contents: "
            f"{names}"
        )


@dataclass(frozen=True, slots=True)
class _Fits:
    """Whether a pattern is found in any text of a value, keys and numbers included."""

    search: Callable[[bytes], Any]

    def __call__(self, value: Json) -> bool:
        return any(self.search(text.encode("utf-8", "replace")) for text in _strings(value))


def _strings(value: Json) -> Iterator[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            yield from item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif item is not None and not isinstance(item, bool):
            yield str(item)


def _names_left(line: _Line, fits: _Fits) -> Iterator[str]:
    bare = replaced(line.event, lambda path, value, is_object: None)
    return (
        name
        for name, value in bare.items()
        if name not in ("redacted", "kind", "time_s", "seq") and fits(value)
    )


def _beside(folder: Path, trace: str, fits: _Fits) -> Iterator[str]:
    """What beside a trace has the words: files below its folder, by their contents or names, and the folder's name."""
    if fits(folder.resolve().name):
        yield f"the name of the folder, {folder.resolve().name}"
    for path in sorted(islice(folder.rglob("*"), _MOST_BESIDE)):
        name = path.relative_to(folder).as_posix()
        if name != trace and (fits(name) or _holds(path, fits)):
            yield name


def _holds(path: Path, fits: _Fits) -> bool:
    """Whether the words are found in a file, as it stands or in what its lines of JSON say."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _BESIDE_BYTES:
        return False
    content = path.read_bytes()
    return bool(fits.search(content)) or any(fits(value) for value in _json_in(content))


def _json_in(content: bytes) -> Iterator[Json]:
    """The values of a file of JSON, whole or a line each; nothing of another file."""
    for text in dict.fromkeys((content.strip(), *content.splitlines())):  # of one line the whole is that line
        with suppress(ValueError, RecursionError):
            yield json.loads(text)


def _redact(
    run: str | Path, chosen: Callable[[_Line], Iterator[str]], by: str, why: str
) -> tuple[Redacted | None, list[_Line]]:
    """Take out what is chosen of each line, and what refers to the same; also the lines as they were."""
    by, why = _words("by", by, NAME_CHARS), _words("why", why, WHY_CHARS)
    path = trace_file(run)
    busy = TraceError(
        f"{path} is being written, by its run or by another redaction; wait until that has ended"
    )
    try:
        with lock(path, busy):
            lines, kept, prev = _read(path)
            places = {(line.seq, name) for line in lines for name in chosen(line)}
            if not places:
                return None, lines
            origins = {
                _origin(line, name)
                for line in lines
                for name in line.contents()
                if (line.seq, name) in places
            }
            redaction, marked = _marked(lines, origins, Redaction(kept + 1, by, why, now(), prev))
            content = b"".join(_rewritten(line, marked.get(line.seq, {}), redaction) for line in lines)
            verdict = check(io.BytesIO(content))
            assert verdict.only_unclosed or verdict.ok, verdict.reason
            mode = stat.S_IMODE(path.stat().st_mode)
            replace_file(path, content)
            path.chmod(mode)
    except OSError as error:
        raise TraceError(f"cannot rewrite {path}: {error.strerror or error}") from error
    taken = tuple((seq, name) for seq, names in marked.items() for name in names)
    return Redacted(taken, by, why, redaction.at, verdict.head, redaction.hash), lines


def _words(name: str, text: str, most: int) -> str:
    text = without_keys(" ".join(text.split()))
    if not text or len(text) > most or not text.isprintable():
        raise TraceError(f"--{name} is {brief(text)}; give 1 to {most:,} characters that can be printed")
    return text


def _read(path: Path) -> tuple[list[_Line], int, str]:
    """The lines of a trace, how many redactions it has, and the hash of the last. A last line that was never finished
    is left out: nothing says what it was to hold."""
    raw = path.read_bytes()
    events: list[RecordedEvent] = []
    verdict = check(io.BytesIO(raw), on_event=events.append)
    if not verdict.ok and not verdict.only_unclosed:
        raise TraceError(
            f"line {verdict.first_bad_line} of {path}: {verdict.reason}; only a trace that is as it was written is "
            "redacted"
        )
    if events[0]["format"] != FORMAT:
        raise TraceError(
            f"{path} has format {events[0]['format']}, which seals whole lines: nothing can be taken out of it without "
            "breaking the chain; delete what must not be kept"
        )
    lines = [
        _Line(one, json.loads(one), event)
        for one, event in zip(raw.splitlines(keepends=True), events, strict=False)
    ]
    return lines, len(verdict.taken_out), verdict.taken_out[-1].hash if verdict.taken_out else FIRST_PREV


def _origin(line: _Line, path: str) -> Where:
    """Where a content stands in the file."""
    seq, name = line.stored.get("same_as", {}).get(path, (line.seq, path))
    return seq, name


def _marked(
    lines: list[_Line], origins: set[Where], begun: Redaction
) -> tuple[Redaction, dict[int, dict[str, str]]]:
    """The redaction, with what it took out, and for each line by its seq what it takes out: commitments by path."""
    taken = Taken(begun, 0, "")
    marked = dict[int, dict[str, str]]()
    for line in lines:
        for path, value in sorted(line.contents().items()):
            if _origin(line, path) in origins:
                committed = commitment(_salt(line.stored, path), short(canonical(value)))
                marked.setdefault(line.seq, {})[path] = committed
                taken.add(line.seq, path, committed)
    return replace(begun, taken=taken.digest), marked


def _salt(stored: Mapping[str, Any], path: str) -> bytes:
    if "salt" in stored:
        return salt_of(bytes.fromhex(stored["salt"]), path)
    return bytes.fromhex(stored["salts"][path])


def _rewritten(line: _Line, marked: dict[str, str], redaction: Redaction) -> bytes:
    """The line without what is marked, and with its hash."""
    if not marked:
        return line.raw
    stored = line.stored
    salts = {path: _salt(stored, path).hex() for path in line.contents() if path not in marked}
    bare = {name: value for name, value in stored.items() if name not in (*OWN, "prev", "hash")}
    body = replaced(bare, lambda path, value, is_object: None if path in marked else value)
    marks = {path: {"commitment": one, "redaction": redaction.number} for path, one in marked.items()}
    body |= {"salts": salts, "redacted": {**stored.get("redacted", {}), **marks}}
    body |= {
        "redactions": {
            **stored.get("redactions", {}),
            str(redaction.number): redaction.told(line.seq, marked),
        }
    }
    body |= {"same_as": stored["same_as"]} if "same_as" in stored else {}
    written = seal(stored["prev"], canonical(body), stored["hash"])
    if len(written) > MAX_LINE_BYTES:
        raise TraceError(
            f"line {line.seq + 1} would be longer than a line can be, {MAX_LINE_BYTES:,} bytes; name a field"
        )
    return written
