"""Indexes as a stranger might send them: one thing is wrong, and the manifest is sealed again so that it opens.

python -m tests.helpers.mutated SECONDS [SEED]   tries mutation after mutation and prints what ends in a traceback
"""

import contextlib
import io
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import unittest.mock
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from index_store import vectors
from index_store.errors import IndexStoreError
from index_store.files import sha256_of
from index_store.graph import level_stats, to_networkx
from index_store.index import Index, open_index
from index_store.manifest import FileEntry, Manifest, digest_of
from index_store.name_table import name_table
from index_store.picture import page
from index_store.provenance import nodes_above, sources
from index_store.types import MODES, Hit, Mode, Span
from index_store.verify import verify_index
from index_store.view import View
from index_store.writer import publish
from raptor.cli import main
from tests.helpers.toy import TEXTS, toy_draft, unit_rows

#: Numbers at which something overflows, wraps, ends, or is just past its end.
EXTREMES = [
    0,
    1,
    -1,
    2,
    5,
    6,
    7,
    127,
    128,
    1024,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    -(2**63),
]
FLOATS = [0.0, -0.0, 1e-45, 3e38, -3e38, float("inf"), float("-inf"), float("nan")]
JSON_VALUES: list[Any] = [
    *EXTREMES,
    *FLOATS,
    10**30,
    1e308,
    None,
    True,
    "",
    "\ud800",
    "x" * 100_000,
    [],
    {},
    [[]],
    [None],
    [-1],
    [[0, 0, "x"]],
    [[2**70, 2**70, "x"]],
    {"a": 1},
    {"a": {"b": []}},
]
HEADERS = [
    "{'descr': '<i8', 'fortran_order': False, 'shape': (4611686018427387904,), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<i8', 'fortran_order': True, 'shape': (3, 3), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (9,), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
    "{'descr': [('a', '<i8', (1000000, 1000000))], 'fortran_order': False, 'shape': (9,), }",
    "{'descr': 'x', 'fortran_order': 1, 'shape': 5, }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (9,), 'more': 1}",
    "(" * 900,
    "[" * 60_000,
    "{}",
    "",
    "\0" * 64,
    "{'descr': '<i8', 'fortran_order': False, 'shape': (" + "1," * 40 + "), }",
]

Change = Callable[[random.Random, Path], None]
# What names the chunks of the toy index bear, in the words of no text of it.
_NAMED = [
    ("The Ketch met Yawl.", ["boats"]),
    ("Yawl", ["boats"]),
    ("", []),
    ("Maße of Ketch", []),
    ("", []),
    ("", []),
]


def mutable_index(path: Path) -> None:
    """An index to mutate: the toy one with pages, sections, metadata, names and an inverted file."""
    draft = toy_draft()
    documents = [
        (
            replace(
                d, pages=(0, 3), sections=((0, 1, "Head"), (2, 2, "Part")), meta={"year": "1999", "id": "x"}
            ),
            text,
        )
        for d, text in draft.documents
    ]
    exact = vectors.EXACT_NODES
    vectors.EXACT_NODES = 2
    try:
        models = {"embedder": "toy", "embedder_fingerprint": "toy", "summarizer": "offline/extractive"}
        draft = replace(draft, documents=documents, names=name_table(_NAMED))
        publish(path, draft, models, {"seed": 0, "cluster": {"method": "x"}})
    finally:
        vectors.EXACT_NODES = exact


def mutated_index(rng: random.Random, source: Path, target: Path) -> str:
    """Copy the index `source` to `target` with one to three things wrong; says which."""
    shutil.copytree(source, target)
    folder = target / "generations" / "000001"
    chosen = rng.choices(CHANGES, k=rng.choice([1, 1, 1, 2, 3]))
    for change in chosen:
        with contextlib.suppress(Exception):  # an earlier one left nothing to change
            change(rng, folder)
    return ", ".join(change.__name__.strip("_") for change in chosen)


def seal(folder: Path, **changes: Any) -> None:
    """Write a manifest over the files as they are, with its own digest, and `CURRENT` with it.

    `changes`: values of the manifest as JSON, right or wrong.
    """
    path = folder / "manifest.json"
    data = json.loads(path.read_text()) | changes
    if isinstance(data["files"], dict):
        for name in data["files"]:
            file = folder / name
            if file.is_file() and "files" not in changes:
                data["files"][name] = {"sha256": sha256_of(file), "size": file.stat().st_size}
    path.write_text(json.dumps(data, sort_keys=True, indent=1) + "\n")
    data["digest"] = _digest(data)
    path.write_text(json.dumps(data, sort_keys=True, indent=1) + "\n")
    digest = data["digest"] if isinstance(data["digest"], str) else "0" * 64
    (folder.parents[1] / "CURRENT").write_text(f"000001 {digest}\n")


def _digest(data: dict[str, Any]) -> Any:
    """The digest of a manifest, whatever its values are; its own where it cannot be computed."""
    try:
        fields = {name: data[name] for name in Manifest.__slots__ if name != "files"}
        files = {name: FileEntry(f["size"], f["sha256"]) for name, f in data["files"].items()}
        return digest_of(Manifest(**fields, files=files))
    except (TypeError, KeyError, AttributeError, RecursionError, ValueError):
        return data.get("digest")


# -- what is done to an index ------------------------------------------------------------------------------


def _arrays(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy"))


def _blobs(folder: Path) -> list[Path]:
    lists = [folder / "documents.jsonl", folder / "lexical" / "words.txt", folder / "names" / "names.txt"]
    return [*sorted(folder.glob("*.bin")), *lists]


def _flip_bits(rng: random.Random, folder: Path) -> None:
    file = rng.choice([*_arrays(folder), *_blobs(folder)])
    raw = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 30]) if raw else 0):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    file.write_bytes(raw)
    seal(folder)


def _set_numbers(rng: random.Random, folder: Path) -> None:
    """Some numbers of an array become extreme ones."""
    file = rng.choice(_arrays(folder))
    array = np.load(file)
    name = rng.choice(array.dtype.names) if array.dtype.names else None
    column = array[name] if name else array.reshape(-1)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place in rng.choices(range(len(column)), k=rng.choice([1, 1, 2, len(column)])):
            value = rng.choice(
                FLOATS if column.dtype.kind == "f" else [*EXTREMES, rng.randrange(len(column) + 2)]
            )
            column[place] = np.array([value]).astype(column.dtype)[0]
    np.save(file, array)
    seal(folder)


def _move_offsets(rng: random.Random, folder: Path) -> None:
    """Offsets that ascend from the first to the last as they did, and lie elsewhere between."""
    file = rng.choice(
        [*folder.rglob("*offsets.npy"), *folder.glob("documents_*.npy"), folder / "text_marks.npy"]
    )
    array = np.load(file)
    between = sorted(rng.choices(range(int(array[0]), int(array[-1]) + 1), k=len(array) - 2))
    array[1:-1] = between
    np.save(file, array)
    seal(folder)


def _move_borders(rng: random.Random, folder: Path) -> None:
    """Chunks, summaries or labels that lie one after another, and elsewhere than before."""
    rows = np.load(folder / "nodes.npy")
    part, first, last = rng.choice(
        [(rows[:6], "start", "end"), (rows[6:], "start", "end"), (rows[6:], "label_start", "label_end")]
    )
    between = sorted(rng.choices(range(int(part[last][-1]) + 1), k=len(part) - 1))
    part[first][1:], part[last][:-1] = between, between
    if rng.random() < 0.3:
        rows["document"][:6] = sorted(rng.choices(range(3), k=6))
    np.save(folder / "nodes.npy", rows)
    seal(folder)


_TARGETS = [
    "children.npy",
    "parents.npy",
    "documents_order.npy",
    "lexical/nodes.npy",
    "ivf/nodes.npy",
    "names/bearers.npy",
    "names/pairs.npy",
]


def _redirect_edges(rng: random.Random, folder: Path) -> None:
    """Edges to other nodes of the same levels."""
    file = folder / rng.choice(_TARGETS)
    array = np.load(file)
    for place in rng.choices(range(len(array)), k=rng.choice([1, 3, len(array)])):
        array[place] = rng.choice([array[place], rng.randrange(6), rng.randrange(6, 8), 8, 9])
    np.save(file, array)
    seal(folder)


def _shuffle_numbers(rng: random.Random, folder: Path) -> None:
    file = rng.choice(_arrays(folder))
    array = np.load(file)
    np.save(file, array[rng.sample(range(len(array)), len(array))])
    seal(folder)


def _swap_files(rng: random.Random, folder: Path) -> None:
    one, other = rng.sample([*_arrays(folder), *_blobs(folder)], 2)
    raw = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(raw)
    seal(folder)


def _resize_array(rng: random.Random, folder: Path) -> None:
    """An array with fewer or more rows, or other columns."""
    file = rng.choice(_arrays(folder))
    array = np.load(file)
    size = rng.choice([0, 1, len(array) - 1, len(array) + 1, 2 * len(array)])
    rows = array[np.arange(size) % len(array)]
    if rows.ndim == 2 and rng.random() < 0.5:
        rows = array[:, : rng.choice([0, 1, array.shape[1] - 1])]
    np.save(file, rng.choice([rows, rows, np.asfortranarray(rows), rows.reshape(-1, 1), rows.astype(object)]))
    seal(folder)


def _resize_consistently(rng: random.Random, folder: Path) -> None:
    """No vectors, or vectors of one column: every array of them fits."""
    dim = rng.choice([0, 1])
    for name in ("vectors", "ivf/centroids"):
        np.save(folder / f"{name}.npy", np.load(folder / f"{name}.npy")[:, :dim])
    np.save(folder / "ivf/axes.npy", np.load(folder / "ivf/axes.npy")[:dim])
    seal(folder)


def _resize_file(rng: random.Random, folder: Path) -> None:
    file = rng.choice([*_arrays(folder), *_blobs(folder)])
    raw = file.read_bytes()
    raw = rng.choice(
        [b"", raw[: rng.randrange(len(raw) + 1)], raw + rng.randbytes(rng.randrange(3000)), raw * 3]
    )
    file.write_bytes(raw)
    seal(folder)


def _splice_header(rng: random.Random, folder: Path) -> None:
    file = rng.choice(_arrays(folder))
    raw, header = file.read_bytes(), rng.choice(HEADERS).encode() + b"\n"
    body = raw[10 + int.from_bytes(raw[8:10], "little") :]
    version = rng.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\xff\xff"])
    size = rng.choice([len(header), len(header), 0, 2**16 - 1, 10 * 2**20])
    length = size.to_bytes(4, "little") if version != b"\1\0" else min(size, 2**16 - 1).to_bytes(2, "little")
    magic = rng.choice([b"\x93NUMPY", b"\x93NUMPY", b"\x93NUMPY", b"PK\3\4", b"\x80\4"])
    file.write_bytes(magic + version + length + header + body)
    seal(folder)


def _edit_line(rng: random.Random, folder: Path) -> None:
    """A value of a document's line becomes another, and the offsets fit."""
    lines = (folder / "documents.jsonl").read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    row = json.loads(lines[at])
    row[rng.choice(list(row))] = rng.choice(JSON_VALUES)
    wrong = [
        b"",
        b"\n",
        b"[" * 100_000,
        b"{" * 9,
        b"\xff\n",
        b"null\n",
        b"9" * 5_000,
        b'{"id": "x"}\n',
        lines[at] * 2,
    ]
    lines[at] = rng.choice([json.dumps(row).encode() + b"\n"] * 4 + [rng.choice(wrong)])
    (folder / "documents.jsonl").write_bytes(b"".join(lines))
    np.save(folder / "documents_lines.npy", np.cumsum([0, *map(len, lines)]))
    seal(folder)


def _edit_manifest(rng: random.Random, folder: Path) -> None:
    data = json.loads((folder / "manifest.json").read_text())
    name = rng.choice(list(data))
    value = rng.choice(JSON_VALUES)
    if name == "levels" and rng.random() < 0.8:
        value = [rng.choice([*EXTREMES, 6, 2, 1]) for _ in range(rng.choice([1, 2, 3, 4, 300]))]
        value[-1] = rng.choice([1, 1, value[-1]])
    elif isinstance(data[name], dict) and rng.random() < 0.8:
        value = data[name] | {rng.choice([*data[name], "new"]): value}
    if rng.random() < 0.1:
        value = json.loads("[" * 500 + "]" * 500)
    seal(folder, **{name: value})


def _edit_pointer(rng: random.Random, folder: Path) -> None:
    pointer = folder.parents[1] / "CURRENT"
    raw = pointer.read_bytes()
    pointer.write_bytes(
        rng.choice([b"", raw[:6], raw[:7], raw * 9, b"000000\n", b"\xff" * 90, raw.replace(b"1", b"2", 1)])
    )


def _same_bytes_for_all(rng: random.Random, folder: Path) -> None:
    """Every row points at the same bytes of a file."""
    rows = np.load(folder / "nodes.npy")
    part = rng.choice([rows, rows[:6], rows[6:]])
    first, last, blob = rng.choice([("start", "end", "text"), ("label_start", "label_end", "labels")])
    part[first], part[last] = 0, (folder / f"{blob}.bin").stat().st_size
    np.save(folder / "nodes.npy", rows)
    seal(folder)


CHANGES: list[Change] = [
    _flip_bits,
    _set_numbers,
    _set_numbers,
    _move_offsets,
    _move_borders,
    _redirect_edges,
    _shuffle_numbers,
    _swap_files,
    _resize_array,
    _resize_consistently,
    _resize_file,
    _splice_header,
    _edit_line,
    _edit_manifest,
    _edit_pointer,
    _same_bytes_for_all,
]


# -- what is done with it ----------------------------------------------------------------------------------


def use(path: Path) -> list[str]:
    """Do everything with an index that a person or a model may do; the one-sentence errors that came of it."""
    refused: list[str] = []

    def attempt(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except IndexStoreError as e:
            refused.append(str(e))
            return None

    refused += attempt(lambda: verify_index(path)) or []
    index = attempt(lambda: open_index(path))
    if isinstance(index, Index):
        for action in _actions(index):
            attempt(action)
        with (  # so that the inverted file is read
            unittest.mock.patch("index_store.search.EXACT_NODES", 2),
            unittest.mock.patch("index_store.vectors.EXACT_NODES", 2),
        ):
            for mode in MODES:
                attempt(partial(IN_A_MODE[0], index, mode))
    for arguments in (
        ["inspect", "--depth", "9"],
        ["inspect", "--json"],
        ["inspect", "--documents"],
        ["inspect", "--node", "L1-00001"],
        ["generations"],
    ):
        _command(arguments[0], str(path), *arguments[1:])
    return refused


def _command(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        assert main(arguments) in (0, 2)  # a result, or one sentence
    out.getvalue().encode()


def _actions(index: Index) -> Iterator[Callable[[], Any]]:
    """One look at the index each."""
    for look in AT_THE_WHOLE:
        yield partial(look, index)
    for number in (0, 2, index.levels[0] - 1, index.levels[0], len(index) - 1):
        for at in AT_A_NODE:
            yield partial(at, index, number, index.id_of(number))
    for mode in MODES:
        for query in IN_A_MODE:
            yield partial(query, index, mode)
    for doc in TEXTS:
        for read in AT_A_DOCUMENT:
            yield partial(read, index, doc)


VECTOR = unit_rows(1)[0]
AT_THE_WHOLE: list[Callable[[Index], Any]] = [
    lambda index: index.root,
    lambda index: index.document("two.txt"),
    lambda index: [index.grep(pattern) for pattern in (r"\w+", "^A", "(?i)K")],
    lambda index: (index.slice(3, 90), index.chars, index.slice(index.chars - 5, index.chars)),
    lambda index: (level_stats(index), to_networkx(index)),
    lambda index: page(index).encode(),
    lambda index: index.embed_queries(["x"]),
    lambda index: index.search("x", vector=VECTOR, where={"id": "x"}),
    lambda index: [index.search("mizzen", vector=VECTOR, level=level) for level in range(3)],
    lambda index: (View(index).text(0, 50), list(itertools.islice(View(index).passages(), 9))),
]
AT_A_NODE: list[Callable[[Index, int, str], Any]] = [
    lambda index, number, node: (index.at(number), index.text_at(number)),
    lambda index, number, node: (index.children(node), index.parents(node), index.path_to(node)),
    lambda index, number, node: (index.leaves(node), sources(index, node)),
    lambda index, number, node: View(index, node).text(0, 99),
    lambda index, number, node: index.grep("e|ä", under=node),
    lambda index, number, node: index.search("a mizzen", vector=VECTOR, under=node),
]
IN_A_MODE: list[Callable[[Index, Mode], Any]] = [
    lambda index, mode: _finite(index.search("the mizzen fruit", mode=mode, vector=VECTOR)),
    lambda index, mode: index.search("Birnen", mode=mode, vector=VECTOR, doc="boats.txt", k=3),
    lambda index, mode: index.search("x", mode=mode, vector=VECTOR, where={"year": "1999"}, section="part"),
]
AT_A_DOCUMENT: list[Callable[[Index, str], Any]] = [
    lambda index, doc: (index.document_text(doc), index.grep("i", doc=doc)),
    lambda index, doc: nodes_above(index, Span(doc, 0, 5)),
    lambda index, doc: (index.page(Span(doc, 3, 5)), index.section(Span(doc, 3, 5))),
    lambda index, doc: index.span_text(Span(doc, 1, 4)),
]


def _finite(hits: Sequence[Hit]) -> None:
    json.dumps([hit.score for hit in hits], allow_nan=False)


def fuzz(seconds: float, seed: int) -> int:
    """Mutate and use for so long; prints each seed that ended in another exception than ours, and how many did."""
    found, tried, end = 0, 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        mutable_index(Path(folder) / "whole")
        while time.monotonic() < end:
            target = Path(folder) / "mutated"
            what = mutated_index(random.Random(seed + tried), Path(folder) / "whole", target)
            try:
                use(target)
            except Exception:  # every kind is a finding
                found += 1
                print(f"seed {seed + tried}: {what}\n{traceback.format_exc()}")
            shutil.rmtree(target)
            tried += 1
    print(f"{tried:,} mutations, {found:,} of them ended in a traceback")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(fuzz(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
