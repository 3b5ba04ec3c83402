"""Question in, answer and trace out: `rlm.ask(index, question)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm.answers.demands import Demands
    from rlm.asking.asking import Answer, Manner, ask, ask_async, events
    from rlm.asking.chat import open_chat
    from rlm.asking.many import Question, ask_many
    from rlm.limits import Limits, Models

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
    "Answer": "rlm.asking.asking",
    "Demands": "rlm.answers.demands",
    "Limits": "rlm.limits",
    "Manner": "rlm.asking.asking",
    "Models": "rlm.limits",
    "Question": "rlm.asking.many",
    "ask": "rlm.asking.asking",
    "ask_async": "rlm.asking.asking",
    "ask_many": "rlm.asking.many",
    "events": "rlm.asking.asking",
    "open_chat": "rlm.asking.chat",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that a command's --help never waits for numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
