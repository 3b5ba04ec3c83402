"""The scan: what it refuses, what it must let through, and what the rewriting means at run time."""

import ast
import contextlib
import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rlm.sandbox.cage import scan, worker
from rlm.sandbox.cage.namespace import class_of, is_instance, own, safe_format
from rlm.sandbox.cage.records import with_safe_patterns
from rlm.sandbox.cage.scan import ALLOWED_NODES, Rejected, attribute_allowed, parse
from tests.helpers.sandbox_judge import forbidden

MODULES = frozenset({"re", "json", "collections", "collections.abc", "dataclasses"})

REFUSED = {
    "import os": "import os",
    "import re, os as o": "import os",
    "from os import path": "import os",
    "from . import x": "import .",
    "from re import *": "import *",
    "from re import __dict__": "import __dict__",
    "from re import _compiler": "import _compiler",
    "import re as __builtins__": "name __builtins__",
    "from re import sub as __x": "name __x",
    "open('/etc/passwd')": "name open",
    "f = eval": "name eval",
    "(lambda f=exec: f)()": "name exec",
    "__import__('os')": "name __import__",
    "getattr(1, 'x')": "name getattr",
    "globals()": "name globals",
    "().__class__": "attribute __class__",
    "x.__dict__ = 1": "attribute __dict__",
    "del x.__dict__": "attribute __dict__",
    "f'{x.__class__}'": "attribute __class__",
    "x._private": "attribute _private",
    "x.__class__.__mro__": "attribute __mro__",
    "x.__class__.__name__ = 1": "attribute __name__",
    "x.__name__ = 1": "attribute __name__",
    "type.mro(int)": "attribute mro",
    "'{}'.format_map({})": "attribute format_map",
    "g.gi_frame": "attribute gi_frame",
    "c.cr_frame": "attribute cr_frame",
    "a.ag_frame": "attribute ag_frame",
    "x.f_globals": "attribute f_globals",
    "e.tb_frame": "attribute tb_frame",
    "x.co_consts": "attribute co_consts",
    "e.__traceback__": "attribute __traceback__",
    "self.__dict__": "attribute __dict__",
    "super().__getattribute__": "attribute __getattribute__",
    "super(A, b).__init__.__globals__": "attribute __globals__",
    "f(__class__=1)": "name __class__",
    "def __f(): pass": "name __f",
    "class __C: pass": "name __C",
    "def f(__a): pass": "name __a",
    "def f(*__a, **__k): pass": "name __a",
    "lambda __a: 1": "name __a",
    "global __builtins__": "name __builtins__",
    "def f():\n    nonlocal __class__": "name __class__",
    "for __builtins__ in [{}]: pass": "name __builtins__",
    "del __builtins__": "name __builtins__",
    "(__x := 1)": "name __x",
    "__name__ = 'x'": "name __name__",
    "try: pass\nexcept E as __e: pass": "name __e",
    "with a as __b: pass": "name __b",
    "[1 for __x in y]": "name __x",
    "match x:\n    case A(__class__=c): pass": "attribute __class__",
    "match x:\n    case A(format=f): pass": "attribute format",
    "match x:\n    case A(gi_frame=f): pass": "attribute gi_frame",
    "match x:\n    case [*__a]: pass": "name __a",
    "match x:\n    case {**__a}: pass": "name __a",
    "match x:\n    case 1 as __a: pass": "name __a",
    "class A:\n    __match_args__ = ('__globals__',)": "name __match_args__",
    "class A:\n    __slots__ = ()": "name __slots__",
    "class A:\n    def __getattr__(self, n): pass": "name __getattr__",
    "class A:\n    def __class_getitem__(c, i): pass": "name __class_getitem__",
    "class A:\n    def __del__(self): pass": "name __del__",
    "class A(metaclass=M): pass": "class keyword",
    "A.register(B)": "attribute register",
    "try: pass\nexcept AttributeError as e: e.obj": "attribute obj",
    "match x:\n    case A(obj=o): pass": "attribute obj",
    "match x:\n    case A(mapping=m): pass": "attribute mapping",
    "x.format += y": "attribute format",
}
ALLOWED = [
    "for _ in range(3): _x = 1",
    "import re as r, json\nfrom collections.abc import Iterable\nfrom dataclasses import dataclass",
    "class A:\n    def __init__(self):\n        super().__init__()\n        self._x = 1",
    "class A:\n    def __enter__(self): return self\n    def __exit__(self, *error): return None",
    "type(e).__name__, e.__class__.__name__",
    "point._asdict(), point._replace(x=1)",
    "if __name__ == '__main__': pass",
    "input = context[:10]\nprint(input)",
    "def f(open): return open",
    "node.f_score = 1\nnode.co_author = 2",
    "match point:\n    case Point(x=0, y=y): pass",
    "'a__b'.split('__')",
    "d['__class__']",
    "class A:\n    def __init__(self, obj): self.obj = obj",
    "class A: mapping = {}\nA().mapping",
    "from re import compile\ncompile('x')",
    "match x:\n    case [open, *vars]: print(open, vars)",
    "x.format_value, x.compile, r.open",
    "assert x, 'no'\nraise ValueError('x') from None",
    "try: pass\nexcept* ValueError as e: pass",
]

# Type parameters, aliases and f-strings with any quotes inside: syntax since 3.12, defaults since 3.13.
REFUSED_SINCE_3_12 = {
    "def f[__T](): pass": "name __T",
    "def f[*__class__](): pass": "name __class__",
    "def f[**__builtins__](): pass": "name __builtins__",
    "async def f[__T](): pass": "name __T",
    "class A[__T]: pass": "name __T",
    "type __builtins__ = int": "name __builtins__",
    "type X[__T] = int": "name __T",
    "class __A[T]: pass": "name __A",
    "class A[T](metaclass=M): pass": "class keyword",
    "class A[T](**{'metaclass': M}): pass": "class keyword",
    "def f[T: ().__class__](): pass": "attribute __class__",
    "def f[T: (int, x.__globals__)](): pass": "attribute __globals__",
    "def f[T: eval](): pass": "name eval",
    "class A[T: (x for x in y).gi_frame]: pass": "attribute gi_frame",
    "class A:\n    type X = f.__code__": "attribute __code__",
    "type X = open": "name open",
    "type X[T: vars] = T": "name vars",
    "f.__type_params__": "attribute __type_params__",
    "X.__value__": "attribute __value__",
    "T.__bound__": "attribute __bound__",
    "T.__constraints__": "attribute __constraints__",
    "match X:\n    case object(__value__=v): pass": "attribute __value__",
    "class A:\n    __type_params__ = ()": "name __type_params__",
    'f"{x.__class__["a"]}"': "attribute __class__",
    'f"{f"{f"{x.__class__}"}"}"': "attribute __class__",
    'f"{1:{x.__class__ or ""}}"': "attribute __class__",
    'f"{1:{"":{x.__class__ or ""}}}"': "attribute __class__",
    'f"{(__x := 1)}"': "name __x",
    'f"{eval("1")}"': "name eval",
    'f"{\n    x.__class__  # "}"\n}"': "attribute __class__",
}
ALLOWED_SINCE_3_12 = [
    "def first[T](items: list[T]) -> T: return items[0]",
    "async def first[T: (int, str)](items: list[T]) -> T: return items[0]",
    "class Box[T]:\n    def get[U: int](self, other: U) -> T: return self._item",
    "class Calls[**P, *Ts]:\n    def f(self, *a: *Ts, **k: P.kwargs) -> None: pass",
    "type Pair[A, B: Box] = tuple[A, 'B']\nPair[int, str]",
    "def f[input](x: input) -> input: return x",
    "type = 3\ntype(x)",
    'f"{words["a"]:>{width["b"]}} {"\\n".join(x)} {x!r}"',
    'f"{f"{f"{1}"}"}"',
]
REFUSED_SINCE_3_13 = {
    "def f[T = ().__class__](): pass": "attribute __class__",
    "def f[*Ts = *x.__globals__](): pass": "attribute __globals__",
    "def f[**P = eval](): pass": "name eval",
    "class A[T = open]: pass": "name open",
    "type X[T = f.__code__] = T": "attribute __code__",
    "T.__default__": "attribute __default__",
}
ALLOWED_SINCE_3_13 = [
    "def f[T = int, *Ts = *tuple[int, str], **P = [int]](x: T): pass",
    "class A[T: int = bool]: pass",
    "type Pair[A, B = A] = tuple[A, B]",
]
since_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
since_3_13 = pytest.mark.skipif(sys.version_info < (3, 13), reason="syntax of Python 3.13")


def marked(codes: Iterable[str], mark: pytest.MarkDecorator) -> list[Any]:
    """The codes as parameters that carry the mark."""
    return [pytest.param(code, marks=mark, id=repr(code)) for code in codes]


EVERY_REFUSED = REFUSED | REFUSED_SINCE_3_12 | REFUSED_SINCE_3_13


@pytest.mark.parametrize(
    "code",
    [*REFUSED, *marked(REFUSED_SINCE_3_12, since_3_12), *marked(REFUSED_SINCE_3_13, since_3_13)],
    ids=repr,
)
def test_the_scan_refuses(code: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse(code, MODULES)
    assert caught.value.rule == EVERY_REFUSED[code]
    assert caught.value.line is not None


@pytest.mark.parametrize(
    "code",
    [*ALLOWED, *marked(ALLOWED_SINCE_3_12, since_3_12), *marked(ALLOWED_SINCE_3_13, since_3_13)],
    ids=repr,
)
def test_the_scan_lets_ordinary_code_through(code: str) -> None:
    compile(parse(code, MODULES), "cell", "exec")


# No cell has these: other kinds of input to the parser, comments of types, and names that older Pythons used.
NOT_IN_CELLS = {
    *("Interactive", "FunctionType", "TypeIgnore"),
    *(
        "AugLoad",
        "AugStore",
        "Bytes",
        "Ellipsis",
        "ExtSlice",
        "Index",
        "NameConstant",
        "Num",
        "Param",
        "Str",
        "Suite",
    ),
}


def kinds_below(kind: type[ast.AST]) -> set[str]:
    """The names of the classes below this one that have none below them."""
    below = kind.__subclasses__()
    return set().union(*map(kinds_below, below)) if below else {kind.__name__}


def test_every_kind_of_syntax_of_this_python_has_been_judged() -> None:
    assert kinds_below(ast.AST) - ALLOWED_NODES <= NOT_IN_CELLS


def test_syntax_that_nobody_has_judged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "ALLOWED_NODES", ALLOWED_NODES - {"Match"})
    with pytest.raises(Rejected, match="syntax Match"):
        parse("match x:\n    case 1: pass", MODULES)


def test_the_line_of_the_offence_is_told() -> None:
    with pytest.raises(Rejected) as caught:
        parse("x = 1\n\ny = x.__class__", MODULES)
    assert caught.value.line == 3


def test_a_missing_module_is_told_what_there_is() -> None:
    with pytest.raises(Rejected) as caught:
        parse("import numpy", frozenset({"re", "json"}))
    assert caught.value.hint == "there is no module 'numpy' here; importable here: json, re"


def test_a_name_the_session_bound_may_hide_a_builtin() -> None:
    parse("print(input)", MODULES, bound=["input"])
    with pytest.raises(Rejected):
        parse("print(input)", MODULES)


def test_nothing_asynchronous_is_left() -> None:
    body = "async with a as b:\n        async for x in y: await z\n    return [i async for i in j]"
    code = f"async def f():\n    {body}\nawait f()"
    kinds = {type(node).__name__ for node in ast.walk(parse(code, MODULES))}
    assert not kinds & {"Await", "AsyncFunctionDef", "AsyncFor", "AsyncWith"}
    assert all(
        not node.is_async for node in ast.walk(parse(code, MODULES)) if isinstance(node, ast.comprehension)
    )


def test_every_format_is_rewritten() -> None:
    for code in ("'{}'.format(1)", "str.format", "f = x.y.format\nf()", "map('{}'.format, y)"):
        nodes = ast.walk(parse(code, MODULES))
        assert not [node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "format"]


@pytest.mark.parametrize(
    "template",
    [
        "{0.__class__}",
        "{0.real.__class__}",
        "{0[0].__class__}",
        "{0:{0.__class__}}",
        "{0.gi_frame}",
        "{0._x!r:>10}",
    ],
)
def test_a_private_field_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="private attribute"):
        safe_format(template)(1)
    with pytest.raises(ValueError, match="private attribute"):
        safe_format(str)(template, 1)


class Sub(str):
    def reach(self) -> Any:
        return safe_format(super())


def test_a_subclass_of_str_reaches_only_the_safe_format() -> None:
    with pytest.raises(ValueError, match="private"):
        Sub("{0.__class__}").reach()(1)
    with pytest.raises(ValueError, match="private"):
        safe_format(Sub)("{0.__class__}", 1)


@given(st.text("{}[]!:.0a", max_size=8))
def test_a_harmless_template_formats_as_python_does(template: str) -> None:
    def outcome(call: Callable[[], object]) -> object:
        try:
            return call()
        except Exception:
            return Exception

    assert outcome(lambda: safe_format(template)("x", a="y")) == outcome(lambda: template.format("x", a="y"))


def test_the_format_of_other_objects_is_their_own() -> None:
    class Mine:
        format = "plain"

    assert safe_format(Mine()) == "plain"


def test_the_metaclass_is_never_handed_out() -> None:
    class Meta(type):
        pass

    assert class_of(int) is class_of
    assert class_of(Meta("A", (), {})) is class_of
    assert class_of(3) is int


def test_isinstance_still_knows_classes() -> None:
    assert is_instance(int, class_of) and not is_instance(3, class_of)
    assert is_instance(3, (str, int))


class Name(str):
    def startswith(self, *prefix: Any) -> bool:
        return False

    def __hash__(self) -> int:
        return hash("fine")

    def __eq__(self, other: object) -> bool:
        return True


def test_a_name_that_lies_about_itself_is_no_name() -> None:
    assert not attribute_allowed(Name("__class__"))
    assert not attribute_allowed(Name("fine"))


def test_only_what_a_cell_made_shows_its_private_names() -> None:
    made = type("Made", (), {"__module__": "__main__"})
    assert own(made) is made and isinstance(own(made()), made)
    for item in (print, str, "text", Name("x"), json):
        with pytest.raises(AttributeError, match="keeps its names"):
            own(item)


def test_a_pattern_by_position_reads_only_what_a_pattern_by_name_may() -> None:
    plain = with_safe_patterns(type("Plain", (), {"__match_args__": ("x", "y")}))
    assert plain.__match_args__ == ("x", "y")
    for name in ("format", "tb_frame", "_call", "__globals__", Name("x")):
        kind = with_safe_patterns(type("Kind", (), {"__match_args__": ("x", name)}))
        assert kind.__match_args__ == ()


def reachable(names: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Every object a cell can come to from these by allowed attributes and one-argument `type`, with a path to it."""
    found, waiting = {}, list(names.items())
    while waiting:
        path, item = waiting.pop()
        if id(item) in found or path.count(".") > 5:
            continue
        found[id(item)] = (path, item)
        waiting += [(f"{path}.{name}", part) for name, part in attributes(item)]
        waiting.append((f"type({path})", class_of(item)))
    return found.values()


def attributes(item: Any) -> Iterator[tuple[str, Any]]:
    """What the allowed names of an object give; a text's `format` is what the rewriting makes of it."""
    for name in filter(attribute_allowed, dir(item)):
        with contextlib.suppress(Exception):
            yield name, safe_format(item) if name == "format" else getattr(item, name)


GENERIC = """
def f[T: int, *Ts, **P](): return T, Ts, P, P.args, P.kwargs
class A[T]: pass
type X[T] = list[T]
parts = {"f": f, "A": A, "alias of A": A[int], "object of A": A[int](), "X": X, "alias of X": X[int]}
parts |= {type(part).__name__: part for part in f()}
"""


def generic_objects() -> dict[str, Any]:
    """What type parameters make, where this Python has them."""
    names: dict[str, Any] = {"__name__": "__main__", "parts": {}}
    if sys.version_info >= (3, 12):
        exec(GENERIC, names)
    return dict(names["parts"])


def test_nothing_forbidden_can_be_reached_by_allowed_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # a state takes its place
    hello = {"calls": ["llm_query", "context.search"], "intro": {"context_length": 10}, "output_chars": 1000}
    names = dict(worker.new_state(worker.Link(-1), hello).names)
    cells = names.pop("__builtins__")
    start = (
        names | {name: cells[name] for name in cells if not name.startswith(("__", "\x00"))} | worker.MODULES
    )
    start |= {
        "alias": list[int],
        "match": re.match("a", "a"),
        "generator": (x for x in "a"),
        "error": ValueError("x"),
    } | generic_objects()
    objects = list(reachable(start))
    assert len(objects) > 2000
    assert {path: why for path, item in objects if (why := forbidden(item, 1))} == {}


@pytest.mark.parametrize("code", list(EVERY_REFUSED), ids=repr)
def test_a_model_is_told_what_to_write_and_not_which_word_was_refused(code: str) -> None:
    try:
        parse(code, MODULES)
    except Rejected as rejected:
        word = rejected.rule.partition(" ")[2]
        assert rejected.hint
        told = re.findall(r"\w+", rejected.hint)
        assert rejected.rule.startswith("import") or word not in told
    except SyntaxError:
        pytest.skip("this Python does not know the syntax")
