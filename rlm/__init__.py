"""Question in, answer and trace out: `rlm.ask(index, question)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm.answering import Answer, ask, ask_async
    from rlm.limits import Limits, Models

__all__ = ["Answer", "Limits", "Models", "ask", "ask_async"]

_HOMES = {
    "Answer": "rlm.answering",
    "ask": "rlm.answering",
    "ask_async": "rlm.answering",
    "Limits": "rlm.limits",
    "Models": "rlm.limits",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that a command's --help never waits for numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
