"""What a server serves, and within which bounds."""

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from index_store.paths import is_url
from index_store.stores.layout import objects_at, the_live
from index_store.stores.urls import url_of
from rlm.errors import RlmError
from rlm.limits import Limits, Models

MOST_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MOST_NAME - 1}}}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server serves. `indexes`: where each index is, by its name. `data`: the folder of indexes made by upload,
    and of what was uploaded. `runs`: the folder in which each run gets a folder.

    `models`, `limits`: of a question; a client may ask for less. `max_running`: questions at once, others wait their
    turn; `max_waiting`: how many. `access`: the labels of documents that may be read at most, None for all.
    `embedder`: the one that built those of the indexes that the built-in one did not.
    `summarizer`: of builds; `raptor`'s own by default. `drain_s`: seconds that what runs has to its end at a shutdown.
    `abandon_s`: seconds after which a question is cancelled that somebody followed and nobody does any more.
    `json_bytes`, `upload_bytes`, `upload_files`: of one request. `body_s`: seconds between two parts of a body.
    """

    indexes: Mapping[str, str | Path]
    data: Path
    runs: Path
    models: Models = Models()
    limits: Limits = Limits()
    max_running: int = field(default_factory=lambda: 2 * (os.cpu_count() or 1))
    max_waiting: int = 1_000
    access: frozenset[str] | None = None
    embedder: str | None = None
    summarizer: str = ""
    drain_s: float = 30.0
    abandon_s: float = 30.0
    json_bytes: int = 4 << 20
    upload_bytes: int = 1 << 30
    upload_files: int = 1_000
    body_s: float = 30.0

    @property
    def uploads(self) -> Path:
        """The folder of what was uploaded, in it a folder for each index."""
        return self.data / "uploads"

    @property
    def made(self) -> Path:
        """The folder of indexes made by upload."""
        return self.data / "indexes"


def check_name(name: str) -> str:
    """The name of an index itself. Raises RlmError for what could not stand in an address or name a folder."""
    if not _NAME.fullmatch(name):
        raise RlmError(
            f"an index cannot be called {name[:80]!r}; give a letter or a digit, then at most {MOST_NAME - 1} letters, "
            "digits, dots, dashes and underscores"
        )
    return name


def named_indexes(words: list[str]) -> dict[str, str | Path]:
    """Where each index is, by its name, of arguments `PATH` or `NAME=PATH`, or with the URL of one; the name of a path
    is that of its folder without what ends it. Raises RlmError, and IndexStoreError where a URL has none."""
    found = dict[str, str | Path]()
    for word in words:
        before, equals, after = word.partition("=")
        named = bool(equals) and bool(_NAME.fullmatch(before)) and not Path(word).exists()
        given = after if named else word
        path = Path(given)
        if is_url(given):
            the_live(objects_at(given))
        elif not path.exists():
            raise RlmError(f"there is no index at {path}; build one with: raptor build SOURCE -o {path}")
        name = before if named else _called(path)
        if name in found:
            raise RlmError(f"two indexes are called {name}; name one of them otherwise: other={given}")
        found[name] = str(url_of(given)) if is_url(given) else path.resolve()
    return found


def _called(path: Path) -> str:
    plain = unicodedata.normalize("NFKD", path.resolve().stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:MOST_NAME]
    if not name:
        raise RlmError(f"the name of {path} cannot stand in an address; give it another: NAME={path}")
    return name
