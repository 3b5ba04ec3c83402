"""A backend is a function that opens a session, and one line in BACKENDS. Nothing else names it."""

import contextlib
import importlib.util
import io
from collections.abc import Iterator

import pytest

from rlm import Limits
from rlm.cli import main
from rlm.errors import RlmError
from rlm.sandbox import (
    BACKENDS,
    CellResult,
    SandboxLimits,
    SandboxUnavailable,
    Session,
    chosen,
    open_session,
)
from rlm.sandbox.types import Intro, Serve
from tests.helpers.sandbox_sessions import no_layers


class EchoSession(Session):
    """A backend that runs nothing: a cell shows its own code."""

    def __init__(self, serve: Serve, calls: frozenset[str], limits: SandboxLimits, intro: Intro) -> None:
        self.layers, self.limits, self.ended = {"echo": True}, limits, False

    def run(self, code: str) -> CellResult:
        return CellResult("killed" if self.ended else "ok", stdout=code[: self.limits.output_chars])

    def reset(self) -> None:
        """There are no variables."""

    def kill(self) -> None:
        self.ended = True

    close = kill


@pytest.fixture(autouse=True)
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(BACKENDS, "echo", EchoSession)
    yield


def test_a_backend_that_is_entered_can_be_opened_by_name() -> None:
    with open_session(lambda name, arguments, named: None, frozenset(), backend="echo") as session:
        assert session.run("1 + 1") == CellResult("ok", "1 + 1")
    assert session.run("1 + 1").status == "killed"


def test_a_run_and_the_command_line_know_it_too() -> None:
    assert Limits(backend="echo").backend == "echo"
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        main(["ask", "--help"])
    assert "{auto,linux,monty,echo}" in shown.getvalue()


def test_auto_takes_the_kernels_layers_where_they_hold() -> None:
    with open_session(lambda name, arguments, named: None, frozenset()) as session:
        assert session.layers["seccomp"]
    assert (Limits().backend, chosen(Limits().backend).name) == ("auto", "linux")


@pytest.mark.skipif(not importlib.util.find_spec("pydantic_monty"), reason="the extra monty is not installed")
def test_auto_takes_monty_where_a_layer_is_missing_and_the_backend_that_is_named_is_still_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(BACKENDS, "linux", no_layers)
    with open_session(lambda name, arguments, named: None, frozenset()) as session:
        assert session.layers == {"monty": True}
    assert chosen("auto").why.endswith("by its kernel; missing layer seccomp: this kernel has no filters")
    with pytest.raises(SandboxUnavailable, match="missing layer seccomp"):
        open_session(lambda name, arguments, named: None, frozenset(), backend="linux")


def test_auto_refuses_in_one_sentence_where_there_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "linux", no_layers)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        SandboxUnavailable, match=r"missing layer seccomp: .*: pip install 'raptor-rlm\[monty\]'$"
    ):
        open_session(lambda name, arguments, named: None, frozenset())


def test_a_backend_that_nobody_entered_is_refused_and_never_replaced() -> None:
    with pytest.raises(SandboxUnavailable, match="no backend 'jail'; there are: auto, linux, monty, echo"):
        open_session(lambda name, arguments, named: None, frozenset(), backend="jail")
    with pytest.raises(RlmError, match="backend is 'jail'; give one of auto, linux, monty, echo"):
        Limits(backend="jail")
