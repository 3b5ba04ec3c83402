"""What a store can do: read, write, list and delete objects, and replace one only where it is still what it was."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from index_store.stores.urls import Url

#: Called with the bytes that have come or gone since it was called last; it may stop a transfer by raising.
Told = Callable[[int], None]
PIECE = 8 << 20  # bytes that are sent or fetched at a time


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a listing has it. `modified`: by the clock of the store."""

    key: str
    size: int
    modified: datetime


class Missing(Exception):
    """There is no such object."""


class Changed(Exception):
    """An object is not what it was when it was read, or there is one where there was none."""


class Objects(Protocol):
    """The objects below a URL, by keys relative to it. Every method raises StoreError where the store cannot be used,
    and says nothing there that could hold a key of the user's."""

    url: Url

    def read(self, key: str, most: int) -> tuple[bytes, str]:
        """An object of up to `most` bytes, and a tag that changes when it does. Raises Missing, StoreError where it is
        larger."""

    def fetch(self, key: str, start: int, size: int, file: Path, told: Told) -> None:
        """Write the bytes start:start+size of an object into a file at the same place. Raises Missing, StoreError
        where it does not give so many."""

    def send(self, key: str, file: Path, told: Told) -> str:
        """Write a file's bytes to an object, whole or not at all, and give the sha256, in hex, of what was sent."""

    def put(self, key: str, content: bytes, tag: str | None) -> None:
        """Write an object where it still has this tag, or, for None, where there is none. Raises Changed else."""

    def list(self, below: str) -> Iterator[Stored]:
        """The objects whose keys begin with `below`, a folder's name with a slash at its end."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, in order. Those that are gone already are passed by."""
