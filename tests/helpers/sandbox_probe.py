"""Hostile code, each snippet in a fresh fork: `python -s -P -S sandbox_probe.py FOLDER < request > reply`.

Request: JSON {"mode", "snippets", "broken", "absent", "seconds", "links"}. Modes: `off` (plain Python, no layer at
all), `bare` (the kernel layers alone: every builtin, real modules), `cell` (the language layer too, as they run).
`broken` names functions of the confinement that fail here as they would on a machine without that layer,
`absent` ones that do nothing and say nothing; `links` are descriptors to use as the workers' sockets. Reply:
{"layers", "ends": [{"said", "broke", "end"}]}: `R` as text, what forbidden thing it is, how the process ended.
"""

import json
import os
import select
import signal
import sys
import time
import types
from ast import literal_eval
from typing import Any, Never

sys.modules["cage"] = package = types.ModuleType("cage")
package.__path__ = [sys.argv[1]]
sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

import collections.abc  # noqa: E402
import ctypes  # noqa: E402, F401
import mmap  # noqa: E402, F401
import pty  # noqa: E402, F401
import resource  # noqa: E402
import socket  # noqa: E402
import sqlite3  # noqa: E402, F401
import subprocess  # noqa: E402, F401
import threading  # noqa: E402, F401
import urllib.request  # noqa: E402, F401

from cage import confinement, wire, worker  # type: ignore[import-not-found]  # noqa: E402
from sandbox_judge import forbidden  # type: ignore[import-not-found]  # noqa: E402

CALLS = ["context.search", "llm_query"]
HELLO = {"calls": CALLS, "intro": {"context_length": 10}, "output_chars": 1000}


def _context() -> object:
    """Stands in for a session's context where there is no session."""

    class Context:
        def __init__(self) -> None:
            self._call = lambda *call: "real"

        def search(self, *query: Any) -> str:
            return "real"

    return Context()


def plain_names() -> dict[str, Any]:
    def llm_query(*prompt: Any) -> str:
        return "real"

    llm_query = types.FunctionType(llm_query.__code__, globals(), "llm_query")
    names = {"__name__": "__main__", "llm_query": llm_query, "context": _context(), "answer": {}}
    return names | {name: __import__(name) for name in worker.PREBOUND} | {"collections": collections}


def run_plain(code: str) -> Any:
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    names = vars(module)
    names.update(plain_names())
    exec(code, names)
    return names.get("R")


def run_as_cell(code: str) -> Any:
    link = types.SimpleNamespace(send=lambda frame: None, receive=lambda: {"value": "real"})
    state = worker.new_state(link, HELLO)
    result = worker.execute(state, code)
    taken = state.names.get("R")
    after = worker.execute(state, "import json\nprint(json.dumps({'a': 1}))")
    if (after["status"], after["stdout"]) != ("ok", '{"a": 1}\n') or wire.encode([1], 9)[4:] != b"[1]":
        return "BROKEN"
    return taken if result["status"] == "ok" or forbidden(taken) else result["rule"] or result["error"]


def run(code: str, request: dict[str, Any], program: bytes, link: int | None) -> dict[str, Any]:
    mine, theirs = socket.socketpair()
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        mine.close()
        become(code, request["mode"], theirs.detach() if link is None else link, zygote, program)
    theirs.close()
    if link is not None:
        os.close(link)
    said, ended = listen(mine, pid, request["seconds"])
    mine.close()
    return read_ending(said) | {"end": ended}


def read_ending(said: bytes) -> dict[str, Any]:
    """What the child reported; anything else it wrote on its socket, as text."""
    try:
        return dict(literal_eval(said.decode()))
    except (ValueError, SyntaxError, MemoryError):
        return {"said": said.decode(errors="replace"), "broke": None}


def listen(end: socket.socket, pid: int, seconds: float) -> tuple[bytes, str]:
    """What the child says until it hangs up, and how it ended; killed when its time is up.

    Its time is the processor's, so that a busy machine makes no child late; one that sleeps has ten times as much.
    """
    said, deadline, late = b"", time.monotonic() + 10 * seconds, False
    while not late:
        if select.select([end], [], [], 0.05)[0]:
            part = end.recv(65536)
            if not part:
                break
            said += part
        late = time.clock_gettime(processor_clock(pid)) > seconds or time.monotonic() > deadline
    if late:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said, "late" if late else signal.Signals(-code).name if code < 0 else f"exit {code}"


def processor_clock(pid: int) -> int:
    """The clock of the processor time that a process used, as clock_getcpuclockid(3) gives it."""
    return (~pid << 3) | 2


def become(code: str, mode: str, fd: int, zygote: int, program: bytes) -> Never:
    if fd != 3:
        os.dup2(fd, 3)
        os.close(fd)
    if mode == "off":
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))  # the machine's sake, not a layer
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reply goes out there
    else:
        confinement.confine_worker(3, 256, 1, zygote, program)
    ending = {"said": "", "broke": None}
    try:
        taken = (run_as_cell if mode == "cell" else run_plain)(code)
        ending = {"said": repr(taken)[:500], "broke": forbidden(taken)}
    except BaseException as error:
        ending["said"] = f"{type(error).__name__}: {error}"[:500]
    os.write(3, ascii(ending).encode())  # not json: some payloads break it
    os._exit(0)


def fail(*arguments: Any) -> Never:
    raise OSError(1, "broken for the test")


if __name__ == "__main__":
    request = {"broken": [], "absent": [], "seconds": 30, "links": []} | json.load(sys.stdin)
    for name in request["broken"]:
        setattr(confinement, name, fail)
    for name in request["absent"]:
        setattr(confinement, name, lambda *arguments: None)
    worker.warm_up()
    out: dict[str, Any] = {"layers": {}, "ends": []}
    program = confinement.seccomp_program(3)
    try:
        out["layers"] = {} if request["mode"] == "off" else confinement.seal_zygote()
        links = [*request["links"], *[None] * len(request["snippets"])]
        for code, link in zip(request["snippets"], links):  # noqa: B905  (links are the longer)
            out["ends"].append(run(code, request, program, link))
    except confinement.Unconfined as missing:
        out["missing"] = str(missing)
    json.dump(out, sys.stdout)
