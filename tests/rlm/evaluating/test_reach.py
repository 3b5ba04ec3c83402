"""How far runs of scripted models came towards the gold: each step by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from index_store.types import Scope
from rlm import Models, ask
from rlm.audit import read
from rlm.audit.given import given
from rlm.evaluating.cases import Gold
from rlm.evaluating.reach import precision, reach
from rlm.limits import Route
from tests.helpers.model_server import MODEL, ModelServer

# boats.txt is cut at 25 and 48 into L0-00000 to L0-00002; größe.md at 7 into L0-00003 and L0-00004; one.txt is one.
FIRST, SECOND, LAST = Gold("boats.txt", 0, 20), Gold("boats.txt", 30, 40), Gold("one.txt")
Ran = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def ran(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    def call(*replies: str, route: Route = "rlm", scope: Scope = Scope()) -> list[dict[str, Any]]:
        with ModelServer(replies) as server:
            server.use(monkeypatch)
            answer = ask(index, "How many?", route=route, models=Models(MODEL), runs=tmp_path, scope=scope)
        return list(read(answer.trace)[0])

    return call


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


DONE = cell("FINAL('Two.', citations=[])")


def steps(index: Index, events: list[dict[str, Any]], gold: Gold) -> str:
    (came,) = reach(index, events, [gold])
    return " ".join(name for name in ("offered", "entered", "read", "cited") if getattr(came, name))


@pytest.mark.parametrize(
    ("code", "came"),
    [
        ("pass", ""),
        ("context.children('L1-00000')", "offered"),
        ("context.search('ketch', k=6)", "offered"),
        ("context.peek('L0-00001')", "offered"),  # it stood beside
        ("context.peek('L0-00000')", "offered entered"),
        ("context.grep('ketch')", "offered"),
        ("context.path('L0-00000')", "offered"),  # asking where it lies is not going there
        ("context.packs(100)", "offered"),
        ("context.read('L0-00001')", "offered"),
        ("context.read('L0-00000')", "offered entered read"),
        (
            "context.read('boats.txt', 22, 30)",
            "offered entered",
        ),  # the chunk was opened, and of the gold no character given
        ("context.read('boats.txt', 19, 30)", "offered entered read"),
        ("context.read(['L0-00000', 'L0-00005'])", "offered entered read"),
        ("context[0:10]", "offered entered read"),
        ("llm_query('what?', nodes=['L0-00000'])", "offered entered read"),
        ("context.read('L0-00005')", ""),
    ],
)
def test_each_way_to_the_gold_is_told_from_the_others(index: Index, ran: Ran, code: str, came: str) -> None:
    assert steps(index, ran(cell(code), DONE), FIRST) == came


def test_what_a_child_reads_is_read(index: Index, ran: Ran) -> None:
    child = cell("context.read('L0-00001')\nFINAL('x', citations=[])")
    events = ran(cell("rlm_query('what?', under='L1-00000')"), child, DONE)
    assert steps(index, events, SECOND) == "offered entered read"
    assert "read" not in steps(index, events, LAST)


def test_a_citation_that_stands_and_overlaps_cites_the_gold_and_one_that_does_not_stand_does_not(
    index: Index, ran: Ran
) -> None:
    quotes = ["The ketch has two masts.", "The ketch has nine tall masts and a funnel.", "single"]
    events = ran(cell(f"FINAL('Two.', citations={quotes!r})"))
    assert steps(index, events, FIRST) == "cited"
    assert steps(index, events, SECOND) == ""
    assert steps(index, events, LAST) == "cited"
    assert precision(events, [FIRST]) == pytest.approx(1 / 3)
    assert precision(events, [FIRST, LAST]) == pytest.approx(2 / 3)
    assert precision(events, [SECOND]) == 0.0
    assert precision(events, []) is None
    assert precision(ran(DONE), [FIRST]) is None


def test_what_a_search_finds_for_one_call_is_read_by_the_model(index: Index, ran: Ran) -> None:
    events = ran("NOT FOUND", route="retrieve")
    read_spans = {(span.doc, span.start, span.end) for span in given(index, events)}
    for gold in (FIRST, SECOND, LAST):
        assert steps(index, events, gold) == "offered entered read"
    assert ("boats.txt", 0, 25) in read_spans


def test_of_the_whole_text_in_one_call_all_is_read_and_no_more_than_is_in_the_scope(
    index: Index, ran: Ran
) -> None:
    events = ran("NOT FOUND", route="direct")
    assert [steps(index, events, gold) for gold in (FIRST, SECOND, LAST)] == ["offered entered read"] * 3
    events = ran("NOT FOUND", route="direct", scope=Scope(doc="one.txt"))
    assert [steps(index, events, gold) for gold in (FIRST, LAST)] == ["", "offered entered read"]
