"""Keys kept out of texts: a server may echo in an error what it was sent, and errors go into traces and terminals."""

import json
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL", re.IGNORECASE)
#: Shorter values are words and numbers that stand in many texts.
LEAST_CHARS = 8


def redacted(text: str) -> str:
    """`text` with the value of each environment variable that is named like a secret replaced by the variable's name.

    Also as JSON and addresses write it, and a beginning of it, LEAST_CHARS or more, at which the text was cut off.
    """
    for value, name in sorted(_secrets(), key=lambda pair: -len(pair[0])):
        shown = f"[value of {name}]"
        text = text.replace(value, shown)
        cut = next((n for n in range(len(value) - 1, LEAST_CHARS - 1, -1) if text.endswith(value[:n])), 0)
        text = text[: len(text) - cut] + shown if cut else text
    return text


def _secrets() -> Iterator[tuple[str, str]]:
    """Each form of each secret, with the name of its variable."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value.strip()) >= LEAST_CHARS:
            raw = value.strip()
            forms = {
                raw,
                " ".join(raw.split()),
                json.dumps(raw)[1:-1],
                repr(raw)[1:-1],
                quote(raw),
                quote_plus(raw),
            }
            yield from ((form, name) for form in forms)
