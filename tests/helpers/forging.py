"""A trace that someone rewrote: its events numbered and sealed anew, so that only what they say can give it away."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from rlm.audit.lines import FIRST_PREV, Sealer, canonical, seal
from rlm.audit.verifying import check


def forged(events: list[dict[str, Any]], folder: Path) -> Path:
    """The trace of these events, numbered and sealed anew."""
    path = folder / "forged.jsonl"
    path.write_bytes(sealed({**event, "seq": seq} for seq, event in enumerate(events)))
    return path


def sealed(events: Iterable[dict[str, Any]]) -> bytes:
    """The lines of these events, by the rule of the present format."""
    sealer = Sealer()
    return b"".join(sealer.line(event) for event in events)


def sealed_as_before(bodies: Iterable[dict[str, Any] | bytes]) -> bytes:
    """The lines of these events, by the rule of formats 1 and 2: the hash covers what stands on disk."""
    head, lines = FIRST_PREV, []
    for body in bodies:
        lines.append(seal(head, body if isinstance(body, bytes) else canonical(body)))
        head = lines[-1][-67:-3].decode("ascii")
    return b"".join(lines)


def events_in(data: bytes) -> list[dict[str, Any]]:
    """The events of a trace, as far as it is as it was written."""
    events: list[dict[str, Any]] = []
    check(BytesIO(data), on_event=events.append)
    return events
