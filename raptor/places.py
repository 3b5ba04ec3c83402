"""Where an index is changed: in its folder; one at a URL in a folder of the user's own, from which it is pushed.

That folder has the checkpoint and the generations that were published from this machine, so a build that was killed
goes on and pays for nothing twice, also where it was killed before it had published at the URL.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from index_store.errors import IndexStoreError, Overtaken, StoreError
from index_store.files import lock, replace_file
from index_store.folder import CURRENT, live_pointer
from index_store.paths import is_url
from index_store.stores.layout import live, objects_at
from index_store.stores.pulling import pull
from index_store.stores.pushing import Pushed, check_open, push
from index_store.stores.urls import Url, own_place, url_of
from raptor.errors import RaptorError
from raptor.types import BuildReport
from raptor.workspace import Progress, silent

P = ParamSpec("P")
R = TypeVar("R")
SEEN = "seen"  # beside the folder: the digest that was live at the URL when this machine last read or wrote there


def at_place(*, publishes: bool) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function of an `index` that is given a folder also where its caller names a URL.

    The folder begins as what is live there, unless it holds what was built on that and not pushed yet. `publishes`:
    whether the live generation of the folder is pushed at the end, unless the caller gives `dry_run`; a report then
    names the index as its caller does. What is raised also names the URL. Raises StoreError where the store cannot be
    used, Overtaken where somebody else publishes meanwhile: the work is kept, and the same call goes on from theirs.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            if not is_url(given.arguments["index"]):
                return function(*args, **kwargs)
            url = url_of(given.arguments["index"])
            progress = given.arguments.get("progress") or silent
            publishes_now = publishes and not given.arguments.get("dry_run")
            with own_folder_of(url) as folder:
                if publishes_now:
                    check_open(objects_at(url))
                _catch_up(url, folder, progress)
                given.arguments["index"] = folder
                try:
                    result = function(*given.args, **given.kwargs)
                except (RaptorError, IndexStoreError) as e:
                    raise type(e)(str(e).replace(str(folder), str(url))) from e
                pushed = publish_folder(url, folder, progress) if publishes_now else None
            if not isinstance(result, BuildReport):
                return result
            number = pushed.generation if pushed else result.generation
            return replace(result, index=str(url), generation=number)

        return called

    return decorate


@contextmanager
def own_folder_of(url: Url) -> Iterator[Path]:
    """The folder of the user's own in which the index at a URL is changed, for one process at a time; it may not be
    there yet."""
    busy = RaptorError(f"another process changes {url} from this machine; wait for its end")
    try:
        folder = own_place(url)
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = lock(folder.parent / "lock", busy)
    except OSError as e:
        raise RaptorError(
            f"cannot keep what is built for {url} in your data folder: {e.strerror or e}; mend the folder, or name "
            "another by XDG_DATA_HOME"
        ) from e
    with held:
        yield folder


def _catch_up(url: Url, folder: Path, progress: Progress) -> None:
    """Make what is live at a URL the live generation of our folder, unless that is the same or was built on it."""
    pointer, seen, known = live(objects_at(url)), folder.parent / SEEN, _known(folder)
    if pointer is None and known is not None:  # it was taken away there
        (folder / CURRENT).unlink(missing_ok=True)
        seen.unlink()
    if pointer is not None and pointer.digest != known:
        (folder / "generations").mkdir(parents=True, exist_ok=True)
        pull(str(url), folder, replace=True, progress=lambda got, all: progress("pull", got, all))
        replace_file(seen, pointer.digest.encode())


def _known(folder: Path) -> str | None:
    """The digest that was live at the URL of our folder when this machine last read or wrote there."""
    seen = folder.parent / SEEN
    return seen.read_text(encoding="ascii", errors="replace") if seen.exists() else None


def refuse_unpublished(url: Url, folder: Path) -> None:
    """Raise RaptorError where our folder holds what was built on the live generation at a URL and not published there
    yet: it could not be any more without the generations before it."""
    pointer, known = live(objects_at(url)), _known(folder)
    own = live_pointer(folder) if (folder / CURRENT).exists() and known is not None else None
    if pointer and own and pointer.digest == known != own[1]:
        raise RaptorError(
            f"what was built for {url} on this machine was not published yet; do that first, by the command that was "
            f"cut short, or with: raptor push {folder} {url}"
        )


def publish_folder(url: Url, folder: Path, progress: Progress) -> Pushed:
    """Publish the folder's index at the URL, and give what that did. Raises Overtaken where somebody else has published
    there meanwhile."""
    try:
        pushed = push(folder, str(url), progress=lambda sent, all: progress("push", sent, all))
    except Overtaken:
        raise Overtaken(
            f"somebody else has published at {url} meanwhile, and nothing of theirs was replaced: the same command "
            "goes on from theirs, and pays for nothing twice"
        ) from None
    except StoreError as e:
        raise StoreError(f"{e}; what was built is kept, and the same command publishes it") from e
    replace_file(folder.parent / SEEN, pushed.digest.encode())
    return pushed
