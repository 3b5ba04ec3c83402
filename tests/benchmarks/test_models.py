"""The part that asks real models, with a scripted one over HTTP."""

import re
from pathlib import Path

import pytest

from benchmarks import Options, models
from benchmarks._report import Claim, Loss, NotRun, Table
from benchmarks._sets import write
from raptor import build_index
from rlm.gateway.models import give_price
from tests.helpers import tiny_embedder
from tests.helpers.model_server import MODEL, Body, ModelServer, text_of


def counted(body: Body) -> str:
    """A model that counts "prize" in what it is shown, and so is right by one call; in a REPL it answers 0."""
    asked = text_of(body["messages"][-1]["content"])
    if "```" in text_of(body["messages"][0]["content"]):
        return '```python\nanswer["content"] = "0"\nanswer["ready"] = True\n```'
    whose = re.findall(r"of the messages of (user \d+|the month [\d-]+)", asked)[-1].removeprefix(
        "the month "
    )
    lines = re.findall(r"^2024-\d\d user \d+: .*$", asked, re.MULTILINE)
    mine = [line for line in lines if f"{whose}:" in line or line.startswith(whose)]
    return str(sum("prize" in line for line in mine))


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    tiny_embedder.use(monkeypatch)
    rows = [("spam" if n % 3 == 0 else "ham", f"message {n}" + " prize" * (n % 3 == 0)) for n in range(60)]
    data = tmp_path / "data"
    data.mkdir()
    (data / "sms_spam.tsv").write_text("".join(f"{label}\t{text}\n" for label, text in rows))
    documents, _ = models.counting(rows, 4)
    write(tmp_path / "corpus.jsonl", documents)
    build_index(tmp_path / "corpus.jsonl", tmp_path / "work" / "counting")
    return Options(data, tmp_path / "work", questions=4, model=MODEL, usd=1.0)


def test_a_question_counts_what_no_line_says() -> None:
    rows = [("spam", "win"), ("ham", "hello\tthere"), ("spam", "prize")] * 8
    documents, questions = models.counting(rows, 100)
    assert len(documents) == 12
    text = "".join(document["text"] for document in documents)
    assert text.count("\n") == 24 and "spam" not in text
    users = [q for q in questions if "of user" in q["_id"]]
    months = [q for q in questions if "of the month" in q["_id"]]
    assert sum(int(q["answers"][0]) for q in users) == sum(int(q["answers"][0]) for q in months) == 16
    assert len(models.counting(rows, 3)[1]) == 3


def test_ways_are_held_against_each_other_under_one_cap_and_nothing_is_asked_twice(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_price(MODEL, (1.0, 1.0))
    with ModelServer(counted) as server:
        server.use(monkeypatch)
        table, *others = list(models.measure(options))
        asked = server.calls
        assert [table, *others] == list(models.measure(options))
        assert server.calls == asked > 0
    assert isinstance(table, Table)
    ways = {row[1]: row for row in table.rows}
    assert ways["direct"][2:4] == ("4 of 4", "100.0")
    assert ways["navigation"][2] == ways["without recursion"][2] == "4 of 4"
    assert float(ways["navigation"][3]) < 100
    assert table.rows[-1][0] == "published: OOLONG"
    claims = {item.peer.partition(" ")[2]: item for item in others if isinstance(item, Claim)}
    assert {*claims} == {"direct", "retrieve", "without recursion"}
    assert claims["direct"].holds is False
    assert "direct" in {item.plain for item in others if isinstance(item, Loss)}


def test_a_cap_that_pays_for_nothing_leaves_ways_without_answers_that_count_nothing(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_price(MODEL, (1e6, 1e6))
    with ModelServer(counted) as server:
        server.use(monkeypatch)
        table = next(models.measure(options))
        assert server.calls == 0
    assert isinstance(table, Table)
    assert {row[2:4] for row in table.rows[:-1]} == {("0 of 4", "0.0")}


def test_without_a_key_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NotRun, match="no key of a model"):
        next(models.measure(Options(tmp_path, tmp_path)))
