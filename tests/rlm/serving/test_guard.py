"""What every request passes: keys, hosts, origins, lengths, rates; and what every reply carries."""

import logging
import os
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlm.serving.addresses import is_loopback
from rlm.serving.types import Grant
from tests.helpers.model_server import Step
from tests.helpers.served import KeyedState, Served, serving, settings_of, wait_until
from tests.rlm.serving.conftest import SCRIPTED, Model, cell

ASK = {"model": SCRIPTED, "messages": [{"role": "user", "content": "How many?"}]}


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/api/indexes", "/api/nothing", "/v1/models", "/openapi.json"]
)
def test_every_reply_tells_a_browser_to_be_careful(served: Served, path: str) -> None:
    with served.client() as client:
        headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in headers


def test_without_keys_only_this_machine_is_asked_for_and_only_by_its_own_pages(served: Served) -> None:
    with served.client() as client:
        evil = client.get("/api/indexes", headers={"Host": f"evil.example:{served.port}"})
        assert (evil.status_code, evil.json()["code"]) == (403, "forbidden_host")
        assert client.get("/", headers={"Host": "127.0.0.1.evil.example"}).status_code == 403
        assert client.get("/api/indexes", headers={"Host": f"localhost:{served.port}"}).status_code == 200
        page = client.post("/v1/chat/completions", json=ASK, headers={"Origin": "https://evil.example"})
        assert (page.status_code, page.json()["error"]["code"]) == (403, "forbidden_origin")
        assert client.get("/api/jobs", headers={"Origin": "null"}).status_code == 403
        assert client.get("/api/jobs", headers={"Origin": served.url}).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("10.0.0.1", False),
        ("2130706433", False),
    ],
)
def test_a_name_is_loopback_only_if_it_can_be_nothing_else(host: str, *, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours


@pytest.mark.parametrize("key", ["", "rk-wrong", "rk-ann"])
def test_with_keys_only_a_known_one_is_let_in(keyed: Served, key: str) -> None:
    with keyed.client() as client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        reply = client.get("/api/indexes", headers=headers)
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == 200
    assert reply.status_code == (200 if key == "rk-ann" else 401)
    if reply.status_code == 401:
        assert reply.headers["www-authenticate"] == "Bearer"


def test_a_key_sees_its_own_indexes_models_and_runs_alone(keyed: Served, model: Model) -> None:
    model.reply = cell('FINAL("Two.")')
    with keyed.client("rk-ann") as ann, keyed.client("rk-bob") as bob, keyed.client("rk-root") as root:
        assert [index["name"] for index in ann.get("/api/indexes").json()] == ["toy"]
        assert ann.get("/api/indexes/lights").status_code == 404
        assert ann.get("/api/indexes/lights").json()["detail"] == "there is no index 'lights'; there is toy"
        default = ann.post("/api/indexes/toy/ask", json={"question": "?"})
        assert (default.status_code, default.json()["code"]) == (403, "model_not_allowed")
        assert ann.post("/api/indexes/toy/documents", files={"files": ("a.md", b"A.")}).status_code == 403
        asked = ann.post("/v1/chat/completions", json=ASK).json()
        run = asked["raptor"]["run"]
        job = ann.get("/api/jobs").json()[0]["job"]
        for client, status in ((ann, 200), (bob, 404), (root, 200)):
            for path in (
                f"/api/runs/{run}",
                f"/api/runs/{run}/page",
                f"/api/runs/{run}/events",
                f"/api/jobs/{job}",
            ):
                assert client.get(path).status_code == status, path
        assert bob.get("/api/jobs").json() == []
        assert bob.get("/api/runs").json()["total"] == 0
        assert bob.delete(f"/api/jobs/{job}").status_code == 404
        note = {"verdict": "rejected", "by": "somebody else"}
        assert ann.post(f"/api/runs/{run}/review", json=note).json()["by"] == "ann"
        ticket = ann.post(f"/api/runs/{run}/ticket").json()["url"]
        with keyed.client() as frame:
            assert frame.get(ticket).status_code == 200
            assert frame.get(ticket.replace("ticket=", "ticket=0")).status_code == 403
            assert frame.get(f"/api/runs/{run}/page").status_code == 401


def test_a_key_that_asks_too_often_is_told_to_wait_and_one_without_money_that_it_is_spent(
    keyed: Served, state: KeyedState
) -> None:
    state.waits["b2"], state.broke = 2.3, {"c3"}
    try:
        with keyed.client("rk-bob") as bob, keyed.client("rk-root") as root:
            reply = bob.post("/v1/chat/completions", json=ASK)
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
            assert reply.json()["error"]["type"] == "rate_limit_error"
            spent = root.post("/v1/chat/completions", json=ASK)
            assert (spent.status_code, spent.json()["error"]["type"]) == (402, "insufficient_quota")
            assert root.post("/api/indexes/toy/ask", json={"question": "?"}).status_code == 402
    finally:
        state.waits, state.broke = {}, set()


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(served: Served) -> None:
    most = served.server.settings.json_bytes
    long = {"model": "toy", "messages": [{"role": "user", "content": "x" * most}]}
    with served.client() as client:
        told = client.post("/v1/chat/completions", json=long)
        assert (told.status_code, told.json()["error"]["message"]) == (
            413,
            f"the body is longer than {most:,} bytes; send less",
        )

        def chunks() -> Any:
            yield b'{"model": "toy", "messages": [{"role": "user", "content": "'
            for _ in range(most // 65_536 + 1):
                yield b"x" * 65_536

        headers = {"Content-Type": "application/json"}
        unsaid = client.post("/v1/chat/completions", content=chunks(), headers=headers)
        assert unsaid.status_code == 413


def test_a_body_that_calls_itself_an_upload_may_be_long_only_where_files_are_sent(served: Served) -> None:
    long = b"x" * (served.server.settings.json_bytes + 1)
    headers = {"Content-Type": "multipart/form-data; boundary=y"}
    with served.client() as client:
        assert client.post("/v1/chat/completions", content=long, headers=headers).status_code == 413
        assert client.post("/api/indexes/toy/ask", content=long, headers=headers).status_code == 413
        assert client.post("/api/indexes/toy/documents", content=long, headers=headers).status_code == 400


def test_who_asks_is_found_out_while_all_that_opens_indexes_is_busy(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, opening, shelf = threading.Event(), threading.Semaphore(0), served.server.shelf
    opened = shelf.open

    def slow(name: str, grant: Grant) -> Any:
        opening.release()
        let_go.wait()
        return opened(name, grant)

    monkeypatch.setattr(shelf, "open", slow)
    asked = {"question": "How many masts?", "route": "retrieve"}

    def ask() -> None:
        with served.client() as client:
            client.post("/api/indexes/toy/ask", json=asked)

    many = min(32, (os.cpu_count() or 1) + 4)  # as many threads as an event loop has of its own
    asking = [threading.Thread(target=ask) for _ in range(many)]
    try:
        for one in asking:
            one.start()
        for _ in asking:
            opening.acquire()
        with served.client() as client:
            assert client.get("/healthz").status_code == 200
    finally:
        let_go.set()
        for one in asking:
            one.join()


def test_a_body_that_does_not_come_is_not_waited_for(served: Served, tmp_path: Any) -> None:
    indexes = map(Path, served.server.settings.indexes.values())
    with (
        serving(settings_of(tmp_path, *indexes, body_s=0.2)) as impatient,
        socket.create_connection(("127.0.0.1", impatient.port)) as client,
    ):
        client.sendall(b"POST /api/indexes/toy/ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")


def test_the_access_log_has_no_contents(keyed: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rlm.access")
    with keyed.client("rk-bob") as client:
        client.get("/api/indexes/toy/search", params={"q": "secretwords", "mode": "lexical"})
        client.get("/api/runs/secretrun")
        client.get("/secretpath")
        wait_until(lambda: len([r for r in caplog.records if r.name == "rlm.access"]) == 3)
    lines = [record.getMessage() for record in caplog.records if record.name == "rlm.access"]
    assert [line.split()[:3] for line in lines] == [
        ["GET", "/api/indexes/{index}/search", "200"],
        ["GET", "/api/runs/{run}", "404"],
        ["GET", "-", "404"],
    ]
    assert all(line.endswith("key=b2") for line in lines[:2])
    assert not any(word in line for line in lines for word in ("secret", "rk-bob"))


def test_a_failure_that_nobody_foresaw_leaves_no_trace_of_itself_with_the_client(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError("somewhere in /a/secret/place")

    monkeypatch.setattr("rlm.serving.reading.node_json", fails)
    with served.client() as client:
        reply = client.get("/api/indexes/toy/nodes/root")
    assert (reply.status_code, reply.json()["detail"]) == (500, "the server failed; its log says why")
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    assert "secret" in caplog.text


def test_health_readiness_and_metrics(served: Served, keyed: Served, state: KeyedState) -> None:
    with served.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
        client.get("/api/indexes/toy")
        text = client.get("/metrics").text
    assert 'rlm_requests_total{method="GET",route="/api/indexes/{index}",status="200"}' in text
    assert "rlm_jobs_running 0.0" in text
    state.is_well = False
    try:
        assert httpx.get(f"{keyed.url}/readyz").status_code == 503
    finally:
        state.is_well = True


def test_the_figures_of_all_keys_are_for_one_that_sees_all_runs(keyed: Served) -> None:
    replies = {}
    for key in ("rk-bob", "rk-root"):
        with keyed.client(key) as client:
            replies[key] = client.get("/metrics")
    assert [reply.status_code for reply in replies.values()] == [403, 200]
    assert "rlm_usd" not in replies["rk-bob"].text


def test_a_server_that_drains_takes_no_question_and_cancels_what_does_not_end(
    served: Served, model: Model, tmp_path: Any
) -> None:
    let_go = threading.Event()
    model.reply, model.asked = Step("x", until=let_go), []
    indexes = map(Path, served.server.settings.indexes.values())
    try:
        with serving(settings_of(tmp_path, *indexes, drain_s=0.5)) as draining, draining.client() as client:
            asked = {"question": "Who waits?", "model": SCRIPTED.partition("/")[2]}
            run = client.post("/api/indexes/toy/ask", json=asked).json()["run"]
            wait_until(lambda: model.asked)
            jobs = draining.server.jobs
            jobs.is_draining = True
            refused = client.post("/api/indexes/toy/ask", json=asked)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
            jobs.is_draining = False
        assert draining.server.jobs.running == 0
        row = draining.server.state.run(Grant(), run)
        assert row
        assert row.stop == "cancelled"
    finally:
        let_go.set()
