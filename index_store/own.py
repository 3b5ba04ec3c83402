"""What is the user's alone: our folders where the system keeps a user's files, and keys that nobody else has."""

import errno
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from index_store.paths import is_url

KEY_BYTES = 32


def own_folder(kind: Literal["cache", "data"]) -> Path:
    """Our folder where this system keeps a user's files of that kind. Raises FileNotFoundError without a home."""
    import platformdirs  # here, as --help needs none

    find = {"cache": platformdirs.user_cache_path, "data": platformdirs.user_data_path}[kind]
    try:
        folder = Path(find("raptor-rlm", appauthor=False))
    except RuntimeError:  # nothing names a home
        folder = Path()
    if not folder.is_absolute():  # as earlier versions of it say so
        raise FileNotFoundError(errno.ENOENT, "there is no home folder")
    return folder


def own_key(path: Path, called: str) -> bytes:
    """The user's own key in a file, which is made where there is none. `called`: the file, for a message. Raises
    OSError."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make_once(path, lambda partial: partial.write_bytes(os.urandom(KEY_BYTES)))
    with path.open("rb") as file:
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise OSError(f"{called} has not {KEY_BYTES} bytes; delete it, and one is made anew")
    return key


def make_once(path: Path, fill: Callable[[Path], object]) -> None:
    """Make a file that only its user may read, whole or not at all; where another was faster, that one stays."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        fill(partial)
        with suppress(FileExistsError):
            path.hardlink_to(partial)
    finally:
        partial.unlink()


def make_folder(path: Path) -> None:
    """Make a folder of this machine, if it is not there. Raises OSError, also for what is meant as a URL: it would be a
    folder of that name here."""
    if is_url(path):
        raise OSError(errno.EINVAL, "it is a URL, and this is kept on this machine; name a folder")
    path.mkdir(parents=True, exist_ok=True)
