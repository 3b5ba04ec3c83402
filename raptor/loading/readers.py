"""A file to its documents, by the reader for its type.

The text of a document is the file's own, not one character changed, so that offsets made elsewhere fit; for HTML, PDF
and office files it is the text that was extracted. A file without a suffix is what its content says that it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from raptor.loading.content import suffix_by_content
from raptor.loading.csv_table import read_csv
from raptor.loading.html import read_html
from raptor.loading.json_text import read_json
from raptor.loading.jsonl import read_jsonl
from raptor.loading.kinds import HTML, MARKDOWN, OFFICE, PLAIN, TABLES
from raptor.loading.markdown import read_markdown
from raptor.loading.notebook import read_notebook
from raptor.loading.office import read_office
from raptor.loading.pdf import read_pdf
from raptor.loading.plain import read_plain
from raptor.loading.rst import read_rst
from raptor.loading.types import Failure, Loaded, SourceFile, state_of
from raptor.loading.xml_text import read_xml

Reader = Callable[[SourceFile], Iterator[Loaded]]
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
}
#: The types of file that have a reader, as messages name them.
TYPES = f".txt .log, source code such as .py, {' '.join(sorted(READERS.keys() - PLAIN))}"


def read_file(file: SourceFile) -> list[Loaded]:
    """A file's documents, or why there are none, read in this process; again where it was changed meanwhile."""
    for _ in range(2):
        before = state_of(file.path)
        loaded = list(_read(file))
        if state_of(file.path) == before:
            return loaded
    return [Failure(str(file.path), "it changes while it is read; wait until it is whole, or copy it first")]


def _read(file: SourceFile) -> Iterator[Loaded]:
    try:
        known = _known(file)
        if isinstance(known, Failure):
            yield known
        else:
            yield from READERS[known.suffix](known)
    except OSError as error:
        yield Failure(
            str(file.path),
            f"it cannot be read ({error.strerror or error}); check the file and its permissions",
        )


def _known(file: SourceFile) -> SourceFile | Failure:
    """The file with a suffix that has a reader, its content's where its name has none; or why not. Raises OSError."""
    source = str(file.path)
    if file.outside:
        return Failure(
            source, "it is a link that leads out of what was named; give --follow-links to have it"
        )
    if file.suffix and file.suffix not in READERS:
        return Failure(
            source,
            f"its type {file.suffix!r} is unknown; leave it out, or convert it to a known one: {TYPES}",
        )
    if not file.path.is_file():
        return Failure(
            source, "it is not a regular file that can be read; name a file, or fix its permissions"
        )
    if file.suffix:
        return file
    kind = suffix_by_content(file.raw())
    return replace(file, kind=kind if kind in READERS else ".txt")
