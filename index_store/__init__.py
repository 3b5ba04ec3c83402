"""What an index is, on disk and in memory: `open_index(path)` reads one, `publish` writes one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from index_store.index import Index, open_index
    from index_store.writer import Draft, publish

__all__ = ["Draft", "Index", "open_index", "publish"]

_HOMES = {
    "Draft": "index_store.writer",
    "Index": "index_store.index",
    "open_index": "index_store.index",
    "publish": "index_store.writer",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that a command's --help never waits for numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
