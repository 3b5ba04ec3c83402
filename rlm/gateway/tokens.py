"""Counting tokens without a network and without importing litellm.

The vocabularies are the files that litellm carries, read through tiktoken.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rlm.gateway.types import Message

if TYPE_CHECKING:
    import tiktoken

# Other makers do not publish a tokenizer that runs offline; theirs have given up to a fifth more tokens
# than o200k on English and code, so their counts are raised by that much.
OTHER_TOKENIZER_MARGIN = 1.2
# Chat formats wrap each message in 3 or 4 tokens and the reply in 3.
MESSAGE_TOKENS = 4
REPLY_TOKENS = 3

_CL100K = ("gpt-3.5", "gpt-35", "gpt-4-", "text-embedding-")
_O200K = ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt-4o", "o1", "o3", "o4", "gpt-oss")
# tiktoken's regular expression overflows its stack on a run of a million spaces, and a run without a
# break is slow; slices cost at most a token or two each.
_SLICE_CHARS = 10_000


def count_tokens(model: str, text: str | Sequence[Message]) -> int:
    """Tokens of a text, or of a conversation with its framing, for a model.

    Exact for text and OpenAI's models and for `offline/` ones (o200k); for all others o200k raised by
    `OTHER_TOKENIZER_MARGIN`. Texts above 10,000 characters may count a token more for each such slice.
    """
    if isinstance(text, str):
        return _raised(model, _count(model, [text]))
    contents = [message["content"] for message in text]
    return _raised(model, _count(model, contents)) + MESSAGE_TOKENS * len(contents) + REPLY_TOKENS


def truncate(text: str, max_tokens: int) -> str:
    """The start of a text that its first `max_tokens` o200k tokens make; a character cut in two is left out."""
    if len(text.encode("utf-8", "surrogatepass")) <= max_tokens:
        return text
    encoding = _encoding("o200k_base")
    tokens: list[int] = []
    for at in range(0, len(text), _SLICE_CHARS):
        tokens += encoding.encode_ordinary(text[at : at + _SLICE_CHARS])
        if len(tokens) > max_tokens:
            return encoding.decode(tokens[: max(0, max_tokens)], errors="ignore")
    return text


def word_rank(word: str) -> int:
    """How common a word is in the texts that o200k was made from: its place among merges, most frequent first.

    Byte pair encoding merges by frequency (Sennrich et al., arXiv 1508.07909), so a word's place stands in for a
    table of frequencies. A word that is no token of its own is rarer than all that are: 200,000.
    """
    try:
        return _encoding("o200k_base").encode_single_token(" " + word)
    except (KeyError, UnicodeEncodeError):
        return 200_000


def _count(model: str, texts: Iterable[str]) -> int:
    encoding = _encoding(_vocabulary(model))
    return sum(
        len(encoding.encode_ordinary(text[at : at + _SLICE_CHARS]))
        for text in texts
        for at in range(0, len(text), _SLICE_CHARS)
    )


def _raised(model: str, tokens: int) -> int:
    return tokens if _is_exact(model) else math.ceil(tokens * OTHER_TOKENIZER_MARGIN)


def _is_exact(model: str) -> bool:
    name = model.rsplit("/", 1)[-1]
    return model.startswith("offline/") or name == "gpt-4" or name.startswith(_CL100K + _O200K)


def _vocabulary(model: str) -> str:
    name = model.rsplit("/", 1)[-1]
    old = name == "gpt-4" or (name.startswith(_CL100K) and not name.startswith(_O200K))
    return "cl100k_base" if old else "o200k_base"


@cache
def _encoding(vocabulary: str) -> "tiktoken.Encoding":
    import tiktoken

    with environment(TIKTOKEN_CACHE_DIR=str(_bundled_vocabularies())):
        return tiktoken.get_encoding(vocabulary)


def _bundled_vocabularies() -> Path:
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("litellm is not installed; it carries the tokenizer files")
    return Path(spec.submodule_search_locations[0]) / "litellm_core_utils" / "tokenizers"


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """The environment with other values for as long as the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
