"""What an index is, on disk and in memory: `open_index(path)` reads one, `publish` writes one.

An `Index` is a tree of `Node`s over `Document`s, with `search` and `grep`. All errors are an `IndexStoreError`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from index_store.embedder import Embedder, load_embedder
    from index_store.errors import BadQuery, BrokenIndex, IndexStoreError, NoSuchNode
    from index_store.generations import Generation, list_generations, prune, rollback
    from index_store.graph import LevelStats, level_stats, to_networkx
    from index_store.grep import Grep
    from index_store.index import Index, open_any, open_index, open_text
    from index_store.manifest import Manifest
    from index_store.provenance import Source, nodes_above, sources
    from index_store.search import Weights
    from index_store.types import MODES, Document, Hit, Match, Mode, Node, Span
    from index_store.verify import verify_index
    from index_store.writer import Draft, Published, publish

__all__ = [
    "MODES",
    "BadQuery",
    "BrokenIndex",
    "Document",
    "Draft",
    "Embedder",
    "Generation",
    "Grep",
    "Hit",
    "Index",
    "IndexStoreError",
    "LevelStats",
    "Manifest",
    "Match",
    "Mode",
    "NoSuchNode",
    "Node",
    "Published",
    "Source",
    "Span",
    "Weights",
    "level_stats",
    "list_generations",
    "load_embedder",
    "nodes_above",
    "open_any",
    "open_index",
    "open_text",
    "prune",
    "publish",
    "rollback",
    "sources",
    "to_networkx",
    "verify_index",
]

# No name here is that of a module of the package: the import of such a module would replace what the name stands for.
_HOMES = {
    "MODES": "types",
    "BadQuery": "errors",
    "BrokenIndex": "errors",
    "Document": "types",
    "Draft": "writer",
    "Embedder": "embedder",
    "Generation": "generations",
    "Grep": "grep",
    "Hit": "types",
    "Index": "index",
    "IndexStoreError": "errors",
    "LevelStats": "graph",
    "Manifest": "manifest",
    "Match": "types",
    "Mode": "types",
    "NoSuchNode": "errors",
    "Node": "types",
    "Published": "writer",
    "Source": "provenance",
    "Span": "types",
    "Weights": "search",
    "level_stats": "graph",
    "list_generations": "generations",
    "load_embedder": "embedder",
    "nodes_above": "provenance",
    "open_any": "index",
    "open_index": "index",
    "open_text": "index",
    "prune": "generations",
    "publish": "writer",
    "rollback": "generations",
    "sources": "provenance",
    "to_networkx": "graph",
    "verify_index": "verify",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that a command's --help never waits for numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
