"""Our own API: what is in an index, questions as jobs with their events, runs, reviews."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.openapi.models import OpenAPI

from index_store.errors import NoCache
from index_store.index import open_index
from rlm.serving import past
from rlm.serving.open_state import OpenState
from rlm.serving.problems import problem_of
from rlm.serving.types import Grant, RunRow, StateGone
from tests.helpers.model_server import Step
from tests.helpers.served import Served, serving, settings_of, wait_until
from tests.helpers.toy import publish_toy, toy_draft
from tests.rlm.serving.conftest import SCRIPTED, Model, cell

MODEL = SCRIPTED.partition("/")[2]
TWO = cell('FINAL("Two.", citations=["two masts"])')


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def events_of(text: str) -> list[tuple[str | None, dict[str, Any]]]:
    """(id, event) of each server-sent event."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((lines.get("id"), json.loads(lines["data"])))
    return found


def ask(client: httpx.Client, question: str, **more: Any) -> tuple[str, str]:
    """Put a question to the scripted model: (its job, its run)."""
    reply = client.post("/api/indexes/toy/ask", json={"question": question, "model": MODEL, **more})
    assert reply.status_code == 202, reply.text
    return reply.json()["job"], reply.json()["run"]


def answered(client: httpx.Client, question: str, **more: Any) -> tuple[dict[str, Any], str, str]:
    """The job of a question once it has ended, its id and its run."""
    job, run = ask(client, question, **more)
    client.get(f"/api/jobs/{job}/events")
    return client.get(f"/api/jobs/{job}").json(), job, run


def test_an_index_is_told_in_figures(client: httpx.Client) -> None:
    listed = client.get("/api/indexes").json()
    assert [index["name"] for index in listed] == ["lights", "toy"]
    assert listed[1] == client.get("/api/indexes/toy").json()
    toy = {
        name: listed[1][name] for name in ("documents", "chunks", "summaries", "levels", "generation", "root")
    }
    assert toy == {
        "documents": 3,
        "chunks": 6,
        "summaries": 3,
        "levels": 3,
        "generation": 1,
        "root": "L2-00000",
    }


def test_a_node_is_told_with_what_is_around_it(client: httpx.Client) -> None:
    root = client.get("/api/indexes/toy/nodes/root").json()
    assert root["node"] == "L2-00000"
    assert [(child["node"], child["leaves"]) for child in root["children"]] == [
        ("L1-00000", 3),
        ("L1-00001", 4),
    ]
    chunk = client.get("/api/indexes/toy/nodes/L0-00001").json()
    assert (chunk["doc"], chunk["start"], chunk["end"]) == ("boats.txt", 25, 48)
    assert [step["node"] for step in chunk["path"]] == ["L2-00000", "L1-00000", "L0-00001"]
    assert [parent["node"] for parent in chunk["parents"]] == ["L1-00000"]
    missing = client.get("/api/indexes/toy/nodes/L0-00099")
    assert missing.status_code == 404
    assert "no node 'L0-00099'" in missing.json()["detail"]


def test_documents_are_listed_searched_and_read(client: httpx.Client) -> None:
    found = client.get("/api/indexes/toy/documents", params={"limit": 2}).json()
    assert (found["total"], [d["doc"] for d in found["documents"]]) == (3, ["boats.txt", "größe.md"])
    assert client.get("/api/indexes/toy/documents", params={"q": "GRÖSSE"}).json()["total"] == 1
    place: dict[str, str | int] = {"doc": "boats.txt", "start": 4, "end": 9, "around": 4}
    text = client.get("/api/indexes/toy/text", params=place).json()
    assert (text["start"], text["end"], text["text"]) == (0, 13, "The ketch has")
    assert client.get("/api/indexes/toy/text", params={"doc": "boats.txt", "start": 9_999}).status_code == 400
    unknown = client.get("/api/indexes/toy/text", params={"doc": "boat.txt"})
    assert (unknown.status_code, unknown.json()["detail"]) == (
        404,
        "no document 'boat.txt'; did you mean 'boats.txt'?",
    )
    hits = client.get("/api/indexes/toy/search", params={"q": "ketch", "mode": "lexical"}).json()["hits"]
    assert [(hit["node"], hit["doc"]) for hit in hits] == [("L0-00000", "boats.txt")]


def test_a_question_is_a_job_with_events_and_an_answer(client: httpx.Client, model: Model) -> None:
    model.reply = TWO
    job, run = ask(client, "How many masts?")
    events = events_of(client.get(f"/api/jobs/{job}/events").text)
    numbered = [int(number) for number, event in events if number not in (None, "end")]
    assert numbered == list(range(len(numbered)))
    kinds = [event["kind"] for _, event in events]
    assert kinds[0] == "run_opened"
    assert kinds[-2:] == ["run_closed", "result"]
    told = client.get(f"/api/jobs/{job}").json()
    assert (told["state"], told["answer"]["answer"], told["run"]) == ("done", "Two.", run)
    assert events[-1][1]["answer"] == told["answer"]
    assert told["answer"]["citations"][0]["node"] == "L0-00000"
    assert "trace" not in told["answer"]
    assert client.get("/api/jobs").json()[0]["job"] == job


def test_events_go_on_behind_the_last_that_was_heard_while_it_runs_and_after(
    client: httpx.Client, model: Model
) -> None:
    let_go = threading.Event()
    model.reply = Step(TWO, until=let_go)
    job, run = ask(client, "How many masts?")
    try:
        with client.stream("GET", f"/api/jobs/{job}/events") as reply:
            lines = reply.iter_lines()
            while next(lines) != "id: 1":
                pass
    finally:
        let_go.set()
    again = events_of(client.get(f"/api/jobs/{job}/events", headers={"Last-Event-ID": "0"}).text)
    assert again[0][0] == "1"
    later = events_of(client.get(f"/api/jobs/{job}/events", headers={"Last-Event-ID": "0"}).text)
    assert [(n, e["kind"]) for n, e in later] == [(n, e["kind"]) for n, e in again]
    assert client.get(f"/api/jobs/{job}/events", headers={"Last-Event-ID": "end"}).status_code == 204
    of_run = events_of(client.get(f"/api/runs/{run}/events").text)
    assert [n for n, _ in of_run][1:-1] == [n for n, _ in later][:-1]


def test_jobs_wait_their_turn_in_order_are_told_so_and_can_be_cancelled(
    client: httpx.Client, model: Model, served: Served
) -> None:
    let_go = threading.Event()
    model.reply = Step(TWO, until=let_go)
    try:
        jobs = [ask(client, f"Question {n}?")[0] for n in range(4)]
        wait_until(lambda: served.server.jobs.running == 2)
        states = [client.get(f"/api/jobs/{job}").json() for job in jobs]
        assert [(told["state"], told["ahead"]) for told in states] == [
            ("running", None),
            ("running", None),
            ("waiting", 0),
            ("waiting", 1),
        ]
        with client.stream("GET", f"/api/jobs/{jobs[3]}/events") as reply:
            first = next(line for line in reply.iter_lines() if line.startswith("data"))
        assert json.loads(first.removeprefix("data: "))["ahead"] == 1
        assert client.delete(f"/api/jobs/{jobs[2]}").json()["state"] == "cancelled"
        assert client.get(f"/api/jobs/{jobs[3]}").json()["ahead"] == 0
        cancelled = client.delete(f"/api/jobs/{jobs[0]}").json()
        assert (cancelled["state"], client.delete(f"/api/jobs/{jobs[0]}").json()) == ("cancelled", cancelled)
        assert events_of(client.get(f"/api/jobs/{jobs[0]}/events").text)[-1][1]["kind"] == "cancelled"
    finally:
        let_go.set()
    client.get(f"/api/jobs/{jobs[3]}/events")
    assert client.get(f"/api/jobs/{jobs[3]}").json()["state"] == "done"
    stops = {run["question"]: run["stop"] for run in client.get("/api/runs").json()["runs"]}
    assert stops["Question 0?"] == "cancelled"
    assert stops["Question 3?"] == "answer"
    never = client.get(f"/api/jobs/{jobs[2]}").json()
    assert never["error"] == "it was cancelled before its turn came"
    assert not (served.server.settings.runs / never["run"]).exists()
    shown = client.get(f"/api/runs/{never['run']}").json()
    assert (shown["stop"], shown["why"]) == ("cancelled", never["error"])


def test_a_run_that_fails_before_it_begins_leaves_no_folder_and_says_why(
    client: httpx.Client, served: Served
) -> None:
    runs = served.server.settings.runs
    job, _, run = answered(client, "?", scope={"doc": "nothing.txt"})
    assert (job["state"], "no document" in job["error"]) == ("failed", True)
    assert not (runs / run).exists()
    shown = client.get(f"/api/runs/{run}").json()
    assert (shown["stop"], shown["why"]) == ("failed", job["error"])
    listed = next(one for one in client.get("/api/runs").json()["runs"] if one["run"] == run)
    assert (listed["stop"], listed["problem"]) == ("failed", "the run failed before it began")


def test_what_waits_at_a_shutdown_ends_as_cancelled(served: Served, model: Model, tmp_path: Path) -> None:
    let_go = threading.Event()
    model.reply, state = Step(TWO, until=let_go), OpenState()
    settings = settings_of(
        tmp_path, *map(Path, served.server.settings.indexes.values()), max_running=1, drain_s=0.0
    )
    try:
        with serving(settings, state) as other, other.client() as client:
            run = [ask(client, f"Question {n}?")[1] for n in range(2)][1]
    finally:
        let_go.set()
    row = state.run(Grant(), run)
    assert row and past.run_json(row, settings.runs / run)["why"] == "the run was cancelled before it began"
    assert not (settings.runs / run).exists()


def test_a_job_that_fails_says_why_without_a_path_of_the_server(client: httpx.Client, served: Served) -> None:
    told, job, _ = answered(client, "?", route="direct", limits={"calls": 0})
    assert told["state"] == "failed" or told["answer"]["stop"] == "budget"
    assert str(served.server.settings.runs) not in json.dumps(told)
    assert events_of(client.get(f"/api/jobs/{job}/events").text)[-1][1]["kind"] in ("failed", "result")


@pytest.mark.parametrize("limit", [{"calls": 2}, {"turns": 1}])
def test_an_answer_that_a_limit_ended_says_so_in_a_sentence(
    client: httpx.Client, model: Model, limit: dict[str, int]
) -> None:
    model.reply = cell("print(1)")
    job, _, run = answered(client, "How many?", route="rlm", limits=limit)
    answer = job["answer"]
    of = {"budget": "its budget", "turns": "its turns"}[answer["stop"]]
    assert answer["why"] == f"the run was stopped by {of}: it has no answer"
    assert client.get(f"/api/runs/{run}").json()["why"] == answer["why"]


def test_limits_are_the_lower_of_what_is_asked_and_what_the_server_allows(
    client: httpx.Client, model: Model, served: Served
) -> None:
    model.reply = TWO
    _, _, run = answered(client, "How many?", limits={"turns": 3, "timeout_s": 100_000})
    opened = events_of(client.get(f"/api/runs/{run}/events").text)[0][1]
    assert opened["limits"]["turns"] == 3
    assert opened["limits"]["timeout_s"] == served.server.settings.limits.timeout_s
    assert (
        client.post("/api/indexes/toy/ask", json={"question": "?", "limits": {"usd": -1}}).status_code == 422
    )


def test_a_question_is_of_a_scope(client: httpx.Client, model: Model) -> None:
    model.reply = cell('FINAL("Two.", citations=["two masts"])')
    told, _, _ = answered(client, "How many?", scope={"doc": "one.txt"})
    assert told["answer"]["citations"][0]["supported"] == "unsupported"


def test_runs_are_listed_filtered_shown_and_reviewed(client: httpx.Client, model: Model) -> None:
    model.reply = TWO
    _, _, run = answered(client, "How many masts has a brigantine?")
    found = client.get("/api/runs", params={"q": "BRIGANTINE", "index": "toy", "stop": "answer"}).json()
    assert (found["total"], found["runs"][0]["folder"]) == (1, run)
    assert client.get("/api/runs", params={"q": "brigantine", "verdict": "accepted"}).json()["total"] == 0
    assert client.get("/api/runs", params={"index": "lights", "q": "brigantine"}).json()["total"] == 0
    shown = client.get(f"/api/runs/{run}").json()
    assert (shown["answer"], shown["stop"], shown["is_whole"]) == ("Two.", "answer", True)
    page = client.get(f"/api/runs/{run}/page")
    assert "brigantine" in page.text
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert client.get(f"/api/runs/{run}/review").json()["notes"] == []
    note = {"verdict": "accepted", "text": "So it is.", "by": "jane"}
    assert client.post(f"/api/runs/{run}/review", json=note).status_code == 201
    kept = client.get(f"/api/runs/{run}/review").json()
    assert (kept["verdict"], kept["by"], kept["notes"][0]["text"]) == ("accepted", "jane", "So it is.")
    found = client.get("/api/runs", params={"q": "brigantine", "verdict": "accepted"}).json()
    assert (found["total"], found["runs"][0]["by"]) == (1, "jane")
    wrong = client.post(f"/api/runs/{run}/review", json={"verdict": "perhaps"})
    assert (wrong.status_code, "give one of accepted" in wrong.json()["detail"]) == (400, True)


@pytest.mark.parametrize("run", ["%2e%2e", "..%2fdata", "nothing", "%00"])
def test_no_name_of_a_run_leads_out_of_their_folder(client: httpx.Client, run: str) -> None:
    for path in (f"/api/runs/{run}", f"/api/runs/{run}/page", f"/pages/{run}?until=99999999999&ticket=x"):
        assert client.get(path).status_code in (403, 404)


def test_a_new_generation_is_taken_up_without_a_restart(client: httpx.Client, served: Served) -> None:
    draft = replace(toy_draft(), labels=["Boats and masts", "Fruit", "Another root"])
    path = Path(served.server.settings.indexes["toy"])
    before = client.get("/api/indexes/toy").json()
    publish_toy(path, draft)
    after = client.get("/api/indexes/toy").json()
    assert (before["generation"], after["generation"], after["title"]) == (1, 2, "Another root")
    assert after["digest"] == open_index(path).digest
    path.joinpath("CURRENT").write_text("000001\n")  # what stood there is live again
    assert client.get("/api/indexes/toy").json()["digest"] == before["digest"]


def test_what_is_wrong_with_a_request_is_told_as_problem_details(client: httpx.Client) -> None:
    missing = client.get("/api/indexes/nothing")
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no index 'nothing'; there is lights, toy",
        "code": "model_not_found",
    }
    bad = client.post("/api/indexes/toy/ask", content=b"{", headers={"content-type": "application/json"})
    assert (bad.status_code, bad.json()["detail"]) == (400, "the body is no JSON; send an object")
    field = client.post("/api/indexes/toy/ask", json={"question": "?", "colour": 1})
    assert (field.status_code, field.json()["detail"].startswith("colour: ")) == (422, True)
    assert (
        client.post("/api/indexes/toy/ask", json={"question": " "})
        .json()["detail"]
        .startswith("the question is empty")
    )
    assert client.get("/api/jobs/nothing").status_code == 404
    assert client.get("/api/nowhere").headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/embeddings", 404),
        ("POST", "/api/nope", 404),
        ("DELETE", "/nope", 404),
        ("DELETE", "/api/indexes", 405),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/app.js", 405),
        ("GET", "/app.js", 200),
    ],
)
def test_an_address_at_which_there_is_nothing_is_no_wrong_method(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    assert client.request(method, path).status_code == status


@pytest.mark.parametrize("ask_by", ["/api/indexes/toy/ask", "/v1/chat/completions"])
def test_a_question_has_the_same_bound_by_either_api(client: httpx.Client, ask_by: str) -> None:
    long = "Who? " * 20_001
    body: dict[str, Any] = {"model": "toy", "messages": [{"role": "user", "content": long}]}
    reply = client.post(ask_by, json={"question": long} if ask_by.startswith("/api") else body)
    assert reply.status_code == 413
    assert "the question has 100,005 characters; ask with at most 100,000" in reply.text


def test_every_route_is_described(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    OpenAPI.model_validate(described)
    assert {"/v1/chat/completions", "/api/indexes/{index}/ask", "/api/jobs/{job}/events"} <= described[
        "paths"
    ].keys()
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            assert route.get("description"), f"{method} {path} says nothing of itself"
    assert client.get("/docs").status_code == 404


def test_how_a_run_ended_is_what_its_trace_says_and_without_one_what_the_database_does(
    served: Served, client: httpx.Client, model: Model
) -> None:
    model.reply = TWO
    run, runs = answered(client, "How many?")[2], served.server.settings.runs
    row = served.server.state.run(Grant(), run)
    assert row
    never = replace(row, folder="never")
    rows = [replace(row, stop=None), replace(row, stop="failed"), never, replace(never, stop=None)]
    stops = [past.listed_json(one, runs)["stop"] for one in rows]
    assert stops == ["answer", "answer", "answer", "running"]


def test_an_answer_is_told_though_its_end_cannot_be_entered(
    served: Served, client: httpx.Client, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = served.server.state.record

    def gone_at_the_end(run: RunRow) -> None:
        if run.stop is not None:
            raise StateGone("the database cannot be used")
        record(run)

    monkeypatch.setattr(served.server.state, "record", gone_at_the_end)
    model.reply = TWO
    job, _, run = answered(client, "How many?")
    assert (job["state"], job["answer"]["answer"]) == ("done", "Two.")
    assert client.get(f"/api/runs/{run}").json()["stop"] == "answer"


@pytest.mark.parametrize("named", ["model", "child_model"])
def test_a_model_is_named_by_no_address(client: httpx.Client, named: str) -> None:
    asked = {"question": "How many?", named: "oobabooga/https://evil.example/take"}
    reply = client.post("/api/indexes/toy/ask", json=asked)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_model")


def test_what_is_wrong_with_the_servers_own_folders_names_no_path_of_it(
    served: Served, client: httpx.Client, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.reply = TWO
    run = answered(client, "How many?")[2]
    folder = served.server.settings.runs / run
    (folder / "review.jsonl").write_text("none\n")
    told = [client.post(f"/api/runs/{run}/review", json={"verdict": "accepted"})]
    (tmp_path / "runs").write_text("a file in the way")
    indexes = map(Path, served.server.settings.indexes.values())
    with serving(settings_of(tmp_path, *indexes)) as blocked, blocked.client() as other:
        told.append(other.post("/api/indexes/toy/ask", json={"question": "How many?", "model": MODEL}))
    assert [reply.status_code for reply in told] == [400, 503]
    for reply in told:
        assert str(served.server.settings.runs.parent) not in reply.text and str(tmp_path) not in reply.text
    cache = problem_of(NoCache("/a/secret/place is a link"))
    assert (cache.status, "secret" in cache.detail, "secret" in caplog.text) == (503, False, True)
