"""One embedding model as plain callables: the same one builds an index and searches it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from index_store import minilm
from index_store.errors import IndexStoreError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]

Span = tuple[int, int]
TokenSpans = Callable[[Sequence[str]], list[list[Span]]]

# Up to here numpy answers before torch would be imported.
_FEW = 8
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Embedder:
    """`encode`: n texts to (n, dim) float32 unit rows. `token_spans`: n texts to their tokens' character spans.

    `fingerprint` tells two models apart. `max_tokens`: what `encode` reads of a text, and no more. Special tokens
    are not counted anywhere.
    """

    name: str
    fingerprint: str
    dim: int
    max_tokens: int
    encode: "Encode"
    token_spans: TokenSpans
    count_tokens: Callable[[Sequence[str]], list[int]]


def load_embedder(name: str = "minilm") -> Embedder:
    """`minilm`, checked and offline; any other name is a folder or hub name for sentence-transformers.

    The last two stay loaded. Raises IndexStoreError where the model cannot be had.
    """
    return _load(name)


@lru_cache(maxsize=2)
def _load(name: str) -> Embedder:
    return _load_minilm() if name == "minilm" else _load_other(name)


def load_tokenizer(name: str = "minilm") -> TokenSpans:
    """The embedder's `token_spans` alone; for `minilm` without torch, in well under a second."""
    if name != "minilm":
        return load_embedder(name).token_spans
    from tokenizers import Tokenizer

    return _token_spans(Tokenizer.from_file(str(minilm.folder() / "tokenizer.json")))


def _load_minilm() -> Embedder:
    from tokenizers import Tokenizer

    folder = minilm.folder()
    few = minilm.few_encoder(folder)
    many = cache(lambda: _encoder(_sentence_transformer(str(folder), offline=True), minilm.DIM))
    spans = _token_spans(Tokenizer.from_file(str(folder / "tokenizer.json")))

    def encode(texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        return few(_encodable(texts)) if len(texts) <= _FEW else many()(texts)

    return Embedder(
        "minilm", minilm.WEIGHTS_SHA256, minilm.DIM, minilm.MAX_TOKENS, encode, spans, _counter(spans)
    )


def _load_other(name: str) -> Embedder:
    model = _sentence_transformer(name)
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        raise IndexStoreError(
            f"the embedder {name!r} has no fast tokenizer, which chunking needs; choose another model"
        )
    spans = _token_spans(type(tokenizer).from_str(tokenizer.to_str()))
    dim = model.encode(["dimension"], show_progress_bar=False).shape[1]
    room = (model.max_seq_length or 512) - tokenizer.num_special_tokens_to_add(False)
    return Embedder(name, _fingerprint(model), dim, room, _encoder(model, dim), spans, _counter(spans))


def _sentence_transformer(name: str, offline: bool = False) -> Any:
    # Torch's threads spin while they wait. Where others use the cores too, that halves the speed and doubles the
    # processor time. It is read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sentence_transformers import SentenceTransformer

    try:
        with _no_bars():
            return SentenceTransformer(name, device="cpu", trust_remote_code=False, local_files_only=offline)
    # Hub, file format and configuration errors share no base class, and all mean that there is no such model here.
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {error}"[:300].split())
        raise IndexStoreError(
            f"the embedder {name!r} cannot be loaded ({fault}); name 'minilm', a model's folder, "
            "or a sentence-transformers model on the hub"
        ) from error


@contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bar while weights load; the caller shows progress of its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _encoder(model: Any, dim: int) -> "Encode":
    def encode(texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        import numpy as np

        if not texts:
            return np.zeros((0, dim), dtype=np.float32)
        rows = model.encode(
            _encodable(texts), batch_size=_BATCH, show_progress_bar=False, normalize_embeddings=True
        )
        return np.asarray(rows, dtype=np.float32)

    return encode


def _encodable(texts: Sequence[str]) -> list[str]:
    """`texts` with half surrogate pairs, which no tokenizer takes, as `?`; no offset moves."""
    return [text.encode(errors="replace").decode() for text in texts]


def _token_spans(tokenizer: Any) -> TokenSpans:
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def token_spans(texts: Sequence[str]) -> list[list[Span]]:
        encodings = tokenizer.encode_batch(_encodable(texts), add_special_tokens=False)
        return [encoding.offsets for encoding in encodings]

    return token_spans


def _counter(token_spans: TokenSpans) -> Callable[[Sequence[str]], list[int]]:
    return lambda texts: [len(spans) for spans in token_spans(texts)]


def _fingerprint(model: Any) -> str:
    """sha256 over the weights, whatever their order, names or file format."""
    import torch

    tensors = (
        tensor.detach().contiguous().flatten().view(torch.uint8) for tensor in model.state_dict().values()
    )
    digests = sorted(hashlib.sha256(tensor.numpy()).digest() for tensor in tensors)
    return hashlib.sha256(b"".join(digests)).hexdigest()
