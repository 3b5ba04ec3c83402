"""Loaded texts on disk, so that a corpus may be larger than the memory."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from index_store.spool import Lazy, Spool
from raptor.loading.types import Failure, Loaded, Section, Text


def kept(items: Iterable[Loaded], folder: Path | None) -> Sequence[Loaded]:
    """What was read of one file; where it is much, in a file in `folder`."""
    spool = Spool(folder)
    for item in items:
        keep(item, spool)
    return Lazy(len(spool) // 2, lambda place: _loaded(spool, place))


def keep(item: Loaded, spool: Spool) -> None:
    """Add a text, or why there is none, to a spool of such."""
    if isinstance(item, Failure):
        spool.append(json.dumps([item.source, item.reason]).encode())
        spool.append(b"")
        return
    sections = [(section.start, section.level, section.heading) for section in item.sections]
    head = [item.id, item.title, item.source, item.pages, sections, dict(item.meta), item.notes]
    spool.append(json.dumps(head).encode())
    spool.append(item.text.encode(errors="surrogatepass"))


def texts_in(spool: Spool) -> Sequence[Text]:
    """The texts that were kept in a spool of texts alone, each read when it is asked for."""
    return Lazy(len(spool) // 2, lambda place: _text(spool, place, _head(spool, place)))


def _loaded(spool: Spool, place: int) -> Loaded:
    head = _head(spool, place)
    return Failure(*head) if len(head) == 2 else _text(spool, place, head)


def _head(spool: Spool, place: int) -> list[Any]:
    found: list[Any] = json.loads(bytes(spool.view(2 * place)))
    return found


def _text(spool: Spool, place: int, head: list[Any]) -> Text:
    id, title, source, pages, sections, meta, notes = head
    text = str(spool.view(2 * place + 1), "utf-8", "surrogatepass")  # what is no text is refused later
    headings = tuple(Section(*section) for section in sections)
    return Text(id, title, source, text, tuple(pages), headings, meta, tuple(notes))
