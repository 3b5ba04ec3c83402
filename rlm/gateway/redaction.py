"""Keys kept out of texts: a server may echo in an error what it was sent, and errors go into traces and terminals.

A key is what litellm may send: a variable of the environment, or a setting of litellm, that is named like a secret; and
a name and password in an address.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH|BEARER|COOKIE", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s?#@]{1,400}(?=@)")
#: Shorter values are words and numbers that stand in many texts.
LEAST_CHARS = 8


def redacted(text: str) -> str:
    """`text` with the value of each variable or setting that is named like a secret replaced by its name.

    Also as JSON and addresses write it, and a beginning of it, LEAST_CHARS or more, at which the text was cut off.
    """
    text = _IN_ADDRESS.sub("[name and password]", text)
    for value, name in sorted(_secrets(), key=lambda pair: -len(pair[0])):
        shown = f"[value of {name}]"
        text = text.replace(value, shown)
        cut = next((n for n in range(len(value) - 1, LEAST_CHARS - 1, -1) if text.endswith(value[:n])), 0)
        text = text[: len(text) - cut] + shown if cut else text
    return text


def _secrets() -> Iterator[tuple[str, str]]:
    """Each form of each secret, with the name of its variable or setting."""
    for name, raw in _values():
        if _SECRET_NAME.search(name) and len(raw) >= LEAST_CHARS:
            quoted = json.dumps(raw)[1:-1], repr(raw)[1:-1], quote(raw), quote_plus(raw)
            yield from ((form, name) for form in {raw, " ".join(raw.split()), *quoted})


def _values() -> Iterator[tuple[str, str]]:
    """(name, value) of what may be sent: the environment and, where litellm is imported, its own settings."""
    yield from ((name, value.strip()) for name, value in os.environ.items())
    settings = dict(vars(sys.modules["litellm"])) if "litellm" in sys.modules else {}
    headers = settings.get("headers")
    named = {name: value for name, value in settings.items() if name.islower()}  # no constants
    named |= {f"headers: {name}": value for name, value in (headers or {}).items()}
    yield from ((f"litellm.{name}", value.strip()) for name, value in named.items() if isinstance(value, str))
