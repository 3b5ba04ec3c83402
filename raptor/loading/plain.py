"""Plain text: the text of a document is the file's own, decoded, not one character changed."""

from collections.abc import Iterator

from raptor.loading.encodings import Undecodable, decode_bytes
from raptor.loading.types import Failure, Loaded, SourceFile, Text


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
