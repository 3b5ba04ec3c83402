"""The corpora that estimates are held against."""

import json
from pathlib import Path

import pytest

from benchmarks.estimates import _write
from raptor.loading.find import find
from raptor.loading.load import load
from raptor.loading.types import Text


@pytest.mark.parametrize("suffix", [".txt", ".pdf"])
def test_a_piece_of_a_set_has_so_many_characters_whatever_its_kind_of_file(
    tmp_path: Path, suffix: str
) -> None:
    rows = [{"_id": str(n), "text": f"Row {n} of a set.\n" * 60} for n in range(5)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _write(tmp_path / "docs", tmp_path / "corpus.jsonl", 2_500, suffix) == 2_500
    texts = [item for item in load(find([str(tmp_path / "docs")])) if isinstance(item, Text)]
    assert len(texts) == 3
    assert "Row 2 of a set." in texts[-1].text
    assert len(texts[0].text) == pytest.approx(len(rows[0]["text"]), rel=0.1)
