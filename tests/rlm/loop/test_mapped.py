"""llm_map and llm_filter in a cell, over a scripted model and real HTTP: what they give, ask, refuse and record."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from index_store.types import Scope
from rlm.asking.replaying.replay import replay
from rlm.audit import read, verify
from tests.helpers.mapped_run import CALL, DOCS, FIELDS, Played, messages, rule
from tests.helpers.model_server import MODEL, Body, ModelServer, Step
from tests.helpers.rlm_toy import warm_up
from tests.helpers.row_reader import Faults, asks_about_rows, row_script, rows_in

A, B = "".join(DOCS["a.txt"]), "".join(DOCS["b.txt"])
LINES = [line.strip() for line in DOCS["a.txt"] + DOCS["b.txt"]]
TRUE = [rule(line) for line in LINES]
ALL, FIRST = "context.rows('line')", "context.rows('line', doc='a.txt')"
READY = "answer['content'] = 'Done.'\nanswer['ready'] = True"


@pytest.fixture(autouse=True)
def warm() -> None:
    warm_up()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return messages(tmp_path_factory.mktemp("messages") / "messages.index")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "messages.txt"
    path.write_text(A + B, encoding="utf-8")
    return path


def call(rows: str, more: str = "") -> str:
    return CALL.format(rows=rows, more=f", {more}" if more else "")


def given(played: Played) -> Any:
    """What the first cell printed, as Python reads it."""
    return ast.literal_eval(played.printed)


def asked_about(played: Played) -> set[str]:
    return {row for one in played.packs for row in rows_in(one["messages"][-1]["content"]).values()}


def values(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("label", "month")} for row in rows]


# -- what is given back ------------------------------------------------------------------------------------


def test_a_map_gives_one_dict_a_row_in_order_with_its_span(index: Index, tmp_path: Path) -> None:
    code = FIELDS + f"rows = context.rows('line')\nm = {call('rows')}\nprint([dict(r) for r in m])"
    played = Played(index, tmp_path, [code, READY])
    rows = given(played)
    assert values(rows) == TRUE
    assert [{"a.txt": A, "b.txt": B}[r["doc"]][r["start"] : r["end"]] for r in rows] == LINES
    assert [r["row"] for r in rows] == [f"{r['doc']} {r['start']}-{r['end']}" for r in rows]
    assert len(played.packs) == 1


def test_under_a_plain_text_it_is_the_same(text: Path, tmp_path: Path) -> None:
    code = FIELDS + f"rows = context.rows('line')\nm = {call('rows')}\nprint([dict(r) for r in m])"
    rows = given(Played(text, tmp_path / "runs", [code, READY]))
    assert values(rows) == TRUE
    assert [(A + B)[r["start"] : r["end"]] for r in rows] == LINES


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("context.rows('line')[3:9]", LINES[3:9]),
        ("[r for r in context.rows('line') if r['doc'] == 'b.txt'][:2]", LINES[12:14]),
        ("context.rows('line')[::5]", LINES[::5]),
        ("[r['node'] for r in context.rows('chunk')[:1]]", ["\n ".join(LINES[:3])]),
        ("['L0-00001', {'node': 'L0-00000'}]", ["\n ".join(LINES[3:6]), "\n ".join(LINES[:3])]),
        ("[{'doc': 'a.txt', 'start': 6, 'end': 29}]", [LINES[0][6:29]]),
        ("['win in 2024-01', 'none in 2024-02']", ["win in 2024-01", "none in 2024-02"]),
        ("context.rows('document', doc='b.txt')", ["\n ".join(LINES[12:])]),
    ],
)
def test_rows_are_named_in_every_way(index: Index, tmp_path: Path, rows: str, expected: list[str]) -> None:
    code = FIELDS + f"m = {call(rows)}\nprint(len(m), m.failed, [r['month'] for r in m])"
    played = Played(index, tmp_path, [code, READY])
    (pack,) = played.packs
    shown = list(rows_in(pack["messages"][-1]["content"]).values())
    assert shown == [one.replace("\n ", "\n") for one in expected]
    assert played.printed == f"{len(expected)} [] {[rule(one)['month'] for one in expected]}\n"


def test_texts_of_a_cell_have_numbers_and_no_span(index: Index, tmp_path: Path) -> None:
    code = FIELDS + f"print([dict(r) for r in {call(repr(['win 2024-01', 'so 2024-02']))}])"
    assert given(Played(index, tmp_path, [code, READY])) == [
        {"row": "1", "label": "spam", "month": "2024-01"},
        {"row": "2", "label": "ham", "month": "2024-02"},
    ]


def test_nothing_is_asked_about_no_rows(index: Index, tmp_path: Path) -> None:
    code = FIELDS + f"m = {call('[]')}\nprint(list(m), m.failed, m.agreement, m.counts('label'))"
    played = Played(index, tmp_path, [code, READY])
    assert played.printed == "[] [] {} {}\n"
    assert not played.packs


EVERY = {
    "label": ["Spam", "Ham"], "day": "YYYY-MM-DD", "month": "YYYY-MM", "year": "YYYY", "sum": "number",
    "many": "integer", "paid": "yes/no", "words": "text",
}  # fmt: skip


def test_each_kind_of_field_is_read_as_what_it_is(index: Index, tmp_path: Path) -> None:
    said: list[dict[str, Any]] = [
        {"label": " spam", "day": "2024-02-29", "month": "2024-02", "year": 2024, "sum": "-1.50", "many": 3.0,
         "paid": "yes", "words": "so ‘it’ is"},
        {"label": "HAM", "day": None, "month": None, "year": None, "sum": None, "many": None, "paid": None,
         "words": None},
    ]  # fmt: skip
    wrong = {"label": "other", "day": "2023-02-29", "many": 1.5}
    tries = iter([[said[0] | wrong, said[1]], [said[0]]])

    def child(body: Body) -> str:
        return "\n".join(json.dumps({"row": n, **one}) for n, one in enumerate(next(tries), 1))

    code = f"print([dict(r) for r in llm_map('What?', ['one', 'two'], fields={EVERY!r})])"
    played = Played(index, tmp_path, [code, READY], child=child)
    assert given(played) == [
        {"row": "1", "label": "Spam", "day": "2024-02-29", "month": "2024-02", "year": "2024", "sum": -1.5,
         "many": 3, "paid": True, "words": "so ‘it’ is"},
        {"row": "2", "label": "Ham"} | dict.fromkeys(list(EVERY)[1:]),
    ]  # fmt: skip
    assert played.kinds("map_returned")[0]["asked_again"] == 1


def test_what_no_reply_answers_is_an_error_in_its_place(index: Index, tmp_path: Path) -> None:
    def child(body: Body) -> str | Step:
        rows = rows_in(body["messages"][-1]["content"])
        return "\n".join(json.dumps({"row": n, **rule(t)}) for n, t in rows.items() if "a.txt3 " not in t)

    code = FIELDS + f"m = {call(FIRST)}\nprint([m.failed, m[3], m[2]['label'], len(m)])"
    played = Played(index, tmp_path, [code, READY], child=child)
    failed, third, before, count = given(played)
    assert failed == [third]
    start = A.index(LINES[3])
    assert third == {
        "row": f"a.txt {start}-{start + len(LINES[3])}",
        "doc": "a.txt",
        "start": start,
        "end": start + len(LINES[3]),
        "error": third["error"],
    }
    assert (before, count) == ("ham", 12)
    assert "left it out" in third["error"]


def test_counts_have_an_interval_only_where_rows_were_read_twice(index: Index, tmp_path: Path) -> None:
    code = FIELDS + (
        f"rows = context.rows('line')\nm = {call('rows')}\ns = {call('rows', 'sure=1.0')}\n"
        "print([m.agreement, m.counts('label'), s.agreement, s.counts('label')])"
    )
    none, plain, agreement, counted = given(Played(index, tmp_path, [code, READY]))
    assert none == {}
    assert plain == {
        "ham": {"count": 16, "low": None, "high": None},
        "spam": {"count": 8, "low": None, "high": None},
    }
    assert {name: (one["share"], one["rows"]) for name, one in agreement.items()} == {
        "label": (1.0, 24), "month": (1.0, 24),
    }  # fmt: skip
    assert counted["spam"]["low"] < counted["spam"]["count"] == 8 < counted["spam"]["high"]


def test_the_strong_model_judges_where_two_readings_differ(index: Index, tmp_path: Path) -> None:
    asked: dict[str, int] = {}

    def child(body: Body) -> str:
        lines = []
        for number, row in rows_in(body["messages"][-1]["content"]).items():
            asked[row] = asked.get(row, 0) + 1
            is_torn = "a.txt0 " in row and body["model"] == MODEL.partition("/")[2]
            said = rule(row) | ({"label": ["spam", "ham"][asked[row] % 2]} if is_torn else {})
            lines.append(json.dumps({"row": number, **said}))
        return "\n".join(lines)

    code = FIELDS + f"m = {call(ALL, 'strong=True')}\nprint([dict(r) for r in m])"
    played = Played(index, tmp_path, [code, READY], child=child)
    assert values(given(played)) == TRUE
    by_model = [(one["model"], len(rows_in(one["messages"][-1]["content"]))) for one in played.packs]
    assert by_model == [("test-model", 24), ("test-model", 24), ("strong-model", 1)]
    (returned,) = played.kinds("map_returned")
    assert returned["agreement"]["label"]["share"] == round(23 / 24, 4)
    told = [one for event in played.kinds("rows_answered") for one in event["answers"]]
    assert [("first" in one, "again" in one) for one in told] == [(True, True)] + [(False, True)] * 23


def test_a_filter_gives_the_rows_for_which_it_holds(index: Index, tmp_path: Path) -> None:
    def child(body: Body) -> str:
        rows = rows_in(body["messages"][-1]["content"])
        return "\n".join(
            json.dumps({"row": n, "holds": "win" in text})
            for n, text in rows.items()
            if "b.txt0 " not in text
        )

    code = "f = llm_filter('It offers a prize.', context.rows('line'))\nprint([list(map(dict, f)), f.failed])"
    holds, failed = given(Played(index, tmp_path, [code, READY], child=child))
    texts = {"a.txt": A, "b.txt": B}
    assert [texts[r["doc"]][r["start"] : r["end"]] for r in holds] == [t for t in LINES if "win" in t][:4] + [
        t for t in LINES[13:] if "win" in t
    ]
    assert [set(r) for r in holds] == [{"row", "doc", "start", "end"}] * 7
    assert [(r["doc"], r["start"]) for r in failed] == [("b.txt", 0)]


def test_row_dicts_and_answers_stand_among_citations_word_for_word(index: Index, tmp_path: Path) -> None:
    code = FIELDS + (
        f"rows = context.rows('line')\nm = {call('rows')}\nanswer['content'] = 'Eight [1] [2] [3].'\n"
        "answer['citations'] = [m[0], rows[3], llm_filter('It?', rows[:1])[0]]\nanswer['ready'] = True"
    )

    def child(body: Body) -> str:
        rows = rows_in(body["messages"][-1]["content"])
        return "\n".join(json.dumps({"row": n, **rule(text), "holds": True}) for n, text in rows.items())

    cited = Played(index, tmp_path, [code], child=child).answer.citations
    assert [(one.doc, one.quote, one.supported) for one in cited] == [
        ("a.txt", LINES[0], "verbatim"), ("a.txt", LINES[3], "verbatim"), ("a.txt", LINES[0], "verbatim"),
    ]  # fmt: skip


# -- what is outside ---------------------------------------------------------------------------------------

OUTSIDE = (
    "for rows in ([{'doc': 'a.txt', 'start': 0, 'end': 9}], ['L0-00000'], ['L1-00000'], [{'node': 'L0-00001'}],\n"
    "             {'rows': '{\"split\": \"line\", \"doc\": \"a.txt\"}', 'start': 0, 'stop': 2}):\n"
    "    try:\n        llm_map('?', rows, fields=FIELDS)\n        print('ASKED')\n"
    "    except Exception as e:\n        print('REFUSED', e)\n"
    f"m = {call(ALL)}\n"
)


def test_nothing_outside_a_scope_is_asked_about_or_cited(index: Index, tmp_path: Path) -> None:
    cited = "answer['content'] = 'So [1].'\nanswer['citations'] = [{'doc': 'a.txt', 'start': 0, 'end': 9}]\n"
    code = FIELDS + OUTSIDE + cited + "answer['ready'] = True\nprint(len(m))"
    played = Played(index, tmp_path, [code], scope=Scope(doc="b.txt"))
    assert asked_about(played) == set(LINES[12:])
    assert played.printed.count("REFUSED") == 5 and played.printed.endswith("12\n")
    assert "ASKED" not in played.printed
    assert played.answer.citations[0].supported == "unsupported"


def test_nothing_outside_its_branch_is_asked_about_by_a_child(index: Index, tmp_path: Path) -> None:
    below = FIELDS + OUTSIDE + "FINAL(str(len(m)))"
    played = Played(
        index,
        tmp_path,
        ["print(rlm_query('What is b?', under='L1-00001'))\n" + READY],
        children={"What is b?": [below]},
    )
    assert asked_about(played) == set(LINES[12:])
    (ran,) = (event for event in played.kinds("code_run") if event["conversation"] == "0.1")
    assert ran["stdout"].count("REFUSED") == 5 and "ASKED" not in ran["stdout"]


def test_children_at_once_and_two_maps_in_a_cell_keep_their_rows_apart(index: Index, tmp_path: Path) -> None:
    ask_all = (
        "for one in rlm_query_batched(['What is a?', 'What is b?'], under=['L1-00000', 'L1-00001']):\n"
        "    print(one['answer'])\n"
    )
    twice = FIELDS + (
        f"one, two = {call(ALL + '[:6]')}, {call(ALL + '[6:]')}\n"
        "FINAL(' '.join(r['doc'] + r['month'] for r in one + two))"
    )
    played = Played(
        index, tmp_path, [ask_all + READY], children={"What is a?": [twice], "What is b?": [twice]}
    )
    months = [f"{name}2024-{n % 4 + 1:02}" for name in DOCS for n in range(12)]
    assert played.printed.split() == months
    assert len(played.kinds("map_returned")) == 4


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("llm_map('?', ROWS)", "fields"),
        ("llm_map('?', ROWS, fields=['spam'])", 'fields say what each row is asked for, such as {"label": ["spam",'),
        ("llm_map('?', ROWS, fields={})", "there are 0 fields; give 1 to 20"),
        ("llm_map('?', ROWS, fields={'row': 'number'})", "'row', which every row has already; give another name"),
        ("llm_map('?', ROWS, fields={'a': 'float'})", "give a list of labels or one of YYYY-MM-DD, YYYY-MM, YYYY,"),
        ("llm_map('?', ROWS, fields={'a': ['x', 'X ']})", "has 2 labels; give 1 to 100 that differ"),
        ("llm_map('?', ROWS, fields={'a': []})", "has 0 labels; give 1 to 100 that differ"),
        ("llm_map('?', ROWS, fields={'a\\nb': 'number'})", "give a name of 1 to 60 characters on one line"),
        ("llm_map(' ', ROWS, fields=FIELDS)", "the question is empty"),
        ("llm_map(7, ROWS, fields=FIELDS)", "question is text"),
        ("llm_map('?', 'L0-00000', fields=FIELDS)", "rows are"),
        ("llm_map('?', 7, fields=FIELDS)", "rows are"),
        ("llm_map('?', None, fields=FIELDS)", "rows are"),
        ("llm_map('?', ['a', 7], fields=FIELDS)", "7"),
        ("llm_map('?', ['L0-00099'], fields=FIELDS)", "no node 'L0-00099'"),
        ("llm_map('?', [{'doc': 'c.txt', 'start': 0, 'end': 1}], fields=FIELDS)", "no document 'c.txt'"),
        ("llm_map('?', ROWS, fields=FIELDS, sure=2)", "sure is 2; give a share of rows from 0 to 1"),
        ("llm_map('?', ROWS, fields=FIELDS, sure='all')", "sure is 'all'; give a share of rows from 0 to 1"),
        ("llm_map('?', ROWS, fields=FIELDS, sure=float('nan'))", "the number nan, which JSON has no word for"),
        ("llm_map('?', ROWS, fields=FIELDS, sure=None)", "sure is None; give a share of rows from 0 to 1"),
        ("llm_map('?', ROWS, fields=FIELDS, pack_tokens=0)", "pack_tokens is 0; give a whole number from 1 on"),
        ("llm_map('?', ROWS, fields=FIELDS, pack_tokens='x')", "pack_tokens is 'x'; give"),
        ("llm_map('?', ROWS, fields=FIELDS, pack_tokens=2.5)", "pack_tokens is 2.5; give"),
        ("llm_map('?', ROWS, fields=FIELDS, pack_tokens=True)", "pack_tokens is True; give"),
        ("llm_map('?', ROWS, fields=FIELDS, model='gpt-9')", "gpt-9"),
        ("llm_map('?', ROWS, fields=FIELDS, strong='gpt-9')", "gpt-9"),
        ("llm_map('?', ROWS, fields=FIELDS, strong=7)", "7"),
        ("llm_map('?', ROWS, fields=FIELDS, colour=7)", "colour"),
        ("llm_filter('', ROWS)", "is empty"),
        ("llm_filter('?', ROWS, sure=[])", "sure is list; give"),
        ("llm_filter(ROWS)", "rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_one_sentence(index: Index, tmp_path: Path, code: str, said: str) -> None:
    cell = (
        FIELDS
        + f"ROWS = context.rows('line')\ntry:\n    {code}\nexcept Exception as e:\n    print('REFUSED', e)"
    )
    played = Played(index, tmp_path, [cell, READY])
    assert played.printed.startswith("REFUSED ") and played.printed.count("\n") == 1, played.printed
    assert said in played.printed
    assert len(played.printed) < 400
    assert not played.packs


def test_more_rows_than_a_cell_may_map_are_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("x\n" * 50_001)
    cells = [
        "try:\n    llm_map('?', context.rows('line'), fields={'a': 'number'})\nexcept Exception as e:\n    print(e)",
        "try:\n    llm_map('?', ['x y'] * 50_001, fields={'a': 'number'})\nexcept Exception as e:\n    print(e)",
        READY,
    ]
    said = "50,001 rows in one map, at most 50,000; map a slice of them, such as rows[:50000]\n"
    assert Played(path, tmp_path / "runs", cells).printed == said * 2


# -- what goes wrong on the way ----------------------------------------------------------------------------


def test_it_is_exact_whatever_replies_lack(index: Index, tmp_path: Path) -> None:
    faults = Faults(failed=0.1, cut=0.1, cut_untold=0.1, dropped=0.1, doubled=0.1, foreign=0.1, wrong=0.1)
    code = FIELDS + (f"m = {call(ALL, 'sure=0.5, pack_tokens=60')}\nprint([dict(r) for r in m])")
    played = Played(index, tmp_path, [code, READY], faults=faults)
    assert values(given(played)) == TRUE
    assert played.kinds("map_returned")[0]["asked_again"] > 0


def test_a_cap_in_the_middle_leaves_what_was_answered_and_names_the_cap(index: Index, tmp_path: Path) -> None:
    code = FIELDS + f"m = {call(ALL, 'pack_tokens=60')}\nprint([dict(r) for r in m])"
    played = Played(index, tmp_path, [code, READY], limits={"calls": 5})
    rows = given(played)
    done = [row for row in rows if "error" not in row]
    assert 0 < len(done) < 24 == len(rows)
    assert values(done) == TRUE[: len(done)]
    assert all("calls" in row["error"] for row in rows[len(done) :])


@pytest.mark.slow  # a model that takes its time
def test_the_time_of_models_is_not_the_cells(index: Index, tmp_path: Path) -> None:
    def child(body: Body) -> str | Step:
        said = row_script(rule)(body)
        return Step(said.text, delay_s=4.0)

    code = FIELDS + f"m = {call(ALL)}\nprint([dict(r) for r in m])"
    played = Played(index, tmp_path, [code, READY], child=child, limits={"cell_timeout_s": 3.0})
    assert values(given(played)) == TRUE


@pytest.mark.slow  # a run that waits for its clock
def test_a_run_whose_time_is_up_in_the_middle_of_a_map_settles_its_calls(
    index: Index, tmp_path: Path
) -> None:
    def child(body: Body) -> str | Step:
        return Step("", delay_s=60.0)

    code = FIELDS + call(ALL, "pack_tokens=60")
    played = Played(index, tmp_path, [code, READY], child=child, limits={"timeout_s": 4.0})
    assert played.answer.stop == "timeout"
    asked, failed = (
        [e for e in played.kinds(kind) if e["conversation"] != "0"]
        for kind in ("model_asked", "model_failed")
    )
    assert len(asked) == len(failed) > 1
    assert not played.kinds("map_returned")


def test_a_cell_that_is_stopped_by_its_clock_after_a_map_has_recorded_it(
    index: Index, tmp_path: Path
) -> None:
    code = FIELDS + f"m = {call(ALL)}\nwhile True:\n    pass"
    played = Played(index, tmp_path, [code, READY], limits={"cell_timeout_s": 1.0})
    assert [event["failed"] for event in played.kinds("map_returned")] == [0]
    assert [event["status"] for event in played.kinds("code_run")] == ["killed", "ok"]


@pytest.mark.slow  # a process of its own imports litellm
def test_ctrl_c_in_the_middle_of_a_map_leaves_a_trace_that_verifies_and_replays(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = FIELDS + call(ALL, "pack_tokens=60")

    def play(body: Body) -> str | Step:
        if not asks_about_rows(body):
            return f"```python\n{code}\n```"
        if "a.txt0 " in body["messages"][-1]["content"]:
            return row_script(rule)(body)
        return Step("", delay_s=60.0)

    with ModelServer(play) as server:
        server.use(monkeypatch)
        command = [sys.executable, "-m", "rlm.cli", "ask", str(index.path), "why", "--route", "rlm"]
        process = subprocess.Popen(
            [*command, "--model", MODEL, "--runs", str(tmp_path / "runs"), "--no-memo"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while server.calls < 4 and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err.splitlines()[-1]) == (130, "rlm: stopped")
    (run,) = (tmp_path / "runs").iterdir()
    held = verify(run)
    assert held.ok, held.reason
    events, _ = read(run)
    kinds = [event["kind"] for event in events]
    assert kinds.count("model_asked") == kinds.count("model_answered") + kinds.count("model_failed")
    assert "map_called" in kinds and "map_returned" not in kinds
    again = replay(run, index)
    assert again.difference is None, again.difference


def test_over_the_monty_backend_rows_and_answers_are_lists(index: Index, tmp_path: Path) -> None:
    pytest.importorskip("pydantic_monty", reason="the extra `monty` is not installed")
    code = FIELDS + (
        f"rows = {ALL}\nm = {call('rows[3:9]')}\n"
        "f = llm_filter('It offers a prize.', [rows[0], rows[1]])\nprint([rows[0], m, f])"
    )

    def child(body: Body) -> str:
        rows = rows_in(body["messages"][-1]["content"])
        return "\n".join(
            json.dumps({"row": n, **rule(text), "holds": "win" in text}) for n, text in rows.items()
        )

    played = Played(index, tmp_path, [code, READY], child=child, limits={"backend": "monty"})
    row, mapped, holds = given(played)
    assert row == {"row": "a.txt 0-29", "doc": "a.txt", "start": 0, "end": 29, "text": LINES[0]}
    assert values(mapped) == TRUE[3:9]
    assert [one["row"] for one in holds] == ["a.txt 0-29"]
