"""Open a session with the backend that was asked for. A backend is one line in BACKENDS; its module is imported only
when it is used."""

import importlib.util
import sys
from dataclasses import dataclass

from rlm.sandbox.types import (
    UNCONFINED,
    Intro,
    OpenSession,
    SandboxLimits,
    SandboxUnavailable,
    Serve,
    Session,
)


def _open_linux(serve: Serve, calls: frozenset[str], limits: SandboxLimits, intro: Intro) -> Session:
    if sys.platform != "linux":
        raise SandboxUnavailable(UNCONFINED.format(layer=f"seccomp: {sys.platform} is not Linux"))
    from rlm.sandbox.session import LinuxSession

    return LinuxSession(serve, calls, limits, intro)


def _open_monty(serve: Serve, calls: frozenset[str], limits: SandboxLimits, intro: Intro) -> Session:
    from rlm.sandbox.monty import MontySession

    return MontySession(serve, calls, limits, intro)


#: What confines model-written code, by the name that `Limits.backend` and `--backend` take.
BACKENDS: dict[str, OpenSession] = {"linux": _open_linux, "monty": _open_monty}
#: The name that stands for whichever of them holds here.
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The backend that code runs in, and `why` where AUTO chose it. Its name is AUTO where none holds here."""

    name: str
    why: str = ""


def choices() -> list[str]:
    """What a backend may be called: AUTO, or the name of one."""
    return [AUTO, *BACKENDS]


def chosen(backend: str) -> Chosen:
    """The backend that a name stands for: AUTO for the kernel's layers where every required one holds, else Monty, and
    where that is not installed either for none; any other name for itself, as it is never replaced."""
    if backend != AUTO:
        return Chosen(backend)
    try:
        layers()
    except SandboxUnavailable as missing:
        if importlib.util.find_spec("pydantic_monty") is None:
            return Chosen(AUTO, str(missing))
        return Chosen("monty", str(missing).partition(". ")[0])
    return Chosen("linux", "every required layer of the kernel holds")


def open_session(
    serve: Serve,
    calls: frozenset[str],
    limits: SandboxLimits = SandboxLimits(),  # noqa: B008  (frozen)
    intro: Intro = {},  # noqa: B006  (read only)
    backend: str = AUTO,
) -> Session:
    """Open a session of the backend that is named, one of BACKENDS, never of another instead; or of what AUTO chooses.

    `serve(name, arguments, named)` gives the value of each call whose name is in `calls`, in the thread that called
    `run`. `intro` is what the session starts with: `context_length` (characters) or `context_text`, and `names`, a
    dict of further variables. Raises SandboxUnavailable, naming the layer that is missing.
    """
    choice = chosen(backend)
    if choice.name == AUTO:
        raise SandboxUnavailable(choice.why)
    if choice.name not in BACKENDS:
        raise SandboxUnavailable(f"there is no backend {backend!r}; there are: {', '.join(choices())}")
    return BACKENDS[choice.name](serve, calls, limits, intro)


def layers() -> dict[str, bool]:
    """Which kernel layers hold here, by name. Raises SandboxUnavailable when a required one does not."""
    with open_session(lambda name, arguments, named: None, frozenset(), backend="linux") as session:
        return session.layers
