"""What a cell can name before it defines anything: chosen builtins and read-only modules."""

import builtins
import enum
import functools
import string
from collections.abc import Callable, Hashable
from types import FunctionType, GenericAlias
from typing import Any, cast

from .facades import build_facades, facade, name_only
from .proxy import Context, Text, plain
from .records import with_safe_patterns
from .rows import Rows, is_of_rows
from .scan import CHANGED, FORMAT, OWN, attribute_allowed, words

PREBOUND = words(
    "re json math collections itertools functools statistics string textwrap datetime difflib random "
    "heapq bisect csv"
)
_BUILTINS = words(
    "len enumerate min max range list repr any set sorted all sum zip map filter dict tuple int float "
    "bool abs round reversed iter next divmod chr ord hash frozenset bytes bytearray format slice "
    "callable bin hex oct pow complex ascii object property staticmethod classmethod super str print "
    "True False None NotImplemented Ellipsis"
)
_EXCEPTIONS = [
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException)
]
# C code imports through the cell's own __import__, and takes the module from sys.modules whatever that returns.
_INTERNAL = ("_strptime",)
# What `type` gives for a function: the real class makes a function of any code object.
_FUNCTION = name_only("function")
# Classes written in C whose objects hand on the attributes of another object.
_PROXIES = (GenericAlias, super)
ALIASES = ("types", "typing")  # where the classes of `list[int]` and `List[int]` come from
_OF_A_SESSION = (
    "__main__",
    f"{__package__}.worker",
)  # functions of a cell, and calls, on which code keeps notes
_fields = string.Formatter().parse


def build_builtins(facades: dict[str, Any], names: Callable[[], list[str]]) -> dict[str, Any]:
    """The `__builtins__` of a session. `names` lists the session's own variables, for a bare `dir()`."""
    chosen = {name: getattr(builtins, name) for name in [*_BUILTINS, *_EXCEPTIONS]}
    return chosen | {
        "type": class_of,
        "isinstance": is_instance,
        "issubclass": issubclass,
        "hasattr": has_attribute,
        "dir": lambda *item: [n for n in dir(*item) if attribute_allowed(n)] if item else names(),
        "__build_class__": build_class,
        "__import__": _importer(facades),
        FORMAT: safe_format,
        OWN: own,
        CHANGED: changed,
    }


def build_class(*arguments: Any, **named: Any) -> Any:
    """What a `class` statement runs. A base that is no class would have its own class called with what the
    interpreter makes a class of."""
    for base in arguments[2:]:
        if not (issubclass(type(base), type) or hasattr(base, "__mro_entries__")):
            raise TypeError(f"a class cannot be made of a {type(base).__name__}")
    kind = builtins.__build_class__(*arguments, **named)
    if doors := [base.__name__ for base in kind.__mro__ if _passes_on(base)]:
        raise TypeError(f"a class of your own cannot be made of {doors[0]}")
    return with_safe_patterns(kind)


def _passes_on(kind: type) -> bool:
    """Whether objects of a class answer with the attributes of another object, so that theirs are not their own."""
    return kind in _PROXIES or "__getattr__" in vars(kind)


def own(item: Any) -> Any:
    """`self`, where it is an instance of a class that a cell made, or such a class. What an object says of its own
    class is not asked: an alias answers with the attributes of what it stands for."""
    kind = item if issubclass(type(item), type) else type(item)
    if kind.__module__ != "__main__":
        raise AttributeError(f"{kind.__name__} keeps its names with an underscore, and mapping, to itself")
    return item


def changed(item: Any) -> Any:
    """An object whose attribute a cell sets or deletes. A library's class is refused, as the library goes by what its
    class says; so are its functions and flags, which all cells share, and an alias, which would hand the change on to
    its class."""
    if issubclass(type(item), type):
        if item.__module__ != "__main__":
            raise AttributeError(f"{item.__name__} is not yours to change; make a class of your own from it")
    elif type(item) is FunctionType:
        if item.__module__ not in _OF_A_SESSION:
            raise AttributeError(
                f"{item.__name__} is not yours to change; make a function of your own from it"
            )
    elif type(item).__module__ in ALIASES or isinstance(item, enum.Enum):
        raise AttributeError(f"{item!r} is not yours to change")
    return item


def class_of(item: Any) -> Any:
    """One-argument `type`, for which the context is a str, and rows are a list. The metaclass itself is never handed
    out: with it a cell could make a class whose `__match_args__` read any attribute."""
    kind = type(item)
    if issubclass(kind, Context | Text):
        return str
    if is_of_rows(kind):
        return list
    if kind is FunctionType:
        return _FUNCTION
    if kind.__module__ in ALIASES or issubclass(kind, enum.Enum):
        return _name_of(cast(Hashable, kind))
    return class_of if issubclass(kind, type) else kind


@functools.cache
def _name_of(kind: Any) -> Any:
    """What `type` gives for an alias, a form of `typing` or a flag: the real class makes one around any object, and
    that of a flag keeps it in the place of whatever it says it equals."""
    return name_only(kind.__name__)


def is_instance(item: Any, kinds: Any) -> bool:
    """`isinstance`, for which the context object is also a str, and rows are a list."""
    named = kinds if isinstance(kinds, tuple) else (kinds,)
    if (isinstance(item, Context) and str in named) or (isinstance(item, Rows) and list in named):
        return True
    if kinds is class_of:
        return isinstance(item, type)
    if kinds is _FUNCTION:
        return isinstance(item, FunctionType)
    return isinstance(item, kinds)


def has_attribute(item: Any, name: str) -> bool:
    """`hasattr`, which also answers for the dunder methods models ask about."""
    return hasattr(item, name)


def safe_format(owner: Any) -> Any:
    """What `owner.format` gives: for text, a formatter that refuses fields such as `{0.__globals__}`."""
    method = owner.format
    if method == str.format or getattr(method, "__objclass__", None) is str:
        return lambda template, *values, **named: _format(template, values, named)
    bound_to = getattr(method, "__self__", None)
    if isinstance(bound_to, str):
        return lambda *values, **named: _format(bound_to, values, named)
    return method


def _format(template: str, values: tuple[Any, ...], named: dict[str, Any]) -> str:
    _check_fields(template, depth=2)
    return str.format(template, *map(plain, values), **{name: plain(value) for name, value in named.items()})


def _check_fields(template: str, depth: int) -> None:
    for _, field, spec, _ in _fields(template):
        for name in (field or "").replace("[", ".").split(".")[1:]:
            if not attribute_allowed(name):
                raise ValueError(f"the field {{{field}}} reads a private attribute")
        if spec and depth:
            _check_fields(spec, depth - 1)


def _importer(facades: dict[str, Any]) -> Callable[..., Any]:
    inert = facade("inert", {})

    def import_(name: str, scope: Any = None, names: Any = None, wanted: Any = (), level: int = 0) -> Any:
        if name in _INTERNAL:
            return inert
        if name not in facades or level:
            raise ImportError(f"there is no module {name!r} here; importable: {', '.join(sorted(facades))}")
        return facades[name] if wanted else facades[name.partition(".")[0]]

    return import_


def build_modules() -> dict[str, Any]:
    """Every importable module, by dotted name."""
    return build_facades(plain)
