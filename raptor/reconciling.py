"""What was read, held against what an index has: which texts to take over, which clash, which documents are gone."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePath

from index_store.errors import BrokenIndex
from index_store.index import Index, Sharded, open_index
from index_store.paths import file_of
from index_store.spool import Lazy
from index_store.terminal import count, visible
from index_store.types import Document
from raptor.corpus import document_of
from raptor.errors import RaptorError
from raptor.loading.load import id_taken
from raptor.loading.origins import ROOT, Origins, Source, holder, is_gone, typed_here
from raptor.loading.types import Failure, SourceFile, Text
from raptor.types import Kept
from raptor.workspace import looked_at, recorded_origins

SHOWN_IDS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read for an index that holds documents.

    `texts`: those to take over, each with its file as the index spells it. `clashes`: those whose id is that of a
    document of another source. `vanished`: the documents of the index whose file, or line in it, is not there any more.
    `kept`: those of it that are there and cannot be read any more.
    """

    texts: Sequence[Text]
    clashes: list[Failure]
    vanished: list[Document]
    kept: list[Kept]


def found_here(origins: Origins, documents: Sequence[Document], files: Sequence[SourceFile]) -> Origins:
    """The origins of an index that came from another machine, with the folder from which its documents' paths count
    on this one: from which most of `files` are theirs, or else lie beside them. As they are where it is known, or
    where no file says it."""
    if origins.folder:
        return origins
    told = {PurePath(file_of(document.source)).parts for document in documents}
    told = {parts for parts in told if not PurePath(*parts).is_absolute() and ".." not in parts}
    place = typed_here().placing()
    places = [PurePath(place(str(file.path))) for file in files]
    for paths, tails in ((places, told), ([path.parent for path in places], {parts[:-1] for parts in told})):
        folders = Counter(
            PurePath(*path.parts[:i])
            for path in paths
            if (i := next((i for i in range(1, len(path.parts)) if path.parts[i:] in tails), 0))
        )
        if folders:
            return replace(origins, folder=str(folders.most_common(1)[0][0]))
    return origins


def keeping_ids(
    files: Sequence[SourceFile], documents: Iterable[Document], origins: Origins
) -> list[SourceFile]:
    """The files, sorted by id; one that the index holds already has the id that it has there, and comes before others
    with it. A new one is named as the documents beside it are, which another machine may have named below a folder."""
    alone = [document for document in documents if file_of(document.source) == document.source]
    ids = {place: doc for doc, place in origins.places(alone).items()}
    beside: dict[str, set[str]] = {}
    for place, doc in ids.items():
        folder, name = os.path.split(place)
        if doc.endswith(name):
            beside.setdefault(folder, set()).add(doc.removesuffix(name))
    tails = {} if origins.folder else {_tail(document.source): document.id for document in alone}
    places = list(map(typed_here().placing(), (str(file.path) for file in files)))
    meant = [ids.get(place) or _longest(tails, place) for place in places]
    often = Counter(meant)
    held = [
        (file, doc if often[doc] == 1 else ids.get(at))
        for file, doc, at in zip(files, meant, places, strict=True)
    ]
    kept = [
        (replace(file, id=doc or _beside(beside, at) or file.id), doc is None)
        for (file, doc), at in zip(held, places, strict=True)
    ]
    return [file for file, _ in sorted(kept, key=lambda pair: (pair[0].id, pair[1]))]


def _beside(beside: Mapping[str, Collection[str]], place: str) -> str:
    """The id that a new file has if the documents in its folder agree how it is named; "" if they do not."""
    folder, name = os.path.split(place)
    named = beside.get(folder, ())
    return next(iter(named)) + name if len(named) == 1 else ""


def reconciled(
    texts: Sequence[Text],
    failures: Sequence[Failure],
    documents: Sequence[Document],
    before: Origins,
    now: Origins,
    *,
    all_read: bool = False,
) -> Reading:
    """Hold texts that were read against the documents of an index: `before` says where those came from, `now` where
    documents come from with what was named.

    A text takes the place of the document with its id where both are from one file, or where the old one is gone and
    says the same or came from the same source. With `all_read`, which says that every source was read, it is enough
    that the old one is gone; one that patterns leave out is. What cannot be read now counts as there.
    """
    here = typed_here()
    known, held = {document.id: document for document in documents}, before.places(documents)
    place, spelled, all_owners = here.placing(), now.spelling(here.folder), now.owning()
    owners = cache(lambda file: {source.given for source in all_owners(file)})
    there = {source.given for source in now.sources if now.folder_of(source).is_dir()}
    read: dict[str, set[str]] = {}
    for text in texts:
        read.setdefault(place(file_of(text.source)), set()).add(text.id)
    files = {holder(path) for path in read}
    failing = {path: f for f in failures for path in (place(f.source), here.written(f.source))}

    def unread(old: Document) -> Failure | None:
        if not failing:
            return None
        ups = (up for path in (held[old.id], before.written(old.source)) for up in _with_folders(path))
        return next((failing[up] for up in ups if up in failing), None)

    def has_vanished(old: Document) -> bool:
        at = held[old.id]
        if unread(old):
            return False
        if all_read and now.leaves_out(at):
            return True
        return is_gone(at) or (holder(at) in files and old.id not in read.get(at, ()))

    def may_replace(text: Text, old: Document, at: str) -> bool:
        if not has_vanished(old):
            return False
        was = owners(file_of(old.source))
        return document_of(text).sha256 == old.sha256 or bool(was if all_read else was & owners(at))

    taken, ids, clashes = list[tuple[int, str]](), set[str](), list[Failure]()
    for number, text in enumerate(texts):
        file, old = file_of(text.source), known.get(text.id)
        at, line = place(file), text.source.removeprefix(file)
        if old is not None and _is_same(old, at, held[old.id], before):
            taken.append((number, file_of(old.source) + line))
        elif old is None or may_replace(text, old, at):
            taken.append((number, spelled(file) + line))
        else:
            clashes.append(id_taken(text, file_of(old.source), gone=has_vanished(old)))
            continue
        ids.add(text.id)
    left = [d for d in documents if d.id not in ids and owners(file_of(d.source)) & there and has_vanished(d)]
    faults = [(d.id, unread(d)) for d in documents if d.id not in ids] if failing else []
    kept = [Kept(doc, fault.source, fault.reason) for doc, fault in faults if fault]
    named = Lazy(len(taken), lambda place: replace(texts[taken[place][0]], source=taken[place][1]))
    return Reading(named, clashes, left, kept)


def _with_folders(path: str) -> Iterator[str]:
    yield path
    yield from map(str, PurePath(path).parents)


def _is_same(old: Document, place: str, held: str, before: Origins) -> bool:
    """Whether a file is the one of a document. Where nobody knows from which folder its path counts, a file is that
    ends in the same way."""
    if place == held:
        return True
    tail = _tail(old.source)
    return not before.folder and PurePath(place).parts[-len(tail) :] == tail


def _tail(source: str) -> tuple[str, ...]:
    """The folders and the name of a document's file, as far as it says them."""
    return tuple(part for part in PurePath(file_of(source)).parts if part not in ("..", "."))


def _longest(tails: Mapping[tuple[str, ...], str], place: str) -> str | None:
    """The document whose file a place ends like, the one that says most of it; None where there is none."""
    parts = PurePath(place).parts
    return next((tails[parts[i:]] for i in range(len(parts)) if parts[i:] in tails), None)


def still_named(now: Origins, documents: Iterable[Document], kept: Collection[Source]) -> Origins:
    """The origins without the sources that no document came from, as a sync is to pass them by; those of `kept` stay
    while their folder is there."""
    owners = now.owning()
    used = {source for document in documents for source in owners(file_of(document.source))}
    used |= {source for source in now.sources if source.kind == ROOT}
    left = (s for s in now.sources if s in used or (s in kept and now.folder_of(s).is_dir()))
    return replace(now, sources=tuple(left))


# -- what a build would drop -------------------------------------------------------------------------------


def _index_at(out: Path) -> Index | None:
    try:
        return open_index(out) if out.is_dir() else None
    except BrokenIndex:  # none yet, or one that a build is to mend
        return None


def drops(out: Path, texts: Sequence[Text]) -> list[str]:
    """The ids of the documents in the index at `out`, if there is one, that a build of `texts` would drop or replace by
    one from elsewhere."""
    if (index := _index_at(out)) is None:
        return []
    documents = list(index.documents)
    with looked_at(out) as checkpoint:
        before = recorded_origins(checkpoint)
    read = reconciled(texts, [], documents, before, before)
    taken = {text.id for text in read.texts}
    return [document.id for document in documents if document.id not in taken]


def refuse_drops(out: Path, texts: Sequence[Text]) -> None:
    """Raise RaptorError where a build of `texts` would drop documents of the index that is there."""
    dropped = drops(out, texts)
    if dropped:
        raise RaptorError(
            f"{out} is an index, of which this build would drop {named(dropped)}; give --replace to have that, or add "
            f"to it with: raptor update {out} SOURCE..."
        )


def refuse_joining(out: Path) -> None:
    """Raise RaptorError where the index that is there is in parts, of which a build would make one."""
    if isinstance(there := _index_at(out), Sharded):
        raise RaptorError(
            f"{out} is an index in {count(len(there.shards), 'part')}, and this build would make one of it; give "
            f"--replace to have that, add to it with: raptor update {out} SOURCE..., or divide it anew with: raptor "
            f"shard SOURCE... -o {out}"
        )


def named(docs: Sequence[str]) -> str:
    """How many documents, and the first of their ids."""
    more = ", ..." if len(docs) > SHOWN_IDS else ""
    return f"{count(len(docs), 'document')} ({visible(', '.join(docs[:SHOWN_IDS]))}{more})"
