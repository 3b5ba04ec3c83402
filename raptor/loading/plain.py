"""Plain text: the text of a document is the file's own, decoded, not one character changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from raptor.loading.encodings import Undecodable, decode_bytes
from raptor.loading.types import Failure, Loaded, Section, SourceFile, Text, title_of


def read_plain(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document. Raises OSError."""
    yield decode(file)


def decode(file: SourceFile, declared: str = "") -> Text | Failure:
    """The file as one document titled by its name, in the encoding that it has; or why it is none.

    `declared`: the encoding that the file names, which counts where it is not UTF-8 and the user named none.
    Raises OSError, TooLarge.
    """
    try:
        text, note = decode_bytes(file.raw(), file.encoding, declared)
    except Undecodable as fault:
        return Failure(str(file.path), str(fault))
    return Text(file.id, file.path.name, str(file.path), text, notes=(note,) if note else ())


def read_headed(file: SourceFile, sections_of: Callable[[str], Iterable[Section]]) -> Iterator[Loaded]:
    """A text file as one document, titled by its first heading; `sections_of` finds the headings. Raises OSError."""
    whole = decode(file)
    if isinstance(whole, Failure):
        yield whole
        return
    sections = tuple(sections_of(whole.text))
    title = title_of(sections[0].heading if sections else "", whole.title)
    yield replace(whole, title=title, sections=sections)
