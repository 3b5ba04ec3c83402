"""Documents in, index out: `raptor.build_index(sources, index)`.

What a caller needs is here, by these names; each is imported from its module when it is first used.
"""

from typing import TYPE_CHECKING

from index_store.lazy import lazy

if TYPE_CHECKING:
    from raptor.build import (
        build_index as build_index,
        sync_index as sync_index,
        update_index as update_index,
    )
    from raptor.checking import SourceState as SourceState, check_sources as check_sources
    from raptor.clustering.settings import ClusterSettings as ClusterSettings
    from raptor.errors import RaptorError as RaptorError
    from raptor.estimating import Estimate as Estimate, estimate as estimate
    from raptor.loading.metadata import Metadata as Metadata, read_metadata as read_metadata
    from raptor.loading.types import Failure as Failure, Note as Note
    from raptor.pruning import (
        places_of_removed as places_of_removed,
        prune_index as prune_index,
    )
    from raptor.settings import (
        BuildSettings as BuildSettings,
        Sharding as Sharding,
        Spending as Spending,
        read_settings as read_settings,
    )
    from raptor.types import BuildReport as BuildReport, Changes as Changes, Twin as Twin
else:  # a type checker would let every name pass
    __all__, __getattr__, __dir__ = lazy(
        __name__,
        {
            "build": "build_index sync_index update_index",
            "checking": "SourceState check_sources",
            "clustering.settings": "ClusterSettings",
            "errors": "RaptorError",
            "estimating": "Estimate estimate",
            "loading.metadata": "Metadata read_metadata",
            "loading.types": "Failure Note",
            "pruning": "places_of_removed prune_index",
            "settings": "BuildSettings Sharding Spending read_settings",
            "types": "BuildReport Changes Twin",
        },
    )
