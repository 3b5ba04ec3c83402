"""The manifest: what a generation holds, and how to tell that it is whole.

It carries no clock and no host name, so the same build gives the same bytes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from index_store.errors import BrokenIndex
from index_store.terminal import brief, one_line

FORMAT = 1
NAME = "manifest.json"
MAX_BYTES = 4 << 20
MOST_LEVELS = 255  # the table of nodes has a byte for it
MOST_NODES = 2**31 - 1  # and of documents: edges have 32 bits for them
MOST_GENERATIONS = 10**6
_INT64 = 2**63
_MOST_DIGITS = 4_000  # of a number; Python makes none of more than 4,300
#: What each value of a manifest is.
_KINDS: Mapping[str, Any] = {
    "generation": int,
    "parent": int | None,
    "documents": int,
    "levels": list,
    "models": dict,
    "settings": dict,
    "files": dict,
    "digest": str,
}
_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    int | None: "a whole number or null",
    list: "a list",
    dict: "a table",
    str: "a text",
}

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
        data = json.loads(raw, parse_constant=_refuse, parse_int=_whole)
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise BrokenIndex(
                f"{where} has format {_said(data.get('format'))}, this version reads format {FORMAT}; "
                "rebuild the index or install the version that wrote it"
            )
        if fault := _misshapen(data):
            raise ValueError(fault)
        files = {name: FileEntry(entry["size"], entry["sha256"]) for name, entry in data["files"].items()}
        manifest = Manifest(
            generation=data["generation"],
            parent=data["parent"],
            documents=data["documents"],
            levels=tuple(data["levels"]),
            models=data["models"],
            settings=data["settings"],
            files=files,
            digest=data["digest"],
        )
        is_sealed = manifest.digest == digest_of(manifest) and dumps(manifest) == raw
    except (ValueError, RecursionError) as e:
        raise BrokenIndex(f"{where} is damaged ({_why(e)}); copy or build the index again") from e
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


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    is_unread = isinstance(error, json.JSONDecodeError | UnicodeDecodeError)
    return f"it is no JSON: {error}" if is_unread else str(error)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is no number of JSON")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(digits):,} digits")
    return int(digits)


def _misshapen(data: Any) -> str:
    """Which value of a manifest is not of the kind that it should be, in words; "" for none."""
    if not isinstance(data, dict):
        return f"it is {_said(data)}, not a table"
    if missing := [name for name in _KINDS if name not in data]:
        return f"it has no `{missing[0]}`"
    for name, value, kind in _values(data):
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"`{one_line(name, 80)}` is {_said(value)}, not {_WORDS[kind]}"
    return ""


def _values(data: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The values of a manifest, each with its place and the kind that it should be, before those that stand in it."""
    for name, kind in _KINDS.items():
        yield name, data[name], kind
    for place, nodes in enumerate(data["levels"]):
        yield f"levels[{place}]", nodes, int
    for name, model in data["models"].items():
        yield f"models.{name}", model, str
    for name, entry in data["files"].items():
        yield f"files.{name}", entry, dict
        yield f"files.{name}.size", entry.get("size"), int
        yield f"files.{name}.sha256", entry.get("sha256"), str


def _said(value: Any) -> str:
    """A value of JSON as a sentence names it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return _WORDS[type(value)] if isinstance(value, dict | list) else brief(value)


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
            f"gives generation {_said(manifest.generation)} of {_said(manifest.parent)}, which has no folder"
        )
    return ""
