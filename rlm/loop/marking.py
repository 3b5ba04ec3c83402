"""Tell apart, in a prompt that code has put together, the words its model wrote from all else, which is marked as data.

Code often writes `llm_query(f"Does this name a date? {context.read(node)}")`. The parent cannot trust a worker to say
which part came from where; but it has the code. So what is between quotes or braces in the code is the model's own, and
the rest, be it a document's text or a reply that repeats it, must not be taken for an instruction of the prompt.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from rlm.gateway.blocks import Block, outside, quote

#: A shorter stretch of foreign text stays where it is: a name, a number or a date between the model's words.
FOREIGN_CHARS = 24
#: Characters of all such short stretches together; in a prompt that has more, all of them are marked.
SPARED_CHARS = 160
#: A shorter piece of code counts only at either end of a prompt, or where it holds the end of a line.
PIECE_CHARS = 12
NAME = "put in by the code"
#: Characters that are searched, and occurrences of pieces that are counted, for one prompt: the rest of it is data.
WORK_CHARS, PLACES = 100_000_000, 20_000

_PIECES = (
    re.compile(r"[^\"{}%]+"),
    re.compile(r"[^'{}%]+"),
)  # a text in one kind of quotes may hold the other
_ESCAPES = re.compile(r"\\(?:\n|[nt\"'\\])")
_UNESCAPED = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\'": "'", "\\\\": "\\", "\\\n": ""}
_FOREIGN = re.compile(rb"\x00+")


def marked(prompt: str, own: Collection[str]) -> str:
    """The prompt, in which everything that is not covered by a piece of the model's `own` words is in data blocks.

    `own`: as `pieces` gives them.
    """
    parts, at = [], 0
    for start, end in _to_mark(prompt, _foreign(prompt, own)):
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
    """A child's question without the data blocks in it: the words that count as the child's own."""
    return outside(question)


def _foreign(prompt: str, own: Collection[str]) -> list[tuple[int, int]]:
    """The stretches of the prompt that no piece covers."""
    covered = bytearray(len(prompt))
    for start, size in _covering(prompt, own):
        covered[start : start + size] = b"\x01" * size
    return [stretch.span() for stretch in _FOREIGN.finditer(covered)]


def _covering(prompt: str, own: Collection[str]) -> Iterator[tuple[int, int]]:
    """(start, size) of each piece in the prompt; the short ones only where the prompt begins or ends with them."""
    yield from ((0, len(piece)) for piece in own if prompt.startswith(piece))
    yield from ((len(prompt) - len(piece), len(piece)) for piece in own if prompt.endswith(piece))
    long = (piece for piece in own if len(piece) >= PIECE_CHARS or ("\n" in piece and len(piece) > 2))
    longest = sorted(long, key=len, reverse=True)[: WORK_CHARS // (len(prompt) + 1)]
    yield from islice(((at, len(piece)) for piece in longest for at in _places(prompt, piece)), PLACES)


def _to_mark(prompt: str, foreign: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The stretches to be marked: the long ones, or all of them where the short ones add up; blank ones never."""
    sizes = [len(prompt[start:end].strip()) for start, end in foreign]
    short = sum(size for size in sizes if size < FOREIGN_CHARS)
    least = 1 if short > SPARED_CHARS else FOREIGN_CHARS
    return (stretch for stretch, size in zip(foreign, sizes, strict=True) if size >= least)


def pieces(written: Iterable[str]) -> set[str]:
    """A model's own words, from the texts of its code and its question.

    They are what is between quotes or braces, with and without its escapes undone, and each text as a whole.
    """
    parts = set()
    for text in written:
        for form in (text, _ESCAPES.sub(lambda mark: _UNESCAPED[mark[0]], text)):
            parts |= {form, *(piece for kind in _PIECES for piece in kind.findall(form))}
    return {piece for piece in parts if len(piece) > 1 and not piece.isspace()}


def _places(prompt: str, piece: str) -> Iterator[int]:
    at = prompt.find(piece)
    while at >= 0:
        yield at
        at = prompt.find(piece, at + len(piece))
