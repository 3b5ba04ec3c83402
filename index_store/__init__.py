"""What an index is, on disk and in memory: `open_index(path)` reads one, `publish` writes one.

An `Index` is a tree of `Node`s over `Document`s, with `search` and `grep`. All errors are an `IndexStoreError`.
"""

from typing import TYPE_CHECKING

from index_store.lazy import lazy

if TYPE_CHECKING:
    from index_store.embedder import Embedder as Embedder, load_embedder as load_embedder
    from index_store.errors import (
        BadQuery as BadQuery,
        BrokenIndex as BrokenIndex,
        IndexStoreError as IndexStoreError,
        NoSuchNode as NoSuchNode,
    )
    from index_store.generations import (
        Changes as Changes,
        Generation as Generation,
        changes_of as changes_of,
        list_generations as list_generations,
        prune as prune,
        rollback as rollback,
    )
    from index_store.graph import (
        LevelStats as LevelStats,
        level_stats as level_stats,
        to_networkx as to_networkx,
    )
    from index_store.grep import Grep as Grep
    from index_store.index import (
        Index as Index,
        narrowed as narrowed,
        open_any as open_any,
        open_index as open_index,
        open_text as open_text,
    )
    from index_store.manifest import Manifest as Manifest
    from index_store.provenance import Source as Source, nodes_above as nodes_above, sources as sources
    from index_store.search import Weights as Weights
    from index_store.types import (
        MODES as MODES,
        Document as Document,
        Hit as Hit,
        Match as Match,
        Mode as Mode,
        Node as Node,
        Scope as Scope,
        Span as Span,
    )
    from index_store.verify import verify_index as verify_index
    from index_store.writer import Draft as Draft, Published as Published, publish as publish
else:  # a type checker would let every name pass
    __all__, __getattr__, __dir__ = lazy(
        __name__,
        {
            "embedder": "Embedder load_embedder",
            "errors": "BadQuery BrokenIndex IndexStoreError NoSuchNode",
            "generations": "Changes Generation changes_of list_generations prune rollback",
            "graph": "LevelStats level_stats to_networkx",
            "grep": "Grep",
            "index": "Index narrowed open_any open_index open_text",
            "manifest": "Manifest",
            "provenance": "Source nodes_above sources",
            "search": "Weights",
            "types": "Document Hit MODES Match Mode Node Scope Span",
            "verify": "verify_index",
            "writer": "Draft Published publish",
        },
    )
