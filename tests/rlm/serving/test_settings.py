"""What a server is told to serve, and the command that tells it."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from rlm.cli import main
from rlm.errors import RlmError
from rlm.serving.settings import check_name, named_indexes
from tests.helpers.places import ROOT
from tests.helpers.toy import publish_toy


def test_an_index_is_called_as_its_folder_or_as_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("my.index", "Größe 1.index", "a=b.index"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    found = named_indexes(["my.index", "docs=my.index/", "Größe 1.index", "a=b.index"])
    assert list(found) == ["my", "docs", "Große-1".replace("ß", ""), "a-b"]
    assert found["docs"] == tmp_path / "my.index"
    with pytest.raises(RlmError, match="two indexes are called my"):
        named_indexes(["my.index", "my=my.index"])
    with pytest.raises(RlmError, match=r"there is no index at other\.index"):
        named_indexes(["other.index"])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "-x", "x" * 65, "größe", "a b", "a\n"])
def test_a_name_that_could_not_stand_in_an_address_is_refused(name: str) -> None:
    with pytest.raises(RlmError, match="an index cannot be called"):
        check_name(name)


def test_without_its_packages_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve"]) == 2
    assert (
        capsys.readouterr().err == "rlm: rlm serve needs the extra `serve`: pip install 'raptor-rlm[serve]'\n"
    )


def test_without_a_key_it_listens_on_this_machine_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--host", "0.0.0.0", "--data", str(tmp_path)]) == 2
    assert "--host 0.0.0.0 lets others ask, and no key was made" in capsys.readouterr().err


def test_a_model_that_nobody_knows_is_refused_before_it_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model", "nope", "--data", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("rlm: unknown model 'nope'") and told.count("\n") == 1


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    publish_toy(tmp_path / "toy.index")
    command = [
        sys.executable,
        "-P",
        "-m",
        "rlm.cli",
        "serve",
        "toy=toy.index",
        "--port",
        "0",
        "--data",
        "data",
    ]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    ) as server:
        assert server.stderr
        told = server.stderr.readline()
        assert told.startswith("serving toy at http://127.0.0.1:")
        try:
            assert httpx.get(told.split()[-1] + "api/indexes").json()[0]["documents"] == 3
            server.send_signal(signal.SIGTERM)
            rest = server.stderr.read()
        finally:
            server.kill()
    assert server.returncode == 0, rest
    assert "GET /api/indexes 200" in rest
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
