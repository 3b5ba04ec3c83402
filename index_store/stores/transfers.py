"""Files to and from a store, a few at a time: each is held against its sha256, and a transfer ends when one fails."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from threading import Event, Lock

from index_store.errors import BrokenIndex, StoreError
from index_store.files import sha256_of
from index_store.manifest import FileEntry
from index_store.stores.layout import key_of
from index_store.stores.objects import Missing, Objects, Told

#: Called with the bytes that were copied so far and those there are in all.
Progress = Callable[[int, int], None]
AT_ONCE = 4
SPAN = 64 << 20  # bytes of a file that one thread fetches before another may
SPARE = 64 << 20  # bytes that stay free on the disk
Job = Callable[[Told], None]


def silent(done: int, total: int) -> None:
    """Progress that is shown nowhere."""


def run(jobs: Sequence[Job], total: int, progress: Progress) -> None:
    """Do all, a few at a time. The first error, or Ctrl-C, ends the rest at their next piece, and is raised."""
    stop, lock, done = Event(), Lock(), 0

    def told(size: int) -> None:
        nonlocal done
        if stop.is_set():
            raise _Stopped
        with lock:
            done += size
            progress(min(done, total), total)

    with ThreadPoolExecutor(AT_ONCE, "raptor-store") as pool:
        waiting = [pool.submit(job, told) for job in jobs]
        try:
            ended, _ = wait(waiting, return_when=FIRST_EXCEPTION)
            for one in ended:
                one.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Stopped(Exception):
    """Another has failed."""


def fetch(
    objects: Objects, digest: str, files: Mapping[str, FileEntry], folder: Path, progress: Progress = silent
) -> None:
    """Fetch files of a generation into a folder. One that comes with another sha256 than its manifest gives is fetched
    once more. Raises BrokenIndex where it is damaged in the store, StoreError, OSError."""
    total = sum(entry.size for entry in files.values())
    if total + SPARE > (free := shutil.disk_usage(folder).free):
        raise StoreError(
            f"the index at {objects.url} takes {total:,} bytes, and {free:,} are free in {folder}; free the space, or "
            "name another place: by XDG_CACHE_HOME for your cache, by XDG_DATA_HOME for what you change at a URL"
        )
    _fetched(objects, digest, files, folder, progress, total)
    if wrong := _unlike(files, folder):
        _fetched(objects, digest, {name: files[name] for name in wrong}, folder, silent, total)
        if wrong := _unlike({name: files[name] for name in wrong}, folder):
            raise damaged(objects, digest, wrong[0])


def damaged(objects: Objects, digest: str, name: str) -> BrokenIndex:
    """A file in the store is not what its manifest says."""
    return BrokenIndex(
        f"{objects.url}/{key_of(digest, name)} is damaged in the store; send it again from a whole copy of the "
        "index, by raptor push with --replace"
    )


def _fetched(
    objects: Objects,
    digest: str,
    files: Mapping[str, FileEntry],
    folder: Path,
    progress: Progress,
    total: int,
) -> None:
    jobs = list[Job]()
    for name, entry in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be linked elsewhere
        path.touch()
        for at in range(0, entry.size, SPAN):
            size = min(SPAN, entry.size - at)
            jobs.append(partial(_span, objects, digest, name, at, size, path))
    run(jobs, total, progress)


def _span(objects: Objects, digest: str, name: str, at: int, size: int, path: Path, told: Told) -> None:
    try:
        objects.fetch(key_of(digest, name), at, size, path, told)
    except Missing:
        raise BrokenIndex(
            f"{objects.url}/{key_of(digest, name)} is missing in the store; send it again from a whole copy of "
            "the index, by raptor push with --replace"
        ) from None


def _unlike(files: Mapping[str, FileEntry], folder: Path) -> list[str]:
    wrong = list[str]()

    def look(name: str, told: Told) -> None:
        path = folder / name
        if path.stat().st_size != files[name].size or sha256_of(path) != files[name].sha256:
            wrong.append(name)

    run([partial(look, name) for name in files], 0, silent)
    return sorted(wrong)


def send(
    objects: Objects, digest: str, files: Mapping[str, FileEntry], folder: Path, progress: Progress = silent
) -> None:
    """Send files of a generation from its folder. Raises BrokenIndex, and leaves nothing of the file in the store,
    where one is not as it was published; StoreError, OSError."""

    def one(name: str, told: Told) -> None:
        path, key = folder / name, key_of(digest, name)
        if sha256_of(path) == files[name].sha256:
            if objects.send(key, path, told) == files[name].sha256:
                return
            objects.delete([key])
        raise BrokenIndex(f"the index is damaged: {path} is not as it was written; copy or build it again")

    run([partial(one, name) for name in files], sum(entry.size for entry in files.values()), progress)
