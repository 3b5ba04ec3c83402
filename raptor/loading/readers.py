"""A file to its documents, by the reader for its type.

The text of a document is the file's own, not one character changed, so that offsets made elsewhere fit; for HTML, PDF
and office files it is the text that was extracted.
"""

from collections.abc import Callable, Iterator

from raptor.loading.html import read_html
from raptor.loading.jsonl import read_jsonl
from raptor.loading.kinds import HTML, MARKDOWN, OFFICE, PLAIN
from raptor.loading.markdown import read_markdown
from raptor.loading.office import read_office
from raptor.loading.pdf import read_pdf
from raptor.loading.plain import read_plain
from raptor.loading.types import Failure, Loaded, SourceFile, state_of

Reader = Callable[[SourceFile], Iterator[Loaded]]
#: The reader for each suffix, in lower case.
READERS: dict[str, Reader] = {
    **dict.fromkeys(PLAIN, read_plain),
    **dict.fromkeys(MARKDOWN, read_markdown),
    **dict.fromkeys(HTML, read_html),
    **dict.fromkeys(OFFICE, read_office),
    ".pdf": read_pdf,
    ".jsonl": read_jsonl,
}
#: The types of file that have a reader, as messages name them.
TYPES = f".txt .rst .csv .json .log, source code such as .py, {' '.join(sorted(READERS.keys() - PLAIN))}"


def read_file(file: SourceFile) -> list[Loaded]:
    """A file's documents, or why there are none, read in this process; again where it was changed meanwhile."""
    for _ in range(2):
        before = state_of(file.path)
        loaded = list(_read(file))
        if state_of(file.path) == before:
            return loaded
    return [Failure(str(file.path), "it changes while it is read; wait until it is whole, or copy it first")]


def _read(file: SourceFile) -> Iterator[Loaded]:
    if file.outside:
        yield Failure(
            str(file.path), "it is a link that leads out of what was named; give --follow-links to have it"
        )
        return
    reader = READERS.get(file.path.suffix.lower())
    if reader is None:
        yield Failure(str(file.path), f"its type {file.path.suffix!r} is unknown; known types are {TYPES}")
        return
    try:
        if not file.path.is_file():
            yield Failure(
                str(file.path),
                "it is not a regular file that can be read; name a file, or fix its permissions",
            )
            return
        yield from reader(file)
    except OSError as error:
        yield Failure(
            str(file.path),
            f"it cannot be read ({error.strerror or error}); check the file and its permissions",
        )
