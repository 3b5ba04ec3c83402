"""What embeddings are computed in: by the processor, written down, kept by updates, never mixed by a checkpoint."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store import embedder as embedders
from index_store.embedder import AUTO, BFLOAT16, FLOAT32, PRECISIONS, Embedder, at_precision, load_embedder
from index_store.errors import IndexStoreError
from index_store.index import open_index
from raptor import build_index, update_index
from raptor.errors import RaptorError
from raptor.settings import BuildSettings
from tests.helpers import tiny_embedder

Use = Callable[..., None]


def rounded(texts: Sequence[str]) -> Any:
    """The tiny embedder's rows, as one that computes in bfloat16 might give them."""
    rows = tiny_embedder.encode(texts).astype(np.float16).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Let builds use a tiny embedder with both precisions, on a processor with or without bfloat16."""

    def load(name: str = "minilm", *, offline: bool = False) -> Embedder:
        return replace(tiny_embedder.load(name), in_bfloat16=rounded)

    def on(*, bfloat16: bool) -> None:
        monkeypatch.setattr(embedders, "load_embedder", load)
        monkeypatch.setattr(embedders, "has_bfloat16", lambda: bfloat16)

    return on


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tiny_embedder.write_documents(tmp_path / "docs", 20)


def built(docs: Path, out: Path, precision: str = "auto", **options: Any) -> tuple[str, Any]:
    """The digest of a build, and the precision that its manifest names; None where it names none."""
    digest = build_index(docs, out, settings=BuildSettings(precision=precision), **options).digest
    return digest, open_index(out).manifest.settings.get("precision")


def test_auto_is_bfloat16_where_the_processor_has_it_and_the_manifest_says_so(
    docs: Path, tmp_path: Path, use: Use
) -> None:
    use(bfloat16=False)
    plain = built(docs, tmp_path / "a")
    assert plain == built(docs, tmp_path / "b", FLOAT32)
    assert plain[1] is None  # an index has the digest that it had before there was a word for it
    use(bfloat16=True)
    auto = built(docs, tmp_path / "c")
    assert auto == built(docs, tmp_path / "d", BFLOAT16)
    assert auto[1] == BFLOAT16
    assert built(docs, tmp_path / "e", FLOAT32) == plain


def test_bfloat16_that_was_asked_for_is_refused_where_there_is_none(
    docs: Path, tmp_path: Path, use: Use
) -> None:
    use(bfloat16=False)
    with pytest.raises(IndexStoreError, match="does not compute in bfloat16; give precision float32 or auto"):
        built(docs, tmp_path / "i", BFLOAT16)
    assert not (tmp_path / "i").exists()
    use(bfloat16=True)
    with pytest.raises(IndexStoreError, match="does not compute in bfloat16"):
        at_precision(tiny_embedder.load(), BFLOAT16)
    assert at_precision(tiny_embedder.load(), "auto").precision == FLOAT32


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16])
def test_an_update_keeps_the_precision_of_the_index(
    docs: Path, tmp_path: Path, use: Use, precision: str
) -> None:
    use(bfloat16=True)
    _, said = built(docs, tmp_path / "i", precision)
    new = tmp_path / "new.txt"
    new.write_text("A yawl carries its mizzen abaft the rudder.", encoding="utf-8")
    update_index(tmp_path / "i", new)
    index = open_index(tmp_path / "i")
    assert index.manifest.settings.get("precision") == said
    (leaf,) = index.document_leaves(index.document_number("new.txt"))
    encode = rounded if precision == BFLOAT16 else tiny_embedder.encode
    assert np.array_equal(index.vectors[leaf], encode([f"new.txt\n{index.text_at(leaf)}"])[0])


def test_an_index_in_bfloat16_can_be_updated_where_the_processor_has_none(
    docs: Path, tmp_path: Path, use: Use
) -> None:
    use(bfloat16=True)
    built(docs, tmp_path / "i")
    use(bfloat16=False)
    new = tmp_path / "new.txt"
    new.write_text("A yawl carries its mizzen abaft the rudder.", encoding="utf-8")
    assert update_index(tmp_path / "i", new).changes.added == 1
    assert open_index(tmp_path / "i").manifest.settings["precision"] == BFLOAT16


@pytest.mark.parametrize("first", [FLOAT32, BFLOAT16])
def test_what_was_embedded_in_one_precision_is_no_part_of_a_build_in_the_other(
    docs: Path, tmp_path: Path, use: Use, first: str
) -> None:
    use(bfloat16=True)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "embed" and done >= total > 0:
            raise KeyboardInterrupt

    second = BFLOAT16 if first == FLOAT32 else FLOAT32
    with pytest.raises(KeyboardInterrupt):
        built(docs, tmp_path / "i", first, progress=stop)
    assert built(docs, tmp_path / "i", second) == built(docs, tmp_path / "j", second)


@pytest.mark.parametrize(
    "said", ["auto", "float64", "", "float32\n", "bfloat16" * 999, 16, None, True, ["bfloat16"], {}]
)
def test_a_precision_that_no_build_writes_is_refused_in_a_manifest(said: Any) -> None:
    with pytest.raises(RaptorError, match="precision") as refused:
        BuildSettings.from_json({"precision": said})
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


def test_a_manifest_without_a_precision_is_of_float32_and_a_new_build_takes_what_the_processor_has() -> None:
    assert BuildSettings.from_json({}).precision == FLOAT32
    assert BuildSettings().precision == AUTO
    for precision in PRECISIONS[1:]:
        assert (
            BuildSettings.from_json(json.loads(json.dumps({"precision": precision}))).precision == precision
        )


def test_rows_in_bfloat16_have_length_one_and_the_direction_of_those_in_float32() -> None:
    model = load_embedder()
    assert model.in_bfloat16 is not None
    texts = [
        f"The {word} of ship {n} is older than the harbour."
        for n in range(12)
        for word in ("mast", "sail", "hull")
    ]
    exact, rows = model.encode(texts), model.in_bfloat16(texts)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)
    assert (exact * rows).sum(axis=1).min() > 1 - 2e-4
    assert not np.array_equal(exact, rows)
    assert np.array_equal(model.in_bfloat16(texts), rows)
    assert np.array_equal(model.in_bfloat16(texts[:3]), model.encode(texts[:3]))  # few are done without torch
