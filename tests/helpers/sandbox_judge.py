"""Which objects no cell may hold: each leads to the rest of the interpreter."""

import builtins
import re
import types
from typing import Any

LEAK = re.compile(
    r"<module '[\w.]+'( from|>? \()|<frame |<code object |'__builtins__'|<built-in function open>"
)
RAW = {getattr(str, name) for name in ("format", "format_map")}
POWERS = {
    open, eval, exec, compile, __import__, getattr, setattr, delattr, globals, locals, vars, input, breakpoint, id,
    builtins.__build_class__, object.__subclasshook__,
}  # fmt: skip
OWN_POWERS = {getattr(builtins, name) for name in ("help", "exit", "license") if hasattr(builtins, name)}
WRAPPERS = (types.WrapperDescriptorType, types.MethodWrapperType)
FORBIDDEN = (
    types.ModuleType,
    types.FrameType,
    types.CodeType,
    types.MappingProxyType,
    types.CellType,
    *WRAPPERS,
)
SYSTEM = (
    "posix",
    "io",
    "_io",
    "sys",
    "_socket",
    "_thread",
    "_signal",
    "_imp",
    "ctypes",
    "_ctypes",
    "marshal",
)


def forbidden(value: Any, depth: int = 3) -> str | None:
    """Which forbidden thing `value` is or holds, None for nothing. Calls nothing of its own."""
    kind = type(value)
    if issubclass(kind, FORBIDDEN):
        return str(kind.__name__)
    if issubclass(kind, type):
        return "metaclass" if issubclass(value, type) or value.__module__.startswith("_frozen") else None
    if kind is str:
        return "BROKEN" if value == "BROKEN" else "leak" if LEAK.search(value) else None
    if kind is types.BuiltinFunctionType and (value in POWERS or value.__module__ in SYSTEM):
        return f"builtin {value.__name__}"
    if kind is types.BuiltinFunctionType and is_raw_method(value):
        return f"method {value.__name__}"
    if kind in (types.MethodDescriptorType, types.FunctionType) and is_forbidden_function(value):
        return f"function {value.__qualname__}"
    if issubclass(kind, dict) and ("__builtins__" in value or "__import__" in value):
        return "namespace"
    if issubclass(kind, list) and len(value) > 30 and all(isinstance(item, type) for item in value):
        return "subclasses"
    if depth and issubclass(kind, (list, tuple, dict, set)):
        items = [*value.values()] if issubclass(kind, dict) else [*value]
        return next((found for item in items[:50] if (found := forbidden(item, depth - 1))), None)
    return "help and the like" if kind.__module__ in ("_sitebuiltins", "site") else None


def is_raw_method(value: Any) -> bool:
    """A text's own `format`, or a door to any attribute; the builtin `format` is neither."""
    of_text = isinstance(value.__self__, str) and value.__name__ in ("format", "format_map")
    return of_text or value.__name__ in ("__getattribute__", "__reduce_ex__")


def is_forbidden_function(value: Any) -> bool:
    return value in RAW or value.__qualname__ in ("update_wrapper", "namedtuple.__new__") or (
        value.__qualname__.startswith("_context.<locals>")
    )  # fmt: skip
