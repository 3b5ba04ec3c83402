"""Documents and their chunks: of new texts, or of what a generation holds with some texts added, changed or removed."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from index_store import access
from index_store.embedder import Embedder, Offsets
from index_store.generations import Changes, paired
from index_store.index import Index
from index_store.name_table import NameTable, name_table
from index_store.outline import Outline
from index_store.terminal import brief
from index_store.types import Document
from raptor.chunking import chunk
from raptor.engines.engine import Stage, in_order
from raptor.errors import RaptorError
from raptor.grower import Grower
from raptor.loading.metadata import Metadata
from raptor.loading.types import Failure, Text
from raptor.types import Level, Part

BATCH_CHARS = 250_000  # of texts that are cut into chunks together: a second's work


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents with their texts, and the chunks that they are cut into.

    `chunks`: (n, 3), document number, start and end in characters. `leaves`: the chunks as level 0 of the tree.
    `names`: which chunk bears which name.
    """

    documents: Sequence[tuple[Document, str]]
    chunks: npt.NDArray[np.int64]
    leaves: Level
    changes: Changes
    names: NameTable


def document_of(text: Text) -> Document:
    """A loaded text as an index lists it."""
    digest = hashlib.sha256(text.text.encode()).hexdigest()
    sections = tuple((section.start, section.level, section.heading) for section in text.sections)
    chars = len(text.text)
    return Document(text.id, text.title, text.source, digest, chars, tuple(text.pages), sections, text.meta)


def new_parts(texts: Sequence[Text], grower: Grower) -> list[Part]:
    """Each text cut into chunks."""
    parts: list[Part] = []
    grower.progress("chunk", 0, len(texts))
    stage = Stage("chunk", spans_of, (grower.embedder, grower.settings.chunk_tokens))
    for spans in in_order(grower.engine.map_batches(stage, _batches([text.text for text in texts]))):
        for text, of_one in zip(texts[len(parts) : len(parts) + len(spans)], spans, strict=True):
            parts.append(Part(document_of(text), text.text, of_one))
            grower.progress("chunk", len(parts), len(texts))
    return parts


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
    loaded = {t.id: document_of(t) for t in texts}
    staying = [loaded.get(d.id, d) for d in index.documents if d.id not in remove]
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
) -> tuple[list[Part], list[Failure]]:
    """The parts of the next generation, and the metadata of unknown documents.

    A document keeps its chunks while its text stays, whatever its id and title. Raises as `merged_documents` does.
    """
    pairs = merged_documents(index, texts, remove)
    fresh = {now.id for now, old in pairs if old is None or old.sha256 != now.sha256}
    new = {part.document.id: part for part in new_parts([t for t in texts if t.id in fresh], grower)}
    parts = [
        _old_part(index, now, old) if old and now.id not in fresh else replace(new[now.id], document=now)
        for now, old in pairs
    ]
    return with_metadata(parts, metadata)


def _old_part(index: Index, now: Document, old: Document) -> Part:
    """A document whose text the previous generation has, as `old`."""
    leaves = index.document_leaves(index.document_number(old.id))
    spans = [(s.start, s.end) for s in map(index.span_at, leaves) if s is not None]
    retitled = (now.title, now.sections) != (old.title, old.sections)
    return Part(now, index.document_text(old.id), spans, leaves, retitled)


def with_metadata(parts: Sequence[Part], metadata: Metadata | None) -> tuple[list[Part], list[Failure]]:
    """The parts with the metadata of their documents; and a Failure for each id in it that no document has.

    Of a field that a document has already, the metadata's value counts. Raises RaptorError where such an id is given
    labels of readers: the document that is meant would be open to all.
    """
    if metadata is None:
        return list(parts), []
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
    return [_with_fields(part, metadata.fields.get(part.document.id, {})) for part in parts], unknown


def _with_fields(part: Part, fields: Mapping[str, str]) -> Part:
    return replace(part, document=replace(part.document, meta={**part.document.meta, **fields}))


def corpus_of(parts: Sequence[Part], changes: Changes, grower: Grower) -> Corpus:
    """All chunks as the first level; only those that are new, or have a new title, are embedded and counted."""
    chunks = [(d, a, b) for d, part in enumerate(parts) for a, b in part.spans]
    texts = [parts[d].text[a:b] for d, a, b in chunks]
    outlines = [Outline(part.document) for part in parts]
    old = [number for part in parts for number in (part.old or [None] * len(part.spans))]
    kept = [None if parts[d].retitled else number for (d, _, _), number in zip(chunks, old, strict=True)]
    fresh = [i for i, number in enumerate(kept) if number is None]
    embedded = [headed(outlines[chunks[i][0]].heading(chunks[i][1]), texts[i]) for i in fresh]
    vectors = np.zeros((len(chunks), grower.embedder.dim), dtype=np.float32)
    tokens = np.zeros(len(chunks), dtype=np.int64)
    vectors[fresh] = grower.embed(embedded, "embed")
    tokens[fresh] = grower.embedder.count_tokens([texts[i] for i in fresh])
    if grower.previous is not None:
        known = [i for i, number in enumerate(kept) if number is not None]
        numbers = [number for number in kept if number is not None]
        vectors[known] = grower.previous.vectors[numbers]
        tokens[known] = grower.previous.rows["tokens"][numbers]
    names = [f"{parts[d].document.id} {a}-{b}" for d, a, b in chunks]
    places = [outlines[d].place(a) for d, a, _ in chunks]
    same = [number is not None for number in old]
    kinds = _kinds([access.of_document(part.document.meta) for part in parts], [d for d, _, _ in chunks])
    leaves = Level(texts, names, tokens, vectors, old, same, places=places, kinds=kinds)
    documents = [(part.document, part.text) for part in parts]
    named = name_table((text, outlines[d].parts(a)) for (d, a, _), text in zip(chunks, texts, strict=True))
    return Corpus(documents, np.array(chunks, dtype=np.int64).reshape(-1, 3), leaves, changes, named)


def _kinds(labels: Sequence[frozenset[str] | None], documents: Sequence[int]) -> list[int]:
    """A number for the labels of the document of each chunk, in the order of the documents; [] for one number alone."""
    numbers = {own: number for number, own in enumerate(dict.fromkeys(labels))}
    return [numbers[labels[document]] for document in documents] if len(numbers) > 1 else []


def headed(heading: str, words: str) -> str:
    """What is embedded of a chunk: alone, many do not say what they are about, so its title and headings lead."""
    return f"{heading}\n{words}" if heading else words
