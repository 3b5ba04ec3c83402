"""What a cell can reach that evaluates, formats or reads attributes by a name of its choice, and why each is safe.

Payloads that would succeed in plain Python stand in `tests/helpers/attacks/language.py`; these fail there too.
"""

# ruff: noqa: E501  (a payload is read best in one piece)
from collections.abc import Iterator

import pytest

from rlm.sandbox import Session, open_session

REACH = {
    "namedtuple: code for a name": (
        "a name is an identifier of exactly the type str before any text is built",
        "import collections\ncollections.namedtuple('N', ['x=().__class__'])\nR = 'BROKEN'",
    ),
    "namedtuple: a text of its own": (
        "a name is an identifier of exactly the type str before any text is built",
        "\nimport collections\nclass Name(str):\n    def __str__(self): return self\n    def isidentifier(self): return True\n    def startswith(self, *parts): return False\ncollections.namedtuple('N', [Name('x, y=().__class__.__base__.__subclasses__()')])\nR = 'BROKEN'\n",
    ),
    "typing.NamedTuple: code for a name": (
        "it is made by namedtuple, with the same check",
        "import typing\ntyping.NamedTuple('N', [('x=().__class__', int)])\nR = 'BROKEN'",
    ),
    "typing: an annotation that is text": (
        "it is compiled and never run: what would run it has a private name",
        "import typing\nR = typing.List['llm_query.__globals__'].__args__[0]._evaluate({}, {}, frozenset())",
    ),
    "enum": ("no cell can import it", "import enum\nR = enum.Enum.__init_subclass__"),
    "enum by re": ("the flags of re lead to their class, and no further", "R = type(re.I).__base__.__base__"),
    "functools.cached_property": (
        "it writes an attribute of a chosen name, so it is not given",
        "import functools\nR = functools.cached_property(lambda self: 1)",
    ),
    "functools.singledispatch": (
        "it is not given",
        "import functools\nR = functools.singledispatch(len).register",
    ),
    "functools.partialmethod": (
        "it is not given",
        "import functools\nR = functools.partialmethod(len).__get__(1).func",
    ),
    "operator.attrgetter by name": (
        "it is not given, and neither is methodcaller",
        "R = dict(a=operator.attrgetter) if 'operator' in dir() else __import__('operator').attrgetter",
    ),
    "string.Template": (
        "neither it nor Formatter is given",
        "from string import Template\nR = Template('$x').substitute",
    ),
    "re template: attribute of a group": (
        "a template names groups and reads no attribute",
        "import re\nre.sub('(?P<a>x)', r'\\g<a.__class__>', 'x')\nR = 'BROKEN'",
    ),
    "f-string spec": (
        "a spec is handed to the object, whose class is not of the cell",
        "f'{llm_query:{\"{0.__globals__}\"}}'\nR = 'BROKEN'",
    ),
    "builtin format": (
        "a spec is handed to the object and never parsed for fields",
        "R = format(llm_query, '{0.__globals__}')",
    ),
    "percent format": ("it reads items of a mapping, never attributes", "R = '%(__globals__)s' % llm_query"),
    "descriptor's name": (
        "a class may define no hook of a descriptor",
        "class D:\n    def __set_name__(self, kind, name): R.append(kind.__base__)\nR = []\nclass N: d = D()",
    ),
    "csv dialect": (
        "a dialect is read by a fixed list of names",
        "import csv\nR = csv.reader(['a'], dialect='{0.__class__}').dialect",
    ),
    "copy: a state of one's own": (
        "a class may not define how it is reduced",
        "import copy\nclass N:\n    def __reduce__(self): return (eval, ('1',))\nR = copy.copy(N())",
    ),
    "json: a class of one's own": (
        "the class is called, and nothing of it is read by a chosen name",
        "import json\nR = json.dumps(1, cls='{0.__globals__}')",
    ),
    "textwrap: options by name": (
        "options are parameters with names of their own",
        "import textwrap\ntextwrap.wrap('a', __class__=1)\nR = 'BROKEN'",
    ),
    "dataclass: raw methods out of a comparison": (
        "a name that cannot be read as an attribute is no field",
        "\nfrom dataclasses import dataclass, field\nR = []\nclass See:\n    def __eq__(self, other):\n        R.append(other)\n        return True\n@dataclass\nclass Base:\n    format: object = field(default_factory=See)\nclass Text(Base, str): pass\none, two = Text('{0.__globals__}'), Text('{0.__globals__}')\ndel two.format\none == two\nR = R[0](llm_query)\n",
    ),
    "dataclass: a name of its own kind of text": (
        "a keyword is matched only if it is exactly a str",
        "\nfrom dataclasses import dataclass, replace\nclass Name(str):\n    def __hash__(self): return hash('x')\n    def __eq__(self, other): return True\n@dataclass\nclass Note:\n    x: int = 0\nNote(**{Name('__class__'): 1})\nR = 'BROKEN'\n",
    ),
    "re.Pattern as one's own object": (
        "no class can be made of one whose objects hand on the attributes of another",
        "class Look(re.Pattern): pass\nR = 'BROKEN'",
    ),
}
NOT_GIVEN = {
    "operator": ("attrgetter", "methodcaller"),
    "string": ("Formatter", "Template"),
    "functools": ("cached_property", "update_wrapper", "singledispatch", "partialmethod"),
    "typing": ("get_type_hints", "ForwardRef"),
    "dataclasses": ("make_dataclass", "Field"),
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with open_session(lambda name, arguments, named: "real", frozenset({"llm_query"})) as opened:
        yield opened


@pytest.mark.parametrize("name", REACH)
def test_what_takes_a_name_does_not_take_this_one(session: Session, name: str) -> None:
    session.reset()
    why, code = REACH[name]
    assert session.run(code).status in ("rejected", "error"), why


@pytest.mark.parametrize("module", NOT_GIVEN)
def test_what_cannot_be_made_safe_is_not_given(session: Session, module: str) -> None:
    for name in NOT_GIVEN[module]:
        result = session.run(f"import {module}\n{module}.{name}")
        assert result.status == "error" and "has no" in result.error


@pytest.mark.parametrize("name", ["format", "register", "mro", "_x"])
def test_a_field_with_a_forbidden_name_is_refused_in_a_sentence(session: Session, name: str) -> None:
    code = f"from dataclasses import dataclass\n@dataclass\nclass Note:\n    {name}: int = 1"
    assert f"a field cannot be called {name} here; choose another name" in session.run(code).error


def test_a_dataclass_of_ours_does_what_the_librarys_does(session: Session) -> None:
    code = """
from dataclasses import *
@dataclass
class A:
    x: int
    y: list = field(default_factory=list)
    z: str = field(default="q", repr=False)
@dataclass(frozen=True, order=True)
class B:
    n: int = 1
@dataclass
class C(A):
    w: int = field(default=3, kw_only=True)
    def __post_init__(self): self.x += 1
print(A(1), A(1) == A(1), A(1) == A(2), asdict(A(1)), astuple(A(1, [B()])), replace(A(1), x=5))
print([f.name for f in fields(C)], C(1, w=9), is_dataclass(A), hash(B()) == hash(B()), sorted([B(2), B()]))
try: B().n = 3
except FrozenInstanceError as e: print(e)
try: A(1, 2, 3, 4)
except TypeError: print("too many")
match A(1):
    case A(x, y): print(x, y)
"""
    printed: list[str] = []
    exec(code, {"print": lambda *values: printed.append(" ".join(map(str, values))), "__name__": "plain"})
    names = "dataclass, field, fields, asdict, astuple, replace, is_dataclass, FrozenInstanceError"
    assert session.run(code.replace("*", names, 1)).stdout.splitlines() == printed
