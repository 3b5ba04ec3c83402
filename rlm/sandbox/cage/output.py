"""What a cell prints: all of it while it is short, else its beginning and its end, in bounded memory."""

from collections.abc import Callable
from time import monotonic

FLUSH_S = 0.25


def exact(text: str) -> str:
    """The same characters as a plain str: a cell's own kind of str answers `len` and slices as it likes."""
    return str.__str__(text)


class Output:
    """A write-only file for `print`. It holds at most the first `cap` characters and the last `2 * cap`; `send` gets
    the first ones while the cell still runs."""

    def __init__(self, cap: int, send: Callable[[str], None]) -> None:
        self._cap, self._send = cap, send
        self._head: list[str] = []
        self._tail: list[str] = []
        self._head_chars = self._tail_chars = self.total = 0
        self._sent = 0  # parts of the head that the parent has
        self._flushed = monotonic()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        self._add(exact(text))
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
        """Everything; past `cap` characters the two ends, with a note between them of how much is missing."""
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

    def _add(self, text: str) -> None:
        self.total += len(text)
        left = self._cap - self._head_chars
        if left > 0 and text:
            self._head.append(text[:left])
            self._head_chars += len(self._head[-1])
        self._tail.append(text[-self._cap :])
        self._tail_chars += len(self._tail[-1])
        if self._tail_chars > 2 * self._cap or len(self._tail) > 10_000:  # a cell may print nothing, often
            self._tail = ["".join(self._tail)[-self._cap :]]
            self._tail_chars = len(self._tail[0])
