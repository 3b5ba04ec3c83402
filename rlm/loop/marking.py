"""What code puts into a prompt, told apart: the words its model wrote, and all else, which stands as marked data.

Code often writes `llm_query(f"Does this name a date? {context.read(node)}")`. The parent cannot trust a worker to say
which part came from where; but it has the code. So what stands between quotes or braces in the code is the model's
own, and the rest, be it a document's text or a reply that repeats it, must not be able to speak as the prompt does.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from rlm.gateway.blocks import Block, outside, quote

FOREIGN_CHARS = 24  # a name, a number, a date between the model's words may stay where it is
SPARED_CHARS = 160  # of all such in one prompt together
PIECE_CHARS = (
    12  # a shorter piece of code is the model's own at either end of a prompt, or around a line's end
)
NAME = "put in by the code"
#: Characters looked through, and places found, for one prompt: what is not found by then is data.
WORK_CHARS, PLACES = 100_000_000, 20_000

_PIECES = (
    re.compile(r"[^\"{}%]+"),
    re.compile(r"[^'{}%]+"),
)  # a text in one kind of quotes may hold the other
_ESCAPES = re.compile(r"\\(?:\n|[nt\"'\\])")
_UNESCAPED = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\'": "'", "\\\\": "\\", "\\\n": ""}
_FOREIGN = re.compile(rb"\x00+")


def marked(prompt: str, own: Collection[str]) -> str:
    """The prompt with what no piece of the model's `own` words covers in data blocks. See `pieces`."""
    data = list(_data(prompt, _foreign(prompt, own)))
    parts, at = [], 0
    for start, end in data:
        before = prompt[at:start]
        parts += [
            before,
            "\n" if before and before[-1] != "\n" else "",
            quote([Block(NAME, prompt[start:end])]),
        ]
        parts += ["\n" if end < len(prompt) and prompt[end] != "\n" else ""]
        at = end
    return "".join([*parts, prompt[at:]])


def own_words(question: str) -> str:
    """What a child may take for its model's own words: its question, less the data that stands in it."""
    return outside(question)


def _foreign(prompt: str, own: Collection[str]) -> list[tuple[int, int]]:
    """The stretches of the prompt that no piece covers."""
    covered = bytearray(len(prompt))
    for start, size in _covering(prompt, own):
        covered[start : start + size] = b"\x01" * size
    return [found.span() for found in _FOREIGN.finditer(covered)]


def _covering(prompt: str, own: Collection[str]) -> Iterator[tuple[int, int]]:
    """(start, size) of each piece in the prompt; the short ones only where the prompt begins or ends with them."""
    yield from ((0, len(piece)) for piece in own if prompt.startswith(piece))
    yield from ((len(prompt) - len(piece), len(piece)) for piece in own if prompt.endswith(piece))
    telling = (piece for piece in own if len(piece) >= PIECE_CHARS or ("\n" in piece and len(piece) > 2))
    tried = sorted(telling, key=len, reverse=True)[: WORK_CHARS // (len(prompt) + 1)]
    yield from islice(((at, len(piece)) for piece in tried for at in _places(prompt, piece)), PLACES)


def _data(prompt: str, foreign: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The stretches to be marked: the long ones, or all of them where the short ones add up; blank ones never."""
    sizes = [len(prompt[start:end].strip()) for start, end in foreign]
    short = sum(size for size in sizes if size < FOREIGN_CHARS)
    least = 1 if short > SPARED_CHARS else FOREIGN_CHARS
    return (stretch for stretch, size in zip(foreign, sizes, strict=True) if size >= least)


def pieces(written: Iterable[str]) -> set[str]:
    """A model's own words, from its code and what it was asked: what they hold between quotes and braces, with and
    without its escapes undone, and each text as a whole."""
    found = set()
    for text in written:
        for form in (text, _ESCAPES.sub(lambda mark: _UNESCAPED[mark[0]], text)):
            found |= {form, *(piece for kind in _PIECES for piece in kind.findall(form))}
    return {piece for piece in found if len(piece) > 1 and not piece.isspace()}


def _places(prompt: str, piece: str) -> Iterator[int]:
    at = prompt.find(piece)
    while at >= 0:
        yield at
        at = prompt.find(piece, at + len(piece))
