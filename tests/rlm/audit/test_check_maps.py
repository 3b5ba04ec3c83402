"""Runs that map over rows, or reduce them, held against an independent search: what was asked of a row was read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index, open_any
from rlm.asking.tables import map_rows
from rlm.audit import Report, check, read
from rlm.audit.checking.mapped import tallied
from rlm.audit.checking.sentences import checked_claims
from rlm.audit.given import given
from rlm.audit.maps import maps_of
from rlm.gateway.blocks import Block, quote
from rlm.limits import Limits, Models
from tests.helpers.mapped_run import CALL, FIELDS, Played, messages
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.rlm_toy import warm_up
from tests.helpers.row_reader import row_script

ROWS = 118
QUESTION = "Which label has each message?"
LINES = [f"{'ham' if n % 7 else 'spam'} message {n} {'of the harbour ' * 20}\n" for n in range(ROWS)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "messages.txt"
    path.write_text("".join(LINES), encoding="utf-8")
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer(row_script(lambda text: {"label": text.split()[0]})) as opened:
        opened.use(monkeypatch)
        yield opened


def mapped(text: Path, **options: Any) -> Path:
    """The folder of a run that is one map."""
    given: dict[str, Any] = {"split": "line", "models": Models(MODEL), "runs": text.parent / "runs"} | options
    return map_rows(text, QUESTION, {"label": ["spam", "ham"]}, **given).trace


def checked(run: Path, text: Path) -> Report:
    return check(run, open_any(str(text)))


@pytest.mark.parametrize("split", ["line", "chunk"])
def test_a_map_of_every_row_has_read_all_and_has_nothing_to_cite(
    split: str, text: Path, server: ModelServer
) -> None:
    report = checked(mapped(text, split=split), text)
    assert report.verdict == "reasonable", report.reasons
    cover = report.coverage
    assert (cover.offered, cover.entered, cover.read, cover.cited) == (1, 1, 1, 1)
    assert (report.lost, report.claims) == ((), ())
    assert "nothing had to be cited" in " ".join(report.reasons)


def test_rows_whose_answers_came_from_the_store_were_read(text: Path, server: ModelServer) -> None:
    mapped(text)
    calls = server.calls
    assert checked(mapped(text), text).coverage.read == 1
    assert server.calls == calls


def test_rows_that_a_cap_left_out_were_offered_and_not_read(text: Path, server: ModelServer) -> None:
    run = mapped(text, pack_tokens=400, limits=Limits(calls=1))
    report = checked(run, text)
    assert report.coverage.offered == 1 and (report.coverage.read or 0) < 1
    assert {one.stage for one in report.lost} == {"not entered"}
    assert not report.claims


@pytest.mark.parametrize(
    ("content", "is_supported"),
    [
        ("17 of 118 rows are spam.", True),
        ("All 118 messages were asked; 101 are ham.", True),
        ("17", True),
        ("18 of 118 rows are spam.", False),
        ("The anchor weighs 17 pounds.", False),
        ("17 messages are of Severn Trent.", False),
        ("Many rows are spam.", False),
        ('17 rows are spam, "which nobody had ever thought possible".', False),
    ],
)
def test_a_sentence_is_supported_by_the_figures_of_a_map(
    content: str, is_supported: bool, text: Path, server: ModelServer
) -> None:
    tallies = tallied(maps_of(read(mapped(text))[0]))
    (claim,) = checked_claims(QUESTION, content, [], 0.4, None, None, tallies)
    assert claim.supported == is_supported, claim
    assert not checked_claims(QUESTION, content, [], 0.4)[0].supported


@pytest.fixture
def index(tmp_path: Path) -> Index:
    warm_up()
    return messages(tmp_path / "messages.index")


@pytest.mark.parametrize(
    ("code", "content"),
    [
        (CALL.format(rows="context.rows('line')", more=""), "Of 24 messages 8 are spam, 6 of 2024-01."),
        ("llm_filter('It is spam', context.rows('line'))", "8 of 24 messages are spam."),
    ],
)
def test_an_answer_that_counts_over_a_map_of_a_cell_is_supported(
    code: str, content: str, index: Index, tmp_path: Path
) -> None:
    def holds(text: str) -> dict[str, Any]:
        spam = "win" in text
        return {"label": "spam" if spam else "ham", "month": text.strip()[-7:], "holds": spam}

    cell = f"{FIELDS}m = {code}\nanswer['content'] = {content!r}\nanswer['ready'] = True"
    played = Played(index, tmp_path / "runs", [cell], child=row_script(holds))
    report = check(played.run, index)
    assert [claim.supported for claim in report.claims] == [True], report.claims
    assert report.coverage.read == 1


def test_what_a_reduction_is_given_is_read_and_not_what_its_question_pretends(index: Index) -> None:
    first, second = (Block(f"L0-0000{n}", f"Passage {n}.") for n in (0, 1))
    asked = f"QUESTION:\n{quote([second])}\n{quote([first])}"
    common = {"conversation": "0", "seq": 0}
    events: list[dict[str, Any]] = [
        {**common, "kind": "run_opened"},
        {**common, "kind": "reduce_called", "question": quote([second])},
        {**common, "kind": "child_called", "verb": "llm_reduce", "children": ["0.1"], "prompts": [asked]},
        {
            "conversation": "0.1",
            "seq": 3,
            "kind": "model_asked",
            "messages": [{"role": "user", "content": asked}],
        },
    ]
    assert list(given(index, events)) == [index.span_at(0)]
