"""The process that forks workers: started once with an empty environment, everything imported, then sealed.

Requests come over a SEQPACKET socket, each with two descriptors: the worker's socket, and a status socket on
which the zygote sends the worker's pid with a pidfd, and later its exit code. One thread, so that forking is safe.
"""

import gc
import json
import os
import select
import socket
import sys
import warnings
from typing import Any

from . import confinement, worker

WORKER_FD = 3


def main(control_fd: int, parent_pid: int) -> None:
    """Serve fork requests until the parent closes the control socket or dies."""
    warnings.simplefilter("ignore")
    control = socket.socket(fileno=control_fd)
    parent = os.pidfd_open(parent_pid)
    if os.getppid() != parent_pid:
        return
    try:
        program = confinement.seccomp_program(WORKER_FD)
        report = confinement.seal_zygote()
    except confinement.Unconfined as missing:
        control.send(json.dumps({"missing": str(missing)}).encode())
        return
    worker.warm_up()
    gc.collect()
    gc.freeze()  # workers share these pages until they write to them
    control.send(json.dumps({"layers": report}).encode())
    _serve(control, parent, program)


def _serve(control: socket.socket, parent: int, program: bytes) -> None:
    children: dict[int, tuple[int, socket.socket]] = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(parent, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == parent:
                return
            if fd in children:
                poller.unregister(fd)
                _reap(fd, *children.pop(fd))
                continue
            child = _accept(control, program)
            if child is None:
                return
            poller.register(child[0], select.POLLIN)
            children[child[0]] = child[1:]


def _accept(control: socket.socket, program: bytes) -> tuple[int, int, socket.socket] | None:
    message, fds, _, _ = socket.recv_fds(control, 4096, 2)
    if not message:
        return None
    request = json.loads(message)
    pid = os.fork()
    if pid == 0:
        _become_worker(fds[0], request, program)
    status = socket.socket(fileno=fds[1])
    os.close(fds[0])
    pidfd = os.pidfd_open(pid)  # the child is not yet reaped, so the pid is still its own
    _send(status, b"%d" % pid, [pidfd])
    return pidfd, pid, status


def _reap(pidfd: int, pid: int, status: socket.socket) -> None:
    _, code = os.waitpid(pid, 0)
    os.close(pidfd)
    _send(status, b"%d" % os.waitstatus_to_exitcode(code), [])
    status.close()


def _send(status: socket.socket, message: bytes, fds: list[int]) -> None:
    try:
        socket.send_fds(status, [message], fds, socket.MSG_DONTWAIT)
    except OSError:
        return  # the session is closed already; nobody asks any more


def _become_worker(fd: int, request: dict[str, Any], program: bytes) -> None:
    """Confine this fresh fork and run cells in it; never returns."""
    code = 70
    try:
        zygote_pid = os.getppid()
        if fd != WORKER_FD:
            os.dup2(fd, WORKER_FD)
        sys.stdin = sys.stdout = sys.stderr = None
        link = worker.Link(WORKER_FD)
        report = confinement.confine_worker(
            WORKER_FD, request["memory_mb"], request["cpu_s"], zygote_pid, program
        )
        link.send({"t": "ready", "layers": report})
        worker.serve_cells(link, link.receive())
    except confinement.Unconfined as missing:
        link.send({"t": "missing", "layer": str(missing)})
    except MemoryError:
        code = 71
    finally:
        os._exit(code)
