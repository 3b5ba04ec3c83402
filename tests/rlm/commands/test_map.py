"""The command `rlm map`: its tables, its price before it asks, what it refuses, and how it goes on."""

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rlm as rlm_package
from index_store.index import Index
from rlm.asking.replaying.replay import replay
from rlm.audit import read, verify
from rlm.cli import main
from rlm.limits import Models
from rlm.memo import TROUBLE, memo_path
from tests.helpers.model_server import MODEL, ModelServer, Step
from tests.helpers.places import ROOT
from tests.helpers.row_reader import Rule, row_script, rows_in
from tests.helpers.short_names import Command, commands, own_models
from tests.helpers.thorough import cases

QUESTION = "Which label and month has it?"
FIELDS = ["--field", "month=YYYY-MM", "--field", "label=spam|ham"]
#: Of the map that is killed, and how often.
ROWS, KILLS = 120, cases(5, 20)
LINES = [f"{'spam' if n % 7 == 0 else 'ham'}\tmessage {n} of 2024-{n % 12 + 1:02}" for n in range(300)]


def rule(text: str) -> dict[str, Any]:
    return {"label": text.split("\t")[0], "month": text[-7:]}


def uncounted(rule: Rule) -> Callable[[Any], Step]:
    """A script whose replies say nothing of tokens, so that they are counted as they were estimated."""
    script = row_script(rule)
    return lambda body: replace(script(body), usage={})


def asked_rows(server: ModelServer, since: int = 0) -> list[str]:
    """All rows that a server was asked about, each time it was."""
    return [
        row for body in server.requests[since:] for row in rows_in(body["messages"][-1]["content"]).values()
    ]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer(uncounted(rule)) as opened:
        opened.use(monkeypatch)
        yield opened


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a text of 300 lines."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("messages.tsv").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def rlm(capsys: pytest.CaptureFixture[str]) -> Command:
    call = commands(main, capsys)

    def mapped(*words: Any) -> tuple[int, str, str]:
        try:
            return call("map", *words)
        except SystemExit as e:  # argparse
            said = capsys.readouterr()
            return int(str(e.code)), said.out, said.err

    return mapped


def of_lines(*more: Any) -> tuple[Any, ...]:
    """What is typed behind `rlm map` for a table of the lines."""
    small = ("--split", "line", "--pack-tokens", 400, "--model", MODEL, "--quiet")
    return ("messages.tsv", QUESTION, *FIELDS, *small, *more)


# -- the table ---------------------------------------------------------------------------------------------

NASTY = [
    '=HYPERLINK("//x","y")',
    'she said "no, never", twice',
    "naïve café, 東京 \U0001f642",
    "+1 and -1; a\\b",
    "plain",
]
CSV = """\
row,doc,start,end,said,long,amount,error
nasty.txt 0-21,nasty.txt,0,21,"'=HYPERLINK(""//x"",""y"")",true,0.5,
nasty.txt 22-49,nasty.txt,22,49,"she said ""no, never"", twice",true,0.5,
nasty.txt 50-66,nasty.txt,50,66,"naïve café, 東京 \U0001f642",true,0.5,
nasty.txt 67-81,nasty.txt,67,81,'+1 and -1; a\\b,true,0.5,
nasty.txt 82-87,nasty.txt,82,87,"plain
and

more",false,,
"""


def nasty(text: str) -> dict[str, Any]:
    if text == "plain":
        return {"said": "plain\r\nand\r\rmore", "long": False, "amount": None}
    return {"said": text, "long": len(text) > 5, "amount": 0.5}


def test_a_table_is_exact_to_the_character_as_csv_and_as_json_lines(
    here: Path, rlm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("nasty.txt").write_text("\n".join(NASTY), encoding="utf-8")
    fields = Path("fields.json")
    fields.write_text('{"said": "text", "long": "yes/no", "amount": "number"}')
    asked = ("nasty.txt", "What?", "--fields", fields, "--split", "line", "--model", MODEL, "--quiet")
    with ModelServer(row_script(nasty)) as server:
        server.use(monkeypatch)
        code, out, err = rlm(*asked, "-o", "out.csv")
        assert (code, err) == (0, "")
        assert "5 of 5 rows answered: out.csv" in out and "long: true 4, false 1" in out
        assert Path("out.csv").read_text(encoding="utf-8") == CSV
        assert rlm(*asked, "-o", "out.jsonl")[0] == 0
        code, printed, err = rlm(*asked)
    assert (printed, code) == (CSV, 0)
    assert "5 from the store" in err and server.calls == 1
    rows = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["said"] for row in rows] == [nasty(text)["said"] for text in NASTY]
    place = {"row": "nasty.txt 0-21", "doc": "nasty.txt", "start": 0, "end": 21}
    assert rows[0] == {**place, **nasty(NASTY[0]), "error": None}
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        assert [len(row) for row in csv.reader(file)] == [8] * 6


def test_every_row_has_the_same_keys_whether_it_was_answered_or_not(
    here: Path, rlm: Command, server: ModelServer
) -> None:
    assert rlm(*of_lines("-o", "rows.jsonl", "--max-calls", 1))[0] == 3
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {tuple(row) for row in rows} == {("row", "doc", "start", "end", "month", "label", "error")}
    failed = [row for row in rows if row["error"]]
    assert 0 < len(failed) < 300 and all(row["label"] is None is row["month"] for row in failed)
    assert all(row["error"] is None and row["label"] for row in rows if row not in failed)


def test_json_says_what_came_of_it(here: Path, rlm: Command, server: ModelServer) -> None:
    code, out, _ = rlm(*of_lines("-o", "rows.jsonl", "--json", "--sure", 0.1))
    told = json.loads(out)
    assert code == 0
    assert {name: told[name] for name in ("rows", "answered", "failed", "stored", "stop", "output")} == {
        "rows": 300,
        "answered": 300,
        "failed": 0,
        "stored": 0,
        "stop": "answer",
        "output": "rows.jsonl",
    }
    label = {one["value"]: one for one in told["counts"]["label"]}
    assert (label["spam"]["count"], label["ham"]["count"]) == (43, 257)
    assert label["spam"]["low"] < 43 < label["spam"]["high"]
    assert told["agreement"]["month"]["share"] == 1.0 and told["agreement"]["month"]["rows"] == 30
    assert told["usage"]["calls"] == server.calls
    events, verdict = read(told["trace"])
    assert verdict.ok and told["head"] == verdict.head and events[0]["route"] == "table"


def test_an_index_is_mapped_in_whole_below_a_node_and_by_metadata(
    index: Index, here: Path, rlm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(row_script(lambda text: {"long": len(text) > 100})) as server:
        server.use(monkeypatch)
        asked = (
            index.path, "Long?", "--field", "long=yes/no", "--split", "chunk", "--model", MODEL, "--quiet",
        )  # fmt: skip
        _, out, _ = rlm(*asked)
        whole = [row["row"] for row in csv.DictReader(io.StringIO(out))]
        assert whole == [index.id_of(number) for number in range(index.levels[0])]
        _, out, _ = rlm(*asked, "--under", "L1-00001")
        below = [row["row"] for row in csv.DictReader(io.StringIO(out))]
        assert below and set(below) == {leaf.id for leaf in index.leaves("L1-00001")}
        doc = index.documents[0].id
        _, out, _ = rlm(*asked, "--doc", doc)
        assert {row["doc"] for row in csv.DictReader(io.StringIO(out))} == {doc}


# -- what it will cost -------------------------------------------------------------------------------------


def test_a_dry_run_asks_nothing_and_its_price_is_near_what_is_then_paid(
    here: Path, rlm: Command, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = f'[fast]\nmodel = "{MODEL}"\nusd_per_million = [1.0, 4.0]\n'
    own_models(here.parent, monkeypatch, table)
    asked = of_lines("--model", "fast", "-o", "rows.csv", "--json")
    code, out, err = rlm(*asked, "--dry-run")
    plan = json.loads(out)
    assert (code, err, server.calls) == (0, "", 0)
    assert [path.name for path in here.iterdir()] == ["messages.tsv"]
    told = json.loads(rlm(*asked)[1])
    paid = told["usage"]["usd"]
    assert told["priced"] and plan["calls"] == server.calls == told["usage"]["calls"]
    assert abs(plan["usd"] - paid) < 0.2 * paid and paid < plan["most_usd"]
    assert plan["stages"][0]["prompt_tokens"] == pytest.approx(told["usage"]["prompt_tokens"], rel=0.02)
    again = json.loads(rlm(*asked, "--dry-run")[1])
    assert (again["stored"], again["calls"], again["usd"]) == (300, 0, 0)


def test_what_a_dry_run_says_at_most_is_what_is_then_set_aside(
    here: Path, rlm: Command, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_models(here.parent, monkeypatch, f'[fast]\nmodel = "{MODEL}"\nusd_per_million = [1.0, 4.0]\n')
    asked = of_lines("--model", "fast", "--runs", "runs", "--json")
    plan = json.loads(rlm(*asked, "--dry-run")[1])
    assert rlm(*asked)[0] == 0
    (run,) = Path("runs").iterdir()
    ends = [event for event in read(run)[0] if event["kind"] == "model_answered"]
    reserved = [attempt["reserved"] for event in ends for attempt in event["attempts"]]
    assert len(reserved) == plan["calls"] > 1
    usd, tokens = (
        sum(one["usd"] for one in reserved),
        sum(one["prompt_tokens"] + one["completion_tokens"] for one in reserved),
    )
    assert usd <= plan["most_usd"] < 1.02 * usd and tokens <= plan["most_tokens"] < 1.02 * tokens


def test_a_dry_run_says_which_cap_is_less_than_it_takes(
    here: Path, rlm: Command, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_models(here.parent, monkeypatch, f'[fast]\nmodel = "{MODEL}"\nusd_per_million = [1.0, 4.0]\n')
    asked = of_lines("--model", "fast", "--dry-run")
    plan = json.loads(rlm(*asked, "--json")[1])
    assert plan["too_little"] == []
    for option, expected, most in (
        ("--max-usd", plan["usd"], plan["most_usd"]),
        ("--max-tokens", plan["tokens"], plan["most_tokens"]),
    ):
        assert option not in rlm(*asked, option, most)[1]
        line = rlm(*asked, option, type(most)((expected + most) / 2))[1].splitlines()[-1]
        assert line.startswith(f"{option} is ") and "rows may be left without an answer" in line
        line = rlm(*asked, option, type(most)(expected / 2))[1].splitlines()[-1]
        assert line.startswith(f"{option} is ") and "rows will be left without an answer" in line
    (told,) = json.loads(rlm(*asked, "--json", "--max-calls", 1)[1])["too_little"]
    assert told.startswith("--max-calls is 1, less than the ")
    assert server.calls == 0


def test_a_dry_run_needs_no_key_and_a_map_does(
    here: Path, rlm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = of_lines("--model", "gpt-5-nano", "--strong", "gpt-5-mini")
    code, out, err = rlm(*asked, "--dry-run")
    assert (code, err) == (0, "") and "first reading, gpt-5-nano: 300 rows" in out
    code, _, err = rlm(*asked)
    assert code == 2 and "needs OPENAI_API_KEY" in err
    plan = rlm_package.plan_rows(
        "messages.tsv", QUESTION, {"label": ["spam", "ham"]}, split="line", models=Models("gpt-5-nano")
    )
    assert plan.rows == 300


def test_a_dry_run_in_words(here: Path, rlm: Command, server: ModelServer) -> None:
    _, out, _ = rlm(*of_lines("--dry-run", "--strong", "anthropic/claude-sonnet-4-5"))
    first, *readings = out.splitlines()
    assert first.startswith("300 rows: ")
    assert [line.split(", ")[0].strip() for line in readings] == [
        "first reading",
        "second reading",
        "strong reading",
    ]
    assert "price not known" in readings[0]
    assert "anthropic/claude-sonnet-4-5: 30 rows" in readings[2] and "about $0." in readings[2]
    assert server.calls == 0


# -- what it refuses ---------------------------------------------------------------------------------------

WRONG: list[tuple[list[Any], str]] = [
    (["--field", "amount=numbr"], "one of YYYY-MM-DD, YYYY-MM, YYYY, number, integer, yes/no, text"),
    (["--field", "amount=a||b"], "has the label ''"),
    (["--field", "amount"], "write it as NAME=SPEC"),
    (["--field", "row=number"], "which every row has already"),
    (["--fields", "none.json"], "cannot read the fields in none.json"),
    (["--fields", "odd.json"], "is 'money'; give a list of labels or one of YYYY-MM-DD"),
    (["--fields", "list.json"], "list.json holds no fields"),
    (["--fields", "broken.json"], "are no JSON"),
    (["-o", "rows.xlsx"], "a file that ends with .csv or .jsonl"),
    (["-o", "rows"], "a file that ends with .csv or .jsonl"),
    (["-o", "nowhere/rows.csv"], "there is no such folder"),
    (["-o", "folder.csv"], "which is a folder"),
    (["-o", "same.csv"], "which is what is read"),
    (["-o", "link.csv"], "link.csv, which is a link"),
    (["-o", "/proc/rows.csv"], "/proc/rows.csv, where nothing can be written"),
    (["--field", "label=number"], "the field 'label' is given twice"),
    (["--fields", "one.json"], "the field 'month' is given twice"),
    (["--fields", "twice.json"], "the field 'amount' is given twice"),
    (["--sure", 1.5], "sure is 1.5; give a share of rows from 0 to 1"),
    (["--sure", "nan"], "sure is nan"),
    (["--sure", -0.1], "sure is -0.1"),
    (["--pack-tokens", 0], "pack_tokens is 0; give a whole number from 1 on"),
    (["--under", "L7-00000"], "no node 'L7-00000'"),
    (["--max-calls", 0], "give at least 1"),
    (["--max-usd", -1], "usd is -1"),
    (["--strong", "no-such-model"], "unknown model 'no-such-model'"),
    (["--model", "no-such-model"], "unknown model 'no-such-model'"),
    (["--reply-tokens", 3], "has no room for one row"),
    (["--where", "year"], "write it as KEY=VALUE"),
    (["--where", "year=2021"], "year"),
    (["--doc", "other.txt"], "other.txt"),
    (["--retain", "tomorrow"], "give a day"),
    (["--split", "word"], "invalid choice"),
]


@pytest.mark.parametrize(("more", "why"), WRONG, ids=str)
def test_what_cannot_be_asked_is_one_sentence_and_leaves_nothing(
    here: Path, rlm: Command, server: ModelServer, more: list[Any], why: str
) -> None:
    Path("odd.json").write_text('{"amount": "money"}')
    Path("list.json").write_text("[1]")
    Path("broken.json").write_text("{")
    Path("folder.csv").mkdir()
    Path("one.json").write_text('{"month": "YYYY"}')
    Path("twice.json").write_text('{"amount": "number", "amount": "integer"}')
    Path("same.csv").hardlink_to("messages.tsv")
    Path("link.csv").symlink_to("elsewhere.csv")
    before = sorted(here.iterdir())
    code, out, err = rlm(*of_lines(*more))
    said = err.strip().splitlines()[-1]
    assert (code, out, server.calls) == (2, "", 0), err
    assert why in said and "Traceback" not in err
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("messages.tsv", QUESTION), "say what each row is asked for"),
        (("messages.tsv", "", *FIELDS), "the question"),
        (("missing.tsv", QUESTION, *FIELDS), "missing.tsv"),
        (("folder", QUESTION, *FIELDS), "folder"),
        (("blank.txt", QUESTION, *FIELDS, "--split", "line"), "blank.txt"),
    ],
    ids=str,
)
def test_what_there_is_not_is_one_sentence_and_leaves_nothing(
    here: Path, rlm: Command, words: tuple[str, ...], why: str
) -> None:
    Path("folder").mkdir()
    Path("folder", "a.txt").write_text("no index")
    Path("blank.txt").write_text(" \n\n \n")
    before = sorted(here.rglob("*"))
    code, out, err = rlm(*words, "--quiet")
    assert (code, out) == (2, "") and why in err
    assert len(err.splitlines()) == 1, err
    assert sorted(here.rglob("*")) == before


def test_an_empty_fields_file_is_refused(here: Path, rlm: Command) -> None:
    Path("none.json").write_text("{}")
    assert rlm("messages.tsv", QUESTION, "--fields", "none.json", "--quiet")[::2] == (
        2,
        "rlm: say what each row is asked for: --field label='spam|ham', or --fields FILE\n",
    )


# -- how it ends, and goes on ------------------------------------------------------------------------------

CAPS: list[tuple[str, Any]] = [("--max-calls", 5), ("--max-tokens", 4_000), ("--max-usd", 0.005)]


@pytest.mark.parametrize(("option", "cap"), CAPS, ids=str)
def test_a_cap_ends_it_with_what_it_has_and_the_same_command_goes_on(
    here: Path, rlm: Command, server: ModelServer, monkeypatch: pytest.MonkeyPatch, option: str, cap: Any
) -> None:
    own_models(here.parent, monkeypatch, f'[fast]\nmodel = "{MODEL}"\nusd_per_million = [1.0, 4.0]\n')
    asked = of_lines("--model", "fast", "-o", "rows.csv")
    code, out, _ = rlm(*asked, option, cap)
    assert code == 3 and "the same command goes on from there" in out and "stop: budget" in out
    with Path("rows.csv").open(encoding="utf-8", newline="") as file:
        first = list(csv.DictReader(file))
    answered = [row for row in first if row["label"]]
    assert len(first) == 300 and 0 < len(answered) < 300
    assert all(bool(row["error"]) != bool(row["label"]) for row in first)
    assert all(option.removeprefix("--max-") in row["error"] for row in first if row["error"])
    assert len(asked_rows(server)) == len(answered)
    runs = 1
    while code == 3:
        code, out, _ = rlm(*asked, option, cap)
        runs += 1
        assert runs < 20
    assert len(asked_rows(server)) == 300  # no row was asked twice
    with Path("rows.csv").open(encoding="utf-8", newline="") as file:
        assert [[row["label"], row["month"]] for row in csv.DictReader(file)] == [
            [rule(line)["label"], rule(line)["month"]] for line in LINES
        ]


def test_without_the_store_a_cap_says_that_the_same_command_begins_anew(
    here: Path, rlm: Command, server: ModelServer
) -> None:
    code, out, _ = rlm(*of_lines("-o", "rows.csv", "--max-calls", 1, "--no-memo"))
    assert code == 3 and "the same command begins anew" in out and "goes on" not in out


def test_a_timeout_ends_it_with_what_it_has_and_the_same_command_goes_on(
    here: Path, rlm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, held = uncounted(rule), threading.Event()

    def stalls(body: Any) -> Step:
        step = script(body)
        is_slow = "message 250 " in body["messages"][-1]["content"]
        return replace(step, until=held) if is_slow and not held.is_set() else step

    asked = of_lines("-o", "rows.csv", "--runs", "runs")
    with ModelServer(stalls) as server:
        server.use(monkeypatch)
        code, out, err = rlm(*asked, "--timeout", 5)
        assert (code, err) == (3, "") and "stop: timeout" in out
        assert "the same command goes on from there" in out
        with Path("rows.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [{name: row[name] for name in ("label", "month")} for row in rows if not row["error"]] == [
            rule(line) for row, line in zip(rows, LINES, strict=True) if not row["error"]
        ]
        late = {row["error"] for row in rows if not row["label"]}
        assert late == {"the timeout of 5 s was reached before this was answered"}
        known = {line for row, line in zip(rows, LINES, strict=True) if row["label"]}
        assert known
        (run,) = Path("runs").iterdir()
        assert verify(run).ok and read(run)[0][-1]["stop"] == "timeout"
        assert replay(run, "messages.tsv").is_same
        held.set()
        before = server.calls
        assert rlm(*asked)[0] == 0 and not known & set(asked_rows(server, before))
    with Path("rows.csv").open(encoding="utf-8", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [rule(line)["label"] for line in LINES]


def command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "rlm.cli", "map", *map(str, words)]


@pytest.mark.slow
def test_ctrl_c_leaves_the_table_as_it_was_and_the_same_command_goes_on(
    here: Path, rlm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that was whole is not replaced by half of one; what was answered, and paid, is in the store."""
    script, held = uncounted(rule), threading.Event()

    def stalls(body: Any) -> Step:
        step = script(body)
        return replace(step, until=held) if stalling.calls > 70 and not held.is_set() else step

    Path("rows.csv").write_text("an earlier table")
    asked = of_lines("--pack-tokens", 40, "-o", "rows.csv", "--runs", "runs")
    with ModelServer(stalls) as stalling:
        stalling.use(monkeypatch)
        with subprocess.Popen(
            command(*asked), stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        ) as running:
            while stalling.calls < 72:
                assert running.poll() is None
                time.sleep(0.02)
            running.send_signal(signal.SIGINT)
            _, err = running.communicate(timeout=120)
        assert running.returncode == 130
        assert err.splitlines() == [
            "what was answered is in the store, and the same command goes on from there",
            "rlm: stopped",
        ]
        assert Path("rows.csv").read_text() == "an earlier table"
        (run,) = Path("runs").iterdir()
        assert verify(run).ok and read(run)[0][-1]["stop"] == "cancelled"
        held.set()
        known, before = set(asked_rows(stalling)[:100]), stalling.calls
        code, out, _ = rlm(*asked)
        assert code == 0 and "from the store" in out
        assert not known & set(asked_rows(stalling, before))
    assert len(Path("rows.csv").read_text(encoding="utf-8").splitlines()) == 301


# -- never twice -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_second_question_makes_no_call_and_a_changed_document_asks_its_own_rows(
    here: Path, rlm: Command, server: ModelServer
) -> None:
    assert rlm(*of_lines("-o", "first.csv"))[0] == 0
    calls = server.calls
    assert rlm(*of_lines("-o", "second.csv"))[0] == 0
    assert server.calls == calls and Path("first.csv").read_bytes() == Path("second.csv").read_bytes()
    changed = [*LINES[:10], "ham\ta new one of 2025-01", *LINES[11:]]
    Path("messages.tsv").write_text("\n".join(changed), encoding="utf-8")
    assert rlm(*of_lines("-o", "third.csv"))[0] == 0
    assert asked_rows(server, calls) == ["ham\ta new one of 2025-01"]
    for other in (("--field", "more=number"), ("--no-memo",), ("--temperature", 0.5)):
        before = server.calls
        rlm(*of_lines(*other))
        assert server.calls > before, other


@pytest.mark.parametrize("what", ["folder", "no database", "broken key"])
def test_a_store_that_cannot_be_used_is_told_live_in_the_summary_and_to_the_replay(
    here: Path, rlm: Command, server: ModelServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    Path("messages.tsv").write_text("\n".join(LINES[:60]), encoding="utf-8")
    store, key = memo_path("messages.tsv"), here.parent / "data" / "raptor-rlm" / "memo.key"
    if what == "broken key":  # which is met in the middle of a wave, where the first reply is kept
        key.parent.mkdir(parents=True)
        key.write_bytes(b"short")
        monkeypatch.setenv("XDG_DATA_HOME", str(here.parent / "data"))
    asked = [word for word in of_lines("--runs", "runs") if word != "--quiet"]
    for more in (("--dry-run",), ("-o", "rows.csv"), ("-o", "rows.csv", "--json")):
        if what == "folder":
            store.mkdir(exist_ok=True)
        elif what == "no database":
            store.write_bytes(b"no database" * 500)
        code, out, err = rlm(*asked, *more)
        is_met = what != "broken key" or "--dry-run" not in more
        assert code == 0 and err.count(TROUBLE) == is_met, err
        assert (f"{store.name}.broken" in err) == (what == "no database")
        assert out.count(TROUBLE) == ("--dry-run" not in more)
    assert json.loads(out)["trouble"].startswith(TROUBLE) and len(asked_rows(server)) == 120
    for run in Path("runs").iterdir():
        notes = [event["text"] for event in read(run)[0] if event["kind"] == "note"]
        assert sum(note.startswith(TROUBLE) for note in notes) == 1
        assert verify(run).ok and replay(run, "messages.tsv").is_same


@pytest.mark.slow
@pytest.mark.parametrize("column", ["key", "value", "seal"])
def test_a_bit_that_is_flipped_in_the_store_is_asked_again_and_never_served(
    here: Path, rlm: Command, server: ModelServer, column: str
) -> None:
    Path("messages.tsv").write_text("\n".join(LINES[:4]), encoding="utf-8")
    assert rlm(*of_lines("-o", "whole.csv"))[0] == 0
    store, whole = memo_path("messages.tsv"), Path("whole.csv").read_bytes()
    with closing(sqlite3.connect(store)) as db:
        rows = db.execute(f"SELECT rowid, {column} FROM answers").fetchall()
    kept = store.read_bytes()
    assert len(rows) == 4
    for rowid, right in rows[:2]:
        for at in range(0, len(right), cases(5, 1)):
            wrong = bytearray(right)
            wrong[at] ^= 1 << at % 8
            store.write_bytes(kept)
            with closing(sqlite3.connect(store)) as db, db:
                db.execute(f"UPDATE answers SET {column} = ? WHERE rowid = ?", (bytes(wrong), rowid))
            before = server.calls
            code, out, _ = rlm(*of_lines("-o", "again.csv"))
            assert code == 0 and "3 from the store" in out
            assert len(asked_rows(server, before)) == 1
            assert Path("again.csv").read_bytes() == whole


@pytest.mark.slow
def test_a_map_that_is_killed_at_any_moment_goes_on_to_the_same_table_and_asks_no_stored_row_again(
    here: Path, rlm: Command, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{'spam' if n % 7 == 0 else 'ham'}\tnote {n} of 2024-{n % 12 + 1:02}" for n in range(ROWS)]
    Path("messages.tsv").write_text("\n".join(lines), encoding="utf-8")
    small = ("--split", "line", "--pack-tokens", "100", "--calibrate", "no", "--model", MODEL, "--quiet")
    words = ["messages.tsv", QUESTION, *FIELDS, *small, "-o", "rows.csv", "--runs", "runs"]
    killing = [
        sys.executable,
        "-m",
        "tests.helpers.killed_map",
        "messages.tsv",
        ".",
        str(KILLS),
        "14",
        *words,
    ]
    done = subprocess.run(
        killing,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    whole, *folders = map(Path, done.stdout.splitlines())
    table, stored = (here / whole / "rows.csv").read_bytes(), set[int]()
    assert len(folders) == KILLS and len(table.splitlines()) == ROWS + 1
    for folder in folders:
        monkeypatch.chdir(here / folder)
        runs = list(Path("runs").iterdir())
        verdict = verify(runs[0])
        assert verdict.only_unclosed or verdict.ok, verdict
        assert verdict.events == (runs[0] / "trace.jsonl").read_bytes().count(b"\n")
        known = json.loads(rlm(*words, "--dry-run", "--json")[1])["stored"]
        replies = [event["text"] for event in read(runs[0])[0] if event["kind"] == "model_answered"]
        told = sum(text.count('"row"') for text in replies)
        assert known >= told, "a reply was recorded, and its rows were not kept"
        before = server.calls
        code, _, err = rlm(*words)
        assert code == 0, err
        assert Path("rows.csv").read_bytes() == table
        again = asked_rows(server, before)
        assert len(again) == len(set(again)) == ROWS - known
        stored.add(known)
    assert {0, ROWS} != stored and len(stored) > 2, stored
