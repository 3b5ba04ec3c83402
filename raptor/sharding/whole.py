"""An index of shards as a whole: divided for the first time; changed, the shards concerned and the upper tree alone.

Shards are published first, each in its own folder, and the upper index last: it names the generation of each shard by
its digest, so what dies in between leaves the one that was live, whole.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from index_store import access
from index_store.duplicates import Twin, first_alike
from index_store.files import allow_many_files
from index_store.index import Index, Sharded, open_alone, open_generation
from index_store.manifest import SHARDS
from index_store.name_table import name_table, parted
from index_store.outline import Outline
from index_store.spool import Lazy, chained
from index_store.types import Document
from raptor.corpus import merged_documents, merged_parts, new_parts, twins_in, with_metadata
from raptor.errors import RaptorError
from raptor.estimating import Expected, check_cap, expected_above, expected_usd
from raptor.grower import Grower
from raptor.loading.metadata import Metadata
from raptor.loading.types import Note, Section, Text
from raptor.settings import SHARDING, Sharding
from raptor.sharding.planning import Change, Held, planned_shards, replanned
from raptor.sharding.shards import Job, Made, Whole, build_shards, folder_of, folders_of_shards, is_unfinished
from raptor.sharding.upper import Opened, publish_upper
from raptor.types import Outcome, Part
from raptor.workspace import looked_at, opened, silent

# -- divided for the first time ----------------------------------------------------------------------------


def divide(whole: Whole, parts: Sequence[Part], sharding: Sharding) -> Outcome:
    """Build documents as shards, and publish the index of these. Raises RaptorError or GatewayError; then nothing is
    published, and what is paid for is recorded with the shard that it is for."""
    plan = planned_shards([(part.document, len(part.spans)) for part in parts], sharding)
    held = {name: _taken(parts, numbers) for name, numbers in plan.items()}
    _refuse_above_cap(whole, held)
    with whole.clock.stage("embed"):
        whole = replace(whole, grower=whole.grower.sized())
    sizes = {name: sum(len(part.spans) for part in own) for name, own in held.items()}
    with whole.clock.stage("chunk"):
        # By the texts of all shards together, so that each has the names that one index would have.
        table = name_table(_passages(chained(list(held.values()))), 1, whole.grower.folder)
    tables = parted(table, list(sizes.values()))
    jobs = [
        Job(name, None, _given(own), names) for (name, own), names in zip(held.items(), tables, strict=True)
    ]
    made = build_shards(whole, jobs, sum(sizes.values()))
    allow_many_files()
    shards = [Opened(name, _fresh(whole, name, one)) for name, one in made.items()]
    ordered = chained(list(held.values()))
    documents = Lazy(len(ordered), lambda number: ordered[number].document)
    texts = Lazy(len(ordered), lambda number: ordered[number].text)
    with whole.clock.stage("load"):
        twins = twins_in(documents, texts, whole.grower.folder)
    alike = first_alike((document.id for document in documents), twins, len(documents))
    outcome = _published(whole, whole.grower, shards, sharding, alike)
    return replace(outcome, documents=documents, twins=twins)


def _fresh(whole: Whole, name: str, made: Made) -> Index:
    return open_alone(folder_of(whole.out, name), made.published.generation)


def _passages(parts: Sequence[Part]) -> Iterator[tuple[str, Sequence[str]]]:
    """The text of each chunk, and the title and headings over it."""
    for part in parts:
        outline = Outline(part.document)
        for start, end in part.spans:
            yield part.text[start:end], outline.parts(start)


def _taken(parts: Sequence[Part], numbers: Sequence[int]) -> Sequence[Part]:
    return Lazy(len(numbers), lambda place: parts[numbers[place]])


def _given(parts: Sequence[Part]) -> Callable[[Grower], Sequence[Part]]:
    return lambda grower: parts


def _refuse_above_cap(whole: Whole, held: Mapping[str, Sequence[Part]]) -> None:
    """Raise RaptorError where all shards and the tree over them are expected to cost more than may be spent."""
    if whole.usd is None:
        return
    expected = list[Expected]()
    for name, parts in held.items():
        with looked_at(folder_of(whole.out, name)) as checkpoint:  # what is paid for is recorded there
            own = replace(whole.grower, checkpoint=checkpoint, progress=silent)
            expected.append(expected_usd(parts, own))
    expected.append(expected_above(expected, whole.grower))
    check_cap(sum(one.low for one in expected), sum(one.high for one in expected), whole.usd)


# -- changed -----------------------------------------------------------------------------------------------


def change(
    whole: Whole,
    previous: Sharded,
    texts: Sequence[Text],
    remove: Collection[str],
    metadata: Metadata | None,
) -> Outcome:
    """Publish an index of shards with documents added, replaced and removed: only the shards that hold them, and the
    upper tree, are grown again. `previous`: the whole index. Raises as `divide` and `raptor.corpus.merged_parts` do.
    """
    sharding, rows = _sharding(previous), previous.shards
    pairs = merged_documents(previous, texts, remove)
    told, unknown = with_metadata([Part(now, "", ()) for now, _ in pairs], metadata)
    changes = [Change(part.document, old) for part, (_, old) in zip(told, pairs, strict=True)]
    documents = list(previous.documents)
    borders = pairwise(accumulate((row.documents for row in rows), initial=0))
    held = {
        row.name: Held(documents[start:end], row.levels[0])
        for row, (start, end) in zip(rows, borders, strict=True)
    }
    plan = replanned(changes, held, sharding, previous.chars / previous.levels[0])
    before = {row.name: _before(previous, number) for number, row in enumerate(rows) if row.name in plan}
    places = {text.id: place for place, text in enumerate(texts)}

    def text(one: Change) -> Text:
        place = places.get(one.now.id)
        return _text(one.now, texts[place].text if place is not None else _held(one, previous))

    jobs = [
        _job(name, before.get(name), was, own, text)
        for name, own in plan.items()
        if [one.now for one in own] != (was := list(held[name].documents) if name in held else [])
    ]
    made = build_shards(whole, jobs)
    fresh = {name: _fresh(whole, name, one) for name, one in made.items()}
    shards = [Opened(name, fresh.get(name) or before[name]) for name in plan]
    now = {one.now.id: one for one in changes}
    listed = ((fresh if name in fresh else held)[name].documents for name in plan)
    ordered = [now[document.id] for own in listed for document in own]
    twins = [twin for one in made.values() for twin in one.twins]
    alike = still_alike(ordered, previous, twins)
    upper = replace(whole.grower, previous=open_alone(whole.out, previous.generation))
    outcome = _published(whole, upper, shards, sharding, alike)
    notes = [_outgrown(name, index, sharding) for name, index in fresh.items()]
    return replace(
        outcome,
        documents=[one.now for one in ordered],
        twins=twins,
        unused_metadata=unknown,
        notes=[note for note in notes if note],
    )


def _before(previous: Sharded, number: int) -> Index:
    """A shard of the index before, checked against what is said of it there."""
    index = previous.shard(number)
    assert isinstance(index, Index)
    return index


def _sharding(index: Index) -> Sharding:
    """How an index is divided. Raises RaptorError where its manifest does not say."""
    match index.manifest.settings.get(SHARDING):
        case {"by": str(by), "chunks": int(chunks)}:
            return Sharding(by, chunks)
    raise RaptorError(f"{index.path} does not say how it is divided; build it again: raptor shard")


def _job(
    name: str,
    before: Index | None,
    old: Sequence[Document],
    own: Sequence[Change],
    text: Callable[[Change], Text],
) -> Job:
    """A shard to build: what it held, but for what is to be left out, with the texts of what is new or different."""
    was, staying = {document.id: document for document in old}, {one.now.id for one in own}
    differ = [one for one in own if one.now != was.get(one.now.id)]
    texts = Lazy(len(differ), lambda place: text(differ[place]))
    remove = [document.id for document in old if document.id not in staying]

    def parts(grower: Grower) -> Sequence[Part]:
        if before is None:
            return new_parts(texts, grower)
        return merged_parts(before, texts, remove, None, grower)[0]

    return Job(name, before, parts)


def _text(document: Document, words: str) -> Text:
    """A document as it is to be, as a file of it would be read."""
    sections = tuple(Section(*section) for section in document.sections)
    pages = tuple(document.pages)
    return Text(document.id, document.title, document.source, words, pages, sections, document.meta)


def _held(one: Change, previous: Index) -> str:
    """The text that a document has, as it is to be kept."""
    assert one.old is not None  # as no new one was read
    return previous.document_text(one.old.id)


def still_alike(changes: Sequence[Change], previous: Index, twins: Iterable[Twin]) -> list[int]:
    """For each document the number of the first that says nearly the same: as it was, of those that are as they were;
    of `twins`, which were found within their shards; and of those that are the same to the letter, and open to the same
    readers."""
    numbers = {change.now.id: number for number, change in enumerate(changes)}
    places = {document.id: place for place, document in enumerate(previous.documents)}
    groups, copies = dict[int, int](), dict[tuple[str, frozenset[str] | None], int]()
    pairs = [(numbers[twin.of], numbers[twin.doc]) for twin in twins]
    for number, change in enumerate(changes):
        letters = change.now.sha256, access.of_document(change.now.meta)
        pairs.append((copies.setdefault(letters, number), number))
        if change.now == change.old:
            group = int(previous.alike[places[change.now.id]])
            pairs.append((groups.setdefault(group, number), number))
    return _least(len(changes), pairs)


def _least(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each number below `count` the least that pairs lead to from it."""
    up = list(range(count))

    def top(number: int) -> int:
        while up[number] != number:
            up[number] = number = up[up[number]]
        return number

    for one, other in pairs:
        low, high = sorted((top(one), top(other)))
        up[high] = low
    return [top(number) for number in range(count)]


def _outgrown(name: str, index: Index, sharding: Sharding) -> Note | None:
    """What to say of a shard that has more chunks than it is to have, unless one document alone has them."""
    if index.levels[0] <= sharding.chunks or len(index.documents) < 2:
        return None
    return Note(
        f"{SHARDS}/{name}",
        f"it has {index.levels[0]:,} chunks by now, more than the {sharding.chunks:,} of a shard; all works as before, "
        "and raptor shard divides its sources anew",
    )


# -- published ---------------------------------------------------------------------------------------------


def _published(
    whole: Whole,
    grower: Grower,
    shards: Sequence[Opened],
    sharding: Sharding,
    alike: Sequence[int] | npt.NDArray[np.int64],
) -> Outcome:
    """Publish the index of these shards, and then let go of what is in their generations: a build that dies before
    needs it again. So of what such a build has recorded of other shards, which nobody is to need."""
    published = publish_upper(whole, grower, shards, sharding, alike)
    for folder in filter(is_unfinished, folders_of_shards(whole.out)):
        with opened(folder) as checkpoint:
            checkpoint.settle("embed", "cluster")
    whole.grower.checkpoint.settle("embed", "cluster")
    files = [entry for shard in shards for entry in shard.index.manifest.files.values()]
    whole_size = replace(published, bytes=published.bytes + sum(entry.size for entry in files))
    levels = open_generation(whole.out, published.generation).levels
    return Outcome(whole_size, (), tuple(levels), (), grower.ledger.spent, grower.ledger.passed())
