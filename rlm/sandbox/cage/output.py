"""What a cell prints: all of it while it is short, else head and tail, in bounded memory."""

from collections.abc import Callable
from time import monotonic

FLUSH_S = 0.25


def exact(text: str) -> str:
    """The same characters as a plain str: a cell's own kind of str answers `len` and slices as it likes."""
    return str.__str__(text)


class Output:
    """A write-only file for `print`. Keeps at most `cap` characters of the head and `2 * cap` of the tail."""

    def __init__(self, cap: int, send: Callable[[str], None]) -> None:
        self._cap, self._send = cap, send
        self._head: list[str] = []
        self._tail: list[str] = []
        self._kept = self._sent = self._held = self.total = 0
        self._flushed = monotonic()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        self._keep(exact(text))
        if monotonic() - self._flushed > FLUSH_S:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Send what the parent has not seen of the head, so that a killed cell still shows what it printed."""
        self._flushed = monotonic()
        if self._sent < len(self._head):
            self._send("".join(self._head[self._sent :]))
            self._sent = len(self._head)

    def text(self) -> str:
        """Everything, or head, a note of what is missing, and tail."""
        head = "".join(self._head)
        if self.total <= self._cap:
            return head
        half = self._cap // 2
        left_out = self.total - 2 * half
        counts = f"{left_out:,} of {self.total:,} characters left out"
        note = f"\n[... {counts}; print a slice or a summary instead ...]\n"
        return head[:half] + note + "".join(self._tail)[-half:]

    @property
    def truncated(self) -> bool:
        return self.total > self._cap

    def _keep(self, text: str) -> None:
        self.total += len(text)
        room = self._cap - self._kept
        if room > 0 and text:
            self._head.append(text[:room])
            self._kept += len(self._head[-1])
        self._tail.append(text[-self._cap :])
        self._held += len(self._tail[-1])
        if self._held > 2 * self._cap or len(self._tail) > 10_000:  # a cell may print nothing, often
            self._tail = ["".join(self._tail)[-self._cap :]]
            self._held = len(self._tail[0])
