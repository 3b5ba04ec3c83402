"""Documents and their chunks: of new texts, or of what a generation holds with some texts added, changed or removed."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from index_store.index import Index
from index_store.types import Document
from raptor.chunking import chunk
from raptor.errors import RaptorError
from raptor.grower import Grower
from raptor.loading.metadata import Metadata
from raptor.loading.types import Failure, Text
from raptor.types import Changes, Level, Part


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents with their texts, and the chunks that they are cut into.

    `chunks`: (n, 3), document number, start and end in characters. `leaves`: the chunks as level 0 of the tree.
    """

    documents: Sequence[tuple[Document, str]]
    chunks: npt.NDArray[np.int64]
    leaves: Level
    changes: Changes


def document_of(text: Text) -> Document:
    """A loaded text as an index lists it."""
    digest = hashlib.sha256(text.text.encode()).hexdigest()
    sections = tuple((section.start, section.level, section.heading) for section in text.sections)
    chars = len(text.text)
    return Document(text.id, text.title, text.source, digest, chars, tuple(text.pages), sections, text.meta)


def new_parts(texts: Sequence[Text], grower: Grower) -> list[Part]:
    """Each text cut into chunks."""
    parts = []
    grower.progress("chunk", 0, len(texts))
    for done, text in enumerate(texts, 1):
        spans = chunk(text.text, grower.embedder.token_offsets, grower.settings.chunk_tokens)
        parts.append(Part(document_of(text), text.text, spans))
        grower.progress("chunk", done, len(texts))
    return parts


def merged_parts(
    index: Index,
    texts: Sequence[Text],
    remove: Collection[str],
    metadata: Metadata | None,
    grower: Grower,
) -> tuple[list[Part], Changes, list[Failure]]:
    """The parts of the next generation, what differs from the previous one, and the metadata of unknown documents.

    Documents of the previous generation come in their order, but for those in `remove`; each of `texts` takes the
    place of the document with its id, or stands at the end. A document keeps its chunks while its text and title stay.
    Raises NoSuchNode for an unknown id in `remove`, RaptorError where no document is left.
    """
    missing = [doc for doc in remove if not index.has_document(doc)]
    if missing:
        index.document(missing[0])  # raises, naming the nearest id
    loaded = {t.id: document_of(t) for t in texts}
    same = {d.id for d in index.documents if d.id in loaded and _same_words(loaded[d.id], d)}
    new = {p.document.id: p for p in new_parts([t for t in texts if t.id not in same], grower)}
    staying = [d for d in index.documents if d.id not in remove]
    parts = [new[d.id] if d.id in new else _old_part(index, d) for d in staying]
    parts = [_renewed(part, old, loaded.get(old.id)) for part, old in zip(parts, staying, strict=True)]
    parts += [p for doc, p in new.items() if not index.has_document(doc)]
    parts, unknown = with_metadata(parts, metadata)
    if not parts:
        raise RaptorError(f"that would leave no document in {index.path}; delete the folder instead")
    added = sum(not index.has_document(doc) for doc in new)
    changed = sum(part.document != d for part, d in zip(parts, staying, strict=False))
    changes = Changes(added, changed, len(index.documents) - len(staying), len(staying) - changed)
    return parts, changes, unknown


def _same_words(new: Document, old: Document) -> bool:
    """Whether the chunks and their vectors, which the title is part of, stay as they are."""
    return (new.sha256, new.title) == (old.sha256, old.title)


def _renewed(part: Part, old: Document, loaded: Document | None) -> Part:
    """A part with what its source says now (None where it was not loaded), over the metadata that it had."""
    document = part.document if loaded is None else loaded
    return replace(part, document=replace(document, meta={**old.meta, **document.meta}))


def _old_part(index: Index, document: Document) -> Part:
    """A document as the previous generation has it."""
    leaves = index.document_leaves(index.document_number(document.id))
    spans = [(s.start, s.end) for s in map(index.span_at, leaves) if s is not None]
    return Part(document, index.document_text(document.id), spans, leaves)


def with_metadata(parts: Sequence[Part], metadata: Metadata | None) -> tuple[list[Part], list[Failure]]:
    """The parts with the metadata of their documents; and a Failure for each id in it that no document has.

    Of a field that a document has already, the metadata's value counts.
    """
    if metadata is None:
        return list(parts), []
    known = {part.document.id for part in parts}
    unknown = [
        Failure(f"{metadata.file}:{line}", f"there is no document {doc!r}; check the id")
        for doc, line in metadata.lines.items()
        if doc not in known
    ]
    return [_with_fields(part, metadata.fields.get(part.document.id, {})) for part in parts], unknown


def _with_fields(part: Part, fields: Mapping[str, str]) -> Part:
    return replace(part, document=replace(part.document, meta={**part.document.meta, **fields}))


def corpus_of(parts: Sequence[Part], changes: Changes, grower: Grower) -> Corpus:
    """All chunks as the first level; only those that are new are embedded and counted."""
    chunks = [(d, a, b) for d, part in enumerate(parts) for a, b in part.spans]
    texts = [parts[d].text[a:b] for d, a, b in chunks]
    old = [number for part in parts for number in (part.old or [None] * len(part.spans))]
    fresh = [i for i, number in enumerate(old) if number is None]
    embedded = [titled(parts[chunks[i][0]].document.title, texts[i]) for i in fresh]
    vectors = np.zeros((len(chunks), grower.embedder.dim), dtype=np.float32)
    tokens = np.zeros(len(chunks), dtype=np.int64)
    vectors[fresh] = grower.embed(embedded, "embed")
    tokens[fresh] = grower.embedder.count_tokens([texts[i] for i in fresh])
    if grower.previous is not None:
        known = [i for i, number in enumerate(old) if number is not None]
        numbers = [number for number in old if number is not None]
        vectors[known] = grower.previous.vectors[numbers]
        tokens[known] = grower.previous.rows["tokens"][numbers]
    names = [f"{parts[d].document.id} {a}-{b}" for d, a, b in chunks]
    leaves = Level(texts, names, tokens, vectors, old, [number is not None for number in old])
    documents = [(part.document, part.text) for part in parts]
    return Corpus(documents, np.array(chunks, dtype=np.int64).reshape(-1, 3), leaves, changes)


def titled(title: str, words: str) -> str:
    """What is embedded of a chunk: alone, many do not say what they are about, so its document's title leads."""
    return f"{title}\n{words}" if title else words
