"""An embedding model as plain functions: the same one builds an index and searches it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index_store import minilm
from index_store.arguments import checked
from index_store.errors import IndexStoreError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]

#: The embedder that is part of an installation: what an index may name without being asked.
BUILT_IN = "minilm"
#: What a build computes embeddings in; "auto": bfloat16 where the processor has it.
AUTO, FLOAT32, BFLOAT16 = PRECISIONS = ("auto", "float32", "bfloat16")
#: Where a token begins and ends in its text, in characters.
Offsets = tuple[int, int]
#: From n texts to the offsets of the tokens of each.
TokenOffsets = Callable[[Sequence[str]], list[list[Offsets]]]

# Up to so many texts numpy is done before torch would be imported, were each as long as the model reads. Less than a
# batch, so that all of a large build but its last batch is torch's.
_FEW = 24
_BATCH = 32
_HUB_S = 10.0  # for the hub to say whether it has a model


@dataclass(frozen=True, slots=True)
class Embedder:
    """An embedding model.

    `encode`: from n texts to (n, dim) float32 unit rows. `token_offsets`: to the offsets of the tokens of each.
    `count_tokens`: to how many tokens each has. `max_tokens`: how much of a text `encode` reads. Special tokens are
    not counted anywhere. `fingerprint`: differs where the weights do. `precision`: of what `encode` computes.
    `in_bfloat16`: the same in bfloat16, with sums and norms in float32; None where the embedder has no such form.
    """

    name: str
    fingerprint: str
    dim: int
    max_tokens: int
    encode: "Encode"
    token_offsets: TokenOffsets
    count_tokens: Callable[[Sequence[str]], list[int]]
    precision: str = FLOAT32
    in_bfloat16: "Encode | None" = None


@checked(IndexStoreError)
def load_embedder(name: str = BUILT_IN, *, offline: bool = False) -> Embedder:
    """Load `minilm`, which is checked and never reaches for the network, or a model for sentence-transformers.

    `name`: `minilm`, a model's folder, or a name on the hub; it is the user's own, never one that an index gives, and
    no code that a model brings along is run. `offline`: take only what is on this machine. The last two models stay
    loaded. Raises IndexStoreError where the model cannot be loaded.
    """
    # The built-in one is the same either way, and so loaded once.
    return _load(name, offline and name != BUILT_IN)


def at_precision(embedder: Embedder, precision: str) -> Embedder:
    """The embedder as a build uses it, by one of PRECISIONS.

    A question is embedded in float32 whatever built the index: that costs it nothing, and only one of the two vectors
    is rounded. Raises IndexStoreError for bfloat16 where the processor or the embedder has none.
    """
    if precision == FLOAT32:
        return embedder
    if embedder.in_bfloat16 is not None and has_bfloat16():
        return replace(embedder, encode=embedder.in_bfloat16, precision=BFLOAT16)
    if precision == AUTO:
        return embedder
    raise IndexStoreError(
        f"this processor, or the embedder {embedder.name!r}, does not compute in bfloat16; "
        "give precision float32 or auto"
    )


@cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16: without that it would take longer than in float32."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


@lru_cache(maxsize=2)
def _load(name: str, offline: bool) -> Embedder:
    return _load_minilm() if name == BUILT_IN else _load_other(name, offline)


def load_tokenizer(name: str = BUILT_IN) -> TokenOffsets:
    """The `token_offsets` of an embedder alone: those of `minilm` are there in well under a second, without torch."""
    if name != BUILT_IN:
        return load_embedder(name).token_offsets
    from tokenizers import Tokenizer

    return _token_offsets(Tokenizer.from_file(str(minilm.folder() / "tokenizer.json")))


def _load_minilm() -> Embedder:
    from tokenizers import Tokenizer

    folder = minilm.folder()
    few = minilm.few_encoder(folder)
    model = cache(lambda: _sentence_transformer(str(folder), offline=True))
    offsets = _token_offsets(Tokenizer.from_file(str(folder / "tokenizer.json")))

    def encoder(precision: str) -> "Encode":
        def encode(texts: Sequence[str]) -> "npt.NDArray[np.float32]":
            if len(texts) <= _FEW:
                return few(_encodable(texts))
            return _encoder(model(), minilm.DIM, precision)(texts)

        return encode

    return Embedder(
        "minilm",
        minilm.WEIGHTS_SHA256,
        minilm.DIM,
        minilm.MAX_TOKENS,
        encoder(FLOAT32),
        offsets,
        _counter(offsets),
        in_bfloat16=encoder(BFLOAT16),
    )


def _load_other(name: str, offline: bool) -> Embedder:
    model = _sentence_transformer(name, offline)
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        raise IndexStoreError(
            f"the embedder {name!r} has no fast tokenizer, which chunking needs; choose another model"
        )
    offsets = _token_offsets(type(tokenizer).from_str(tokenizer.to_str()))
    dim = model.encode(["dimension"], show_progress_bar=False).shape[1]
    max_tokens = (model.max_seq_length or 512) - tokenizer.num_special_tokens_to_add(False)
    return Embedder(
        name,
        _fingerprint(model),
        dim,
        max_tokens,
        _encoder(model, dim, FLOAT32),
        offsets,
        _counter(offsets),
        in_bfloat16=_encoder(model, dim, BFLOAT16),
    )


def _sentence_transformer(name: str, offline: bool) -> Any:
    # Torch's threads spin while they wait. Where others use the cores too, that halves the speed and doubles the
    # processor time. It is read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sentence_transformers import SentenceTransformer

    try:
        with _no_bars(), _unlogged("huggingface_hub", "sentence_transformers", "transformers", "httpx"):
            offline = offline or not _is_on_the_hub(name)
            return SentenceTransformer(name, device="cpu", trust_remote_code=False, local_files_only=offline)
    # Hub, file format and configuration errors share no base class, and all mean that there is no such model here.
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {error}"[:300].split())
        hub = "" if offline else ", or a sentence-transformers model on the hub"
        raise IndexStoreError(
            f"the embedder {name!r} cannot be loaded ({fault}); name 'minilm', a model's folder{hub}"
        ) from error


def _is_on_the_hub(name: str) -> bool:
    """Whether the hub has a model to fetch. It is asked once: for each file of a model it would be asked six times, for
    minutes, where it cannot be reached."""
    if Path(name).is_dir():
        return False
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(name, timeout=_HUB_S)
    except Exception:  # an answer, no answer, and a name that is none share no base class
        return False
    return True


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


@contextmanager
def _unlogged(*names: str) -> Iterator[None]:
    """These loggers say nothing, such as of tries to reach a hub: one sentence says in the end what was wrong."""
    import logging

    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _encoder(model: Any, dim: int, precision: str) -> "Encode":
    def encode(texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        import numpy as np

        if not texts:
            return np.zeros((0, dim), dtype=np.float32)
        import torch

        # Matrices are multiplied in bfloat16; what sums over a row, such as a norm, stays in float32.
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == BFLOAT16):
            rows = model.encode(
                _encodable(texts),
                batch_size=_BATCH,
                show_progress_bar=False,
                normalize_embeddings=False,
                convert_to_tensor=True,
            )
        unit = torch.nn.functional.normalize(rows.to(torch.float32))
        return np.asarray(unit.numpy(), dtype=np.float32)

    return encode


def _encodable(texts: Sequence[str]) -> list[str]:
    """`texts` with each lone surrogate, which no tokenizer takes, replaced by `?`; so no offset moves."""
    return [text.encode(errors="replace").decode() for text in texts]


def _token_offsets(tokenizer: Any) -> TokenOffsets:
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def token_offsets(texts: Sequence[str]) -> list[list[Offsets]]:
        encodings = tokenizer.encode_batch(_encodable(texts), add_special_tokens=False)
        return [encoding.offsets for encoding in encodings]

    return token_offsets


def _counter(token_offsets: TokenOffsets) -> Callable[[Sequence[str]], list[int]]:
    return lambda texts: [len(offsets) for offsets in token_offsets(texts)]


def _fingerprint(model: Any) -> str:
    """sha256 over the weights, whatever their order, names or file format."""
    import torch

    tensors = (
        tensor.detach().contiguous().flatten().view(torch.uint8) for tensor in model.state_dict().values()
    )
    digests = sorted(hashlib.sha256(tensor.numpy()).digest() for tensor in tensors)
    return hashlib.sha256(b"".join(digests)).hexdigest()
