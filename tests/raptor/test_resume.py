"""A build that dies goes on: the same digests as an undisturbed one, and no recorded reply is asked for again."""

import hashlib
import json
import os
import resource
import sqlite3
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from index_store.errors import BrokenIndex
from raptor.build import build_index, update_index
from raptor.checkpoint import Checkpoint, build_lock, result_key
from raptor.cli import main
from raptor.embedding import BATCH
from raptor.engines.engine import AHEAD, GIVEN
from raptor.engines.local import cores
from raptor.errors import RaptorError
from raptor.estimating import estimate
from raptor.pruning import prune_index
from raptor.settings import BuildSettings, Spending
from rlm.gateway.errors import GatewayError
from tests.helpers import tiny_embedder
from tests.helpers.killed_build import CONCURRENCY
from tests.helpers.model_server import MODEL, ModelServer, Step, error
from tests.helpers.places import ROOT
from tests.helpers.thorough import cases

MOMENTS = cases(8, 50)
Body = dict[str, Any]  # of a request to the model server


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)


def body_key(body: Body) -> str:
    return hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()


def summary_of(body: Body) -> str:
    """A reply that depends on the whole request and on nothing else."""
    key = body_key(body)
    return f"LABEL: part {key[:6]}\nSUMMARY: {' '.join(key[i : i + 6] for i in range(0, 60, 6))}."


def record_key(body: Body) -> str:
    """What the build records a reply to this request under."""
    return result_key("summary", MODEL, body["messages"], body["max_tokens"])


@pytest.mark.slow
@pytest.mark.parametrize(("moments", "shard_chunks"), [(MOMENTS, 0), (cases(3, 50), 60)])
def test_a_build_killed_at_many_moments_ends_as_an_undisturbed_one_and_pays_for_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments: int, shard_chunks: int
) -> None:
    """A reply is delivered when the build has recorded it, which it does before it uses it or asks anything in its
    place: so all but those of the calls under way at the kill, of which there are at most CONCURRENCY. No run asks
    for what was delivered to one before it, nor for anything twice; all ask what the undisturbed build asked.
    """
    docs = tiny_embedder.write_documents(tmp_path / "docs", 60, 30)
    given = [str(docs), str(tmp_path), str(moments), str(shard_chunks)]
    script = [sys.executable, "-m", "tests.helpers.killed_build", *given]
    with ModelServer(summary_of) as server:
        server.use(monkeypatch)
        ran = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
        asked = defaultdict(list)
        for body, headers in zip(server.requests, server.headers, strict=True):
            asked[headers["authorization"].removeprefix("Bearer ")].append(record_key(body))
    undisturbed, *reported = map(json.loads, ran.stdout.splitlines())
    wanted = set(asked[undisturbed["run"]])
    assert sum("killed" in run for run in reported) == moments
    indexes = [list(runs) for _, runs in groupby(reported, key=itemgetter("index"))]
    assert not any("killed" in runs[-1] for runs in indexes)
    for runs in indexes:
        delivered: set[str] = set()
        for run in runs:
            mine = asked[run["run"]]
            assert len(mine) == len(set(mine))
            assert not delivered & set(mine)
            assert wanted >= set(mine)
            if "killed" in run:
                assert delivered <= set(run["recorded"]) <= delivered | set(mine)
                delivered = set(run["recorded"])
                assert len(set(mine) - delivered) <= CONCURRENCY
            else:
                assert run["digest"] == undisturbed["digest"]
                assert delivered | set(mine) == wanted


def test_a_failed_build_keeps_what_it_paid_for_and_asks_only_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 40), tmp_path / "i"
    failing: set[str] = set()

    def script(body: Body) -> str | Step:
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


def test_more_errors_than_allowed_stop_a_build_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 60)
    with ModelServer(lambda body: error(400, "no")) as server:
        server.use(monkeypatch)
        settings = BuildSettings(concurrency=1)
        with pytest.raises(RaptorError, match="failed"):
            build_index(
                docs, tmp_path / "i", summarizer=MODEL, settings=settings, spending=Spending(max_errors=1)
            )
        assert server.calls < 6


def test_a_dollar_cap_stops_the_build_cleanly_and_a_higher_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    build = partial(build_index, docs, out, summarizer="openai/priced-model")
    long = {"prompt_tokens": 1500, "completion_tokens": 200, "total_tokens": 1700}
    with ModelServer(lambda body: Step(summary_of(body), usage=long)) as server:
        server.use(monkeypatch)
        with pytest.raises(
            RaptorError, match=r"needs about \$.*above the cap of \$0.0500, and was not started"
        ):
            build(spending=Spending(usd=0.05))
        assert server.calls == 0
        expected, _ = estimate(str(docs), out, summarizer="openai/priced-model")
        assert expected.usd_low is not None
        assert expected.usd_high is not None
        assert expected.usd_low < expected.usd_high
        with pytest.raises(RaptorError, match=r"stopped at its cap.*higher cap"):
            build(spending=Spending(usd=expected.usd_low))
        paid = server.calls
        assert 0 < paid < expected.calls
        left, _ = estimate(str(docs), out, summarizer="openai/priced-model")
        assert left.recorded == paid
        assert left.calls <= expected.calls - paid + 1  # how many there are above depends on what they say
        assert left.usd_low is not None
        assert left.usd_low < expected.usd_low
        report = build()
        assert report.calls + paid == server.calls
        assert len({body_key(r) for r in server.requests}) == server.calls


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model with a price, and no key for it."""
    import litellm

    entry = {"input_cost_per_token": 1e-5, "output_cost_per_token": 1e-5, "litellm_provider": "openai"}
    monkeypatch.setitem(litellm.model_cost, "openai/priced-model", entry | {"mode": "chat"})
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return "openai/priced-model"


@pytest.mark.parametrize(("sentences", "most"), [(160, 500), (20, 0)], ids=["many chunks", "few"])
def test_a_build_above_its_cap_is_refused_before_its_chunks_are_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, priced: str, sentences: int, most: int
) -> None:
    """All were embedded first, which takes minutes; a few are in seconds."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    docs, embedded = tiny_embedder.write_documents(tmp_path / "docs", 40, sentences), list[int]()
    encode = tiny_embedder.encode

    def counted(texts: Sequence[str]) -> Any:
        embedded.append(len(texts))
        return encode(texts)

    monkeypatch.setattr(tiny_embedder, "encode", counted)
    with pytest.raises(RaptorError, match=r"needs about \$.*above the cap of \$0.0010, and was not started"):
        build_index(docs, tmp_path / "i", summarizer=priced, spending=Spending(usd=0.001))
    assert 0 < sum(embedded) < (most or 1_000)


def test_a_build_that_its_small_sample_lets_pass_is_still_held_to_its_cap_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, priced: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setattr("raptor.estimating.SOON", 100)
    docs = tiny_embedder.write_documents(tmp_path / "docs", 60)
    expected, _ = estimate(docs, tmp_path / "i", summarizer=priced)
    assert expected.usd_low is not None and expected.sampled == expected.chunks > 100
    with pytest.raises(RaptorError, match=rf"needs about \${expected.usd_low:.4f} to "):
        build_index(docs, tmp_path / "i", summarizer=priced, spending=Spending(usd=expected.usd_low * 0.99))


def test_a_build_whose_last_summary_passes_the_cap_says_by_how_much_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, priced: str, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 3)
    huge = {"prompt_tokens": 1_000, "completion_tokens": 9_000, "total_tokens": 10_000}
    with ModelServer(lambda body: Step(summary_of(body), usage=huge)) as server:
        server.use(monkeypatch)
        command = ["build", str(docs), "-o", str(tmp_path / "i"), "--summarizer", priced, "--max-usd", "0.05"]
        assert main([*command, "--quiet"]) == 0
        assert server.calls == 1
    told = "warning: the cap of $0.05 was passed by $0.05, to $0.1, as a provider reported more tokens than were asked"
    assert told in capsys.readouterr().err


def test_an_estimate_needs_no_key(tmp_path: Path, priced: str, capsys: pytest.CaptureFixture[str]) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 3)
    expected, _ = estimate(docs, tmp_path / "i", summarizer=priced)
    assert expected.usd_high is not None and expected.usd_high > 0
    with pytest.raises(GatewayError, match="needs OPENAI_API_KEY"):
        build_index(docs, tmp_path / "i", summarizer=priced)
    command = ["build", str(docs), "-o", str(tmp_path / "i"), "--dry-run", "--summarizer"]
    assert main([*command, priced]) == 0 and "1 call of openai/priced-model" in capsys.readouterr().out
    assert main([*command, "nonsense-model"]) == 2 and "unknown model" in capsys.readouterr().err


def test_an_estimate_counts_the_summaries_that_were_paid_for_with_the_same_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 20), tmp_path / "i"
    options = {"seed": 7}
    with ModelServer(summary_of) as server:
        server.use(monkeypatch)
        build_index(docs, out, summarizer=MODEL, summarizer_options=options)
        paid = server.calls
    left, _ = estimate(docs, out, summarizer=MODEL, summarizer_options=options)
    other, _ = estimate(docs, out, summarizer=MODEL)
    assert (left.recorded, left.calls, other.recorded) == (paid, 0, 0)


def test_a_dry_run_asks_nothing_and_counts_what_the_build_then_reports(tmp_path: Path) -> None:
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 60, 30), tmp_path / "i"
    expected, _ = estimate(str(docs), out)
    report = build_index(docs, out)
    assert expected.levels == report.levels
    assert expected.calls == report.calls
    assert expected.prompt_tokens == report.prompt_tokens
    assert expected.completion_tokens == report.completion_tokens


def test_a_second_build_into_one_index_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 3), tmp_path / "i"
    with build_lock(out), pytest.raises(RaptorError, match="another build"):
        build_index(docs, out)
    assert build_index(docs, out).new


@pytest.mark.parametrize("name", ["build.lock", "build.sqlite", "build.sqlite-wal", "build.sqlite-shm"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_what_a_build_writes_is_refused_in_one_sentence(
    tmp_path: Path, name: str, there: bool
) -> None:
    docs, out, victim = (
        tiny_embedder.write_documents(tmp_path / "docs", 3),
        tmp_path / "i",
        tmp_path / "victim",
    )
    out.mkdir()
    if there:
        victim.touch()
    (out / name).symlink_to(victim)
    with pytest.raises(RaptorError, match=rf"{name} is a link, and none is followed here") as caught:
        build_index(docs, out)
    assert "\n" not in str(caught.value)
    assert (victim.read_bytes() if there else victim.exists()) in (b"", False)


def test_a_damaged_checkpoint_is_one_sentence_that_says_what_to_delete(tmp_path: Path) -> None:
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 3), tmp_path / "i"
    out.mkdir()
    (out / "build.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(RaptorError, match=r"build\.sqlite.*delete the file"):
        build_index(docs, out)


def test_a_disk_that_fills_up_is_one_sentence_and_the_build_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 30)
    whole, refused = build_index(docs, tmp_path / "whole").digest, 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for number, kilobytes in enumerate([1, 16, 40, 64, 80, 100, 120]):
        out = tmp_path / f"i{number}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, hard))
        try:
            build_index(docs, out)
        except RaptorError as e:
            refused += 1
            assert "disk space" in str(e)
            assert not list(out.glob("**/*.partial"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert build_index(docs, out).digest == whole
    assert refused > 2


def test_no_two_lists_of_inputs_share_a_key() -> None:
    keys = [
        result_key("k", "ab", "c"),
        result_key("k", "a", "bc"),
        result_key("k", b"ab", "c"),
        result_key("k", ["ab"], "c"),
        result_key("ka", "b", "c"),
        result_key("k", "abc"),
    ]
    assert len(set(keys)) == len(keys)


def any_shape(value: Any) -> bool:
    return True


def test_what_is_recorded_comes_back_and_is_computed_once(tmp_path: Path) -> None:
    with Checkpoint(tmp_path) as first:
        assert first.json("x", [1], lambda: {"a": "é"}, any_shape) == {"a": "é"}
    with Checkpoint(tmp_path) as again:
        assert again.json("x", [1], lambda: pytest.fail("computed again"), any_shape) == {"a": "é"}
        again.settle("x")
        assert again.json("x", [1], lambda: 2, any_shape) == 2


def test_a_damaged_result_counts_as_none(tmp_path: Path) -> None:
    with Checkpoint(tmp_path) as first:
        first.json("x", [1], lambda: "recorded", any_shape)
    for place in range(len(b'"recorded"') + 32):
        with sqlite3.connect(tmp_path / "build.sqlite") as db:
            (raw,) = db.execute("SELECT value FROM results").fetchone()
            changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
            db.execute("UPDATE results SET value = ?", (changed,))
        with Checkpoint(tmp_path) as again:
            assert again.json("x", [1], lambda: "recorded", any_shape) == "recorded"
            assert again.json("x", [1], lambda: pytest.fail("not recorded anew"), any_shape) == "recorded"


@pytest.mark.parametrize(
    "stored",
    [5, 1.5, "text", None, b"", b"\0" * 40, b"5", b"[1]", b'{"a": 1}', b"{", b"[" * 100_000, b"\xff"],
)
def test_a_strangers_checkpoint_of_any_shape_counts_as_none(tmp_path: Path, stored: Any) -> None:
    docs, out = tmp_path / "docs", tmp_path / "i"
    docs.mkdir()
    (docs / "a.html").write_text("<p>The words of a page.</p>")
    build_index(docs, out)
    with sqlite3.connect(out / "build.sqlite") as db:
        for (key,) in db.execute("SELECT key FROM results").fetchall():
            signed = isinstance(stored, bytes) and len(stored) != 40
            value = hashlib.sha256(key.encode() + stored).digest() + stored if signed else stored
            db.execute("UPDATE results SET value = ? WHERE key = ?", ("" if value is None else value, key))
    (docs / "b.html").write_text("<p>The words of another page.</p>")
    assert update_index(out, docs).documents == 2
    prune_index(out)


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE VIEW results AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
        "SELECT 'k' || n AS key, 'x' AS kind, x'00' AS value FROM r",
        "CREATE TABLE results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, value AS (zeroblob(900000000)))",
        "CREATE TABLE of_another_program (a)",
    ],
)
def test_a_database_that_no_build_made_is_refused_and_left_as_it_was(tmp_path: Path, schema: str) -> None:
    with sqlite3.connect(tmp_path / "build.sqlite") as db:
        db.execute(schema)
    before = (tmp_path / "build.sqlite").read_bytes()
    with pytest.raises(RaptorError, match="other tables than a build makes"):
        Checkpoint(tmp_path)
    assert (tmp_path / "build.sqlite").read_bytes() == before


def test_a_journal_that_names_a_file_outside_has_nothing_deleted(tmp_path: Path) -> None:
    outside, folder = tmp_path / "precious.txt", tmp_path / "i"
    outside.write_text("the user's own words")
    folder.mkdir()
    with sqlite3.connect(folder / "build.sqlite") as db:
        db.execute("CREATE TABLE results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, value BLOB NOT NULL)")
    pages, name = len((folder / "build.sqlite").read_bytes()) // 4096, str(outside).encode()
    magic = bytes.fromhex("d9d505f920a163d7")
    header = (magic + struct.pack(">IIIII", 0, 0, pages, 512, 4096)).ljust(512, b"\0")
    tail = struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    (folder / "build.sqlite-journal").write_bytes(
        header + tail
    )  # SQLite's file format, 3 "The Rollback Journal"
    with Checkpoint(folder) as checkpoint:
        assert checkpoint.count("summary") == 0
    assert outside.read_text() == "the user's own words"


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_pipe_in_place_of_the_checkpoint_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"build.sqlite{suffix}")
    with suppress(RaptorError), Checkpoint(tmp_path) as checkpoint:
        assert checkpoint.count("summary") == 0


def test_pruning_keeps_what_a_kept_generation_or_an_open_build_needs(tmp_path: Path) -> None:
    docs, out = tmp_path / "docs", tmp_path / "i"
    docs.mkdir()
    for name in ("a", "b"):
        (docs / f"{name}.html").write_text(f"<p>The words of {name}, one page of them.</p>")
    build_index(docs, out)
    (docs / "a.html").write_text("<p>Other words, to be a second generation.</p>")
    update_index(out, docs)

    def kinds() -> list[str]:
        with Checkpoint(out) as checkpoint:
            return sorted(kind for (kind,) in checkpoint._run("SELECT kind FROM results"))

    assert kinds().count("settled parsed") == 3
    assert prune_index(out, keep=2) == ([], 0)
    with Checkpoint(out) as checkpoint:
        checkpoint.put_json("k", "parsed", {"text": "of a build that has not ended"})
        checkpoint.put_json("l", "embed", [])
    gone, dropped = prune_index(out)
    assert (gone, dropped) == ([1], 2)  # the old text of a.html, and the summary over it
    assert {"embed", "parsed", "roots", "settled parsed", "settled summary"} == set(kinds())
    (docs / "a.html").write_text("<p>Other words, to be a second generation.</p>")
    assert not update_index(out, docs).new


def test_pruning_what_is_no_index_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BrokenIndex, match="no index"):
        prune_index(tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_a_build_that_is_stopped_while_it_embeds_embeds_only_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in texts: what was embedded is kept, but for the batches under way, a second's work for each core."""
    docs, embedded = tiny_embedder.write_documents(tmp_path / "docs", 60, 30), list[int]()

    def encode(texts: Sequence[str]) -> Any:
        embedded.append(len(texts))
        return tiny_embedder.encode(texts)

    def load(name: str = "minilm", *, offline: bool = False) -> Any:
        return replace(tiny_embedder.load(name), encode=encode)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "embed" and done >= 128:
            raise KeyboardInterrupt

    monkeypatch.setattr("index_store.embedder.load_embedder", load)
    with pytest.raises(KeyboardInterrupt):
        build_index(docs, tmp_path / "i", progress=stop)
    before = sum(embedded)
    report = build_index(docs, tmp_path / "i")
    assert max(embedded) == BATCH
    assert 128 <= before <= 128 + AHEAD * GIVEN * BATCH * cores()
    assert sum(embedded) == sum(report.levels) + before - 128
