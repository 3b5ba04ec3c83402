"""What a person watching a run sees: one line an event that matters, as it happens."""

from collections.abc import Callable
from typing import Any, TextIO

from rlm.audit.visible import one_line
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
    return f"    context.{f['verb']}({said}) -> {one_line(f.get('error', ''), 100) or _count(f)}"


def _count(f: dict[str, Json]) -> str:
    result = f["result"]
    return f"{len(result):,} items" if isinstance(result, list) else f"{len(f['shown'])} nodes"


def _short(value: Json, most: int = 40) -> str:
    return one_line(repr(value), most)


def _answered(f: dict[str, Json]) -> str:
    u, model = f["usage"], one_line(f["model"], 60)
    return f"  {model}: {u['prompt_tokens']:,} + {u['completion_tokens']:,} tokens, ${u['usd']:.4f}"


_LINES: dict[str, Callable[[dict[str, Json]], str]] = {
    "model_answered": _answered,
    "code_run": lambda f: (
        f"  cell {f['cell']}: {f['status']}" + (f" ({one_line(f['error'], 100)})" if f["error"] else "")
    ),
    "visited": _visited,
    "child_called": lambda f: f"    {f['verb']}: {len(f['prompts'])} asked",
    "budget": lambda f: f"  budget: {one_line(f['reason'], 200)}",
    "suspicious": lambda f: f"    reads like an instruction: {f['place']}: {one_line(f['words'], 100)}",
    "answered": lambda f: f"answered: {len(f['citations'])} citations, stop {f['stop']}",
}
