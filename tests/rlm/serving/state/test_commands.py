"""`rlm keys`, and a run that is paid from a key, from its first call to the list that is made anew."""

import json
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from index_store.index import Index
from rlm.asking.asking import ask_opened
from rlm.asking.options import Options
from rlm.audit import read
from rlm.audit.log import FILE_NAME
from rlm.cli import main
from rlm.gateway.blocking import run_blocking
from rlm.limits import Limits, Models
from rlm.serving.state.database import Database
from rlm.serving.state.tables import SPENDING
from rlm.serving.types import Grant
from tests.helpers.gateway_calls import about
from tests.helpers.model_server import MODEL, ModelServer, Step
from tests.helpers.paying import key_of, purse_of
from tests.rlm.serving.state.test_money import sums

COUNT = "```python\nprint(len(context.overview()))\n```"
SAYS = "It has two masts."
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def keys(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["keys", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_key_is_made_listed_and_revoked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    db = ["--db", str(tmp_path / "state.sqlite")]
    words = [
        "--index",
        "docs",
        "--usd-per-day",
        "2",
        "--requests-per-minute",
        "9",
        "--as",
        "hr, legal",
        "--write",
    ]
    code, secret, told = keys(capsys, "add", "alice", *words, *db)
    assert code == 0 and "keep it now" in told
    database = Database(db[1])
    grant = database.grant(secret.strip())
    assert grant == Grant(
        grant.key if grant else "",
        "alice",
        frozenset({"docs"}),
        None,
        frozenset({"hr", "legal"}),
        2.0,
        9,
        True,
        False,
    )
    for labels, access in (("", frozenset[str]()), ("*", None)):
        _, said, _ = keys(capsys, "add", f"as {labels}", "--as", labels, "--json", *db)
        made = database.grant(json.loads(said)["key"])
        assert made is not None and made.access == access and not made.may_write
    database.close()
    _, listed, _ = keys(capsys, "list", *db)
    assert secret.strip() not in listed and f"{secret[:7]}...  $0.0000" in listed and "hr, legal" in listed
    assert keys(capsys, "revoke", "alice", *db)[0] == 0
    rows = json.loads(keys(capsys, "list", "--json", *db)[1])
    assert [row["revoked"] is None for row in rows] == [False, True, True]
    assert "digest" not in rows[0] and secret.strip() not in json.dumps(rows)
    assert keys(capsys, "revoke", "alice", *db)[0] == 2


@pytest.mark.parametrize("words", [["list"], ["revoke", "alice"], ["rebuild", "--runs", "."]])
@pytest.mark.parametrize("before", ["", "sqlite:///"])
def test_a_database_that_is_not_there_is_refused_and_not_made(
    words: list[str], before: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, told = keys(capsys, *words, "--db", f"{before}{tmp_path / 'nope.sqlite'}")
    assert code == 2 and told.startswith(f"rlm: there is no database at {tmp_path / 'nope.sqlite'}; name ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "way_out"),
    [(["keys", "list"], "--db"), (["serve", "a.txt"], "--data"), (["mcp", "a.txt"], "--runs")],
)
def test_without_a_home_it_is_one_sentence(
    words: list[str],
    way_out: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("Two masts.")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rlm: there is no home folder") and way_out in line
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_without_the_packages_of_the_extra_it_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    code, _, told = keys(capsys, "list")
    assert (code, told) == (2, "rlm: rlm keys needs the extra `serve`: pip install 'raptor-rlm[serve]'\n")


@pytest.mark.slow
def test_a_run_that_the_ceiling_ends_says_so_answers_and_is_found_again_in_its_folder(
    index: Index, tmp_path: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server._script = lambda body: Step(SAYS if body["max_tokens"] == 400 else COUNT, usage=USAGE)
    url = str(tmp_path / "state.sqlite")
    database = Database(url)
    grant = key_of(database, usd=12.0)
    options = Options(
        "rlm", Models(MODEL, MODEL), Limits(turns=50, reply_tokens=200), runs=tmp_path / "runs", memo=False
    )
    answer = run_blocking(
        ask_opened(index, "How many masts has a ketch?", options, purse=purse_of(database, grant))
    )
    assert answer.stop == "budget"
    assert answer.content == SAYS  # by the call that was kept back
    assert "daily ceiling of $12.00 of the key key 0" in answer.why
    spent, reserved = sums(database)
    assert spent == about(answer.usage.usd) and 0 < spent <= 12.0 and reserved == 0
    events, verdict = read(answer.trace)
    assert verdict.ok and events[0]["key"] == grant.key
    database.close()
    # the same from the folder of runs, and what a run that was killed had paid for
    killed = tmp_path / "runs" / "killed"
    killed.mkdir()
    lines = (answer.trace / FILE_NAME).read_bytes().splitlines(keepends=True)
    (killed / FILE_NAME).write_bytes(b"".join(lines[:-2]))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / FILE_NAME).write_text("{}\n")
    anew = ["--db", str(tmp_path / "new.sqlite")]
    assert keys(capsys, "add", "a new key", *anew)[0] == 0  # which makes the database
    code, told, left_out = keys(capsys, "rebuild", "--runs", str(tmp_path / "runs"), *anew)
    assert (code, told) == (0, "2 runs listed, and spending of 1 day entered\n") and "broken" in left_out
    new = Database(anew[1])
    runs = new.runs(Grant())
    assert {run.folder for run in runs} == {answer.trace.name, "killed"}
    assert {run.stop for run in runs} == {"budget", "unclosed"}
    assert {(run.key, round(run.usd, 9), run.calls) for run in runs} == {
        (grant.key, round(answer.usage.usd, 9), answer.usage.calls)
    }
    (row,) = new.store.read(lambda c: c.execute(select(SPENDING)).all())
    assert row.key == grant.key and row.spent / 1e12 == about(2 * answer.usage.usd)
    keys(capsys, "rebuild", "--runs", str(tmp_path / "runs"), *anew)  # twice is as once
    (again,) = new.store.read(lambda c: c.execute(select(SPENDING)).all())
    assert tuple(again) == tuple(row)
    new.close()
