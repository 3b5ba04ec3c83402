"""Data blocks: the only way a document's text enters a prompt.

Each block stands between two marked lines. The mark is a hash of all the blocks, chosen so that it
occurs in none of them: no text can close its own block or open another.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

_LINE = re.compile(
    r"^<<<(?P<word>DATA|END) (?P<mark>[0-9a-f]{12}) (?P<i>[1-9]\d{0,8})/(?P<n>[1-9]\d{0,8})"
    r"(?: (?P<name>.*))?>>>$",
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
    mark = _mark(blocks)
    n = len(blocks)
    return "\n".join(
        f"<<<DATA {mark} {i}/{n} {block.head}>>>\n{block.text}\n<<<END {mark} {i}/{n}>>>"
        for i, block in enumerate(blocks, 1)
    )


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
    marks = (hashlib.sha256(content + b"%d" % salt).hexdigest()[:12] for salt in count())
    return next(mark for mark in marks if not any(mark in b.head or mark in b.text for b in blocks))


def _groups(prompt: str) -> Iterator[tuple[int, int, list[Block]]]:
    """Each true run of blocks: where it starts and ends in the prompt, and the blocks."""
    lines = list(_LINE.finditer(prompt))
    same_mark: dict[str, list[re.Match[str]]] = {}
    for line in lines:
        same_mark.setdefault(line["mark"], []).append(line)
    nth: Counter[str] = Counter()
    end, false_ends = 0, list[int]()
    for line in lines:
        first = nth[line["mark"]]
        nth[line["mark"]] += 1
        if line.start() < end or line["i"] != "1" or line["word"] != "DATA":
            continue
        false_ends = [at for at in false_ends if at > line.start()]
        group = _in_order(same_mark[line["mark"]], first) if len(false_ends) < FALSE_AROUND else []
        if not group:
            continue
        if quote(blocks := _between(prompt, group)) == prompt[line.start() : group[-1].end()]:
            end = group[-1].end()
            yield line.start(), end, blocks
        else:
            false_ends.append(group[-1].end())


def _in_order(lines: Sequence[re.Match[str]], first: int) -> list[re.Match[str]]:
    """The lines DATA 1/n, END 1/n, ... END n/n from the `first` of these lines on; [] where they are not in order.

    Stops at the first line that is not the next one: so all groups of one mark together read each line twice at most.
    """
    n = int(lines[first]["n"])
    if first + 2 * n > len(lines):
        return []
    wanted = ((word, i, n) for i in range(1, n + 1) for word in ("DATA", "END"))
    for at, words in enumerate(wanted, first):
        if (lines[at]["word"], int(lines[at]["i"]), int(lines[at]["n"])) != words:
            return []
    return list(lines[first : first + 2 * n])


def _between(prompt: str, lines: Sequence[re.Match[str]]) -> list[Block]:
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [_block(a["name"] or "", prompt[a.end() + 1 : max(a.end() + 1, b.start() - 1)]) for a, b in pairs]


def _block(head: str, text: str) -> Block:
    name, _, about = head.partition(_BAR)
    return Block(name, text, about)
