"""The scan: what it refuses, what it must let through, and what the rewriting means at run time."""

import ast
import contextlib
import json
import re
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.sandbox.cage import worker
from rlm.sandbox.cage.facades import with_safe_patterns
from rlm.sandbox.cage.namespace import class_of, is_instance, own, safe_format
from rlm.sandbox.cage.scan import Rejected, attribute_allowed, parse
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
    "x.format_value, x.compile, r.open",
    "assert x, 'no'\nraise ValueError('x') from None",
    "try: pass\nexcept* ValueError as e: pass",
]


@pytest.mark.parametrize("code", REFUSED, ids=repr)
def test_the_scan_refuses(code):
    with pytest.raises(Rejected) as caught:
        parse(code, MODULES)
    assert caught.value.rule == REFUSED[code]
    assert caught.value.line is not None


@pytest.mark.parametrize("code", ALLOWED, ids=repr)
def test_the_scan_lets_ordinary_code_through(code):
    compile(parse(code, MODULES), "cell", "exec")


def test_the_line_of_the_offence_is_told():
    with pytest.raises(Rejected) as caught:
        parse("x = 1\n\ny = x.__class__", MODULES)
    assert caught.value.line == 3


def test_a_missing_module_is_told_what_there_is():
    with pytest.raises(Rejected) as caught:
        parse("import numpy", frozenset({"re", "json"}))
    assert caught.value.hint == "there is no module 'numpy' here; importable here: json, re"


def test_a_name_the_session_bound_may_hide_a_builtin():
    parse("print(input)", MODULES, bound=["input"])
    with pytest.raises(Rejected):
        parse("print(input)", MODULES)


def test_nothing_asynchronous_is_left():
    body = "async with a as b:\n        async for x in y: await z\n    return [i async for i in j]"
    code = f"async def f():\n    {body}\nawait f()"
    kinds = {type(node).__name__ for node in ast.walk(parse(code, MODULES))}
    assert not kinds & {"Await", "AsyncFunctionDef", "AsyncFor", "AsyncWith"}
    assert all(
        not node.is_async for node in ast.walk(parse(code, MODULES)) if isinstance(node, ast.comprehension)
    )


def test_every_format_is_rewritten():
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
def test_a_private_field_is_refused(template):
    with pytest.raises(ValueError, match="private attribute"):
        safe_format(template)(1)
    with pytest.raises(ValueError, match="private attribute"):
        safe_format(str)(template, 1)


class Sub(str):
    def reach(self):
        return safe_format(super())


def test_a_subclass_of_str_reaches_only_the_safe_format():
    with pytest.raises(ValueError, match="private"):
        Sub("{0.__class__}").reach()(1)
    with pytest.raises(ValueError, match="private"):
        safe_format(Sub)("{0.__class__}", 1)


@given(st.text("{}[]!:.0a", max_size=8))
def test_a_harmless_template_formats_as_python_does(template):
    def outcome(call):
        try:
            return call()
        except Exception:
            return Exception

    assert outcome(lambda: safe_format(template)("x", a="y")) == outcome(lambda: template.format("x", a="y"))


def test_the_format_of_other_objects_is_their_own():
    class Mine:
        format = "plain"

    assert safe_format(Mine()) == "plain"


def test_the_metaclass_is_never_handed_out():
    class Meta(type):
        pass

    assert class_of(int) is class_of
    assert class_of(Meta("A", (), {})) is class_of
    assert class_of(3) is int


def test_isinstance_still_knows_classes():
    assert is_instance(int, class_of) and not is_instance(3, class_of)
    assert is_instance(3, (str, int))


class Name(str):
    def startswith(self, *prefix):
        return False

    def __hash__(self):
        return hash("fine")

    def __eq__(self, other):
        return True


def test_a_name_that_lies_about_itself_is_no_name():
    assert not attribute_allowed(Name("__class__"))
    assert not attribute_allowed(Name("fine"))


def test_only_what_a_cell_made_shows_its_private_names():
    made = type("Made", (), {"__module__": "__main__"})
    assert own(made) is made and isinstance(own(made()), made)
    for item in (print, str, "text", Name("x"), json):
        with pytest.raises(AttributeError, match="keeps its names"):
            own(item)


def test_a_pattern_by_position_reads_only_what_a_pattern_by_name_may():
    plain = with_safe_patterns(type("Plain", (), {"__match_args__": ("x", "y")}))
    assert plain.__match_args__ == ("x", "y")
    for name in ("format", "tb_frame", "_call", "__globals__", Name("x")):
        kind = with_safe_patterns(type("Kind", (), {"__match_args__": ("x", name)}))
        assert kind.__match_args__ == ()


def reachable(names):
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


def attributes(item):
    """What the allowed names of an object give; a text's `format` is what the rewriting makes of it."""
    for name in filter(attribute_allowed, dir(item)):
        with contextlib.suppress(Exception):
            yield name, safe_format(item) if name == "format" else getattr(item, name)


def test_nothing_forbidden_can_be_reached_by_allowed_names(monkeypatch):
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
    }
    objects = list(reachable(start))
    assert len(objects) > 2000
    assert {path: why for path, item in objects if (why := forbidden(item, 1))} == {}
