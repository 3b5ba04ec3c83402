"""The part on scale runs at any size, and what is reckoned from it is what one finds by hand."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import Options, _made_up, _outlook, _page, _plan, _stages, scale
from benchmarks.__main__ import DOCS, RESULTS
from benchmarks._curves import picture
from benchmarks._plan import Costs, Line
from benchmarks._report import Claim, Table, kept
from benchmarks._simulation import Cluster
from index_store.embedder import load_tokenizer
from raptor.chunking import chunk
from raptor.embedding import BATCH

COSTS = Costs(
    load=Line(1, 0.001),
    chunk=Line(0, 0.001),
    embed=Line(0, 0.01),
    record=Line(0, 0.0005),
    cluster=Line(0, 0.001),
    partition=0.0,
    summarise=Line(2, 0.02),
    call=0.002,
    keep=0.001,
    write=Line(0, 0.0001),
    fanout=10.0,
    prompt_tokens=1_000.0,
    reply_tokens=100.0,
    disk=3_000.0,
    kept=1_600.0,
    anon=Line(200, 0.001),
)


@pytest.mark.slow
def test_the_part_over_tiny_corpora_has_all_that_the_page_shows_and_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SIZES": (40, 80), "VECTORS": (100,), "AT_ONCE": (30, 60)}.items():
        monkeypatch.setattr(scale, name, value)
    for name, value in {"NODES": (1, 10), "POWERS": (10**3, 10**5), "PLANNED": (10**4, 10**5)}.items():
        monkeypatch.setattr(_outlook, name, value)
    monkeypatch.setattr(_plan, "SHARD", 20_000)
    monkeypatch.setattr(_stages, "QUESTIONS", 2)
    monkeypatch.setattr(_stages, "PUTS", 20)
    monkeypatch.setattr(scale, "run", _here)
    options = Options(tmp_path / "no data", tmp_path / "work", nodes=10)
    items = list(scale.measure(options))
    tables = {item.title: item for item in items if isinstance(item, Table)}
    assert {"embed fast", "scale reads", "simulated"} == {i.target for i in items if isinstance(i, Claim)}
    found = [row[1] for row in tables["Stages of a build"].rows]
    assert found == 2 * list(scale.STAGES)
    assert "Not measured" in tables["Beside the reference"].note
    page = (DOCS / _page.PAGE).read_text(encoding="utf-8")
    filled = _page.filled(page, tables)
    assert all(f"| {' | '.join(table.rows[-1])} |" in filled for table in tables.values() if table.rows)
    for drawn in _page.pictures(tables).values():
        ElementTree.fromstring(drawn)
    monkeypatch.setattr(scale, "run", lambda *_, **__: pytest.fail("it was measured again"))
    assert list(scale.measure(options)) == items


def _here(what: str, *arguments: str, **_: Any) -> dict[str, Any]:
    """A measurement in this process; of embedding, for which the model would be loaded, what it could give."""
    if what == "throughput":
        return {"texts": 10, "took": {way: {"1": [(1.0, 0.5)] * 3} for way in (_stages.OURS, _stages.BARE)}}
    return _stages.WHAT[what](*arguments)


def test_a_made_up_corpus_is_cut_into_about_as_many_chunks_as_are_asked_for_and_those_of_a_topic_are_alike() -> (
    None
):
    offsets, texts = load_tokenizer(), [row["text"] for row in _made_up.documents(160)]
    chunks = [(d, text[a:b]) for d, text in enumerate(texts) for a, b in chunk(text, offsets, 100)]
    assert len(chunks) == pytest.approx(160, rel=0.1)
    vectors = _made_up.encode([text for _, text in chunks])
    alike, documents = vectors @ vectors.T, np.array([document for document, _ in chunks])
    own = documents[:, None] == documents[None]
    np.fill_diagonal(alike, np.nan)
    assert np.nanmean(alike[own]) > 1.5 * np.nanmean(alike[~own])


def test_levels_go_up_to_one_root() -> None:
    assert _plan.levels(1_000, 10.0) == [1_000, 100, 10, 1]
    assert _plan.levels(1, 10.0) == [1]
    assert _plan.levels(13, 10.0) == [13, 2, 1]


def test_a_line_goes_through_both_points_and_never_below_nothing() -> None:
    assert _plan.line((10, 3.0), (20, 5.0)) == Line(1.0, 0.2)
    assert _plan.line((10, 5.0), (20, 4.0)) == Line(4.0, 0.0)


def test_a_build_on_one_core_takes_the_sum_of_its_costs() -> None:
    ended = _plan.together(list(_plan.built(COSTS, 1_000, Cluster()).values()))
    # 111 summaries: 1,111 nodes are embedded, 1,110 clustered; the driver's 2 ms of a summary are among its 20 ms
    cores = 1_000 * 0.002 + 1_111 * 0.01 + 1_110 * 0.001 + 111 * 0.018
    batches = sum(math.ceil(texts / BATCH) for texts in (1_000, 100, 10, 1))
    driver = 1 + 1_000 * 0.0005 + 2 + 111 * 0.002 + batches * 0.001 + 1_111 * 0.0001
    assert ended.core_s == pytest.approx(cores) and ended.driver_s == pytest.approx(driver)
    assert cores < ended.wall_s < cores + driver  # the driver keeps a batch while the next is computed


def test_shards_are_built_in_turn_by_one_driver_and_side_by_side_by_several() -> None:
    one, ten = _plan.whole(COSTS, _plan.SHARD, Cluster(10, 16)), Cluster(10, 16)
    apart = _plan.whole(COSTS, _plan.SHARD, Cluster(1, 16))
    in_turn = _plan.whole(COSTS, 10 * _plan.SHARD, ten)
    assert 10 * one.wall_s < in_turn.wall_s < 10 * one.wall_s + 60  # and the upper tree
    side_by_side = _plan.whole(COSTS, 10 * _plan.SHARD, ten, drivers=10)
    assert apart.wall_s < side_by_side.wall_s < apart.wall_s + 60
    assert side_by_side.wall_s < in_turn.wall_s


def test_a_driver_that_is_busy_all_the_time_gains_nothing_by_more_nodes() -> None:
    slow = replace(COSTS, keep=0.1)
    few, many = (_plan.whole(slow, 100_000, Cluster(nodes, 16)).wall_s for nodes in (10, 100))
    assert many > 0.9 * few


def test_dollars_and_limits_are_arithmetic() -> None:
    each = (1_000 * _plan.PROMPT_USD + 100 * _plan.REPLY_USD) / 1e6
    assert _plan.dollars(COSTS, 1_000) == pytest.approx(111 * each)
    assert _plan.reached(1e6, 1e-6, 2) == pytest.approx(1e6)
    assert _plan.search_bytes(1_000) == 1_000 * 384 * 4 < _plan.search_bytes(10**6) < 10**6 * 384


def test_a_picture_is_well_formed_whatever_its_names_and_leaves_out_what_no_power_of_ten_has() -> None:
    drawn = picture("a < b & c", "x", "y", {"<one>": [(1, 2), (100, 0.5), (1_000, 0)], "two": [(10, 2)]})
    tree = ElementTree.fromstring(drawn)
    assert sum(1 for _ in tree.iter("{http://www.w3.org/2000/svg}circle")) == 3
    assert "<one>" in [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]


def test_the_page_and_its_pictures_in_the_repository_are_those_of_what_is_kept() -> None:
    tables = {table.title: table for table in kept(RESULTS)["scale"].of(Table)}
    page = (DOCS / _page.PAGE).read_text(encoding="utf-8")
    assert _page.filled(page, tables) == page, "write it anew: python -m benchmarks --only-write"
    for name, drawn in _page.pictures(tables).items():
        assert (DOCS / "pictures" / name).read_text(encoding="utf-8") == drawn
