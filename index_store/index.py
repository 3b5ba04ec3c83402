"""Open an index, or a text file as one, and search it."""

import errno
import logging
import os
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store import embedder as embedders, narrowing, plain
from index_store.access import in_words, of_reader
from index_store.arguments import checked
from index_store.cache import GENERATION, NARROWED, held
from index_store.errors import BadQuery, BrokenIndex, IndexStoreError
from index_store.files import allow_many_files
from index_store.folder import (
    Array,
    check_digest,
    check_files,
    check_links,
    check_sizes,
    generation_folder,
    generation_of,
    is_store,
    live_pointer,
    read_arrays,
    read_bytes,
    read_manifest,
    without,
)
from index_store.grep import grep
from index_store.late import Late
from index_store.manifest import INVERTED, NAME as MANIFEST, SHARDS, Manifest
from index_store.paths import is_url
from index_store.search import NO_VECTORS, search
from index_store.shards.joined import Joined
from index_store.shards.layout import Shard, shards_in
from index_store.store import Store
from index_store.stores.pulling import held_at
from index_store.stores.urls import Url, own_place, url_of
from index_store.tree import Tree
from index_store.writer import publish

_log = logging.getLogger(__name__)

VECTORS = "vectors.npy"
#: What may be left in a store until a search by meaning needs it: most of the bytes.
LAZY = INVERTED | {VECTORS}
#: What to do where an index is whole, and the system gives too little to read it.
_SCARCE = {
    errno.EMFILE: "let the process have more files open (ulimit -n)",
    errno.ENFILE: "let the system have more files open, or end other programs",
    errno.ENOMEM: "let the process map more files (vm.max_map_count), or have more memory",
}
#: Gives the arrays that were left there, of a manifest and their names.
Rest = Callable[[Manifest, Collection[str]], dict[str, Array]]


class Index(Tree):
    """An open index, or a text file read as one: a tree with search and grep.

    `digest`: of the live generation when it was opened; of a text file the sha256. `generation`: its number; 0 for a
    text file. `embedder`: the one that its user named, for queries; without it only the built-in one is ever loaded.
    `access`: the labels of the reader for whom it was opened; None is not restricted. `named`: where its user knows it
    to be, a path or a URL; of one whose `path` is in their cache, as it was narrowed or comes from a store, that of the
    whole one. `beside`: the path beside which what is kept of it stands, such as answers.
    `whole`: of one from which its reader's labels hide nothing the index that it is.
    """

    # What a caller gives is held against the signature here, at the face.
    search = checked(BadQuery)(search)
    grep = checked(BadQuery)(grep)
    nodes = checked(BadQuery)(Tree.nodes)
    level_range = checked(BadQuery)(Tree.level_range)
    has_document = checked(BadQuery)(Tree.has_document)
    span_text = checked(BadQuery)(Tree.span_text)
    place = checked(BadQuery)(Tree.place)

    _encode: "embedders.Encode | None" = None
    _of: "Index | None" = None

    def __init__(
        self,
        store: Store,
        digest: str,
        generation: int = 0,
        manifest: Manifest | None = None,
        embedder: str | None = None,
        access: frozenset[str] | None = None,
    ) -> None:
        super().__init__(store)
        self.digest, self.generation, self._manifest = digest, generation, manifest
        self._embedder_named, self.access = embedder, access
        self.named: Path | str = self.path
        self.whole: Index | None = None
        self.beside = self.path

    @property
    def is_plain(self) -> bool:
        """Whether this is a text file, held in memory, and no index."""
        return self._manifest is None

    @property
    def manifest(self) -> Manifest:
        """What the generation was built with, and its files. Raises BadQuery for a text file, which has none."""
        if self._manifest is None:
            raise BadQuery(f"{self.path} is a text file, which has no manifest; build an index of it")
        return self._manifest

    @property
    def folder(self) -> Path:
        """The generation's folder."""
        return self.store.folder

    @property
    def embedder_named(self) -> str | None:
        """The embedder that the user named when opening it."""
        return self._embedder_named

    def embedded_by(self, encode: "embedders.Encode") -> "Index":
        """The same index, whose queries `encode` embeds: (n, dim) float32 unit rows of n texts."""
        same = copy(self)
        same._encode, same._of = encode, self
        return same

    def by_its_own(self) -> "Index":
        """The same index, whose queries the built-in embedder embeds where that built it, whichever its user named: of
        several indexes that are opened with one name this is meant for the others. A text file is itself."""
        if self.is_plain or self.manifest.models.get("embedder") != embedders.BUILT_IN:
            return self
        same = copy(self)
        same._embedder_named, same._of = None, self
        return same

    def manifests(self) -> list[Manifest]:
        """The manifests of all that it is read from. Raises BadQuery for a text file."""
        return [self.manifest]

    def check_files(self) -> None:
        """Raise BrokenIndex where a file is not as it was written. Reads every byte."""
        check_files(self.folder, self.manifest)

    def embed_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """The (n, dim) float32 unit rows of n queries, by the embedder that built this index.

        Raises BadQuery for a text file, which has no vectors, where the embedder has other weights now, and where it is
        none of ours and was not named when the index was opened: an index may come from a stranger.
        """
        if self.is_plain:
            raise BadQuery(NO_VECTORS.format(path=self.path))
        return (self._encode or self._embedder.encode)(queries)

    def warm_up(self) -> None:
        """Load the embedder, so that no search waits for it. What is wrong with it the first search says."""
        if not self.is_plain and self._encode is None:
            with suppress(IndexStoreError):
                self.embed_queries(["?"])

    def seen_by(self, reader: frozenset[str]) -> "Index":
        """The same index as that of a reader with these labels, from whom it hides nothing."""
        return Index(self.store, self.digest, self.generation, self._manifest, self._embedder_named, reader)

    def check_embedder_named(self) -> None:
        """Raise BadQuery where the embedder is none of ours and was not named when the index was opened."""
        name = self.manifest.models.get("embedder", "")
        if self._embedder_named is None and name != embedders.BUILT_IN:
            raise BadQuery(
                f"the index names the embedder {name[:200]!r}, which is loaded only when you name it too; give the "
                "model's folder, or litellm/NAME, by --embedder, in Python open_index(path, embedder=...), or search "
                "by words (mode lexical)"
            )

    def check_fingerprint(self, named: str, found: str) -> None:
        """Raise BadQuery where an embedder that was named has another fingerprint than the one of the index."""
        models = self.manifest.models
        name, expected = models.get("embedder", ""), models.get("embedder_fingerprint", "")
        if found != expected:
            raise BadQuery(
                f"the index was built with embedder {name[:200]} {expected[:12]}, found {found[:12]} in {named}; name "
                "or install the same weights, or rebuild the index"
            )

    @cached_property
    def _embedder(self) -> embedders.Embedder:
        named = self._embedder_named or self.manifest.models.get("embedder", "")
        self.check_embedder_named()
        if named.startswith(embedders.CALLED):
            raise BadQuery(
                f"the embedder {named[:200]} is called, and nobody pays for that here; use rlm search or rlm ask, in "
                "Python rlm.ask, or search by words (mode lexical)"
            )
        embedder = embedders.load_embedder(named, offline=True)
        self.check_fingerprint(named, embedder.fingerprint)
        return embedder


class Sharded(Joined, Index):
    """An index of indexes, which reads as one index; its `manifest` is that of the upper one, which is `upper`."""

    def __init__(self, upper: Index, shards: Sequence[Shard], open_shard: Callable[[Shard], Index]) -> None:
        allow_many_files()  # each shard that is opened keeps some
        Joined.__init__(self, upper, shards, partial(_by_the_same_embedder, upper, open_shard))
        self.upper, self.whole, self.beside, self._opener = upper, None, upper.beside, open_shard
        self.digest, self.generation, self._manifest = upper.digest, upper.generation, upper._manifest
        self._embedder_named, self.access, self.named = upper._embedder_named, upper.access, upper.named

    def seen_by(self, reader: frozenset[str]) -> "Sharded":
        """As `Index.seen_by`."""
        return Sharded(self.upper.seen_by(reader), self.shards, self._opener)

    def manifests(self) -> list[Manifest]:
        """The manifests of the upper index and of all shards, which are opened."""
        return [self.manifest, *(one.manifest for one in self.indexes())]

    def check_files(self) -> None:
        """As `Index.check_files`, of the upper index and of all shards."""
        super().check_files()
        for one in self.indexes():
            one.check_files()

    def indexes(self) -> Iterator[Index]:
        """The shards, each opened when it is asked for."""
        for number in range(len(self.shards)):
            opened = self.shard(number)
            assert isinstance(opened, Index)  # as `open_shard` gives nothing else
            yield opened


def _by_the_same_embedder(upper: Index, open_shard: Callable[[Shard], Index], shard: Shard) -> Index:
    """A shard, opened. Raises BrokenIndex where a question's vector would not fit its own."""
    opened = open_shard(shard)
    for name in ("embedder", "embedder_fingerprint"):
        if opened.manifest.models.get(name) != upper.manifest.models.get(name):
            raise BrokenIndex(
                f"the shard {opened.path} has vectors of another embedder than {upper.path}; build it again by the same"
            )
    return opened


@checked(IndexStoreError)
def open_index(
    path: str | Path,
    embedder: str | Path | None = None,
    access: str | Collection[str] | None = None,
    *,
    lazy: bool = False,
) -> Index:
    """Open the live generation of the index at `path`, which stays what is read if another is published.

    `path`: a folder, or the URL of a store (s3://, gs://, az://, file://): from there what is missing comes into the
    user's cache folder, and is held against its sha256 there whenever it is opened. `embedder`: a model's folder, for
    queries of an index that another than the built-in embedder built; it is loaded when it is needed, from this
    machine, and must have the weights that built the index. `access`: labels of a reader, a list or one text with
    commas; then it is narrowed to what they may read (see `narrowed`), for which all of it is read; None is all.
    `lazy`: leave the vectors in the store until a search by meaning needs them.
    Raises BrokenIndex where the folder is missing, unfinished, cut short or of another format, StoreError where a store
    cannot be used; else as `narrowed` does.
    """
    reader, embedder = of_reader(access), None if embedder is None else str(embedder)
    with _or_broken(path):
        if is_url(path):
            opened = open_at(url_of(path), embedder, lazy=lazy and reader is None)
        else:
            opened = _open(Path(path), embedder)
    _log.debug("opened generation %d of %s", opened.generation, opened.named)
    return opened if reader is None else narrowed(opened, reader)


@contextmanager
def _or_broken(path: str | Path) -> Iterator[None]:
    """Raise BrokenIndex where an index cannot be read."""
    try:
        yield
    except OSError as e:
        todo = _SCARCE.get(e.errno or 0, "copy or build it again")
        raise BrokenIndex(f"cannot read the index {path}: {e.strerror or e}; {todo}") from e


@checked(IndexStoreError)
def narrowed(index: Index, access: str | Collection[str]) -> Index:
    """The index in which there is nothing but what a reader with these labels may read: an index of its own, in the
    user's cache folder, or the same one where nothing in it is hidden from them.

    A text file is open to all. Raises IndexStoreError where they may read no document, the labels are none, the index
    was narrowed to others before, or the cache folder cannot be used.
    """
    reader = of_reader(access)
    assert reader is not None  # of labels
    if index.access is not None:
        if index.access != reader:
            raise IndexStoreError("the index is narrowed to another reader already; open it anew")
        return index
    if index.is_plain:
        return Index(index.store, index.digest, access=reader)

    def write(path: Path) -> str:
        # What is made is found by this digest again, also by who opens another index that has it.
        index.check_files()
        labels = narrowing.labels_by_document(index)
        if not narrowing.hides(labels, reader):
            return ""
        draft = narrowing.narrowed(index, labels, reader)
        if draft is None:
            raise IndexStoreError(
                f"{index.path.name} holds nothing that a reader of {in_words(reader)} may read; ask whoever keeps it"
            )
        settings = {name: value for name, value in index.manifest.settings.items() if name != SHARDS}
        return publish(path, draft, index.manifest.models, settings).digest

    entry = held(NARROWED, [index.digest, *sorted(reader)], index.path.resolve().name, write)
    embedder = index._embedder_named
    try:
        if entry.path is None:
            seen = index.seen_by(reader)
            seen.beside, seen.whole = index.beside, index  # which may keep an entry of the cache in its place
        else:
            seen = open_generation(entry.path, GENERATION, embedder, reader)
        seen.named = index.named
    except BaseException:
        os.close(entry.lock)
        raise
    weakref.finalize(seen, os.close, entry.lock)  # until then its files stay where they are
    return seen


def open_at(url: Url, embedder: str | None = None, digest: str | None = None, *, lazy: bool = False) -> Index:
    """Open the generation with a digest, or the live one, of the index at a URL. Raises as `open_index` does."""
    entry = held_at(url, digest, LAZY if lazy else frozenset())
    assert entry.path is not None  # of a generation
    locks = [entry.lock]
    try:
        opened = open_generation(
            entry.path,
            GENERATION,
            embedder,
            rest=partial(_rest, url, locks),
            open_shard=partial(_open_shard_at, url, lazy=lazy),
        )
        opened.named, opened.beside = str(url), own_place(url)
    except BaseException:
        os.close(entry.lock)
        raise
    weakref.finalize(opened, _close, locks)  # until then its files stay where they are
    return opened


def _open_shard_at(url: Url, shard: Shard, *, lazy: bool) -> Index:
    return open_at(url / SHARDS / shard.name, digest=shard.digest, lazy=lazy)


def _rest(url: Url, locks: list[int], manifest: Manifest, lacks: Collection[str]) -> dict[str, Array]:
    """The arrays that were left in a store. Raises BrokenIndex, StoreError, NoCache."""
    entry = held_at(url, manifest.digest)
    locks.append(entry.lock)
    assert entry.path is not None
    folder = generation_folder(entry.path, GENERATION)
    arrays = read_arrays(folder, without(manifest, manifest.files.keys() - lacks))
    if len(arrays[VECTORS]) != sum(manifest.levels):
        raise BrokenIndex(f"{folder / VECTORS} has not a row for each node; push the index again")
    return arrays


def _close(locks: list[int]) -> None:
    for lock in locks:
        os.close(lock)


def _open(path: Path, embedder: str | None) -> Index:
    if not path.is_dir():
        raise BrokenIndex(
            f"there is no index folder at {path}; build one with: raptor build SOURCE -o {path}"
        )
    pointer = live_pointer(path)
    if pointer is None:
        begun = {"generations", "build.lock", "build.sqlite"} & {p.name for p in path.iterdir()}
        if begun or not any(path.iterdir()):
            what = "holds an unfinished build" if begun else "is an empty folder"
            raise BrokenIndex(f"{path} {what}; run raptor build SOURCE -o {path}")
        here = str(path) if path.name else "my"
        raise BrokenIndex(
            f"{path} is not an index (it has no file CURRENT); if it holds documents, build one from them with: "
            f"raptor build {path} -o {here}.index"
        )
    index = open_generation(path, pointer[0], embedder)
    check_digest(path, *pointer, index.manifest)
    return index


def open_generation(
    path: Path,
    number: int,
    embedder: str | None = None,
    access: frozenset[str] | None = None,
    open_shard: Callable[[Shard], Index] | None = None,
    rest: Rest | None = None,
) -> Index:
    """Open one generation, live or not; `access`: for whom it was narrowed before. Of an index of indexes all shards as
    one index, each opened by `open_shard`, which without one looks into the folder `shards` of `path`. `rest`: gives
    the arrays of `LAZY` where they are not there. Raises BrokenIndex, or OSError where it cannot be read."""
    upper = open_alone(path, number, embedder, access, rest)
    shards = shards_in(upper.manifest, str(upper.folder / MANIFEST))
    return Sharded(upper, shards, open_shard or partial(_open_shard, path)) if shards else upper


def _open_shard(path: Path, shard: Shard) -> Index:
    """A shard of the index at `path`, of the generation that the upper index names."""
    folder = path / SHARDS / shard.name
    check_links(path, f"{SHARDS}/{shard.name}")
    with _or_broken(folder):
        number = generation_of(folder, shard.digest)
    if number is not None:
        return open_alone(folder, number)
    raise BrokenIndex(f"the shard {folder} has not the generation that {path} names; copy or build it again")


def open_alone(
    path: Path,
    number: int,
    embedder: str | None = None,
    access: frozenset[str] | None = None,
    rest: Rest | None = None,
) -> Index:
    """As `open_generation`, but of an index of indexes the upper tree alone, as the ordinary index that it is."""
    folder = generation_folder(path, number)
    if not folder.is_dir():
        if is_store(path):
            raise BrokenIndex(
                f"{path} is a store, and no index folder; give its URL: {path.resolve().as_uri()}"
            )
        raise BrokenIndex(
            f"{path} is half copied: its live generation {folder.name} is missing; copy it again"
        )
    with _or_broken(path):
        manifest = read_manifest(folder)
        lacks = LAZY & manifest.files.keys() if rest and not (folder / VECTORS).exists() else frozenset[str]()
        there = without(manifest, lacks)
        check_sizes(folder, there)
        arrays = read_arrays(folder, there)
        store = Store(
            path,
            folder,
            manifest.levels,
            manifest.documents,
            Late(arrays, lacks, partial(rest, manifest, lacks)) if rest and lacks else arrays,
            text=read_bytes(folder / "text.bin"),
            summaries=read_bytes(folder / "summaries.bin"),
            labels=read_bytes(folder / "labels.bin"),
            lines=read_bytes(folder / "documents.jsonl"),
            lacks=lacks,
        )
        return Index(store, manifest.digest, manifest.generation, manifest, embedder, access)


@checked(IndexStoreError)
def open_any(
    path: str | Path,
    embedder: str | Path | None = None,
    access: str | Collection[str] | None = None,
    *,
    lazy: bool = False,
) -> Index:
    """Open the index in a folder or at a URL (`open_index`), or a text file (`open_text`), which needs no embedder and
    is open to all readers. Raises as `open_index` does."""
    if is_url(path) or os.path.isdir(path):  # noqa: PTH112  (it never raises)
        return open_index(path, embedder, access, lazy=lazy)
    reader = of_reader(access)
    return open_text(path) if reader is None else narrowed(open_text(path), reader)


@checked(IndexStoreError)
def open_text(path: str | Path) -> Index:
    """A UTF-8 text file as an index in memory: its chunks under one root, no vectors, no summaries.

    Raises BrokenIndex where it cannot be read, is not UTF-8, is blank, or is too large to hold.
    """
    path = Path(path)
    return text_index(path, plain.read_text_file(path))


def text_index(path: Path, raw: bytes) -> Index:
    """As `open_text`, of the bytes of a file, which are UTF-8 and not blank; `path` names it."""
    store, sha256 = plain.store_of(path, raw)
    return Index(store, sha256)
