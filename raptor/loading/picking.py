"""Which files of a folder are taken, by patterns as git has them in .gitignore."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from index_store.terminal import brief
from raptor.errors import RaptorError


@dataclass(frozen=True, slots=True)
class Picked:
    """Patterns that count from each folder that is named. `include`: only what one of them fits, () for all; `exclude`:
    and of that nothing that these fit. Raises RaptorError for a pattern that cannot be read."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _spec(self.include), _spec(self.exclude)

    def takes(self, path: str) -> bool:
        """Whether the file is taken that has this path below its folder, with / between names."""
        wanted = not self.include or _spec(self.include).match_file(path)
        return wanted and not (self.exclude and _spec(self.exclude).match_file(path))


def picked(include: Sequence[str], exclude: Sequence[str]) -> Picked:
    """The patterns that a caller gives. Raises RaptorError."""
    return Picked(tuple(include), tuple(exclude))


@lru_cache(16)
def _spec(patterns: tuple[str, ...]) -> Any:
    if not patterns:  # as most builds have none, and the import takes its time
        return None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise RaptorError(
            f"the patterns {brief(', '.join(map(str, patterns)))} cannot be read: {error}"
        ) from error


ALL = Picked()
