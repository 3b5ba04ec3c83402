"""What a server is told to serve, and the command that tells it."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from rlm.cli import main
from rlm.errors import RlmError
from rlm.serving.settings import check_name, named_indexes
from tests.helpers.places import ROOT
from tests.helpers.served import raw_request, wait_until
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
def test_a_second_interrupt_ends_it_without_a_traceback(tmp_path: Path) -> None:
    with command_in(tmp_path) as server:
        assert server.stderr
        try:
            port = int(server.stderr.readline().strip().strip("/").rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(raw_request("/api/indexes/toy/ask", {"question": "Who?"})[:-1])
                wait_until(lambda: answers(port))
                server.send_signal(signal.SIGINT)
                wait_until(lambda: not answers(port))
                server.send_signal(signal.SIGINT)
                rest = server.stderr.read()
        finally:
            server.kill()
    assert rest.endswith("rlm: stopped\n")
    assert "Traceback" not in rest


def answers(port: int) -> bool:
    """Whether a server takes connections."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def command_in(folder: Path) -> "subprocess.Popen[str]":
    """The command over the toy index, under way in a folder."""
    publish_toy(folder / "toy.index")
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
    return subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT), "HOME": str(folder)},
    )


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with command_in(tmp_path) as server:
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
