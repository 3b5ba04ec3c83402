"""Data blocks: the only way a document's text enters a prompt.

Each block stands below a marked line, and a marked line with their number ends them all. The mark is a hash of all the
blocks, chosen so that it occurs in none of them: no text can close its own block or open another.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

#: A mark of few digits costs few tokens. It need not be hard to guess, as it is one that no text holds.
MARK_DIGITS = 4
_TRIES = 8  # marks of one length, until a longer one is taken

_LINE = re.compile(
    r"^<<<(?:DATA (?P<mark>[0-9a-f]{4,64}) (?P<head>.*)|END (?P<ended>[0-9a-f]{4,64}) (?P<n>[1-9]\d{0,8}))>>>$",
    re.MULTILINE | re.ASCII,
)

_BAR = " | "  # between what a block is cited by and where it is from

#: Inside so many runs of blocks whose hashes are wrong no other is looked for. Each is hashed whole, and they may lie
#: one in another: without a bound, a prompt of nothing but marks would be hashed once for each.
FALSE_AROUND = 8


@dataclass(frozen=True, slots=True)
class Block:
    """A named piece of data. `name` (e.g. "os.txt 120-560"): by it the block is cited, on one line without " | ".

    `about`: where the text is from, on one line, such as the title and the page.
    """

    name: str
    text: str
    about: str = ""

    def __post_init__(self) -> None:
        if "\n" in self.head or _BAR in self.name:
            raise ValueError(f"the block name {self.head!r} holds a newline or a bar; use `block_name`")

    @property
    def head(self) -> str:
        """What stands in the block's first line."""
        return f"{self.name}{_BAR}{self.about}" if self.about else self.name


def block_name(words: str) -> str:
    """Any words as the name of a block."""
    return words.replace("\n", " ").replace("|", "¦")


def quote(blocks: Sequence[Block]) -> str:
    """The blocks as text for a prompt; `unquote` gives them back exactly. No blocks: empty."""
    if not blocks:
        return ""
    mark = _mark(blocks)
    lines = (f"<<<DATA {mark} {block.head}>>>\n{block.text}\n" for block in blocks)
    return f"{''.join(lines)}<<<END {mark} {len(blocks)}>>>"


def unquote(prompt: str) -> list[Block]:
    """All blocks that `quote` wrote into a prompt, in order, whatever stands around them.

    Lines that look like marks but do not carry the hash of what they enclose are ordinary text.
    """
    return [block for _, _, blocks in _groups(prompt) for block in blocks]


def outside(prompt: str) -> str:
    """The prompt without its data blocks: the instructions, which documents cannot write into."""
    parts, at = [], 0
    for start, end, _ in _groups(prompt):
        parts.append(prompt[at:start])
        at = end
    return "".join([*parts, prompt[at:]])


def _mark(blocks: Sequence[Block]) -> str:
    parts = [part.encode("utf-8", "surrogatepass") for block in blocks for part in (block.head, block.text)]
    content = hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()
    hashes = (hashlib.sha256(content + b"%d" % salt).hexdigest() for salt in count())
    marks = (digits[: MARK_DIGITS + salt // _TRIES] for salt, digits in enumerate(hashes))
    return next(mark for mark in marks if not any(mark in b.head or mark in b.text for b in blocks))


def _groups(prompt: str) -> Iterator[tuple[int, int, list[Block]]]:
    """Each true run of blocks: where it starts and ends in the prompt, and the blocks."""
    end, false_ends = 0, list[int]()
    for lines in _runs(prompt):
        start, past = lines[0].start(), lines[-1].end()
        false_ends = [at for at in false_ends if at > start]
        if start < end or len(false_ends) >= FALSE_AROUND:
            continue
        if quote(blocks := _between(prompt, lines)) == prompt[start:past]:
            end = past
            yield start, end, blocks
        else:
            false_ends.append(past)


def _runs(prompt: str) -> list[list[re.Match[str]]]:
    """The lines of each run that may be true, by where it starts: DATA lines of one mark, then END with their number.

    A line is of one run at most, so that all runs together have no more lines than the prompt.
    """
    opened: dict[str, list[re.Match[str]]] = {}
    runs = []
    for line in _LINE.finditer(prompt):
        if line["mark"]:
            opened.setdefault(line["mark"], []).append(line)
        elif len(lines := opened.pop(line["ended"], [])) >= int(line["n"]):
            runs.append([*lines[-int(line["n"]) :], line])
    return sorted(runs, key=lambda lines: lines[0].start())


def _between(prompt: str, lines: Sequence[re.Match[str]]) -> list[Block]:
    return [
        _block(a["head"], prompt[a.end() + 1 : max(a.end() + 1, b.start() - 1)]) for a, b in pairwise(lines)
    ]


def _block(head: str, text: str) -> Block:
    name, _, about = head.partition(_BAR)
    return Block(name, text, about)
