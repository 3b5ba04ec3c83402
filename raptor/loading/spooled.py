"""Loaded texts on disk, so that a corpus may be larger than the memory."""

import json
from collections.abc import Sequence

from index_store.spool import Lazy, Spool
from raptor.loading.types import Section, Text


def keep(text: Text, spool: Spool) -> None:
    """Add a text to a spool of such."""
    sections = [(section.start, section.level, section.heading) for section in text.sections]
    head = [text.id, text.title, text.source, text.pages, sections, dict(text.meta), text.notes]
    spool.append(json.dumps(head).encode())
    spool.append(text.text.encode())


def texts_in(spool: Spool) -> Sequence[Text]:
    """The texts that were kept in a spool, each read when it is asked for."""
    return Lazy(len(spool) // 2, lambda place: _text(spool, place))


def _text(spool: Spool, place: int) -> Text:
    id, title, source, pages, sections, meta, notes = json.loads(bytes(spool.view(2 * place)))
    headings = tuple(Section(*section) for section in sections)
    return Text(id, title, source, spool.text(2 * place + 1), tuple(pages), headings, meta, tuple(notes))
