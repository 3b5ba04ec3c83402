"""Documents and their chunks: of new texts, or of what a generation holds with some texts added, changed or removed."""

import hashlib
import json
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from index_store import access
from index_store.documents import document_in, line_of
from index_store.duplicates import Twin, twins_by_access
from index_store.embedder import Embedder, Offsets
from index_store.generations import Changes, paired
from index_store.index import Index
from index_store.name_table import NameTable, name_table
from index_store.outline import ARROW, Outline
from index_store.spool import Lazy, Spool, only, room, taken
from index_store.tables import bytes_at
from index_store.terminal import brief
from index_store.types import Document
from raptor.chunking import chunk
from raptor.embedding import count_tokens
from raptor.engines.engine import Stage, in_order
from raptor.errors import RaptorError
from raptor.grower import Grower
from raptor.loading.metadata import Metadata
from raptor.loading.types import Failure, Text
from raptor.types import Level, Part, Vectors
from rlm.gateway.embeddings import embeds

T = TypeVar("T")

#: Cosine of two vectors of a text by one model: providers compute with few digits, and not always alike.
SAME_MODEL = 0.98

BATCH_CHARS = 250_000  # of texts that are cut into chunks together: a second's work


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents and their texts, and the chunks that they are cut into.

    `chunks`: (n, 3), document number, start and end in characters. `leaves`: the chunks as level 0 of the tree.
    `headings`: over each chunk, its document's title first. `names`: which chunk bears which name. What has texts is on
    disk, and read when it is asked for.
    """

    documents: Sequence[Document]
    texts: Sequence[str]
    chunks: npt.NDArray[np.int64]
    leaves: Level
    changes: Changes
    headings: Sequence[Sequence[str]]
    names: NameTable


def document_of(text: Text) -> Document:
    """A loaded text as an index lists it."""
    digest = hashlib.sha256(text.text.encode()).hexdigest()
    sections = tuple((section.start, section.level, section.heading) for section in text.sections)
    chars = len(text.text)
    return Document(text.id, text.title, text.source, digest, chars, tuple(text.pages), sections, text.meta)


def new_parts(texts: Sequence[Text], grower: Grower) -> Sequence[Part]:
    """Each text cut into chunks."""
    spans, done = Spool(grower.folder), 0
    grower.progress("chunk", 0, len(texts))
    stage = Stage("chunk", spans_of, (grower.embedder, grower.settings.chunk_tokens))
    for batch in in_order(grower.engine.map_batches(stage, _batches(text.text for text in texts))):
        for cut in batch:
            spans.append(np.array(cut, dtype=np.int64).tobytes())
        done += len(batch)
        grower.progress("chunk", done, len(texts))

    def part(number: int) -> Part:
        text, cut = texts[number], np.frombuffer(spans.view(number), dtype=np.int64).reshape(-1, 2)
        return Part(document_of(text), text.text, [(a, b) for a, b in cut.tolist()])

    return Lazy(len(texts), part)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists of at least BATCH_CHARS, but for the last."""
    batch, chars = list[str](), 0
    for text in texts:
        batch.append(text)
        chars += len(text)
        if chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def spans_of(how: tuple[Embedder, int], texts: Sequence[str]) -> list[list[Offsets]]:
    """The stage: the chunks of each text, of at most so many of an embedder's tokens."""
    embedder, tokens = how
    return [chunk(text, embedder.token_offsets, tokens) for text in texts]


def merged_documents(
    index: Index, texts: Sequence[Text], remove: Collection[str]
) -> list[tuple[Document, Document | None]]:
    """The documents of the next generation, each with the one of the previous that it was, None for a new one.

    They come in the order of the previous generation, but for those in `remove`; each of `texts` takes the place of the
    document with its id, or of a removed one with its text, which so has another id now; or it stands at the end. The
    metadata that a document had stays, but for the fields that its source gives anew.
    Raises NoSuchNode for an unknown id in `remove`, RaptorError where no document is left.
    """
    missing = [doc for doc in remove if not index.has_document(doc)]
    if missing:
        index.document(missing[0])  # raises, naming the nearest id
    loaded, gone = {t.id: document_of(t) for t in texts}, frozenset(remove)
    staying = [loaded.get(d.id, d) for d in index.documents if d.id not in gone]
    new = [document for doc, document in loaded.items() if not index.has_document(doc)]
    pairs = paired(index.documents, [*staying, *new])
    if not pairs:
        raise RaptorError(f"that would leave no document in {index.path}; delete the folder instead")
    pairs = [(now if old is None else replace(now, meta={**old.meta, **now.meta}), old) for now, old in pairs]
    places = {d.id: place for place, d in enumerate(index.documents)}
    return sorted(pairs, key=lambda pair: places[pair[1].id] if pair[1] else len(places))


def merged_parts(
    index: Index,
    texts: Sequence[Text],
    remove: Collection[str],
    metadata: Metadata | None,
    grower: Grower,
) -> tuple[Sequence[Part], list[Failure]]:
    """The parts of the next generation, and the metadata of unknown documents.

    A document keeps its chunks while its text stays, whatever its id and title. Raises as `merged_documents` does.
    """
    pairs = merged_documents(index, texts, remove)
    fresh = {now.id for now, old in pairs if old is None or old.sha256 != now.sha256}
    new = new_parts(only(texts, lambda text: text.id in fresh), grower)
    places = {part.document.id: place for place, part in enumerate(new)}

    def part(number: int) -> Part:
        now, old = pairs[number]
        if old and now.id not in fresh:
            return _old_part(index, now, old)
        return replace(new[places[now.id]], document=now)

    return with_metadata(Lazy(len(pairs), part), metadata)


def _old_part(index: Index, now: Document, old: Document) -> Part:
    """A document whose text the previous generation has, as `old`."""
    leaves = index.document_leaves(index.document_number(old.id))
    spans = [(s.start, s.end) for s in map(index.span_at, leaves) if s is not None]
    retitled = (now.title, now.sections) != (old.title, old.sections)
    return Part(now, index.document_text(old.id), spans, leaves, retitled)


def with_metadata(parts: Sequence[Part], metadata: Metadata | None) -> tuple[Sequence[Part], list[Failure]]:
    """The parts with the metadata of their documents; and a Failure for each id in it that no document has.

    Of a field that a document has already, the metadata's value counts. Raises RaptorError where such an id is given
    labels of readers: the document that is meant would be open to all.
    """
    if metadata is None:
        return parts, []
    known = {part.document.id for part in parts}
    missing = [doc for doc in metadata.lines if doc not in known]
    if labelled := [doc for doc in missing if access.KEY in metadata.fields[doc]]:
        more = f" (and {len(labelled) - 1:,} more)" if len(labelled) > 1 else ""
        raise RaptorError(
            f"{metadata.file}:{metadata.lines[labelled[0]]} gives access to {brief(labelled[0])}, and no document has "
            f"that id{more}, so that the one that is meant could be open to all; mend the id, or take the line out"
        )
    unknown = [
        Failure(f"{metadata.file}:{metadata.lines[doc]}", f"there is no document {doc!r}; check the id")
        for doc in missing
    ]

    def part(number: int) -> Part:
        return _with_fields(parts[number], metadata.fields)

    return Lazy(len(parts), part), unknown


def _with_fields(part: Part, fields: Mapping[str, Mapping[str, str]]) -> Part:
    meta = {**part.document.meta, **fields.get(part.document.id, {})}
    return replace(part, document=replace(part.document, meta=meta))


_ROW = np.dtype(
    [
        ("chunk", "<i8", 3),  # its document, and its characters there
        ("bytes", "<i8", 2),  # of its document's text
        ("old", "<i8"),  # its number in the previous generation; -1 for a new one
        ("kept", "<i8"),  # the same, where its vector is taken over too
    ]
)
_MANY = 1_024  # texts, or vectors, that are looked at together


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The chunks of all documents, on disk. `held`: of each document its line, its text and its id. `headings`: of each
    chunk its place, its document's title and the headings over it. `kinds`: a number for the labels of each document.
    """

    held: Spool
    headings: Spool
    rows: npt.NDArray[Any]
    kinds: "array[int]"

    def document(self, d: int) -> Document:
        return document_in(self.held.view(3 * d))

    def document_text(self, d: int) -> str:
        return self.held.text(3 * d + 1)

    def text(self, i: int) -> str:
        row = self.rows[i]
        start, end = row["bytes"].tolist()
        return str(self.held.view(3 * int(row["chunk"][0]) + 1)[start:end], "utf-8")

    def name(self, i: int) -> str:
        d, start, end = self.rows["chunk"][i].tolist()
        return f"{self.held.text(3 * d + 2)} {start}-{end}"

    def place(self, i: int) -> str:
        return self._headings(i)[0]

    def parts(self, i: int) -> list[str]:
        return self._headings(i)[1:]

    def words(self, i: int) -> str:
        """What is embedded."""
        return headed(ARROW.join(self.parts(i)), self.text(i))

    def old(self, i: int) -> int | None:
        old = int(self.rows["old"][i])
        return None if old < 0 else old

    def is_old(self, i: int) -> bool:
        return bool(self.rows["old"][i] >= 0)

    def fresh_and_known(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The chunks that are to be embedded and counted, and those of which the previous generation says it."""
        return np.flatnonzero(self.rows["kept"] < 0), np.flatnonzero(self.rows["kept"] >= 0)

    def _headings(self, i: int) -> list[str]:
        found: list[str] = json.loads(bytes(self.headings.view(i)))
        return found


def corpus_of(
    parts: Sequence[Part], changes: Changes, grower: Grower, vectors: Vectors | None = None
) -> Corpus:
    """All chunks as the first level; only those that are new, or have a new title, are embedded and counted.

    Each part is read once, in order. `vectors`: those of all chunks, where they are known and none is to be embedded.
    """
    chunks = _chunks(parts, grower.folder)
    count = len(chunks.rows)
    vectors = _embedded(chunks, grower) if vectors is None else vectors
    tokens = _counted(chunks, grower)

    def column(get: Callable[[int], T]) -> Lazy[T]:
        return Lazy(count, get)

    kinds = np.array(chunks.kinds, dtype=np.int64)
    is_one = not (kinds != kinds[:1]).any()
    leaves = Level(
        column(chunks.text),
        column(chunks.name),
        tokens,
        vectors,
        column(chunks.old),
        column(chunks.is_old),
        places=column(chunks.place),
        kinds=kinds[:0] if is_one else taken(kinds, chunks.rows["chunk"][:, 0], grower.folder),
    )
    headings = column(chunks.parts)
    named = name_table(zip(leaves.texts, headings, strict=True), folder=grower.folder)
    documents, texts = Lazy(len(parts), chunks.document), Lazy(len(parts), chunks.document_text)
    return Corpus(documents, texts, chunks.rows["chunk"], leaves, changes, headings, named)


def _chunks(parts: Sequence[Part], folder: Path | None) -> _Chunks:
    held, headings, rows = Spool(folder), Spool(folder), Spool(folder)
    kinds, numbers = array("i"), dict[frozenset[str] | None, int]()
    for d, part in enumerate(parts):
        document, outline = part.document, Outline(part.document)
        for record in (line_of(document), part.text.encode(), document.id.encode()):
            held.append(record)
        for start, _ in part.spans:
            headings.append(json.dumps([outline.place(start), *outline.parts(start)]).encode())
        rows.append(_rows(d, part).tobytes())
        kinds.append(numbers.setdefault(access.of_document(document.meta), len(numbers)))
    return _Chunks(held, headings, np.frombuffer(rows.whole(), dtype=_ROW), kinds)


def _rows(number: int, part: Part) -> npt.NDArray[Any]:
    rows = np.zeros(len(part.spans), dtype=_ROW)
    chars = np.array(part.spans, dtype=np.int64).reshape(-1, 2)
    rows["chunk"][:, 0], rows["chunk"][:, 1:] = number, chars
    rows["bytes"] = bytes_at(part.text, chars)
    rows["old"] = -1 if part.old is None else part.old
    rows["kept"] = -1 if part.retitled else rows["old"]
    return rows


def _embedded(chunks: _Chunks, grower: Grower) -> Vectors:
    """The vector of each chunk."""
    if grower.previous is None:
        return grower.embed(Lazy(len(chunks.rows), chunks.words), "embed")
    fresh, known = chunks.fresh_and_known()
    embedded = grower.embed(Lazy(len(fresh), lambda i: chunks.words(fresh[i])), "embed")
    vectors: Vectors = room((len(chunks.rows), grower.embedder.dim), np.float32, grower.folder)
    numbers = chunks.rows["kept"][known]
    for start in range(0, len(chunks.rows), _MANY):
        some = slice(start, start + _MANY)
        vectors[fresh[some]] = embedded[some]
        vectors[known[some]] = grower.previous.vectors[numbers[some]]
    return vectors


def _counted(chunks: _Chunks, grower: Grower) -> npt.NDArray[np.int64]:
    """The tokens of each chunk."""
    if grower.previous is None:
        return count_tokens(grower.embedder, Lazy(len(chunks.rows), chunks.text), grower.folder)
    fresh, known = chunks.fresh_and_known()
    counted = count_tokens(grower.embedder, Lazy(len(fresh), lambda i: chunks.text(fresh[i])), grower.folder)
    tokens = room((len(chunks.rows),), np.int64, grower.folder)
    tokens[fresh], tokens[known] = counted, grower.previous.rows["tokens"][chunks.rows["kept"][known]]
    return tokens


def twins_in(documents: Sequence[Document], texts: Sequence[str], folder: Path | None) -> list[Twin]:
    """The documents that say nearly the same as one before them that the same readers may read. Texts are read one at a
    time; what is kept of very many meanwhile is mapped from files in `folder`."""

    named = Lazy(len(documents), lambda number: (documents[number].id, texts[number]))
    return twins_by_access(named, (access.of_document(document.meta) for document in documents), folder)


def refuse_another_model(grower: Grower, index: Index) -> None:
    """Raise RaptorError where an embedder that is called does not give the first chunk of the index the vector that it
    has there: a provider may put another model behind a name."""
    span = index.span_at(0)
    if span is None or not embeds(grower.embedder.name):
        return
    (vector,) = grower.embed(
        [headed(Outline(index.documents[0]).heading(span.start), index.text_at(0))], "embed"
    )
    alike = float(vector @ index.vectors[0])
    if alike < SAME_MODEL:
        raise RaptorError(
            f"{grower.embedder.name} gives other vectors now than when the index was built (cosine {alike:.2f} for the "
            "same text), so new ones would not fit; build the index anew"
        )


def headed(heading: str, words: str) -> str:
    """What is embedded of a chunk: alone, many do not say what they are about, so its title and headings lead."""
    return f"{heading}\n{words}" if heading else words
