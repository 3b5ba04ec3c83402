"""A shared folder as a store, at `file:///path`: by the standard library alone.

An object is written elsewhere in the folder, synced and renamed, so that it is there whole or not at all. The pointer
is compared and replaced under a lock that whoever publishes there takes. No link below the folder is followed.
"""

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from index_store.errors import StoreError
from index_store.files import Lock, lock, opening, refuse_links, sync
from index_store.stores.objects import PIECE, Changed, Missing, Stored, Told
from index_store.stores.urls import Url

LOCK = ".lock"
PARTIALS = "partial"  # where objects are written before they take their places
WAIT_S = 20.0  # for who replaces the pointer, which takes milliseconds
_AGAIN_S = 0.02


class FolderObjects:
    """The files below a folder."""

    def __init__(self, url: Url) -> None:
        self.url, self._root = url, Path(url.prefix)

    def read(self, key: str, most: int) -> tuple[bytes, str]:
        with self._worded("read"), self._opened(key) as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise StoreError(f"{self.url}/{key} has more than {most:,} bytes, which no such file has")
        return content, hashlib.sha256(content).hexdigest()

    def fetch(self, key: str, start: int, size: int, file: Path, told: Told) -> None:
        with self._worded("read"), self._opened(key) as source, file.open("r+b") as to:
            source.seek(start)
            to.seek(start)
            while size:
                part = source.read(min(size, PIECE))
                if not part:
                    raise StoreError(f"{self.url}/{key} is cut short")
                to.write(part)
                size -= len(part)
                told(len(part))

    def send(self, key: str, file: Path, told: Told) -> str:
        digest = hashlib.sha256()
        with self._worded("write"), self._placed(key) as to, file.open("rb") as source:
            while part := source.read(PIECE):
                to.write(part)
                digest.update(part)
                told(len(part))
        return digest.hexdigest()

    def put(self, key: str, content: bytes, tag: str | None) -> None:
        with self._worded("write"):
            self._root.mkdir(parents=True, exist_ok=True)
            with self._locked():
                try:
                    found: str | None = self.read(key, max(len(content), 1 << 16))[1]
                except Missing:
                    found = None
                if found != tag:
                    raise Changed
                with self._placed(key) as to:
                    to.write(content)

    def list(self, below: str) -> Iterator[Stored]:
        with self._worded("read"):
            for folder, _, names in os.walk(self._root / below, onerror=_unless_missing):
                for name in sorted(names):
                    with suppress(FileNotFoundError):  # gone since
                        path = Path(folder, name)
                        status = path.lstat()
                        if stat.S_ISREG(status.st_mode):
                            key = path.relative_to(self._root).as_posix()
                            yield Stored(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, keys: Iterable[str]) -> None:
        with self._worded("change"):
            for key in keys:
                refuse_links(self._root, key)
                path = self._root / key
                path.unlink(missing_ok=True)
                for folder in path.parents[: max(0, key.count("/") - 1)]:  # of a generation, but not of all
                    with suppress(OSError):  # others stand there still
                        folder.rmdir()

    def _locked(self) -> Lock:
        busy, last = BlockingIOError(), time.monotonic() + WAIT_S
        while True:
            try:
                return lock(self._root / LOCK, busy)
            except BlockingIOError:
                if time.monotonic() > last:
                    raise StoreError(
                        f"another process holds {self.url}/{LOCK} for more than {WAIT_S:g} s; end it, and try again"
                    ) from None
            time.sleep(_AGAIN_S)

    @contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO]:
        refuse_links(self._root, key)
        try:
            handle = os.open(self._root / key, opening("RDONLY", "NOFOLLOW", "NONBLOCK"))
        except (FileNotFoundError, NotADirectoryError):
            raise Missing from None
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise StoreError(f"{self.url}/{key} is no file")
            yield file

    @contextmanager
    def _placed(self, key: str) -> Iterator[BinaryIO]:
        """A file to be written that takes its place when the block ends, and is gone where it fails."""
        refuse_links(self._root, key)
        path, partial = self._root / key, self._root / PARTIALS / secrets.token_hex(16)
        refuse_links(self._root, PARTIALS)
        for folder in (path.parent, partial.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @contextmanager
    def _worded(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise StoreError(
                f"cannot {verb} {self.url}: {e.strerror or e}; mend the folder, or name another"
            ) from e


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
