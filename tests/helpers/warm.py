"""Commands `raptor` and `rlm` that begin at once: a process that has loaded what they load forks itself for each.

python -m tests.helpers.warm FOLDER      answers the commands of a folder, as long as somebody holds its `users`
"""

import atexit
import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO

from index_store.embedder import load_embedder
from rlm.gateway.litellm_setup import litellm
from rlm.gateway.tokens import truncate
from tests.helpers.places import ROOT

#: What stands on PATH: it hands over what it was started with, passes signals on, and ends as the command ends.
COMMAND = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
told = [os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(json.dumps(told).encode() + b"\\n")
said = server.makefile()
child = int(said.readline())
for sign in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(sign, lambda number, frame: os.kill(child, number))
sys.exit(int(said.readline()))
"""
#: What commands load. No thread is started by it: none would go on in a fork.
LOADED = [
    *(
        "raptor.build",
        "raptor.commands.build",
        "raptor.commands.inspect",
        "sklearn.cluster",
        "sklearn.mixture",
    ),
    *("rlm.audit.page", "rlm.commands.ask", "rlm.commands.check", "rlm.commands.search", "rlm.loop.engine"),
]


@contextmanager
def warm(folder: Path) -> Iterator[Path]:
    """A folder with the commands, to stand first on PATH. Workers of xdist share the process behind it."""
    folder.mkdir(exist_ok=True)
    with (folder / "users").open("w") as users, (folder / "starting").open("w") as starting:
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_EX)
        if not (folder / "bin").exists():
            _start(folder)
        starting.close()
        yield folder / "bin"


def _start(folder: Path) -> None:
    words = [sys.executable, "-m", __name__, str(folder)]
    with socket.socket(socket.AF_UNIX) as server, (folder / "log").open("w") as log:
        server.bind(str(folder / "socket"))
        server.listen()  # whoever comes early waits
        subprocess.run(words, cwd=ROOT, stdin=server.fileno(), stdout=log, stderr=log, check=True)
    (folder / "bin").mkdir()
    for name in ("raptor", "rlm"):
        command = folder / "bin" / name
        command.write_text(COMMAND.format(python=sys.executable, address=str(folder / "socket")), "utf-8")
        command.chmod(0o755)


def serve(folder: Path) -> None:
    """Answer the commands of a folder, one fork each, until nobody holds its `users`."""
    for name in LOADED:
        import_module(name)
    load_embedder()
    truncate("the vocabulary of tokens", 1)
    litellm()
    gc.freeze()  # a fork that looked through all of this would copy it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a fork that ended
    with socket.socket(fileno=0) as server, (folder / "users").open() as users:
        server.settimeout(1)
        while True:
            try:
                asker = server.accept()[0]
            except TimeoutError:
                if _is_held(users):
                    continue
                return
            with asker:
                if not os.fork():
                    answer(asker)


def _is_held(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def answer(asker: socket.socket) -> None:
    """Run a command in a fork of a fork, and tell who asked its process and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asker.setblocking(True)
    streams = socket.recv_fds(asker, 1, 3)[1]
    with asker.makefile("rw", encoding="utf-8") as lines:
        name, arguments, place, environment = json.loads(lines.readline())
        if not (child := os.fork()):
            become(streams, place, environment)
            run(name, arguments)
        for stream in streams:  # a pipe ends when the command closes it
            os.close(stream)
        print(child, file=lines, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code if code >= 0 else 128 - code, file=lines, flush=True)  # as a shell has it
    os._exit(0)


def become(streams: list[int], place: str, environment: dict[str, str]) -> None:
    """Be where a command was started, as it was."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)


def run(name: str, arguments: list[str]) -> None:
    """Run a command to its end. The interpreter's is left out: it would copy all that is loaded, to free it."""
    sys.argv = [name, *arguments]
    code = import_module(f"{name}.cli").main()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    if not os.fork():  # nobody waits for its end
        serve(Path(sys.argv[1]))
