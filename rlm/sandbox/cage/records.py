"""`dataclasses` for cells, made of closures: nothing here writes source text, evaluates it or compiles it.

The library's own builds its methods out of the fields' names, as text, and runs that text with the library's rights.
Here a name is only ever a key, and one that a cell may read as an attribute. All is checked before a class is touched.
`slots=True` is taken and changes nothing: it would have to make a second class. What is not taken is refused.
"""

import copy
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .scan import pattern_allowed

MISSING: Any = type("MISSING", (), {"__repr__": lambda self: "MISSING"})()
_RECORD = "__record__"  # a cell can neither read nor write it
_OPTIONS = {
    **dict.fromkeys(("init", "repr", "eq", "match_args"), True),
    **dict.fromkeys(("order", "unsafe_hash", "frozen", "kw_only", "slots"), False),
}
_COMPARISONS = {f"__{name}__": getattr(operator, name) for name in ("lt", "le", "gt", "ge")}


class FrozenInstanceError(AttributeError):
    """A field of a frozen dataclass was set or deleted."""


class Field(NamedTuple):
    """One field. What a cell makes of this class says nothing of a name: that is read from the annotations."""

    name: str = ""
    type: Any = None
    default: Any = MISSING
    default_factory: Any = MISSING
    init: bool = True
    repr: bool = True
    hash: bool | None = None
    compare: bool = True
    metadata: Any = None
    kw_only: Any = MISSING


class Record(NamedTuple):
    """What a dataclass is made of, inherited fields first."""

    fields: Mapping[str, Field]
    frozen: bool


def members() -> dict[str, Any]:
    """What cells may import from `dataclasses`."""
    given = (dataclass, field, fields, asdict, astuple, replace, is_dataclass, FrozenInstanceError)
    return {item.__name__: item for item in given}


def field(
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    init: bool = True,
    repr: bool = True,
    hash: bool | None = None,
    compare: bool = True,
    metadata: Any = None,
    kw_only: Any = MISSING,
) -> Any:
    """`dataclasses.field`."""
    if default is not MISSING and default_factory is not MISSING:
        raise ValueError("cannot specify both default and default_factory")
    return Field("", None, default, default_factory, init, repr, hash, compare, metadata, kw_only)


def dataclass(cls: Any = None, /, **options: Any) -> Any:
    """`dataclasses.dataclass`."""
    if wrong := [name for name in options if type(name) is not str or name not in _OPTIONS]:
        raise TypeError(f"dataclass: no option {wrong[0]!s:.40} here; there are {', '.join(_OPTIONS)}")
    asked = {name: bool(options.get(name, usual)) for name, usual in _OPTIONS.items()}
    return (lambda cls: _decorated(cls, asked)) if cls is None else _decorated(cls, asked)


def is_dataclass(item: Any) -> bool:
    """`dataclasses.is_dataclass`, of a class or of an object."""
    return _record(_kind(item)) is not None


def fields(item: Any) -> tuple[Field, ...]:
    """`dataclasses.fields`, of a class or of an object."""
    record = _record(_kind(item))
    if record is None:
        raise TypeError("must be called with a dataclass type or instance")
    return tuple(record.fields.values())


def asdict(item: Any) -> dict[str, Any]:
    """`dataclasses.asdict`, with lists for tuples, as JSON has them."""
    return {name: _as_data(getattr(item, name)) for name in _instance_fields("asdict", item)}


def astuple(item: Any) -> tuple[Any, ...]:
    """`dataclasses.astuple`."""
    return tuple(_as_tuples(getattr(item, name)) for name in _instance_fields("astuple", item))


def replace(item: Any, /, **changes: Any) -> Any:
    """`dataclasses.replace`."""
    for name, field in _instance_fields("replace", item).items():
        if field.init:
            changes.setdefault(name, getattr(item, name))
        elif name in changes:
            raise ValueError(f"field {name} is declared with init=False, it cannot be replaced")
    return type(item)(**changes)


def with_safe_patterns(kind: Any) -> Any:
    """The class itself. Its positional patterns are taken away if they would read an attribute that a pattern by
    keyword may not."""
    names = getattr(kind, "__match_args__", ())
    if isinstance(kind, type) and not all(map(pattern_allowed, names)):
        type.__setattr__(kind, "__match_args__", ())
    return kind


# -- what a class is made of -------------------------------------------------------------------------------


def _kind(item: Any) -> type:
    return item if issubclass(type(item), type) else type(item)


def _record(kind: type) -> Record | None:
    return next((vars(base)[_RECORD] for base in kind.__mro__ if _RECORD in vars(base)), None)


def _instance_fields(name: str, item: Any) -> Mapping[str, Field]:
    record = None if issubclass(type(item), type) else _record(type(item))
    if record is None:
        raise TypeError(f"{name}() should be called on dataclass instances")
    return record.fields


def _as_data(value: Any) -> Any:
    if _record(type(value)) is not None:
        return asdict(value)
    if isinstance(value, list | tuple):
        return [_as_data(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_data(item) for key, item in value.items()}
    return copy.deepcopy(value)


def _as_tuples(value: Any) -> Any:
    if _record(type(value)) is not None:
        return astuple(value)
    if type(value) in (list, tuple):
        return type(value)(_as_tuples(item) for item in value)
    if type(value) is dict:
        return {key: _as_tuples(item) for key, item in value.items()}
    return copy.deepcopy(value)


def _decorated(cls: Any, options: dict[str, bool]) -> Any:
    if not issubclass(type(cls), type) or cls.__module__ != "__main__":
        raise TypeError("dataclass: give it a class that your code defines")
    own = _own_fields(cls, options["kw_only"])
    record = _record_of(cls, own, options["frozen"])
    body = _methods(cls, record, options)
    for name, described in own.items():
        if described.default is not MISSING:
            setattr(cls, name, described.default)
        elif name in vars(cls):
            delattr(cls, name)
    for name, value in body.items():
        setattr(cls, name, value)
    return with_safe_patterns(cls)


def _own_fields(cls: type, kw_only: bool) -> dict[str, Field]:
    body = vars(cls)
    annotations = body.get("__annotations__", {})
    for name in [*annotations, *(name for name, value in body.items() if type(value) is Field)]:
        if not pattern_allowed(name):
            raise TypeError(f"dataclass: a field cannot be called {name!s:.40} here; choose another name")
        if name not in annotations:
            raise TypeError(f"{name!r} is a field but has no type annotation")
    return {name: _field_of(name, kind, body, kw_only) for name, kind in annotations.items()}


def _field_of(name: str, kind: Any, body: Mapping[str, Any], kw_only: bool) -> Field:
    value = body.get(name, MISSING)
    given = value if type(value) is Field else Field(default=value)
    if given.default is not MISSING and type(given.default).__hash__ is None:
        found = type(given.default)
        raise ValueError(f"mutable default {found} for field {name} is not allowed: use default_factory")
    return Field(
        name,
        kind,
        given.default,
        given.default_factory,
        bool(given.init),
        bool(given.repr),
        None if given.hash is None else bool(given.hash),
        bool(given.compare),
        given.metadata,
        kw_only if given.kw_only is MISSING else bool(given.kw_only),
    )


def _record_of(cls: type, own: Mapping[str, Field], frozen: bool) -> Record:
    listed: dict[str, Field] = {}
    for base in cls.__mro__[:0:-1]:
        inherited: Record | None = vars(base).get(_RECORD)
        if inherited is None:
            continue
        if inherited.frozen != frozen:
            words = ("a non-frozen one from a frozen one", "a frozen one from a non-frozen one")
            raise TypeError(f"cannot inherit {words[frozen]}")
        listed |= inherited.fields
    return Record({**listed, **own}, frozen)


# -- the methods of a dataclass ----------------------------------------------------------------------------


def _methods(cls: type, record: Record, options: Mapping[str, bool]) -> dict[str, Any]:
    """What is set on the class, beside the fields' defaults. Raises TypeError or ValueError."""
    listed = list(record.fields.values())
    positional = [field for field in listed if field.init and not field.kw_only]
    _check_order(positional)
    if options["order"] and not options["eq"]:
        raise ValueError("eq must be true if order is true")
    compared = [field.name for field in listed if field.compare]
    body: dict[str, Any] = {_RECORD: record}
    if options["init"]:
        body["__init__"] = _init_of(cls, listed, [field.name for field in positional], record.frozen)
    if options["repr"]:
        body["__repr__"] = _repr_of([field.name for field in listed if field.repr])
    if options["eq"]:
        body["__eq__"] = _comparison("__eq__", operator.eq, compared)
    body = {name: value for name, value in body.items() if name not in vars(cls) or name == _RECORD}
    if options["order"]:
        body |= _order_of(cls, compared)
    if record.frozen:
        body |= _frozen(cls, frozenset(record.fields))
    if options["match_args"]:
        body["__match_args__"] = tuple(field.name for field in positional)
    return body | _hash_of(cls, listed, options)


def _check_order(positional: Sequence[Field]) -> None:
    seen = ""
    for field in positional:
        if field.default is not MISSING or field.default_factory is not MISSING:
            seen = field.name
        elif seen:
            raise TypeError(f"non-default argument {field.name!r} follows default argument {seen!r}")


def _named(cls: type, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    method.__name__, method.__qualname__ = name, f"{cls.__qualname__}.{name}"
    return method


def _init_of(cls: type, listed: Sequence[Field], positional: Sequence[str], frozen: bool) -> Any:
    title, accepted = f"{cls.__qualname__}.__init__()", {field.name for field in listed if field.init}
    put: Callable[[Any, str, Any], None] = object.__setattr__ if frozen else setattr

    def init(self: Any, /, *values: Any, **named: Any) -> None:
        if cls not in type(self).__mro__:
            raise TypeError(f"{title} is for objects of its own class")
        given = _bound(title, positional, accepted, values, named)
        if missing := [field.name for field in listed if _is_missing(field, given)]:
            wanted = ", ".join(map(repr, missing))
            raise TypeError(
                f"{title} missing {len(missing)} required argument{'s' * (len(missing) > 1)}: {wanted}"
            )
        for field in listed:
            if field.name in given:
                put(self, field.name, given[field.name])
            elif field.default_factory is not MISSING:
                put(self, field.name, field.default_factory())
            elif field.default is not MISSING:
                put(self, field.name, field.default)
        if hasattr(type(self), "__post_init__"):
            self.__post_init__()

    return _named(cls, "__init__", init)


def _is_missing(field: Field, given: Mapping[str, Any]) -> bool:
    has_default = field.default is not MISSING or field.default_factory is not MISSING
    return field.init and not has_default and field.name not in given


def _bound(
    title: str, positional: Sequence[str], accepted: set[str], values: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of an `__init__` by the names of their fields. Raises TypeError."""
    if len(values) > len(positional):
        raise TypeError(f"{title} takes {len(positional)} positional arguments but {len(values)} were given")
    given = dict(zip(positional, values, strict=False))
    for name, value in named.items():
        if type(name) is not str or name not in accepted:
            raise TypeError(f"{title} got an unexpected keyword argument {str(name)!r:.100}")
        if name in given:
            raise TypeError(f"{title} got multiple values for argument {name!r}")
        given[name] = value
    return given


def _repr_of(names: Sequence[str]) -> Any:
    @reprlib.recursive_repr("...")
    def shown(self: Any) -> str:
        parts = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({parts})"

    return shown


def _comparison(name: str, compare: Callable[[Any, Any], Any], names: Sequence[str]) -> Any:
    def method(self: Any, other: Any) -> Any:
        if type(other) is not type(self):
            return NotImplemented
        return compare(_values(self, names), _values(other, names))

    method.__name__ = name
    return method


def _values(item: Any, names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(getattr(item, name) for name in names)


def _order_of(cls: type, names: Sequence[str]) -> dict[str, Any]:
    if twice := [name for name in _COMPARISONS if name in vars(cls)]:
        raise TypeError(
            f"cannot overwrite attribute {twice[0]} in class {cls.__name__}; leave out order=True"
        )
    return {name: _comparison(name, compare, names) for name, compare in _COMPARISONS.items()}


def _hash_of(cls: type, listed: Iterable[Field], options: Mapping[str, bool]) -> dict[str, Any]:
    """By the table of `dataclasses`: made where it is asked for or the fields are frozen, else taken away."""
    body = vars(cls)
    explicit = "__hash__" in body and not (body["__hash__"] is None and "__eq__" in body)
    if options["unsafe_hash"] and explicit:
        raise TypeError(f"cannot overwrite attribute __hash__ in class {cls.__name__}")
    if explicit or not (options["eq"] or options["unsafe_hash"]):
        return {}
    if not (options["frozen"] or options["unsafe_hash"]):
        return {"__hash__": None}
    names = [field.name for field in listed if (field.compare if field.hash is None else field.hash)]
    return {"__hash__": lambda self: hash(_values(self, names))}


def _frozen(cls: Any, names: frozenset[str]) -> dict[str, Any]:
    def set_(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def delete(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": set_, "__delattr__": delete}
