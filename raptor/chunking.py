"""Cut a document into chunks: spans that tile it exactly, each within a token budget.

The text is tokenised once, with offsets, and the cut points are then chosen among its separators. A splitter that
decodes tokens back into text cannot do this: a lower-casing tokenizer loses the original characters, so the spans
no longer fit, and a word that the tokenizer does not know counts as one token however long it is.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator

from index_store.embedder import Offsets, TokenOffsets

# A word unknown to a WordPiece vocabulary is one token of any length, and spaces are none at all: so characters are
# capped too. English prose has 4 to 5 characters a token.
CHARS_PER_TOKEN = 16

_PIECE = re.compile(r".{1,4000}(?:\s|\Z)|.{1,4000}", re.DOTALL)
_HEADING = r"#{1,6}[ \t]+\S"
_HEADING_LINE = re.compile(rf"[ ]{{0,3}}{_HEADING}")
_END = r"[.!?…][\"'”’)\]*_]*"

# Best first. A cut leaves the white space with the chunk before it, but a line's indentation with that line.
# A line end that ends no sentence comes after a sentence end: hard-wrapped prose breaks its lines anywhere.
_BEFORE_HEADING = re.compile(rf"\n(?=[ ]{{0,3}}{_HEADING})")
_WORDS = re.compile(r"\s+")
_SEPARATORS = (
    *(
        re.compile(pattern)
        for pattern in (
            r"\n[^\S\n]*\n\s*\n|\n[^\S\n]*\n|[\f\u2029]+",
            rf"{_END}[^\S\n]*\n",
            rf"{_END}[^\S\n]+|[。！？]+[」』）”’]*",
            r"\r?\n|[\r\u2028\x85]",
            r"[,;:][^\S\n]+|[，、；：]",
        )
    ),
    _WORDS,
)


def chunk(text: str, token_offsets: TokenOffsets, max_tokens: int) -> list[Offsets]:
    """Spans `(start, end)` in characters that tile `text`: 0, then each end is the next start, then `len(text)`.

    Each holds at most `max_tokens` tokens when tokenised on its own (one character that is more tokens than that
    stands alone). Cuts prefer headings, paragraphs, sentences, lines, clauses, words, in this order. No chunk is
    white space only unless the text is. Empty text has no chunks. `token_offsets` gives, for each of a batch of
    texts, its tokens' character spans without special tokens.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; a chunk needs at least 1")
    starts = [start for piece in _token_starts(text, token_offsets) for start in piece]
    spans = list(_pack(text, 0, len(text), starts, max_tokens))
    return _recounted(text, spans, token_offsets, max_tokens)


def _token_starts(text: str, token_offsets: TokenOffsets) -> Iterator[list[int]]:
    """The token starts of `text`, tokenised in pieces cut at white space, so that one long line stays cheap."""
    pieces = [match.span() for match in _PIECE.finditer(text)]
    tokens = token_offsets([text[start:end] for start, end in pieces])
    for (offset, _), inside in zip(pieces, tokens, strict=True):
        yield [offset + start for start, _ in inside]


def _recounted(
    text: str, spans: list[Offsets], token_offsets: TokenOffsets, max_tokens: int
) -> list[Offsets]:
    """`spans` with each one that is over budget on its own split again: a word cut in two may count for more."""
    done: dict[int, int] = {}
    while spans:
        tokens = token_offsets([text[start:end] for start, end in spans])
        over: list[Offsets] = []
        for (start, end), inside in zip(spans, tokens, strict=True):
            if len(inside) <= max_tokens or end - start == 1:
                done[start] = end
            else:
                over += _pack(text, start, end, [start + first for first, _ in inside], max_tokens)
        spans = over
    return sorted(done.items())


def _pack(text: str, start: int, stop: int, starts: list[int], max_tokens: int) -> Iterator[Offsets]:
    """Fill chunks from left to right; `starts` are the token starts inside `start:stop`, ascending."""
    first = bisect_left(starts, start)
    while start < stop:
        end = _next_cut(text, start, stop, starts, first, max_tokens)
        yield start, end
        start, first = end, bisect_left(starts, end, first)


def _next_cut(text: str, start: int, stop: int, starts: list[int], first: int, max_tokens: int) -> int:
    """Where the chunk that begins at `start` ends; `first` is the number of its first token."""
    left = len(starts) - first
    # What is left for the last two chunks is shared between them, so that no scrap of a few words stands alone.
    take = max_tokens if left >= 2 * max_tokens or left <= max_tokens else min(max_tokens, left * 5 // 8 + 1)
    limit = _after_space(text, _text_start(text, start, stop) + max_tokens * CHARS_PER_TOKEN, stop)
    high = min(limit, starts[first + take] if take < left else stop)
    if high >= stop:
        return stop
    high = max(high, start + 1)
    half = starts[first + take // 2] if take // 2 < left else start
    quarter = starts[first + take // 4] if take // 4 < left else start
    return _best_cut(text, start, min(quarter, high - 1), min(half, high - 1), high)


def _text_start(text: str, start: int, stop: int) -> int:
    match = re.compile(r"\S").search(text, start, stop)
    return match.start() if match else stop


def _after_space(text: str, at: int, stop: int) -> int:
    """`at`, or the end of the white space that it stands in."""
    return _text_start(text, at, stop) if at < stop else stop


def _best_cut(text: str, start: int, quarter: int, half: int, high: int) -> int:
    """The last cut of the best kind in `half:high` (before headings: `quarter:high`), else `high`."""
    for low, pattern in ((quarter, _BEFORE_HEADING), *((half, each) for each in _SEPARATORS)):
        # Look-aheads need to see past `high`.
        matches = pattern.finditer(text, low, min(len(text), high + 8))
        ends = [match.end() for match in matches if low < match.end() <= high]
        # A heading stays with what follows it. One longer than the budget is cut between words.
        kept = reversed(ends) if pattern is _WORDS else _not_after_a_heading(text, start, ends)
        if (end := next(kept, None)) is not None:
            return end
    return high


def _not_after_a_heading(text: str, start: int, ends: list[int]) -> Iterator[int]:
    """Those of `ends`, the last first, before which the last line with words in `text[start:end]` is no heading."""
    words_end = len(text) + 1
    for end in reversed(ends):
        if end >= words_end:
            continue  # in the white space after the same heading, which may be as long as the text
        words = text[start:end].rstrip()
        if _HEADING_LINE.match(words.rpartition("\n")[2]):
            words_end = start + len(words)
        else:
            yield end
