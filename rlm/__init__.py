"""Question in, answer and trace out: `rlm.ask(index, question)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm.answering import Answer, Manner, ask, ask_async, events
    from rlm.chat import open_chat
    from rlm.demands import Demands
    from rlm.limits import Limits, Models
    from rlm.many import Question, ask_many

__all__ = [
    "Answer",
    "Demands",
    "Limits",
    "Manner",
    "Models",
    "Question",
    "ask",
    "ask_async",
    "ask_many",
    "events",
    "open_chat",
]

_HOMES = {
    "Answer": "rlm.answering",
    "Demands": "rlm.demands",
    "Limits": "rlm.limits",
    "Manner": "rlm.answering",
    "Models": "rlm.limits",
    "Question": "rlm.many",
    "ask": "rlm.answering",
    "ask_async": "rlm.answering",
    "ask_many": "rlm.many",
    "events": "rlm.answering",
    "open_chat": "rlm.chat",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that a command's --help never waits for numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
