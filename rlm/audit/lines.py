"""The form of a line of a trace: what stands on disk, and what its hash covers.

A line is the event as canonical JSON (keys sorted, no spaces, ASCII only, so that any character can be written, even
the lone surrogates that models send), its closing brace replaced by `,"prev":"<64 hex>","hash":"<64 hex>"}` and a
newline. hash = sha256(prev as ASCII + what is hashed), and the first line's prev is 64 zeros.

What is hashed is the event with each of its contents (rlm/audit/events.py says which values these are) replaced by
{"commitment": sha256(salt + the content as canonical JSON) in hex}; of a content of LONG characters or more its sha256
is taken there. So a content can be taken out later, and its
commitment alone keeps the chain. Beside its fields a line has

    salt        32 hex digits, from which the salt of each content comes: blake2b of its path, keyed with them
    same_as     {path: [seq, path]}: contents of 512 characters or more that stood before; null stands in their place.
                It is hashed as it stands
    redacted    {path: {"commitment", "redaction"}}: contents that were taken out, and by which redaction; null in
                their place
    redactions  {number: {"by", "why", "at", "prev", "taken", "hash", "here"}}: each redaction that took out something
                here. `prev` is the hash of the redaction before it, `taken` a digest of all that it took out, `hash`
                covers these and who, why and when, and `here` what it took out of this line
    salts       {path: salt}, instead of `salt` where something was taken out: of the contents that are left. What
                `salt` was cannot be told from them, so neither can the salt of what was taken out

A line has each of these only where it is not empty, so that one event has one form. Formats 1 and 2 had none of this:
there the hash covers the event as it stands on disk.
"""

import hashlib
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any

from index_store.terminal import brief
from index_store.types import Json
from rlm.audit.events import FORMAT, OLD_FORMATS, RecordedEvent, event_problem, replaced

FIRST_PREV = "0" * 64
MAX_LINE_BYTES = 32 * 1024 * 1024
#: Contents at least this long, in characters of JSON, are written once and referred to afterwards.
LONG = 512
#: The fields that may refer to a content before; others are read by tools that know nothing of references.
REFERRING = frozenset({"messages", "prompts", "results", "result"})
#: Of the long contents, what is kept in mind to be referred to; and what references may stand for in a trace, both in
#: characters: a small file of a stranger must not become a large one.
MOST_KEPT, MOST_LENT = 32 << 20, 256 << 20
NAME_CHARS, WHY_CHARS = 200, 1_000

_SEAL = re.compile(rb',"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"\}\n\Z')
#: What a write that was cut short leaves of a line, and what of that was never one: something behind its seal.
_BEGUN = re.compile(rb"\{[ -~]*")
_SEALED_AND_MORE = re.compile(rb',"prev":"[0-9a-f]{64}","hash":"[0-9a-f]{64}"\}.', re.DOTALL)
_SEAL_BYTES = len(',"prev":"","hash":""}\n') + 128
_HEX_32, _HEX_64 = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")
_ENCODER = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
)
_UNUSUAL = frozenset({"salts", "same_as", "redacted", "redactions"})  # in most lines there is none of these
OWN = _UNUSUAL | {"salt"}


class BadLine(Exception):
    """Why a line is not what was written."""


class Unfinished(BadLine):
    """The line is not whole: it was cut, or never finished."""


def canonical(value: Json | Mapping[str, Any]) -> bytes:
    """The one form in bytes that a value has in a trace.

    Raises ValueError or RecursionError where JSON cannot say it (NaN, nesting without end).
    """
    if type(value) is str:  # most contents are
        return encode_basestring_ascii(value).encode("ascii")
    return _ENCODER.encode(value).encode("ascii")


def digest(prev: str, hashed: bytes) -> str:
    """The hash of a line whose predecessor's hash is `prev`."""
    return hashlib.sha256(prev.encode("ascii") + hashed).hexdigest()


def seal(prev: str, body: bytes, line_hash: str | None = None) -> bytes:
    """The line for `body` after `prev`, newline included; its hash is that of the body, as in formats 1 and 2, where it
    is not given."""
    line_hash = digest(prev, body) if line_hash is None else line_hash
    return body[:-1] + f',"prev":"{prev}","hash":"{line_hash}"}}\n'.encode("ascii")


def salt_of(salt: bytes, path: str) -> bytes:
    """The salt of the content at `path` in a line with this salt."""
    return hashlib.blake2b(path.encode("ascii"), key=salt, digest_size=16).digest()


def commitment(salt: bytes, content: bytes) -> str:
    """The commitment to a content, which stands for its `short` form."""
    return hashlib.sha256(salt + content).hexdigest()


def short(written: bytes) -> bytes:
    """What stands for a content in its commitment: its canonical form, or the digest of that where it is long."""
    return written if len(written) < LONG else b"#" + hashlib.sha256(written).digest()


def placeholder(by: str, why: str) -> str:
    """What readers are given in place of a content that was taken out."""
    return f"[redacted by {by}: {why}]"


# -- contents that stood before ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    where: tuple[int, str]
    value: Json
    size: int


@dataclass(slots=True)
class Shelf:
    """Long contents that stood in a trace, by their digests, the last ones used last, and what was lent of them.

    Writer and reader keep the same, so each knows what the other can find.
    """

    held: "OrderedDict[bytes, _Held]" = field(default_factory=OrderedDict)
    places: dict[tuple[int, str], bytes] = field(default_factory=dict)
    size: int = 0
    lent: int = 0

    def find(self, content: bytes) -> tuple[int, str] | None:
        """Where this content stands."""
        if (held := self.held.get(content)) is None:
            return None
        self.held.move_to_end(content)
        return held.where

    def at(self, where: tuple[int, str]) -> tuple[bytes, _Held] | None:
        """The content that stands there, with its digest."""
        if (content := self.places.get(where)) is None:
            return None
        self.held.move_to_end(content)
        return content, self.held[content]

    def keep(self, where: tuple[int, str], content: bytes, value: Json, size: int) -> None:
        """A content that stands there, and nowhere before."""
        self.held[content], self.places[where] = _Held(where, value, size), content
        self.size += size
        while self.size > MOST_KEPT and self.held:
            _, oldest = self.held.popitem(last=False)
            del self.places[oldest.where]
            self.size -= oldest.size

    def may_lend(self, size: int) -> bool:
        """Whether so much more may be referred to."""
        return self.lent + size <= MOST_LENT


# -- writing -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sealer:
    """Makes the lines of a new trace, one after another; `head` is the hash of the last."""

    head: str = FIRST_PREV
    count: int = 0
    shelf: Shelf = field(default_factory=Shelf)

    def line(self, event: RecordedEvent) -> bytes:
        """The line of the next event, which JSON can say."""
        salt = secrets.token_bytes(16)
        same_as, contents = dict[str, tuple[int, str]](), dict[str, bytes]()

        def stored(path: str, value: Json, is_object: bool) -> Json:
            if value is None:
                return None
            written = canonical(value)
            contents[path] = content = short(written)
            if len(written) < LONG:
                return value
            where = self.shelf.find(content)
            if where is None:
                self.shelf.keep((self.count, path), content, None, len(written))
            elif path.partition("/")[0] in REFERRING and self.shelf.may_lend(len(written)):
                self.shelf.lent += len(written)
                same_as[path] = where
                return None
            return value

        body = replaced(event, stored)
        commitments = {path: commitment(salt_of(salt, path), content) for path, content in contents.items()}
        hashed = _hashed(event, commitments, same_as)
        body |= {"salt": salt.hex()} if contents else {}
        body |= {"same_as": same_as} if same_as else {}
        prev, self.head, self.count = self.head, digest(self.head, hashed), self.count + 1
        return seal(prev, canonical(body), self.head)


def _hashed(event: RecordedEvent, commitments: Mapping[str, str], same_as: Mapping[str, Any]) -> bytes:
    """What the hash of a line covers."""

    def committed(path: str, value: Json, is_object: bool) -> Json:
        return {"commitment": commitments[path]} if path in commitments else None

    return canonical(replaced(event, committed) | ({"same_as": same_as} if same_as else {}))


# -- reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Redaction:
    """Who took out something, why and when; `prev` is the hash of the redaction before it, `taken` a digest of all that
    it took out."""

    number: int
    by: str
    why: str
    at: str
    prev: str = FIRST_PREV
    taken: str = ""

    @property
    def hash(self) -> str:
        """Covers all that is said of it."""
        return hashlib.sha256(canonical(asdict(self))).hexdigest()

    def told(self, seq: int, marks: Mapping[str, str]) -> dict[str, Json]:
        """As the line of event `seq` holds it, from which it took out what has these commitments, by path."""
        own = self.hash
        here = hashlib.sha256(canonical([own, seq, sorted(marks.items())])).hexdigest()
        told = {"by": self.by, "why": self.why, "at": self.at, "prev": self.prev, "taken": self.taken}
        return {**told, "hash": own, "here": here}


@dataclass(slots=True)
class Taken:
    """What one redaction took out, as the lines say: of which fields, and a digest of all, in order.

    `line`: the first of the lines, and `head` the hash of the one before it.
    """

    redaction: Redaction
    line: int
    head: str
    fields: list[tuple[int, str]] = field(default_factory=list)
    covered: Any = field(default_factory=hashlib.sha256)

    def add(self, seq: int, path: str, committed: str) -> None:
        self.fields.append((seq, path))
        self.covered.update(canonical([seq, path, committed]) + b"\n")

    @property
    def digest(self) -> str:
        """Of all that was added."""
        return str(self.covered.hexdigest())


@dataclass(slots=True)
class Opener:
    """Reads the lines of a trace, one after another, and holds each against its hash and the line before.

    `format`: of the trace, as its first line says; `taken`: what was taken out, by the number of the redaction.
    """

    head: str = FIRST_PREV
    format: int = FORMAT
    count: int = 0
    shelf: Shelf = field(default_factory=Shelf)
    taken: dict[int, Taken] = field(default_factory=dict)

    def event(self, line: bytes, most: int = MAX_LINE_BYTES) -> RecordedEvent:
        """The event of the next line, with what was taken out replaced by a placeholder, and then `redacted`: who took
        out what of it and why. Raises BadLine."""
        body, prev, line_hash = _unsealed(line, most)
        stored = _parsed(body)
        if not self.count:
            self.format = _format_of(stored)
        if self.format in OLD_FORMATS:
            event, hashed = _modernised(stored), body
        else:
            event, hashed = self._opened(stored)
        if digest(prev, hashed) != line_hash:
            raise BadLine("the line does not match its own hash: it was changed")
        if prev != self.head:
            raise BadLine(
                "the line does not follow the one before it: a line was removed, added, repeated or moved"
            )
        if wrong := event_problem(_without_marks(event)):
            raise BadLine(f"the event is not one a trace can hold: {wrong}")
        self.head, self.count = line_hash, self.count + 1
        return event

    def unsound(self) -> tuple[Taken, str] | None:
        """A redaction that is not as it was made, and a sentence about it; asked once all lines were read."""
        prev = FIRST_PREV
        for number, (said, taken) in enumerate(sorted(self.taken.items()), 1):
            if said != number:
                return (
                    taken,
                    f"redaction {number} is missing, and {said} is there: it was put back, or renumbered",
                )
            if taken.redaction.taken != taken.digest:
                return (
                    taken,
                    f"redaction {number} took out more or less: a line that it changed was cut off, or put back",
                )
            if taken.redaction.prev != prev:
                return taken, f"redaction {number} does not follow the one before it: that was changed"
            prev = taken.redaction.hash
        return None

    def _opened(self, stored: dict[str, Any]) -> tuple[RecordedEvent, bytes]:
        """The event of a stored one, and what its hash covers."""
        own = _Own(stored, self.count)
        redacted, same_as, salt = own.redacted, own.same_as, own.salt
        bare = {name: value for name, value in stored.items() if name not in OWN}
        found = dict[str, Json]()

        def committed(path: str, value: Json, is_object: bool) -> Json:
            if path in redacted:
                if value is not None:
                    raise BadLine(f"{brief(path)} was taken out, and is there: it was changed")
                words = own.words(path)
                found[path] = {"redacted": words} if is_object else words
                return {"commitment": redacted[path]}
            if path in same_as:
                content, value = self._lent(same_as[path], path, value)
            elif value is None:
                return None
            else:
                content = self._kept(path, value)
            found[path] = value
            return {"commitment": commitment(salt(path), content)}

        hashed = replaced(bare, committed)
        own.check(found)
        if not same_as and not redacted:
            return bare, canonical(hashed)
        event = replaced(bare, lambda path, value, is_object: found.get(path))
        if redacted:
            self._note(own)
            event["redacted"] = own.told()
        return event, canonical(hashed | ({"same_as": same_as} if same_as else {}))

    def _lent(self, where: tuple[int, str], path: str, value: Json) -> tuple[bytes, Json]:
        found = self.shelf.at(where)
        if found is None or value is not None or path.partition("/")[0] not in REFERRING:
            raise BadLine(f"{brief(path)} refers to a text that does not stand before it: it was changed")
        content, held = found
        if not self.shelf.may_lend(held.size):
            raise BadLine(f"the trace refers to more than {MOST_LENT:,} characters, which none does")
        self.shelf.lent += held.size
        return content, held.value

    def _kept(self, path: str, value: Json) -> bytes:
        written = canonical(value)
        content = short(written)
        if content is not written and self.shelf.find(content) is None:
            self.shelf.keep((self.count, path), content, value, len(written))
        return content

    def _note(self, own: "_Own") -> None:
        for path, committed in own.redacted.items():
            redaction = own.redaction(path)
            taken = self.taken.setdefault(redaction.number, Taken(redaction, self.count + 1, self.head))
            if taken.redaction != redaction:
                raise BadLine(f"redaction {redaction.number} is told otherwise than in line {taken.line}")
            taken.add(self.count, path, committed)


class _Own:
    """What a line of the present format has beside the fields of its event; raises BadLine where it is not as it is
    written."""

    def __init__(self, stored: Mapping[str, Any], seq: int) -> None:
        self._key = bytes.fromhex(_hex(stored["salt"], _HEX_32)) if "salt" in stored else b""
        self.same_as: dict[str, tuple[int, str]] = {}
        self.redacted: dict[str, str] = {}
        self._salts: dict[str, bytes] = {}
        if stored.keys() & _UNUSUAL:
            self._read(stored, seq)

    def _read(self, stored: Mapping[str, Any], seq: int) -> None:
        self._salts = _object(stored, "salts", lambda value: bytes.fromhex(_hex(value, _HEX_32)))
        self.same_as = _object(stored, "same_as", _place)
        marks = _object(stored, "redacted", _mark)
        self._redactions = {
            number: _redaction(number, told, seq, marks)
            for number, told in _object(stored, "redactions", lambda value: value).items()
        }
        self._by_path = {path: number for path, (_, number) in marks.items()}
        self.redacted = {path: committed for path, (committed, _) in marks.items()}
        if set(self._redactions) != {str(number) for number in self._by_path.values()}:
            raise BadLine(
                "the line does not name each redaction that took something out of it: it was changed"
            )
        if bool(marks) != ("salts" in stored) or (marks and "salt" in stored):
            raise BadLine("the line has other salts than what was taken out of it leaves: it was changed")

    def salt(self, path: str) -> bytes:
        """The salt of a content that is there."""
        if self._key:
            return salt_of(self._key, path)
        if path not in self._salts:
            raise BadLine(f"{brief(path)} has no salt: it was changed")
        return bytes(self._salts[path])

    def redaction(self, path: str) -> Redaction:
        return self._redactions[str(self._by_path[path])]

    def words(self, path: str) -> str:
        one = self.redaction(path)
        return placeholder(one.by, one.why)

    def told(self) -> dict[str, dict[str, Json]]:
        """Who took out what, and why, by path."""
        by = {path: self.redaction(path) for path in self.redacted}
        return {path: {"by": one.by, "why": one.why, "at": one.at} for path, one in by.items()}

    def check(self, contents: Collection[str]) -> None:
        """Raise BadLine where something is there for no content of the line; these are its contents, by path."""
        there = set(contents) - set(self.redacted)
        salted = set(self._salts) == there if not self._key else bool(there)
        if not salted or not set(self.redacted) | set(self.same_as) <= set(contents):
            raise BadLine("the line has salts or references for other contents than it holds: it was changed")


def _hex(value: Any, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise BadLine(f"a salt or a commitment is {brief(value)}: it was changed")
    return value


def _object(stored: Mapping[str, Any], name: str, of: Callable[[Any], Any]) -> dict[str, Any]:
    value = stored.get(name, {})
    if not isinstance(value, dict) or (name in stored and not value and name != "salts"):
        raise BadLine(f"{name} is {brief(value)}: it was changed")
    return {key: of(item) for key, item in value.items()}


def _place(value: Any) -> tuple[int, str]:
    if not (
        isinstance(value, list) and len(value) == 2 and type(value[0]) is int and isinstance(value[1], str)
    ):
        raise BadLine("same_as holds something else than the place of a content: it was changed")
    return value[0], value[1]


def _mark(value: Any) -> tuple[str, int]:
    number = value.get("redaction") if isinstance(value, dict) and len(value) == 2 else None
    if type(number) is not int or not 0 < number <= 1_000_000:
        raise BadLine(
            "redacted holds something else than a commitment and the number of a redaction: it was changed"
        )
    return _hex(value.get("commitment"), _HEX_64), number


def _redaction(number: str, told: Any, seq: int, marks: Mapping[str, tuple[str, int]]) -> Redaction:
    most = {"by": NAME_CHARS, "why": WHY_CHARS, "at": 40, "prev": 64, "taken": 64}
    if not isinstance(told, dict) or not set(most) <= set(told):
        raise BadLine("a redaction does not say who, why and when: it was changed")
    said = {name: told[name] for name in most}
    if any(not isinstance(value, str) or len(value) > most[name] for name, value in said.items()):
        raise BadLine("a redaction says something else than a name, a reason and a time: it was changed")
    is_number = number.isascii() and number.isdigit() and len(number) < 8
    one = Redaction(int(number) if is_number else 0, **said)
    if told != one.told(
        seq, {path: committed for path, (committed, by) in marks.items() if by == one.number}
    ):
        raise BadLine("a redaction is not as it was made: who, why, when or what it took out was changed")
    return one


def _unsealed(line: bytes, most: int) -> tuple[bytes, str, str]:
    """(body, prev, hash) of a line."""
    if len(line) > most:
        raise BadLine(f"the line is longer than {most} bytes")
    if not line.endswith(b"\n"):
        if not _BEGUN.fullmatch(line) or _SEALED_AND_MORE.search(line):
            raise BadLine("the line does not end in a newline, and is no beginning of a trace line either")
        raise Unfinished("the line does not end in a newline: it was cut, or never finished")
    sealed = _SEAL.search(line, max(0, len(line) - _SEAL_BYTES))
    if not sealed:
        raise BadLine('the line does not end in "prev" and "hash" as a trace line does')
    return line[: sealed.start()] + b"}", sealed[1].decode("ascii"), sealed[2].decode("ascii")


def _parsed(body: bytes) -> dict[str, Any]:
    """The object that a body holds, which may be anyone's work: nothing about it is trusted."""
    try:
        stored = json.loads(body)
        exact = isinstance(stored, dict) and canonical(stored) == body
    except (ValueError, RecursionError) as error:
        raise BadLine(
            f"the line is not JSON that can be read ({type(error).__name__}): it was changed"
        ) from error
    if not exact:
        raise BadLine("the line is not in the one form a trace is written in: it was changed")
    return dict(stored)


def _without_marks(event: RecordedEvent) -> RecordedEvent:
    """An event as the table has it."""
    return (
        {name: value for name, value in event.items() if name != "redacted"} if "redacted" in event else event
    )


def _format_of(stored: Mapping[str, Any]) -> int:
    said = stored.get("format", FORMAT)
    if type(said) is int and said in (*OLD_FORMATS, FORMAT):
        return said
    raise BadLine(
        f"the trace has format {brief(said) if type(said) is not int else said}; this version reads formats "
        f"{', '.join(map(str, OLD_FORMATS))} and {FORMAT}"
    )


def _modernised(stored: dict[str, Any]) -> RecordedEvent:
    """An event of an old format as it would be written now."""
    under, prompts = stored.get("under"), stored.get("prompts")
    if stored.get("kind") != "child_called" or "under" not in stored or not isinstance(prompts, list):
        return stored
    return stored if isinstance(under, list) else {**stored, "under": [under] * len(prompts)}
