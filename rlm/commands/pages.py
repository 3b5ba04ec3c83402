"""Write a page that a person named."""

from pathlib import Path

from index_store.files import replace_page
from rlm.errors import RlmError


def write_page(file: str, page: str) -> None:
    """Write a page over nothing but an old one, and over that only once it is whole. Raises RlmError."""
    path = Path(file)
    if not path.name or path.is_dir():
        raise RlmError(f"cannot write the page {path}: it is a folder; name a file in it")
    try:
        replace_page(path, page)
    except OSError as e:
        raise RlmError(f"cannot write the page {path}: {e.strerror or e}") from e
