"""Texts are embedded in batches of like length, by any number of workers, each batch kept, each row in its place."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from index_store import embedder as embedders
from index_store.embedder import AUTO, CPU, FEW, found_device, load_embedder, on_device, settled
from index_store.errors import IndexStoreError
from raptor import embedding
from raptor.embedding import embed
from raptor.errors import RaptorError
from tests.helpers import tiny_embedder

TEXTS = [f"{'ketch ' * (number * 7 % 23)}mast {number}" for number in range(90)]


def seen_by(batches: list[list[str]]) -> embedders.Embedder:
    """The tiny embedder, which notes each batch that it is given."""

    def encode(texts: Sequence[str]) -> Any:
        batches.append(list(texts))
        return tiny_embedder.encode(texts)

    return replace(tiny_embedder.load(), encode=encode)


def test_batches_are_of_like_length_and_rows_in_the_order_of_the_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "cores", lambda: 1)
    batches: list[list[str]] = []
    rows = embed(seen_by(batches), TEXTS)
    assert np.array_equal(rows, tiny_embedder.encode(TEXTS))
    assert [len(batch) for batch in batches] == [32, 32, 26]
    lengths = [len(tiny_embedder.token_offsets([text])[0]) for batch in batches for text in batch]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_that_was_recorded_is_not_embedded_again(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(embedding, "cores", lambda: workers)
    kept: dict[str, Any] = {}
    batches: list[list[str]] = []
    model = seen_by(batches)

    def record(batch: list[str], rows: Any) -> None:
        kept["\n".join(batch)] = rows

    first = embed(model, TEXTS, recorded=lambda batch: None, record=record)
    kept.pop("\n".join(sorted(batches, key=len)[0]))
    batches.clear()
    again = embed(model, TEXTS, recorded=lambda batch: kept.get("\n".join(batch)), record=record)
    assert np.array_equal(first, again)
    assert [len(batch) for batch in batches] == [26]


def test_rows_that_are_no_vectors_are_refused_and_not_kept() -> None:
    def encode(texts: Sequence[str]) -> Any:
        return np.full((len(texts), tiny_embedder.DIM), np.nan, dtype=np.float32)

    kept: list[Any] = []
    with pytest.raises(RaptorError, match="the embedder 'minilm' gave no vectors"):
        embed(
            replace(tiny_embedder.load(), encode=encode),
            TEXTS,
            record=lambda batch, rows: kept.append(rows),
        )
    assert kept == []


def test_what_embeds_goes_to_another_process_by_its_name() -> None:
    model = on_device(load_embedder(), AUTO)
    sent = pickle.dumps(model)
    assert len(sent) < 1_000
    back = pickle.loads(sent)  # noqa: S301  (our own)
    assert (back.name, back.fingerprint, back.device) == (model.name, model.fingerprint, AUTO)
    assert np.array_equal(back.encode(["a ketch"]), model.encode(["a ketch"]))
    with pytest.raises(IndexStoreError, match="'minilm' has other weights on this machine"):
        pickle.loads(pickle.dumps(replace(model, fingerprint="another")))  # noqa: S301  (our own)


def test_few_texts_are_embedded_here_whatever_gpu_there_is() -> None:
    model = on_device(load_embedder(), AUTO)
    assert model.device == AUTO
    assert settled(model, FEW).device == CPU
    assert on_device(tiny_embedder.load(), AUTO).device == CPU


def test_an_unknown_device_is_one_sentence() -> None:
    with pytest.raises(IndexStoreError, match=r"device is 'tpu'; give one of auto, cpu, cuda, mps"):
        found_device("tpu")


# These import torch, which takes seconds.


@pytest.mark.slow
def test_auto_is_the_gpu_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for cuda, mps, there in ((True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda seen=cuda: seen)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda seen=mps: seen)
        assert found_device(AUTO) == there
        assert settled(on_device(load_embedder(), AUTO), FEW + 1).device == there
    with pytest.raises(
        IndexStoreError, match="torch sees no device cuda on this machine; give --device auto"
    ):
        on_device(load_embedder(), "cuda")


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 30])  # numpy's, and torch's
def test_vectors_have_the_same_bits_with_any_number_of_workers_and_of_torchs_threads(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(embedding, "BATCH", size)
    within, scaled = list[int](), torch.nn.functional.normalize

    def normalize(*args: Any, **options: Any) -> Any:
        within.append(torch.get_num_threads())
        return scaled(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "normalize", normalize)
    before, model, rows = torch.get_num_threads(), load_embedder(), []
    for workers, threads in ((1, 1), (1, 2), (3, 2)):
        monkeypatch.setattr(embedding, "cores", lambda there=workers: there)
        torch.set_num_threads(threads)
        rows.append(embed(model, TEXTS))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], rows[2])
    assert {*within} == ({1} if size > FEW else set())
