"""One hit for passages that say the same in documents that are near-duplicates: the others stand beside it.

Which documents are alike the index holds. Whether two of their passages are is decided by their own words, signs and
digits, in order: where one clause differs, both passages stay.
"""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from index_store.tree import Tree
from index_store.types import Span

Numbers = npt.NDArray[np.int64]
#: Of a passage that was cut at other places, the share that the hit must show.
COMMON = 0.8
MOST_BESIDE = 20  # passages that are named beside a hit
# A number with its point and sign; a word; any sign but those that only punctuate.
_TOKEN = re.compile(r"[.,]?\d+(?:[.,:/]\d+)*|\w+|[^\w\s.,;:\"'“”‘’…`]")


def folded(tree: Tree, ranked: Iterable[int], k: int) -> dict[int, list[Span]]:
    """The first `k` of the nodes `ranked`, best first, that say what none before them says, in order.

    To each, the passages of other documents that say the same, as far as they are among `ranked`.
    """
    shown: dict[int, list[Span]] = {}
    rivals: dict[int, list[int]] = {}  # the hits in documents of one group
    sizes = np.bincount(tree.alike)
    for number in ranked:
        group = int(tree.alike[tree.leaf_documents[number]]) if number < tree.levels[0] else -1
        same = next((hit for hit in rivals.get(group, ()) if _same(tree, hit, number)), None)
        if same is not None:
            if (span := tree.span_at(number)) and len(shown[same]) < MOST_BESIDE:
                shown[same].append(span)
        elif len(shown) < k:
            shown[number] = []
            if group >= 0 and sizes[group] > 1:
                rivals.setdefault(group, []).append(number)
        elif not rivals:
            break
    return shown


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
