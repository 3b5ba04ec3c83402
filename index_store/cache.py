"""The user's cache of indexes that were narrowed, or came from a store: folders that are theirs alone, with sealed
entries.

Whoever can write there could plant an index, or widen one. So the folder is its user's, and nobody else may look into
it; each entry carries an HMAC (RFC 2104) under a key of the user's own, which stands in another folder, over what it
was made of and the digest of what was made; and each file is held against its sha256 whenever an entry is opened. One
that does not fit is made anew. Deleting the folder costs time, not correctness.
"""

import hmac
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from index_store.errors import BrokenIndex, NoCache
from index_store.files import hold, opening, share
from index_store.folder import check_files, check_sizes, generation_folder, read_manifest, without
from index_store.own import own_folder, own_key


@dataclass(frozen=True, slots=True)
class Kind:
    """What is kept together. `folder`: its name in our cache folder. `what`: in the words of a message. `entries`,
    `bytes`: the most there may be; the least recently used go first, but for those in use."""

    folder: str
    what: str
    entries: int
    bytes: int


NARROWED = Kind("narrowed", "what a reader may see", 64, 8 << 30)
PULLED = Kind("pulled", "what comes from a store", 256, 64 << 30)
KEY_FILE = "narrowed.key"
_SEAL, _LOCK = "seal", "lock"
_PARTIAL, _GONE = ".partial-", ".gone-"  # an entry that is being made, or deleted
_LEFT_S = 60.0  # without a change, after which one of these that nobody uses is taken away
_FORM = "raptor-rlm {folder} 1"
#: The number under which an entry has its generation.
GENERATION = 1


@dataclass(frozen=True, slots=True)
class Held:
    """An entry that is in use: nobody takes it away until the file `lock` is closed. `path`: of its index; None where
    it only says that there is nothing to narrow."""

    path: Path | None
    lock: int


def held(
    kind: Kind,
    made_of: list[str],
    name: str,
    make: Callable[[Path], str],
    *,
    lacks: Collection[str] = (),
) -> Held:
    """The entry of an index called `name` that is made of this. Where it is not there, or is damaged, `make` writes the
    index at a path and gives its digest, or "" where there is nothing to write. `lacks`: files that it is without.

    Raises NoCache where the folder or the key cannot be used, and what `make` raises.
    """
    try:
        entry, secret = _entry(kind, made_of, name)
        find = partial(_found, entry, name, secret, kind, lacks)
        for _ in range(3):  # another process may take it away, or damage may be found, in between
            if (there := find()) is not None:
                return there
            _fill(entry, name, secret, kind, make, find)
            _evict(entry.parent, kind, keep=entry)
    except OSError as e:
        raise _no_cache(kind, e) from e
    raise NoCache(f"{entry} is taken away or damaged again and again; see who else writes there")


def found(kind: Kind, made_of: list[str], name: str) -> Held | None:
    """As `held`, of an entry that is there and whole; None for any other. Raises NoCache."""
    try:
        entry, secret = _entry(kind, made_of, name)
        return _found(entry, name, secret, kind, ())
    except OSError as e:
        raise _no_cache(kind, e) from e


def _no_cache(kind: Kind, error: OSError) -> NoCache:
    return NoCache(
        f"cannot keep {kind.what} in your cache folder: {error.strerror or error}; mend the folder, or name another by "
        "XDG_CACHE_HOME"
    )


def _entry(kind: Kind, made_of: list[str], name: str) -> tuple[Path, bytes]:
    """Where an entry is, or would be, and the user's key. Raises OSError."""
    folder, key = _private_folder(kind), own_folder("data") / KEY_FILE
    secret = own_key(key, str(key))
    return folder / _mac(secret, kind, [*made_of, name]), secret


def place(kind: Kind = NARROWED) -> Path:
    """The folder of all entries, whether it is there or not. Raises OSError where the system knows of no home."""
    return own_folder("cache") / kind.folder


def copies(index: Path, kind: Kind = NARROWED) -> list[Path]:
    """The indexes, of whichever generation, that were made of an index of this name; also of a namesake."""
    name, folder = index.resolve().name, None
    with suppress(OSError):
        folder = place(kind)
    if not name or folder is None or folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(entry / name for entry in folder.iterdir() if (entry / name).is_dir())


def forget(index: Path, kind: Kind = NARROWED) -> None:
    """Delete the `copies` of an index, but for those in use. Raises OSError."""
    for copy in copies(index, kind):
        if (copy.parent / _LOCK).exists():
            with suppress(BlockingIOError):
                _take_away(copy.parent)
        else:  # half made, or half taken away, by a process that did not come to its end
            shutil.rmtree(copy.parent)


def generations(kind: Kind) -> Iterator[Path]:
    """The folder of the generation of each entry, whole or not."""
    yield from place(kind).glob(f"[0-9a-f]*/*/generations/{GENERATION:06d}")


def _private_folder(kind: Kind) -> Path:
    """Our folder, which nobody else may look into. Raises OSError where it is a link or another user's."""
    folder = place(kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_others = hasattr(os, "geteuid") and status.st_uid != os.geteuid()
    if not stat.S_ISDIR(status.st_mode) or is_others:
        raise OSError(f"{folder} is a link, no folder, or another user's")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


def _mac(secret: bytes, kind: Kind, parts: list[str]) -> str:
    form = _FORM.format(folder=kind.folder)
    return hmac.digest(secret, json.dumps([form, *parts]).encode(), "sha256").hex()


def _found(entry: Path, name: str, secret: bytes, kind: Kind, lacks: Collection[str]) -> Held | None:
    """An entry that is whole and ours, locked against being taken away; None where there is none."""
    if entry.is_symlink() or not entry.is_dir():
        return None
    try:
        lock = _open(entry / _LOCK)
    except OSError:
        return None
    try:
        share(lock)
        with os.fdopen(_open(entry / _SEAL), "rb") as file:
            digest, _, seal = file.read(200).decode("ascii", "replace").partition(" ")
        is_ours = hmac.compare_digest(seal, _mac(secret, kind, [entry.name, digest]))
        if is_ours and _is_whole(entry / name, digest, lacks):
            os.utime(entry / _SEAL)
            return Held(entry / name if digest else None, lock)
    except (OSError, BrokenIndex, UnicodeError, TypeError):
        pass  # damaged, or taken away in between: it is made anew
    os.close(lock)
    return None


def _open(path: Path) -> int:
    return os.open(path, opening("RDONLY", "NOFOLLOW", "NONBLOCK"))


def _is_whole(index: Path, digest: str, lacks: Collection[str]) -> bool:
    """Whether an index has this digest. Raises BrokenIndex where a file is not as it was written."""
    if not digest:
        return True
    folder = generation_folder(index, GENERATION)
    manifest = read_manifest(folder)
    there = without(manifest, lacks)
    check_sizes(folder, there)
    check_files(folder, there)
    return manifest.digest == digest


def _fill(
    entry: Path,
    name: str,
    secret: bytes,
    kind: Kind,
    make: Callable[[Path], str],
    find: Callable[[], Held | None],
) -> None:
    """Make an entry beside its place and move it there, whole or not at all; where another was faster, that stays.

    What is damaged is there still while `make` runs, which may take from it what is whole.
    """
    beside = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=entry.parent))
    try:
        with _in_use(beside):
            digest = make(beside / name)
        (beside / _SEAL).write_text(f"{digest} {_mac(secret, kind, [entry.name, digest])}", encoding="ascii")
        if (other := find()) is not None:
            os.close(other.lock)
            return
        _discard(entry)
        with suppress(OSError):  # its place is taken
            beside.rename(entry)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _in_use(entry: Path) -> Iterator[None]:
    """Nobody takes a folder away that is being filled."""
    (entry / _LOCK).touch(mode=0o600)
    with os.fdopen(_open(entry / _LOCK), "rb") as lock:
        share(lock.fileno())
        yield


def _discard(entry: Path) -> None:
    """Take away what stands in the place of an entry, and is none."""
    if entry.is_symlink() or entry.is_file():
        entry.unlink()
    elif entry.exists():
        shutil.rmtree(entry)


def _evict(folder: Path, kind: Kind, keep: Path) -> None:
    """Take entries away until there are few enough, those first that were used longest ago; none that is in use."""
    used = sorted(_uses(folder), reverse=True)
    total = 0
    for place, (_, size, entry) in enumerate(used):
        total += size
        if entry == keep or (place < kind.entries and total <= kind.bytes):
            continue
        with suppress(OSError):
            _take_away(entry)
    for left in folder.glob(".*"):  # by a process that did not come to its end
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime < _LEFT_S:
                continue
            if left.name.startswith(_PARTIAL):
                _take_away(left)
            else:
                shutil.rmtree(left)


def _take_away(entry: Path) -> None:
    """Delete an entry. Raises BlockingIOError where it is in use, OSError."""
    with os.fdopen(_open(entry / _LOCK), "rb") as lock:
        hold(lock.fileno())
        gone = entry.with_name(f"{_GONE}{entry.name}")
        entry.rename(gone)
        shutil.rmtree(gone)


def _uses(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each entry was used last, its bytes, and its path."""
    for entry in folder.iterdir():
        with suppress(OSError):
            if not entry.name.startswith("."):
                size = sum(file.lstat().st_size for file in entry.rglob("*"))
                yield (entry / _SEAL).lstat().st_mtime, size, entry
