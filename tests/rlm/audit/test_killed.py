"""A run that is killed at any moment leaves a trace that verifies up to its end, and says that it has none."""

import subprocess
import sys
from pathlib import Path

import pytest

from rlm.audit import read, render, show, verify
from rlm.audit.redacting import redact_words
from rlm.cli import main
from tests.helpers.places import ROOT
from tests.helpers.thorough import cases
from tests.helpers.toy import toy_index

KILLS = cases(5, 30)


@pytest.mark.slow
def test_a_question_that_is_killed_leaves_a_trace_that_verifies_up_to_its_end(tmp_path: Path) -> None:
    toy_index(tmp_path / "toy.index")
    command = [
        sys.executable,
        "-m",
        "tests.helpers.killed_ask",
        str(tmp_path / "toy.index"),
        str(tmp_path / "runs"),
    ]
    done = subprocess.run(
        [*command, str(KILLS), "13"], cwd=ROOT, capture_output=True, text=True, timeout=1_200, check=False
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    whole, *folders = done.stdout.splitlines()
    assert len(folders) == KILLS
    ended: set[int] = set()
    for folder in map(Path, folders):
        (run,) = folder.iterdir()
        raw = (run / "trace.jsonl").read_bytes()
        verdict = verify(run)
        assert verdict.events == raw.count(b"\n") and verdict.events >= 1, verdict
        events, chain = read(run)
        assert len(events) == verdict.events
        if events[-1]["kind"] == "run_closed":  # killed behind its last line
            assert verdict.ok and verdict.closed
            assert main(["trace", "verify", str(run)]) == 0
        else:
            assert verdict.only_unclosed and verdict.reason.startswith("unclosed: ")
            assert main(["trace", "verify", str(run)]) == 3
        assert show(events, chain) and render(events, chain)
        ended.add(verdict.events)
    assert len(ended) > min(int(whole), KILLS) // 3, sorted(ended)
    killed = next(Path(folder) for folder in folders)
    (run,) = killed.iterdir()
    assert redact_words(run, "masts", "Ann", "a reason") and verify(run).events >= 1
