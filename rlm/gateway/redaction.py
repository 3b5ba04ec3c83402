"""Keys kept out of texts: a server may echo in an error what it was sent, and errors go into traces and terminals.

A key is what litellm may send: a variable of the environment, or a setting of litellm, that is named like a secret; and
a name and password in an address.
"""

import base64
import html
import json
import os
import re
import sys
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

_SECRET_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH(?!OR(?!IZ))|BEARER|COOKIE",  # no author
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s?#@]{1,400}(?=@)")
#: Shorter values are words and numbers that stand in many texts.
LEAST_CHARS = 8
#: A value that is taken out of replies too, where a word must stay a word.
_LIKE_A_KEY = re.compile(r"(?=.*\d)\S{16,}")


def redacted(text: str) -> str:
    """`text` with the value of each variable or setting that is named like a secret replaced by its name.

    Also in other case, as JSON, HTML, addresses and base64 write it, and a beginning of it, LEAST_CHARS or more, at
    which the text was cut off.
    """
    text = _replaced(_IN_ADDRESS.sub("[name and password]", text), _longest_first())
    for value, name in _longest_first():
        cut = next((n for n in range(len(value) - 1, LEAST_CHARS - 1, -1) if text.endswith(value[:n])), 0)
        text = f"{text[: len(text) - cut]}[value of {name}]" if cut else text
    return text


def without_secrets(text: str) -> str:
    """As `redacted`, of whole values that look like keys: for a reply, of which no other word is to be touched."""
    return _replaced(
        text, [(value, name) for value, name in _longest_first() if _LIKE_A_KEY.fullmatch(value)]
    )


def _replaced(text: str, secrets: list[tuple[str, str]]) -> str:
    for value, name in secrets:
        text = re.sub(re.escape(value), f"[value of {name}]".replace("\\", r"\\"), text, flags=re.IGNORECASE)
    return text


def _longest_first() -> list[tuple[str, str]]:
    return sorted(_secrets(), key=lambda pair: -len(pair[0]))


def _secrets() -> Iterator[tuple[str, str]]:
    """Each form of each secret, with the name of its variable or setting."""
    for name, raw in _values():
        if _SECRET_NAME.search(name) and len(raw) >= LEAST_CHARS:
            as_json = json.dumps(raw)[1:-1]
            quoted = [as_json, json.dumps(as_json)[1:-1], repr(raw)[1:-1]]
            quoted += [quote(raw), quote(raw, safe=""), quote_plus(raw)]
            quoted += [html.escape(raw), html.escape(raw, quote=False)]
            quoted += [base64.b64encode(raw.encode("utf-8", "surrogateescape")).decode()]
            yield from ((form, name) for form in {raw, " ".join(raw.split()), *quoted})


def _values() -> Iterator[tuple[str, str]]:
    """(name, value) of what may be sent: the environment and, where litellm is imported, its own settings."""
    yield from ((name, value.strip()) for name, value in os.environ.items())
    settings = dict(vars(sys.modules["litellm"])) if "litellm" in sys.modules else {}
    headers = settings.get("headers")
    named = {name: value for name, value in settings.items() if name.islower()}  # no constants
    named |= {f"headers: {name}": value for name, value in (headers or {}).items()}
    yield from ((f"litellm.{name}", value.strip()) for name, value in named.items() if isinstance(value, str))
