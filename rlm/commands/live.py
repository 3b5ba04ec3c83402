"""Show a run while it goes on: a line for each event that matters, and at a terminal its present state."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TextIO, TypeAlias

from index_store.terminal import count, one_line, percent, say, spelled, styled
from rlm.audit.attempts import attempts_in_words, failure_in_words, is_plain
from rlm.audit.maps import OF_A_MAP, VERBS, map_in_words
from rlm.audit.timeline import BY_THE_RUN, plan_in_words, reduced_in_words, rejection
from rlm.gateway.types import Usage
from rlm.loop.recording import PROGRESS, Watch, unwatched

Json = Any


#: What the map or reduction of a conversation was last heard to be: the fields of PROGRESS; empty before the first.
Told: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Now:
    """The state of a run: the root's turn, the branch last entered, model calls under way, and the usage so far.

    `tables`: of each conversation in which a map or a reduction is under way, what it was last told of; `since`: calls
    that such a conversation has ended since then, and their dollars.
    """

    turn: int = 0
    branch: str = ""
    in_flight: int = 0
    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    tables: Mapping[str, Told] = field(default_factory=dict)
    since: Mapping[str, tuple[int, float]] = field(default_factory=dict)

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
                since=self._since(conversation, used["usd"]),
            )
        if kind in ("map_called", "reduce_called", PROGRESS):
            told = fields if kind == PROGRESS else {}
            since = {**self.since, conversation: (0, 0.0)}
            return replace(self, tables={**self.tables, conversation: told}, since=since)
        if kind in ("map_returned", "reduce_returned", "code_run") and conversation in self.tables:
            # A cell that was killed takes its map with it.
            left = {name: told for name, told in self.tables.items() if name != conversation}
            return replace(self, tables=left)
        return replace(self, branch=_branch(fields) or self.branch) if kind == "visited" else self

    def _since(self, conversation: str, usd: float) -> Mapping[str, tuple[int, float]]:
        caller = self.caller(conversation)
        if not caller:
            return self.since
        calls, spent = self.since[caller]
        return {**self.since, caller: (calls + 1, spent + usd)}

    def caller(self, conversation: str) -> str:
        """The conversation whose map or reduction this one is a call of; '' where it is none."""
        above = conversation.rpartition(".")[0]
        return above if above in self.tables else ""

    def line(self) -> str:
        """The state in a line."""
        maps = [_far(told, *self.since[name]) for name, told in self.tables.items() if told]
        flying = f"{self.in_flight} in flight"
        used = f"{count(self.calls, 'call')}, {count(self.tokens, 'token')}, ${self.usd:.4f}"
        at = [f"turn {self.turn}"] if self.turn or not maps else []
        where = [f"in {self.branch}"] if self.branch and not maps else []
        return "  ".join([*maps, *at, *where, flying, used])


def _far(told: Told, calls: int = 0, usd: float = 0.0) -> str:
    """How far a map is. `calls`, `usd`: of those that have ended since it was told."""
    parts = [f"{told['done']:,} of {count(told['rows'], 'row')}"]
    parts += [f"{told[name]:,} {words}" for name, words in OF_A_MAP.items() if told[name]]
    if told["agreement"]:
        shares = [one["share"] for one in told["agreement"].values()]
        parts.append(f"two readings agree in {percent(min(shares))}")
    parts.append(
        f"{told['calls'] + calls:,} of {count(told['calls'] + max(calls, told['calls_to_come']), 'call')}"
    )
    parts.append(f"${told['usd'] + usd:.4f}")
    if told["usd_to_come"] is None:
        parts.append("price not known")
    elif told["calls_to_come"] > calls:
        left = told["usd_to_come"] * (1 - calls / told["calls_to_come"])
        parts.append(f"about ${left:.4f} to come")
    return ", ".join(parts)


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
        told = Lines()
        yield lines(out, told)
        for line in told.fold.end():
            say(spelled(line), file=out, flush=True)
        return
    from rich.console import Console
    from rich.live import Live

    console, lock, told = Console(file=out, highlight=False), threading.Lock(), Lines()
    with Live(styled(""), console=console, transient=True, refresh_per_second=8) as view:

        def watch(kind: str, conversation: str, fields: dict[str, Json]) -> None:
            with lock:  # cells run in threads of their own
                shown = told.after(kind, conversation, fields)
                for line in shown if kind != PROGRESS else ():  # which the state tells
                    console.print(styled(line), soft_wrap=True)
                view.update(styled(told.now.line(), style="dim", no_wrap=True, overflow="ellipsis"))

        try:
            yield watch
        finally:
            for line in told.fold.end():
                console.print(styled(line), soft_wrap=True)


def lines(out: TextIO, told: "Lines | None" = None) -> Watch:
    """A watch that writes a line for each event to `out`. `told`: what it told before; else nothing."""
    so_far, lock = told or Lines(), threading.Lock()

    def watch(kind: str, conversation: str, fields: dict[str, Json]) -> None:
        with lock:
            for line in so_far.after(kind, conversation, fields):
                say(spelled(line), file=out, flush=True)

    return watch


@dataclass(slots=True)
class Lines:
    """The lines of a run as its events come, and its state after the last."""

    now: Now = field(default_factory=Now)
    fold: "Fold" = field(default_factory=lambda: Fold())

    def after(self, kind: str, conversation: str, fields: dict[str, Json]) -> list[str]:
        """The lines to show after one more event.

        A call of a map or a reduction is not shown: of such there may be thousands. One that failed is, without its
        number, so that those that failed alike are folded.
        """
        before, self.now = self.now, self.now.after(kind, conversation, fields)
        if kind == PROGRESS:
            return self._far(before.tables.get(conversation, {}), conversation, fields)
        if caller := before.caller(conversation):
            return self.fold.after(kind, line_of(kind, caller, fields)) if kind == "model_failed" else []
        if kind == "child_called" and fields["verb"] in VERBS:
            return []  # PROGRESS tells of it
        return self.fold.after(kind, line_of(kind, conversation, fields))

    def _far(self, before: Told, conversation: str, fields: dict[str, Json]) -> list[str]:
        """How far a map is, where it has gone on."""
        if before and before["calls"] == fields["calls"]:
            return []
        return self.fold.after(PROGRESS, _of_child(conversation, f"    {_far(fields)}"))


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
    return _of_child(conversation, line)


def _of_child(conversation: str, line: str) -> str:
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
    "embedded": lambda f: f"    embedded by {f['model']}: {one_line('; '.join(f['texts']), 100)}",
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
