"""What a worker sends, without the nonce of its cell."""

from typing import Any

DONE: dict[str, Any] = {
    "t": "done", "status": "ok", "stdout": "", "error": "", "rule": None, "line": None, "answer": None,
    "truncated": False,
}  # fmt: skip
REJECTED = DONE | {"status": "rejected", "rule": "import os", "line": 1}
FAILED = DONE | {"status": "error", "error": "ValueError: x", "line": 1}
CALL: dict[str, Any] = {"t": "call", "name": "f", "args": [], "kwargs": {}}
