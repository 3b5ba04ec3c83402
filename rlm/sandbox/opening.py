"""Open a session with the backend that was asked for; nothing of another backend is imported."""

import sys

from rlm.sandbox.types import UNCONFINED, Backend, Intro, SandboxLimits, SandboxUnavailable, Serve, Session


def open_session(
    serve: Serve,
    calls: frozenset[str],
    limits: SandboxLimits = SandboxLimits(),  # noqa: B008  (frozen)
    intro: Intro = {},  # noqa: B006  (read only)
    backend: Backend = "linux",
) -> Session:
    """Start a confined worker. `serve(name, args, kwargs)` answers each call whose name is in `calls`, in
    the thread that called `run`; `intro` is what the worker needs up front: `context_length` (characters) or
    `context_text`, and `names`, a dict of further variables. Raises SandboxUnavailable, naming the layer
    that is missing; which backend runs is the caller's choice, never a fall back."""
    if backend == "monty":
        from rlm.sandbox.monty import MontySession

        return MontySession(serve, calls, limits, intro)
    if sys.platform != "linux":
        raise SandboxUnavailable(UNCONFINED.format(layer=f"seccomp: {sys.platform} is not Linux"))
    from rlm.sandbox.session import LinuxSession

    return LinuxSession(serve, calls, limits, intro)


def layers() -> dict[str, bool]:
    """Which kernel layers hold here, by name. Raises SandboxUnavailable when a required one does not."""
    with open_session(lambda name, arguments, named: None, frozenset()) as session:
        return session.layers
