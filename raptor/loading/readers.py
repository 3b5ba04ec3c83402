"""A file to its documents, by the reader for its type.

The text of a document is the file's own, not one character changed, so that offsets made elsewhere fit; for HTML, XML,
PDF, office files, notebooks, mails and books it is the text that was extracted, and JSON on one line is laid out. A
file without a suffix is what its content says that it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from raptor.loading.archives import (
    COMPRESSED,
    MAX_DEPTH,
    TooMuch,
    Unpacked,
    read_compressed,
    read_epub,
    read_tar,
    read_zip,
)
from raptor.loading.content import suffix_by_content
from raptor.loading.csv_table import read_csv
from raptor.loading.html import read_html
from raptor.loading.json_text import read_json
from raptor.loading.jsonl import read_jsonl
from raptor.loading.kinds import HTML, LISTED, MARKDOWN, OFFICE, PACKED, PLAIN, TABLES
from raptor.loading.mail import read_mail
from raptor.loading.markdown import read_markdown
from raptor.loading.notebook import read_notebook
from raptor.loading.office import read_office
from raptor.loading.pdf import read_pdf
from raptor.loading.plain import read_plain
from raptor.loading.rst import read_rst
from raptor.loading.types import MAX_PACKED_BYTES, Failure, Loaded, SourceFile, TooLarge, state_of
from raptor.loading.xml_text import read_xml

#: Gives documents, and files that are packed in the one that it reads, to be read in their turn.
Reader = Callable[[SourceFile], Iterator[Loaded | SourceFile]]
#: The reader for each suffix, in lower case.
READERS: dict[str, Reader] = {
    **dict.fromkeys(PLAIN, read_plain),
    **dict.fromkeys(MARKDOWN, read_markdown),
    **dict.fromkeys(HTML, read_html),
    **dict.fromkeys(TABLES, read_csv),
    **dict.fromkeys(OFFICE, read_office),
    ".pdf": read_pdf,
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".rst": read_rst,
    ".ipynb": read_notebook,
    ".xml": read_xml,
    ".eml": read_mail,
    **dict.fromkeys(COMPRESSED, read_compressed),
    ".tar": read_tar,
    ".zip": read_zip,
    ".epub": read_epub,
}


#: Holds what is read of a file until it is known that the file stayed as it was.
Keep = Callable[[Iterator[Loaded]], Sequence[Loaded]]


def read_file(file: SourceFile, keep: Keep = list) -> Sequence[Loaded]:
    """A file's documents, or why there are none, read in this process; again where it was changed meanwhile."""
    for _ in range(2):
        before = state_of(file.path)
        loaded = _whole(file, keep)
        if state_of(file.path) == before:
            return loaded
    return [Failure(str(file.path), "it changes while it is read; wait until it is whole, or copy it first")]


def packed_at(file: SourceFile, source: str) -> SourceFile | None:
    """The file that is packed in another, at any depth, and named `source`; None for none. Raises OSError, TooMuch."""
    known = _known(file)
    if isinstance(known, Failure) or known.suffix not in PACKED:
        return None
    for item in READERS[known.suffix](known):
        if isinstance(item, SourceFile) and str(item.path) == source:
            return item
        if isinstance(item, SourceFile) and source.startswith(f"{item.path}/"):
            return packed_at(item, source)
    return None


def _whole(file: SourceFile, keep: Keep) -> Sequence[Loaded]:
    try:
        return keep(_read(file, Unpacked(_size(file))))
    except TooMuch as limit:
        return [Failure(str(file.path), str(limit))]


def _size(file: SourceFile) -> int:
    if file.content is not None:
        return len(file.content)
    state = state_of(file.path)
    return state[1] if state else 0


def _read(file: SourceFile, unpacked: Unpacked, depth: int = 0) -> Iterator[Loaded]:
    """A file's documents, and those of what is packed in it. Raises TooMuch."""
    try:
        known = _known(file)
        if isinstance(known, Failure):
            yield known
            return
        for item in READERS[known.suffix](known):
            if not isinstance(item, SourceFile):
                yield item
            elif depth == MAX_DEPTH:
                yield Failure(
                    str(item.path), f"it lies in more than {MAX_DEPTH} archives; unpack the outer one"
                )
            else:
                unpacked.add(len(item.content or b""))
                if item.id == file.id and item.suffix == ".tar":
                    unpacked.bytes -= len(item.content or b"")  # its files are counted instead
                yield from _read(item, unpacked, depth + 1)
    except TooLarge as fault:
        yield Failure(str(file.path), str(fault))
    except OSError as error:
        yield Failure(
            str(file.path),
            f"it cannot be read ({error.strerror or error}); check the file and its permissions",
        )


def _known(file: SourceFile) -> SourceFile | Failure:
    """The file with a suffix that has a reader, its content's where its name has none; or why not.

    Raises OSError, TooLarge.
    """
    source = str(file.path)
    if file.outside:
        return Failure(
            source, "it is a link that leads out of what was named; give --follow-links to have it"
        )
    if file.suffix and file.suffix not in READERS:
        return Failure(
            source,
            f"its type {file.suffix!r} is unknown; leave it out, or convert it ({LISTED})",
        )
    if file.content is None and not file.path.is_file():
        return Failure(
            source, "it is not a regular file that can be read; name a file, or fix its permissions"
        )
    return file if file.suffix else replace(file, kind=suffix_by_content(file.raw(MAX_PACKED_BYTES)))
