"""The manifest: what a generation holds, and how to tell that it is whole.

It carries no clock and no host name, so the same build gives the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from index_store.errors import BrokenIndex

FORMAT = 1
NAME = "manifest.json"
MAX_BYTES = 64 * 2**20

# The files of a generation, and nothing else: a stranger's manifest cannot point elsewhere.
FILES = frozenset(
    {
        "documents.jsonl",
        "documents_lines.npy",
        "documents_order.npy",
        "documents_text.npy",
        "text.bin",
        "text_marks.npy",
        "nodes.npy",
        "summaries.bin",
        "labels.bin",
        "children.npy",
        "children_offsets.npy",
        "parents.npy",
        "parents_offsets.npy",
        "vectors.npy",
        "lexical/scores.npy",
        "lexical/nodes.npy",
        "lexical/offsets.npy",
        "lexical/words.txt",
    }
)
# All of them or none: none where there are few nodes.
INVERTED = frozenset(f"ivf/{name}.npy" for name in ("axes", "centroids", "offsets", "nodes", "codes"))


@dataclass(frozen=True, slots=True)
class FileEntry:
    """How many bytes a file has, and their sha256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one generation holds.

    `parent`: the generation that was live before it. `documents`: how many. `levels[i]`: nodes at level i. `models`:
    names and fingerprints of the embedder and the summarizer. `settings`: those of the build. `files`: by path in the
    generation's folder. `digest`: see `digest_of`.
    """

    generation: int
    parent: int | None
    documents: int
    levels: tuple[int, ...]
    models: Mapping[str, str]
    settings: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    format: int = FORMAT
    digest: str = field(default="")


def digest_of(manifest: Manifest) -> str:
    """sha256, in hex, over all but the generation's and its parent's number: equal content has equal digests."""
    body = asdict(manifest) | {"generation": None, "parent": None, "digest": None}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def dumps(manifest: Manifest) -> bytes:
    """The bytes of the file: one manifest has one form."""
    return (json.dumps(asdict(manifest), sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode()


def loads(raw: bytes, where: Path) -> Manifest:
    """Parse and check a manifest. Raises BrokenIndex, which names the file `where` and what is wrong with it."""
    try:
        data = json.loads(raw)
        if data.get("format") != FORMAT:
            raise BrokenIndex(
                f"{where} has format {data.get('format')!r}, this version reads format {FORMAT}; "
                "rebuild the index or install the version that wrote it"
            )
        files = {str(name): FileEntry(int(f["size"]), str(f["sha256"])) for name, f in data["files"].items()}
        manifest = Manifest(
            generation=int(data["generation"]),
            parent=None if data["parent"] is None else int(data["parent"]),
            documents=int(data["documents"]),
            levels=tuple(int(n) for n in data["levels"]),
            models={str(k): str(v) for k, v in data["models"].items()},
            settings=dict(data["settings"]),
            files=files,
            digest=str(data["digest"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise BrokenIndex(
            f"{where} is damaged ({type(e).__name__}: {e}); copy or build the index again"
        ) from e
    wanted = FILES | INVERTED if files.keys() & INVERTED else FILES
    missing, strange = sorted(wanted - files.keys()), sorted(files.keys() - wanted)
    if missing or strange:
        raise BrokenIndex(
            f"{where} lists the wrong files (missing {missing}, unknown {strange}); build the index again"
        )
    if not manifest.levels or min(manifest.levels) < 1 or manifest.levels[-1] != 1:
        raise BrokenIndex(
            f"{where} has levels {list(manifest.levels)}; an index ends in one root; build it again"
        )
    if manifest.digest != digest_of(manifest) or dumps(manifest) != raw:
        raise BrokenIndex(
            f"{where} does not match its own digest: it was changed after publishing; build it again"
        )
    return manifest
