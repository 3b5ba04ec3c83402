"""Server-sent events, as they stand on the wire (the HTML standard, section 9.2)."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

KEEP_ALIVE = ": waiting\n\n"
#: What some take for the end of a line, and JSON leaves as it is.
_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
#: The id of what is told last; who asks for what comes after it is told that there is nothing.
LAST = "end"


def data(value: Mapping[str, Any] | str, id: int | str | None = None) -> str:
    """One event, on one line for every client's idea of lines."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = text.translate(_LINE_ENDS)
    line = "" if id is None else f"id: {id}\n"
    return f"{line}data: {text}\n\n"


def comment(text: str) -> str:
    """A line that a client passes over."""
    return f": {' '.join(text.split())}\n\n"


class EventStream(StreamingResponse):
    """A reply that goes on, and that no proxy is to hold back. `ended` is called once, when it is over or its client
    has gone away, also where that was before its first event."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], ended: Callable[[], object] = lambda: None) -> None:
        super().__init__(events, headers={"X-Accel-Buffering": "no"})
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def place_of(last_event_id: str | None) -> int | None:
    """The number behind which a client goes on, -1 from the start; None where it has heard all."""
    if last_event_id == LAST:
        return None
    return (
        int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 10 else -1
    )
