"""What was parsed before, in a build's checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raptor.checkpoint import NAME, Checkpoint, key_of
from raptor.loading.processes import VERSION

KIND = "parsed"


class Parsed:
    """Parsed texts by the sha256 of their file and its suffix, kept by a checkpoint that is opened when needed."""

    def __init__(self, folder: Path, checkpoint: Callable[[], Checkpoint]) -> None:
        self._file, self._checkpoint = folder / NAME, checkpoint

    def get(self, sha256: str, suffix: str) -> Any | None:
        if not self._file.exists():
            return None
        return self._checkpoint().get_json(key_of(KIND, VERSION, sha256, suffix))

    def put(self, sha256: str, suffix: str, value: Any) -> None:
        self._checkpoint().put_json(key_of(KIND, VERSION, sha256, suffix), KIND, value)
