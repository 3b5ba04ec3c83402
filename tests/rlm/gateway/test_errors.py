"""One base for what package `rlm` raises, so that a caller writes one `except`."""

from pathlib import Path

import pytest

import rlm
from rlm.audit.log import TraceError
from rlm.errors import RlmError
from rlm.gateway import errors
from rlm.sandbox.types import CallRefused, SandboxUnavailable


def test_errors_of_calls_sandboxes_and_traces_have_one_base() -> None:
    raised = [
        error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)
    ]
    assert len(raised) > 5
    for error in [*raised, SandboxUnavailable, CallRefused, TraceError]:
        assert issubclass(error, RlmError), error


def test_a_model_that_does_not_exist_is_caught_by_the_base(tmp_path: Path) -> None:
    text = tmp_path / "story.txt"
    text.write_text("The king lived in a castle.", encoding="utf-8")
    with pytest.raises(RlmError, match="unknown model 'offline/nobody'"):
        rlm.ask(text, "Where did the king live?", models=rlm.Models("offline/nobody"), runs=tmp_path)
