"""The second backend: cells in Monty (extra `monty`), an interpreter that has no way to the system at all.

For machines where the kernel layers cannot be had, and only when asked for. What it lacks: `del`, `yield`, inheritance,
the modules statistics, textwrap, string, difflib and heapq, and slices, `in` and text methods of `context` (use
context.slice, context.contains, context.text); rows are plain lists, LISTED_ROWS at most. `cpu_s` has no meaning of its
own here: a cell's time is its processor time. The interpreter's own limits and its process are the confinement; a
worker that is killed is replaced. Monty's own pool exchanges the frames with it, so they carry no nonce of ours; it
scans nothing, so no cell is ever "rejected".
"""

import atexit
import io
import os
import signal
import threading
import tokenize
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from index_store.types import Json
from rlm.sandbox.cage import wire
from rlm.sandbox.cage.output import Output
from rlm.sandbox.cage.rows import PAGE, READ_ROWS, ROWS, Answers, made_of
from rlm.sandbox.shown import Shown
from rlm.sandbox.types import (
    CallRefused,
    CellResult,
    Clock,
    Intro,
    SandboxLimits,
    SandboxUnavailable,
    Serve,
    Session,
)

SESSIONS = 256  # at once
SAVED_BYTES = 16 << 20  # a namespace larger than this is not kept for after a kill
ANSWER_CHARS = 300_000
LISTED_ROWS = 5_000
TOO_MANY_ROWS = (
    "{rows:,} rows, and at most {most:,} are listed here; give under=, doc= or where=, or a coarser split"
)
_CALL = "_rlm_call"
_PREBOUND = """
import re, json, math, collections, itertools, functools, random, datetime, bisect, csv
def _rlm_gather(*results, return_exceptions=False):
    return list(results)
def _rlm_run(result):
    return result
"""
_CONTEXT = """
class Context:
    def __repr__(self):
        return "<context: " + str(_length) + " characters; verbs: {verbs}>"
{methods}
context = Context()
_plain_len = len
def len(item):
    return _length if item is context else _plain_len(item)
"""
_METHOD = "    def {verb}(self, *items, **named):\n        return _rlm_call('context.{verb}', items, named)\n"
_ANSWER = "answer = {'content': '', 'citations': [], 'ready': False}\n"
_HINTS = {
    "'Context' object is not subscriptable": "use context.slice(start, stop)",
    "'Context' is not iterable": "use context.contains(text), or context.text() for all of it",
    "'Context' object has no attribute": "context.text() is the text itself",
}

_lock = threading.Lock()
_pool: Any = None


class _Finished(SystemExit):
    """Raised by FINAL and its kin; Monty passes it through the cell as SystemExit, past `except Exception`."""


class _Ended(Exception):
    """The cell's worker was killed, or must not be used again; str() is why."""


class MontySession(Session):
    """Cells over one namespace, in a Monty worker."""

    def __init__(self, serve: Serve, calls: frozenset[str], limits: SandboxLimits, intro: Intro) -> None:
        self.serve, self.calls, self.limits, self._intro = serve, calls, limits, dict(intro)
        self.ended = False
        self.clock = Clock(0.0)
        self.layers: dict[str, bool] = {"monty": True}
        self._shown = Shown(limits)
        self._saved: bytes | None = None
        self._cell_calls = _CellCalls(self)
        self._worker: Any = None
        self._pid = 0
        self._start()

    def run(self, code: str) -> CellResult:
        """Run one cell. Only what `serve` raises (other than CallRefused) and SandboxUnavailable come out of
        here."""
        if self.ended:
            return self._shown.death("outside", 0.0, "", lost=True, ended=True)
        self.clock = clock = Clock(self.limits.cell_timeout_s)
        started, out = monotonic(), Output(self.limits.output_chars, lambda text: None)
        calls = self._cell_calls = _CellCalls(self)
        try:
            done = self._cell(code, out, calls)
            self._save()
        except _Ended as end:
            lost = not self._bring_back()
            if calls.fault is not None:
                raise calls.fault from None
            return self._shown.death(str(end), clock.spent_s(), out.text(), lost, self.ended)
        return self._shown.result(done, monotonic() - started)

    def reset(self) -> None:
        """Empty the namespace."""
        self._saved = None
        self._drop()
        self._start()

    def kill(self) -> None:
        """End the session now, whatever it is doing; a running `run` returns with status "killed"."""
        self.ended = True
        self.clock.stop()
        with suppress(OSError):
            os.kill(self._pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    def interrupt(self) -> None:
        """End the cell under way as if its time were up."""
        self._cell_calls.end("time")

    def close(self) -> None:
        """End the session and free what it holds; may be called twice."""
        self.ended = True
        self._drop()

    def _start(self) -> None:
        limits = {
            "max_feed_duration_secs": self.limits.cell_timeout_s, "max_memory": self.limits.memory_mb << 20,
            "max_suspensions": 1 << 40, "max_total_sleep_secs": self.limits.cell_timeout_s,
        }  # fmt: skip
        self._worker = _workers().checkout(limits=limits, os_policy={"random_start": {"seed": 0}})
        self._worker.__enter__()
        self._pid = self._worker.worker_pid or 0
        if self._saved is not None:
            self._worker.load_session(self._saved)
            return
        names = {**self._intro.get("names", {})}  # type: ignore[dict-item]
        if "context_text" in self._intro:
            names["context"] = self._intro["context_text"]
        else:
            names["_length"] = self._intro.get("context_length", 0)
        self._worker.feed_run(prelude(self.calls, "context" in names), inputs=names)
        self._save()

    def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(Exception):  # a dead worker complains about being given back
                worker.__exit__(None, None, None)

    def _save(self) -> None:
        """Keep the namespace as it now is for after a kill, while it is small. Raises _Ended where writing it down
        takes more memory than there is."""
        try:
            saved = self._worker.dump()
        except _failures():
            raise _Ended("outside" if self.ended else "memory") from None
        self._saved = saved if len(saved) <= SAVED_BYTES else None

    def _bring_back(self) -> bool:
        """A new worker with the variables as they were before this cell; False, and an empty one, if they are lost."""
        is_saved = self._saved is not None
        self._drop()
        if not self.ended:
            self._start()
        return is_saved and not self.ended

    def _cell(self, code: str, out: Output, calls: "_CellCalls") -> dict[str, Any]:
        """Run one cell to its end; a `done` frame as a Linux worker would send it."""
        verdict: dict[str, Any] = {"status": "ok", "error": "", "rule": None, "line": None, "answer": None}
        try:
            value = self._feed(without_await(code), calls.lookup(), out)
            if value is not None:
                out.write(_echo(value) + "\n")
        except _failures() as error:
            if not calls.finished:
                verdict |= {"status": "error", **described(error)}
        if calls.wanted is not None and calls.finished:
            verdict |= self._final_variable(calls)
        if calls.answer is not None and not calls.cited:
            calls.answer["citations"] = self._citations_so_far()
        return verdict | {
            "stdout": out.text(),
            "truncated": out.truncated,
            "answer": calls.answer or self._answer(),
        }

    def _feed(self, code: str, lookup: dict[str, Any] | None = None, out: Output | None = None) -> Any:
        """The value of the last expression. Raises what the cell raised, or _Ended."""
        import pydantic_monty

        on_output = (lambda stream, text: out.write(text)) if out else (lambda stream, text: None)
        try:
            return self._worker.feed_run(code, external_lookup=lookup or {}, print_callback=on_output)
        except pydantic_monty.MontyCrashedError as error:
            raise _Ended(self._cell_calls.reason or self._death(error)) from None
        except pydantic_monty.MontyRuntimeError as error:
            message = error.display("type-msg")
            if message.startswith("TimeoutError: ") and "limit exceeded" in message:
                raise _Ended("time") from None  # its heap may be in pieces, says Monty
            raise

    def _death(self, error: Any) -> str:
        return "outside" if self.ended else "time" if error.timed_out else "crash"

    def _final_variable(self, calls: "_CellCalls") -> dict[str, Any]:
        try:
            calls.answer = as_answer(self._feed(str(calls.wanted)), ())
        except _failures():
            return {"status": "error", "error": f"NameError: FINAL_VAR: no variable {calls.wanted!r}"}
        return {}

    def _citations_so_far(self) -> list[Any]:
        """What the code has put into answer["citations"] before it finished in another way."""
        try:
            answer = self._feed("answer")
        except _failures():
            return []
        cited: list[Any] = as_answer("", answer.get("citations") if isinstance(answer, dict) else None)[
            "citations"
        ]
        return cited

    def _answer(self) -> dict[str, Any] | None:
        """The `answer` variable when it is ready, given once."""
        try:
            answer = self._feed("answer")
            if not isinstance(answer, dict) or answer.get("ready") not in (True, 1):
                return None
            self._feed("answer['ready'] = False")
        except _failures():
            return None
        return as_answer(answer.get("content", ""), answer.get("citations"))


class _CellCalls:
    """One cell's side of the calls: serves them, counts them, and remembers how the cell finished."""

    def __init__(self, session: MontySession) -> None:
        self._session = session
        self._count = self._refused = 0
        self.reason: str | None = None
        self.fault: BaseException | None = None
        self.answer: dict[str, Any] | None = None
        self.cited = False  # whether the finishing call named citations of its own
        self.wanted: str | None = None
        self.finished = False

    def lookup(self) -> dict[str, Any]:
        """The names a cell finds besides its own."""
        plain = {name: self._named(name) for name in self._session.calls if "." not in name}
        finish = {"FINAL": self._final, "FINAL_VAR": self._final_var, "SUBMIT": self._submit}
        return plain | finish | {_CALL: lambda name, items, named: self._call(name, list(items), named)}

    def _named(self, name: str) -> Callable[..., Any]:
        return lambda *items, **named: self._call(name, list(items), named)

    def _call(self, name: str, items: list[Any], named: dict[str, Any]) -> Json:
        try:
            value: Json = self._listed_rows(name, self._served(name, items, named))
            if self._session.clock.left_s() <= 0:  # Monty's own limit does not count what the host does
                self.end("time")
            return value
        except CallRefused as refused:
            self._refused += 1
            if self._refused > self._session.limits.refusals:
                self.end("refusals")
            raise RuntimeError(str(refused)) from None
        except Exception as fault:
            self.fault = fault
            self.end("outside")
            raise

    def _served(self, name: str, items: list[Any], named: dict[str, Any]) -> Json:
        self._count += 1
        session = self._session
        if self._count > session.limits.calls_per_cell:
            limit = session.limits.calls_per_cell
            raise CallRefused(f"{name}: one cell may make {limit:,} calls; go on in the next cell")
        if name not in session.calls:
            raise CallRefused(f"there is no call {name!r}; there are: {', '.join(sorted(session.calls))}")
        sent = _as_json(name, [items, named])
        return session.serve(name, sent[0], sent[1])

    def _listed_rows(self, name: str, value: Any) -> Any:
        """Rows and answers as plain lists, as no class of ours is here. Raises CallRefused above LISTED_ROWS."""
        if name != ROWS:
            answers = made_of(name, value, lambda *place: ())
            return list(answers) if isinstance(answers, Answers) else answers
        if (count := value["count"]) > LISTED_ROWS:
            raise CallRefused(TOO_MANY_ROWS.format(rows=count, most=LISTED_ROWS))
        rows: list[Any] = []
        while len(rows) < count:
            page: Any = self._served(READ_ROWS, [value["rows"], len(rows), min(len(rows) + PAGE, count)], {})
            rows += page
        return rows

    def end(self, reason: str) -> None:
        self.reason = reason
        with suppress(OSError):
            os.kill(self._session._pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    def _final(self, answer: Any = "", citations: Any = None) -> None:
        self.answer, self.finished = as_answer(answer, citations), True
        self.cited = citations is not None
        raise _Finished

    def _final_var(self, name: Any) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            self._final(name)  # models also pass the value itself
        self.wanted, self.finished = name, True
        raise _Finished

    def _submit(self, *values: Any, citations: Any = None, **named: Any) -> None:
        items = [*values, *named.values()]
        self._final(items[0] if len(items) == 1 else (named or list(values)), citations)


def prelude(calls: frozenset[str], has_text: bool) -> str:
    """What a session begins with, as Monty code."""
    verbs = sorted(name[8:] for name in calls if name.startswith("context."))
    methods = "".join(_METHOD.format(verb=verb) for verb in verbs)
    return (
        _PREBOUND + _ANSWER + ("" if has_text else _CONTEXT.format(verbs=", ".join(verbs), methods=methods))
    )


def without_await(code: str) -> str:
    """The code with `await` and `async` taken out, as every call returns a plain value, and `asyncio.gather` and
    `asyncio.run` made plain too; lines stay where they are. Code that has no tokens is left for Monty to refuse."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return code
    lines = code.splitlines(keepends=True)
    for index in reversed(range(len(tokens))):
        first, last, text = tokens[index], *_plain_form(tokens, index)
        if text is not None:
            line = lines[first.start[0] - 1]
            lines[first.start[0] - 1] = line[: first.start[1]] + text + line[last.end[1] :].removeprefix(" ")
    return "".join(lines)


def _plain_form(tokens: list[tokenize.TokenInfo], index: int) -> tuple[tokenize.TokenInfo, str | None]:
    """The last of the tokens to replace, and what stands for them; None to leave this one."""
    words = [token.string for token in tokens[index : index + 3]]
    one_line = len(words) == 3 and tokens[index].start[0] == tokens[index + 2].end[0]
    if tokens[index].type == tokenize.NAME and words[0] in ("await", "async"):
        return tokens[index], ""
    if one_line and words in (["asyncio", ".", "gather"], ["asyncio", ".", "run"]):
        return tokens[index + 2], f"_rlm_{words[2]}"
    return tokens[index], None


def described(error: Any) -> dict[str, Any]:
    """Type, message and the cell's own lines, outermost first."""
    message = error.display("type-msg")[:4000]
    frames = [frame for frame in error.traceback() if frame.source_line is not None]
    shown = frames if len(frames) <= 6 else [*frames[:3], *frames[-3:]]
    lines = [f"  line {frame.line}: {frame.source_line.strip()[:200]}" for frame in shown]
    hints = [f"  ({hint})" for part, hint in _HINTS.items() if part in message]
    return {"error": "\n".join([message, *lines, *hints]), "line": frames[0].line if frames else None}


def as_answer(content: Any, citations: Any) -> dict[str, Any]:
    """An answer as the parent takes it, from whatever a cell gave."""
    text = content if isinstance(content, str) else _dumped(content)
    listed = (
        list(citations) if isinstance(citations, list | tuple | set) else [citations] if citations else []
    )
    try:
        cited = _as_json("citations", listed)
    except CallRefused:
        cited = []
    return {"content": text[:ANSWER_CHARS], "citations": cited, "ready": True}


def _dumped(value: Any) -> str:
    try:
        return wire.encode(value, wire.TO_PARENT_BYTES)[wire.HEADER.size :].decode()
    except wire.FrameError:
        return _echo(value)


def _echo(value: Any) -> str:
    try:
        return repr(value)
    except RecursionError:
        return f"<{type(value).__name__}, nested too deep to print>"


def _as_json(name: str, value: Any) -> Any:
    """The value as it would have come over the wire. Raises CallRefused."""
    try:
        frame = wire.encode(_listed(value), wire.TO_PARENT_BYTES)
        return wire.decode(frame[wire.HEADER.size :])
    except (wire.FrameError, RecursionError) as error:
        raise CallRefused(f"{name}: the arguments cannot be sent: {error}") from None


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_listed(item) for item in value]
    return value


def _failures() -> tuple[type[Exception], ...]:
    import pydantic_monty

    return (pydantic_monty.MontyError,)


def _workers() -> Any:
    """The process's one pool, started on first use. Raises SandboxUnavailable where the extra is not installed."""
    global _pool
    with _lock:
        if _pool is None:
            try:
                import pydantic_monty
            except ImportError as error:
                raise SandboxUnavailable(
                    f"the Monty backend is not installed ({error}): pip install 'raptor-rlm[monty]'"
                ) from None
            _pool = pydantic_monty.Monty(max_processes=SESSIONS)
            _pool.__enter__()
            atexit.register(_pool.__exit__, None, None, None)
        return _pool
