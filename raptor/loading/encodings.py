"""Bytes to text: UTF-8, else what a byte order mark, the file, the user or the bytes themselves say that they are."""

import codecs
from collections.abc import Mapping

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, with whose mark it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What old files are in; more kinds to choose from make more mistakes.
_GUESSED = (
    *("cp1252", "cp1250", "iso8859_2", "cp1254", "cp1257"),
    *("cp1251", "koi8_r", "cp866", "cp1253", "cp1255", "cp1256"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
_WESTERN = "cp1252"  # Latin-1 too: what differs are control characters there
_FILLING = frozenset(
    "ÿþ"
)  # bytes of ones, which stand in what is no text, and hardly in a text of this encoding
_FEW_BYTES = 8  # fewer fit many encodings
_SAMPLE_BYTES = 50_000
_MARGIN = 0.02  # of a score from -1 to 1, between the best guess and the next
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b")) + b"\x7f"


class Undecodable(ValueError):
    """Why bytes are no text, and what to do: the rest of a sentence that begins with the file."""


def decode_bytes(raw: bytes, told: str = "", declared: str = "") -> tuple[str, str]:
    """`(text, note)`: the text of a file, and what to tell of how it was read, "" for nothing.

    `told`: the encoding that the user named, and then it is that. `declared`: the one that the file names, which
    counts where it is not UTF-8. Raises Undecodable.
    """
    if told:
        return _strict(raw, told, "as --encoding says; give another, or leave the option out"), ""
    # Before a character or none, the two bytes of a mark are as likely chance.
    marked = next((name for mark, name in _MARKS if raw.startswith(mark) and len(raw) > len(mark) + 2), "")
    if marked:
        return _strict(raw, marked, "which its byte order mark says; repair it, or leave it out"), ""
    try:
        text, fault = raw.decode(), None
    except UnicodeDecodeError as error:
        text, fault = "", error
    if fault is None and b"\0" not in raw:
        return text, ""
    if wide := _wide(raw):
        return raw.decode(wide), _told(wide)
    if fault is None:
        return text, ""
    if declared:
        try:
            return _strict(raw, declared, ""), ""
        except Undecodable as error:
            raise Undecodable(
                f"its declared encoding {declared[:80]!r} does not fit its bytes; convert it to UTF-8, or give "
                "--encoding NAME"
            ) from error
    if guessed := _guess(raw):
        return raw.decode(guessed), _told(guessed)
    raise Undecodable(
        f"it is not UTF-8 (byte 0x{raw[fault.start]:02x} at offset {fault.start:,}) and its encoding cannot be told "
        "for certain; give --encoding NAME, or convert it, for example with: iconv -f WINDOWS-1252 -t UTF-8"
    )


def _told(encoding: str) -> str:
    return f"it is not UTF-8 and was read as {encoding}; give --encoding NAME where its words look wrong"


def _strict(raw: bytes, encoding: str, why: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        at = (
            f"byte 0x{raw[error.start]:02x} at offset {error.start:,}"
            if error.start < len(raw)
            else "its end"
        )
        raise Undecodable(f"it is not {encoding} ({at}), {why}") from error
    except (LookupError, ValueError) as error:
        raise Undecodable(f"there is no encoding {encoding[:80]!r}, {why}") from error


def _wide(raw: bytes) -> str:
    """UTF-16 without a mark, "" where it is none: of Western text each second byte is NUL."""
    half = len(raw) // 2
    for name, high, low in (("utf-16-le", raw[1::2], raw[::2]), ("utf-16-be", raw[::2], raw[1::2])):
        if len(raw) % 2 == 0 and 2 * high.count(0) > half and not low.count(0):
            try:
                raw.decode(name)
            except UnicodeDecodeError:
                continue
            return name
    return ""


def _guess(raw: bytes) -> str:
    """The encoding that bytes which are not UTF-8 most likely have; "" where two are about as likely, or none fits."""
    has_controls = len(raw) - len(raw.translate(None, _CONTROLS)) > len(raw) // 1000
    if len(raw) < _FEW_BYTES or has_controls or _is_damaged(raw):
        return ""
    scores = {name: score for name, score in _scores(_telling(raw)).items() if _fits(raw, name)}
    best = sorted(scores.values(), reverse=True)
    if not best:
        return ""
    if scores.get(_WESTERN, -1.0) >= best[0] - _MARGIN:
        telling = set(raw.decode(_WESTERN)) - _FILLING
        return "" if all(map(str.isascii, telling)) else _WESTERN
    names = [name for name in _GUESSED if scores.get(name, -1.0) >= best[0] - _MARGIN]
    alike = {raw.decode(name) for name in names}
    return names[0] if len(alike) == 1 else ""


def _is_damaged(raw: bytes) -> bool:
    """Whether most of what is more than ASCII is UTF-8, but not all: read in another encoding, most would be spoilt."""
    text = raw.decode(errors="replace")
    bad = text.count("\ufffd")
    return len(text) - len(text.encode("ascii", "ignore")) > 2 * bad


def _telling(raw: bytes) -> bytes:
    """The lines that hold more than ASCII, as they alone tell an encoding, up to a length that is quickly looked at."""
    if len(raw) <= _SAMPLE_BYTES:
        return raw
    sample, taken = [], 0
    for line in raw.splitlines(keepends=True):
        if not line.isascii():
            sample.append(line[:_SAMPLE_BYTES])
            taken += len(sample[-1])
        if taken >= _SAMPLE_BYTES:
            break
    return b"".join(sample)


def _scores(sample: bytes) -> Mapping[str, float]:
    """How well a sample reads in each encoding, from -1 to 1: as words of a language, less what looks like a mess."""
    from charset_normalizer import from_bytes

    scores: dict[str, float] = {}
    for match in from_bytes(sample, cp_isolation=[*_GUESSED]):
        for name in {match.encoding, *match.could_be_from_charset} & set(_GUESSED):
            scores[name] = match.coherence - match.chaos
    return scores


def _fits(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
