"""Arguments held against what a signature says of them, so that a wrong one is a sentence, and no error deep inside."""

import inspect
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from index_store.terminal import brief

P = ParamSpec("P")
R = TypeVar("R")
_WORDS = {
    NoneType: "None",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}


def checked(error: type[Exception]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that raises `error`, in one sentence, where an argument is of another type than its signature says.

    A whole number that is written as a float is none here: it would count nothing, and cut no list.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:
                return function(*args, **kwargs)  # which says what is missing, or has no name
            _check(given, function, error, floats=False)
            return function(*args, **kwargs)

        return called

    return decorate


def check_fields(value: Any, error: type[Exception]) -> None:
    """Raise `error`, in one sentence, where a field of a dataclass is of another type than the class says."""
    _check({field.name: getattr(value, field.name) for field in fields(value)}, type(value), error)


def _check(given: Mapping[str, Any], owner: Any, error: type[Exception], *, floats: bool = True) -> None:
    hints = _hints(owner)
    for name, value in given.items():
        if name in hints and not fits(value, hints[name], floats=floats):
            raise error(_misfit(name, value, hints[name], floats=floats))


def _misfit(name: str, value: Any, hint: Any, *, floats: bool) -> str:
    """What an argument is, and what to give; of a list that is one the first item that does not fit."""
    items = get_args(hint)[:1] if isinstance(value, list | tuple) else ()
    if items and get_origin(hint) not in (Union, UnionType):
        odd = next((i for i, item in enumerate(value) if not fits(item, items[0], floats=floats)), None)
        if odd is not None:
            return f"{name}[{odd}] is {brief(value[odd])}; give {_in_words(items[0])}"
    return f"{name} is {brief(value)}; give {_in_words(hint)}"


@cache
def _hints(owner: Any) -> dict[str, Any]:
    return inspect.get_annotations(owner, eval_str=True)  # what is quoted inside of a type stays


def fits(value: Any, hint: Any, *, floats: bool = True) -> bool:
    """Whether a value is of a type, as far as its items: True is no number, and with `floats` a whole one may be
    written as a float.

    What a `Literal` lists is not looked at: who takes it says which there are. Nor are the items of an array.
    """
    origin = get_origin(hint) or hint
    if origin in (Union, UnionType):
        return any(fits(value, part, floats=floats) for part in get_args(hint))
    if origin is Any or origin is Literal or isinstance(origin, TypeVar):
        return True
    if origin in (int, float):
        return _is_number(value, whole=origin is int) and (
            origin is float or floats or isinstance(value, Integral)
        )
    if origin is Path:
        return isinstance(value, os.PathLike)
    kind: Any = NoneType if origin is None else origin
    if not isinstance(value, kind):
        return False
    if isinstance(value, str) and origin is not str:  # a list of its letters
        return False
    listed = issubclass(origin, Collection) and not issubclass(origin, Mapping) and not _is_array(origin)
    items = get_args(hint)[:1] if listed else ()
    return all(fits(item, part) for part in items for item in value)


def _is_array(kind: Any) -> bool:
    return hasattr(kind, "dtype")  # numpy's: not imported for this alone


def _is_number(value: Any, *, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return not whole or isinstance(value, Integral) or not math.isfinite(value) or value % 1 == 0


def _in_words(hint: Any) -> str:
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_in_words, parts)))
    if origin in (None, NoneType) or origin in _WORDS:
        return _WORDS[NoneType if origin is None else origin]
    if origin is Callable:
        return "a function"
    if _is_array(origin):
        return "a numpy array"
    if issubclass(origin, Mapping):
        return "a mapping such as a dict"
    if issubclass(origin, Collection) and parts:
        return f"a list, each item {_in_words(parts[0])}"
    return f"{'an' if origin.__name__[0] in 'AEIO' else 'a'} {origin.__name__}"
