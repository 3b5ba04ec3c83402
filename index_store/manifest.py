"""The manifest: what a generation holds, and how to tell that it is whole.

It carries no clock and no host name, so the same build gives the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from index_store.errors import BrokenIndex
from index_store.terminal import brief

FORMAT = 1
NAME = "manifest.json"
MAX_BYTES = 4 << 20
MOST_LEVELS = 255  # the table of nodes has a byte for it
MOST_NODES = 2**31 - 1  # and of documents: edges have 32 bits for them
MOST_GENERATIONS = 10**6
_INT64 = 2**63

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
# Where documents are near-duplicates of each other.
ALIKE = "documents_alike.npy"
# Which children a summary is not about, where there are such.
GUESTS = "children_guests.npy"
# All of them or none: none where there are few nodes.
INVERTED = frozenset(f"ivf/{name}.npy" for name in ("axes", "centroids", "offsets", "nodes", "codes"))
# All of them or none: none in an index of before there were any.
NAMES = frozenset(
    {
        "names/names.txt",
        *(f"names/{name}.npy" for name in ("offsets", "bearers", "titles", "chunk_offsets", "pairs")),
    }
)
# In an index that is a part of another: how many words each node has, as its scores are made when they are asked for.
LENGTHS = "lexical/lengths.npy"
SHARDS = "shards"  # the setting by which an index has parts, and the folder of what it keeps of all of them
# All of them or none: none in an index without parts.
OF_SHARDS = frozenset(
    {
        f"{SHARDS}/words.txt",
        f"{SHARDS}/names.txt",
        *(
            f"{SHARDS}/{name}.npy"
            for name in (
                "holders",
                "bearers",
                "name_offsets",
                "name_shards",
                "name_places",
                "name_numbers",
                "id_hashes",
                "id_documents",
            )
        ),
    }
)
# Where documents of several parts, or of one, are near-duplicates of each other.
ALIKE_OF_SHARDS = f"{SHARDS}/alike.npy"
#: What may be missing.
OPTIONAL = INVERTED | NAMES | OF_SHARDS | {ALIKE, GUESTS, LENGTHS, ALIKE_OF_SHARDS}


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
        data = json.loads(raw, parse_constant=_refuse)
        if data.get("format") != FORMAT:
            raise BrokenIndex(
                f"{where} has format {brief(data.get('format'))}, this version reads format {FORMAT}; "
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
        is_sealed = manifest.digest == digest_of(manifest) and dumps(manifest) == raw
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        raise BrokenIndex(
            f"{where} is damaged ({type(e).__name__}: {e}); copy or build the index again"
        ) from e
    groups = (group for group in (INVERTED, NAMES, OF_SHARDS) if files.keys() & group)
    wanted = FILES.union(files.keys() & {ALIKE, GUESTS, LENGTHS, ALIKE_OF_SHARDS}, *groups)
    missing, strange = sorted(wanted - files.keys()), sorted(files.keys() - wanted)
    if missing or strange:
        raise BrokenIndex(
            f"{where} lists the wrong files (missing {missing}, unknown [{', '.join(map(brief, strange[:9]))}]); "
            "build the index again"
        )
    if fault := _fault(manifest):
        raise BrokenIndex(f"{where} {fault}; build the index again")
    if not is_sealed:
        raise BrokenIndex(
            f"{where} does not match its own digest: it was changed after publishing; build it again"
        )
    return manifest


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is no number of JSON")


def _fault(manifest: Manifest) -> str:
    """What no index has, though it may be written down in a manifest; "" for nothing."""
    levels, sizes = manifest.levels, [entry.size for entry in manifest.files.values()]
    if not levels or len(levels) > MOST_LEVELS or min(levels) < 1 or levels[-1] != 1:
        return f"gives {len(levels):,} levels; there are 1 to {MOST_LEVELS} of at least one node, the last of one root"
    if sum(levels) > MOST_NODES or not 1 <= manifest.documents <= MOST_NODES:
        return (
            f"gives {brief(sum(levels))} nodes and {brief(manifest.documents)} documents, which no index has"
        )
    if not 0 <= min(sizes) <= max(sizes) < _INT64:
        return f"gives a file of {brief(min(sizes))} to {brief(max(sizes))} bytes, which none has"
    if not 0 < manifest.generation < MOST_GENERATIONS or not 0 < (manifest.parent or 1) < MOST_GENERATIONS:
        return (
            f"gives generation {brief(manifest.generation)} of {brief(manifest.parent)}, which has no folder"
        )
    return ""
