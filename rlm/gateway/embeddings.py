"""Embedding models that are called: `litellm/NAME` takes each message of a request as a text, and replies with vectors.

So a call takes the way of every other: it is priced, reserved, paced, retried, settled, recorded and replayed. The text
of its reply is the vectors, one after another, as float32 in base64.
"""

import base64
import hashlib
import json
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from rlm.gateway.types import Request

#: How the name of such a model begins; what follows is litellm's name for it, or a short one.
EMBEDS = "litellm/"
#: Of a reply, which has no other tokens: a request must ask for some.
_TOKENS = 1


def embeds(model: str) -> bool:
    """Whether a model is called to embed."""
    return model.startswith(EMBEDS)


def litellms(model: str) -> str:
    """litellm's own name for a model."""
    return model.removeprefix(EMBEDS)


def embedding_request(model: str, texts: Sequence[str], options: Mapping[str, Any] | None = None) -> Request:
    """The call that embeds texts. `options`: as those of `Request`, such as {"dimensions": 256}."""
    messages = tuple({"role": "user", "content": text} for text in texts)
    return Request(model, messages, _TOKENS, options=options or {})  # type: ignore[arg-type]


def rows_of(data: Any, count: int) -> str:
    """The vectors of a provider's reply to `count` texts, in the order of these, as the text of a reply.

    Raises ValueError, one sentence, where they are not `count` lists of as many numbers that have a direction.
    """
    if not isinstance(data, list) or len(data) != count:
        raise ValueError(f"{count} texts have {len(data) if isinstance(data, list) else 'no'} vectors")
    by_index: dict[Any, list[float]] = {}
    for place, item in enumerate(data):
        by_index[_field(item, "index", place)] = _numbers(_field(item, "embedding", None))
    if set(by_index) != set(range(count)):
        raise ValueError("vectors are numbered otherwise than the texts")
    rows = [by_index[place] for place in range(count)]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("vectors have different lengths")
    numbers = array("f")
    for row in rows:
        numbers.extend(row)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def _field(item: Any, name: str, absent: Any) -> Any:
    value = item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
    return absent if value is None else value


def _numbers(vector: Any) -> list[float]:
    if not isinstance(vector, list) or not vector:
        raise ValueError("a vector is no list of numbers")
    if not all(type(x) in (int, float) and math.isfinite(x) and abs(x) < 1e30 for x in vector):
        raise ValueError("a vector holds what is no number")
    if not any(vector):
        raise ValueError("a vector is all zeros, which has no direction")
    return vector


def vectors_in(text: str, count: int) -> Any:
    """The (count, dim) float32 unit rows that the text of a reply holds; raises ValueError where it holds none such."""
    import numpy as np

    rows = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    if not rows.size or rows.size % count or not np.isfinite(rows).all():
        raise ValueError("the reply holds no vectors")
    rows = rows.reshape(count, -1).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("the reply holds a vector without a direction")
    return (rows / lengths).astype(np.float32)


def fingerprint(model: str, options: Mapping[str, Any], dim: int) -> str:
    """What an index keeps of the model that made its vectors. The weights are not to be seen, nor is who serves them:
    by another address the same name is the same model."""
    said = json.dumps([model, dict(options), dim], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
