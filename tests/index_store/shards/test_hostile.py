"""An index of shards is a stranger's: a shard that is another, or a number that is wrong, is said in a sentence."""

import json
import random
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from index_store.areas import area_of
from index_store.errors import BrokenIndex
from index_store.folder import generation_folder
from index_store.generations import list_generations
from index_store.index import Sharded, open_alone, open_index
from index_store.rows import rows_of
from index_store.shards.shared import write_shared
from index_store.types import Scope
from index_store.verify import verify_index
from index_store.view import View
from index_store.writer import publish
from tests.helpers.mutated import CHANGES, EXTREMES, JSON_VALUES, seal, use
from tests.helpers.sharded import MODELS, random_part, random_sharded
from tests.helpers.thorough import cases

SHAPES = [(2, 2), (1, 1), (4, 3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of shards that have inverted files, small as they are."""
    with patch("index_store.vectors.EXACT_NODES", 2):
        return random_sharded(tmp_path_factory.mktemp("hostile"), 0, SHAPES)[1].path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(whole, tmp_path / "a.index")
    return tmp_path / "a.index"


def upper_of(path: Path) -> Path:
    return generation_folder(path, 1)


def shard_of(path: Path, number: int = 2) -> Path:
    return generation_folder(path / "shards" / f"part-{number}", 1)


def told(path: Path, number: int, **changes: Any) -> None:
    """Let the upper index say something else of a shard, and seal it again."""
    settings = json.loads((upper_of(path) / "manifest.json").read_text())["settings"]
    settings["shards"][number] |= changes
    seal(upper_of(path), settings=settings)


def refusal(
    path: Path, ask: Callable[[Sharded], Any] = lambda index: index.text(index.leaves(index.root.id)[-1].id)
) -> str:
    with pytest.raises(BrokenIndex) as caught:
        index = open_index(path)
        assert isinstance(index, Sharded)
        ask(index)
    assert "\n" not in str(caught.value) and verify_index(path)
    return str(caught.value)


def test_a_whole_one_has_no_fault_and_tells_its_generation_by_all_its_shards(whole: Path) -> None:
    assert verify_index(whole) == []
    (generation,) = list_generations(whole)
    index = open_index(whole)
    assert (generation.documents, generation.levels) == (7, index.levels)
    assert {type(index.search("rain", 3, mode="dense", vector=index.vectors[0])[0].score)} == {float}


def test_a_shard_that_was_replaced_by_another_is_refused_when_it_is_read(path: Path) -> None:
    folder = path / "shards" / "part-2"
    shutil.rmtree(folder)
    publish(folder, random_part("part-2", 9, 4, 3), MODELS, {})
    assert "has not the generation" in refusal(path)
    index = open_index(path)
    assert index.grep("rain", doc="part-0/0.txt") is not None  # what is not asked of it is not hindered by it


def test_a_shard_of_a_later_generation_is_read_as_it_was_when_the_upper_tree_was_made(path: Path) -> None:
    before = open_index(path).document_text("part-2/0.txt")
    publish(path / "shards" / "part-2", random_part("part-2", 9, 4, 3), MODELS, {})
    assert open_index(path).document_text("part-2/0.txt") == before
    assert verify_index(path) == []


def test_a_shard_that_is_missing_a_link_or_cut_short_is_refused_when_it_is_read(path: Path) -> None:
    folder = path / "shards" / "part-2"
    moved = folder.rename(path.parent / "elsewhere")
    assert "part-2" in refusal(path)
    folder.symlink_to(moved)
    assert "link" in refusal(path)
    folder.unlink()
    moved.rename(folder)
    (shard_of(path) / "text.bin").write_bytes(b"x")
    assert "text.bin" in refusal(path)


def test_a_shard_of_another_embedder_is_refused(path: Path) -> None:
    manifest = json.loads((shard_of(path) / "manifest.json").read_text())
    seal(shard_of(path), models=manifest["models"] | {"embedder_fingerprint": "another"})
    told(path, 2, digest=json.loads((shard_of(path) / "manifest.json").read_text())["digest"])
    assert "another embedder" in refusal(path)


def test_another_root_than_the_shard_has_is_refused(path: Path) -> None:
    text = upper_of(path) / "text.bin"
    raw = text.read_bytes()
    text.write_bytes(raw[:-3] + b"xyz")
    seal(upper_of(path))
    assert "another root" in refusal(path)


@pytest.mark.parametrize(
    "name", ["documents", "text_bytes", "chars", "line_bytes", "words", "names", "root_tokens"]
)
@pytest.mark.parametrize("step", [1, -1])
def test_a_shard_that_is_not_what_is_told_of_it_is_refused(path: Path, name: str, step: int) -> None:
    shards = json.loads((upper_of(path) / "manifest.json").read_text())["settings"]["shards"]
    told(path, 2, **{name: shards[2][name] + step})
    assert refusal(path)


@pytest.mark.parametrize("name", ["levels", "edges", "summaries", "labels"])
def test_a_shard_of_another_shape_than_is_told_of_it_is_refused(path: Path, name: str) -> None:
    shards = json.loads((upper_of(path) / "manifest.json").read_text())["settings"]["shards"]
    told(path, 2, **{name: [shards[2][name][0] + 1, *shards[2][name][1:]]})
    assert refusal(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../part-2"}, {"name": "part-1"}, {"name": "PART-1"}, {"name": ""}, {"name": 5}, {"digest": "0" * 63},
        {"levels": []}, {"levels": [2]}, {"levels": [2**62, 1]}, {"documents": 0}, {"documents": True}, {"words": -1},
        {"chars": 2**63}, {"root_label": "x" * 10_000}, {"root_label": None}, {"edges": 5}, {"more": 1},
        {"edges": [2**62, 1]}, {"summaries": [2**62, 1]}, {"labels": [1, 2**62]}, {"text_bytes": 2**62},
    ],
    ids=str,
)  # fmt: skip
def test_what_no_upper_index_says_of_a_shard_is_refused_when_it_is_opened(
    path: Path, changes: dict[str, Any]
) -> None:
    told(path, 2, **changes)
    assert "build the index again" in refusal(path, lambda index: None)


@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.search("heron", vector=np.asarray(index.vectors[-1])),
        lambda index: index.search("heron", mode="lexical"),
        lambda index: index.search("heron", mode="tree", vector=np.asarray(index.vectors[-1])),
        lambda index: index.grep("heron", under=index.root.id),
        lambda index: area_of(index),
        lambda index: list(rows_of(View(index), "chunk")),
        lambda index: View(index, scope=Scope(doc=index.documents[0].id)),
    ],
    ids=["hybrid", "lexical", "tree", "grep", "areas", "rows", "view"],
)
def test_nothing_is_allocated_for_chunks_that_a_shard_does_not_have(
    path: Path, ask: Callable[[Sharded], Any]
) -> None:
    shards = json.loads((upper_of(path) / "manifest.json").read_text())["settings"]["shards"]
    told(path, 2, levels=[2**30, *shards[2]["levels"][1:]])
    tracemalloc.start()
    try:
        assert "is not the one" in refusal(path, ask)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shards", [None, {}, [], "x", [1], [[]], {"a": 1}])
def test_shards_that_are_none_are_refused(path: Path, shards: Any) -> None:
    seal(upper_of(path), settings={"shards": shards})
    assert "build the index again" in refusal(path, lambda index: None)


@pytest.mark.parametrize("name", ["bearers", "name_offsets", "name_shards", "name_places", "name_numbers"])
def test_names_that_lead_nowhere_are_refused(path: Path, name: str) -> None:
    file = upper_of(path) / "shards" / f"{name}.npy"
    array = np.load(file)
    array[-1] = 999
    np.save(file, array)
    seal(upper_of(path))
    assert "damaged" in refusal(path, lambda index: index.names)


def one_more(raw: bytes) -> bytes:
    return raw + b"\nz"


def one_less(raw: bytes) -> bytes:
    return raw.rpartition(b"\n")[0]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(
            (f"{name}.txt", change)
            for name in ("lexical/words", "names/names")
            for change in (one_more, one_less)
        ),
        ("lexical/offsets.npy", lambda raw: raw[:-1] + b"\x7f"),
    ],
)
def test_a_shard_whose_words_are_damaged_is_refused_when_an_upper_tree_is_made_over_it(
    path: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    file = shard_of(path, 1) / name
    file.write_bytes(change(file.read_bytes()))
    seal(shard_of(path, 1))
    shards = [open_alone(path / "shards" / f"part-{number}", 1) for number in range(len(SHAPES))]
    with pytest.raises(BrokenIndex, match=r"build the (shard|index) again"):
        write_shared(upper_of(path), shards)


@pytest.mark.parametrize("seed", range(cases(6, 400)))
def test_a_mutated_one_gives_results_or_one_sentence_each(whole: Path, tmp_path: Path, seed: int) -> None:
    rng, path = random.Random(seed), tmp_path / "a.index"
    shutil.copytree(whole, path)
    number = rng.choice([None, 0, 1, 2])
    try:
        rng.choice(CHANGES)(rng, upper_of(path) if number is None else shard_of(path, number))
    except Exception:  # there was nothing of this kind to change
        return
    if number is not None and rng.random() < 0.9:  # who can change a shard can say so above it
        manifest = json.loads((shard_of(path, number) / "manifest.json").read_text())
        told(path, number, digest=manifest["digest"])
    elif rng.random() < 0.5:
        settings = json.loads((upper_of(path) / "manifest.json").read_text())["settings"]
        row = rng.choice(settings["shards"])
        name = rng.choice(list(row))
        value = rng.choice([*EXTREMES, rng.randrange(9)])
        listed = isinstance(row[name], list) and row[name] and rng.random() < 0.8
        row[name] = [value, *row[name][1:]] if listed else rng.choice([value, value, rng.choice(JSON_VALUES)])
        seal(upper_of(path), settings=settings)
    for sentence in use(path):
        assert sentence.strip() and "\n" not in sentence
