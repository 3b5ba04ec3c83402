"""Show a run while it goes on: a line for each event that matters, and at a terminal its present state."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TextIO

from index_store.terminal import count, one_line, say, spelled, styled
from rlm.audit.attempts import attempts_in_words, failure_in_words, is_plain
from rlm.audit.maps import map_in_words
from rlm.audit.timeline import BY_THE_RUN, plan_in_words, reduced_in_words, rejection
from rlm.gateway.types import Usage
from rlm.loop.recording import Watch, unwatched

Json = Any


@dataclass(frozen=True, slots=True)
class Now:
    """The state of a run: the root's turn, the branch last entered, model calls under way, and the usage so far."""

    turn: int = 0
    branch: str = ""
    in_flight: int = 0
    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def after(self, kind: str, conversation: str, fields: dict[str, Json]) -> "Now":
        """The state after one more event."""
        if kind == "model_asked":
            turn = self.turn + (conversation == "0")
            return replace(self, turn=turn, in_flight=self.in_flight + 1)
        if kind in ("model_answered", "model_failed"):
            used = fields.get("usage") or asdict(Usage())  # of a call that failed it may be left out
            return replace(
                self,
                in_flight=self.in_flight - 1,
                calls=self.calls + used["calls"],
                tokens=self.tokens + used["prompt_tokens"] + used["completion_tokens"],
                usd=self.usd + used["usd"],
            )
        return replace(self, branch=_branch(fields) or self.branch) if kind == "visited" else self

    def line(self) -> str:
        """The state in a line."""
        where = f"  in {self.branch}" if self.branch else ""
        flying = f"  {self.in_flight} in flight"
        used = f"{count(self.calls, 'call')}, {count(self.tokens, 'token')}, ${self.usd:.4f}"
        return f"turn {self.turn}{where}{flying}  {used}"


def _branch(fields: dict[str, Json]) -> str:
    """The inner node that a visit was about: the one in its arguments, else the first shown; '' for chunks alone."""
    named = [fields["arguments"].get(name) for name in ("under", "node")]
    inner = [n for n in fields["shown"] if n["level"]]
    about = next((n for n in inner if n["node"] in named), inner[0] if inner else None)
    return f"{about['node']} {one_line(about['label'], 40)}" if about else ""


@contextmanager
def live(out: TextIO, *, quiet: bool = False) -> Iterator[Watch]:
    """A watch that writes a line for each event to `out`, and at a terminal the present state below them.

    `quiet`: it writes nothing.
    """
    if quiet:
        yield unwatched
        return
    if not out.isatty():
        folded = Fold()
        yield lines(out, folded)
        for line in folded.end():
            say(spelled(line), file=out, flush=True)
        return
    from rich.console import Console
    from rich.live import Live

    console, now, lock, fold = Console(file=out, highlight=False), Now(), threading.Lock(), Fold()
    with Live(styled(""), console=console, transient=True, refresh_per_second=8) as view:

        def watch(kind: str, conversation: str, fields: dict[str, Json]) -> None:
            nonlocal now
            with lock:  # cells run in threads of their own
                now = now.after(kind, conversation, fields)
                for line in fold.after(kind, line_of(kind, conversation, fields)):
                    console.print(styled(line), soft_wrap=True)
                view.update(styled(now.line(), style="dim", no_wrap=True, overflow="ellipsis"))

        try:
            yield watch
        finally:
            for line in fold.end():
                console.print(styled(line), soft_wrap=True)


def lines(out: TextIO, fold: "Fold | None" = None) -> Watch:
    """A watch that writes a line for each event to `out`. `fold`: folds lines that repeat; else one of its own."""
    folded, lock = fold or Fold(), threading.Lock()

    def watch(kind: str, conversation: str, fields: dict[str, Json]) -> None:
        with lock:
            for line in folded.after(kind, line_of(kind, conversation, fields)):
                say(spelled(line), file=out, flush=True)

    return watch


@dataclass(slots=True)
class Fold:
    """Lines as they come: the first of those that are the same at once, and once another comes, how many there were.

    A line about a reply does not part two that are the same, as there is one before each: it waits for the next.
    """

    last: str = ""
    times: int = 1
    noted: bool = False
    waiting: list[str] = field(default_factory=list)

    def after(self, kind: str, line: str) -> list[str]:
        """The lines to show after one more; '' is none."""
        if line and self.noted and kind == "model_answered":
            self.waiting.append(line)
            return []
        if line and line == self.last:
            self.times += 1
            self.waiting.clear()
            return []
        if not line:
            return []
        shown = [*self.end(), line]
        self.last, self.noted = line, kind == "note"
        return shown

    def end(self) -> list[str]:
        """How many of the last line there were, where there were more than one, and what waited for the next."""
        shown = [f"{self.last} (×{self.times})"] * (self.times > 1) + self.waiting
        self.last, self.times, self.noted, self.waiting = "", 1, False, []
        return shown


def line_of(kind: str, conversation: str, fields: dict[str, Json]) -> str:
    """The line for an event, '' for a kind that is not shown. A child's line is indented and begins with its number."""
    is_rejected = kind == "code_scanned" and fields["verdict"] == "rejected"
    line = LINES[kind](fields) if kind in LINES else ""
    line = f"  cell {fields['cell']}: rejected, {rejection(fields)}" if is_rejected else line
    child = conversation.partition(".")[2]
    return f"{'  ' * conversation.count('.')}[{child}] {line}" if line and child else line


def _visited(f: dict[str, Json]) -> str:
    arguments = ", ".join(f"{k}={_short(v)}" for k, v in f["arguments"].items())
    by = BY_THE_RUN if "by" in f else ""
    return f"    {by}context.{f['verb']}({arguments}) -> {one_line(f.get('error', ''), 100) or _count(f)}"


def _count(f: dict[str, Json]) -> str:
    result = f["result"]
    return count(len(result), "item") if isinstance(result, list) else count(len(f["shown"]), "node")


def _short(value: Json, most: int = 40) -> str:
    return one_line(repr(value), most)


def _answered(f: dict[str, Json]) -> str:
    u, model = f["usage"], one_line(f["model"], 60)
    if f.get("cached"):
        return f"  {model}: from the store"
    attempts = "" if is_plain(f) else f" ({one_line(attempts_in_words(f), 200)})"
    return f"  {model}: {u['prompt_tokens']:,} + {u['completion_tokens']:,} tokens, ${u['usd']:.4f}{attempts}"


def _failed(f: dict[str, Json]) -> str:
    why = "" if f.get("refused") else f"; {one_line(f['error'], 200)}"  # the budget's own line says it
    return f"  {one_line(f['model'], 60)} failed: {one_line(failure_in_words(f), 300)}{why}"


def _concluded(f: dict[str, Json]) -> str:
    if f["stop"] == "unmet":
        return f"not accepted: {one_line(f.get('lacks') or '', 200)}"
    answered = "answered" if f["content"] else "no answer"
    return f"{answered}: {count(len(f['citations']), 'citation')}, stop {f['stop']}"


#: Gives the line of each kind of event that is shown; the other kinds are in SILENT.
LINES: dict[str, Callable[[dict[str, Json]], str]] = {
    "model_answered": _answered,
    "models_changed": lambda f: f"  models: {one_line(', '.join(map(str, f['models'].values())), 200)}",
    "note": lambda f: f"  {one_line(f['text'], 200)}",
    "model_failed": _failed,
    "code_run": lambda f: (
        f"  cell {f['cell']}: {f['status']}" + (f" ({one_line(f['error'], 100)})" if f["error"] else "")
    ),
    "visited": _visited,
    "child_called": lambda f: f"    {f['verb']}: {len(f['prompts'])} asked",
    "map_called": lambda f: (
        f"    {f['verb']}: {count(f['rows'], 'row')} for {one_line(', '.join(f['columns']), 100)}"
    ),
    "rows_recalled": lambda f: f"    the store has {count(len(f['rows']), 'row')}",
    "map_returned": lambda f: f"    {one_line(map_in_words(f), 300)}",
    "reduce_called": lambda f: f"    llm_reduce: {plan_in_words(f)}",
    "reduce_returned": lambda f: f"    {reduced_in_words(f)}",
    "budget": lambda f: f"  budget: {one_line(f['reason'], 200)}",
    "suspicious": lambda f: f"    reads like an instruction: {f['place']}: {one_line(f['words'], 100)}",
    "answered": _concluded,
}
#: Kinds that are not shown, since the line of another event, or the answer, has the same; a scan is where it rejects.
SILENT = frozenset(
    {
        "run_opened",
        "question_put",
        "model_asked",
        "code_scanned",
        "child_returned",
        "rows_answered",
        "run_closed",
    }
)
