"""The Monty backend: the same session, in an interpreter of its own; only where it is asked for."""

import importlib.util
import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from index_store.types import Json
from rlm.audit import read
from rlm.cli import main
from rlm.sandbox import SandboxLimits, SandboxUnavailable, Session, open_session
from rlm.sandbox.monty import prelude, without_await
from tests.helpers import attacks
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.rlm_toy import embedded, warm_up
from tests.helpers.sandbox_scene import scenes
from tests.helpers.sandbox_sessions import CALLS, TEXT, serve, shown, start_monty
from tests.helpers.toy import toy_index


@pytest.fixture
def session() -> Iterator[Session]:
    with start_monty(SandboxLimits(cell_timeout_s=10, memory_mb=200)) as opened:
        yield opened


def is_installed() -> bool:
    return importlib.util.find_spec("pydantic_monty") is not None


def test_the_backend_that_is_asked_for_is_the_one_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warm_up()
    embedded(monkeypatch)
    toy_index(tmp_path / "toy.index")
    code = "print(context.search('mizzen', k=1)[0]['node'])\nclass A:\n    x = 1\nFINAL(str(len(context)))"
    with ModelServer([f"```python\n{code}\n```"]) as server:
        server.use(monkeypatch)
        command = [
            "ask",
            str(tmp_path / "toy.index"),
            "why?",
            "--model",
            MODEL,
            "--runs",
            str(tmp_path),
            "--json",
        ]
        ended = main([*command, "--backend", "monty"])
    said = capsys.readouterr()
    if not is_installed():
        assert ended == 2 and "the Monty backend is not installed" in said.err
        return
    assert (ended, json.loads(said.out)["answer"]) == (0, "166")
    opened = read(json.loads(said.out)["trace"])[0][0]
    assert opened["limits"]["backend"] == "monty"


def test_the_shell_has_the_backend_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warm_up()
    toy_index(tmp_path / "toy.index")
    lines = '{"code": "x = len(context)"}\n{"code": "print(x)"}\n{"code": "def f():\\n    yield 1"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    ended = main(["shell", str(tmp_path / "toy.index"), "--json", "--backend", "monty"])
    said = capsys.readouterr()
    if not is_installed():
        assert ended == 2 and "the Monty backend is not installed" in said.err
        return
    results = [json.loads(line) for line in said.out.splitlines()]
    assert (
        ended == 0 and results[1]["stdout"] == "166\n" and results[2]["status"] == "error"
    )  # no yield there


def test_without_the_extra_the_backend_is_refused_by_name() -> None:
    if not is_installed():
        with pytest.raises(SandboxUnavailable, match=r"not installed .*raptor-rlm\[monty\]"):
            open_session(serve, CALLS, backend="monty")


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("await f()\n", "f()\n"),
        ("x = (await f(await g()))", "x = (f(g()))"),
        ("await asyncio.gather(f(), await g())", "_rlm_gather(f(), g())"),
        ("asyncio.sleep(1), my.asyncio.gathers", "asyncio.sleep(1), my.asyncio.gathers"),
        ("async def f():\n    return await g()", "def f():\n    return g()"),
        ("print('await f()')", "print('await f()')"),
        ("# await\nawaited = 1", "# await\nawaited = 1"),
        ("x = (", "x = ("),
        ("  bad\n indent", "  bad\n indent"),
        ("", ""),
    ],
)
def test_await_is_taken_out_and_nothing_else(code: str, left: str) -> None:
    assert without_await(code) == left


def test_the_prelude_has_a_method_for_each_verb_and_none_for_plain_text() -> None:
    assert "def search(self" in prelude(CALLS, False)
    assert "class" not in prelude(CALLS, True)


@pytest.mark.parametrize(
    ("code", "out"),
    [
        ("1 + 1", "2\n"),
        ("None", ""),
        ("print('a', 'b', sep='-')", "a-b\n"),
        ("await llm_query('q')", "'llm_query:q'\n"),
        ("import asyncio\nawait asyncio.gather(*[llm_query(p) for p in 'ab'])", "['llm_query:a', 'llm_query:b']\n"),
        ("llm_query_batched(['a', 'b'])", "['reply:a', 'reply:b']\n"),
        ("echo((1, 2), k={'a': {3}})", "[[[1, 2]], {'k': {'a': [3]}}]\n"),
        ("re.findall('a.p', 'alpha')", "['alp']\n"),
        ("len(context)", f"{len(TEXT)}\n"),
        ("len('abc')", "3\n"),
        ("context.search('q', k=3)", "'context.search:q'\n"),
        ("context.slice(0, 5)", "'alpha'\n"),
        ("context.contains('gamma')", "True\n"),
        ("class Point:\n    def __init__(self, x): self.x = x\nPoint(3).x", "3\n"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(3))", "P(x=3)\n"),
    ],
)  # fmt: skip
def test_a_cell_shows_what_it_prints_and_its_last_expression(session: Session, code: str, out: str) -> None:
    assert shown(session, code) == out


def test_variables_stay_and_functions_see_later_ones(session: Session) -> None:
    session.run("def f():\n    return later")
    assert session.run("later = 7\n1 / 0").status == "error"
    assert shown(session, "f()") == "7\n"


def test_errors_carry_the_line_and_a_way_on(session: Session) -> None:
    result = session.run("x = 1\nx / 0")
    assert (result.error, result.line) == ("ZeroDivisionError: division by zero\n  line 2: x / 0", 2)
    assert "use context.slice(start, stop)" in session.run("context[0:3]").error
    assert session.run("y = = 2").error.startswith("SyntaxError")


def test_a_refused_call_can_be_caught_and_too_many_end_the_cell() -> None:
    with start_monty(SandboxLimits(refusals=20)) as session:
        assert "spent" in shown(session, "try:\n    refused()\nexcept RuntimeError as e:\n    print(e)")
        session.run("x = 1")
        result = session.run("while True:\n    try: refused()\n    except: pass")
        assert result.status == "killed" and "more than 20 of its calls were refused" in result.error
        assert shown(session, "x") == "1\n"


@pytest.mark.parametrize("argument", ["float('nan')", "b'x'", "10 ** 5000"])
def test_arguments_that_are_not_json_are_the_cells_mistake(session: Session, argument: str) -> None:
    assert session.run(f"echo({argument})").status == "error"
    assert shown(session, "1") == "1\n"


def test_a_fault_in_serve_is_the_callers_and_the_variables_stay() -> None:
    with start_monty() as session:
        session.run("x = 1")
        with pytest.raises(KeyError, match="our own bug"):
            session.run("fault()")
        assert shown(session, "x") == "1\n"


@pytest.mark.parametrize(
    ("code", "content", "citations"),
    [
        ("answer['content'] = 'a'\nanswer['ready'] = True", "a", []),
        ("FINAL('done', citations=[{'doc': 'd'}])", "done", [{"doc": "d"}]),
        ("result = {'k': [1]}\nFINAL_VAR('result')", '{"k":[1]}', []),
        ("SUBMIT(answer='s')", "s", []),
        ("answer['citations'] = ['L0-1']\nFINAL('kept')", "kept", ["L0-1"]),
        ("answer['citations'] = ['L0-1']\nx = 'kept'\nFINAL_VAR('x')", "kept", ["L0-1"]),
        ("answer['citations'] = ['L0-1']\nFINAL('other', citations=['L0-2'])", "other", ["L0-2"]),
        ("answer = 'a text'\nSUBMIT('done')", "done", []),
        ("try:\n    FINAL('first')\nexcept Exception:\n    pass\nFINAL('second')", "first", []),
    ],
)
def test_every_known_way_to_finish_gives_an_answer(
    session: Session, code: str, content: str, citations: list[Json]
) -> None:
    result = session.run(code)
    assert result.answer == {"content": content, "citations": citations, "ready": True}
    assert (result.status, session.run("1").answer) == ("ok", None)


def test_a_cell_past_its_time_is_stopped_and_the_variables_come_back() -> None:
    with start_monty(SandboxLimits(cell_timeout_s=2, memory_mb=200)) as session:
        session.run("kept = llm_query('q')")
        result = session.run("print('before')\nwhile True: pass")
        assert (result.status, result.state_lost, result.stdout) == ("killed", False, "before\n")
        assert shown(session, "kept") == "'llm_query:q'\n"


def test_a_call_is_on_the_cells_clock_unless_who_serves_it_pauses_the_clock() -> None:
    def serve(name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
        with mine.clock.paused() if arguments else nullcontext():
            time.sleep(2.0)
        return None

    with start_monty(SandboxLimits(cell_timeout_s=1.5), serve=serve) as mine:
        assert mine.run("echo('paused')").status == "ok"
        result = mine.run("echo()\nwhile True: pass")
        assert result.status == "killed" and "it ran longer than 1.5 s" in result.error


def test_a_call_under_way_when_its_session_is_killed_has_no_time_left() -> None:
    left: list[float] = []

    def serve(*call: Any) -> None:
        left.append(mine.clock.left_s())
        mine.kill()
        left.append(mine.clock.left_s())

    with start_monty(serve=serve) as mine:
        assert mine.run("echo()").status == "killed"
    assert left[0] > 0 >= left[1]


def test_memory_and_output_have_an_end(session: Session) -> None:
    assert session.run("'a' * 10**11").error.startswith("MemoryError")
    result = session.run("for i in range(60_000): print(i)")
    assert result.truncated and result.stdout.endswith("59999\n") and len(result.stdout) < 20_200


def test_values_nested_without_end_do_not_end_the_parent(session: Session) -> None:
    echo = shown(session, "x = []\nfor i in range(100_000): x = [x]\nx")
    assert "nested too deep" in echo or len(echo) < 5_000  # some Pythons print all that Monty has
    assert session.run("echo(x)").status == "error"
    assert shown(session, "y = []\ny.append(y)\ny").startswith("[")


def test_a_namespace_too_large_to_write_down_ends_the_cell_and_no_more() -> None:
    with start_monty(SandboxLimits(cell_timeout_s=120, memory_mb=200)) as session:
        session.run("kept = 1")
        result = session.run("x = []\nfor i in range(2_000_000): x = [x]")
        assert result.status == "killed" and "more memory than 200 MB" in result.error
        assert shown(session, "kept") == "1\n"


def test_kill_from_another_thread_ends_the_running_cell() -> None:
    with start_monty(SandboxLimits(cell_timeout_s=120)) as session:
        threading.Timer(0.2, session.kill).start()
        result = session.run("while True: pass")
        assert result.status == "killed" and "ended from outside" in result.error
        assert session.run("1").status == "killed"


def test_reset_empties_the_namespace(session: Session) -> None:
    session.run("x = 1")
    session.reset()
    assert session.run("x").error.startswith("NameError")


def test_rows_and_answers_are_plain_lists_and_too_many_rows_are_refused() -> None:
    pytest.importorskip("pydantic_monty", reason="the extra `monty` is not installed")

    def of_rows(name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
        match name:
            case "context.rows":
                count = arguments[0]
                return {"rows": "lines", "start": 0, "stop": count, "count": count}
            case "context.read_rows":
                return [{"row": f"a {i}", "text": f"t{i}"} for i in range(*arguments[1:])][:400]
            case "echo":
                return [arguments, named]
        return {"columns": {"row": ["a", "b"], "label": ["x", None], "error": [None, "why"]}}

    calls = frozenset({"context.rows", "context.read_rows", "llm_map", "echo"})
    with open_session(of_rows, calls, intro={"context_length": 1}, backend="monty") as session:
        code = "rows = context.rows(1100)\n(len(rows), rows[-1], len({row['row'] for row in rows}))"
        assert shown(session, code) == "(1100, {'row': 'a 1099', 'text': 't1099'}, 1100)\n"
        assert shown(session, "context.rows(0), len(context.rows(5000))") == "([], 5000)\n"
        assert "5,001 rows, and at most 5,000 are listed here" in session.run("context.rows(5001)").error
        assert shown(session, "echo(rows[:1])[0]") == "[[{'row': 'a 0', 'text': 't0'}]]\n"
        answers = "[{'row': 'a', 'label': 'x'}, {'row': 'b', 'error': 'why'}]"
        assert shown(session, "llm_map('q', rows)") == f"{answers}\n"


def test_a_plain_text_context_is_a_str() -> None:
    with start_monty(intro={"context_text": "tiny", "names": {"question": "why?"}}) as session:
        assert shown(session, "context[1:], question") == "('iny', 'why?')\n"


def test_many_sessions_run_at_once() -> None:
    sessions = [start_monty() for _ in range(16)]
    assert [shown(session, f"{i} * 2") for i, session in enumerate(sessions)] == [
        f"{2 * i}\n" for i in range(16)
    ]
    for session in sessions:
        session.close()


def test_no_payload_reaches_outside(session: Session) -> None:
    with scenes(len(attacks.EFFECTS)) as made:
        for scene, attack in zip(made, attacks.EFFECTS, strict=True):
            result = session.run(scene.fill(attack.code))
            assert scene.effects(result.stdout) == [] and scene.secret not in result.error, attack.id
    assert shown(session, "1") == "1\n"
