"""The modules a cell may import, as read-only facades: chosen names only, no way from one module to the next.

A real module would be a door (`json.codecs.open`, `random._os`, `re.enum.sys`) and writable: cell code could
swap the `json` that the worker frames its own messages with. Everything slow or lazily imported is loaded
here, before the fork, since a confined worker cannot open a file.
"""

import _strptime  # type: ignore[import-not-found]  # (datetime.strptime imports it on first use)
import bisect
import collections
import collections.abc
import copy
import csv
import datetime
import decimal
import difflib
import encodings.ascii
import encodings.idna
import encodings.latin_1
import encodings.utf_8  # noqa: F401
import fractions
import functools
import heapq
import html
import io
import itertools
import json
import math
import operator
import random
import re
import statistics
import string
import sys
import textwrap
import time
import typing
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from . import records
from .output import exact
from .scan import words

Plain = Callable[[Any], Any]  # turns the context object into its text, and leaves everything else alone


class _Sealed(type):
    """A facade's class cannot be changed either: `type(json).loads = ...` fails."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise AttributeError(f"{cls.__name__} is read-only; bind your own name instead")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        raise TypeError(f"{cls.__name__} is here by name only and makes nothing")


def name_only(name: str) -> Any:
    """A class whose name can be read, and which has no instances."""
    return _Sealed(name, (), {"__module__": "builtins"})


def facade(name: str, members: Mapping[str, Any]) -> Any:
    """A read-only object with these attributes and no others."""

    def refuse(self: object, key: str, value: object = None) -> None:
        raise AttributeError(f"module {name} is read-only; bind your own name instead")

    def missing(self: object, key: str) -> Any:
        raise AttributeError(f"module {name!r} has no {key!r} here; it has {', '.join(sorted(members))}")

    body: dict[str, Any] = {key: staticmethod(value) for key, value in members.items()}
    body |= {"__slots__": (), "__setattr__": refuse, "__delattr__": refuse, "__getattr__": missing}
    body |= {"__repr__": lambda self: f"<module {name!r}>"}
    kind: Any = _Sealed(name, (), body)
    return object.__new__(kind)


def build_facades(plain: Plain) -> dict[str, Any]:
    """Every importable module by dotted name; functions over text accept the context object through `plain`."""
    modules = {module.__name__: facade(module.__name__, _pick(module, names)) for module, names in _CHOSEN}
    modules["textwrap"] = facade("textwrap", _textwrap_members(plain))
    modules["re"] = facade("re", _re_members(plain))
    modules["json"] = facade("json", _json_members(plain))
    modules["io"] = facade("io", {"StringIO": _coerced(io.StringIO, plain), "BytesIO": io.BytesIO})
    modules["functools"] = facade("functools", _functools_members())
    modules["random"] = facade("random", _random_members())
    modules["copy"] = facade("copy", {"copy": _copy, "deepcopy": _deepcopy})
    modules["dataclasses"] = facade("dataclasses", records.members())
    modules["asyncio"] = facade("asyncio", _asyncio_members())
    abc = modules.pop("collections.abc")
    modules["collections"] = facade("collections", _pick(collections, _COLLECTIONS) | {"abc": abc})
    return modules | {"collections.abc": abc}


_COLLECTIONS = "Counter defaultdict OrderedDict deque namedtuple ChainMap"
_CHOSEN: tuple[tuple[ModuleType, str], ...] = (
    (math, " ".join(name for name in dir(math) if name[0] != "_")),
    (itertools, " ".join(name for name in dir(itertools) if name[0] not in "_")),
    (
        collections.abc,
        "Iterable Iterator Sequence Mapping MutableMapping Set Hashable Callable Sized Collection",
    ),
    (
        statistics,
        "mean fmean median median_low median_high mode multimode stdev pstdev variance pvariance quantiles "
        "harmonic_mean geometric_mean correlation covariance linear_regression StatisticsError",
    ),
    (
        string,
        "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits punctuation printable "
        "whitespace capwords",
    ),
    (datetime, "date datetime time timedelta timezone UTC MINYEAR MAXYEAR"),
    (difflib, "SequenceMatcher get_close_matches ndiff unified_diff context_diff"),
    (heapq, "heappush heappop heapify heapreplace heappushpop nlargest nsmallest merge"),
    (bisect, "bisect bisect_left bisect_right insort insort_left insort_right"),
    (
        csv,
        "reader writer DictReader DictWriter QUOTE_ALL QUOTE_MINIMAL QUOTE_NONE QUOTE_NONNUMERIC Error "
        "field_size_limit",
    ),
    (time, "time perf_counter monotonic sleep strftime strptime gmtime localtime"),
    (
        operator,
        "itemgetter add sub mul truediv floordiv mod neg pow eq ne lt le gt ge and_ or_ xor not_ contains "
        "getitem concat",
    ),
    (decimal, "Decimal ROUND_HALF_UP ROUND_HALF_EVEN ROUND_DOWN ROUND_UP InvalidOperation"),
    (fractions, "Fraction"),
    (html, "escape unescape"),
    (unicodedata, "normalize category name lookup combining numeric east_asian_width"),
    (
        typing,
        "Any Optional Union List Dict Tuple Set FrozenSet Iterable Iterator Sequence Mapping Callable Literal "
        "NamedTuple",
    ),
    (sys, "maxsize"),
)


def forget() -> None:
    """Empty the caches that libraries keep under what they are given: an object of a cell's own that says it equals a
    text would be found in the place of that text by all later cells."""
    re.purge()
    _strptime._regex_cache.clear()
    for clear in typing._cleanups:  # type: ignore[attr-defined]
        clear()


def _pick(module: ModuleType, names: str) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names.split()}


def _coerced(function: Callable[..., Any], plain: Plain) -> Callable[..., Any]:
    """The function, which sees no text of a cell's own class: libraries hand their tables to a text's methods."""

    def seen(value: Any) -> Any:
        value = plain(value)
        return exact(value) if isinstance(value, str) else value

    def call(*arguments: Any, **named: Any) -> Any:
        return function(*map(seen, arguments), **{key: seen(value) for key, value in named.items()})

    call.__name__ = call.__qualname__ = function.__name__
    return call


def _textwrap_members(plain: Plain) -> dict[str, Any]:
    def of_text(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(text: Any, *arguments: Any, **named: Any) -> Any:
            if not isinstance(text, str):
                raise TypeError(f"{function.__name__} takes text, not a {type(text).__name__}")
            return function(text, *arguments, **named)

        call.__name__ = function.__name__
        return call

    functions = (getattr(textwrap, name) for name in textwrap.__all__ if name != "TextWrapper")
    return {function.__name__: _coerced(of_text(function), plain) for function in functions}


def _re_members(plain: Plain) -> dict[str, Any]:
    def unwrap(value: Any) -> Any:
        return value.compiled if isinstance(value, _Pattern) else plain(value)

    def wrapped(*arguments: Any, **named: Any) -> _Pattern:
        return _Pattern(re.compile(*map(unwrap, arguments), **named), plain)

    names = ["search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "split", "escape"]
    flags = words("I IGNORECASE M MULTILINE S DOTALL X VERBOSE A ASCII U UNICODE NOFLAG")
    members = {name: _coerced(getattr(re, name), unwrap) for name in names}
    members |= _pick(re, " ".join(flags) + " Match error") | {"compile": wrapped, "Pattern": _Pattern}
    return members | {"PatternError": re.error}  # what errors call themselves since 3.13


_PATTERN_NAMES = frozenset(name for name in dir(re.Pattern) if not name.startswith("_"))


class _Pattern:
    """A compiled pattern whose methods also take the context object. A cell can make one around anything: so it
    passes on a pattern's own names only, `format` not among them."""

    __slots__ = ("_plain", "compiled")

    def __init__(self, compiled: re.Pattern[Any], plain: Plain) -> None:
        self.compiled, self._plain = compiled, plain

    def __repr__(self) -> str:
        return repr(self.compiled)

    def __getattr__(self, name: str) -> Any:
        if name not in _PATTERN_NAMES:
            raise AttributeError(
                f"a compiled pattern has no {name!r}; it has {', '.join(sorted(_PATTERN_NAMES))}"
            )
        value = getattr(self.compiled, name)
        return _coerced(value, self._plain) if callable(value) else value


def _json_members(plain: Plain) -> dict[str, Any]:
    functions = {name: _coerced(getattr(json, name), plain) for name in ("loads", "dumps")}
    return functions | _pick(json, "load dump JSONDecodeError")


def _functools_members() -> dict[str, Any]:
    """No `cached_property`: it writes a name of the cell's choice, dunders included. `wraps` by hand: the real one
    hands out `update_wrapper`, which reads attributes by name, and names a library's functions anew."""
    chosen = "reduce partial lru_cache cache cmp_to_key total_ordering"
    return _pick(functools, chosen) | {"wraps": lambda function: lambda wrapper: _named_as(wrapper, function)}


def _named_as(wrapper: Any, function: Any) -> Any:
    own = isinstance(wrapper, FunctionType) and wrapper.__module__ == "__main__"
    if own and isinstance(function, FunctionType | BuiltinFunctionType):
        wrapper.__name__, wrapper.__qualname__ = function.__name__, function.__qualname__
        wrapper.__doc__ = function.__doc__
    return wrapper


def _random_members() -> dict[str, Any]:
    """One seeded generator: a replayed session draws the same numbers."""
    generator = random.Random(0)
    names = (
        "random randint randrange choice choices sample shuffle uniform gauss normalvariate seed getrandbits"
    )
    return {name: getattr(generator, name) for name in names.split()} | {"Random": random.Random}


def _copy(item: Any) -> Any:
    """`copy.copy`."""
    return copy.copy(item)


def _deepcopy(item: Any) -> Any:
    """`copy.deepcopy` without its `memo`: a cell's own would be shown the state of whatever is copied, such as the
    code in the forward reference that `typing.Optional["..."]` makes of a text."""
    return copy.deepcopy(item)


def _asyncio_members() -> dict[str, Any]:
    """What async code needs once `await` means nothing: everything has already happened when it is asked for."""
    return {
        "gather": lambda *results, return_exceptions=False: list(results),
        "run": lambda result: result,
        "create_task": lambda result: result,
        "ensure_future": lambda result: result,
        "wait_for": lambda result, timeout=None: result,
        "as_completed": lambda results: iter(_listed(results)),
        "to_thread": lambda function, *arguments, **named: function(*arguments, **named),
        "sleep": time.sleep,
        "Semaphore": _NoWait,
        "Lock": _NoWait,
    }


def _listed(results: Iterable[Any]) -> list[Any]:
    return list(results)


class _NoWait:
    """A lock in a world with one thread."""

    def __init__(self, value: int = 1) -> None:
        self.value = value

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        return None
