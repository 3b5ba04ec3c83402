"""One build at a time in an index folder: a lock that the operating system drops when its owner dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raptor.errors import RaptorError

NAME = "build.lock"


@contextmanager
def build_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises RaptorError when another build holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / NAME).open("w")
    except OSError as e:
        raise RaptorError(f"cannot write in {folder}: {e.strerror or e}; choose another folder") from e
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise RaptorError(
                f"another build is writing {folder}; wait for it to end, or choose another folder"
            ) from e
        yield
