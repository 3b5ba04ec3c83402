"""Known escapes and floods, run as cells: none reaches a forbidden object, none ends the session."""

import json
from collections.abc import Iterator

import pytest

from index_store.types import Json
from rlm.sandbox import SandboxLimits, Session, open_session
from tests.helpers.places import data_file
from tests.helpers.sandbox_sessions import stopped_soon

LIMITS = SandboxLimits(memory_mb=200)

# Ours: gadgets that read an attribute whose name is data, or that reach the metaclass or a module.
GADGETS = {
    "metaclass": "T = type(int)\nT('X', (), {})\nR = T",
    "metaclass of an abc": "import collections.abc\nT = type(collections.abc.Mapping)\nR = T('X', (), {})",
    "renamed field": """
from dataclasses import dataclass, field, asdict
spare = field(default=0)
@dataclass
class A:
    x: int = spare
spare.name = '__class__'
R = asdict(A())['__class__']""",
    "super format": "class S(str):\n    def r(self, o): return super().format(o)\nR = S('{0.__class__}').r(1)",
    "format through a pattern": "match '{0.__class__}':\n    case str(format=f): R = f(1)",
    "format through a map": "R = list(map(str.format, ['{0.__class__}'], [1]))",
    "wraps with names": "import functools\nR = functools.wraps(len, assigned=('__self__',))",
    "facade is read-only": "json.loads = print\nR = 1",
    "facade class is read-only": "type(json).loads = print\nR = 1",
    "facade has no class call": "R = type(json)()",
    "pattern around a text": "p = re.Pattern('{0.__globals__}', lambda x: x)\nR = p.format(llm_query)",
    "pattern with a text put in": "p = re.compile('x')\np.compiled = '{0.__globals__}'\nR = p.format(llm_query)",
    "format of the whole text": "R = context.format(llm_query)",
    "alias around a text": "R = type(list[int])('{0.__globals__}', (int,)).format(llm_query)",
    "module in a function": "R = re.sub.__globals__",
    "exit traceback": """
class C:
    def __enter__(self): return self
    def __exit__(self, kind, error, tb):
        self.tb = tb
        return True
with C() as c: 1 / 0
R = c.tb.tb_frame""",
    "generator frame": "g = (g.gi_frame for _ in [1])\nR = list(g)",
    "stub closure": "R = llm_query.__closure__",
    "context internals": "R = context._call",
    "attribute getter": "from operator import attrgetter\nR = attrgetter('__class__')(1)",
    "formatter": "from string import Formatter\nR = Formatter().get_field('0.__class__', (1,), {})",
    "type hints": "from typing import get_type_hints\nR = get_type_hints",
    "lambda in a forward reference": "from typing import ForwardRef\nR = ForwardRef('1')",
    "class of a traceback": """
class C:
    def __enter__(self): return self
    def __exit__(self, *parts):
        self.parts = parts
        return True
with C() as c: 1 / 0
R = type(c.parts[2])(None, None, 0, 1)""",
    "pattern around a traceback": """
class C:
    def __enter__(self): return self
    def __exit__(self, *parts):
        self.parts = parts
        return True
with C() as c: 1 / 0
R = re.Pattern(c.parts[2], str).pattern""",
    "cache around a module's class": "R = functools.lru_cache(type(json)).loads.__func__",
    "descriptor of one class on another": "class A: real = classmethod(int.real)\nR = A.real()",
    "end of a cell as a class": """
try: FINAL('x')
except BaseException as e: End = type(e)
answer['ready'] = False
End.x = 1""",
    "refused call as a class": """
try: llm_query(object())
except Exception as e: Refused = type(e)
Refused.x = 1""",
    "map of text as a class": "R = type({}.keys().mapping)('x')",
    "record with a frame's name": """
import collections
class Row(collections.namedtuple('Row', 'gi_frame x')): pass
match Row(1, 2):
    case Row(frame, x): R = frame""",
    "private name of a module as self": "self = statistics\nR = self._sum",
    "private name of an alias as self": "self = list[int]\nself._x = 1",
    "abstract class as a proxy's base": "class A(super): pass",
    "call kept in rows": "R = context.rows()._read",
    "rows as one's own object": "self = context.rows()\nR = self._read",
    "rows written as one's own object": "self = context.rows()\nself._read = print",
    "name set on rows": "context.rows().x = 1",
    "rows made by their class": "R = type(context.rows())('x', 0, 9, print)[0]",
    "rows as a base": "class A(context.rows()): pass",
    "class of rows as a base": "class A(type(context.rows())):\n    def r(self): return self._read\nR = A().r()",
    "rows by a pattern": "match context.rows():\n    case object(_read=r): R = r",
    "rows by a template": "R = '{0._read.__globals__}'.format(context.rows())",
    "frame of rows": "R = context.rows()._frame",
    "loop over rows taken apart": "R = iter(context.rows()).__reduce__()[1][0].__self__",
    "page of rows that is none": "R = context.read_rows(object(), 0, 1)",
    "method of answers": "R = llm_map().counts.__func__",
    "method of answers changed": "llm_map().counts = print",
    "answers made by their class": "R = type(llm_map())([], [], {}, {}).counts",
    "counts of answers in private": "self = llm_map()\nR = self._intervals",
    "class of answers changed": "type(llm_map()).counts = print",
}
FLOODS = {
    "calls": "while True: llm_query('x')",
    "refusals": "while True:\n    try: missing.search()\n    except BaseException: pass",
    "output": "while True: print('x' * 1000)",
    "frames": "x = ['y' * 10**6] * 7\nwhile True: llm_query(x)",
    "too large": "llm_query('y' * 10**7)",
    "recursion": "def f(): return f()\nf()",
    "nested lists": "x = []\nfor i in range(10**6): x = [x]\nllm_query(x)",
    "nested repr": "x = []\nfor i in range(10**5): x = [x]\nx",
    "lying length": "class L(list):\n    def __len__(self): return 10**12\nllm_query(L())",
    "odd keys": "llm_query({1: 2, (3, 4): 5})",
    "answer of itself": "answer['content'] = answer\nanswer['citations'] = [answer]\nanswer['ready'] = True",
    "answer that raises": "class A:\n    def __str__(self): raise BaseException\nFINAL(A())",
    "huge answer": "FINAL('x' * 10**8)",
    "huge citations": "FINAL('x', citations=['y' * 10**7] * 9)",
    "finish in finish": "class A:\n    def __str__(self): FINAL(1)\nFINAL(A())",
    "raise a class with a hostile name": "class E(BaseException):\n    def __repr__(self): return 1\nraise E",
    "rows in rows": "while True: context.rows()[0:9][1:][0]",
    "rows that are added up": "x = context.rows()\nwhile True: x = x[:1] + x[:1]",
    "unprintable echo": "class A:\n    def __repr__(self): return 3\nA()",
}


SERVED: dict[str, Json] = {
    "context.text": "{0.__globals__}",
    "context.rows": {"rows": "{0.__globals__}", "start": 0, "stop": 9, "count": 9},
    "context.read_rows": [{"row": "a 0-1", "text": "{0.__globals__}"}],
    "llm_map": {"columns": {"row": ["a 0-1"], "label": ["x"]}, "intervals": {"label": {"x": [1, 0, 1]}}},
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    def serve(name: str, arguments: list[Json], named: dict[str, Json]) -> Json:
        return SERVED.get(name, "real")

    with open_session(
        serve, frozenset({"llm_query", "context.search", *SERVED}), LIMITS, {"context_length": 10}
    ) as opened:
        yield opened


def survives(session: Session) -> bool:
    return session.run("1 + 1").stdout == "2\n"


@pytest.mark.parametrize("name", GADGETS)
def test_a_gadget_gets_nothing(session: Session, name: str) -> None:
    session.reset()
    result = session.run(GADGETS[name])
    assert result.status in ("rejected", "error"), result
    assert survives(session)


def test_the_answer_never_holds_a_name_the_cell_may_not_say(session: Session) -> None:
    session.reset()
    session.run("class S(str):\n    def startswith(self, *p): return False\nFINAL_VAR(S('__builtins__'))")
    assert session.run("type(answer['content']).__name__").stdout == "'S'\n"


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_and_the_session_goes_on(session: Session, name: str) -> None:
    session.reset()
    result = stopped_soon(session, FLOODS[name])
    assert len(result.stdout) + len(result.error) < 50_000
    assert survives(session)


def test_known_attacks_break_nothing(session: Session) -> None:
    broken = []
    lines = data_file("repl/attacks.jsonl").read_text(encoding="utf-8").splitlines()
    for attack in map(json.loads, lines):
        session.reset()
        result = stopped_soon(session, attack["code"])
        if not survives(session) or (result.status == "ok" and attack["goal"] not in ("dos", "tamper")):
            broken.append((attack["id"], result.status))
    assert broken == []
