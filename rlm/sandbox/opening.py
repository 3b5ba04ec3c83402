"""Open a session with the backend that was asked for. A backend is one line in BACKENDS; its module is imported only
when it is used."""

import sys

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


def open_session(
    serve: Serve,
    calls: frozenset[str],
    limits: SandboxLimits = SandboxLimits(),  # noqa: B008  (frozen)
    intro: Intro = {},  # noqa: B006  (read only)
    backend: str = "linux",
) -> Session:
    """Open a session of the backend that is named, one of BACKENDS; never of another instead.

    `serve(name, arguments, named)` gives the value of each call whose name is in `calls`, in the thread that called
    `run`. `intro` is what the session starts with: `context_length` (characters) or `context_text`, and `names`, a
    dict of further variables. Raises SandboxUnavailable, naming the layer that is missing.
    """
    if backend not in BACKENDS:
        raise SandboxUnavailable(f"there is no backend {backend!r}; there are: {', '.join(BACKENDS)}")
    return BACKENDS[backend](serve, calls, limits, intro)


def layers() -> dict[str, bool]:
    """Which kernel layers hold here, by name. Raises SandboxUnavailable when a required one does not."""
    with open_session(lambda name, arguments, named: None, frozenset()) as session:
        return session.layers
