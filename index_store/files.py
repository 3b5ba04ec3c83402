"""What is done to a file as a whole: its digest, a lock on it, its replacement, the encoding that it begins with."""

import codecs
import errno
import hashlib
import os
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

try:
    import fcntl
except ImportError:  # Windows, whose locks are of bytes
    _bytes: Any = import_module("msvcrt")
else:
    _bytes = None

_PAGE = b"<!doctype html"
#: Where there are locks of bytes alone, the one that is locked: no file is so long, so all can be read beside it.
_LOCKED_BYTE = 1 << 40
_AGAIN_S = 0.05
_MOST_HANDLES = 1 << 19, 10_240  # that are asked of the system; the latter where it has no more for a process
_OTHER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def byte_order_fault(raw: bytes) -> str:
    """Why bytes that begin with the byte order mark of another encoding are not UTF-8, and what to do; "" for none."""
    name = next((name for mark, name in _OTHER_MARKS if raw.startswith(mark)), "")
    if not name:
        return ""
    return f"it is {name} by its byte order mark, not UTF-8; convert it with: iconv -f {name} -t UTF-8"


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_links(folder: Path, *names: str) -> None:
    """Raise OSError, worded as a sentence, where one of the files `names` below a folder is, or lies behind, a link.

    A folder that came from a stranger may hold links to anything; `folder` itself may be one.
    """
    for name in names:
        path = folder
        for part in PurePath(name).parts:
            path /= part
            if path.is_symlink():
                raise OSError(errno.ELOOP, f"{path} is a link, and none is followed here")


def allow_many_files() -> None:
    """Let this process have as many files open as it may: the usual 1,024, on macOS 256, are those of few shards."""
    try:
        import resource
    except ImportError:  # Windows, where there is no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in _MOST_HANDLES:
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if soft == resource.RLIM_INFINITY or wanted <= soft:
            return
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return
        except (OSError, ValueError):
            continue


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is new: what had its name is removed, and if that was a link, what it led to stays."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(content)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside the one it replaces and rename it: readers see the old one or the new one, whole.

    Raises OSError, which names the file, and leaves no file beside it then.
    """
    if not path.name:  # of "." and of "/"
        raise OSError(errno.EISDIR, "it is a folder; name a file in it")
    partial = path.with_name(f".{path.name}.partial")
    try:
        write_new(partial, content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        error.filename = str(path)  # a write that fails names none
        raise


def replace_page(path: Path, page: str) -> None:
    """Write a page of HTML as `replace_file` does, over nothing but another page. Raises OSError.

    A name that is typed wrong, such as that of a trace, must not cost what is there.
    """
    if path.is_file():
        with path.open("rb") as file:
            if not file.read(len(_PAGE)).lower().startswith(_PAGE):
                raise OSError(errno.EEXIST, "what is there is no page; name another file")
    replace_file(path, page.encode("utf-8"))


def opening(*names: str) -> int:
    """The flags of `os.open` with these names (`RDONLY`, `NOFOLLOW`), but for those that this system does not have;
    bytes are read and written as they are."""
    flags = 0
    for name in (*names, "BINARY"):
        flags |= getattr(os, f"O_{name}", 0)
    return flags


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk. Raises OSError."""
    if os.name == "nt" and path.is_dir():  # there a folder cannot be opened
        return
    handle = os.open(path, opening("RDWR" if os.name == "nt" else "RDONLY"))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hold(handle: int, *, wait: bool = False) -> None:
    """Take an exclusive lock on an open file, which ends with `let_go`, or when it is closed or its owner dies.

    Raises BlockingIOError where another has it and nobody is to `wait`, OSError where the file system has no locks.
    """
    if _bytes is None:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    while True:
        try:
            _lock_byte(handle, _bytes.LK_NBLCK)
            return
        except PermissionError:
            if not wait:
                raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK)) from None
        time.sleep(_AGAIN_S)


def share(handle: int) -> None:
    """Wait for a lock on an open file that others may share, and that nobody can `hold` meanwhile, until it is closed.

    Where there are locks of bytes alone this takes none: no file that is open can be taken away there. Raises OSError.
    """
    if _bytes is None:
        fcntl.flock(handle, fcntl.LOCK_SH)


def let_go(handle: int) -> None:
    """End a lock on an open file, also one that a process which was forked has too. Raises OSError."""
    if _bytes is None:
        fcntl.flock(handle, fcntl.LOCK_UN)
    else:
        _lock_byte(handle, _bytes.LK_UNLCK)


def _lock_byte(handle: int, how: int) -> None:
    at = os.lseek(handle, 0, os.SEEK_CUR)
    os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
    try:
        _bytes.locking(handle, how, 1)
    finally:
        os.lseek(handle, at, os.SEEK_SET)


@dataclass(frozen=True, slots=True)
class Lock(AbstractContextManager[None]):
    """A lock that is held until its block ends; the operating system drops it when its owner dies."""

    path: Path
    handle: int
    remove: bool

    def __exit__(self, *error: object) -> None:
        if self.remove and _bytes is None:
            self.path.unlink(missing_ok=True)
        os.close(self.handle)


def lock(path: Path, busy: Exception, *, remove: bool = False) -> Lock:
    """Take an exclusive lock on a folder, or on a file, which is made where it is absent and at the end `remove`d.

    Where a folder cannot be locked, a file `.lock` in it is.

    Raises `busy` where another process has the lock, OSError where the path cannot be opened or is a link.
    """
    refuse_links(path.parent, path.name)
    if _bytes is not None and path.is_dir():
        path /= ".lock"
    while True:
        flags = opening("RDONLY") if path.is_dir() else opening("RDWR", "CREAT", "NOFOLLOW")
        handle = os.open(path, flags, 0o666)
        try:
            hold(handle)
            # Its last owner may have removed the file after we opened it: then the next one is tried.
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return Lock(path, handle, remove)
        except BaseException as e:
            os.close(handle)
            raise (busy if isinstance(e, BlockingIOError) else e) from None
        os.close(handle)
