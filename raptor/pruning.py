"""Delete old generations, and the recorded results that only they needed."""

import hashlib
from pathlib import Path

from index_store.generations import list_generations, prune
from index_store.index import Index, open_generation
from raptor.checkpoint import NAME, Checkpoint, build_lock
from raptor.grower import is_summary
from raptor.loading.processes import is_parsed


def prune_index(index: str | Path, keep: int = 1) -> tuple[list[int], int]:
    """Delete generations; give their numbers, and how many recorded texts and summaries were dropped with them.

    The live generation stays, and the `keep` - 1 newest others, with the texts and summaries in them; so does what an
    unfinished build has recorded. Raises BrokenIndex where there is no index, RaptorError while another build runs.
    """
    path = Path(index)
    list_generations(path)  # raises where there is no index, before the lock makes a folder
    with build_lock(path):
        deleted = prune(path, keep)
        return deleted, _forget(path) if (path / NAME).exists() else 0


def _forget(path: Path) -> int:
    texts, summaries = set[str](), set[tuple[str, str]]()
    for generation in list_generations(path):
        staying = open_generation(path, generation.number)
        texts |= {document.sha256 for document in staying.documents}
        summaries |= _summaries(staying)
    with Checkpoint(path) as checkpoint:
        parsed = checkpoint.retain("parsed", lambda row: is_parsed(row) and _sha256(row["text"]) in texts)
        return parsed + checkpoint.retain(
            "summary", lambda row: is_summary(row) and (row["label"], row["text"]) in summaries
        )


def _summaries(index: Index) -> set[tuple[str, str]]:
    return {(index.at(n).label, index.text_at(n)) for n in range(index.levels[0], len(index))}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
