"""A passage in a prompt says where it stands, and where else the same words stand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from index_store.errors import NoSuchNode
from index_store.index import Index, open_index
from index_store.types import Scope
from index_store.view import View
from rlm.answers.citations import resolve
from rlm.gateway.blocks import Block, quote, unquote
from rlm.loop import checks
from rlm.loop.checks import Refused
from rlm.loop.single import parse, retrieved_text, whole_text
from tests.helpers.rlm_toy import ask_verb, embedded, recorded_verbs
from tests.helpers.toy import TEXTS, index_of, publish_toy, toy_draft

LEASE = "The rent is due on the first day of each month."
RUN: Any = SimpleNamespace(models=SimpleNamespace(root="openai/test-model"))


@pytest.fixture
def headed(tmp_path: Path) -> Index:
    draft = toy_draft()
    boats = replace(
        draft.documents[0][0],
        title="Boats [of]\nthe >>> sea",
        pages=(0, 20),
        sections=((0, 1, "Rigs"), (21, 2, "Masts")),
    )
    publish_toy(tmp_path / "i", replace(draft, documents=[(boats, TEXTS["boats.txt"]), *draft.documents[1:]]))
    return open_index(tmp_path / "i")


@pytest.fixture
def leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    embedded(monkeypatch)
    texts = {"a.txt": [LEASE], "b.txt": [LEASE], "c.txt": [LEASE.replace("first", "2nd")]}
    return index_of(tmp_path / "i", texts, [0, 0, 0])


def test_a_passage_in_a_prompt_names_title_section_and_page(headed: Index) -> None:
    verbs, _ = recorded_verbs(headed)
    (block,) = map(verbs.block, verbs.passages(["L0-00001"]))
    assert block.about == "Boats (of) the ››› sea › Rigs › Masts, page 2"
    assert f"L0-00001 | {block.about}>>>" in quote([block])
    (span,) = map(verbs.block, verbs.passages([{"doc": "boats.txt", "start": 0, "end": 9}]))
    assert span.about == "Boats (of) the ››› sea › Rigs, page 1"
    assert [verbs.block(one).about for one in verbs.passages(["L1-00000"])] == [""]


def test_a_document_in_a_prompt_names_its_title_unless_its_id_does(headed: Index) -> None:
    blocks = whole_text(_run(headed)).blocks
    assert [block.about for block in blocks] == ["Boats (of) the ››› sea", "", ""]


def _run(index: Index) -> Any:
    return SimpleNamespace(view=View(index))


@pytest.mark.parametrize("about", ["", "a", "a | b", "| ", ">>>", "x, page 3"])
@pytest.mark.parametrize("name", ["", "L0-00001", "a|b", "a b 1-2"])
def test_blocks_with_a_place_are_read_as_they_were_written(name: str, about: str) -> None:
    blocks = [Block(name, "text", about), Block("two", "more")]
    assert unquote(f"x\n{quote(blocks)}\ny") == blocks


def test_a_source_that_is_cited_with_its_place_is_taken() -> None:
    _, offered = parse('Two.\n\n[L0-00001 | Boats › Rigs, page 2] "two masts"\n', {})
    assert offered == [{"node": "L0-00001", "quote": "two masts"}]


def test_near_identical_passages_are_given_to_a_model_once_with_the_others_named(leases: Index) -> None:
    verbs, _ = recorded_verbs(leases)
    blocks = [b for b in retrieved_text(RUN, verbs, "rent", 9_000).blocks if b.name.startswith("L0")]
    assert [(block.name, block.about) for block in sorted(blocks, key=lambda b: b.name)] == [
        ("L0-00000", "a; also in: b.txt"),
        ("L0-00002", "c"),
    ]


def test_a_search_of_a_model_is_folded_unless_it_asks_for_all(leases: Index) -> None:
    verbs, visits = recorded_verbs(leases)
    hits = ask_verb(verbs, "search", "rent", mode="lexical")
    assert [(hit["node"], hit.get("also_in")) for hit in hits] == [
        ("L0-00000", ["b.txt"]),
        ("L0-00002", None),
    ]
    assert len(visits[-1]["shown"]) == 2
    assert len(ask_verb(verbs, "search", "rent", mode="lexical", fold=False)) == 3


def test_a_citation_of_one_names_the_others_that_may_be_cited(leases: Index) -> None:
    offered: Any = [
        {"node": "L0-00000", "quote": "due on the first day"},
        {"doc": "c.txt", "quote": "the 2nd day"},
    ]
    first, other = resolve(View(leases), "", offered)
    assert first.also_in == ("b.txt",)
    assert first.as_json()["also_in"] == ["b.txt"]
    assert other.also_in == ()
    assert "also_in" not in other.as_json()
    (scoped,) = resolve(View(leases, scope=Scope(doc="a.txt")), "", offered[:1])
    assert scoped.also_in == ()


def test_chunks_that_follow_one_another_are_one_block_whatever_their_order(headed: Index) -> None:
    verbs, _ = recorded_verbs(headed)
    names = [
        verbs.block(one).name for one in verbs.passages(["L0-00002", "L0-00004", "L0-00000", "L0-00001"])
    ]
    assert names == ["L0-00000..L0-00002", "L0-00004"]
    (piece,) = verbs.passages(["L0-00000..L0-00002"])
    assert verbs.block(piece).text == TEXTS["boats.txt"] == ask_verb(verbs, "read", "L0-00000..L0-00002")
    assert [p.chars for p in verbs.passages(["L0-00001", "L0-00001", {"node": "L0-00001"}])] == [23]


@pytest.mark.parametrize(
    "name", ["L0-00002..L0-00003", "L0-00001..L0-00000", "L0-00000..L1-00000", "L0-00000..", ".."]
)
def test_what_is_no_piece_of_one_document_is_refused(headed: Index, name: str) -> None:
    verbs, _ = recorded_verbs(headed)
    with pytest.raises((Refused, NoSuchNode)):
        verbs.passages([name])


def test_a_piece_of_gather_is_a_passage_and_its_name_a_place_to_cite(headed: Index) -> None:
    view = View(headed)
    assert checks.nodes([{"nodes": ["L0-00000", "L0-00001"], "text": "x"}, "L0-00004"]) == [
        "L0-00000", "L0-00001", "L0-00004",
    ]  # fmt: skip
    across = TEXTS["boats.txt"][14:35]
    (cited,) = resolve(view, "", [{"node": "L0-00000..L0-00002", "quote": across}])
    assert (cited.supported, cited.doc, cited.start) == ("verbatim", "boats.txt", 14)
