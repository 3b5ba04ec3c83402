"""What an index names is not loaded for that: another embedder than ours is used only when its user names it too."""

from dataclasses import replace
from pathlib import Path

import pytest

import raptor.cli
import rlm.cli
from index_store.errors import BadQuery
from index_store.index import open_any, open_index
from index_store.writer import publish
from tests.helpers import tiny_embedder
from tests.helpers.toy import DIM, toy_draft, unit_rows

Loaded = list[tuple[str, bool]]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """The embedders that were loaded, and whether only from this machine."""
    seen: Loaded = []

    def load(name: str = "minilm", *, offline: bool = False) -> object:
        seen.append((name, offline))
        return replace(tiny_embedder.load(name), encode=lambda texts: unit_rows(max(len(texts), 1)))

    monkeypatch.setattr("index_store.embedder.load_embedder", load)
    return seen


def published(path: Path, embedder: str, summarizer: str = "offline/extractive") -> Path:
    models = {"embedder": embedder, "embedder_fingerprint": "tiny", "summarizer": summarizer}
    publish(path, toy_draft(), models, {})
    return path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


def test_the_built_in_embedder_needs_no_name(tmp_path: Path, loaded: Loaded) -> None:
    index = open_index(published(tmp_path / "i", "minilm"))
    assert index.embed_queries(["a ketch"]).shape == (1, DIM)
    assert loaded == [("minilm", True)]


@pytest.mark.parametrize("name", ["./model", "org/name", "/somewhere/model", "", "minilm ", "MiniLM"])
def test_what_only_an_index_names_is_never_loaded(
    tmp_path: Path, loaded: Loaded, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = published(tmp_path / "i", name)
    for index in (open_index(folder), open_any(folder)):
        with pytest.raises(BadQuery, match="loaded only when you name it too") as raised:
            index.embed_queries(["a ketch"])
        assert repr(name) in str(raised.value)
    assert rlm.cli.main(["search", str(folder), "ketch"]) == 2
    assert "by --embedder" in said(capsys)
    (tmp_path / "new.txt").write_text("New words.")
    assert raptor.cli.main(["update", str(folder), str(tmp_path / "new.txt")]) == 2
    assert "by --embedder" in said(capsys)
    assert raptor.cli.main(["remove", str(folder), "one.txt"]) == 2
    assert "by --embedder" in said(capsys)
    assert loaded == []
    assert rlm.cli.main(["search", str(folder), "ketch", "--mode", "lexical"]) == 0


def test_an_embedder_that_its_user_names_is_loaded_from_this_machine_only(
    tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = published(tmp_path / "i", "org/name"), str(tmp_path / "model")
    assert open_index(folder, embedder=tmp_path / "model").embed_queries(["a ketch"]).shape == (1, DIM)
    assert rlm.cli.main(["search", str(folder), "ketch", "--embedder", model]) == 0
    assert set(loaded) == {(model, True)}


def test_one_with_other_weights_than_built_the_index_is_refused(tmp_path: Path, loaded: Loaded) -> None:
    models = {"embedder": "org/name", "embedder_fingerprint": "others", "summarizer": "hand"}
    publish(tmp_path / "i", toy_draft(), models, {})
    with pytest.raises(BadQuery, match=r"org/name others, found tiny in mine"):
        open_index(tmp_path / "i", embedder="mine").embed_queries(["a ketch"])


def test_an_index_without_models_is_one_sentence(tmp_path: Path, loaded: Loaded) -> None:
    publish(tmp_path / "i", toy_draft(), {}, {})
    with pytest.raises(BadQuery, match="names the embedder ''"):
        open_index(tmp_path / "i").embed_queries(["a ketch"])


def test_a_paid_summarizer_that_only_an_index_names_is_never_called(
    tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    monkeypatch.setattr("rlm.gateway.provider.complete", lambda *given: pytest.fail("a model was called"))
    folder = published(tmp_path / "i", "minilm", "openai/gpt-4o")
    (tmp_path / "new.txt").write_text("New words.")
    for command in (["update", str(folder), str(tmp_path / "new.txt")], ["remove", str(folder), "one.txt"]):
        assert raptor.cli.main(command) == 2
        assert "--summarizer openai/gpt-4o" in said(capsys)


@pytest.mark.parametrize("command", ["search", "ask", "chat", "shell"])
def test_each_command_that_searches_takes_an_embedder(command: str) -> None:
    args = rlm.cli.parser().parse_args([command, "i", "--embedder", "model"])
    assert args.embedder == "model"
