"""What the packages of an extra are needed for, said in one sentence where they are not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from rlm.errors import RlmError


class MissingExtra(RlmError, ImportError):
    """A package that an extra brings is not installed; `str()` says which extra, and how to install it."""


@contextmanager
def needed(what: str, extra: str) -> Iterator[None]:
    """Imports in the block are of packages that `extra` brings, and `what` needs. Raises MissingExtra."""
    try:
        yield
    except ModuleNotFoundError as e:
        raise MissingExtra(
            f"{what} needs the extra `{extra}`: pip install 'raptor-rlm[{extra}]' (there is no module {e.name})"
        ) from e
