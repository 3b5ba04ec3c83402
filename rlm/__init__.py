"""Question in, answer and trace out: `rlm.ask(index, question)`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm.answers.citations import Citation
    from rlm.answers.demands import Demands
    from rlm.answers.schema import load_schema
    from rlm.asking.asking import Answer, ask, ask_async, events
    from rlm.asking.chat import Chat, open_chat
    from rlm.asking.many import Answers, Outcome, ask_many
    from rlm.asking.options import Options
    from rlm.asking.questions import Question, read_questions
    from rlm.audit.log import TraceError
    from rlm.errors import RlmError
    from rlm.gateway.errors import GatewayError
    from rlm.gateway.types import Usage
    from rlm.limits import Limits, Models
    from rlm.sandbox.types import SandboxUnavailable

_HOMES = {
    "Answer": "rlm.asking.asking",
    "Answers": "rlm.asking.many",
    "Chat": "rlm.asking.chat",
    "Citation": "rlm.answers.citations",
    "Demands": "rlm.answers.demands",
    "GatewayError": "rlm.gateway.errors",
    "Limits": "rlm.limits",
    "Models": "rlm.limits",
    "Options": "rlm.asking.options",
    "Outcome": "rlm.asking.many",
    "Question": "rlm.asking.questions",
    "RlmError": "rlm.errors",
    "SandboxUnavailable": "rlm.sandbox.types",
    "TraceError": "rlm.audit.log",
    "Usage": "rlm.gateway.types",
    "ask": "rlm.asking.asking",
    "ask_async": "rlm.asking.asking",
    "ask_many": "rlm.asking.many",
    "events": "rlm.asking.asking",
    "load_schema": "rlm.answers.schema",
    "open_chat": "rlm.asking.chat",
    "read_questions": "rlm.asking.questions",
}

__all__ = [
    "Answer",
    "Answers",
    "Chat",
    "Citation",
    "Demands",
    "GatewayError",
    "Limits",
    "Models",
    "Options",
    "Outcome",
    "Question",
    "RlmError",
    "SandboxUnavailable",
    "TraceError",
    "Usage",
    "ask",
    "ask_async",
    "ask_many",
    "events",
    "load_schema",
    "open_chat",
    "read_questions",
]


def __getattr__(name: str) -> Any:
    # Imported when first used, so that a command's --help never waits for numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
