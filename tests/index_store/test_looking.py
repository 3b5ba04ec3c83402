"""Where a node comes from, what stands above a range of characters, and the tree as a page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from index_store.errors import BadQuery
from index_store.graph import level_stats, to_networkx
from index_store.index import Index, open_index
from index_store.picture import page
from index_store.provenance import nodes_above, sources
from index_store.types import Span
from raptor.cli import main
from tests.helpers.toy import TEXTS, document, publish_toy, toy_draft, toy_index


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return toy_index(tmp_path / "toy.index")


def test_a_node_leads_to_the_exact_characters_under_it(index: Index) -> None:
    assert [s.span for s in sources(index, "L1-00000")] == [Span("boats.txt", 0, len(TEXTS["boats.txt"]))]
    assert [s.span for s in sources(index, "L2-00000")] == [
        Span(doc, 0, len(text)) for doc, text in TEXTS.items()
    ]


def test_a_range_of_characters_leads_to_every_node_above_it(index: Index) -> None:
    assert [n.id for n in nodes_above(index, Span("one.txt", 2, 3))] == ["L0-00005", "L1-00001", "L2-00000"]
    both = nodes_above(index, Span("boats.txt", 40, 60))
    assert [n.id for n in both] == ["L0-00001", "L0-00002", "L1-00000", "L1-00001", "L2-00000"]


@pytest.mark.parametrize("span", [Span("one.txt", 3, 3), Span("one.txt", 0, 99), Span("one.txt", -1, 2)])
def test_a_range_outside_the_document_is_refused(index: Index, span: Span) -> None:
    with pytest.raises(BadQuery, match="characters 0 to 6"):
        nodes_above(index, span)


def test_pages_are_told_where_a_document_has_them(tmp_path: Path) -> None:
    draft = toy_draft()
    paged = [
        document(d.id, text, pages=(0, 30) if d.id == "boats.txt" else ()) for d, text in draft.documents
    ]
    publish_toy(tmp_path / "i", replace(draft, documents=paged))
    index = open_index(tmp_path / "i")
    assert sources(index, "L1-00000")[0].pages == (1, 2)
    assert sources(index, "L0-00000")[0].pages == (1, 1)
    assert sources(index, "L0-00005")[0].pages is None


def test_statistics_of_levels_are_those_of_the_graph(index: Index) -> None:
    graph = to_networkx(index)
    for stats in level_stats(index):
        nodes = [node for node, facts in graph.nodes(data=True) if facts["level"] == stats.level]
        tokens = sum(graph.nodes[node]["tokens"] for node in nodes)
        means = [
            round(sum(degree(node) for node in nodes) / len(nodes), 2)
            for degree in (graph.out_degree, graph.in_degree)
        ]
        assert [stats.nodes, stats.tokens] == [len(nodes), tokens]
        assert [stats.mean_children, stats.mean_parents] == means
    assert [stats.mean_parents for stats in level_stats(index)] == [1.17, 1.0, 0.0]


def test_the_page_shows_every_node_once_and_no_document_can_speak_html(tmp_path: Path) -> None:
    labels = ["<script>alert(1)</script>", "Fruit", "All"]
    publish_toy(tmp_path / "i", replace(toy_draft(), labels=labels))
    index = open_index(tmp_path / "i")
    shown = page(index)
    assert "<script" not in shown and "&lt;script&gt;" in shown
    assert all(shown.count(f'<details id="{index.id_of(n)}"') == 1 for n in range(len(index)))
    assert "http" not in shown.replace("http-equiv", "")
    assert "stands above" in shown  # chunk 2 has two parents


def test_the_command_shows_a_node_a_range_and_draws_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_toy(tmp_path / "i")
    assert main(["inspect", str(tmp_path / "i"), "--node", "L1-00001", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["path"] == ["L2-00000", "L1-00001"]
    assert facts["sources"][0] == {
        "doc": "boats.txt",
        "start": 48,
        "end": len(TEXTS["boats.txt"]),
        "pages": None,
    }
    assert main(["inspect", str(tmp_path / "i"), "--at", "one.txt:2-3"]) == 0
    assert "L1-00001" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "i"), "--html", str(tmp_path / "t.html")]) == 0
    assert (tmp_path / "t.html").read_text().endswith("</html>")


@pytest.mark.parametrize(
    "bad", [["--node", "L9-00000"], ["--at", "one.txt"], ["--at", "no.txt:1-2"], ["--html", "/no/such/t"]]
)
def test_a_wrong_place_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: list[str]
) -> None:
    publish_toy(tmp_path / "i")
    assert main(["inspect", str(tmp_path / "i"), *bad]) == 2
    assert capsys.readouterr().err.count("\n") == 1
