"""A question to an index with a damaged file ends in an answer of what is whole, or in one sentence of ours."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from index_store.errors import IndexStoreError
from rlm import RlmError, ask
from rlm.audit import read
from rlm.cli import main
from rlm.limits import Limits, Route
from tests.helpers.rlm_toy import embedded
from tests.helpers.toy import publish_toy

ROUTES: tuple[Route, ...] = ("direct", "retrieve", "rlm")
BYTES = 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "i"
    publish_toy(path)
    return path


def damaged(whole: Path, to: Path) -> Iterator[tuple[str, Path]]:
    """(file and offset, index) for copies of an index of which 8 bytes of one file are 0xff."""
    numbers = count()
    for file in sorted(path.relative_to(whole) for path in whole.rglob("*") if path.stat().st_size > BYTES):
        if not (whole / file).is_file():
            continue
        size = (whole / file).stat().st_size
        for offset in dict.fromkeys((0, min(128, size - BYTES), size // 2 - BYTES // 2, size - BYTES)):
            path = to / f"{next(numbers)}"
            shutil.copytree(whole, path)
            with (path / file).open("r+b") as raw:
                raw.seek(offset)
                raw.write(b"\xff" * BYTES)
            yield f"{file} at {offset}", path


@pytest.mark.parametrize("route", ROUTES)
def test_a_damaged_index_is_one_sentence_and_its_trace_is_closed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: Route
) -> None:
    embedded(monkeypatch)
    refused, unlike = 0, list[str]()
    for what, path in damaged(whole, tmp_path):
        runs = path.with_suffix(".runs")
        try:
            question = "Which mizzen stands aft of the rudder?"
            answer = ask(path, question, route=route, limits=Limits(turns=4), runs=runs)
            visits = [event for event in read(answer.trace)[0] if event["kind"] == "visited"]
            unlike += [
                f"{what}: answered in spite of {v['error']}" for v in visits if "again" in v.get("error", "")
            ]
        except (RlmError, IndexStoreError) as e:
            refused += 1
            if not str(e).strip() or "\n" in str(e):
                unlike.append(f"{what}: {e!r}")
        except Exception as e:
            unlike.append(f"{what}: {e!r}")
        for folder in runs.glob("*"):
            if (last := read(folder)[0][-1])["kind"] != "run_closed":
                unlike.append(f"{what}: the trace ends in {last['kind']}")
    assert refused and not unlike, unlike


def test_what_a_search_refuses_is_an_error_of_ours_and_the_run_has_failed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded(monkeypatch)
    path = tmp_path / "i"
    shutil.copytree(whole, path)
    (words,) = path.rglob("words.txt")
    words.write_bytes(b"\xff" * words.stat().st_size)
    with pytest.raises((RlmError, IndexStoreError)):
        ask(path, "Which mizzen?", route="retrieve", runs=tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    closed = read(folder)[0][-1]
    assert closed["kind"] == "run_closed" and closed["stop"] == "failed" and closed["error"]
    given = ["ask", str(path), "Which mizzen?", "--route", "retrieve", "--runs", str(tmp_path / "more")]
    assert main(given) == 2
    said = capsys.readouterr().err.strip().split("\n")[-1]
    assert said.startswith("rlm: ") and "Traceback" not in said
