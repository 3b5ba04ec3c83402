"""What a reader may not read is not there: neither said nor counted, and nothing depends on it."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store import narrowing, writer
from index_store.access import of_document
from index_store.index import Index, narrowed
from index_store.types import MODES
from index_store.verify import verify_index
from index_store.writer import Draft
from rlm.loop.checks import Refused
from rlm.loop.verbs import VERBS, Verbs
from tests.helpers.labelled import READER, draft, seen, written
from tests.helpers.rlm_toy import embedded
from tests.helpers.thorough import cases
from tests.helpers.toy import DIM, toy_draft

READERS = [
    frozenset(some) for some in chain.from_iterable(combinations(READER, n) for n in range(len(READER) + 1))
]
BATCHES, ROUNDS = cases(2, 10), 25  # of 8 readers each: 400 cases, or 2,000
NEVER = "q0never000000z"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk is waited for, and queries are embedded by the hashes of their words."""
    monkeypatch.setattr(writer, "sync", lambda path: None)
    embedded(monkeypatch)


def same(one: Any, other: Any) -> bool:
    """Whether two parts of drafts are equal, arrays by their bytes."""
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.tobytes() == other.tobytes())
    if isinstance(one, Sequence) and not isinstance(one, str | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def is_same(one: Draft, other: Draft) -> bool:
    names = (one.names, other.names)
    assert names[0] and names[1]
    return all(
        same(getattr(one, name), getattr(other, name))
        for name in one.__slots__
        if name not in ("names", "of_shards")  # and neither is one of shards
    ) and all(same(getattr(names[0], name), getattr(names[1], name)) for name in names[0].__slots__)


def calls(
    index: Index, words: Sequence[str], paths: Sequence[str]
) -> Iterator[tuple[str, list[Any], dict[str, Any]]]:
    """Each verb in its ways: of every node there is, and of documents and words that may not be there."""
    nodes = [index.id_of(number) for number in range(len(index))] + ["L0-00099", "L9-00000"]
    yield from ((verb, [], {}) for verb in ("overview", "documents", "text", "length", "areas"))
    yield from (
        (verb, [node], {})
        for verb in ("peek", "children", "parents", "path", "leaves", "read")
        for node in nodes
    )
    yield from (("slice", [start, start + 50], {}) for start in range(0, 400, 45))
    yield from (("rows", [split], {}) for split in ("document", "section", "chunk", "line"))
    yield from (("read_rows", [json.dumps({"split": split}), 0, 3], {}) for split in ("document", "line"))
    yield "packs", [], {}
    for word in (*words, "mizzen"):
        yield from (("search", [word], {"k": 50, "mode": mode}) for mode in MODES)
        yield from (("grep", [pattern], {}) for pattern in (word, rf"\b{word}", rf".{{0,20}}{word}.{{0,20}}"))
        yield from ((verb, [word], {}) for verb in ("contains", "branches", "gather", "areas"))
        yield from (
            ("search", ["mizzen"], {"where": {"note": f"n{word}"}}),
            ("search", ["mizzen"], {"section": word}),
        )
    for doc in paths:
        yield from (
            ("read", [doc], {}),
            ("read", [doc, 0, 9], {}),
            ("read", [{"doc": doc, "start": 0, "end": 5}], {}),
        )
        yield from (("grep", ["."], {"doc": doc}), ("search", ["mizzen"], {"doc": doc}))


def outputs(index: Index, words: Sequence[str], paths: Sequence[str]) -> list[str]:
    """What each call gives, and what is recorded of it, as JSON; or why it is refused."""
    visits = list[Any]()
    verbs, said = Verbs(index, visits.append), list[str]()
    for name, given, named in calls(index, words, paths):
        try:
            said.append(json.dumps(verbs.serve(name, given, named)))
        except Refused as e:
            said.append(f"refused: {e}")
    return said + [str((visit.verb, visit.shown, visit.not_taken, visit.cut)) for visit in visits]


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_indexes_that_differ_only_in_what_is_hidden_are_the_same_to_the_reader(
    batch: int, tmp_path: Path
) -> None:
    for turn in range(ROUNDS):
        rng = random.Random(batch * ROUNDS + turn)
        world = seen(rng)
        pair = [draft(rng, world) for _ in range(2)]
        wholes = [written(tmp_path / f"{turn}-{n}.index", content) for n, (content, _) in enumerate(pair)]
        for number, reader in enumerate(READERS):
            one, other = (
                narrowing.narrowed(whole, narrowing.labels_by_document(whole), reader) for whole in wholes
            )
            if one is None or other is None:
                assert one is other
                continue
            assert is_same(one, other), (batch, turn, reader)
            labels = {document.id: of_document(document.meta) for document in wholes[0].documents}
            readable = {doc for doc, own in labels.items() if own is not None and (not own or own & reader)}
            assert {document.id for document, _ in one.documents} == readable
            told = _told(one)
            if (turn + number) % 5 == 0:
                index = written(tmp_path / f"{turn}-{number}.narrow", one)
                assert verify_index(index.path) == []
                told += [*outputs(index, [NEVER], ["never.txt"]), *_files(index)]
            for document in (document for whole in wholes for document in whole.documents):
                word = document.title.split()[1]
                assert document.id in readable or not [line for line in told if word in line]
            assert _labels(one) <= reader


def _told(content: Draft) -> list[str]:
    """All words of a draft."""
    assert content.names
    documents = [str((document, text)) for document, text in content.documents]
    return [*documents, *content.labels, *content.summaries, *content.names.listed]


def _labels(content: Draft) -> set[str]:
    labels = (document.meta.get("access", "") for document, _ in content.documents)
    return {label for own in labels for label in own.split(", ")} - {""}


def _files(index: Index) -> list[str]:
    """What stands in the files of an index that hold words."""
    files = (path for path in index.folder.rglob("*") if path.suffix in (".bin", ".jsonl", ".txt", ".json"))
    return [path.read_bytes().decode("utf-8", "replace") for path in files]


class _Deaf:
    """An embedder to which all queries are one: what it tells of a word says nothing of its letters."""

    fingerprint = "toy"

    def encode(self, texts: Sequence[str]) -> Any:
        return np.full((len(texts), DIM), DIM**-0.5, dtype=np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_every_verb_gives_the_same_bytes_whatever_is_hidden(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is hidden is asked for by its very words and ids, and what never was in the same way."""
    monkeypatch.setattr(Index, "_embedder", _Deaf())
    rng = random.Random(seed)
    world = seen(rng)
    (one, hidden), (other, _) = (draft(rng, world) for _ in range(2))
    indexes = [
        narrowed(written(tmp_path / f"{n}" / "i.index", d), list(READER)) for n, d in enumerate((one, other))
    ]
    word, doc = hidden[0].word, hidden[0].document.id
    never = f"q0{'8' * (len(word) - 3)}z"
    gone = doc.replace(word, never)
    said = [outputs(index, [word], [doc, f"{doc[:3]}*"]) for index in indexes]
    assert said[0] == said[1]
    asked = outputs(indexes[0], [never], [gone, f"{gone[:3]}*"])
    assert [_hintless(line.replace(never, word)) for line in asked] == list(map(_hintless, said[0]))
    assert len(said[0]) > 100


def _hintless(line: str) -> str:
    """What is said without the hint, which goes by the letters of the id that was asked for."""
    return re.sub(r"(no document '[^']*');.*", r"\1", line)


def test_every_verb_is_tried(tmp_path: Path) -> None:
    index = written(tmp_path / "toy.index", toy_draft())
    assert {name for name, _, _ in calls(index, ["w"], ["d"])} == {*VERBS}
