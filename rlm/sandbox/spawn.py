"""The parent's side of the zygote: start it once, ask it for workers, stop it at exit. Effects: processes,
sockets."""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlm.sandbox.types import UNCONFINED, SandboxUnavailable

START_S = 20.0
# The environment's only entries. With the hash seed a set of strings has the same order in every worker and every
# replay; with huge pages for large blocks (glibc 2.35 and later) a killed worker's 500 MB are free in 5 ms, not 35.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# The files of cage/ under a name of their own, so that neither site-packages nor rlm/__init__ is needed.
_BOOT = """
import sys, types
sys.modules["cage"] = package = types.ModuleType("cage")
package.__path__ = [sys.argv[1]]
from cage import zygote
zygote.main(int(sys.argv[2]), int(sys.argv[3]))
"""


@dataclass(frozen=True, slots=True)
class Zygote:
    """The process that workers are forked from, and the kernel layers that it hands down to them."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    layers: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker. `link` carries its frames and does not block; over `status` the zygote sends its exit code."""

    pid: int
    pidfd: int
    link: socket.socket
    status: socket.socket

    def kill(self) -> None:
        """Send SIGKILL; a worker that is dead already is left alone."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def exit_code(self, timeout_s: float) -> int | None:
        """The exit code, minus the number of the signal that ended it; None if it has not arrived in `timeout_s`."""
        if not _readable(self.status, timeout_s):
            return None
        message = self.status.recv(64)
        return int(message) if message else None

    def close(self) -> None:
        """Kill the worker and free what it holds here; the zygote collects its exit code."""
        self.kill()
        os.close(self.pidfd)
        self.link.close()
        self.status.close()


_lock = threading.Lock()
_current: Zygote | None = None


def fork_worker(memory_mb: int, cpu_s: int) -> Worker:
    """A fresh, confined worker; starts the zygote if there is none. Raises SandboxUnavailable."""
    zygote = running_zygote()
    try:
        return _ask(zygote, memory_mb, cpu_s)
    except OSError:
        _discard(zygote)  # it died under us: one more try with a new one
    try:
        return _ask(running_zygote(), memory_mb, cpu_s)
    except OSError as error:
        raise SandboxUnavailable(f"the sandbox cannot start a worker: {error}") from error


def running_zygote() -> Zygote:
    """The process's one zygote, started on first use and again when it has died."""
    global _current
    with _lock:
        if _current is None or _current.process.poll() is not None:
            if _current is not None:
                _stop(_current)
            _current = _start()
        return _current


def stop_zygote() -> None:
    """End the zygote and with it every worker."""
    with _lock:
        _forget()


def _ask(zygote: Zygote, memory_mb: int, cpu_s: int) -> Worker:
    ours, theirs = socket.socketpair()
    status, reporting = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        request = json.dumps({"memory_mb": memory_mb, "cpu_s": cpu_s}).encode()
        socket.send_fds(zygote.control, [request], [theirs.fileno(), reporting.fileno()])
        theirs.close()
        reporting.close()
        pid, pidfd = _receive_pid(status)
    except BaseException:
        for end in (ours, theirs, status, reporting):
            end.close()
        raise
    ours.setblocking(False)
    return Worker(pid, pidfd, ours, status)


def _receive_pid(status: socket.socket) -> tuple[int, int]:
    if not _readable(status, START_S):
        raise OSError("the zygote did not answer")
    message, fds, _, _ = socket.recv_fds(status, 64, 1)
    if not fds:
        raise OSError("the zygote is gone")
    return int(message), fds[0]


def _start() -> Zygote:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        process = _launch(theirs.fileno())
    except OSError as error:
        ours.close()
        raise SandboxUnavailable(f"the sandbox process did not start: {error}") from error
    finally:
        theirs.close()
    try:
        return Zygote(process, ours, _greeting(process, ours))
    except SandboxUnavailable:
        _end(process, ours)
        raise


def _launch(control_fd: int) -> subprocess.Popen[bytes]:
    folder = str(Path(__file__).resolve().parent / "cage")
    command = [sys.executable, "-s", "-P", "-S", "-c", _BOOT, folder, str(control_fd), str(os.getpid())]
    return subprocess.Popen(
        command,
        env=_ENVIRONMENT,
        cwd="/",
        pass_fds=[control_fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for the parent to handle
    )


def _greeting(process: subprocess.Popen[bytes], control: socket.socket) -> dict[str, bool]:
    message = control.recv(4096) if _readable(control, START_S) else b""
    if not message:
        process.kill()
        _, errors = process.communicate()
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise SandboxUnavailable(f"the sandbox process did not start: {last or 'no answer'}")
    greeting = json.loads(message)
    if "missing" in greeting:
        raise SandboxUnavailable(UNCONFINED.format(layer=greeting["missing"]))
    layers: dict[str, bool] = greeting["layers"]
    return layers


def _readable(end: socket.socket, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(end, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


def _discard(zygote: Zygote) -> None:
    global _current
    with _lock:
        if _current is zygote:
            _forget()


def _forget() -> None:
    global _current
    if _current is not None:
        _stop(_current)
        _current = None


def _stop(zygote: Zygote) -> None:
    _end(zygote.process, zygote.control)


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _after_fork() -> None:
    """A forked child of the parent must not share the parent's zygote; it starts its own."""
    global _current, _lock
    _lock = threading.Lock()
    if _current is not None:
        _current.control.close()
        if _current.process.stderr is not None:
            _current.process.stderr.close()
        _current.process.returncode = 0  # not this process's child: nothing to wait for
        _current = None


os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop_zygote)
