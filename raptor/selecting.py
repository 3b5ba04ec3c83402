"""Which documents of an index someone means: by id, by the file they came from, its folder, or a pattern of either."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from glob import has_magic
from pathlib import Path

from index_store.index import Index
from index_store.paths import is_below, matches
from raptor.errors import RaptorError
from raptor.loading.metadata import read_metadata
from raptor.loading.origins import Origins, typed_here

JSONL = ".jsonl"


def selected(index: Index, origins: Origins, names: Sequence[str]) -> frozenset[str]:
    """The ids of the documents that `names` stand for.

    A name is an id; or a file, folder or pattern that documents came from, which need not be there any more; or a
    folder or pattern of ids; or a .jsonl that lists ids as "_id" or "doc". The first of these that fits counts.
    Raises NoSuchNode, which names the nearest id, or RaptorError where none does.
    """
    paths = cache(lambda: _paths(index, origins))  # asked for only where a name is no id
    return frozenset(doc for name in names for doc in _meant(index, paths, name))


#: The ids of an index's documents, each with the paths that its file has: as written, and with links followed.
Paths = Sequence[tuple[str, set[str]]]


def _paths(index: Index, origins: Origins) -> Paths:
    place = origins.placing()
    return [(d.id, {place(d.source), origins.written(d.source)}) for d in index.documents]


def _meant(index: Index, paths: Callable[[], Paths], name: str) -> list[str]:
    if index.has_document(name):
        return [name]
    if not name:
        raise RaptorError("one of the documents named is ''; give an id, a file, a folder or a pattern")
    here = typed_here()
    wanted = {here.written(name), here.place(name)}
    found = [doc for doc, own in paths() if any(_fits(path, at) for path in wanted for at in own)]
    found = found or [doc for doc, _ in paths() if _fits(name, doc)]
    if found or not _is_list(name):
        return found or _nothing(index, name)
    return list(_listed(index, name))


def _fits(name: str, path: str) -> bool:
    """Whether a path is one that is named, or below it, or matches it."""
    return is_below(path, [name]) or (has_magic(name) and matches(name, path))


def _is_list(name: str) -> bool:
    return name.lower().endswith(JSONL) and Path(name).is_file()


def _listed(index: Index, name: str) -> Iterator[str]:
    for doc, line in read_metadata(name).lines.items():
        if not index.has_document(doc):
            raise RaptorError(
                f"{name}:{line} lists {doc!r}, which is no document of {index.path}; check the id"
            )
        yield doc


def _nothing(index: Index, name: str) -> list[str]:
    if has_magic(name) or Path(name).exists():
        raise RaptorError(
            f"no document of {index.path} has the id {name!r} or came from there; "
            f"raptor inspect {index.path} --documents lists them"
        )
    return [index.document(name).id]  # raises, naming the nearest id
