"""Rows and answers in the worker: lazy, lists to a cell, and no way to anything else."""

from collections.abc import Iterator
from typing import Any

import pytest

from index_store.types import Json
from rlm.sandbox import CallRefused, SandboxLimits, Session, open_session
from rlm.sandbox.cage.rows import Answers, made_of
from tests.helpers.sandbox_sessions import shown, stopped_soon, unhurried

MILLION = 1_000_000
CALLS = frozenset({"context.rows", "context.read_rows", "llm_map", "llm_filter", "echo", "fetched"})
COLUMNS: dict[str, Json] = {
    "columns": {
        "row": ["a 0-1", "a 1-2", "a 2-3"],
        "doc": ["a"] * 3,
        "start": [0, 1, 2],
        "end": [1, 2, 3],
        "label": ["spam", None, "ham"],
        "paid": [True, None, True],
        "error": [None, "the model gave none", None],
    },
    "agreement": {"label": {"share": 0.9, "low": 0.8, "high": 1.0, "rows": 20}},
    "intervals": {"label": {"spam": [1, 0.5, 1.5], "ham": [1, 0.2, 1.8], "none": [0, 0, 0.3]}},
}


class Parent:
    """Serves a selection of `count` rows, and keeps what it was asked for."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, list[tuple[Any, ...]]()

    def serve(self, name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
        match name:
            case "context.rows":
                self.asked.append(("rows",))
                return {"rows": "lines", "start": 0, "stop": self.count, "count": self.count}
            case "context.read_rows":
                self.asked.append(tuple(arguments[1:]))
                if arguments[1] == 13:
                    raise CallRefused("row 13 is too long")
                return [{"row": f"a {i}", "text": f"t{i}"} for i in range(*arguments[1:])][:400]
            case "fetched":
                asked, self.asked = [list(one) for one in self.asked], []
                return asked
            case "echo":
                return [arguments, named]
        return COLUMNS


@pytest.fixture(scope="module")
def opened() -> Iterator[Session]:
    with open_session(Parent(MILLION).serve, CALLS, SandboxLimits(cell_timeout_s=120)) as session:
        yield session


@pytest.fixture
def session(opened: Session) -> Session:
    opened.reset()
    shown(opened, "rows = context.rows()\nfetched()")
    return opened


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("len(rows), len(rows[10:20]), len(rows[:0]), len(rows[5:2]), bool(rows[:0])", "(1000000, 10, 0, 0, False)\n"),
        ("rows[:3]", "<3 rows lines: a loop, [i] and [a:b] read them; llm_map and its kin take them as they are>\n"),
        ("type(rows), isinstance(rows, list), isinstance(rows, (dict, list))", "(<class 'list'>, True, True)\n"),
        ("isinstance(rows, str), isinstance(rows, dict), type(rows) == list", "(False, False, True)\n"),
        ("echo(rows[5:9][1:], x=[rows])[0]", "[{'rows': 'lines', 'start': 6, 'stop': 9}]\n"),
        ("echo(x={'k': (rows,)})[1]", "{'x': {'k': [{'rows': 'lines', 'start': 0, 'stop': 1000000}]}}\n"),
    ],
)  # fmt: skip
def test_what_is_not_looked_at_is_not_fetched(session: Session, code: str, said: str) -> None:
    assert shown(session, code) == said
    assert shown(session, "fetched()") == "[]\n"


@pytest.mark.parametrize(
    ("code", "said", "fetched"),
    [
        ("rows[7]['text'], rows[-1]['row']", "('t7', 'a 999999')\n", "[[7, 8], [999999, 1000000]]\n"),
        ("rows[50:][1]['row']", "'a 51'\n", "[[51, 52]]\n"),
        ("[rows[i]['text'] for i in (20, 21, 22)]", "['t20', 't21', 't22']\n", "[[20, 21], [21, 521]]\n"),
        ("len([r for r in rows[100:1000]])", "900\n", "[[100, 101], [101, 601], [501, 1000], [901, 1000]]\n"),
        ("list(rows[100:400:150])[1]['text']", "'t250'\n", "[[100, 101], [250, 251]]\n"),
        ("rows[2:1000:-1]", "[]\n", "[]\n"),
        ("[r['text'] for r in rows[20:22] + rows[3:4]]", "['t20', 't21', 't3']\n", "[[20, 21], [21, 22], [3, 4]]\n"),
        ("import random\nlen({r['row'] for r in random.sample(rows, 3)})", "3\n", None),
        ("[r['row'] for r in reversed(rows[:2])], rows[0] in rows[:2]", "(['a 1', 'a 0'], True)\n", None),
        ("a, *b = rows[:3]\nlen(b), a['row'], dict(enumerate(rows[:2]))[1]['row']", "(2, 'a 0', 'a 1')\n", None),
        ("import copy\ncopy.copy(rows)[3]['row'], copy.deepcopy(rows[4:])[0]['row']", "('a 3', 'a 4')\n", None),
        ("match rows[:2]:\n    case [x, y]: r = y['row']\nr", "'a 1'\n", None),
    ],
)  # fmt: skip
def test_what_is_looked_at_comes_alone_and_what_follows_in_pages(
    session: Session, code: str, said: str, fetched: str | None
) -> None:
    assert shown(session, code) == said
    asked = shown(session, "fetched()")
    assert asked == fetched or fetched is None


def test_a_loop_over_a_million_rows_asks_for_a_page_at_a_time(session: Session) -> None:
    assert shown(session, "sum(1 for row in rows[100:100_100])") == "100000\n"
    assert shown(session, "len(fetched())") == "251\n"


def test_a_place_that_is_not_there_and_a_page_that_is_refused_are_errors_of_the_cell(
    session: Session,
) -> None:
    assert session.run("rows[1_000_000]").error.startswith("IndexError")
    assert session.run("rows['a']").error.startswith("TypeError")
    assert "row 13 is too long" in session.run("rows[13]").error
    assert shown(session, "rows[12]['row']") == "'a 12'\n"


def test_rows_come_back_after_a_kill_without_being_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm.sandbox.session.REPLAY_S", 60)
    parent = Parent(100)
    with open_session(parent.serve, CALLS, SandboxLimits(cell_timeout_s=120)) as session:
        unhurried(session, "rows = context.rows()\nfirst = rows[0]\nlast = rows[90:]")
        result = stopped_soon(session, "while True: pass")
        assert (result.status, result.state_lost) == ("killed", False)
        assert (
            unhurried(session, "first['row'], rows[1]['row'], last[0]['row']").stdout
            == "('a 0', 'a 1', 'a 90')\n"
        )
    assert parent.asked == [("rows",), (0, 1), (1, 100), (90, 91)]


def test_rows_are_citations_as_they_are_and_no_more_than_an_answer_has(session: Session) -> None:
    result = session.run("answer['citations'] = rows\nanswer['content'] = 'x'\nanswer['ready'] = True")
    cited: Any = result.answer and result.answer["citations"]
    assert [one["row"] for one in cited] == [f"a {i}" for i in range(100)]
    result = session.run("FINAL('x', citations=[rows[3], llm_map('q', rows)[0]])")
    assert result.answer and result.answer["citations"] == [
        {"row": "a 3", "text": "t3"},
        {"row": "a 0-1", "doc": "a", "start": 0, "end": 1, "label": "spam", "paid": True},
    ]


# -- answers -------------------------------------------------------------------------------------------------


FIRST = {"row": "a 0-1", "doc": "a", "start": 0, "end": 1, "label": "spam", "paid": True}
FAILED = {"row": "a 1-2", "doc": "a", "start": 1, "end": 2, "error": "the model gave none"}
LABELS = {
    "spam": {"count": 1, "low": 0.5, "high": 1.5},
    "ham": {"count": 1, "low": 0.2, "high": 1.8},
    "none": {"count": 0, "low": 0, "high": 0.3},
}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("len(a), a[0]", (3, FIRST)),
        ("a.failed, a[1]", ([FAILED], FAILED)),
        ("a.agreement['label']['share']", 0.9),
        ("a.counts('label')", LABELS),
        ("a.counts('paid'), a.counts('nothing')", ({True: {"count": 2, "low": None, "high": None}}, {})),
        ("type(a), type(a) == list, isinstance(a, list), [x for x in a] == a", (list, True, True, True)),
        ("json.loads(json.dumps(a)) == a, sorted(a, key=lambda r: -r['start'])[0]['end']", (True, 3)),
        ("len(llm_filter('q', rows).failed)", 1),
    ],
)
def test_answers_are_a_list_with_what_failed_and_counts(session: Session, code: str, said: object) -> None:
    assert shown(session, f"a = llm_map('q', rows[:3])\n{code}") == f"{said!r}\n"


def test_columns_that_say_what_failed_beside_them_are_of_a_filter() -> None:
    value: dict[str, Any] = {"columns": {"row": ["a"]}, "failed": {"row": ["b"], "error": ["why"]}}
    kept = made_of("llm_filter", value, lambda *place: ())
    assert isinstance(kept, Answers)
    assert (list(kept), kept.failed) == ([{"row": "a"}], [{"row": "b", "error": "why"}])
    assert made_of("llm_map", {"columns": {}}, lambda *place: ()) == []


def test_only_replies_to_these_calls_are_made_into_rows(session: Session) -> None:
    assert shown(session, "type(echo(rows='x', start=0, stop=1)[1]).__name__") == "'dict'\n"
