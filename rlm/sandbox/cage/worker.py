"""The process that runs cells. It holds the variables and one socket; everything else is a call to the parent.

Started by the zygote's fork, already confined. The language layer (scan, namespace) is here; the guarantee is not.
"""

import ast
import gc
import json
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import scan, wire
from .facades import forget
from .namespace import PREBOUND, build_builtins, build_modules
from .output import Output, exact
from .proxy import bind_context, bind_text
from .rows import READ_ROWS, Rows, frame_of, made_of

ERROR_CHARS = 4_000
ANSWER_CHARS = 300_000  # with CITATION_BYTES and the output it fits into one frame, whatever its characters
CITATION_BYTES = 2 << 20
CITED_ROWS = 100  # of rows that are not a list; no answer has more citations
_BALLAST_BYTES = 8 << 20  # let go when memory runs out, so that the error can still be reported
_REMEMBERED_CELLS = 200
_read, _write = os.read, os.write

MODULES = build_modules()  # before the fork, once


class ToolError(RuntimeError):
    """A call that the parent turned down, or could not be sent; raised in the cell."""


class Finished(BaseException):
    """FINAL and its kin end the cell; not an Exception, so that `except Exception` lets it through."""


@dataclass(frozen=True, slots=True)
class Link:
    """Blocking frames over the worker's one socket."""

    fd: int

    def send(self, frame: Any) -> None:
        view = memoryview(wire.encode(frame, wire.TO_PARENT_BYTES))
        while view:
            view = view[_write(self.fd, view) :]

    def receive(self) -> Any:
        size = wire.check_size(self._exactly(wire.HEADER.size), wire.TO_WORKER_BYTES)
        return wire.decode_trusted(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        body, left = bytearray(), size
        try:
            while left:
                part = self._part(min(left, 1 << 20))
                left -= len(part)
                body += part
            return bytes(body)
        except MemoryError:
            body.clear()
            while left:  # the rest would be taken for the next frame
                left -= len(self._part(min(left, 1 << 12)))
            raise

    def _part(self, most: int) -> bytes:
        part = _read(self.fd, most)
        if not part:
            os._exit(0)  # the parent is gone
        return part


@dataclass(slots=True)
class State:
    """One session's side of the worker."""

    link: Link
    names: dict[str, Any]
    stubs: dict[str, Any]
    given: dict[str, Any]  # what the session started with, to tell the model's own names apart
    calls: frozenset[str] = frozenset()
    sources: dict[str, list[str]] = field(default_factory=dict)
    output_chars: int = 20_000
    nonce: str = ""  # of the cell under way, for the parent; no name of a cell leads here
    output: Output | None = None
    ballast: bytes | None = None
    cells: int = 0


def serve_cells(link: Link, hello: Mapping[str, Any]) -> None:
    """Answer the parent's frames until it goes away."""
    state = new_state(link, hello)
    gc.disable()
    while True:
        cell = link.receive()
        state.nonce = cell["nonce"]
        tell(state, {"t": "done", **execute(state, cell["code"])})


def tell(state: State, frame: dict[str, Any]) -> None:
    """Send a frame about the cell under way."""
    state.link.send(frame | {"nonce": state.nonce})


def warm_up() -> None:
    """Run a cell before any fork, so that the compiler and the modules do their first-use work only once."""
    hello = {"calls": ["context.search", "f"], "intro": {"context_length": 1}, "output_chars": 1000}
    state = new_state(Link(-1), hello)
    for code in (
        "1/0",
        "x = [f'{i}' for i in range(3)]\nprint(x, '{}'.format(1))\nlen(context)",
        "import os",
    ):
        execute(state, code)


def new_state(link: Link, hello: Mapping[str, Any]) -> State:
    """An empty namespace with the session's stubs, modules and context bound."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # where dataclasses look for the globals of a cell's class
    names = vars(module)
    names.clear()
    state = State(link, names, {}, {}, calls=frozenset(hello["calls"]), output_chars=hello["output_chars"])
    modules = dict(MODULES)
    names |= {"__name__": "__main__", "__builtins__": build_builtins(modules, lambda: own_names(state))}
    names["__builtins__"]["print"] = _printer(state)
    names |= {name: modules[name] for name in PREBOUND}
    names |= hello["intro"].get("names", {}) | {"context": _context(state, hello)}
    names["answer"] = _empty_answer()
    state.stubs = _stubs(state, hello["calls"]) | _finishers(state)
    state.given = names | state.stubs
    return state


def execute(state: State, code: str) -> dict[str, Any]:
    """Run one cell; the frame to send back. Never raises for anything the cell does."""
    state.cells += 1
    state.output = out = Output(state.output_chars, lambda text: tell(state, {"t": "out", "text": text}))
    state.ballast = state.ballast or _ballast()
    verdict: dict[str, Any] = {"status": "ok", "error": "", "rule": None, "line": None}
    try:
        _run(state, code)
    except scan.Rejected as rejected:
        return _turned_away(rejected)
    except Finished:
        pass
    except BaseException as error:
        state.ballast = None
        verdict = {"status": "error", "rule": None, **_described(state, error)}
    return verdict | {"stdout": out.text(), "truncated": out.truncated, "answer": _take_answer(state)}


def _turned_away(rejected: scan.Rejected) -> dict[str, Any]:
    """The frame for code that did not run: it printed nothing, and takes no answer that an earlier cell left."""
    why = {"error": rejected.hint, "rule": rejected.rule, "line": rejected.line}
    return {"status": "rejected", **why, "stdout": "", "truncated": False, "answer": None}


def _run(state: State, code: str) -> None:
    own = [name for name in state.names if name not in state.given]
    tree = scan.parse(code, frozenset(MODULES), own)
    name = f"<cell {state.cells}>"
    state.sources[name] = code.splitlines()
    state.sources.pop(f"<cell {state.cells - _REMEMBERED_CELLS}>", None)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    assert last is None or isinstance(last, ast.Expr)
    with _collecting():
        forget()
        state.names |= state.stubs  # a shadowed llm_query is itself again
        exec(compile(tree, name, "exec", dont_inherit=True), state.names)
        if last is None:
            return
        value = eval(compile(ast.Expression(last.value), name, "eval", dont_inherit=True), state.names)  # noqa: S307
        if value is not None and state.output is not None:
            state.output.write(exact(repr(value)) + "\n")


@contextmanager
def _collecting() -> Iterator[None]:
    """Garbage is collected in here alone. What a cell left to be done when an object goes (`finally` of a generator) is
    a cell's code too: it must not print or call between cells, nor while a cell that may yet be rejected is read."""
    before = gc.isenabled()
    gc.enable()
    try:
        yield
    finally:
        if not before:
            gc.disable()


def own_names(state: State) -> list[str]:
    """The variables the cells have made, sorted."""
    given, names = state.given, state.names
    return sorted(
        name for name in names if not name.startswith("__") and names[name] is not given.get(name, state)
    )


def _printer(state: State) -> Callable[..., None]:
    def print_(
        *values: Any, sep: str | None = None, end: str | None = None, file: Any = None, flush: bool = False
    ) -> None:
        print(*values, sep=sep, end=end, file=state.output if file is None else file)

    print_.__name__ = print_.__qualname__ = "print"
    return print_


def _context(state: State, hello: Mapping[str, Any]) -> Any:
    intro = hello["intro"]
    verbs = {name[8:]: _stub(state, name) for name in hello["calls"] if name.startswith("context.")}
    if "context_text" in intro:
        return bind_text(verbs, intro["context_text"])
    return bind_context(
        verbs, lambda name, *items: _call(state, name, items, {}), intro.get("context_length")
    )


def _stubs(state: State, calls: list[str]) -> dict[str, Any]:
    return {name: _stub(state, name) for name in calls if "." not in name}


def _stub(state: State, name: str) -> Callable[..., Any]:
    def stub(*arguments: Any, **named: Any) -> Any:
        return _call(state, name, arguments, named)

    stub.__name__ = stub.__qualname__ = name
    return stub


def _call(state: State, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if name not in state.calls:  # the parent would take it for a forged frame
        raise ToolError(f"there is no call {name!r}; there are: {', '.join(sorted(state.calls))}")
    frame = {"t": "call", "name": name, "args": _plain_data(arguments), "kwargs": _plain_data(named)}
    try:
        wire.check_shape(frame)
        if state.output is not None:
            state.output.flush()
        tell(state, frame)
    except wire.FrameError as error:
        raise ToolError(f"{name}: the arguments cannot be sent: {error}") from None
    reply = state.link.receive()
    if "error" in reply:
        raise ToolError(reply["error"])
    return made_of(name, reply["value"], lambda *items: _call(state, READ_ROWS, items, {}))


def _plain_data(value: Any) -> Any:
    """Tuples, sets, rows and the context as JSON has them; models pass all four."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Rows):
        return frame_of(value)
    if isinstance(value, dict):
        return {key: _plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain_data(item) for item in value]
    return str(value) if hasattr(type(value), "_slice") else value


def _empty_answer() -> dict[str, Any]:
    return {"content": "", "citations": [], "ready": False}


def _finishers(state: State) -> dict[str, Any]:
    def finish(content: Any, citations: Any = None) -> None:
        if citations is None:
            citations = _citations_so_far(state)
        state.names["answer"] = {"content": content, "citations": citations, "ready": True}
        raise Finished

    def FINAL(answer: Any = "", *, citations: Any = None) -> None:
        finish(answer, citations)

    def FINAL_VAR(name: Any) -> None:
        if type(name) is not str or not name.isidentifier():
            finish(name)  # models also pass the value itself
        if name not in state.names or name.startswith("__"):
            known = ", ".join(own_names(state)) or "none"
            raise NameError(f"FINAL_VAR: no variable {name!r}; there are: {known}")
        finish(state.names[name])

    def SUBMIT(*values: Any, citations: Any = None, **named: Any) -> None:
        items = [*values, *named.values()]
        finish(items[0] if len(items) == 1 else (named or list(values)), citations)

    def SHOW_VARS() -> str:
        listed = [f"{name}: {type(state.names[name]).__name__}" for name in own_names(state)]
        return "\n".join(listed) or "no variables yet"

    return {call.__name__: call for call in (FINAL, FINAL_VAR, SUBMIT, SHOW_VARS)}


def _citations_so_far(state: State) -> Any:
    """What the code has put into answer["citations"] before it finished in another way."""
    answer = state.names.get("answer")
    return answer.get("citations", ()) if type(answer) is dict else ()


def _take_answer(state: State) -> dict[str, Any] | None:
    """The answer when it is ready, given once: `ready` is false again afterwards, so that a refused answer can be
    mended."""
    answer = state.names.get("answer")
    try:  # the keys and the values are the cell's own objects
        if type(answer) is not dict or not _is_ready(answer):
            return None
        answer["ready"] = False
        content, citations = _text(answer.get("content", "")), _listed(answer.get("citations"))
    except BaseException as error:
        content, citations = f"(the answer could not be read: {type(error).__name__})", []
    return {"content": content[:ANSWER_CHARS], "citations": citations, "ready": True}


def _is_ready(answer: dict[Any, Any]) -> bool:
    ready = answer.get("ready")
    return type(ready) in (bool, int, str) and bool(ready)


def _text(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        try:
            return json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError):
            return exact(str(value))
    return exact(str(value))


def _listed(value: Any) -> list[Any]:
    value = value[:CITED_ROWS] if isinstance(value, Rows) else value
    is_many = isinstance(value, list | tuple | set | Rows)
    items = _plain_data(list(value) if is_many else [value] if value else [])
    wire.check_shape(items)
    wire.encode(items, CITATION_BYTES)
    return list(items)


def _described(state: State, error: BaseException) -> dict[str, Any]:
    try:
        return _describe(state, error)
    except BaseException:  # its message, or its line, is the cell's own code, and raises
        return {"error": f"{type(error).__name__}: (it cannot be read)", "line": None}


def _describe(state: State, error: BaseException) -> dict[str, Any]:
    """Type, message, and the cell's own lines from the outermost to the innermost; no path of this machine."""
    steps = [step for step in traceback.extract_tb(error.__traceback__) if step.filename in state.sources]
    shown = steps if len(steps) <= 6 else [*steps[:3], *steps[-3:]]
    lines = [f"  line {step.lineno}{_where(state, step)}: {_source_line(state, step)}" for step in shown]
    own = error.lineno if isinstance(error, SyntaxError) and type(error.lineno) is int else None
    first = next((step.lineno for step in steps), own)
    return {"error": "\n".join([f"{type(error).__name__}: {_message(error)}", *lines]), "line": first}


def _where(state: State, step: traceback.FrameSummary) -> str:
    cell = "" if step.filename == f"<cell {state.cells}>" else f" of {step.filename[1:-1]}"
    return cell if step.name == "<module>" else f"{cell} in {step.name}"


def _source_line(state: State, step: traceback.FrameSummary) -> str:
    lines, number = state.sources[step.filename], step.lineno or 0
    return lines[number - 1].strip()[:200] if 0 < number <= len(lines) else ""


def _message(error: BaseException) -> str:
    try:
        text = exact(str(error))
    except BaseException as another:
        return f"(its message raised {type(another).__name__})"
    if isinstance(error, MemoryError) and not text:
        return "the memory of this session is used up; keep less of the text in variables at once"
    if isinstance(error, SyntaxError):
        text = f"{error.msg} (line {error.lineno}: {(error.text or '').strip()[:200]})"
    if len(text) <= ERROR_CHARS:
        return text
    return f"{text[:ERROR_CHARS]} [... and more, {len(text):,} characters in all]"


def _ballast() -> bytes | None:
    try:
        return bytes(_BALLAST_BYTES)  # calloc: reserved, not touched
    except MemoryError:
        return None
