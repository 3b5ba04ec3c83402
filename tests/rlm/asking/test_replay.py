"""A recorded run, done again from its record: it comes out the same, or the first difference is named."""

from pathlib import Path

import pytest

from index_store.index import Index
from rlm.asking.replaying.replay import replay
from tests.helpers.recorded import RECORDED, Recording, events_of, traces_in


@pytest.fixture
def recording(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    return Recording(index, tmp_path / "runs", monkeypatch)


@pytest.mark.parametrize("name", RECORDED)
def test_a_run_comes_out_the_same(name: str, recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    RECORDED[name](recording)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for run in traces_in(recording.runs):
        done = replay(run, recording.index)
        assert done.difference is None
        assert done.is_same and done.events == len(events_of(run))
