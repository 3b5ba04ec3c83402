"""What is sent with the calls of a summarizer, which may be named by a short name of the user's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from raptor.cli import main
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.short_names import Command, commands, own_models, sent

SUMMARY = "LABEL: boats\nSUMMARY: A ketch has two masts."


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_models(tmp_path, monkeypatch, f'[careful]\nmodel = "{MODEL}"\nseed = 7\n')


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Command:
    return commands(main, capsys)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer([SUMMARY]) as opened:
        opened.use(monkeypatch)
        yield opened


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "boats.txt").write_text("The ketch has two masts. " * 60)
    return folder


@pytest.mark.slow
def test_a_build_and_an_update_send_the_options_of_a_summarizer_and_keep_what_was_paid_by_them(
    call: Command, server: ModelServer, documents: Path, tmp_path: Path
) -> None:
    out = tmp_path / "built.index"
    build = ["build", documents, "-o", out, "--summarizer", "careful"]
    code, _, err = call(*build)
    assert code == 0, err
    assert all(sent(body) == {"temperature": 0.0, "seed": 7} for body in server.requests)
    first = server.calls
    assert call(*build)[0] == 0 and server.calls == first
    assert call(*build, "--temperature", "1")[0] == 0 and server.calls > first
    (documents / "more.txt").write_text("A yawl has a mizzen aft of its rudder. " * 60)
    before = server.calls
    code, _, err = call("update", out, documents, "--summarizer", "careful")
    assert code == 0 and server.calls > before, err
    assert sent(server.requests[-1]) == {"temperature": 0.0, "seed": 7}
    code, text, _ = call("inspect", out)
    assert 'summarizer_options {"seed": 7}' in text


@pytest.mark.parametrize("command", ["build", "update", "sync", "remove"])
def test_options_without_a_model_to_send_them_to_are_refused(
    call: Command, documents: Path, tmp_path: Path, command: str
) -> None:
    words = {
        "build": ["build", documents, "-o", tmp_path / "x"],
        "update": ["update", tmp_path / "x", documents],
        "sync": ["sync", tmp_path / "x"],
        "remove": ["remove", tmp_path / "x", "boats.txt"],
    }[command]
    code, _, err = call(*words, "--temperature", "0.5")
    assert code == 2 and err.startswith("raptor: temperature would be sent with the calls of a model")


def test_an_option_that_the_summarizer_does_not_take_is_told_once(
    call: Command, documents: Path, tmp_path: Path
) -> None:
    build = ["build", documents, "-o", tmp_path / "x", "--dry-run", "--summarizer", "openai/gpt-5-mini"]
    told = "note: openai/gpt-5-mini does not take temperature as it was given: it is not sent\n"
    assert call(*build, "--temperature", "0.2")[2].count(told) == 1
    assert "note: " not in call(*build, "--temperature", "0.2", "--quiet")[2]
    assert "note: " not in call(*build, "--model-option", "seed=7")[2]
