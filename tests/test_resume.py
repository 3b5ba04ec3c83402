"""A build that dies goes on: the same digests as an undisturbed one, and no recorded reply is asked for again."""

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from raptor.build import Spending, build_index
from raptor.checkpoint import Checkpoint, key_of
from raptor.errors import RaptorError
from raptor.estimate import estimate
from raptor.lock import build_lock
from raptor.settings import BuildSettings
from tests import tiny_embedder
from tests.model_server import MODEL, ModelServer, error

ROOT = Path(__file__).parent.parent
MOMENTS, ROUNDS = 10, 5


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    tiny_embedder.use(monkeypatch)


def body_key(body):
    return hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()


def summary_of(body):
    """A reply that depends on the whole request and on nothing else."""
    key = body_key(body)
    return f"LABEL: part {key[:6]}\nSUMMARY: {' '.join(key[i : i + 6] for i in range(0, 60, 6))}."


def killed_builds(docs, index, moments):
    script = [sys.executable, "-m", "tests.killed_build", str(docs), str(index), *map(str, moments)]
    ran = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.slow
def test_a_build_killed_at_fifty_moments_ends_as_an_undisturbed_one_and_pays_for_nothing_twice(
    tmp_path, monkeypatch
):
    docs = tiny_embedder.write_documents(tmp_path / "docs", 60, 30)
    with ModelServer(summary_of) as server:
        server.use(monkeypatch)
        (undisturbed,) = killed_builds(docs, tmp_path / "whole", [])
    kills = 0
    for seed in range(ROUNDS):
        with ModelServer(summary_of) as server:
            server.use(monkeypatch)
            moments = [round(random.Random(seed * 100 + i).uniform(0.02, 0.6), 3) for i in range(MOMENTS)]
            *killed, last = killed_builds(docs, tmp_path / f"i{seed}", moments)
            asked = Counter(map(body_key, server.requests))
        assert last["digest"] == undisturbed["digest"]
        assert [k["recorded"] for k in killed] == sorted(k["recorded"] for k in killed)
        kills += sum(k["killed"] for k in killed)
        # A reply on its way when the process died cannot have been recorded: at most three calls run at once.
        again = sum(count - 1 for count in asked.values())
        assert again <= 3 * sum(k["killed"] for k in killed)
        assert len(asked) == undisturbed["calls"]
        assert last["calls"] == undisturbed["calls"] - killed[-1]["recorded"]
    assert kills >= 40  # some builds are done before their moment comes


def test_a_failed_build_keeps_what_it_paid_for_and_asks_only_for_the_rest(tmp_path, monkeypatch):
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 40), tmp_path / "i"
    failing: set[str] = set()

    def script(body):
        if len(failing) < 2 or body_key(body) in failing:
            failing.add(body_key(body))
            return error(400, "no")
        return summary_of(body)

    with ModelServer(script) as server:
        server.use(monkeypatch)
        with pytest.raises(RaptorError, match=r"2 summaries failed.*the same command"):
            build_index(docs, out, summarizer=MODEL)
        paid = {body_key(r) for r in server.requests} - failing
    with ModelServer(summary_of) as server:
        server.use(monkeypatch)
        build_index(docs, out, summarizer=MODEL)
        assert paid and not paid & {body_key(r) for r in server.requests}


def test_more_errors_than_allowed_stop_a_build_at_once(tmp_path, monkeypatch):
    docs = tiny_embedder.write_documents(tmp_path / "docs", 60)
    with ModelServer(lambda body: error(400, "no")) as server:
        server.use(monkeypatch)
        settings = BuildSettings(concurrency=1)
        with pytest.raises(RaptorError, match="failed"):
            build_index(
                docs, tmp_path / "i", summarizer=MODEL, settings=settings, spending=Spending(max_errors=1)
            )
        assert server.calls < 6


def test_a_dollar_cap_stops_the_build_cleanly_and_a_higher_one_goes_on(tmp_path, monkeypatch):
    import litellm

    monkeypatch.setitem(
        litellm.model_cost,
        "openai/priced-model",
        {
            "input_cost_per_token": 1e-5,
            "output_cost_per_token": 1e-5,
            "litellm_provider": "openai",
            "mode": "chat",
            "max_tokens": 1000,
        },
    )
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 40), tmp_path / "i"
    with ModelServer(summary_of) as server:
        server.use(monkeypatch)
        with pytest.raises(RaptorError, match=r"stopped at its cap.*higher cap"):
            build_index(docs, out, summarizer="openai/priced-model", spending=Spending(usd=0.05))
        paid = server.calls
        assert paid
        report = build_index(docs, out, summarizer="openai/priced-model")
        assert report.calls + paid == server.calls
        assert len({body_key(r) for r in server.requests}) == server.calls


def test_a_dry_run_asks_nothing_and_counts_what_the_build_then_reports(tmp_path):
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 60, 30), tmp_path / "i"
    expected, _ = estimate(str(docs), out)
    report = build_index(docs, out)
    assert expected.levels == report.levels
    assert expected.calls == report.calls
    assert expected.prompt_tokens == report.prompt_tokens
    assert expected.completion_tokens == report.completion_tokens


def test_a_second_build_into_one_index_is_refused_until_the_first_is_gone(tmp_path):
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 3), tmp_path / "i"
    with build_lock(out), pytest.raises(RaptorError, match="another build"):
        build_index(docs, out)
    assert build_index(docs, out).new


def test_a_damaged_checkpoint_is_one_sentence_that_says_what_to_delete(tmp_path):
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 3), tmp_path / "i"
    out.mkdir()
    (out / "build.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(RaptorError, match=r"build\.sqlite.*delete the file"):
        build_index(docs, out)


def test_no_two_lists_of_inputs_share_a_key():
    keys = [
        key_of("k", "ab", "c"),
        key_of("k", "a", "bc"),
        key_of("k", b"ab", "c"),
        key_of("k", ["ab"], "c"),
        key_of("ka", "b", "c"),
        key_of("k", "abc"),
    ]
    assert len(set(keys)) == len(keys)


def test_what_is_recorded_comes_back_and_is_computed_once(tmp_path):
    with Checkpoint(tmp_path) as first:
        assert first.json("x", [1], lambda: {"a": "é"}) == {"a": "é"}
    with Checkpoint(tmp_path) as again:
        assert again.json("x", [1], lambda: pytest.fail("computed again")) == {"a": "é"}
        again.forget("x")
        assert again.json("x", [1], lambda: 2) == 2
