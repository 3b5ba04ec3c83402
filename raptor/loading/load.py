"""Files to documents, checked: one bad file is a failure, not an exception."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from index_store.documents import LINE_BYTES
from index_store.terminal import visible
from raptor.engines.engine import Engine
from raptor.loading.kinds import is_slow
from raptor.loading.processes import ParseCache, parse_many
from raptor.loading.readers import read_file
from raptor.loading.spooled import kept
from raptor.loading.types import Failure, Loaded, SourceFile, Text

MAX_ID_CHARS = 1_000


def load(
    files: Iterable[SourceFile],
    cache: ParseCache | None = None,
    engine: Engine | None = None,
    folder: Path | None = None,
) -> Iterator[Loaded]:
    """Each file's documents, or why there are none; one at a time, in the order given. A bad one stops nothing.

    Files of slow types are parsed in processes, where the `engine` computes, ahead of their turn, unless `cache` has
    their text from before. What is read of a large file waits in a file in `folder`.
    """
    files, sources = list(files), dict[str, str]()
    with closing(parse_many([file for file in files if is_slow(file)], cache, engine)) as parsed:
        for file in files:
            for loaded in next(parsed) if is_slow(file) else read_file(file, partial(kept, folder=folder)):
                yield _first_of_its_id(_checked(loaded), sources)


def _checked(loaded: Loaded) -> Loaded:
    """A document that can be stored and cited, or what is wrong with it."""
    if isinstance(loaded, Failure):
        return Failure(visible(loaded.source), visible(loaded.reason))
    reason = (
        _id_fault(loaded.id) or _text_fault(loaded.text, loaded.notes) or _text_fault(loaded.title or "-")
    )
    reason = reason or _meta_fault(loaded.meta) or _size_fault(loaded)
    if reason:
        return Failure(visible(loaded.source), reason)
    return replace(loaded, notes=tuple(map(visible, loaded.notes))) if loaded.notes else loaded


def _id_fault(name: str) -> str:
    if not name or len(name) > MAX_ID_CHARS:
        return f"its document id has {len(name):,} characters; give it one of 1 to {MAX_ID_CHARS:,}"
    if not name.isprintable():
        return f"its document id {name[:80]!a} holds characters that cannot be printed; rename it"
    return ""


def _text_fault(text: str, notes: Sequence[str] = ()) -> str:
    if not text.strip() and notes:
        return notes[-1]  # its reader knows why
    if not text.strip():
        return "it holds no text; leave it out, or check that the right file was named"
    if "\0" in text:
        return f"it holds a NUL at character {text.index(chr(0)):,}, so it is not text; convert it, if UTF-16"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"it holds half a surrogate pair at character {error.start:,}; repair the \\u escape there"
    return ""


def _meta_fault(meta: Mapping[str, str]) -> str:
    try:
        "".join([*meta, *meta.values()]).encode()
    except UnicodeEncodeError:
        return "its metadata holds half a surrogate pair; repair the \\u escape there"
    return ""


def _size_fault(text: Text) -> str:
    """Why a document could not be stored, found before anything is paid for."""
    sections = [(section.start, section.level, section.heading) for section in text.sections]
    size = (
        len(json.dumps([text.title, text.source, text.pages, sections, dict(text.meta)])) + LINE_BYTES // 100
    )
    if size <= LINE_BYTES:
        return ""
    return f"its headings, pages and metadata take more than the {LINE_BYTES:,} bytes that are read of them; split it"


def _first_of_its_id(loaded: Loaded, sources: dict[str, str]) -> Loaded:
    if isinstance(loaded, Failure):
        return loaded
    first = sources.get(loaded.id)
    if first is None:
        sources[loaded.id] = loaded.source
        return loaded
    return id_taken(loaded, first)


def id_taken(text: Text, first: str) -> Failure:
    """Why a document is refused whose id another has, which was read from `first`."""
    return Failure(
        text.source,
        f"its id {text.id!r} is already taken by {first}; name a folder that holds both, or rename one",
    )
