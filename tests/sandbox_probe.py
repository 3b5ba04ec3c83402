"""Hostile code with every builtin, held by the kernel layers alone: `python -s -P -S sandbox_probe.py FOLDER < in`.

In: JSON list of snippets. Each runs in a fresh confined fork, with nothing of the language layer; out: a
JSON list of what each left in `R`, as text, or how it ended.
"""

import json
import os
import signal
import sys
import types

sys.modules["cage"] = package = types.ModuleType("cage")
package.__path__ = [sys.argv[1]]

import ctypes  # noqa: E402, F401
import mmap  # noqa: E402, F401
import pty  # noqa: E402, F401
import resource  # noqa: E402, F401
import socket  # noqa: E402
import subprocess  # noqa: E402, F401
import threading  # noqa: E402, F401

from cage import confinement, worker  # noqa: E402, F401  (worker: all that a real one has loaded)


def run_confined(code, program):
    mine, theirs = socket.socketpair()
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        confine_and_run(code, theirs.detach(), zygote, program)
    theirs.close()
    signal.alarm(20)
    said = b"".join(iter(lambda: mine.recv(65536), b""))
    mine.close()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return said.decode(errors="replace") or (signal.Signals(-code).name if code < 0 else f"exit {code}")


def confine_and_run(code, fd, zygote, program):
    os.dup2(fd, 3)
    confinement.confine_worker(3, 256, 2, zygote, program)
    names = {"__name__": "__main__"}
    try:
        exec(code, names)
        said = f"R={names.get('R', 'nothing')!r}"[:500]
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"[:500]
    os.write(3, said.encode(errors="replace"))
    os._exit(0)


if __name__ == "__main__":
    snippets = json.load(sys.stdin)
    program = confinement.seccomp_program(3)
    out = {"layers": confinement.seal_zygote(), "said": []}
    out["said"] = [run_confined(code, program) for code in snippets]
    json.dump(out, sys.stdout)
