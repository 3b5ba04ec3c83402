"""A Ray cluster on this machine, for tests: nodes of one core each, which come and go."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_MEMORY_BYTES = 80 << 20  # of each node's object store


class Nodes:
    """A context manager: a head, and one more node, `other`. What they started is ended with them, whatever happens.

    `environment`: that of the nodes, beside this process's own.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment | {"RAY_USAGE_STATS_ENABLED": "0"}

    def __enter__(self) -> Self:
        from ray.cluster_utils import Cluster

        before = dict(os.environ)
        self._known = _below(os.getpid())
        os.environ.update(self._environment)
        try:
            self._cluster: Any = Cluster()
            self.add()
            self.other = self.add()
        finally:
            os.environ.clear()
            os.environ.update(before)
        return self

    @property
    def address(self) -> str:
        """host:port of the head."""
        return str(self._cluster.address)

    def add(self) -> Any:
        """One more node."""
        return self._cluster.add_node(num_cpus=1, object_store_memory=_MEMORY_BYTES, include_dashboard=False)

    def remove(self, node: Any) -> None:
        """Kill a node, with all that runs on it."""
        self._cluster.remove_node(node, allow_graceful=False)

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        started = _below(os.getpid()) - self._known
        try:
            self._cluster.shutdown()
        finally:
            for process in started:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def _below(top: int) -> set[int]:
    """The processes that a process started, those that they started, and so on, as far as their parents live."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {top}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {top}
