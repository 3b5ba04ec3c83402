"""Documents in, index out: `raptor.build_index(sources, index)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raptor.build import build_index
    from raptor.settings import BuildSettings, read_settings
    from raptor.types import BuildReport

__all__ = ["BuildReport", "BuildSettings", "build_index", "read_settings"]

_HOMES = {
    "BuildReport": "raptor.build",
    "BuildSettings": "raptor.settings",
    "build_index": "raptor.build",
    "read_settings": "raptor.settings",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that a command's --help never waits for numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
