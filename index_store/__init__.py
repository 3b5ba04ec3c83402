"""What an index is, on disk and in memory: `open_index(path)` reads one, `publish` writes one.

An `Index` is a tree of `Node`s over `Document`s, with `search` and `grep`. All errors are an `IndexStoreError`.
"""

from typing import TYPE_CHECKING

from index_store.lazy import lazy

if TYPE_CHECKING:
    from index_store.embedder import Embedder as Embedder
    from index_store.embedder import load_embedder as load_embedder
    from index_store.errors import BadQuery as BadQuery
    from index_store.errors import BrokenIndex as BrokenIndex
    from index_store.errors import IndexStoreError as IndexStoreError
    from index_store.errors import NoSuchNode as NoSuchNode
    from index_store.generations import Generation as Generation
    from index_store.generations import list_generations as list_generations
    from index_store.generations import prune as prune
    from index_store.generations import rollback as rollback
    from index_store.graph import LevelStats as LevelStats
    from index_store.graph import level_stats as level_stats
    from index_store.graph import to_networkx as to_networkx
    from index_store.grep import Grep as Grep
    from index_store.index import Index as Index
    from index_store.index import open_any as open_any
    from index_store.index import open_index as open_index
    from index_store.index import open_text as open_text
    from index_store.manifest import Manifest as Manifest
    from index_store.provenance import Source as Source
    from index_store.provenance import nodes_above as nodes_above
    from index_store.provenance import sources as sources
    from index_store.search import Weights as Weights
    from index_store.types import MODES as MODES
    from index_store.types import Document as Document
    from index_store.types import Hit as Hit
    from index_store.types import Match as Match
    from index_store.types import Mode as Mode
    from index_store.types import Node as Node
    from index_store.types import Span as Span
    from index_store.verify import verify_index as verify_index
    from index_store.writer import Draft as Draft
    from index_store.writer import Published as Published
    from index_store.writer import publish as publish

__all__, __getattr__, __dir__ = lazy(
    __name__,
    {
        "embedder": "Embedder load_embedder",
        "errors": "BadQuery BrokenIndex IndexStoreError NoSuchNode",
        "generations": "Generation list_generations prune rollback",
        "graph": "LevelStats level_stats to_networkx",
        "grep": "Grep",
        "index": "Index open_any open_index open_text",
        "manifest": "Manifest",
        "provenance": "Source nodes_above sources",
        "search": "Weights",
        "types": "Document Hit MODES Match Mode Node Span",
        "verify": "verify_index",
        "writer": "Draft Published publish",
    },
)
