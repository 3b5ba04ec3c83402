"""Plain text: the text of a document is the file's own, decoded, not one character changed."""

from collections.abc import Iterator

from index_store.files import byte_order_fault
from raptor.loading.types import Failure, Loaded, SourceFile, Text

MAX_BYTES = 128 << 20  # of a document, which is held in memory


def read_plain(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document. Raises OSError."""
    text = decode(file)
    yield text if isinstance(text, Failure) else Text(file.id, file.path.name, str(file.path), text)


def read_bytes(file: SourceFile) -> bytes | Failure:
    """The bytes of a file, or why they are too many: a file of zeros takes no room on a disk. Raises OSError."""
    with file.path.open("rb") as opened:
        raw = opened.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        return Failure(str(file.path), f"it has more than {MAX_BYTES:,} bytes; split it")
    return raw


def decode(file: SourceFile) -> str | Failure:
    """The UTF-8 text of a file, or why it is none. Raises OSError."""
    raw = read_bytes(file)
    if isinstance(raw, Failure):
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        other = (
            f"it is not UTF-8 (byte 0x{raw[error.start]:02x} at offset {error.start:,}); "
            "convert it to UTF-8, for example with: iconv -f WINDOWS-1252 -t UTF-8"
        )
        return Failure(str(file.path), byte_order_fault(raw) or other)
