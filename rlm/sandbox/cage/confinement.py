"""The kernel layers, through ctypes alone: what holds when every layer of Python above has failed.

`seal_zygote` is applied once, to the process that forks the workers; `confine_worker` to each worker, which
then keeps one socket, its memory and the clock. rlimits, no_new_privs and seccomp are required: without them
Unconfined is raised. Namespaces, an empty root, Landlock and the unprivileged user are taken wherever the
kernel gives them.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

REQUIRED = ("rlimits", "no_new_privs", "seccomp")
NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SIGKILL = 9
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    1 << 14,
    1 << 18,
)
_MNT_DETACH = 2

# System call numbers. Each call that is allowed: what the worker needs it for; what it gives to whoever has taken over
# the worker's memory.
#   read, write       frames; the parent, which distrusts each byte. On the one descriptor alone.
#   mmap, brk         memory; no more than RLIMIT_AS. Never executable, so new machine code cannot be brought in.
#   mprotect          memory that malloc has set aside becomes usable (musl, further arenas of glibc); its own pages
#                     made writable. Never executable.
#   mremap            a large text or list grows without a second copy; its own pages elsewhere, no more executable.
#   munmap, madvise   memory goes back; its own end.
#   futex             WAIT and WAKE alone: libc wakes after what is done once, and aborts where that is refused; sleep.
#                     Locks that inherit priorities, and queues that move, are where this call had its holes.
#   clock_gettime     the time, where a machine has no vdso; the time, which the vdso gives as well.
#   clock_nanosleep   time.sleep; sleep, on the cell's clock.
#   restart_syscall   the kernel's own: goes on with a sleep after the machine was suspended; sleep.
#   rt_sigreturn      ends the handler of SIGINT, if somebody sends one; registers, which it has already.
#   getrandom         the seed of a cell's own random.Random(); random numbers.
#   exit_group        the end.
# The "kill" list is what only an attack calls; all others, opening a file among them, fail with EPERM.
CALLS: dict[str, dict[str, dict[str, int]]] = {
    "x86_64": {
        "allow": {
            "munmap": 11, "brk": 12, "rt_sigreturn": 15, "mremap": 25, "madvise": 28, "restart_syscall": 219,
            "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231, "getrandom": 318,
        },
        "own_fd": {"read": 0, "write": 1},
        "not_exec": {"mmap": 9, "mprotect": 10},
        "wait_or_wake": {"futex": 202},
        "kill": {
            "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "sendmsg": 46, "bind": 49, "socketpair": 53,
            "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "prctl": 157,
            "mount": 165, "tkill": 200, "tgkill": 234, "unshare": 272, "perf_event_open": 298,
            "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
            "seccomp": 317, "memfd_create": 319, "bpf": 321, "execveat": 322, "userfaultfd": 323,
            "pidfd_send_signal": 424, "io_uring_setup": 425, "clone3": 435, "pidfd_getfd": 438,
        },
    },
    "aarch64": {
        "allow": {
            "exit_group": 94, "clock_gettime": 113, "clock_nanosleep": 115, "restart_syscall": 128,
            "rt_sigreturn": 139, "brk": 214, "munmap": 215, "mremap": 216, "madvise": 233, "getrandom": 278,
        },
        "own_fd": {"read": 63, "write": 64},
        "not_exec": {"mmap": 222, "mprotect": 226},
        "wait_or_wake": {"futex": 98},
        "kill": {
            "mount": 40, "unshare": 97, "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131, "prctl": 167,
            "socket": 198, "socketpair": 199, "bind": 200, "accept": 202, "connect": 203, "sendto": 206,
            "sendmsg": 211, "clone": 220, "execve": 221, "perf_event_open": 241, "open_by_handle_at": 265,
            "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "seccomp": 277, "memfd_create": 279,
            "bpf": 280, "execveat": 281, "userfaultfd": 282, "pidfd_send_signal": 424, "io_uring_setup": 425,
            "clone3": 435, "pidfd_getfd": 438,
        },
    },
}  # fmt: skip
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CAPSET = {"x86_64": 126, "aarch64": 91}
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
LANDLOCK_CREATE, LANDLOCK_RESTRICT = 444, 446

_KILL, _ERRNO_EPERM, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_libc = ctypes.CDLL(None, use_errno=True)


class Unconfined(Exception):
    """A required layer is missing; str() names it."""


def seal_zygote() -> dict[str, bool]:
    """Apply the optional layers that every worker inherits; report which ones hold."""
    report = {"namespaces": _attempt(_enter_namespaces)}
    report["empty_root"] = report["namespaces"] and _attempt(_empty_root)
    report["unprivileged"] = _attempt(_drop_root)
    _require("no_new_privs", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1))
    report["landlock"] = _attempt(_landlock)
    report["not_dumpable"] = _attempt(lambda: _prctl(_PR_SET_DUMPABLE, 0))
    return report


def confine_worker(fd: int, memory_mb: int, cpu_s: int, zygote_pid: int, program: bytes) -> dict[str, bool]:
    """Give up everything but `fd`, memory and time; raises Unconfined when a required layer does not hold."""
    _close_all_but(fd)
    report = {"dies_with_zygote": _attempt(lambda: _prctl(_PR_SET_PDEATHSIG, _SIGKILL))}
    if os.getppid() != zygote_pid:
        os._exit(1)
    _attempt(lambda: _prctl(_PR_SET_DUMPABLE, 0))
    _require("no_new_privs", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1))
    _require("rlimits", lambda: _limit(memory_mb << 20, cpu_s))
    _require("seccomp", lambda: _seccomp(program))
    return report | dict.fromkeys(REQUIRED, True)


def seccomp_program(fd: int, machine: str | None = None) -> bytes:
    """The filter as BPF code: reads and writes on `fd` alone, no executable memory, a short list of harmless calls.
    Calls that only an attack makes kill the process, all others fail with EPERM. Raises Unconfined elsewhere."""
    machine = machine or platform.machine()
    if sys.platform != "linux" or machine not in CALLS:
        raise Unconfined(f"seccomp: no filter for {sys.platform} on {machine}")
    return b"".join(struct.pack("=HBBI", *step) for step in _filter_steps(CALLS[machine], _ARCH[machine], fd))


def _filter_steps(
    calls: dict[str, dict[str, int]], arch: int, fd: int
) -> Iterator[tuple[int, int, int, int]]:
    yield (_LD, 0, 0, _ARCHITECTURE)
    yield from _unless(_JEQ, arch, _KILL)
    yield (_LD, 0, 0, _NUMBER)
    yield from _when(_JGE, 0x40000000, _KILL)  # the x32 ABI, a second door to the same calls
    for number in calls["own_fd"].values():
        yield from _guarded(number, argument=0, jump=(_JEQ, 0, 1), operand=fd)
    for number in calls["not_exec"].values():
        yield from _guarded(number, argument=2, jump=(_JSET, 1, 0), operand=4)
    for number in calls["wait_or_wake"].values():  # 0 and 1, whichever flags are set
        yield from _guarded(number, argument=1, jump=(_JSET, 1, 0), operand=0x7E)
    for number in calls["allow"].values():
        yield from _when(_JEQ, number, _ALLOW)
    for number in calls["kill"].values():
        yield from _when(_JEQ, number, _KILL)
    yield (_RET, 0, 0, _ERRNO_EPERM)


def _when(test: int, operand: int, verdict: int) -> Iterator[tuple[int, int, int, int]]:
    yield (test, 0, 1, operand)
    yield (_RET, 0, 0, verdict)


def _unless(test: int, operand: int, verdict: int) -> Iterator[tuple[int, int, int, int]]:
    yield (test, 1, 0, operand)
    yield (_RET, 0, 0, verdict)


def _guarded(
    number: int, argument: int, jump: tuple[int, int, int], operand: int
) -> Iterator[tuple[int, int, int, int]]:
    yield (_JEQ, 0, 4, number)
    yield (_LD, 0, 0, _ARGUMENTS + 8 * argument)  # the low word: both machines are little-endian
    yield (*jump, operand)
    yield (_RET, 0, 0, _ALLOW)
    yield (_RET, 0, 0, _ERRNO_EPERM)


def _attempt(step: Callable[[], object]) -> bool:
    try:
        step()
    except (OSError, ValueError):
        return False  # the report says so
    return True


def _require(layer: str, step: Callable[[], object]) -> None:
    try:
        step()
    except (OSError, ValueError) as error:
        raise Unconfined(f"{layer}: {error}") from None


def _check(result: int) -> int:
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result


def _prctl(option: int, value: int) -> None:
    _check(
        _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    )


def _syscall(number: int, *arguments: object) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments))


def _mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    _check(_libc.mount(source, target, kind, ctypes.c_ulong(flags), data))


def _enter_namespaces() -> None:
    flags = _NEWNS | _NEWNET | _NEWIPC | _NEWUTS
    if os.geteuid() == 0 and _attempt(lambda: _check(_libc.unshare(flags))):
        return
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(flags | _NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


def _empty_root() -> None:
    """Swap the root for a read-only, empty tmpfs; pivot_root(".", ".") stacks the old root where umount
    reaches it."""
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    _mount(b"tmpfs", b"/tmp", b"tmpfs", flags, b"size=4k,mode=555")
    os.chdir("/tmp")
    _syscall(PIVOT_ROOT[platform.machine()], b".", b".")
    _check(_libc.umount2(b".", _MNT_DETACH))
    os.chdir("/")
    _mount(None, b"/", None, flags | _MS_REMOUNT | _MS_RDONLY, b"size=4k,mode=555")


def _drop_root() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = struct.pack("=Ii", 0x20080522, 0)
    _syscall(CAPSET[platform.machine()], header, bytes(24))


def _landlock() -> None:
    """Deny every file and TCP right this kernel's Landlock knows (its ABI decides which), and signals outwards."""
    abi = _syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    bits = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    attribute = struct.pack("=QQQ", (1 << bits) - 1, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _syscall(LANDLOCK_CREATE, attribute, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        _syscall(LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _close_all_but(fd: int) -> None:
    os.closerange(0, fd)
    os.closerange(fd + 1, 1 << 20)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _seccomp(program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    filter_ = ctypes.create_string_buffer(header, len(header))
    _check(
        _libc.prctl(
            _PR_SET_SECCOMP,
            ctypes.c_ulong(2),
            ctypes.c_ulong(ctypes.addressof(filter_)),
            ctypes.c_ulong(0),
            ctypes.c_ulong(0),
        )
    )
