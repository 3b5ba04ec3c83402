"""Documents in, index out: `raptor.build_index(sources, index)`.

What a caller needs is here, by these names; each is imported from its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raptor.build import build_index, update_index
    from raptor.clustering.settings import ClusterSettings
    from raptor.errors import RaptorError
    from raptor.estimating import Estimate, estimate
    from raptor.loading.metadata import Metadata, read_metadata
    from raptor.loading.types import Failure
    from raptor.pruning import prune_index
    from raptor.settings import BuildSettings, Spending, read_settings
    from raptor.types import BuildReport, Changes

__all__ = [
    "BuildReport",
    "BuildSettings",
    "Changes",
    "ClusterSettings",
    "Estimate",
    "Failure",
    "Metadata",
    "RaptorError",
    "Spending",
    "build_index",
    "estimate",
    "prune_index",
    "read_metadata",
    "read_settings",
    "update_index",
]

_HOMES = {
    "BuildReport": "raptor.types",
    "BuildSettings": "raptor.settings",
    "Changes": "raptor.types",
    "ClusterSettings": "raptor.clustering.settings",
    "Estimate": "raptor.estimating",
    "Failure": "raptor.loading.types",
    "Metadata": "raptor.loading.metadata",
    "RaptorError": "raptor.errors",
    "Spending": "raptor.settings",
    "build_index": "raptor.build",
    "estimate": "raptor.estimating",
    "prune_index": "raptor.pruning",
    "read_metadata": "raptor.loading.metadata",
    "read_settings": "raptor.settings",
    "update_index": "raptor.build",
}


def __getattr__(name: str) -> Any:
    # So that a command's --help never waits for numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
