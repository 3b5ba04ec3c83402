"""A server with keys, money and access by document, as the command `rlm serve` makes it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm.errors import RlmError
from rlm.limits import Limits, Models
from rlm.serving.jobs import Job
from rlm.serving.state.database import Database
from rlm.serving.types import Grant
from tests.helpers.model_server import MODEL
from tests.helpers.rlm_toy import embedded
from tests.helpers.served import Served, serving, settings_of
from tests.helpers.toy import publish_toy, toy_draft
from tests.rlm.serving.conftest import SCRIPTED, Model, cell

ASK = {"model": SCRIPTED, "messages": [{"role": "user", "content": "How many masts has a ketch?"}]}


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """Keys: one for each reader."""
    database = Database(str(tmp_path / "state.sqlite"))
    try:
        return {
            "all": database.add_key(Grant(name="all", is_admin=False))[1],
            "open": database.add_key(Grant(name="open", access=frozenset(), is_admin=False))[1],
            "hr": database.add_key(Grant(name="hr", access=frozenset({"hr"}), is_admin=False))[1],
            "poor": database.add_key(Grant(name="poor", usd_per_day=0.0, is_admin=False))[1],
        }
    finally:
        database.close()


@pytest.fixture
def guarded(tmp_path: Path, secrets: dict[str, str], model: Model) -> Iterator[Served]:
    """A server over the toy index, whose boats are for hr alone."""
    draft = toy_draft()
    documents = [
        (replace(facts, meta={"access": "hr"}) if facts.id == "boats.txt" else facts, text)
        for facts, text in draft.documents
    ]
    publish_toy(tmp_path / "toy.index", replace(draft, documents=documents))
    settings = settings_of(
        tmp_path, tmp_path / "toy.index", models=Models(MODEL), limits=Limits(allow_unpriced=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        with serving(settings, Database(str(tmp_path / "state.sqlite"))) as guarded:
            yield guarded


def test_a_key_reads_what_its_labels_let_it_and_of_the_rest_there_is_nothing(
    guarded: Served, secrets: dict[str, str], model: Model
) -> None:
    model.reply = cell('FINAL("Two.", citations=["two masts"])')
    with guarded.client(secrets["open"]) as client:
        assert client.get("/api/indexes/toy").json()["documents"] == 2
        assert [d["doc"] for d in client.get("/api/indexes/toy/documents").json()["documents"]] == [
            "größe.md",
            "one.txt",
        ]
        missing = client.get("/api/indexes/toy/text", params={"doc": "boats.txt"})
        assert (missing.status_code, missing.json()["detail"]) == (
            404,
            "no document 'boats.txt'; did you mean 'one.txt'?",
        )
        hits = client.get("/api/indexes/toy/search", params={"q": "ketch", "mode": "lexical"}).json()["hits"]
        assert hits == []
        reply = client.post("/v1/chat/completions", json=ASK)
        assert reply.json()["raptor"]["citations"][0]["supported"] == "unsupported"
        assert "boats" not in reply.text
    with guarded.client(secrets["hr"]) as client:
        assert client.get("/api/indexes/toy").json()["documents"] == 3
        reply = client.post("/v1/chat/completions", json=ASK)
        assert reply.json()["raptor"]["citations"][0]["doc"] == "boats.txt"
    with guarded.client(secrets["all"]) as client:
        assert client.get("/api/indexes/toy").json()["documents"] == 3
        assert client.get("/api/runs").json()["total"] == 0


def test_a_key_without_money_is_told_so_before_anything_is_asked(
    guarded: Served, secrets: dict[str, str], model: Model
) -> None:
    model.asked = []
    with guarded.client(secrets["poor"]) as client:
        reply = client.post("/v1/chat/completions", json=ASK)
    assert (reply.status_code, reply.json()["error"]["type"], model.asked) == (402, "insufficient_quota", [])


def test_a_key_that_does_not_read_everything_changes_no_index_though_it_may_write(
    guarded: Served, secrets: dict[str, str]
) -> None:
    files = {"files": ("boats.txt", b"The ketch has no mast.")}
    with guarded.client(secrets["hr"]) as client:
        assert client.get("/api/indexes/toy").json()["may_write"] is False
        refused = client.post("/api/indexes/toy/documents", files=files)
    assert (refused.status_code, refused.json()["code"]) == (403, "read_only")
    assert not guarded.server.settings.uploads.exists()
    with guarded.client(secrets["all"]) as client:
        assert client.get("/api/indexes/toy").json()["may_write"] is True


@pytest.mark.parametrize(
    ("stage", "usd", "spent"), [("embed", 0.25, 0.25), ("embed", None, 1.0), ("load", None, 0.0)]
)
def test_a_build_is_paid_for_by_its_key_and_reserves_all_that_it_may_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, usd: float | None, spent: float
) -> None:
    database = Database(str(tmp_path / "state.sqlite"))
    grant, secret = database.add_key(Grant(name="builder", usd_per_day=1.0))
    seen = list[tuple[float | None, float]]()

    async def build(
        job: Job, source: Path, names: list[str], index: Path, summarizer: str, max_usd: float | None
    ) -> Any:
        seen.append((max_usd, database.list_keys()[0].reserved_usd))
        job.add({"kind": "build_progress", "seq": 0, "stage": stage})
        if usd is None:
            raise RlmError("it stopped")
        refused = [{"file": name, "reason": "it is empty"} for name in names]
        return {"usd": usd, "generation": 1, "refused": refused}

    monkeypatch.setattr("rlm.serving.uploads.build", build)
    settings = settings_of(tmp_path, summarizer="openai/priced", limits=Limits(usd=5.0))
    with serving(settings, database) as served, served.client(secret) as client:
        sent = client.post("/api/indexes/new/documents", files={"files": ("a.md", b"A mast.")})
        client.get(f"/api/jobs/{sent.json()['job']}/events")
        (key,) = database.list_keys()
    assert seen == [(1.0, 1.0)]
    assert (key.grant.key, key.spent_usd, key.reserved_usd) == (grant.key, spent, 0.0)
