"""`rlm doctor`: can this machine confine model-written code, by which backend, and by which layers of the kernel."""

import argparse
import importlib.metadata
import platform
import sys
from dataclasses import asdict, dataclass
from typing import Literal

from index_store.terminal import print_json, say
from rlm.sandbox import AUTO, SandboxUnavailable, opening

State = Literal["on", "off", "unknown"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the sandbox on this machine. `required`: without it no model-written code is run."""

    name: str
    state: State
    required: bool
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `rlm doctor` prints. `usable`: whether model-written code can be run; `verdict`: how that is by the
    kernel's layers alone. `backend`: what `--backend auto` takes here, None for a refusal, and `backend_why`."""

    usable: bool
    verdict: str
    python: str
    kernel: str
    layers: tuple[Layer, ...]
    monty: str | None  # the installed version of the second backend
    backend: str | None
    backend_why: str


#: (name, required, what it is for, why it may be off) of every layer, in the order in which they are applied.
KNOWN_LAYERS: tuple[tuple[str, bool, str, str], ...] = (
    (
        "namespaces",
        False,
        "no network, no mounts, no messages of other processes",
        "user namespaces are forbidden here (sysctl kernel.apparmor_restrict_unprivileged_userns or"
        " user.max_user_namespaces, or a container's own rules)",
    ),
    ("empty_root", False, "an empty, read-only file system", "needs the namespaces"),
    ("unprivileged", False, "nobody's user, no capabilities", "the capabilities could not be given up"),
    (
        "landlock",
        False,
        "no file; no TCP from Linux 6.7 on, no signals from 6.12 on",
        "this kernel has no Landlock (5.13 and later have)",
    ),
    ("not_dumpable", False, "other processes cannot look into it", "prctl(PR_SET_DUMPABLE) was refused"),
    ("dies_with_zygote", False, "no worker is left behind", "prctl(PR_SET_PDEATHSIG) was refused"),
    ("no_new_privs", True, "no program can give it more rights", "prctl(PR_SET_NO_NEW_PRIVS) was refused"),
    ("rlimits", True, "memory, processor time, file size and processes end", "setrlimit was refused"),
    (
        "seccomp",
        True,
        "a short list of system calls, its own socket alone",
        "needs Linux on x86_64 or aarch64 with CONFIG_SECCOMP_FILTER",
    ),
)


def report() -> Report:
    """The layers that confine a worker started for this; a machine that cannot start one is reported, not raised."""
    try:
        states, missing = opening.layers(), ""
    except SandboxUnavailable as error:
        states, missing = {}, str(error)
    here = tuple(_layer(name, needed, states, use, cause) for name, needed, use, cause in KNOWN_LAYERS)
    verdict = missing or _usable(here)
    choice = opening.chosen(AUTO)
    backend = None if choice.name == AUTO else choice.name
    python = platform.python_version()
    return Report(backend is not None, verdict, python, _kernel(), here, _monty(), backend, choice.why)


def render(report: Report) -> str:
    """A report as text for a terminal."""
    width = max(len(layer.name) for layer in report.layers)
    lines = [f"python {report.python}, {report.kernel}", ""]
    for layer in report.layers:
        needed = "required" if layer.required else "extra"
        lines.append(f"  {layer.name:<{width}}  {layer.state:<7}  {needed:<8}  {layer.why}")
    monty = report.monty or "not installed (pip install 'raptor-rlm[monty]')"
    chosen = f"{report.backend}, as {report.backend_why}" if report.backend else "none: code is refused"
    ends = [f"monty backend: {monty}", f"sandbox: {report.verdict}", f"--backend auto: {chosen}"]
    return "\n".join([*lines, "", *ends])


def doctor(args: argparse.Namespace) -> int:
    """Print the report. Returns the exit code: 0 where model-written code can be run, else 1."""
    here = report()
    print_json(asdict(here), indent=2) if args.json else say(render(here))
    return 0 if here.usable else 1


def _layer(name: str, needed: bool, states: dict[str, bool], use: str, cause: str) -> Layer:
    if name not in states:
        return Layer(name, "unknown", needed, f"{use}; no worker started")
    return Layer(name, "on", needed, use) if states[name] else Layer(name, "off", needed, f"{use}; {cause}")


def _usable(here: tuple[Layer, ...]) -> str:
    off = [layer.name for layer in here if layer.state != "on"]
    return f"usable, without {', '.join(off)}" if off else "usable, every layer is on"


def _kernel() -> str:
    return f"{sys.platform} {platform.release()} {platform.machine()}"


def _monty() -> str | None:
    try:
        return importlib.metadata.version("pydantic-monty")
    except importlib.metadata.PackageNotFoundError:
        return None
