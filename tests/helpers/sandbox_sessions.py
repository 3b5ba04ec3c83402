"""Sessions of both backends over one small text, with calls that reply, refuse and fail."""

from dataclasses import replace
from typing import Any

import pytest

from index_store.types import Json
from rlm.sandbox import CallRefused, CellResult, SandboxLimits, SandboxUnavailable, Session, open_session
from rlm.sandbox.session import LinuxSession
from rlm.sandbox.types import UNCONFINED, Intro, Serve

TEXT = "alpha beta\ngamma delta\n" * 50
VERBS = frozenset({"context.search", "context.slice", "context.contains", "context.text"})
CALLS = frozenset({"llm_query", "llm_query_batched", "refused", "echo", "fault", "big"}) | VERBS


def serve(name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
    match name:
        case "refused":
            raise CallRefused("the budget is spent: $0.00 left")
        case "fault":
            raise KeyError("our own bug")
        case "big":
            return "x" * (70 << 20)
        case "echo":
            return [arguments, named]
        case "llm_query_batched":
            return [f"reply:{prompt}" for prompt in arguments[0]]
        case "context.slice":
            return TEXT[arguments[0] : arguments[1]]
        case "context.contains":
            return arguments[0] in TEXT
        case "context.text":
            return TEXT
    return f"{name}:{arguments[0] if arguments else ''}"


def no_layers(serve: Serve, calls: frozenset[str], limits: SandboxLimits, intro: Intro) -> Session:
    """What opens a session by the kernel's layers on a machine that has none."""
    raise SandboxUnavailable(UNCONFINED.format(layer="seccomp: this kernel has no filters"))


def start(
    limits: SandboxLimits = SandboxLimits(),  # noqa: B008
    intro: Intro | None = None,
    serve: Serve = serve,
    calls: frozenset[str] = CALLS,
) -> LinuxSession:
    session = open_session(serve, calls, limits, intro or {"context_length": len(TEXT)}, "linux")
    assert isinstance(session, LinuxSession)
    return session


def start_monty(
    limits: SandboxLimits = SandboxLimits(),  # noqa: B008
    intro: Intro | None = None,
    serve: Serve = serve,
) -> Session:
    pytest.importorskip("pydantic_monty", reason="the extra `monty` is not installed")
    return open_session(serve, CALLS, limits, intro or {"context_length": len(TEXT)}, backend="monty")


def shown(session: Session, code: str) -> str:
    result = session.run(code)
    assert result.status == "ok", result.error
    return result.stdout


def stopped_soon(session: Session, code: str) -> CellResult:
    """Run a cell that may never end, with a third of a second; those after it have their own time again."""
    return _within(0.3, session, code)


def unhurried(session: Session, code: str) -> CellResult:
    """Run a cell that ends, on however busy a machine, in a session whose others are to run out of time."""
    return _within(120, session, code)


def _within(seconds: float, session: Session, code: str) -> CellResult:
    limits = session.limits
    session.limits = replace(limits, cell_timeout_s=seconds)
    try:
        return session.run(code)
    finally:
        session.limits = limits
