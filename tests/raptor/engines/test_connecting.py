"""Which engine is taken, and what is said where a Ray cluster cannot be."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raptor.build import build_index
from raptor.cli import main
from raptor.engines import on_ray
from raptor.engines.choosing import chosen
from raptor.engines.engine import Stage
from raptor.engines.local import Local
from raptor.engines.on_ray import OnRay, check_versions, versions
from raptor.errors import RaptorError
from tests.helpers import stages, tiny_embedder


def mapped(address: str) -> list[tuple[int, float]]:
    return list(OnRay(address).map_batches(Stage("halve", stages.halved, 2), [1]))


def test_the_engine_is_this_machine_unless_another_is_named() -> None:
    with chosen("local", "") as engine:
        assert isinstance(engine, Local)
    with chosen("ray", "") as engine:
        assert isinstance(engine, OnRay)  # which connects to nothing before it is needed


def test_an_unknown_engine_and_an_address_without_ray_are_refused(tmp_path: Path) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 1)
    with pytest.raises(RaptorError, match=r"^engine is 'dask'; give one of local, ray$"):
        build_index(docs, tmp_path / "i", engine="dask")
    with pytest.raises(
        RaptorError, match=r"^an address is that of a Ray cluster, and the engine is local; give"
    ):
        build_index(docs, tmp_path / "i", address="127.0.0.1:6379")
    assert not (tmp_path / "i").exists()


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        RaptorError, match=r'^the engine ray needs a package: pip install "raptor-rlm\[ray\]"$'
    ):
        mapped("")


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:port", "head:", ""])
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # which another user of this machine may answer
    with pytest.raises(RaptorError, match=r"^the address '.*' is none of a Ray cluster; give the host:port"):
        mapped(address)


def test_a_cluster_that_is_not_there_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray tries for minutes, and then ends the process."""
    pytest.importorskip("ray")
    monkeypatch.setattr(on_ray, "REACH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(
            RaptorError, match=rf"^there is no Ray cluster at {address} \(.*timed out.*ray start"
        ):
            mapped(address)
    with pytest.raises(
        RaptorError, match=rf"^there is no Ray cluster at {address} \(Connection refused\); start"
    ):
        mapped(address)


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """The address of a server that answers its first connection with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_server_of_something_else_is_no_cluster() -> None:
    pytest.importorskip("ray")
    reply = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with answering(reply) as address, pytest.raises(RaptorError, match=r"what listens there is no Ray"):
        mapped(address)


def test_a_server_that_does_not_say_which_cluster_it_is_is_none_before_ray_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")
    asked = list[str]()

    def silent(address: str) -> None:  # after half a minute
        asked.append(address)
        raise ray.exceptions.RpcError("Deadline Exceeded")

    monkeypatch.setattr(ray._raylet, "GcsClient", silent)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("it would try for minutes"))
    with (
        answering(b"\0\0\0\4\0\0\0\0\0") as address,
        pytest.raises(RaptorError, match=rf"^cannot use the Ray cluster {address} \(.*Deadline Exceeded\)$"),
    ):
        mapped(address)
    assert asked == [address]


def test_a_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    docs = tiny_embedder.write_documents(tmp_path / "docs", 1)
    words = [
        "build",
        str(docs),
        "-o",
        str(tmp_path / "i"),
        "--engine",
        "ray",
        "--address",
        "nowhere",
        "--quiet",
    ]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("raptor: the address 'nowhere' is none of a Ray cluster") and said.count("\n") == 1


def test_a_worker_with_other_versions_is_refused() -> None:
    check_versions(versions())
    with pytest.raises(
        RaptorError, match=r"has other versions than the build \(numpy .* there, 0.1 here\); install"
    ):
        check_versions({**versions(), "numpy": "0.1"})


def test_the_process_is_left_where_it_was_and_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    folder = Path.cwd()
    with on_ray._begun_cleanly(ray, alone=True):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert Path.cwd() == Path(os.sep)
    assert (Path.cwd(), os.environ["RAY_USAGE_STATS_ENABLED"]) == (folder, "1")


@pytest.mark.slow
def test_a_cluster_that_is_begun_here_listens_to_this_machine_alone_and_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    ray = pytest.importorskip("ray")
    engine = OnRay()
    try:
        assert list(engine.map_batches(Stage("halve", stages.halved, 2), [1])) == [(0, 0.5)]
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        assert host == "127.0.0.1"
        # All of 127.0.0.0/8 is this machine: on another address of it nobody listens.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", int(port)), 5)
    finally:
        engine.close()
    assert capfd.readouterr() == ("", "")
