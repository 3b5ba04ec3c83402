"""What a build will take, told from a part of the corpus within seconds; nothing is written, and no model is asked."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from index_store.terminal import span_of_time
from raptor.build import build_index
from raptor.chunking import chunk
from raptor.estimating import HIGH, LOW, MOST, Estimate, estimate
from raptor.loading.types import Text
from raptor.sampling import WINDOW, WINDOWS, windows
from tests.helpers import tiny_embedder


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_embedder.use(monkeypatch)
    monkeypatch.chdir(tmp_path)


def files(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_dry_run_writes_nothing_even_where_a_build_was_cut_short(tmp_path: Path) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 12)
    estimate(docs, "i")
    assert not Path("i").exists()
    stop_at("summarise level 1", docs)
    before = files("i")
    estimate(docs, "i")
    assert {name: raw for name, raw in files("i").items() if "-shm" not in name and "-wal" not in name} == {
        name: raw for name, raw in before.items() if "-shm" not in name and "-wal" not in name
    }


def stop_at(stage: str, docs: Path) -> None:
    def progress(name: str, done: int, total: int) -> None:
        if name == stage and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(docs, "i", progress=progress)


@pytest.mark.slow
def test_what_a_build_has_done_is_said_and_the_rest_is_estimated(tmp_path: Path) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 60, 30)
    (docs / "page.html").write_text("<title>A page</title><p>The mast of a ketch.</p>")
    first, _ = estimate(docs, "i")
    assert (first.parsed, first.embedded, first.recorded) == (0, 0, 0)
    stop_at("embed level 1", docs)
    left, _ = estimate(docs, "i")
    assert left.parsed == 1
    assert left.embedded == left.chunks == first.chunks
    assert 0 < left.recorded < first.calls
    assert left.calls == first.calls - left.recorded


def test_of_a_large_corpus_a_part_is_measured_and_the_rest_is_scaled(tmp_path: Path) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 120, 160)
    load = tiny_embedder.load()
    real = sum(len(chunk(path.read_text(), load.token_offsets, 100)) for path in docs.iterdir())
    assert real > 2 * MOST
    expected, failures = estimate(docs, "i")
    assert failures == []
    assert expected.documents == 120
    assert expected.sampled < MOST
    assert 0.85 * real < expected.chunks < 1.15 * real
    assert expected.levels[0] == expected.chunks
    assert list(expected.levels) == sorted(expected.levels, reverse=True)
    assert expected.levels[-1] == 1


@pytest.mark.slow
def test_the_time_is_a_range_about_what_was_measured(tmp_path: Path) -> None:
    small, _ = estimate(tiny_embedder.write_documents(tmp_path / "small", 5), "i")
    large, _ = estimate(tiny_embedder.write_documents(tmp_path / "large", 80, 60), "j")

    def middle(e: Estimate) -> float:
        return e.seconds_low / LOW / e.pace

    for e in (small, large):
        assert 0 < e.seconds_low < e.seconds_high
        assert e.seconds_high / e.seconds_low == pytest.approx(HIGH / LOW, rel=0.1)
    assert middle(large) > middle(small)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (40, 119, "40 to 120 s"),
        (40, 121, "40 s to 3 min"),
        (3.2, 3.9, "3 to 4 s"),
        (4.0, 4.0, "4 s"),
        (150, 290, "2 to 5 min"),
        (4_000, 20_000, "65 min to 6 h"),
    ],
)
def test_times_are_rounded_outwards(low: float, high: float, words: str) -> None:
    assert span_of_time(low, high) == words


@given(st.lists(st.integers(1, 3 * WINDOW), min_size=1, max_size=40))
def test_pieces_lie_in_their_texts_and_are_few(sizes: list[int]) -> None:
    texts = [Text(str(number), "", "", chr(97 + number % 26) * size) for number, size in enumerate(sizes)]
    pieces = windows(texts)
    if sum(sizes) <= WINDOWS * WINDOW:
        assert pieces == texts
        return
    whole = {text.id: text.text for text in texts}
    assert all(piece.text and piece.text in whole[piece.id] for piece in pieces)
    assert sum(len(piece.text) for piece in pieces) <= WINDOWS * WINDOW
