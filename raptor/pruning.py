"""Delete old generations, and then what `build.sqlite` kept for none but those."""

import hashlib
from pathlib import Path

from index_store.generations import generations, prune
from index_store.index import Index, open_generation
from raptor.checkpoint import NAME, Checkpoint, build_lock


def prune_index(index: str | Path, keep: int = 1) -> tuple[list[int], int]:
    """The numbers of the generations deleted, and how many parsed texts and summaries were dropped with them.

    The live generation stays and the `keep` - 1 newest others, what they were made from, and what a build that has not
    ended recorded. Raises BrokenIndex, or RaptorError while another build runs.
    """
    path = Path(index)
    generations(path)  # raises where there is no index, before the lock makes a folder
    with build_lock(path):
        gone = prune(path, keep)
        return gone, _forget(path) if (path / NAME).exists() else 0


def _forget(path: Path) -> int:
    texts, summaries = set[str](), set[tuple[str, str]]()
    for generation in generations(path):
        kept = open_generation(path, generation.number)
        texts |= {document.sha256 for document in kept.documents}
        summaries |= _summaries(kept)
    with Checkpoint(path) as checkpoint:
        parsed = checkpoint.retain("parsed", lambda row: _sha256(row["text"]) in texts)
        return parsed + checkpoint.retain("summary", lambda row: (row["label"], row["text"]) in summaries)


def _summaries(index: Index) -> set[tuple[str, str]]:
    return {(index.at(n).label, index.text_at(n)) for n in range(index.levels[0], len(index))}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
