"""`rlm eval`, whole: a grid under one cap, that goes on after a stop, and whose figures come out of the traces."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rlm
from index_store.index import Index
from rlm.audit import verify
from rlm.cli import main
from rlm.evaluating.folder import Evaluation
from rlm.gateway import gateway as gateway_module
from tests.helpers.model_server import MODEL, Body, ModelServer, Script, Step, error, slow, text_of
from tests.helpers.recomputed import differences
from tests.helpers.toy import publish_toy

SMALL = "openai/small-model"
#: Priced at $1 for a thousand tokens in, and as much out; the other at a tenth.
NAMES = f"""
[big]
model = "{MODEL}"
usd_per_million = [1000, 1000]
[small]
model = "{SMALL}"
usd_per_million = [100, 100]
"""
CASES: list[dict[str, Any]] = [
    {
        "_id": "masts",
        "text": "How many masts?",
        "answers": ["two masts"],
        "gold": [{"doc": "boats.txt", "start": 0, "end": 24}],
    },
    {
        "_id": "weight",
        "text": "How heavy?",
        "answers": ["150 g"],
        "gold": [{"doc": "größe.md", "start": None, "end": None}],
    },
    {
        "_id": "single",
        "text": "What is one?",
        "answers": ["single"],
        "scope": "one.txt",
        "gold": [{"doc": "one.txt"}],
    },
    {"_id": "nothing", "text": "What of nothing?"},
]
ANSWERS = {
    "masts": """Two masts. The mizzen is shorter [2]. [1]

[boats.txt] "The ketch has two masts."
[boats.txt] "is shorter\"""",
    "heavy": """150 g [1].

[größe.md] "Äpfel wiegen 150 g"
[größe.md] "Apples weigh nine tons in all\"""",
    "one?": 'single\n\n[one.txt] "single"',
    "nothing": "NOT FOUND",
}


def reply(body: Body) -> str:
    """What both models answer; the small one is wrong about masts. A judge says yes where the sentence has a number."""
    asked = text_of(body["messages"][-1]["content"])
    if "Does the cited text support" in asked:
        return "YES" if "150" in asked else "No."
    if body["model"] == "small-model" and "masts" in asked.rpartition("QUESTION:")[2]:
        return "Nine masts."
    question = asked.rpartition("QUESTION:")[2] or asked
    return next(answer for words, answer in ANSWERS.items() if words in question)


@dataclass
class Ran:
    """What one command gave."""

    code: int
    requests: list[Body]
    figures: dict[str, Any]
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "boats.jsonl"
    file.write_text("".join(json.dumps(case) + "\n" for case in CASES), encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out.eval"


@pytest.fixture
def run(
    index: Index, questions: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Run:
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)
    (tmp_path / "names.toml").write_text(NAMES)

    def call(script: Script, *more: str, index_path: Path = index.path) -> Ran:
        words = [
            "eval",
            str(index_path),
            str(questions),
            "-o",
            str(folder),
            "--models-file",
            str(tmp_path / "names.toml"),
        ]
        with ModelServer(script) as server:
            server.use(monkeypatch)
            code = main([*words, *([] if "--models" in more else ["--models", "big,small"]), *more])
        figures = folder / "figures.json"
        out, err = capsys.readouterr()
        return Ran(
            code, server.requests, json.loads(figures.read_text()) if figures.exists() else {}, out, err
        )

    return call


def rows_of(ran: Ran) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows by the model and the id of the question."""
    models = {system["name"]: system["models"]["root"] for system in ran.figures["systems"]}
    return {(models[row["system"]], row["_id"]): row for row in ran.figures["rows"]}


def test_each_question_is_a_run_by_each_system_and_the_figures_are_those_of_hand(
    run: Run, folder: Path
) -> None:
    ran = run(reply, "--routes", "direct")
    assert (ran.code, len(ran.requests)) == (0, 8)
    rows = rows_of(ran)
    assert len(rows) == 8
    masts = rows[MODEL, "masts"]
    assert masts["answer"] == "Two masts. The mizzen is shorter [2]. [1]"
    assert masts["f1"] == pytest.approx(2 * (2 / 5) * 1 / (2 / 5 + 1))  # two masts mizzen is shorter
    assert (masts["exact"], masts["numbers"]) == (0.0, None)
    assert (masts["citation_recall"], masts["citation_precision"], masts["standing"]) == (1.0, 0.5, 1.0)
    assert (rows[SMALL, "masts"]["f1"], rows[SMALL, "masts"]["citation_recall"]) == (pytest.approx(0.5), 0.0)
    assert rows[SMALL, "masts"]["citation_precision"] is None
    weight = rows[MODEL, "weight"]
    assert (weight["exact"], weight["f1"], weight["numbers"], weight["standing"]) == (1.0, 1.0, 1.0, 0.5)
    assert rows[MODEL, "single"]["gold"] == [
        {
            "doc": "one.txt",
            "start": None,
            "end": None,
            "offered": True,
            "entered": True,
            "read": True,
            "cited": True,
        }
    ]
    assert rows[MODEL, "nothing"]["f1"] is None and rows[MODEL, "nothing"]["read"] is None
    assert {(row["alce_recall"], row["alce_precision"]) for row in rows.values()} == {(None, None)}
    big, small = (ran.figures["all"][system["name"]] for system in ran.figures["systems"])
    assert big["quality"]["f1"]["n"] == 3 and big["against_first"] == {}
    difference = small["against_first"]["f1"]
    assert (difference["n"], difference["lower"], difference["higher"]) == (3, 1, 0)
    assert big["cost"]["usd"]["sum"] == pytest.approx(
        sum(r["usd"] for (m, _), r in rows.items() if m == MODEL)
    )
    for row in rows.values():
        assert verify(folder / row["run"]).ok
        assert "Citations" in (folder / row["run"] / "review.html").read_text(encoding="utf-8")
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert all(f'href="{row["run"]}/review.html"' in page for row in rows.values())
    assert "answered" in ran.out and "8 of 8 · direct" in ran.err


def test_a_second_command_asks_nothing_and_says_the_same(run: Run, folder: Path) -> None:
    first = run(reply, "--routes", "direct", "--judge", MODEL)
    again = run(reply, "--routes", "direct", "--judge", MODEL)
    assert (again.code, again.requests) == (0, [])
    assert again.figures == first.figures
    assert again.out == first.out


def test_the_figures_come_out_of_the_traces_by_other_code(
    run: Run, folder: Path, index: Index, questions: Path
) -> None:
    run(reply, "--routes", "direct,retrieve", "--judge", "small")
    assert differences(folder, index.path, [questions]) == []
    file = folder / "figures.json"
    changed = json.loads(file.read_text())
    for row in changed["rows"]:
        row["read"] = 0.25
    changed["all"][changed["systems"][1]["name"]]["against_first"]["f1"]["low"] += 0.001
    changed["all"][changed["systems"][0]["name"]]["cost"]["tokens"]["p95"] += 1
    file.write_text(json.dumps(changed))
    found = differences(folder, index.path, [questions])
    assert len(found) == len(changed["rows"]) + 2, found


def test_a_judge_is_asked_once_for_each_pair_of_texts_and_sentence(run: Run, folder: Path) -> None:
    ran = run(reply, "--routes", "direct", "--models", "big", "--judge", "small")
    judged = [body for body in ran.requests if body["model"] == "small-model"]
    rows = rows_of(ran)
    # "Two masts." cites nothing, "The mizzen is shorter [2]. [1]" cites both: together, and each alone.
    assert (rows[MODEL, "masts"]["alce_recall"], rows[MODEL, "masts"]["alce_precision"]) == (0.0, 0.0)
    assert (rows[MODEL, "weight"]["alce_recall"], rows[MODEL, "weight"]["alce_precision"]) == (1.0, 1.0)
    assert rows[MODEL, "nothing"]["alce_recall"] is None
    assert rows[MODEL, "single"]["alce_recall"] == 0.0
    lines = [
        json.loads(line)
        for file in folder.glob("runs/*/*/judge.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert len(lines) == len(judged) == len({(line["cited"], line["sentence"]) for line in lines})
    assert {line["entails"] for line in lines} == {True, False}
    assert all(line["model"] == SMALL and line["usage"]["usd"] > 0 for line in lines)


def test_one_cap_holds_for_all_commands_together_and_a_higher_one_goes_on(run: Run, folder: Path) -> None:
    ran = run(reply, "--routes", "direct", "--max-calls", "5")
    assert (ran.code, len(ran.requests)) == (3, 5)
    left = "no result of 3 runs: not asked, as what is left of the cap of 5 calls does not pay for it\n"
    assert left in ran.err
    assert "give a higher --max-calls with the same command" in ran.err
    assert "run the same command again" not in ran.err
    assert [row["_id"] for row in ran.figures["rows"]].count("masts") == 2  # question by question, by both
    again = run(reply, "--routes", "direct", "--max-calls", "5")
    assert (again.code, again.requests) == (3, [])
    assert left in again.err and "cap of 0" not in again.err
    assert len(again.figures["rows"]) == 5
    more = run(reply, "--routes", "direct", "--max-calls", "8")
    assert (more.code, len(more.requests), len(more.figures["rows"])) == (0, 3, 8)


@pytest.mark.parametrize(
    ("option", "cap", "words"),
    [("--max-tokens", "4800", "4,800 tokens"), ("--max-usd", "4.8", "$4.8")],
)
def test_the_cap_that_is_told_is_the_one_that_was_given_and_a_reason_is_told_once(
    run: Run, option: str, cap: str, words: str
) -> None:
    run(reply, "--routes", "direct", option, cap)
    again = run(reply, "--routes", "direct", option, cap)
    assert (again.code, again.requests) == (3, [])
    told = [line for line in again.err.splitlines() if line.startswith("no result of ")]
    assert len(told) == 1 and f"the cap of {words} does not pay for it" in told[0]
    assert set(re.findall(r"the cap of (\S+)", again.err)) == {words.split()[0]}
    assert f"give a higher {option}" in again.err and "run the same command again" not in again.err


def test_a_judge_that_the_cap_does_not_pay_for_is_told_as_such(run: Run) -> None:
    ran = run(reply, "--routes", "direct", "--models", "big", "--judge", "small", "--max-calls", "5")
    assert ran.code == 3
    assert "what is left of the cap of 5 calls does not pay for the judge" in ran.err
    assert "no judgement of " in ran.err and "give a higher --max-calls" in ran.err
    assert "run the same command again" not in ran.err


def test_reasons_that_differ_in_numbers_alone_are_one_line(run: Run) -> None:
    tries = itertools.count(101)

    def fails(body: Body) -> Step:
        return error(400, f"no, says line {next(tries)}")

    ran = run(fails, "--routes", "direct", "--models", "big")
    told = [line for line in ran.err.splitlines() if line.startswith("no result of ")]
    assert len(told) == 1 and told[0].startswith("no result of 4 runs: ")
    assert "run the same command again to ask for these once more" in ran.err


def test_what_the_page_shows_is_not_taken_out_of_it(run: Run, folder: Path, questions: Path) -> None:
    run(reply, "--routes", "direct,retrieve", "--models", "big", "--judge", "offline/judge")
    before = (folder / "page.html").read_bytes()
    fewer = {
        "retrieve · openai/test-model": ["--routes", "direct", "--judge", "offline/judge"],
        "the judge offline/judge": ["--routes", "direct,retrieve"],
    }
    for words, more in fewer.items():
        ran = run(reply, "--models", "big", *more)
        assert (ran.code, ran.requests) == (2, [])
        assert (folder / "page.html").read_bytes() == before
        assert f"shows {words} too" in ran.err and "another folder with -o" in ran.err
    same = run(reply, "--routes", "retrieve,direct", "--models", "big", "--judge", "offline/judge")
    assert (same.code, same.requests) == (0, [])
    other = questions.rename(questions.with_name("other.jsonl"))
    questions.write_text(json.dumps({"text": "How many masts?"}) + "\n")
    both = run(
        reply, str(other), "--routes", "direct,retrieve", "--models", "big", "--judge", "offline/judge"
    )
    assert both.code == 0
    ran = run(reply, "--routes", "direct,retrieve", "--models", "big", "--judge", "offline/judge")
    assert (ran.code, ran.requests) == (2, []) and "shows the questions of other too" in ran.err
    (folder / "figures.json").unlink()
    assert run(reply, "--routes", "direct", "--models", "big").code == 0


def test_dollars_are_counted_over_runs_and_judge(run: Run, folder: Path) -> None:
    ran = run(reply, "--routes", "direct", "--judge", "big", "--max-usd", "40")
    spent = Evaluation(folder).spent()
    assert ran.code == 0
    assert spent.calls == len(ran.requests)
    assert sum(row["usd"] for row in ran.figures["rows"]) < spent.usd <= 40


def test_a_run_that_failed_is_tried_again_and_its_first_try_stays(run: Run, folder: Path) -> None:
    def fails(body: Body) -> str | Step:
        return error(400, "no") if "heavy" in text_of(body["messages"][-1]["content"]) else reply(body)

    ran = run(fails, "--routes", "direct", "--models", "big")
    assert ran.code == 3 and "run the same command again" in ran.err
    assert (rows_of(ran)[MODEL, "weight"]["stop"], rows_of(ran)[MODEL, "weight"]["f1"]) == ("failed", 0.0)
    again = run(reply, "--routes", "direct", "--models", "big")
    assert (again.code, len(again.requests)) == (0, 1)
    row = rows_of(again)[MODEL, "weight"]
    assert (row["stop"], row["f1"]) == ("answer", 1.0)
    assert row["run"].endswith(".2") and (folder / row["run"].removesuffix(".2") / "trace.jsonl").exists()


LOOK = "```python\nprint(context.read('L0-00000'))\n```"


def test_a_run_that_its_own_cap_ended_is_a_result(run: Run) -> None:
    own = run([LOOK], "--routes", "rlm", "--models", "big", "--each-calls", "3")
    assert {row["stop"] for row in own.figures["rows"]} == {"budget"}
    assert (own.code, len(own.requests)) == (0, 12)
    assert run([LOOK], "--routes", "rlm", "--models", "big", "--each-calls", "3").requests == []


def test_a_run_that_the_cap_of_all_ended_is_shown_and_tried_again_under_a_higher_one(run: Run) -> None:
    ran = run([LOOK], "--routes", "rlm", "--models", "big", "--max-calls", "5", "--at-once", "1")
    assert ran.code == 3 and "no result of 1 run: stopped by the cap of 5 calls\n" in ran.err
    assert "give a higher --max-calls" in ran.err and "run the same command again" not in ran.err
    assert [(row["_id"], row["stop"]) for row in ran.figures["rows"]] == [("masts", "budget")]
    more = run(["```python\nFINAL('two masts', citations=[])\n```"], "--routes", "rlm", "--models", "big")
    assert (more.code, len(more.requests)) == (0, 4)
    assert rows_of(more)[MODEL, "masts"]["exact"] == 1.0


def test_other_models_are_a_system_beside_and_another_index_is_refused(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    run(reply, "--routes", "direct", "--models", "big")
    ran = run(reply, "--routes", "direct", "--models", "big,small")
    assert len(ran.requests) == 4
    assert {body["model"] for body in ran.requests} == {"small-model"}
    (folder / "figures.json").unlink()
    hotter = run(reply, "--routes", "direct", "--models", "big", "--temperature", "1")
    assert len(hotter.requests) == 4
    publish_toy(tmp_path / "other.index")
    (tmp_path / "other.txt").write_text("The ketch has two masts.")
    before = (folder / "figures.json").read_bytes()
    refused = run(reply, "--routes", "direct", "--require-citations")
    assert (
        refused.code == 2 and "out.eval holds runs with another demands; name another folder" in refused.err
    )
    common = folder / "evaluation.json"
    common.write_text(common.read_text().replace('"index": "', '"index": "0'))
    refused = run(reply, "--routes", "direct")
    assert refused.code == 2 and "out.eval holds runs with another index; name another folder" in refused.err
    assert refused.requests == [] and (folder / "figures.json").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        (["--routes", "direct,tree"], "there is no route 'tree'; there are auto, direct"),
        (["--routes", "direct,direct"], "is named twice"),
        (["--models", "big,,small"], "name models with commas between"),
        (["--at-once", "0"], "--at-once is 0"),
        (["--each-usd", "-1"], "--each-usd is -1"),
        (["--judge", "nobody/knows"], "unknown model 'nobody/knows'"),
        (["--by", "exactt"], "there is no figure 'exactt'; there are exact, f1, numbers"),
        (
            ["--by", "alce_recall"],
            "the figure alce_recall needs a judge, and there is none; choose of exact, f1",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence_before_anything_is_asked(
    run: Run, more: list[str], wrong: str
) -> None:
    ran = run(reply, *more)
    assert (ran.code, ran.requests) == (2, [])
    said = ran.err.partition("rlm: ")[2]
    assert wrong in said and said.count("\n") == 1


ANSWERED, HELD = {"answers": ["two"]}, {"gold": [{"doc": "one.txt"}]}


@pytest.mark.parametrize(
    ("case", "by", "wrong"),
    [
        ({}, "f1", "the figure f1 needs given answers, and there is none; choose of standing"),
        ({}, "cited", "the figure cited needs gold"),
        (HELD, "f1", "the figure f1 needs given answers, and there is none; choose of citation_recall"),
        (ANSWERED, "cited", "the figure cited needs gold, and there is none; choose of exact, f1, standing"),
        (ANSWERED, "numbers", "the figure numbers needs given answers with numbers in digits"),
        (ANSWERED, "alce_precision", "the figure alce_precision needs a judge"),
    ],
)
def test_a_figure_that_no_run_can_have_is_refused_before_anything_is_asked(
    run: Run, questions: Path, case: dict[str, Any], by: str, wrong: str
) -> None:
    questions.write_text(json.dumps({"text": "How many masts?"} | case) + "\n")
    ran = run(reply, "--by", by)
    assert (ran.code, ran.requests) == (2, [])
    said = ran.err.partition("rlm: ")[2]
    assert wrong in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("case", "more", "by"),
    [
        (ANSWERED | HELD, [], "f1"),
        (HELD, [], "cited"),
        ({}, ["--judge", "offline/judge"], "alce_recall"),
        ({}, [], None),
    ],
)
def test_without_a_figure_named_the_first_that_is_possible_is_taken(
    run: Run, questions: Path, folder: Path, case: dict[str, Any], more: list[str], by: str | None
) -> None:
    questions.write_text(json.dumps({"text": "How many masts?"} | case) + "\n")
    ran = run(reply, "--routes", "direct", *more)
    assert (ran.code, len(ran.requests), ran.figures["by"]) == (0, 2, by)
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert ('id="frontier"' in page) == ('href="#frontier"' in page) == (by is not None)
    assert "Two masts." in page and "answered" in ran.out and "tokens, mean" in ran.out


def test_a_program_that_gives_something_else_is_told_in_one_sentence(tmp_path: Path) -> None:
    case = {"text": "How many masts has the ketch?"}
    (tmp_path / "q.jsonl").write_text(json.dumps(case) + "\n")
    cases, system = rlm.read_cases([tmp_path / "q.jsonl"]), rlm.System("direct", rlm.Models())
    something: Any = rlm
    wrong: dict[str, Callable[[], Any]] = {
        "there is no route 'foo'; there are auto": lambda: something.System("foo", rlm.Models()),
        "models is 3; give a Models": lambda: something.System("direct", 3),
        "models is 'gpt'; give a Models": lambda: something.System("direct", "gpt"),
        "window is 'wide'; give a whole number": lambda: something.System("direct", rlm.Models(), "wide"),
        "there is no route 3": lambda: something.System(3, rlm.Models()),
        "no question is given": lambda: rlm.Grid([], []),
        "no system is named": lambda: rlm.Grid(cases, []),
        "cases is 'q.jsonl'": lambda: something.Grid("q.jsonl", [system]),
        "systems[0] is": lambda: something.Grid(cases, ["direct"]),
        "at_once is 0": lambda: rlm.Grid(cases, [system], at_once=0),
        "there is no figure 'best'": lambda: rlm.Grid(cases, [system], by="best"),
        "grid is 'x'; give a Grid": lambda: something.evaluate("my.index", "x", "y"),
        "folder is 3": lambda: something.evaluate("my.index", rlm.Grid(cases, [system]), 3),
        "paths is 'q.jsonl'; give a list": lambda: rlm.read_cases("q.jsonl"),
    }
    for words, call in wrong.items():
        with pytest.raises(rlm.RlmError, match=re.escape(words)) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_a_folder_of_something_else_is_left_alone(run: Run, folder: Path) -> None:
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    ran = run(reply, "--routes", "direct")
    assert ran.code == 2 and "holds something else than an evaluation" in ran.err
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_two_commands_do_not_write_one_folder(run: Run, folder: Path) -> None:
    with Evaluation(folder).lock():
        ran = run(reply, "--routes", "direct")
    assert ran.code == 2 and "another evaluation is writing" in ran.err
    assert run(reply, "--routes", "direct").code == 0


def test_a_program_evaluates_a_text_file_with_what_the_package_names(tmp_path: Path) -> None:
    (tmp_path / "boats.txt").write_text("The ketch has two masts. A yawl has two masts too.\n")
    case = {"text": "How many masts has the ketch?", "answers": ["two"], "gold": [{"doc": "boats.txt"}]}
    (tmp_path / "q.jsonl").write_text(json.dumps(case) + "\n")
    grid = rlm.Grid(rlm.read_cases([tmp_path / "q.jsonl"]), [rlm.System("direct", rlm.Models())])
    report = rlm.evaluate(tmp_path / "boats.txt", grid, tmp_path / "out")
    figures: Any = report.figures
    (row,) = figures["rows"]
    assert (row["stop"], row["cited"], report.before, report.left) == ("answer", 1.0, 0, {})
    assert rlm.evaluate(tmp_path / "boats.txt", grid, tmp_path / "out").before == 1
    with pytest.raises(rlm.RlmError, match="no system is named"):
        rlm.evaluate(tmp_path / "boats.txt", rlm.Grid(grid.cases, []), tmp_path / "out")


@pytest.mark.slow  # a process of its own imports litellm
def test_a_command_that_is_killed_goes_on_and_repeats_nothing_that_was_answered(
    run: Run, questions: Path, folder: Path, tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = 5

    def then_slow(body: Body) -> str | Step:
        return slow("too late", 60) if len(server.requests) > answered else reply(body)

    with ModelServer(then_slow) as server:
        server.use(monkeypatch)
        words = [
            str(index.path),
            str(questions),
            "-o",
            str(folder),
            "--models-file",
            str(tmp_path / "names.toml"),
        ]
        command = [
            sys.executable,
            "-P",
            "-m",
            "rlm.cli",
            "eval",
            *words,
            "--models",
            "big,small",
            "--routes",
            "direct",
        ]
        process = subprocess.Popen(
            [*command, "--at-once", "2"],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=dict(os.environ),
        )
        deadline = time.monotonic() + 120
        while server.calls < answered + 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    assert server.calls == answered + 2
    traces = {path: path.read_bytes() for path in folder.glob("runs/*/*/trace.jsonl")}
    assert len(traces) == answered + 2
    half = Evaluation(folder).spent()
    assert half.calls == answered + 2  # those under way may have been billed
    ran = run(reply, "--routes", "direct")
    assert (ran.code, len(ran.requests), len(ran.figures["rows"])) == (0, 3, 8)
    assert all(path.read_bytes() == content for path, content in traces.items())
    assert differences(folder, index.path, [questions]) == []
