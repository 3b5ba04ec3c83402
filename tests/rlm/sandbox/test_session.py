"""Sessions: what a model's cells see, and that nothing a cell does ends more than its own worker."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from index_store.types import Json
from rlm.errors import RlmError
from rlm.sandbox import CallRefused, SandboxLimits, SandboxUnavailable, Session, open_session, spawn
from rlm.sandbox.dialogue import Line
from rlm.sandbox.session import LinuxSession
from rlm.sandbox.types import Serve
from tests.helpers.sandbox_sessions import TEXT, serve, shown, start, stopped_soon, unhurried

SHORT = SandboxLimits(cell_timeout_s=0.3)  # for cells that never end; others are run unhurried


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that a busy machine makes slow are replayed all the same."""
    monkeypatch.setattr("rlm.sandbox.session.REPLAY_S", 60)


@pytest.fixture(scope="module")
def shared() -> Iterator[LinuxSession]:
    with start(SandboxLimits(cell_timeout_s=120)) as session:
        yield session


@pytest.fixture
def session(shared: LinuxSession) -> LinuxSession:
    shared.reset()
    return shared


def test_code_that_is_rejected_takes_no_answer_that_an_earlier_cell_left(session: LinuxSession) -> None:
    session.run(
        "class A:\n    def __str__(self):\n        answer['ready'] = True\n        return 'x'\nFINAL(A())"
    )
    result = session.run("import os")
    assert (result.status, result.answer) == ("rejected", None)


LEAVES = """
def late():
    try: yield
    finally: print('late', llm_query('late'))
SUBMIT = late()
next(SUBMIT)
loop = [late()]
next(loop[0])
loop.append(loop)
del loop
"""


def test_nothing_that_an_earlier_cell_left_runs_before_a_cell_is_scanned() -> None:
    calls: list[str] = []

    def record(name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
        calls.append(name)
        return "reply"

    with start(SandboxLimits(cell_timeout_s=30), serve=record) as session:
        session.run(LEAVES)
        rejected = session.run("import os\n" + "x = [[1], (2,), {3: 4}]\n" * 5_000)
        assert (rejected.status, rejected.rule, calls) == ("rejected", "import os", [])
        assert "late reply" in session.run("print(1)").stdout
        assert len(calls) >= 1


FULL = """
kept = []
try:
    while True: kept.append(bytearray(10**6))
except MemoryError: del kept[-8:]
try: llm_query('large')
except MemoryError: kept.clear()
print(llm_query('small'))
"""


def test_a_reply_for_which_there_is_no_memory_is_not_taken_for_the_next() -> None:
    def reply(name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
        return "x" * 20_000_000 if arguments == ["large"] else "y"

    with start(SandboxLimits(cell_timeout_s=60, memory_mb=300), serve=reply) as session:
        result = session.run(FULL)
        assert (result.status, result.stdout) == ("ok", "y\n")


CLAIMANT = """
import re, time, typing
class Text(str):
    def __hash__(self): return hash(self.seen)
    def __eq__(self, other): return True
class Number(int):
    def __hash__(self): return hash(0)
    def __eq__(self, other): return True
class Kind:
    def __hash__(self): return hash(int)
    def __eq__(self, other): return True
    def __call__(self): pass
"""
CLAIMS = {
    "flags of a pattern": ("re.match('abc', 'ABC', Number(2))", "re.match('abc', 'ABC')", ""),
    "template of a pattern": (
        "t = Text(r'false\\1')\nt.seen = r'[\\1]'\nre.match('(a)', 'a').re.sub(t, 'a')",
        "re.sub('(a)', r'[\\1]', 'a')",
        "'[a]'\n",
    ),
    "form of a date": (
        "t = Text('%Y/%m')\nt.seen = '%Y-%m'\ntime.strptime('1999/01', t)",
        "time.strptime('2001-02', '%Y-%m').tm_year",
        "2001\n",
    ),
    "type": ("typing.Optional[Kind()]", "typing.Optional[int]", "typing.Optional[int]\n"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_an_object_that_lies_about_what_it_equals_stands_for_nothing_in_later_cells(
    session: LinuxSession, name: str
) -> None:
    claim, asked, out = CLAIMS[name]
    session.run(CLAIMANT)
    session.run(claim)
    result = session.run(asked)
    assert (result.status, result.stdout) == ("ok", out)


def line_of(session: LinuxSession) -> Line:
    """The session's line to its worker."""
    assert session._line is not None
    return session._line


@pytest.mark.parametrize(
    ("code", "out"),
    [
        ("1 + 1", "2\n"),
        ("'text'", "'text'\n"),
        ("None", ""),
        ("print('a', 'b', sep='-', end='!')", "a-b!"),
        ("x = 3\nx, x", "(3, 3)\n"),
        ("await llm_query('q')", "'llm_query:q'\n"),
        ("async def f(p):\n    return await llm_query(p)\nr = await f('z')\nprint(r)", "llm_query:z\n"),
        ("import asyncio\nawait asyncio.gather(*[llm_query(p) for p in 'ab'])", "['llm_query:a', 'llm_query:b']\n"),
        ("import asyncio\nasync def main():\n    return 5\nasyncio.run(main())", "5\n"),
        ("echo((1, 2), k={'a': [None]})", "[[[1, 2]], {'k': {'a': [None]}}]\n"),
        ("re.findall('a.p', 'alpha')", "['alp']\n"),
        ("import datetime as dt\ndt.date(2020, 2, 29).isoformat()", "'2020-02-29'\n"),
        ("from datetime import datetime\ndatetime.strptime('3 May 2021', '%d %B %Y').year", "2021\n"),
        ("from collections import Counter\nCounter('aab').most_common(1)", "[('a', 2)]\n"),
        ("import collections.abc\nisinstance([], collections.abc.Iterable)", "True\n"),
        ("import csv, io\nlist(csv.reader(io.StringIO('a,b\\n1,2')))", "[['a', 'b'], ['1', '2']]\n"),
        ("import statistics\nstatistics.mean([1, 2, 3])", "2\n"),
        ("type(3).__name__", "'int'\n"),
        ("type(ValueError('x')).__name__", "'ValueError'\n"),
        ("'{:>4}|{n[0]}|{d.year}'.format(7, n=[1], d=datetime.date(2020, 1, 1))", "'   7|1|2020'\n"),
        ("list(map('{0}!'.format, 'ab'))", "['a!', 'b!']\n"),
        ("if __name__ == '__main__':\n    print('main')", "main\n"),
        ("x = 5\ndir()", "['x']\n"),
        ("__name__", "'__main__'\n"),
        ("match {'k': [1, 2]}:\n    case {'k': [a, *rest]}:\n        print(a, rest)", "1 [2]\n"),
        ("lines = [l for l in TEXT.split()] if 'TEXT' in dir() else []\nlines", "[]\n"),
        ("sum(i for i in range(10) if i % 2)", "25\n"),
        ("", ""),
        ("# only a comment", ""),
    ],
)  # fmt: skip
def test_a_cell_shows_what_it_prints_and_its_last_expression(
    session: LinuxSession, code: str, out: str
) -> None:
    assert shown(session, code) == out


SINCE_3_12 = [
    ("def first[T](items: list[T]) -> T: return items[0]\nfirst([7])", "7\n"),
    ("async def f[T: (int, str)](x: T) -> T: return await llm_query(x)\nawait f('q')", "'llm_query:q'\n"),
    ("def f[*Ts, **P](*a: *Ts, **k: P.kwargs): return a\nf(1, 2)", "(1, 2)\n"),
    (
        "class Box[T]:\n    def __init__(self, it: T): self._it = it\n    def get(self) -> T: return self._it\n"
        "class Big[T](Box[T]): pass\nBig[int](3).get(), Big[str], isinstance(Big(1), Box)",
        "(3, __main__.Big[str], True)\n",
    ),
    (
        "from dataclasses import dataclass, asdict\n@dataclass\nclass Point[T]:\n    x: T\n"
        "match Point[int](1):\n    case Point(x): print(x, asdict(Point(x)), Point(x))",
        "1 {'x': 1} Point(x=1)\n",
    ),
    ("type Pair[A, B] = tuple[A, B]\nPair, Pair[int, str], Pair[int, int] | None",
     "(Pair, Pair[int, str], Pair[int, int] | None)\n"),
    ('w = {"a": 1}\nf"{w["a"]:>{w["a"] + 2}} {"\\n".join(["x", "y"])} {f"{f"{3}"}"}"', "'  1 x\\ny 3'\n"),
    ("list(itertools.batched('abc', 2))", "[('a', 'b'), ('c',)]\n"),
]  # fmt: skip
SINCE_3_13 = [
    ("class Box[T = int]: pass\nBox[str], Box()  and 1", "(__main__.Box[str], 1)\n"),
    ("def f[T = int, *Ts = *tuple[int, str], **P = [int]](x: T) -> T: return x\nf(2)", "2\n"),
]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
@pytest.mark.parametrize(("code", "out"), SINCE_3_12)
def test_a_cell_may_use_the_syntax_of_3_12(session: LinuxSession, code: str, out: str) -> None:
    assert shown(session, code) == out


@pytest.mark.skipif(sys.version_info < (3, 13), reason="syntax of Python 3.13")
@pytest.mark.parametrize(("code", "out"), SINCE_3_13)
def test_a_cell_may_use_the_syntax_of_3_13(session: LinuxSession, code: str, out: str) -> None:
    assert shown(session, code) == out


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_a_lazy_bound_that_fails_fails_nothing_until_it_is_asked_for(session: LinuxSession) -> None:
    assert shown(session, "def f[T: missing](x: T): return x\ntype X = 1 / 0\nf(1)") == "1\n"


def test_an_error_in_a_pattern_is_caught_by_its_old_and_its_new_name(session: LinuxSession) -> None:
    for name in ("error", "PatternError"):
        assert shown(session, f"try: re.compile('(')\nexcept re.{name}: print('caught')") == "caught\n"


@pytest.mark.parametrize(
    ("code", "out"),
    [
        ("len(context)", f"{len(TEXT)}\n"),
        ("context[:5]", "'alpha'\n"),
        ("context[-6:]", "'delta\\n'\n"),
        ("context[0:5:2]", "'apa'\n"),
        ("context[::-1][:3]", "'\\nat'\n"),
        ("context[1], context[-1]", "('l', '\\n')\n"),
        ("'gamma' in context, 'nope' in context", "(True, False)\n"),
        ("context.split()[:2]", "['alpha', 'beta']\n"),
        ("len(str(context))", f"{len(TEXT)}\n"),
        ("len(f'{context}')", f"{len(TEXT)}\n"),
        ("len(re.findall('gamma', context))", "50\n"),
        ("len(re.compile('gamma').findall(context))", "50\n"),
        ("isinstance(context, str)", "True\n"),
        ("context.search('q')", "'context.search:q'\n"),
        ("len('>' + context)", f"{len(TEXT) + 1}\n"),
        ("[c for c in context][:2]", "['a', 'l']\n"),
        ("echo(context)[0][0][:5]", "'alpha'\n"),
        ("len('{}'.format(context))", f"{len(TEXT)}\n"),
        ("context == context", "True\n"),
    ],
)
def test_the_context_object_behaves_like_text(session: LinuxSession, code: str, out: str) -> None:
    assert shown(session, code) == out


def test_the_context_names_its_verbs(session: LinuxSession) -> None:
    assert "search" in shown(session, "context")
    result = session.run("context.nonsense()")
    assert result.status == "error" and "search" in result.error


def test_a_plain_text_context_is_a_str() -> None:
    with start(intro={"context_text": "tiny", "names": {"question": "why?"}}) as session:
        assert shown(session, "type(context), question") == "(<class 'str'>, 'why?')\n"


def test_variables_stay_and_functions_see_later_ones(session: LinuxSession) -> None:
    session.run("def f():\n    return later")
    session.run("later = 7")
    assert shown(session, "f()") == "7\n"


def test_variables_of_a_cell_that_raised_are_kept(session: LinuxSession) -> None:
    assert session.run("kept = 1\n1 / 0").status == "error"
    assert shown(session, "kept") == "1\n"


def test_small_classes_and_dataclasses_work(session: LinuxSession) -> None:
    code = """
from dataclasses import dataclass, field, asdict
@dataclass(order=True)
class Point:
    x: int
    tags: list = field(default_factory=list)
    def __post_init__(self):
        self._seen = True
class Bag:
    def __init__(self, items): self._items = items
    def __len__(self): return len(self._items)
    def __iter__(self): return iter(self._items)
    def __repr__(self): return f"{self.__class__.__name__}({self._items})"
class Deep(Bag):
    def __init__(self, items):
        super().__init__(items)
asdict(Point(1, ['a'])), Point(1) < Point(2), Deep([1]), len(Deep([1, 2])), sorted(Deep([3, 1]))
"""
    assert shown(session, code) == "({'x': 1, 'tags': ['a']}, True, Deep([1]), 2, [1, 3])\n"


def test_errors_carry_type_message_and_the_cells_own_lines(session: LinuxSession) -> None:
    session.run("def half(n):\n    return n / 0")
    result = session.run("x = 1\nhalf(x)")
    assert result.error.splitlines() == [
        "ZeroDivisionError: division by zero",
        "  line 2: half(x)",
        "  line 2 of cell 1 in half: return n / 0",
    ]
    assert result.line == 2


def test_errors_carry_no_path_of_this_machine(session: LinuxSession) -> None:
    errors = [
        session.run(code).error for code in ("json.loads('{')", "re.compile('(')", "refused()", "x = (")
    ]
    assert all(errors)
    assert not any("/" in error for error in errors if "$" not in error)


def test_a_syntax_error_is_an_error_with_its_line(session: LinuxSession) -> None:
    result = session.run("x = 1\ny = = 2")
    assert (result.status, result.line) == ("error", 2)
    assert result.error.startswith("SyntaxError: invalid syntax (line 2: y = = 2)")


@pytest.mark.parametrize(
    "code", ["x = '\x00'", "x = '\ud800'", "return 1", "(" * 5000, "x = " + "-" * 50_000 + "1"]
)
def test_code_that_does_not_parse_never_ends_the_session(session: LinuxSession, code: str) -> None:
    assert session.run(code).status in ("error", "rejected", "killed")
    assert shown(session, "1") == "1\n"


def test_a_refused_call_is_an_exception_the_cell_can_catch(session: LinuxSession) -> None:
    assert session.run("refused()").error.splitlines()[0] == "ToolError: the budget is spent: $0.00 left"
    assert "spent" in shown(session, "try:\n    refused()\nexcept RuntimeError as e:\n    print(e)")


@pytest.mark.parametrize("argument", ["float('nan')", "object()", "b'x'", "{1: {2: object()}}", "10**5000"])
def test_arguments_that_are_not_json_are_the_cells_mistake(session: LinuxSession, argument: str) -> None:
    result = session.run(f"echo({argument})")
    assert result.error.startswith("ToolError: echo: the arguments cannot be sent: ")


def test_arguments_nested_too_deep_are_the_cells_mistake(session: LinuxSession) -> None:
    result = session.run("x = []\nfor _ in range(100): x = [x]\necho(x)")
    assert "nested more than 64 deep" in result.error


def test_lone_surrogates_reach_the_parent_as_replacement_characters() -> None:
    seen = []
    with start(serve=lambda name, arguments, named: seen.append(arguments)) as session:
        assert session.run("echo('\\ud800')\nprint('\\udfff')").stdout == "\ufffd\n"
    assert seen == [["\ufffd"]]


def test_a_reply_too_large_to_send_is_refused(session: LinuxSession) -> None:
    assert "73,400,3" in session.run("big()").error


def test_a_fault_in_serve_is_the_callers_and_tells_the_worker_nothing() -> None:
    with start() as session:
        session.run("x = 1")
        with pytest.raises(KeyError, match="our own bug"):
            session.run("fault()")
        assert shown(session, "1") == "1\n"


def test_a_reply_that_is_not_json_is_the_callers_fault() -> None:
    with (
        start(serve=cast(Serve, lambda *call: {1, 2})) as session,
        pytest.raises(TypeError, match="serve\\('echo'\\)"),
    ):
        session.run("echo()")


def test_a_shadowed_tool_is_itself_again_in_the_next_cell(session: LinuxSession) -> None:
    session.run("llm_query = lambda p: 'forged'")
    assert shown(session, "llm_query('x')") == "'llm_query:x'\n"


@pytest.mark.parametrize(
    ("code", "content", "citations"),
    [
        ("answer['content'] = 'a'\nanswer['ready'] = True", "a", []),
        ("answer = {'content': 5, 'citations': ('x',), 'ready': True}", "5", ["x"]),
        ("FINAL('done', citations=[{'doc': 'd'}])", "done", [{"doc": "d"}]),
        ("result = {'k': [1]}\nFINAL_VAR('result')", '{"k": [1]}', []),
        ("text = 'the answer'\nFINAL_VAR(text)", "the answer", []),
        ("SUBMIT('s')", "s", []),
        ("answer['citations'] = ['L0-1']\nFINAL('kept')", "kept", ["L0-1"]),
        ("answer['citations'] = ['L0-1']\nx = 'kept'\nFINAL_VAR('x')", "kept", ["L0-1"]),
        ("answer = {'citations': ('L0-1',)}\nSUBMIT(answer='kept')", "kept", ["L0-1"]),
        ("answer['citations'] = ['L0-1']\nFINAL('other', citations=['L0-2'])", "other", ["L0-2"]),
        ("answer['citations'] = ['L0-1']\nFINAL('none', citations=[])", "none", []),
        ("answer = 'a text'\nFINAL('done')", "done", []),
        ("SUBMIT(answer='s')", "s", []),
        ("SUBMIT(a=1, b=2)", '{"a": 1, "b": 2}', []),
        ("try:\n    FINAL('first')\nexcept Exception:\n    pass\nFINAL('second')", "first", []),
    ],
)  # fmt: skip
def test_every_known_way_to_finish_gives_an_answer(
    session: LinuxSession, code: str, content: str, citations: list[Json]
) -> None:
    result = session.run(code)
    assert result.status == "ok", result.error
    assert result.answer == {"content": content, "citations": citations, "ready": True}
    assert session.run("1").answer is None


@pytest.mark.parametrize(
    "code", ["answer['content'] = 'draft'", "answer = 'text'", "answer = None", "del answer"]
)
def test_an_answer_that_is_not_ready_is_none(session: LinuxSession, code: str) -> None:
    result = session.run(code)
    assert (result.status, result.answer) == ("ok", None)


def test_an_unknown_final_variable_is_named(session: LinuxSession) -> None:
    session.run("found = 1")
    assert session.run("FINAL_VAR('fuond')").error.startswith(
        "NameError: FINAL_VAR: no variable 'fuond'; there are: found"
    )


def test_show_vars_lists_the_models_own_names(session: LinuxSession) -> None:
    session.run("count = 3\nnames = []")
    assert shown(session, "print(SHOW_VARS())") == "count: int\nnames: list\n"


def test_long_output_keeps_head_and_tail_and_says_so(session: LinuxSession) -> None:
    result = session.run("print('x' * 10**7)\nprint('end')")
    assert (result.status, result.truncated) == ("ok", True)
    assert "9,980,005 of 10,000,005 characters left out" in result.stdout
    assert result.stdout.startswith("xxx") and result.stdout.endswith("end\n")
    assert len(result.stdout) < 20_200


def test_many_prints_are_bounded_too(session: LinuxSession) -> None:
    result = session.run("for i in range(60_000): print(i)")
    assert result.truncated and result.stdout.startswith("0\n1\n") and result.stdout.endswith("59999\n")


def test_a_session_has_an_output_allowance() -> None:
    with start(SandboxLimits(session_output_chars=100)) as session:
        assert not session.run("print('x' * 90)").truncated
        result = session.run("print('y' * 90)")
        assert result.truncated and "100 characters of output are used up" in result.stdout
        assert "y" * 11 not in result.stdout


def test_too_much_memory_is_an_error_and_the_session_goes_on() -> None:
    session = start(SandboxLimits(memory_mb=200))
    result = session.run("'a' * 10**11")
    assert (result.status, result.error.partition(":")[0]) == ("error", "MemoryError")
    assert session.run("x = []\nwhile True: x.append('a' * 10**6)").status == "error"
    assert shown(session, "x = None\n1") == "1\n"
    session.close()


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "re.match(r'(x+x+)+y', 'x' * 64)",
        "10 ** 10 ** 8",
        "import time\ntime.sleep(60)",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    ],
)
def test_a_cell_past_its_time_is_killed_and_the_variables_come_back(code: str) -> None:
    with start(SHORT) as session:
        unhurried(session, "kept = llm_query('q')")
        result = session.run(code)
        assert (result.status, result.state_lost) == ("killed", False)
        assert result.error.startswith(
            "The cell was stopped: it ran longer than 0.3 s; the variables of earlier cells are kept"
        )
        assert unhurried(session, "kept").stdout == "'llm_query:q'\n"


def test_a_killed_cell_still_shows_what_it_printed() -> None:
    with start(SandboxLimits(cell_timeout_s=3)) as session:
        result = session.run("print('before')\nllm_query('q')\nwhile True: pass")
        assert (result.status, result.stdout) == ("killed", "before\n")


def test_replies_are_replayed_not_asked_again() -> None:
    asked: list[str] = []

    def count(name: str, arguments: list[Json], named: dict[str, Json]) -> Json:
        asked.append(name)
        return len(asked)

    with start(SHORT, serve=count) as session:
        unhurried(session, "a = echo(1)")
        session.run("while True: pass")
        assert unhurried(session, "a").stdout == "1\n"
    assert asked == ["echo"]


def test_what_cannot_be_replayed_is_said_to_be_lost() -> None:
    code = "import time\nfor _ in range(int(time.time() * 1e6) % 97): echo('again')\nx = 1"
    with start(SHORT) as session:
        unhurried(session, "import time\nx = echo(time.perf_counter())")
        result = session.run("while True: pass")
        assert result.state_lost and "the variables of earlier cells are gone" in result.error
        assert unhurried(session, "x").error.startswith("NameError")
        assert unhurried(session, code).status == "ok"


def test_a_call_is_on_the_cells_clock_unless_who_serves_it_pauses_the_clock() -> None:
    def serve(name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
        with mine.clock.paused() if arguments else nullcontext():
            time.sleep(2.0)
        return None

    with start(SandboxLimits(cell_timeout_s=1.5), serve=serve) as mine:
        assert mine.run("echo('paused')").status == "ok"
        result = mine.run("echo()\nwhile True: pass")
        assert result.status == "killed" and "it ran longer than 1.5 s" in result.error


def test_the_time_that_calls_took_does_not_cost_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm.sandbox.session.REPLAY_S", 1.5)

    def slow(name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
        time.sleep(2.0)
        return "told"

    with start(serve=slow) as mine:
        unhurried(mine, "x = echo()")
        assert not stopped_soon(mine, "while True: pass").state_lost
        assert unhurried(mine, "x").stdout == "'told'\n"


def test_a_call_under_way_when_its_session_is_killed_has_no_time_left() -> None:
    left: list[float] = []

    def serve(*call: Any) -> None:
        left.append(mine.clock.left_s())
        mine.kill()
        left.append(mine.clock.left_s())

    with start(serve=serve) as mine:
        assert mine.run("echo()").status == "killed"
    assert left[0] > 0 >= left[1]


def test_too_many_refusals_end_the_cell() -> None:
    with start(SandboxLimits(refusals=20)) as session:
        result = session.run("while True:\n    try: refused()\n    except: pass")
        assert result.status == "killed" and "more than 20 of its calls were refused" in result.error
        assert shown(session, "1") == "1\n"


def test_a_cell_may_make_only_so_many_calls() -> None:
    with start(SandboxLimits(calls_per_cell=5)) as session:
        assert "one cell may make 5 calls" in session.run("for i in range(6): echo(i)").error
        assert session.run("echo(1)").status == "ok"


def test_processor_time_has_an_end() -> None:
    with start(SandboxLimits(cell_timeout_s=120, cpu_s=1)) as session:
        assert "more than 1 s of processor time" in session.run("while True: pass").error


def test_reset_empties_the_namespace(session: LinuxSession) -> None:
    session.run("x = 1")
    session.reset()
    assert session.run("x").error.startswith("NameError")


def test_kill_from_another_thread_ends_the_running_cell() -> None:
    with start() as session:
        threading.Timer(0.2, session.kill).start()
        result = session.run("while True: pass")
        assert result.status == "killed" and "ended from outside" in result.error
        assert session.run("1").status == "killed"


def test_kill_during_a_call_ends_the_cell_when_the_call_returns() -> None:
    opened: list[Session] = []
    with start(serve=lambda *call: opened[0].kill()) as session:
        opened.append(session)
        assert session.run("echo()\nwhile True: pass").status == "killed"


def test_a_worker_that_dies_by_itself_is_replaced(session: LinuxSession) -> None:
    session.run("x = 1")
    line_of(session).worker.kill()
    result = session.run("x")
    assert result.status == "killed"
    assert shown(session, "x") == "1\n"


def test_bytes_that_are_no_frame_end_the_worker_and_not_the_parent() -> None:
    with start() as session:
        session.run("x = 1")
        line_of(session).buffer += b"\xff\xff\xff\xff"
        result = session.run("x")
        assert "something that is no message" in result.error and not result.state_lost


def test_a_dead_zygote_is_started_again() -> None:
    with start() as session:
        session.run("x = 1")
        zygote = spawn.running_zygote().process
        zygote.kill()
        zygote.wait()
        assert session.run("x").status == "killed"
        assert shown(session, "x") == "1\n"


def test_a_python_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn.stop_zygote()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SandboxUnavailable, match=r"did not start: .*No such file"):
        start()


def test_many_sessions_run_at_once_and_leave_nothing_behind() -> None:
    with start():
        open_before = len(list(Path("/proc/self/fd").iterdir()))
        sessions = [start() for _ in range(64)]
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(lambda item: item[1].run(f"{item[0]} * 2").stdout, enumerate(sessions)))
        pids = [line_of(session).worker.pid for session in sessions]
        for session in sessions:
            session.close()
        assert results == [f"{i * 2}\n" for i in range(64)]
        assert len(list(Path("/proc/self/fd").iterdir())) == open_before
        wait_until_gone(pids)


def wait_until_gone(pids: Iterable[int]) -> None:
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end, "workers are still there"
        time.sleep(0.01)


def test_a_worker_is_seen_confined_from_outside() -> None:
    with start() as session:
        status = Path(f"/proc/{line_of(session).worker.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (fields["Seccomp"], fields["NoNewPrivs"], fields["CapEff"]) == ("2", "1", "0" * 16)
    if os.geteuid() == 0:
        assert fields["Uid"].split()[0] == "65534"


def test_the_worker_has_one_descriptor() -> None:
    with start() as session:
        pid = line_of(session).worker.pid
        if not os.access(f"/proc/{pid}/fd", os.R_OK):
            pytest.skip("another user's descriptors cannot be listed")
        assert [path.name for path in Path(f"/proc/{pid}/fd").iterdir()] == ["3"]


def test_a_hash_of_text_is_the_same_in_every_session(session: LinuxSession) -> None:
    code = "list({'a', 'b', 'c', 'd'}), random.random()"
    first = shown(session, code)
    session.reset()
    assert shown(session, code) == first


def test_errors_of_the_package_are_one_family() -> None:
    assert issubclass(CallRefused, RlmError)


LIAR = """
class S(str):
    def __len__(self): 1 / 0
    def __getitem__(self, key): return 5
    def __add__(self, other): return 5
"""


@pytest.mark.parametrize(
    "code",
    [
        LIAR + "class E(Exception):\n    def __str__(self): return S('x')\nraise E",
        LIAR + "class A:\n    def __str__(self): return S('x')\nprint(A())",
        LIAR + "class A:\n    def __str__(self): return S('x')\nFINAL(A())",
        LIAR + "class A:\n    def __repr__(self): return S('x')\nA()",
        "e = SyntaxError('x')\ne.text = 5\ne.lineno = 'one'\nraise e",
        "class E(Exception):\n    lineno = 'one'\nraise E",
        "class K:\n    def __hash__(self): return hash('ready')\n    def __eq__(self, o): 1 / 0\nanswer = {K(): 1}",
        "class N:\n    def __repr__(self): raise KeyboardInterrupt\nraise ValueError(N())",
        "FINAL('\U0001f600' * 10**6, citations=['\U0001f600' * 170_000])",
    ],
)  # fmt: skip
def test_objects_that_lie_about_themselves_never_end_the_worker(session: LinuxSession, code: str) -> None:
    session.run("kept = 1")
    assert session.run(code).status in ("ok", "error")
    assert shown(session, "kept") == "1\n"


def test_a_fault_in_serve_leaves_the_variables() -> None:
    with start() as session:
        session.run("x = 1")
        with pytest.raises(KeyError):
            session.run("fault()")
        assert shown(session, "x") == "1\n"


def test_a_cell_that_goes_another_way_on_replay_is_lost() -> None:
    code = "import time\nif time.time() < {later}: 1 / 0\nx = 2"
    with start(SHORT) as session:
        while unhurried(session, code.format(later=time.time() + 0.2)).status == "ok":
            session.reset()  # the machine was busy until later
        time.sleep(0.3)
        assert session.run("while True: pass").state_lost


def test_a_session_that_took_too_much_to_replay_keeps_nothing_of_it() -> None:
    with start(SandboxLimits(cell_timeout_s=120), serve=lambda *call: "y" * (4 << 20)) as session:
        for _ in range(6):
            session.run("x = echo()")
        assert session._history == []
        line_of(session).worker.kill()
        assert session.run("x").state_lost
        session.run("x = 1")
        line_of(session).worker.kill()
        assert not session.run("x").state_lost and shown(session, "x") == "1\n"


def test_errors_count_as_output_too() -> None:
    with start(SandboxLimits(session_output_chars=5000)) as session:
        sizes = [len(session.run("raise ValueError('x' * 3000)").error) for _ in range(4)]
        assert sizes[0] > 3000 and sizes[-1] <= 200
        assert session.run("1 / 0").error.startswith("ZeroDivisionError: division by zero")


def test_a_verb_that_is_not_served_is_the_cells_mistake_and_no_forged_frame() -> None:
    with open_session(serve, frozenset({"context.search"}), intro={"context_length": 5}) as session:
        assert "there is no call 'context.contains'" in session.run("'x' in context").error
        assert shown(session, "context.search('q')") == "'context.search:q'\n"


def test_small_classes_with_private_names_work(session: LinuxSession) -> None:
    code = """
from dataclasses import dataclass
@dataclass
class Page:
    layout: str
    number: int = 1
    def text(self): return '{}-{}'.format(self.layout, self.number)
class Counter_:
    def __init__(self): self._n = 0
    def more(self):
        self._n += 2
        return self._n
    @classmethod
    def made(cls):
        cls._made = True
        return cls._made
class Node:
    def __init__(self, obj): self.obj = obj
match Page('a4', 3):
    case Page(number=n): pass
Page('a4').text(), Counter_().more(), Counter_.made(), n
"""
    assert shown(session, code) == "('a4-1', 2, True, 3)\n"


def test_positional_patterns_work_for_small_classes(session: LinuxSession) -> None:
    code = "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int\n"
    assert shown(session, code + "match P(1, 2):\n    case P(a, b): r = a, b\nr") == "(1, 2)\n"


@pytest.mark.slow
def test_a_thousand_sessions_leave_no_process_descriptor_or_memory() -> None:
    def once() -> None:
        with start(serve=lambda *call: "x" * 1000) as session:
            assert session.run("x = echo()\nlen(x)").stdout == "1000\n"

    def state() -> tuple[int, int, int, int]:
        zygote = spawn.running_zygote().process.pid
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        own = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10
        return len(children), len(list(Path("/proc/self/fd").iterdir())), own, resident_kb(zygote)

    for _ in range(50):
        once()
    processes, descriptors, own, zygote = state()
    for _ in range(1000):
        once()
    time.sleep(0.2)
    after = state()
    assert after[0] <= processes and after[1] <= descriptors
    assert after[2] - own < 4_000 and after[3] - zygote < 2_000


def resident_kb(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in fields if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(): 0\nF = type(f)\nF.__name__, isinstance(len, F), isinstance(f, F)", "('function', False, True)\n"),
        ("type(lambda: 0)", "<class 'function'>\n"),
        ("import copy\na = [[1]]\nb = copy.deepcopy(a)\nb[0].append(2)\na, copy.copy(b)", "([[1]], [[1, 2]])\n"),
        ("import copy\nlen(copy.copy(context)) == len(context)", "True\n"),
    ],
)  # fmt: skip
def test_copies_and_the_types_of_functions_are_there_without_their_power(
    session: LinuxSession, code: str, said: str
) -> None:
    assert shown(session, code) == said


def test_the_type_of_a_function_makes_none(session: LinuxSession) -> None:
    assert "makes nothing" in session.run("type(lambda: 0)(1, {})").error
