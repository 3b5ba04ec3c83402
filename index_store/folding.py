"""One hit for passages that say the same in documents that are near-duplicates: the others stand beside it.

Which documents are alike the index holds. Whether two of their passages are is decided by their own words, signs and
digits, in order: where one clause differs, both passages stay.
"""

import re
from collections.abc import Iterable
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from index_store.tree import Tree

Numbers = npt.NDArray[np.int64]
#: Of a passage that was cut at other places, the share that the hit must show.
COMMON = 0.8
MOST_BESIDE = 20  # passages that are named beside a hit
# A number with its point and sign; a word; any sign but those that only punctuate.
_TOKEN = re.compile(r"[.,]?\d+(?:[.,:/]\d+)*|\w+|[^\w\s.,;:\"'“”‘’…`]")

# A file inside an archive or a mail, or one that is packed by itself.
_PACKED = re.compile(r"\.(?:zip|tar|tgz|tbz2|txz|gz|bz2|xz)(?:[/\\]|\Z)|\.eml[/\\]", re.IGNORECASE)
# A name that says it is a copy, or one of several: "lease (copy)", "Copy of lease", "lease - Kopie", "lease (2)".
_COPY = re.compile(r"(?<![^\W_])(?:copy|kopie|copie|copia)(?![^\W_])|\d\)?\Z", re.IGNORECASE)


def folded(tree: Tree, ranked: Iterable[int], k: int) -> dict[int, list[int]]:
    """The first `k` of the nodes `ranked`, best first, that say what none before them says, in order.

    To each, all that say the same, itself among them, as far as they are among `ranked`: first the one to show, which
    is in the document that is most likely the original.
    """
    shown: dict[int, list[int]] = {}
    rivals: dict[int, list[int]] = {}  # the hits in documents of one group
    sizes = np.bincount(tree.alike)
    for number in ranked:
        group = int(tree.alike[tree.leaf_documents[number]]) if number < tree.levels[0] else -1
        same = next((hit for hit in rivals.get(group, ()) if _same(tree, hit, number)), None)
        if same is not None:
            shown[same].append(number)
        elif len(shown) < k:
            shown[number] = [number]
            if group >= 0 and sizes[group] > 1:
                rivals.setdefault(group, []).append(number)
        elif not rivals:
            break
    return {hit: _leading(tree, hit, same)[: 1 + MOST_BESIDE] for hit, same in shown.items()}


def _leading(tree: Tree, hit: int, same: list[int]) -> list[int]:
    """These numbers, in front the one that stands in the likeliest original and shows what `hit` does."""
    if len(same) == 1:
        return same
    likely = sorted(same, key=lambda number: _unlikely(tree, int(tree.leaf_documents[number])))
    lead = next(number for number in likely if number == hit or _same(tree, number, hit))
    return [lead, *(number for number in same if number != lead)]


def _unlikely(tree: Tree, number: int) -> tuple[bool, bool, int, int]:
    """How unlikely a document is the original of those like it; the least is the likeliest."""
    document = tree.documents[number]
    is_copy = _COPY.search(PurePath(document.id).stem) is not None
    return _PACKED.search(document.source) is not None, is_copy, len(document.source), number


def _same(tree: Tree, hit: int, number: int) -> bool:
    """Whether the chunk `number`, of another document than `hit`, says what stands there, at or around `hit`."""
    document = tree.leaf_documents[hit]
    if document == tree.leaf_documents[number]:
        return False
    wanted, own = _tokens(tree, number), _tokens(tree, hit)
    if wanted == own:
        return True
    around = [n for n in (hit - 1, hit + 1) if 0 <= n < tree.levels[0] and tree.leaf_documents[n] == document]
    before = "".join(_tokens(tree, n) for n in around if n < hit)
    after = "".join(_tokens(tree, n) for n in around if n > hit)
    text, start = before + own + after, len(before)
    at = f" {text}".find(f" {wanted}") if wanted else -1
    common = min(at + len(wanted), start + len(own)) - max(at, start)
    return at >= 0 and common >= COMMON * len(wanted)


def _tokens(tree: Tree, number: int) -> str:
    """What a chunk says: its words, numbers and signs in lower case, a space after each."""
    return "".join(f"{token} " for token in _TOKEN.findall(tree.text_at(number).casefold()))
