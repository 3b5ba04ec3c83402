"""A process that finds itself on another system: no module, call, signal or flag of Linux, and locks of bytes alone.

It imports nothing of ours, so that whatever of ours is imported after it finds the system so. What others' code has
taken of the real system before stays with it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import platformdirs

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"}
CALLS = (
    "fork",
    "fchmod",
    "getuid",
    "geteuid",
    "sched_getaffinity",
    "pidfd_open",
    "memfd_create",
    "O_NOFOLLOW",
)
SIGNALS = ("SIGALRM", "SIGHUP", "setitimer", "pidfd_send_signal")
_loaded = (
    asyncio,
    platformdirs,
    subprocess,
    threading,
)  # which ask, as they are imported, what the system is


class Absent:
    """Finds no module that another system does not have."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def byte_locks() -> ModuleType:
    """`msvcrt` as far as locks go: of a byte of a file, held by this process."""
    module: Any = ModuleType("msvcrt")
    module.LK_NBLCK, module.LK_UNLCK = 2, 0
    held: dict[tuple[int, int, int], int] = {}

    def locking(handle: int, how: int, size: int) -> None:
        status = os.fstat(handle)
        place = (status.st_dev, status.st_ino, os.lseek(handle, 0, os.SEEK_CUR))
        assert size == 1
        if how == module.LK_UNLCK:
            del held[place]
        elif place in held and is_open(held[place], place):
            raise PermissionError(13, "Permission denied")
        else:
            held[place] = handle

    def is_open(handle: int, place: tuple[int, int, int]) -> bool:
        try:
            status = os.fstat(handle)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == place[:2]

    module.locking = locking
    found: ModuleType = module
    return found


def go_elsewhere() -> None:
    """From here on this process is on another system."""
    sysconfig.get_config_vars()  # which names a file of this system
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Absent)
    sys.modules["msvcrt"] = byte_locks()
    for module, names in ((os, CALLS), (signal, SIGNALS)):
        for name in names:
            vars(module).pop(name, None)
    sys.platform = "darwin"
