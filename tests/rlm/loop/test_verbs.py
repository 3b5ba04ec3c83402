"""The verbs over the tree: each by hand, under hostile arguments, and inside a branch that must not leak."""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from index_store.index import Index, open_index
from index_store.types import Json
from rlm.audit.routing import LOCATING
from rlm.gateway.blocks import Block
from rlm.loop import verbs as verbs_module
from rlm.loop.checks import Refused
from rlm.loop.verbs import READ_CHARS, VERBS, Verbs
from tests.helpers.places import ROOT as HOME
from tests.helpers.rlm_toy import Visit, embedded, recorded_verbs
from tests.helpers.toy import CUTS, TEXTS, publish_toy, toy_draft, toy_index

BOATS, FRUIT, ROOT = "L1-00000", "L1-00001", "L2-00000"
CORPUS = "".join(TEXTS.values())
LEAVES = [
    text[a:b]
    for name, text in TEXTS.items()
    for a, b in zip(CUTS[name], [*CUTS[name][1:], len(text)], strict=True)
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        yield toy_index(tmp_path_factory.mktemp("context") / "toy.index")


@pytest.fixture
def whole(index: Index) -> tuple[Verbs, list[Visit]]:
    return recorded_verbs(index)


@pytest.fixture
def boats(index: Index) -> tuple[Verbs, list[Visit]]:
    return recorded_verbs(index, BOATS)


@pytest.fixture
def fruit(index: Index) -> tuple[Verbs, list[Visit]]:
    return recorded_verbs(index, FRUIT)


def ask(view: tuple[Verbs, list[Visit]], verb: str, *args: Any, **kwargs: Any) -> Any:
    return view[0].serve(verb, list(args), kwargs)


def ids(views: list[dict[str, Any]]) -> list[str]:
    return [view["node"] for view in views]


def shown(view: tuple[Verbs, list[Visit]]) -> list[tuple[str, str | None]]:
    return [(ref["node"], ref["parent"]) for ref in view[1][-1]["shown"]]


def passed(view: tuple[Verbs, list[Visit]]) -> list[str]:
    return ids(view[1][-1]["not_taken"])


def refusal(view: tuple[Verbs, list[Visit]], verb: str, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Refused) as caught:
        ask(view, verb, *args, **kwargs)
    return str(caught.value)


# -- each verb, by hand ------------------------------------------------------------------------------------


def test_overview_gives_the_size_and_the_children_of_the_root(whole: Any) -> None:
    seen = ask(whole, "overview")
    assert (seen["documents"], seen["nodes"], seen["characters"]) == (3, 9, len(CORPUS))
    assert seen["levels"] == [6, 2, 1]
    assert seen["root"] == {"node": ROOT, "level": 2, "label": "All"}
    assert seen["summary"] == "Boats; fruit."
    assert ids(seen["children"]) == [BOATS, FRUIT]
    assert shown(whole) == [(ROOT, None), (BOATS, ROOT), (FRUIT, ROOT)]


def test_documents_lists_them_in_order(whole: Any) -> None:
    listed = ask(whole, "documents")
    assert [row["doc"] for row in listed] == list(TEXTS)
    assert listed[0] == {"doc": "boats.txt", "title": "boats", "chars": len(TEXTS["boats.txt"]), "pages": 0}
    assert [row["doc"] for row in ask(whole, "documents", limit=1)] == ["boats.txt"]


def test_peek_shows_one_node_and_records_what_stood_beside_it(whole: Any) -> None:
    assert ask(whole, "peek", BOATS) == {
        "node": BOATS,
        "level": 1,
        "label": "Boats and masts",
        "text": "A ketch and a yawl have a mizzen.",
        "chars": 33,
        "children": 3,
    }
    assert (shown(whole), passed(whole)) == ([(BOATS, ROOT)], [FRUIT])


def test_children_are_recorded_under_the_node_they_were_listed_for(whole: Any) -> None:
    assert ids(ask(whole, "children", FRUIT)) == ["L0-00002", "L0-00003", "L0-00004", "L0-00005"]
    assert set(shown(whole)) == {(f"L0-0000{i}", FRUIT) for i in range(2, 6)}  # L0-00002 has two parents
    assert passed(whole) == [BOATS]


def test_parents_and_path_lead_upwards(whole: Any) -> None:
    assert ids(ask(whole, "parents", "L0-00002")) == [BOATS, FRUIT]
    assert ids(ask(whole, "path", "L0-00004")) == [ROOT, FRUIT, "L0-00004"]
    assert ids(ask(whole, "path", ROOT)) == [ROOT]
    assert ask(whole, "parents", ROOT) == []


def test_leaves_are_the_chunks_below_in_document_order(whole: Any) -> None:
    assert ids(ask(whole, "leaves", BOATS)) == ["L0-00000", "L0-00001", "L0-00002"]
    assert ids(ask(whole, "leaves", ROOT, limit=2)) == ["L0-00000", "L0-00001"]
    assert ids(ask(whole, "leaves", "L0-00005")) == ["L0-00005"]


def test_packs_hold_every_chunk_once_in_order_within_a_prompts_size(
    whole: Any, fruit: Any, index: Index
) -> None:
    tokens = index.rows["tokens"].tolist()
    for most in (1, max(tokens[:6]), sum(tokens[:6]) // 2 + 1, 8_000):
        packs = ask(whole, "packs", most)
        assert [node for pack in packs for node in pack] == [index.id_of(n) for n in range(6)]
        sizes = [sum(tokens[index.number_of(node)] for node in pack) for pack in packs]
        marks = [20 * len(index.pieces(map(index.number_of, pack))) for pack in packs]
        assert all(s + m <= most or len(pack) == 1 for s, m, pack in zip(sizes, marks, packs, strict=True))
        firsts = [tokens[index.number_of(pack[0])] for pack in packs]
        assert all(s + m + n + 20 > most for s, m, n in zip(sizes, marks, firsts[1:], strict=False))
    assert ask(fruit, "packs") == [ids(ask(fruit, "leaves", FRUIT))]
    assert ask(whole, "packs", nodes=["L0-00003", "L0-00001", "L0-00003"]) == [["L0-00003", "L0-00001"]]
    assert ask(whole, "packs", under=FRUIT) == ask(fruit, "packs")
    assert ask(whole, "packs", nodes=[]) == []
    assert "is outside the branch" in refusal(fruit, "packs", nodes=["L0-00000"])
    assert "nodes is a list" in refusal(whole, "packs", nodes="L0-00000")


def test_read_gives_a_nodes_words_or_the_characters_of_a_span(whole: Any) -> None:
    assert ask(whole, "read", "L0-00001") == LEAVES[1]
    assert (shown(whole), passed(whole)) == ([("L0-00001", BOATS)], ["L0-00000", "L0-00002"])
    assert ask(whole, "read", "größe.md", 2, 9) == TEXTS["größe.md"][2:9]
    assert shown(whole) == [("L0-00003", FRUIT), ("L0-00004", FRUIT)]
    assert ask(whole, "read", "one.txt", start=1) == "ingle"
    assert ask(whole, "read", {"doc": "boats.txt", "start": 0, "end": 25}) == LEAVES[0]
    assert shown(whole) == [("L0-00000", BOATS)]


def test_grep_gives_the_place_and_the_line(whole: Any) -> None:
    assert ask(whole, "grep", "MIZZEN", ignore_case=True) == [
        {"node": "L0-00001", "doc": "boats.txt", "start": 29, "end": 35, "line": TEXTS["boats.txt"][:47]},
        {"node": "L0-00002", "doc": "boats.txt", "start": 68, "end": 74, "line": TEXTS["boats.txt"][48:]},
    ]
    assert shown(whole) == [("L0-00001", BOATS), ("L0-00002", BOATS)]
    assert len(ask(whole, "grep", "e", limit=1)) == 1
    assert ask(whole, "grep", "mizzen", doc="one.txt") == []
    assert ids(ask(whole, "grep", "mizzen", under=FRUIT)) == ["L0-00002"]


def test_search_is_best_first_and_says_how_good(whole: Any) -> None:
    hits = ask(whole, "search", "Birnen wiegen", mode="lexical")
    assert hits[0]["node"] == "L0-00004"
    assert hits[0]["text"] == LEAVES[4]
    scores = [hit["score"] for hit in ask(whole, "search", "mizzen of a ketch", k=6)]
    assert len(scores) == 6
    assert scores == sorted(scores, reverse=True)
    assert [ref["score"] for ref in whole[1][-1]["shown"]] == scores


def test_search_takes_a_level_a_branch_and_a_document(whole: Any) -> None:
    assert {hit["level"] for hit in ask(whole, "search", "boats", level=None)} == {0, 1, 2}
    assert {hit["level"] for hit in ask(whole, "search", "boats", level=1)} == {1}
    assert set(ids(ask(whole, "search", "boats", under=FRUIT))) == {f"L0-0000{i}" for i in range(2, 6)}
    assert ids(ask(whole, "search", "boats", doc="one.txt")) == ["L0-00005"]


@pytest.fixture
def described(index: Index, tmp_path: Path) -> tuple[Verbs, list[Visit]]:
    """The toy, whose documents have metadata and one a heading."""
    draft = toy_draft()
    sections = {"boats.txt": ((0, 1, "Masts"), (48, 1, "Rudders"))}
    documents = [
        (replace(d, meta={"year": str(2020 + n)}, sections=sections.get(d.id, ())), text)
        for n, (d, text) in enumerate(draft.documents)
    ]
    publish_toy(tmp_path / "described.index", replace(draft, documents=documents))
    return recorded_verbs(open_index(tmp_path / "described.index"))


def test_search_keeps_to_metadata_and_to_a_heading(described: Any) -> None:
    assert ids(ask(described, "search", "boats", where={"year": 2022})) == ["L0-00005"]
    assert ids(ask(described, "search", "boats", where={"year": "2022"})) == ["L0-00005"]
    assert ids(ask(described, "search", "boats", section="rudder")) == ["L0-00002"]
    assert ids(ask(described, "search", "boats", where={"year": 2022}, section="rudder")) == []
    assert described[1][0]["arguments"]["where"] == {"year": 2022}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"where": "year=2022"}, "where is a dict such as"),
        ({"where": {f"field {n}": "x" for n in range(21)}}, "where has 21 fields, at most 20"),
        ({"where": {"year": [2022]}}, "where['year'] is text or a number, found list"),
        ({"where": {"colour": "red"}}, "no document has the metadata field 'colour'"),
        ({"section": 3}, "section is text, found 3"),
        ({"section": " "}, "the section is empty"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(described: Any, named: Any, said: str) -> None:
    assert said in refusal(described, "search", "boats", **named)


def test_several_nodes_are_read_in_one_visit(whole: Any) -> None:
    wanted = ["L0-00003", BOATS, {"doc": "one.txt", "start": 0, "end": 3}]
    assert ask(whole, "read", wanted) == [LEAVES[3], "A ketch and a yawl have a mizzen.", "sin"]
    assert [node for node, _ in shown(whole)] == ["L0-00003", BOATS, "L0-00005"]
    assert len(whole[1]) == 1
    assert ask(whole, "read", []) == []


def test_a_list_to_read_is_bounded_as_a_whole(
    whole: Any, boats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "501 nodes to read at once, at most 500" in refusal(whole, "read", ["L0-00000"] * 501)
    assert "a list of nodes such as" in refusal(whole, "read", [["L0-00000"]])
    assert "outside the branch" in refusal(boats, "read", ["L0-00000", "L0-00005"])
    monkeypatch.setattr("rlm.loop.verbs.READ_CHARS", len(LEAVES[0]) + 1)
    assert ask(whole, "read", ["L0-00000"]) == [LEAVES[0]]
    assert "these 2 texts hold more than" in refusal(whole, "read", ["L0-00000", "L0-00000"])


def test_the_context_is_also_one_text(whole: Any) -> None:
    assert ask(whole, "length") == len(CORPUS)
    assert ask(whole, "text") == CORPUS
    assert ask(whole, "slice", 40, 105) == CORPUS[40:105]
    assert [node for node, _ in shown(whole)] == ["L0-00001", "L0-00002", "L0-00003"]
    assert ask(whole, "slice", 25, 48) == LEAVES[1]
    assert shown(whole) == [("L0-00001", BOATS)]
    assert ask(whole, "slice", 5, 10**12) == CORPUS[5:]
    assert ask(whole, "slice", 10**12, 10**12 + 1) == ""
    assert ask(whole, "contains", "mizzen") is True
    assert ask(whole, "contains", "Mizzen") is False
    assert ask(whole, "contains", "") is True
    assert ask(whole, "contains", "(?i)mizzen") is False
    assert ask(whole, "contains", CORPUS) is True
    assert ask(whole, "contains", "x" * 5_000) is False


# -- a branch cannot see outside ---------------------------------------------------------------------------

INSIDE_BOATS = {BOATS, "L0-00000", "L0-00001", "L0-00002"}


def test_a_branch_counts_only_its_own(boats: Any) -> None:
    seen = ask(boats, "overview")
    assert (seen["documents"], seen["nodes"], seen["characters"]) == (1, 4, len(TEXTS["boats.txt"]))
    assert ids(seen["children"]) == ["L0-00000", "L0-00001", "L0-00002"]
    assert [row["doc"] for row in ask(boats, "documents")] == ["boats.txt"]


@pytest.mark.parametrize("verb", ["peek", "children", "parents", "path", "leaves", "read"])
@pytest.mark.parametrize("node", [ROOT, FRUIT, "L0-00003", "L0-00005"])
def test_a_branch_refuses_a_node_outside(boats: Any, verb: str, node: str) -> None:
    assert f"outside the branch {BOATS}" in refusal(boats, verb, node)
    assert boats[1][-1] | {"verb": "", "arguments": {}} == {
        "verb": "",
        "arguments": {},
        "shown": [],
        "not_taken": [],
        "result": None,
        "error": f"node {node} is outside the branch {BOATS} that you were given",
        "cut": "",
    }


def test_a_branch_shows_nothing_above_or_beside_itself(boats: Any, fruit: Any) -> None:
    assert ask(boats, "parents", BOATS) == []
    assert ids(ask(boats, "parents", "L0-00002")) == [BOATS]
    assert ids(ask(boats, "path", "L0-00000")) == [BOATS, "L0-00000"]
    assert ids(ask(fruit, "path", "L0-00002")) == [FRUIT, "L0-00002"]  # its first parent is outside
    ask(boats, "peek", BOATS)
    assert passed(boats) == []
    ask(fruit, "peek", "L0-00002")
    assert (shown(fruit), passed(fruit)) == ([("L0-00002", FRUIT)], ["L0-00003", "L0-00004", "L0-00005"])


def test_a_branch_refuses_spans_outside_it(index: Index, boats: Any, fruit: Any) -> None:
    assert "no document 'one.txt' in the branch" in refusal(boats, "read", "one.txt", 0, 3)
    assert "reaches outside the branch" in refusal(fruit, "read", "boats.txt", 0, 60)
    assert "reaches outside the branch" in refusal(fruit, "read", "boats.txt", 47, 60)
    assert ask(fruit, "read", "boats.txt", 48, 60) == TEXTS["boats.txt"][48:60]
    assert "no document 'größe.md' in the branch" in refusal(boats, "grep", "e", doc="größe.md")
    assert "no document 'größe.md' in the branch" in refusal(boats, "search", "e", doc="größe.md")
    with pytest.raises(Refused, match="outside the branch"):
        boats[0].passages(["L0-00004"])
    with pytest.raises(Refused, match="no document"):
        boats[0].passages([{"doc": "one.txt", "start": 0, "end": 1}])


def test_a_branch_cannot_be_widened_by_under(boats: Any) -> None:
    for verb in ("grep", "search"):
        for node in (ROOT, FRUIT, "L0-00003"):
            assert "outside the branch" in refusal(boats, verb, "e", under=node)


def test_a_branch_finds_only_its_own(boats: Any, fruit: Any) -> None:
    assert set(ids(ask(boats, "grep", "."))) <= INSIDE_BOATS
    assert ask(boats, "grep", "Birnen|single") == []
    for level in (0, 1, None):
        assert set(ids(ask(boats, "search", "Birnen single", level=level))) <= INSIDE_BOATS
    assert ask(boats, "search", "Birnen single", level=2) == []
    assert ask(boats, "contains", "Birnen") is False
    assert ask(fruit, "contains", "ketch") is False


def test_an_error_in_a_branch_names_no_document_outside(boats: Any) -> None:
    for verb, args in (("read", ["one.tx", 0, 1]), ("grep", ["e"]), ("search", ["e"])):
        kwargs = {} if verb == "read" else {"doc": "one.tx"}
        assert "one.txt" not in refusal(boats, verb, *args, **kwargs)


@pytest.mark.parametrize("under", [None, BOATS, FRUIT, "L0-00001", ROOT])
@settings(max_examples=60)
@given(data=st.data())
def test_a_view_as_text_is_its_chunks_one_after_another(index: Index, under: str | None, data: Any) -> None:
    view = recorded_verbs(index, under)
    expected = "".join(index.text(n.id) for n in index.leaves(under or ROOT))
    a, b = (data.draw(st.integers(0, len(expected) + 3)) for _ in range(2))
    assert ask(view, "text") == expected
    assert ask(view, "length") == view[0].view.chars == len(expected)
    assert ask(view, "slice", a, b) == expected[a:b]
    touched = ids(view[1][-1]["shown"])
    assert "".join(index.text(n) for n in touched).find(expected[a:b]) >= 0
    part = expected[a:b] + data.draw(st.sampled_from(["", "x"]))
    assert ask(view, "contains", part) is (part in expected)


def test_text_that_spans_two_windows_is_found(whole: Any, fruit: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("index_store.view.WINDOW_BYTES", 3)
    for view, text in ((whole, CORPUS), (fruit, "".join(LEAVES[2:]))):
        for size in (1, 2, 5, 40):
            assert all(ask(view, "contains", text[i : i + size]) for i in range(0, len(text) - size, 7))
        assert not ask(view, "contains", "mizzen-mast")


# -- hostile arguments -------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
known = st.sampled_from([ROOT, BOATS, "L0-00002", "L0-99999", "boats.txt", "größe.md", 0, -1, 5, 10**30])
nasty = st.recursive(
    known | scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
# fmt: off
NAMES = [
    "node", "start", "end", "pattern", "under", "doc", "ignore_case", "limit", "query", "k", "level", "mode",
    "text", "self",
]
# fmt: on


@pytest.mark.parametrize("under", [None, FRUIT])
@pytest.mark.parametrize("verb", [*VERBS, "nothing", "__init__", "serve"])
@settings(max_examples=50)
@given(args=st.lists(nasty, max_size=4), kwargs=st.dictionaries(st.sampled_from(NAMES), nasty, max_size=3))
@example(args=[{"doc": ["boats.txt"], "start": {}, "end": []}], kwargs={})
@example(args=[{"doc": "boats.txt", "start": True, "end": 2.0}], kwargs={})
@example(args=["boats.txt", -1, 10**30], kwargs={})
@example(args=["\\"], kwargs={})
@example(args=["(" * 3000], kwargs={})
@example(args=["\ud800"], kwargs={})
@example(args=[r"\C"], kwargs={})
@example(args=["a", 10**300], kwargs={"mode": ["dense"]})
@example(args=[[[[[[[]]]]]]], kwargs={"self": 1})
def test_any_json_is_answered_or_refused_and_recorded(
    index: Index, under: str | None, verb: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    context, visits = recorded_verbs(index, under)
    try:
        json.dumps(context.serve(verb, args, kwargs), allow_nan=False)
    except Refused as e:
        assert 0 < len(str(e)) < 1_500
        assert visits[-1]["error"] == str(e)
    assert len(visits) == 1


def test_a_refusal_says_what_was_found_and_what_to_do(whole: Any) -> None:
    assert refusal(whole, "peek") == "context.peek(node): missing a required argument: 'node'"
    assert "did you mean L0-00001?" in refusal(whole, "peek", "L0-0001")
    assert "did you mean 'boats.txt'?" in refusal(whole, "read", "boat.txt", 0, 3)
    assert 'context.peek(hit["node"])' in refusal(whole, "peek", {"node": BOATS, "level": 1})
    assert refusal(whole, "leaves", ROOT, 0) == "limit is a whole number of at least 1, found 0"
    assert "characters 0 to 6, asked for 2 to 7" in refusal(whole, "read", "one.txt", 2, 7)
    assert "at most 200,000" in refusal(recorded_huge(), "slice", 0, READ_CHARS + 1)
    assert "no verb 'glob'" in refusal(whole, "glob")


def recorded_huge() -> tuple[Verbs, list[Visit]]:
    class Huge:
        levels = (1,)
        chars = 10**9
        documents = ()

        def __len__(self) -> int:
            return 1

    return recorded_verbs(Huge())  # type: ignore[arg-type]


def test_what_is_refused_is_recorded_with_its_arguments(whole: Any) -> None:
    refusal(whole, "peek", "L9-00000", wrong=1)
    assert whole[1][-1]["arguments"] == {"0": "L9-00000", "wrong": 1}
    refusal(whole, "peek", node="L9-00000")
    assert whole[1][-1]["arguments"] == {"node": "L9-00000"}


# -- passages for models -----------------------------------------------------------------------------------


def test_a_passage_is_a_node_an_entry_or_a_span(whole: Any) -> None:
    context = whole[0]

    def block(place: Json) -> Block:
        (passage,) = context.passages([place])
        assert passage.chars == len(context.block(passage).text)
        return context.block(passage)  # type: ignore[no-any-return]

    assert block("L0-00000") == Block("L0-00000", LEAVES[0], "boats")
    hit = ask(whole, "search", "ketch", mode="lexical")[0]
    assert block(hit) == Block(hit["node"], hit["text"], "boats")
    assert block({"doc": "one.txt", "start": 0, "end": 3}) == Block("one.txt 0-3", "sin", "one")
    wrong: list[Json] = [None, [], 3, {}, {"node": {}}, {"doc": "one.txt", "start": "0", "end": 3}]
    for place in wrong:
        with pytest.raises(Refused):
            context.passages([place])


def test_a_branch_of_one_chunk_is_a_view_too(index: Index) -> None:
    view = recorded_verbs(index, "L0-00004")
    assert ask(view, "text") == LEAVES[4]
    assert ids(ask(view, "leaves", "L0-00004")) == ["L0-00004"]
    assert ask(view, "overview")["children"] == []


def test_the_toy_is_what_these_tests_believe(tmp_path: Path) -> None:
    assert toy_draft().levels == [6, 2, 1]
    assert [toy_index(tmp_path / "t").text(f"L0-0000{i}") for i in range(6)] == LEAVES


# -- what holds of every verb, a new one too ---------------------------------------------------------------

#: A value for each argument that some verb cannot do without.
EXAMPLES: dict[str, Json] = {
    "query": "apples",
    "pattern": "a",
    "start": 0,
    "end": 5,
    "text": "a",
    "question": "apples",
    "rows": '{"split": "line"}',
    "stop": 2,
}
#: Verbs that stand behind `len`, slices, `in` and `str`, and the one behind looking at rows, and so are not told of by
#: name; and `packs`, in whose place models are told of `rows`, and which older code still calls.
BEHIND_TEXT = {"length", "slice", "contains", "text", "read_rows", "packs"}
SYSTEM = (HOME / "rlm/prompts/system.md").read_text(encoding="utf-8")


def nodes_in(value: Json) -> Iterator[str]:
    """Every node that a result names."""
    if isinstance(value, dict):
        yield from (v for k, v in value.items() if k == "node" and isinstance(v, str))
        yield from nodes if isinstance(nodes := value.get("nodes"), list) else ()
        yield from (node for v in value.values() for node in nodes_in(v))
    elif isinstance(value, list):
        yield from (node for v in value for node in nodes_in(v))


def calls_of(name: str, nodes: list[str]) -> list[dict[str, Json]]:
    """Arguments for a verb: what it cannot do without, and each of the nodes where it takes one."""
    needed = [
        p
        for p, given in inspect.signature(getattr(Verbs, name)).parameters.items()
        if given.default is given.empty
    ]
    assert set(needed) <= {"self", "node", *EXAMPLES}, (
        f"give an example of each argument of {name} in EXAMPLES"
    )
    others = {p: EXAMPLES[p] for p in needed if p in EXAMPLES}
    return [others | {"node": node} for node in nodes] if "node" in needed else [others]


@pytest.mark.parametrize("under", [None, BOATS, FRUIT])
@pytest.mark.parametrize("name", VERBS)
def test_a_verb_shows_only_what_is_in_view_and_records_all_that_it_shows(
    index: Index, name: str, under: str | None
) -> None:
    verbs, visits = recorded_verbs(index, under)
    view = [index.id_of(number) for number in range(len(index)) if number in verbs.view]
    answered = 0
    for arguments in calls_of(name, view):
        try:
            result = verbs.serve(name, [], arguments)
        except Refused:  # as some nodes may be: of one kind of node, or at the top of the view
            continue
        answered += 1
        shown, not_taken = ({str(e["node"]) for e in visits[-1][kind]} for kind in ("shown", "not_taken"))
        assert {*nodes_in(result), *shown, *not_taken} <= set(view), "it shows what lies outside the branch"
        assert set(nodes_in(result)) <= shown, "it shows what it does not record"
        assert not shown & not_taken, "what was shown did not pass by"
    assert answered


@pytest.mark.parametrize("name", VERBS)
def test_models_are_told_of_every_verb(name: str) -> None:
    told = re.search(rf"\.{name}\(", SYSTEM)
    assert bool(told) != (name in BEHIND_TEXT), f"give context.{name} a line in rlm/prompts/system.md"


@pytest.mark.parametrize(
    "name", [name for name in VERBS if "node" in inspect.signature(getattr(Verbs, name)).parameters]
)
def test_what_a_verb_enters_is_what_the_audit_takes_for_entered(whole: Any, name: str) -> None:
    for arguments in calls_of(name, [BOATS]):
        ask(whole, name, **arguments)
    assert bool(passed(whole)) != (name in LOCATING), (
        f"let context.{name} call _enter, or add it to LOCATING of rlm/audit/routing.py"
    )


# -- where the evidence lies, and what to read -------------------------------------------------------------


def test_branches_are_told_with_their_shares_and_recorded_with_what_was_passed_by(index: Index) -> None:
    context = recorded_verbs(index)
    branches = ask(context, "branches", "apples")
    assert [sorted(branch) for branch in branches] == [
        ["best", "chunks", "label", "level", "node", "share"]
    ] * 2
    assert sum(branch["share"] for branch in branches) >= 1
    told = {entry["node"]: entry.get("score") for entry in context[1][-1]["shown"]}
    assert all(told[branch["node"]] == branch["share"] for branch in branches)
    assert all(best["node"] in told for branch in branches for best in branch["best"])


def test_what_is_gathered_is_the_text_of_its_nodes_within_the_characters(index: Index) -> None:
    context = recorded_verbs(index)
    for chars in (30, 100, 6_000):
        pieces = ask(context, "gather", "apples and pears", chars)
        assert all(piece["text"] == "".join(map(index.text, piece["nodes"])) for piece in pieces)
        assert sum(len(piece["text"]) for piece in pieces) <= chars
    spans = [piece for piece in pieces if "doc" in piece]
    assert spans and all(
        ask(context, "read", piece["doc"], piece["start"], piece["end"]) == piece["text"] for piece in spans
    )


def test_an_empty_question_has_no_evidence(index: Index) -> None:
    for name in ("branches", "gather"):
        with pytest.raises(Refused, match="the question is empty"):
            ask(recorded_verbs(index), name, "  ")


def test_characters_that_hold_no_passage_are_refused(index: Index) -> None:
    with pytest.raises(Refused, match="no passage fits into 2 characters; give more"):
        ask(recorded_verbs(index), "gather", "apples", 2)


# -- what a bound leaves out -------------------------------------------------------------------------------

#: How much of one text an entry shows: each says how long the text is, or that it is a beginning.
BEGINNINGS = {"HEAD_CHARS", "SNIPPET_CHARS"}
#: Bounds of what is recorded beside a result, and of time.
BESIDE = {"SIBLINGS", "COUNT_S", "FEW_ROWS"}
#: Bounds of a page, after which the next one is asked for; and of what is held, which is made again.
PAGES = {"PAGE_ROWS", "PAGE_CHARS", "HELD_ROWS"}


def bounds() -> list[str]:
    """Every bound of the verbs, a new one too."""
    named = {name for name, value in vars(verbs_module).items() if name.isupper() and isinstance(value, int)}
    return sorted(named - BEGINNINGS - BESIDE - PAGES)


def told_or_refused(
    index: Index, name: str, arguments: dict[str, Json], patch: pytest.MonkeyPatch, most: int
) -> bool:
    """Whether a verb under small bounds gives all that it gives under large ones, tells what it cut, or refuses."""
    verbs, visits = recorded_verbs(index)

    def answered() -> Json:
        try:
            return verbs.serve(name, [], arguments)
        except Refused:
            return None

    for bound in bounds():
        patch.setattr(verbs_module, bound, 10**6)
    whole = answered()
    for bound in bounds():
        patch.setattr(verbs_module, bound, most)
    result = answered()
    return bool(visits[-1]["error"] or visits[-1]["cut"]) or result == whole


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("name", VERBS)
def test_no_bound_takes_anything_away_without_a_word(
    index: Index, name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = inspect.signature(getattr(Verbs, name)).parameters.values()
    counts = [p.name for p in parameters if isinstance(p.default, int) and not isinstance(p.default, bool)]
    counts.remove("level") if name == "search" else None
    everything = [index.id_of(number) for number in range(len(index))]
    for arguments in calls_of(name, everything):
        for asked in (None, 3, 10**5):  # the default, a number that some bounds allow, one that none does
            given = arguments | (dict.fromkeys(counts, asked) if asked else {})
            assert told_or_refused(index, name, given, monkeypatch, most), (name, given)


def test_grep_says_of_how_many_it_gives_the_first(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    context = recorded_verbs(index)
    letters = CORPUS.count("e")
    assert len(ask(context, "grep", "e", limit=3)) == 3
    assert context[1][-1]["cut"] == f"context.grep gave the first 3 of {letters} matches"
    assert len(ask(context, "grep", "e", limit=10**9)) == letters
    assert context[1][-1]["cut"] == ""
    monkeypatch.setattr(verbs_module, "COUNTED", 5)
    ask(context, "grep", "e", limit=3)
    assert context[1][-1]["cut"] == "context.grep gave the first 3 of 5 or more matches"


def test_a_number_above_what_a_verb_takes_is_told(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    context = recorded_verbs(index)
    monkeypatch.setattr(verbs_module, "MAX_HITS", 2)
    assert len(ask(context, "search", "boats", k=500)) == 2
    told = context[1][-1]["cut"]
    assert told == "context.search gave what fits k=2, the most that it takes, and not 500"


# -- what is in here ---------------------------------------------------------------------------------------


def test_areas_have_their_share_and_are_recorded_with_it(index: Index) -> None:
    context = recorded_verbs(index)
    areas = ask(context, "areas")
    assert [sorted(area) for area in areas] == [["label", "level", "node", "share", "text"]] * 2
    assert sum(area["share"] for area in areas) == pytest.approx(1, abs=1e-3)
    assert [entry["score"] for entry in context[1][-1]["shown"]] == [area["share"] for area in areas]
    for chars in (40, 90, 300):
        assert sum(len(area["text"]) for area in ask(context, "areas", chars=chars)) <= chars
    assert "no area fits into 3 characters" in refusal(context, "areas", chars=3)


def test_areas_of_a_branch_are_inside_it(whole: Any, fruit: Any) -> None:
    assert ids(ask(whole, "areas", under=FRUIT)) == [FRUIT]
    assert ids(ask(fruit, "areas")) == [FRUIT]
    assert "is outside the branch" in refusal(fruit, "areas", under=BOATS)


def test_a_question_gives_its_areas_more_room(whole: Any) -> None:
    def order(question: str) -> list[str]:
        return ids(ask(whole, "areas", question))

    assert order("") == [BOATS, FRUIT]
    assert order("single Birnen wiegen mehr") == [FRUIT, BOATS]
