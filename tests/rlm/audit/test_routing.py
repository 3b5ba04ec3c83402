"""Which branches a run entered, what was beside them, and the run as text."""

from pathlib import Path
from typing import Any

import pytest

from rlm.audit import Verdict, read
from rlm.audit.costs import costs, in_dollars
from rlm.audit.events import RecordedEvent
from rlm.audit.routing import (
    branches,
    held_to,
    nodes_of,
    places_of,
    texts_held,
    where_shown,
    words_by_node,
    words_shown,
)
from rlm.audit.timeline import branch_line, show
from rlm.gateway.blocks import Block, quote
from tests.helpers.audit_sample import sample_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RecordedEvent], Verdict]:
    return read(sample_run(tmp_path_factory.mktemp("run")))


def visit(
    seq: int, verb: str, shown: list[dict[str, Any]], result: Any = "", **arguments: Any
) -> RecordedEvent:
    return {
        "kind": "visited",
        "seq": seq,
        "conversation": "0",
        "verb": verb,
        "arguments": arguments,
        "shown": shown,
        "not_taken": [],
        "result": result,
    }


def ref(node: str | None, level: int = 0, parent: str | None = None) -> dict[str, Any]:
    return {"node": node, "level": level, "label": f"about {node}", "parent": parent}


def test_the_branches_are_those_opened_or_named_in_the_order_of_first_entry(
    run: tuple[list[RecordedEvent], Verdict],
) -> None:
    taken = branches(run[0])
    assert [(branch.node, branch.verb) for branch in taken] == [
        ("L2-00000", "children"),
        ("L1-00001", "peek"),
        ("L0-00002", "read"),
        ("L0-00003", "read"),
        ("L0-00001", "read"),
        ("L0-00004", "read"),
        ("L1-00004", "rlm_query"),
    ]
    assert taken[1].label == "Margin, power contract and outlook" and taken[1].level == 1
    assert branch_line(taken[2]) == "L0-00002    Financial review  (read)"


def test_each_node_stands_as_far_as_the_run_went(run: tuple[list[RecordedEvent], Verdict]) -> None:
    standing = {node: place.standing for node, place in places_of(run[0]).items()}
    assert standing["L0-00002"] == "cited" and standing["L0-00001"] == "entered"
    assert standing["L1-00003"] == "seen" and standing["L0-00000"] == "passed"
    assert "L0-00006" not in standing  # never on offer


def test_what_a_search_or_a_listing_shows_is_not_entered() -> None:
    events = [visit(0, "search", [ref("a")], query="a"), visit(1, "children", [ref("b")], node="a")]
    assert [branch.node for branch in branches(events)] == ["a"]
    assert branches(events[:1]) == []


def test_asking_where_a_node_lies_does_not_enter_it() -> None:
    events = [
        visit(0, "search", [ref("a")]),
        visit(1, "parents", [ref("b")], node="a"),
        visit(2, "path", [], node="a"),
    ]
    assert branches(events) == []


def test_a_node_whose_words_are_given_to_a_model_is_entered_and_shown() -> None:
    prompt = "Who?\n" + quote([Block("b", "what the code made up")])
    called = {"kind": "child_called", "seq": 1, "conversation": "0", "verb": "llm_query", "under": [None]}
    called |= {"children": ["0.1"], "prompts": [prompt]}
    words = prompt + "\n" + quote([Block("a", "the king's seven sons")])
    asked = {
        "kind": "model_asked",
        "seq": 2,
        "conversation": "0.1",
        "messages": [{"role": "user", "content": words}],
    }
    root = {"kind": "model_asked", "seq": 3, "conversation": "0", "messages": asked["messages"]}
    opening = {
        **root,
        "seq": 5,
        "messages": [{"role": "user", "content": quote([Block("c", "read at once")])}],
    }
    events = [opening, visit(0, "search", [ref("a"), ref("b")]), called, asked, root]
    held = texts_held(events)
    assert [(branch.node, branch.verb, branch.seq) for branch in branches(events)] == [("a", "llm_query", 2)]
    assert where_shown(held, "seven sons") == [2] and where_shown(held, "made up") == []
    assert where_shown(held, "read at once") == [5]
    assert dict(words_shown(events))[2] == {"a": "the king's seven sons"}


def test_a_block_of_several_chunks_enters_each_of_them() -> None:
    called = {"kind": "child_called", "seq": 1, "conversation": "0", "verb": "llm_query", "under": [None]}
    called |= {"children": ["0.1"], "prompts": ["Who?"]}
    refs = [ref(f"L0-0000{i}") for i in range(5)]
    for name, entered in {
        "L0-00001..L0-00003": ["L0-00001", "L0-00002", "L0-00003"],
        "L0-00003..L0-00001": [],
        "L0-00001..L0-999999999999": ["L0-00001", "L0-00002", "L0-00003", "L0-00004"],  # from a stranger
    }.items():
        content = quote([Block(name, "five!")])
        asked = {
            "kind": "model_asked",
            "seq": 2,
            "conversation": "0.1",
            "messages": [{"role": "user", "content": content}],
        }
        events = [visit(0, "search", refs), called, asked]
        assert [branch.node for branch in branches(events)] == entered
        assert list(dict(words_shown(events))[2])[: len(entered)] == entered or not entered
        assert len(nodes_of(Block(name, "five!"))) <= 6


def test_what_gather_gives_is_entered_and_each_chunk_has_its_own_words() -> None:
    refs = [ref("a") | {"start": 10, "end": 13}, ref("b") | {"start": 13, "end": 16}, ref("c")]
    piece = {"nodes": ["a", "b"], "doc": "d", "start": 10, "end": 16, "text": "onetwo"}
    events = [visit(0, "gather", refs, [piece, {"nodes": ["c"], "text": "a summary"}], under=["x"])]
    assert [branch.node for branch in branches(events)] == ["a", "b", "c"]
    assert words_by_node(events[0]) == {"a": "one", "b": "two", "c": "a summary"}
    hostile = [{"nodes": ["a", 3, None, {}], "start": "10", "text": "onetwo"}]
    assert words_by_node(visit(0, "gather", refs, hostile)) == {"a": "onetwo"}


def test_a_branch_that_is_named_by_its_entry_or_in_a_list_is_entered() -> None:
    seen = visit(0, "branches", [ref("a"), ref("b"), ref("c")])
    gathered = visit(1, "gather", [], [], under=["a", {"node": "b", "share": 0.4}])
    assert [branch.node for branch in branches([seen, gathered])] == ["a", "b"]


def test_each_child_enters_the_branch_that_it_is_held_to() -> None:
    seen = visit(0, "branches", [ref("a"), ref("b"), ref("c")])
    called = {"kind": "child_called", "seq": 1, "conversation": "0", "verb": "rlm_query_batched"}
    called |= {"under": ["b", None, "a", "b"], "children": ["0.1", "0.2", "0.3", "0.4"], "prompts": ["?"] * 4}
    assert [branch.node for branch in branches([seen, called])] == ["b", "a"]
    assert held_to(called) == " under b, a" and held_to(called, most=1) == " under b, 1 more"
    assert held_to(called | {"under": [None]}) == ""


def test_a_refused_verb_enters_nothing() -> None:
    events = [visit(0, "children", [ref("a")]), {**visit(1, "read", [], node="a"), "error": "over budget"}]
    assert branches(events) == []


def test_bare_spans_are_no_nodes() -> None:
    assert places_of([visit(0, "read", [ref(None)])]) == {}


def test_the_words_shown_are_matched_to_their_nodes() -> None:
    assert words_by_node(visit(0, "read", [ref("a")], "words")) == {"a": "words"}
    assert words_by_node(visit(0, "read", [ref("a"), ref("b")], "words")) == {}
    result = {
        "hits": [
            {"node": "a", "text": "one"},
            {"id": "b", "summary": "two"},
            {"node": ["a"], "text": "three"},
        ]
    }
    assert words_by_node(visit(0, "search", [ref("a"), ref("b")], result)) == {"a": "one", "b": "two"}


def test_quoted_words_are_found_where_they_were_shown(run: tuple[list[RecordedEvent], Verdict]) -> None:
    at = where_shown(texts_held(run[0]), "puts four and a half points of the fall down")
    assert len(at) == 1 and run[0][at[0]]["arguments"] == {"node": "L0-00002"}
    assert where_shown(texts_held(run[0]), "never shown") == [] == where_shown(texts_held(run[0]), "")


def test_the_cost_is_the_sum_over_every_call_and_ends_as_the_run_says(
    run: tuple[list[RecordedEvent], Verdict],
) -> None:
    last, closed = costs(run[0])[-1].usage, run[0][-1]["usage"]
    assert (last.calls, last.prompt_tokens, last.completion_tokens) == tuple(
        closed[name] for name in ("calls", "prompt_tokens", "completion_tokens")
    )
    assert last.usd == pytest.approx(closed["usd"])
    assert [in_dollars(usd) for usd in (0.0, 0.0042, 1234.5)] == ["$0", "$0.0042", "$1,234.50"]


def test_the_timeline_tells_each_step_in_order(run: tuple[list[RecordedEvent], Verdict]) -> None:
    text = show(*run)
    order = [
        "The trace is whole",
        "question",
        "REFUSED by the scan",
        "not taken L1-00000",
        "llm_query_batched: 2",
        "ANSWER",
    ]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert "[2] nearest (0.87 alike): report.txt" in text and "Branches entered, in order:" in text
    assert "so far 8 calls, 8,782 tokens, $0.0284" in text


def test_the_timeline_of_a_hostile_run_cannot_drive_a_terminal(tmp_path: Path) -> None:
    text = show(*read(sample_run(tmp_path, hostile="\x1b]0;owned\x07\x9b2J\u202e\ud800\r")))
    assert not {character for character in text if not character.isprintable()} - {"\n"}
    assert "\\x1b]0;owned" in text
    text.encode("utf-8")


def test_a_damaged_trace_is_shown_up_to_the_damage(run: tuple[list[RecordedEvent], Verdict]) -> None:
    text = show(run[0][:9], Verdict(False, 9, 10, "it was changed", "0" * 64))
    assert text.startswith("THE TRACE IS NOT AS IT WAS WRITTEN: line 10: it was changed")
    assert show([], Verdict(False, 0, 1, "not a trace", "0" * 64)).count("\n") >= 2
