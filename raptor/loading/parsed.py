"""Texts that were parsed before, in a build's checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raptor.checkpoint import NAME, Checkpoint, result_key
from raptor.loading.processes import VERSION, is_parsed

KIND = "parsed"


class CheckpointCache:
    """A `ParseCache` in a checkpoint, which is opened when it is first needed."""

    def __init__(self, folder: Path, checkpoint: Callable[[], Checkpoint]) -> None:
        self._file, self._checkpoint = folder / NAME, checkpoint

    @property
    def is_there(self) -> bool:
        """Whether anything was ever recorded."""
        return self._file.exists()

    def get(self, sha256: str, how: str) -> Any | None:
        """The text of a file with these bytes, read like that, as JSON; None where none is recorded."""
        if not self.is_there:
            return None
        return self._checkpoint().get_json(_key(sha256, how), is_parsed)

    def put(self, sha256: str, how: str, text: Any) -> None:
        """Record the text, as JSON, of a file with these bytes that was read like that."""
        self._checkpoint().put_json(_key(sha256, how), KIND, text)


def _key(sha256: str, how: str) -> str:
    return result_key(KIND, VERSION, sha256, how)
