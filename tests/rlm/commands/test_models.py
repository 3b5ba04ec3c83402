"""Models by short names on the command lines, what goes out with their calls, and `rlm models`, which lists them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlm.cli
from index_store.index import Index
from rlm import Models, RlmError, ask
from rlm.asking.many import asked_with
from rlm.asking.options import Options
from rlm.audit import read
from rlm.gateway import models as models_module
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.rlm_toy import warm_up
from tests.helpers.short_names import Command, commands, own_models, sent

QUESTION = "How many masts has the ketch?"
REPLY = 'Two masts.\n\n[boats.txt] "The ketch has two masts."'
FILE = f"""
[fast]
model = "{MODEL}"
temperature = 0.25
reasoning_effort = "low"
usd_per_million = [0.5, 2]
window = 9000

[careful]
model = "{MODEL}"
seed = 7

[gone]
model = "nonsense-model"

[claude]
model = "anthropic/claude-sonnet-4-5"
"""


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    warm_up()
    monkeypatch.setattr(models_module, "_given", {})
    return own_models(tmp_path, monkeypatch, FILE)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Command:
    return commands(rlm.cli.main, capsys)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer([REPLY]) as opened:
        opened.use(monkeypatch)
        yield opened


def test_a_short_name_and_what_is_typed_go_out_and_stand_in_the_trace(
    call: Command, server: ModelServer, index: Index, tmp_path: Path
) -> None:
    words = ["ask", index.path, QUESTION, "--route", "direct", "--runs", tmp_path / "runs", "--model", "fast"]
    code, _, err = call(*words, "--model-option", "top_p=0.9", "--child-model", "careful")
    assert code == 0, err
    assert sent(server.requests[0])["temperature"] == 0.25
    assert (server.requests[0]["model"], server.requests[0]["top_p"]) == ("test-model", 0.9)
    (run,) = (tmp_path / "runs").iterdir()
    opened = read(run)[0][0]
    fast = {"temperature": 0.25, "reasoning_effort": "low", "top_p": 0.9}
    careful = {"seed": 7, "top_p": 0.9}
    assert opened["models"] == {"root": MODEL, "child": MODEL, "options": fast, "child_options": careful}
    assert opened["limits"]["window"] == 9_000


def test_a_price_that_the_short_name_tells_is_what_a_call_costs_and_keeps_to_the_cap(
    call: Command, server: ModelServer, index: Index, tmp_path: Path
) -> None:
    words = ["ask", index.path, QUESTION, "--route", "direct", "--runs", tmp_path / "runs", "--model", "fast"]
    code, out, _ = call(*words, "--json", "--max-usd", "0.5")
    usage = json.loads(out)["usage"]
    assert code == 0 and usage["usd"] > 0
    assert usage["usd"] == pytest.approx(
        (0.5 * usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6
    )
    code, _, err = call(*words, "--max-usd", "0.001")
    assert code == 3 and "left of the usd cap" in err


def test_sub_calls_of_the_same_model_are_sent_the_options_of_the_child(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = "```python\nFINAL(llm_query('How many?'))\n```"
    with ModelServer(lambda body: cell if body.get("temperature") else "Two.") as server:
        server.use(monkeypatch)
        models = Models(MODEL, MODEL, {"temperature": 1}, {"temperature": 0, "seed": 7})
        answer = ask(index, QUESTION, route="rlm", models=models, runs=tmp_path / "runs")
    assert answer.content == "Two."
    assert [sent(body) for body in server.requests] == [{"temperature": 1}, {"temperature": 0, "seed": 7}]


@pytest.mark.parametrize("command", ["ask", "chat", "shell"])
def test_a_reserved_option_is_refused_before_a_call(
    call: Command, server: ModelServer, index: Index, command: str
) -> None:
    words = [command, index.path, *([QUESTION] if command == "ask" else []), "--model", MODEL]
    code, _, err = call(*words, "--model-option", "max_tokens=5")
    assert (code, server.calls) == (2, 0)
    assert err.removeprefix(f"opening {index.path}\n") == (
        "rlm: the model option 'max_tokens' cannot be set: rlm sets it, or it could change what a call costs or "
        "where it goes\n"
    )


def test_an_answers_file_says_by_which_options_it_was_answered(index: Index) -> None:
    def by(**options: Any) -> Any:
        return asked_with(index, Options(models=Models(MODEL, **options)))["models"]

    assert by() == {"root": MODEL, "child": MODEL}  # as files of earlier versions have it
    assert by(options={"seed": 7}) != by() != by(child_options={"seed": 7}) != by(options={"seed": 7})


def test_a_file_of_answers_of_other_options_is_refused(
    call: Command, server: ModelServer, index: Index, tmp_path: Path
) -> None:
    questions, answers = tmp_path / "q.jsonl", tmp_path / "a.jsonl"
    questions.write_text(json.dumps({"_id": "1", "text": QUESTION}) + "\n")
    words = ["ask", index.path, "--questions", questions, "--answers", answers, "--route", "direct"]
    words += ["--runs", tmp_path / "runs", "--model", MODEL]
    assert call(*words, "--temperature", "0.5")[0] == 0
    assert call(*words, "--temperature", "0.5")[0] == 0
    assert server.calls == 1
    code, _, err = call(*words, "--temperature", "1")
    assert code == 2 and "was answered by other models, or by these with other options; name" in err


def test_short_names_stand_in_python_where_they_are_asked_for(
    index: Index, server: ModelServer, tmp_path: Path
) -> None:
    models = Models.named("fast")
    assert (models.root, models.child) == (MODEL, MODEL)
    assert models.options == models.child_options == {"temperature": 0.25, "reasoning_effort": "low"}
    both = Models.named("offline/navigator", "careful")
    assert (both.root, both.options, both.child, both.child_options) == (
        *("offline/navigator", {}, MODEL, {"seed": 7}),
    )
    assert Models.named("offline/navigator").child == "offline/reader"
    assert ask(index, QUESTION, route="direct", models=models, runs=tmp_path).priced
    assert server.requests[0]["temperature"] == 0.25
    (tmp_path / "other.toml").write_text('[slow]\nmodel = "openai/gpt-5"\n')
    assert Models.named("slow", file=tmp_path / "other.toml").root == "openai/gpt-5"
    assert Models("fast").root == "fast"  # no file is read where nobody asks for it
    with pytest.raises(RlmError, match="cannot read the models"):
        Models.named("slow", file=tmp_path / "nowhere.toml")


def test_a_chat_changes_to_a_model_by_its_short_name_and_keeps_what_was_asked_to_be_sent(
    call: Any, server: ModelServer, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{QUESTION}\n/model fast\n{QUESTION}\n"))
    words = ["chat", index.path, "--route", "direct", "--model", "careful", "--model-option", "top_p=0.5"]
    code, out, _ = call(*words, "--runs", tmp_path / "runs")
    assert code == 0
    assert f"from now on {MODEL} is asked" in out
    first, second = server.requests
    assert (first["seed"], first["top_p"]) == (7, 0.5)
    assert (second["temperature"], second["top_p"], second.get("seed")) == (0.25, 0.5, None)


# -- the list ----------------------------------------------------------------------------------------------


def test_the_models_at_hand_are_listed_with_price_window_and_whether_their_key_is_there(
    call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdefghij")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    code, out, _ = call("models", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert list(rows)[:4] == ["fast", "careful", "gone", "claude"]
    assert set(list(rows)[4:]) >= {"offline/extractive", "offline/navigator", "offline/reader"}
    fast, claude, reader = rows["fast"], rows["claude"], rows["offline/reader"]
    assert (fast["usd_per_million_in"], fast["usd_per_million_out"]) == (0.5, 2.0)
    assert (fast["window"], fast["key"], fast["model"]) == (9_000, True, MODEL)
    assert fast["options"] == {"temperature": 0.25, "reasoning_effort": "low"}
    assert (claude["usd_per_million_in"], claude["usd_per_million_out"]) == (3.0, 15.0)
    assert claude["key"] is False and claude["window"] >= 200_000
    assert (reader["usd_per_million_in"], reader["key"], reader["window"]) == (0.0, None, None)
    assert "unknown model 'nonsense-model'" in rows["gone"]["problem"]
    assert rows["careful"]["usd_per_million_in"] is None
    _, text, _ = call("models")
    assert f"fast = {MODEL} temperature=0.25" in text
    assert "$0.5 in, $2 out a million tokens; window 9,000; key: yes" in text
    assert "$3 in, $15 out a million tokens" in text and "key: no" in text
    assert "careful" in text and "price not known; window not known" in text
    assert "sk-0123456789" not in out + text


def test_one_model_is_told_by_its_short_name_or_litellms(call: Command) -> None:
    code, out, _ = call("models", "fast", "--json")
    assert code == 0 and json.loads(out)["model"] == MODEL
    code, out, _ = call("models", "openai/gpt-5-mini", "--json")
    row = json.loads(out)
    assert (row["name"], row["usd_per_million_in"], row["usd_per_million_out"]) == (
        "openai/gpt-5-mini",
        0.25,
        2.0,
    )
    code, _, err = call("models", "nonsense-model")
    assert code == 2 and err.startswith("rlm: unknown model 'nonsense-model'")
    assert call("models", "gone")[0] == 2


def test_a_file_that_is_named_takes_the_place_of_the_users_own(call: Command, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[slow]\nmodel = "openai/gpt-5"\n')
    _, out, _ = call("models", "--models", other)
    assert out.startswith("slow = openai/gpt-5") and "fast" not in out
