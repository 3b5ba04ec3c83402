"""An embedding model as plain functions: the same one builds an index and searches it."""

import hashlib
import os
import threading
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
#: How the name of an embedder begins that is called and paid for: whoever opens an index says how.
CALLED = "litellm/"
#: What a build computes embeddings in; "auto": bfloat16 where the processor has it.
AUTO, FLOAT32, BFLOAT16 = PRECISIONS = ("auto", "float32", "bfloat16")
#: Where a build computes embeddings; "auto": on a GPU if torch sees one.
CPU, DEVICES = "cpu", (AUTO, "cpu", "cuda", "mps")
#: Where a token begins and ends in its text, in characters.
Offsets = tuple[int, int]
#: From n texts to the offsets of the tokens of each.
TokenOffsets = Callable[[Sequence[str]], list[list[Offsets]]]

#: Up to so many texts numpy is done before torch would be imported, were each as long as the model reads. Less than a
#: batch, so that all of a large build but its last batch is torch's.
FEW = 24
_HUB_S = 10.0  # for the hub to say whether it has a model


@dataclass(frozen=True, slots=True)
class Embedder:
    """An embedding model.

    `encode`: from n texts to (n, dim) float32 unit rows. `token_offsets`: to the offsets of the tokens of each.
    `count_tokens`: to how many tokens each has. `max_tokens`: how much of a text `encode` reads. Special tokens are
    not counted anywhere. `fingerprint`: differs where the weights do. `precision`: of what `encode` computes; `device`:
    where it does. `in_bfloat16`: the same in bfloat16, with sums and norms in float32; None where the embedder has no
    such form.
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
    device: str = CPU

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process does not get the model: it loads it by its name, and keeps it as `load_embedder` does."""
        if self.name.startswith(CALLED):
            return called, (self.name, self.fingerprint, self.dim, self.max_tokens)
        name = str(Path(self.name).absolute()) if Path(self.name).is_dir() else self.name
        return _loaded_there, (name, self.fingerprint, self.precision, self.device)


def called(name: str, fingerprint: str, dim: int, max_tokens: int) -> Embedder:
    """An embedder that a gateway calls. The tokenizers of such models are not to be had: chunks are cut, and tokens
    counted, by that of minilm."""

    def encode(texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        raise IndexStoreError(f"{name} is called through a gateway, which pays for it")

    offsets = load_tokenizer()
    return Embedder(name, fingerprint, dim, max_tokens, encode, offsets, _counter(offsets))


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


def on_device(embedder: Embedder, device: str) -> Embedder:
    """The embedder as it computes on one of DEVICES; one that is no model of torch's stays as it is.

    Sums come in another order on a GPU, so last bits differ from those of the processor. Raises IndexStoreError where
    torch does not see the device. "auto" is looked up when it is needed: torch takes five seconds to import.
    """
    given, low = embedder.encode, embedder.in_bfloat16
    if device not in (AUTO, CPU):
        found_device(device)
    if device == CPU or not isinstance(given, _Encoder):
        return embedder
    low = replace(low, device=device) if isinstance(low, _Encoder) else low
    return replace(embedder, encode=replace(given, device=device), in_bfloat16=low, device=device)


def settled(embedder: Embedder, texts: int) -> Embedder:
    """The embedder with the device that "auto" comes to for so many texts."""
    if embedder.device != AUTO:
        return embedder
    there = CPU if texts <= FEW else found_device(AUTO)
    encode = embedder.encode
    encode = replace(encode, device=there) if isinstance(encode, _Encoder) else encode
    return replace(embedder, encode=encode, device=there)


def found_device(device: str) -> str:
    """The device that one of DEVICES stands for on this machine. Raises IndexStoreError where torch does not see it."""
    if device not in DEVICES:
        raise IndexStoreError(f"device is {device[:80]!r}; give one of {', '.join(DEVICES)}")
    if device == CPU:
        return CPU
    import torch

    seen = [
        name
        for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if there
    ]
    if device == AUTO:
        return seen[0] if seen else CPU
    if device not in seen:
        raise IndexStoreError(
            f"torch sees no device {device} on this machine; give --device auto, or install a torch for it"
        )
    return device


def _loaded_there(name: str, fingerprint: str, precision: str, device: str) -> Embedder:
    """The embedder of another process, in this one. Raises IndexStoreError where it cannot be the same."""
    found = load_embedder(name)
    if found.fingerprint != fingerprint:
        raise IndexStoreError(
            f"the embedder {name!r} has other weights on this machine than where the build runs; copy them here"
        )
    return on_device(at_precision(found, precision), device)


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
    offsets = _token_offsets(Tokenizer.from_file(str(folder / "tokenizer.json")))
    encoder = _Encoder(BUILT_IN, minilm.DIM)
    return Embedder(
        BUILT_IN,
        minilm.WEIGHTS_SHA256,
        minilm.DIM,
        minilm.MAX_TOKENS,
        encoder,
        offsets,
        _counter(offsets),
        in_bfloat16=replace(encoder, precision=BFLOAT16),
    )


def _load_other(name: str, offline: bool) -> Embedder:
    model = _loaded(name, offline, CPU)
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        raise IndexStoreError(
            f"the embedder {name!r} has no fast tokenizer, which chunking needs; choose another model"
        )
    offsets = _token_offsets(type(tokenizer).from_str(tokenizer.to_str()))
    dim = model.encode(["dimension"], show_progress_bar=False).shape[1]
    max_tokens = (model.max_seq_length or 512) - tokenizer.num_special_tokens_to_add(False)
    encoder = _Encoder(name, dim, offline)
    return Embedder(
        name,
        _fingerprint(model),
        dim,
        max_tokens,
        encoder,
        offsets,
        _counter(offsets),
        in_bfloat16=replace(encoder, precision=BFLOAT16),
    )


@dataclass(frozen=True, slots=True)
class _Encoder:
    """`Embedder.encode` of a model for sentence-transformers: its name, and how it computes.

    All texts of a call are one batch, on one thread of the processor: so a vector's bits depend on its batch alone, and
    not on how many cores there are. Several threads may call it at once.
    """

    name: str
    dim: int
    offline: bool = True
    precision: str = FLOAT32
    device: str = CPU

    def __call__(self, texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        import numpy as np

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        if self.name == BUILT_IN and len(texts) <= FEW:
            return _few_encoder()(encodable(texts))
        device = found_device(self.device)
        with _LOADING:
            model = _loaded(self.name, self.offline, device)
        import torch

        # Matrices are multiplied in bfloat16; what sums over a row, such as a norm, stays in float32.
        low = torch.autocast(device, torch.bfloat16, enabled=self.precision == BFLOAT16)
        with _one_torch_thread(), low:
            rows = model.encode(
                encodable(texts),
                batch_size=len(texts),
                show_progress_bar=False,
                normalize_embeddings=False,
                convert_to_tensor=True,
            )
            unit = torch.nn.functional.normalize(rows.to(torch.float32))
            return np.asarray(unit.cpu().numpy(), dtype=np.float32)


# Threads that want the same model wait for the one that loads it.
_LOADING = threading.Lock()


@cache
def _few_encoder() -> "Encode":
    return minilm.few_encoder(minilm.folder())


@lru_cache(maxsize=2)
def _loaded(name: str, offline: bool, device: str) -> Any:
    """A model in torch, on a device. Raises IndexStoreError."""
    folder = str(minilm.folder()) if name == BUILT_IN else name
    return _sentence_transformer(folder, offline).to(device)


class _OneThread:
    """torch computes on one thread while anybody is in the block, and then as it did before."""

    def __init__(self) -> None:
        self._inside, self._before, self._lock = 0, 1, threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        import torch

        with self._lock:
            self._before = self._before if self._inside else torch.get_num_threads()
            self._inside += 1
            torch.set_num_threads(1)  # for this thread, where torch keeps a number for each
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    torch.set_num_threads(self._before)


_one_torch_thread = _OneThread()


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


def encodable(texts: Sequence[str]) -> list[str]:
    """`texts` with each lone surrogate, which no tokenizer takes, replaced by `?`; so no offset moves."""
    return [text.encode(errors="replace").decode() for text in texts]


def _token_offsets(tokenizer: Any) -> TokenOffsets:
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def token_offsets(texts: Sequence[str]) -> list[list[Offsets]]:
        encodings = tokenizer.encode_batch(encodable(texts), add_special_tokens=False)
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
