"""Tables as text (.csv, .tsv): the text is the file's own, so that rows stay rows; its title names the columns.

The title leads whatever is embedded of a chunk, and so says what the values of its rows are.
"""

import csv
from collections.abc import Iterator
from dataclasses import replace

from raptor.loading.plain import decode
from raptor.loading.types import Failure, Loaded, SourceFile, title_of

_SEPARATORS = ",;\t|"
_HEAD_CHARS = 10_000


def read_csv(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document, titled by its name and its columns. Raises OSError."""
    whole = decode(file)
    if isinstance(whole, Failure):
        yield whole
        return
    columns = columns_of(whole.text)
    title = f"{whole.title}: {', '.join(columns)}" if columns else whole.title
    yield replace(whole, title=title_of(title), meta={"columns": ", ".join(columns)} if columns else {})


def columns_of(text: str) -> list[str]:
    """The names in the first row of a table; [] where that row holds numbers or gaps, and so is no row of names."""
    head = text.removeprefix("\ufeff")[:_HEAD_CHARS]
    line = head.split("\n", 1)[0]
    separator = max(_SEPARATORS, key=line.count)
    try:
        first = next(csv.reader(head.splitlines(keepends=True), delimiter=separator), [])
    except csv.Error:
        return []
    names = [" ".join(name.split()) for name in first]
    return names if len(names) > 1 and all(map(_is_name, names)) else []


def _is_name(words: str) -> bool:
    return any(char.isalpha() for char in words) and len(words) <= 100
