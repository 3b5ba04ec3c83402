"""Text into sentences and the stems of its content words, for the offline models: any text, in linear time."""

import re
import threading
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

MAX_SENTENCE_CHARS = 400
_WRAP_CHARS, _NARROW_WRAP_CHARS = 60, 40
_MAX_WORD_CHARS = 40
_PROSE = 0.6

# A run of enders before a space, a CJK full stop, or a line end; bounded, so that no text makes it slow.
_END = re.compile(r"[.!?…]{1,8}[\"'”’)\]]{0,4}(?=\s)|[。！？]{1,8}[」』”）\"'’)\]]{0,4}|\n")
_ABBREVIATION = re.compile(
    r"(?:\b[A-Za-z]|\b(?:Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|Inc|Ltd|Co|Corp|vs|etc|No|Nos|Fig|Figs|Eq|Sec|Art|al|cf|"
    r"pp|Vol|ed|eds|approx|U\.S|e\.g|i\.e))\.$"
)
# What stands left of a line's own words where text is quoted, boxed or commented, and indented.
_MARGIN = re.compile(r"[ \t]{0,40}(?:(?:[|>#]|//)[ \t]{0,40})?")
_BULLET = re.compile(r"[-*•#>|]|\d{1,3}[.)]\s|\.\.\.\s")
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
# Where hotel_limit and hotelLimit are divided into parts, as a search does.
_JOINT = re.compile(r"_|(?<=[a-z][a-z])(?=[A-Z])")

_STOP_WORDS = """
a about above after again against ain all also although always am among an and another any are aren
around as at away back be because been before being below between both but by came can cannot come could
couldn d did didn do does doesn doing don done down during each either else etc even ever every few first
for found from further get give go goes going gone got had hadn has hasn have haven having he her here
hers herself him himself his how however i if in indeed instead into is isn it its itself just keep kept
know last later least less let like likely ll look m made make many may maybe me might more most much
must my myself near need never new next no nor not nothing now of off often on once one only or other
others otherwise our ours ourselves out over own per perhaps put quite rather re really s said same saw
say says second see seem seemed seen several shall she should shouldn since so some something soon still
such t take taken tell than that the their theirs them themselves then there therefore these they thing
things think this those though three through thus time to together too took two under until up upon us
use used using ve very via want was wasn way we well went were weren what when where whether which while
who whole whom whose why will with within without won would wouldn yes yet you your yours yourself
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_threads = threading.local()


def split(text: str) -> list[tuple[int, int]]:
    """The sentences of a text as `(start, end)` in characters, in order, without the white space around them.

    A sentence ends at `. ! ? …` before a space and a word that could begin another, at a CJK full stop, at a blank
    line, and at the end of a line that does not look wrapped; one longer than 400 characters is cut. A bar `|` before
    a sentence is left out; bars before its further lines stay in it.
    """
    starts = [0, *_starts(text), len(text)]
    spans = (_trim(text, a, b) for a, b in pairwise(starts))
    return [piece for a, b in spans for piece in _pieces(text, a, b)]


def words(text: str) -> list[str]:
    """The stems of a text's words but stop words, in order, with repeats; each CJK character is a word.

    `hotel_limit` and `hotelLimit` also count as their parts.
    """
    listed = chain.from_iterable(map(_with_parts, _WORD.findall(text)))
    lowered = (word.lower()[:_MAX_WORD_CHARS] for word in listed)
    return stems(word for word in lowered if word not in STOP_WORDS)


def _with_parts(word: str) -> list[str]:
    parts = [part for part in _JOINT.split(word) if part]
    return [word, *parts] if len(parts) > 1 else [word.strip("_") or word]


def stems(lowered: Iterable[str]) -> list[str]:
    """The stem of each lower-case word (Snowball's English stemmer); words of other scripts stay as they are."""
    if not hasattr(_threads, "stemmer"):  # a stemmer belongs to one thread
        import Stemmer

        _threads.stemmer = Stemmer.Stemmer("english")
    result: list[str] = _threads.stemmer.stemWords(list(lowered))
    return result


def _starts(text: str) -> Iterator[int]:
    line_start = sentence_start = 0
    for end in _END.finditer(text):
        if text[end.start()] == "\n":
            breaks = _ends_here(text, line_start, end.start())
            line_start = end.end()
        else:
            breaks = _ends_sentence(text, sentence_start, end.start(), end.end())
        if breaks:
            sentence_start = end.end()
            yield sentence_start


def is_prose(text: str) -> bool:
    """Whether at least 60% of what stands between spaces is words of letters only, as in no code or table."""
    tokens = [token.strip("\"'`*_.,;:!?()[]") for token in text.split()]
    return len(tokens) >= 3 and sum(map(str.isalpha, tokens)) >= _PROSE * len(tokens)


def _ends_here(text: str, line_start: int, newline: int) -> bool:
    """Whether a line end is the end of a sentence, and not just a wrapped line."""
    line, following = text[line_start:newline], text[newline + 1 : newline + 121]
    margin, next_margin = _margin(line), _margin(following)
    own, body = line[len(margin) :], following[len(next_margin) :]
    if not body.strip() or body[0] == "\n" or _BULLET.match(body):
        return True
    if len(line) < (_NARROW_WRAP_CHARS if body[0].islower() else _WRAP_CHARS):
        return True
    hangs = bool(_BULLET.match(own)) and body[0].islower() and is_prose(own)
    if margin != next_margin and not hangs:
        return len(next_margin) >= 4 or bool((margin + next_margin).strip())
    return len(margin) >= 4 and not is_prose(own)


def _margin(line: str) -> str:
    margin = _MARGIN.match(line)
    return margin[0] if margin else ""


def _ends_sentence(text: str, start: int, ender: int, end: int) -> bool:
    following = text[end : end + 40].lstrip()
    if following[:1].islower():
        return False
    return not (text[ender:end] == "." and _ABBREVIATION.search(text[max(start, end - 12) : end]))


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    first = start + len(part) - len(part.lstrip().removeprefix("|").lstrip())
    return first, max(first, start + len(part.rstrip()))


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A sentence, cut at spaces (or anywhere, if there are none) where it is too long."""
    while end - start > MAX_SENTENCE_CHARS:
        space = text.rfind(" ", start + 1, start + MAX_SENTENCE_CHARS)
        cut = space if space > start else start + MAX_SENTENCE_CHARS
        yield _trim(text, start, cut)
        start, _ = _trim(text, cut, end)
    if start < end:
        yield start, end
