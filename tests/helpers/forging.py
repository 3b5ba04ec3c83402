"""A trace that someone rewrote: its events numbered and sealed anew, so that only what they say can give it away."""

from pathlib import Path
from typing import Any

from rlm.audit.log import FIRST_PREV, canonical, seal


def forged(events: list[dict[str, Any]], folder: Path) -> Path:
    """The trace of these events, numbered and sealed anew."""
    head, lines = FIRST_PREV, []
    for seq, event in enumerate(events):
        body = canonical({k: v for k, v in event.items() if k not in ("prev", "hash")} | {"seq": seq})
        lines.append(seal(head, body))
        head = lines[-1][-67:-3].decode("ascii")
    path = folder / "forged.jsonl"
    path.write_bytes(b"".join(lines))
    return path
