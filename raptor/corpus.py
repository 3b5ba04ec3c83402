"""Documents and their chunks: of new texts, or of what a generation holds with some texts added, changed or removed."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from index_store.types import Document
from raptor.chunking import chunk
from raptor.errors import RaptorError
from raptor.growing import Grower
from raptor.loading.metadata import described
from raptor.types import Changes, Level, Part, Spans

if TYPE_CHECKING:
    from index_store.index import Index
    from raptor.loading.metadata import Metadata
    from raptor.loading.types import Failure, Text


@dataclass(frozen=True, slots=True)
class Corpus:
    """`chunks` (n0, 3): document number, start, end in characters; `leaves`: the same as a level of the tree."""

    documents: Sequence[tuple[Document, str]]
    chunks: Spans
    leaves: Level
    changes: Changes


def document_of(text: "Text") -> Document:
    digest = hashlib.sha256(text.text.encode()).hexdigest()
    sections = tuple((section.start, section.level, section.heading) for section in text.sections)
    chars = len(text.text)
    return Document(text.id, text.title, text.source, digest, chars, tuple(text.pages), sections, text.meta)


def new_parts(texts: Sequence["Text"], grower: Grower) -> list[Part]:
    """Each text cut into chunks."""
    parts = []
    grower.progress("chunk", 0, len(texts))
    for done, text in enumerate(texts, 1):
        spans = chunk(text.text, grower.embedder.token_offsets, grower.settings.chunk_tokens)
        parts.append(Part(document_of(text), text.text, spans))
        grower.progress("chunk", done, len(texts))
    return parts


def merged_parts(
    index: "Index",
    texts: Sequence["Text"],
    remove: Collection[str],
    metadata: "Metadata | None",
    grower: Grower,
) -> tuple[list[Part], Changes, "list[Failure]"]:
    """The previous generation's documents in their order, those in `texts` in place of theirs or at the end.

    A document keeps its chunks while its text and title stay, whatever else is said of it. Last, what `metadata` says
    of documents that there are none of.
    """
    missing = [doc for doc in remove if not index.has_document(doc)]
    if missing:
        index.document(missing[0])  # raises, naming the nearest id
    given = {t.id: document_of(t) for t in texts}
    same = {d.id for d in index.documents if d.id in given and same_words(given[d.id], d)}
    made = {p.document.id: p for p in new_parts([t for t in texts if t.id not in same], grower)}
    kept = [d for d in index.documents if d.id not in remove]
    parts = [made[d.id] if d.id in made else old_part(index, d) for d in kept]
    parts = [_said_anew(part, old, given.get(old.id)) for part, old in zip(parts, kept, strict=True)]
    parts += [p for doc, p in made.items() if not index.has_document(doc)]
    parts, unknown = described(parts, metadata)
    if not parts:
        raise RaptorError(f"that would leave no document in {index.path}; delete the folder instead")
    added = sum(not index.has_document(doc) for doc in made)
    changed = sum(part.document != d for part, d in zip(parts, kept, strict=False))
    changes = Changes(added, changed, len(index.documents) - len(kept), len(kept) - changed)
    return parts, changes, unknown


def same_words(new: Document, old: Document) -> bool:
    """Whether chunks and their vectors, which titles are part of, stay as they are."""
    return (new.sha256, new.title) == (old.sha256, old.title)


def _said_anew(part: Part, old: Document, new: Document | None) -> Part:
    """A part with all that its source says of it now, over the metadata that it had."""
    document = part.document if new is None else new
    return replace(part, document=replace(document, meta={**old.meta, **document.meta}))


def old_part(index: "Index", document: Document) -> Part:
    """A document as the previous generation has it."""
    leaves = index.document_leaves(index.document_number(document.id))
    spans = [(s.start, s.end) for s in map(index.span_at, leaves) if s is not None]
    return Part(document, index.document_text(document.id), spans, leaves)


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
        kept = [i for i, number in enumerate(old) if number is not None]
        numbers = [number for number in old if number is not None]
        vectors[kept] = grower.previous.vectors[numbers]
        tokens[kept] = grower.previous.rows["tokens"][numbers]
    names = [f"{parts[d].document.id} {a}-{b}" for d, a, b in chunks]
    leaves = Level(texts, names, tokens, vectors, old, [number is not None for number in old])
    documents = [(part.document, part.text) for part in parts]
    return Corpus(documents, np.array(chunks, dtype=np.int64).reshape(-1, 3), leaves, changes)


def titled(title: str, words: str) -> str:
    """What is embedded of a chunk: alone, many do not say what they are about, so its document's title leads."""
    return f"{title}\n{words}" if title else words
