"""What a person watching a run sees: one line an event that matters, as it happens."""

from collections.abc import Callable
from typing import Any, TextIO

from rlm.run import Watch

Json = Any


def live(out: TextIO) -> Watch:
    """A watcher that writes to `out`."""

    def watch(kind: str, conversation: str, fields: dict[str, Json]) -> None:
        say = _LINES.get(kind)
        line = say(fields) if say else ""
        if line:
            print("  " * conversation.count(".") + line, file=out, flush=True)

    return watch


def _visited(f: dict[str, Json]) -> str:
    said = ", ".join(f"{k}={_short(v)}" for k, v in f["arguments"].items())
    return f"    context.{f['verb']}({said}) -> {f.get('error') or _count(f)}"


def _count(f: dict[str, Json]) -> str:
    result = f["result"]
    return f"{len(result):,} items" if isinstance(result, list) else f"{len(f['shown'])} nodes"


def _short(value: Json, most: int = 40) -> str:
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _answered(f: dict[str, Json]) -> str:
    u = f["usage"]
    return f"  {f['model']}: {u['prompt_tokens']:,} + {u['completion_tokens']:,} tokens, ${u['usd']:.4f}"


_LINES: dict[str, Callable[[dict[str, Json]], str]] = {
    "model_answered": _answered,
    "code_run": lambda f: (
        f"  cell {f['cell']}: {f['status']}" + (f" ({f['error'][:100]})" if f["error"] else "")
    ),
    "visited": _visited,
    "child_called": lambda f: f"    {f['verb']}: {len(f['prompts'])} asked",
    "budget": lambda f: f"  budget: {f['reason']}",
    "answered": lambda f: f"answered: {len(f['citations'])} citations, stop {f['stop']}",
}
