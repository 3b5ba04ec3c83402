"""A push that is killed some milliseconds after one of its requests to the store.

    python -m tests.helpers.killed_push INDEX URL REQUEST MILLISECONDS

Prints how many requests it made, where it came to its end before.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from index_store.stores.layout import objects_at
from index_store.stores.objects import Objects
from index_store.stores.pushing import push


class Counted:
    """The objects of a store, each request for which is counted; at one of them this process has its end in sight."""

    def __init__(self, objects: Objects, at: int, after_ms: float) -> None:
        self._objects, self._at, self._after_ms, self.requests = objects, at, after_ms, 0

    def __getattr__(self, name: str) -> Any:
        found: Callable[..., Any] = getattr(self._objects, name)
        if not callable(found):
            return found

        def counted(*args: Any) -> Any:
            self.requests += 1
            if self.requests == self._at:
                threading.Timer(self._after_ms / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return found(*args)

        return counted


def main(index: str, url: str, at: str, after_ms: str) -> None:
    objects = Counted(objects_at(url), int(at), float(after_ms))
    with patch("index_store.stores.pushing.objects_at", lambda url: objects):
        push(Path(index), url)
    print(objects.requests)


if __name__ == "__main__":
    main(*sys.argv[1:])
