"""Whether two texts have the same words, and differ in nothing but how they are spaced and set.

Text from a PDF breaks its lines anywhere, within words too, and has ligatures and soft hyphens; a model that quotes it
mends them, and changes quotation marks and dashes. None of that changes a word. What may: another letter, in case too,
another digit, mark or order, a hyphen within a line ("re-sign" is not "resign"), a blank that comes or goes.
"""

import re
import unicodedata

#: The similarity of a stretch with the same words in the same order, and other marks, spaces or case.
SAME_WORDS = 0.99
#: Marks that say the same, the one that stands for all of them last.
ALIKE = ("‘’‚‛'", '“”„‟«»"', "–—‐‑‒―−-")
_ONE_MARK = str.maketrans({mark: marks[-1] for marks in ALIKE for mark in marks})
_LIGATURES = str.maketrans(dict(zip("ﬀﬁﬂﬃﬄﬅﬆ", ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True)))
_LETTER = r"[^\W\d_]"
_LINE_END = r"\s*[\n\r\f\v\x1c-\x1e\x85\u2028\u2029]\s*"
#: Scripts without a blank between words, where the end of a line stands for none either.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
# A hyphen at a line's end between two letters may have been put there, or not; any other mark of its kind was there.
_SPACING = re.compile(
    rf"(?<={_LETTER})(?P<hyphen>[-‐‑]|\u00ad+){_LINE_END}(?={_LETTER})"
    rf"|(?<=\S[{ALIKE[2]}])(?P<dashed>{_LINE_END})(?=\S)"
    rf"|(?P<nothing>\u00ad+|(?<=[{_UNSPACED}])\s+(?=[{_UNSPACED}]))"
    r"|\s+"
)
#: In a text made plain: a hyphen that may be none, and a blank that may be none.
_HYPHEN, _BLANK = "\n", "\t"


def one_mark(text: str) -> str:
    """The text with one kind of quotation mark, apostrophe and dash; every character keeps its place."""
    return text.translate(_ONE_MARK)


def same_words(one: str, other: str) -> bool:
    """Whether two texts have the same words in the same order, with the same marks, in the same case.

    They may differ in white space, as long as some stays, in words parted at a line's end, in ligatures, in soft
    hyphens, and in the kind of quotation mark or dash. Time is linear in their length.
    """
    a, b = _plain(one), _plain(other)
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            i, j = i + 1, j + 1
        elif a[i] in (_HYPHEN, _BLANK):
            i, j = i + 1, _past(b, j, a[i])
        elif b[j] in (_HYPHEN, _BLANK):
            i, j = _past(a, i, b[j]), j + 1
        else:
            return False
    return i == len(a) and j == len(b)


def _plain(text: str) -> str:
    """The text with one mark of each kind, one blank between words, _HYPHEN and _BLANK where a line's end hides it."""
    composed = unicodedata.normalize("NFC", text.translate(_LIGATURES)).strip()
    return one_mark(_SPACING.sub(_spaced, composed))


def _spaced(match: re.Match[str]) -> str:
    kinds = {"hyphen": _HYPHEN, "dashed": _BLANK, "nothing": ""}
    return kinds.get(match.lastgroup or "", " ")


def _past(text: str, at: int, mark: str) -> int:
    """Where a plain text goes on after what a _HYPHEN or a _BLANK stands for in it, which may be nothing."""
    if mark == _HYPHEN:
        if text[at] != "-":
            return at
        at += 1
    return at + (text[at : at + 1] in (" ", _BLANK))
