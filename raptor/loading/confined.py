"""What a parser gives up before it reads a file: network, programs, writing, other processes. Linux, through ctypes.

The files are hostile, and so may be the native code that they meet. Each layer is taken where the kernel gives it, and
none is required: a build must also run where there are none.
"""

import ctypes
import os
import platform
import site
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_CAPSET = {"x86_64": 126, "aarch64": 91}
_READ_ANY = 0b110  # the capabilities to read what others own
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_READING = 0b1100  # Landlock's rights to read files and folders, which a parser keeps
_RUNNING = 0b1  # and the one to run programs
_LD, _JEQ, _JGE, _RET = 0x20, 0x15, 0x35, 0x06
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001
# What fails with EPERM, by machine: its number for seccomp, and of
#   socket, io_uring_setup                                      all that opens a connection
#   execve, execveat                                            other programs
#   ptrace, process_vm_readv, process_vm_writev, pidfd_getfd    what other processes hold
_DENIED = {
    "x86_64": (0xC000003E, (41, 425, 59, 322, 101, 310, 311, 438)),
    "aarch64": (0xC00000B7, (198, 425, 221, 281, 117, 270, 271, 438)),
}
_EXEC = {"x86_64": (59, 322), "aarch64": (221, 281)}

# Our packages come from the folder in argv[1] and nowhere else; no other module comes from there before it was looked
# for in the standard library and among what is installed, nor ever from the working directory.
_BOOT = """
import os, sys
from importlib.machinery import PathFinder
class Ours:
    def find_spec(name, path=None, target=None):
        if path is None and name in ("index_store", "raptor", "rlm"):
            return PathFinder.find_spec(name, sys.argv[1:2])
sys.meta_path.insert(0, Ours)
here = os.path.realpath(os.curdir)
sys.path[:] = [path for path in sys.path + sys.argv[1:] if os.path.realpath(path) != here]
"""


def python(code: str) -> list[str]:
    """The command that runs `code` in a process of its own, with our packages and nothing from where it stands."""
    folders = [str(Path(__file__).resolve().parents[2])]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return [sys.executable, "-I", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _BOOT + code, *folders]


def limit_memory(most: int) -> None:
    """Let this process have `most` bytes of addresses, or less where it may have less, as far as the system counts."""
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with (
        nullcontext() if sys.platform == "linux" else suppress(ValueError, OSError)
    ):  # macOS counts what is shared
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def confine(*, may_run: bool = False) -> None:
    """Give up what this process does not need, as far as the kernel goes; before it has threads.

    `may_run`: whether other programs may be run, which are confined like this one.
    """
    if sys.platform != "linux" or platform.machine() not in _DENIED:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    layers = (
        _no_network,
        _no_power,
        _no_new_privileges,
        partial(_no_writing, may_run),
        partial(_no_calls, may_run),
    )
    for layer in layers:
        with suppress(OSError):  # where there is no such layer the others stand
            layer(libc)


def _check(result: int) -> int:
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result


def _no_network(libc: ctypes.CDLL) -> None:
    # A namespace of users too would take from root the right to read what others own.
    _check(libc.unshare(_NEWNET if os.geteuid() == 0 else _NEWNET | _NEWUSER))


def _no_power(libc: ctypes.CDLL) -> None:
    """Of root's capabilities those to read files are left, without which root reads less than it did."""
    kept = struct.pack("=6I", _READ_ANY, _READ_ANY, 0, 0, 0, 0) if os.geteuid() == 0 else bytes(24)
    header = struct.pack("=Ii", 0x20080522, 0)
    _check(libc.syscall(ctypes.c_long(_CAPSET[platform.machine()]), header, kept))


def _no_new_privileges(libc: ctypes.CDLL) -> None:
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1, 0)


def _no_writing(may_run: bool, libc: ctypes.CDLL) -> None:
    """Landlock: no file is written, made or removed; nor is /proc of a process outside read, or one signalled."""
    call: Callable[..., int] = libc.syscall
    abi = _check(call(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    attribute = struct.pack(
        "=QQQ", rights & ~(_READING | may_run * _RUNNING), 3 if abi >= 4 else 0, 3 if abi >= 6 else 0
    )
    size = ctypes.c_size_t(24 if abi >= 6 else 16 if abi >= 4 else 8)
    ruleset = _check(call(_LANDLOCK_CREATE, attribute, size, ctypes.c_uint32(0)))
    try:
        _check(call(_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def _no_calls(may_run: bool, libc: ctypes.CDLL) -> None:
    arch, denied = _DENIED[platform.machine()]
    running = _EXEC[platform.machine()] if may_run else ()
    steps = list(_filter(arch, [number for number in denied if number not in running]))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HxxxxxxP", len(steps), ctypes.addressof(code)))
    _prctl(libc, _PR_SET_SECCOMP, 2, ctypes.addressof(program))


def _filter(arch: int, denied: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """BPF: the denied calls fail, and so does every call of another architecture or of the x32 ABI."""
    yield (_LD, 0, 0, 4)
    yield (_JEQ, 1, 0, arch)
    yield (_RET, 0, 0, _EPERM)
    yield (_LD, 0, 0, 0)
    for test, operand in [(_JGE, 0x40000000), *((_JEQ, number) for number in denied)]:
        yield (test, 0, 1, operand)
        yield (_RET, 0, 0, _EPERM)
    yield (_RET, 0, 0, _ALLOW)


def _prctl(libc: ctypes.CDLL, option: int, value: int, address: int) -> None:
    _check(libc.prctl(option, *(ctypes.c_ulong(word) for word in (value, address, 0, 0))))
