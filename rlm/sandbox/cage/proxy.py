"""`context` in the worker: verbs that ask the parent, on an object that also behaves like the text a plain
RLM expects.

`len`, `in` and slices are one call each; any string method fetches the whole text, which the parent may refuse.
A plain text is here from the start: then `context` is text in every respect, and has the verbs besides.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Call = Callable[..., Any]  # call(name, *arguments, **named) -> value


class Context:
    """The tree as the model sees it. Subclassed per session, with one method for each verb the parent serves."""

    __slots__ = ("_call", "_length", "_whole")

    def __init__(self, call: Call, length: int | None) -> None:
        self._call, self._length = call, length
        self._whole: str | None = None

    def __repr__(self) -> str:
        verbs = ", ".join(sorted(name for name in dir(type(self)) if not name.startswith("_")))
        return f"<context: {len(self):,} characters; verbs: {verbs}>"

    def __len__(self) -> int:
        return len(self._text()) if self._length is None else self._length

    def __getitem__(self, key: int | slice) -> str:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step > 0:
                return self._slice(start, stop)[::step]
            return self._text()[key]
        position = range(len(self))[key]  # raises IndexError as text does
        return self._slice(position, position + 1)

    def __contains__(self, part: object) -> bool:
        if not isinstance(part, str):
            raise TypeError(f"'in <context>' needs text on its left, not {type(part).__name__}")
        return bool(self._call("context.contains", part))

    def __iter__(self) -> Iterator[str]:
        return iter(self._text())

    def __str__(self) -> str:
        return self._text()

    def __format__(self, spec: str) -> str:
        return format(self._text(), spec)

    def __add__(self, other: str) -> str:
        return self._text() + other

    def __radd__(self, other: str) -> str:
        return other + self._text()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, str) and len(other) == len(self) and other == self._text())

    def __hash__(self) -> int:
        return id(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while a copy is made there is nothing yet to describe
            raise AttributeError(f"context has no {name!r}")
        if not hasattr(str, name):
            raise AttributeError(f"context has no {name!r}; it is {self!r}")
        return getattr(self._text(), name)

    def _slice(self, start: int, stop: int) -> str:
        if start >= stop:
            return ""
        text = self._call("context.slice", start, stop) if self._whole is None else self._whole[start:stop]
        return str(text)

    def _text(self) -> str:
        if self._whole is None:
            self._whole = str(self._call("context.text"))
        return self._whole


def bind_context(verbs: Mapping[str, Call], call: Call, length: int | None) -> Context:
    """A Context with `verbs` as methods."""
    body: dict[str, Any] = {name: staticmethod(verb) for name, verb in verbs.items()}
    return type("Context", (Context,), body | {"__slots__": ()})(call, length)  # type: ignore[no-any-return]


class Text(str):
    """A context that is here whole. Subclassed per session, as Context is."""

    __slots__ = ()


def bind_text(verbs: Mapping[str, Call], text: str) -> Text:
    """A Text with `verbs` as methods; text has no method with a verb's name."""
    body: dict[str, Any] = {name: staticmethod(verb) for name, verb in verbs.items()}
    return type("Context", (Text,), body | {"__slots__": ()})(text)  # type: ignore[no-any-return]


def plain(value: Any) -> Any:
    """The context's text where text is wanted; every other value as it is."""
    return str(value) if isinstance(value, Context) else value
