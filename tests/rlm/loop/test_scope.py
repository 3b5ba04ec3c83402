"""What a question is about binds: no verb, passage, child or citation of its run reaches anything else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from index_store.errors import BadQuery, NoSuchNode
from index_store.index import Index
from index_store.types import Json, Scope, Span
from index_store.view import View
from rlm import Models, ask
from rlm.answers.citations import resolve
from rlm.audit import read, verify
from rlm.audit.timeline import show
from rlm.loop.checks import Refused
from rlm.loop.verbs import VERBS, Verbs
from tests.helpers.model_server import MODEL, Body, ModelServer
from tests.helpers.rlm_toy import ask_verb
from tests.helpers.toy import TEXTS
from tests.rlm.loop.test_verbs import BEHIND_TEXT, calls_of

BOATS, FRUIT, ROOT = "L1-00000", "L1-00001", "L2-00000"
ON_BOATS = Scope(doc="boats.txt")  # chunks 0 to 2; of the summaries BOATS is about nothing else
OTHERS = TEXTS["größe.md"] + TEXTS["one.txt"] + "Äpfel und Birnen. Boats; fruit."


def scoped(index: Index, under: str | None = None, scope: Scope = ON_BOATS) -> Verbs:
    return Verbs(index, lambda visit: None, under, scope)


def ids(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["node"] for entry in entries]


def test_a_view_of_one_document_has_its_chunks_and_the_way_to_them(index: Index) -> None:
    view = View(index, scope=ON_BOATS)
    inside = [index.id_of(number) for number in range(len(index)) if number in view]
    assert inside == ["L0-00000", "L0-00001", "L0-00002", BOATS, FRUIT, ROOT]
    assert [n for n in inside if view.is_text(index.number_of(n))] == inside[:4]
    assert view.text(0, view.chars) == TEXTS["boats.txt"]
    assert (view.size, [index.documents[n].id for n in view.documents]) == (6, ["boats.txt"])
    assert view.spans_of("boats.txt") == [Span("boats.txt", 0, len(TEXTS["boats.txt"]))]
    assert view.spans_of("one.txt") == []


def test_a_branch_of_a_scope_is_what_lies_in_both(index: Index) -> None:
    verbs = scoped(index, FRUIT)
    assert ids(ask_verb(verbs, "leaves", FRUIT)) == ["L0-00002"]
    assert ask_verb(verbs, "text") == index.text("L0-00002")
    assert ask_verb(verbs, "packs") == [["L0-00002"]]
    assert ask_verb(verbs, "grep", "e", limit=200) != []
    assert set(ids(ask_verb(verbs, "grep", "e", limit=200))) == {"L0-00002"}
    assert ids(ask_verb(verbs, "search", "ketch mizzen apples")) == ["L0-00002"]


def test_a_summary_of_more_than_the_question_is_about_is_a_place_and_no_text(index: Index) -> None:
    verbs = scoped(index)
    seen = ask_verb(verbs, "overview")
    assert (seen["summary"], seen["documents"], seen["characters"]) == ("", 1, len(TEXTS["boats.txt"]))
    assert "the way" in seen["root"]["label"]
    assert ids(ask_verb(verbs, "children", FRUIT)) == ["L0-00002"]
    assert ask_verb(verbs, "peek", FRUIT) | {"label": ""} == {
        "node": FRUIT, "level": 1, "label": "", "text": "", "chars": 0, "children": 1
    }  # fmt: skip
    with pytest.raises(Refused, match="also sums up texts outside what the question is about"):
        ask_verb(verbs, "read", FRUIT)
    with pytest.raises(Refused, match="also sums up"):
        verbs.passages([FRUIT])
    assert ask_verb(verbs, "read", BOATS) == "A ketch and a yawl have a mizzen."


def test_what_lies_outside_the_scope_is_refused_by_name(index: Index) -> None:
    verbs = scoped(index)
    calls: list[tuple[str, list[Json]]] = [
        ("read", ["L0-00004"]),
        ("read", ["one.txt", 0, 3]),
        ("grep", ["e", None, "one.txt"]),
        ("search", ["e", 5, 0, None, "one.txt"]),
        ("leaves", ["L0-00005"]),
        ("packs", [100, ["L0-00005"]]),
    ]
    for verb, arguments in calls:
        with pytest.raises(Refused, match=r"(outside|no document .* in) what the question is about"):
            verbs.serve(verb, arguments, {})
    assert verbs.serve("contains", ["single"], {}) is False
    assert verbs.serve("contains", ["mizzen"], {}) is True


@pytest.mark.parametrize("under", [None, FRUIT])
@pytest.mark.parametrize("name", sorted(VERBS.keys() - BEHIND_TEXT))
def test_no_verb_gives_a_word_from_outside(index: Index, name: str, under: str | None) -> None:
    verbs = scoped(index, under)
    words = {word for word in OTHERS.split() if len(word) > 3 and word not in TEXTS["boats.txt"]}
    for arguments in calls_of(name, [index.id_of(n) for n in range(len(index))]):
        for query in ("Birnen wiegen mehr", "single", "mizzen", "."):
            given = {k: query if k in ("query", "pattern", "question") else v for k, v in arguments.items()}
            for more in ({"level": None}, {"level": 1}, {}) if name == "search" else ({},):
                try:
                    told = json.dumps(verbs.serve(name, [], given | more), ensure_ascii=False)
                except Refused as e:
                    told = str(e)
                told = told.replace(query, "")
                assert not [word for word in words if word in told], (given, told)


@settings(max_examples=40)
@given(
    doc=st.sampled_from([None, *TEXTS]),
    under=st.sampled_from([None, BOATS, FRUIT, "L0-00002"]),
    data=st.data(),
)
def test_the_text_of_a_scoped_view_is_its_chunks(
    index: Index, doc: str, under: str | None, data: Any
) -> None:
    leaves = [n for n in index.leaves(under or ROOT) if doc is None or (n.span and n.span.doc == doc)]
    if not leaves:
        with pytest.raises(BadQuery, match="there is no text in the scope under"):
            View(index, under, Scope(doc=doc))
        return
    view, expected = View(index, under, Scope(doc=doc)), "".join(index.text(n.id) for n in leaves)
    a, b = (data.draw(st.integers(0, len(expected) + 3)) for _ in range(2))
    assert view.chars == len(expected)
    assert view.text(a, min(b, view.chars)) == expected[a:b]
    assert [index.id_of(n) for n in view.chunks] == [n.id for n in leaves]


def test_a_scope_without_text_is_refused(index: Index) -> None:
    with pytest.raises(NoSuchNode, match=r"did you mean 'boats.txt'"):
        View(index, scope=Scope(doc="boat.txt"))
    with pytest.raises(BadQuery, match="there is no text in the scope"):
        View(index, scope=Scope(section="Masts"))
    with pytest.raises(BadQuery, match="no document has the metadata field 'year'"):
        View(index, scope=Scope(where={"year": "1"}))


@pytest.mark.parametrize(
    "offered",
    [
        "single",
        {"quote": "single", "doc": "one.txt"},
        {"quote": "single", "node": "L0-00005"},
        {"node": "L0-00005"},
        "L0-00005",
        {"doc": "one.txt", "start": 0, "end": 6},
        {"quote": "Birnen wiegen viel mehr", "doc": "größe.md"},
    ],
)
def test_a_citation_from_outside_the_scope_is_unsupported(index: Index, offered: Json) -> None:
    assert [c.supported for c in resolve(View(index), "", [offered])] != ["unsupported"]
    assert [c.supported for c in resolve(View(index, scope=ON_BOATS), "", [offered])] == ["unsupported"]


def test_a_quote_that_also_stands_elsewhere_is_cited_from_the_scope(index: Index) -> None:
    (citation,) = resolve(
        View(index, scope=Scope(doc="größe.md")), "", [{"quote": "wiegen", "doc": "boats.txt"}]
    )
    assert (citation.doc, citation.supported) == ("größe.md", "verbatim")


@pytest.mark.parametrize("route", ["direct", "retrieve", "rlm"])
def test_a_run_by_any_route_sees_and_cites_nothing_else(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: Any
) -> None:
    cell = (
        "print(context.overview()); print(context.search('Birnen single', level=None)); print(str(context))\n"
        "answer['content'] = rlm_query('Birnen?')['answer'] or 'none'\n"
        "answer['citations'] = ['single', 'The mizzen is shorter.']; answer['ready'] = True"
    )

    def reply(body: Body) -> str:
        sent = json.dumps(body, ensure_ascii=False)
        assert "Birnen wiegen" not in sent and "150 g" not in sent
        if route == "rlm":
            return f"```python\n{cell if 'Question: Any' in sent else 'FINAL(str(context))'}\n```"
        return 'It is.\n\n[L0-00005] "single"\n[L0-00001] "The mizzen is shorter."'

    with ModelServer(reply) as server:
        server.use(monkeypatch)
        answer = ask(index, "Any?", route=route, models=Models(MODEL, MODEL), scope=ON_BOATS, runs=tmp_path)
    assert [c.supported for c in answer.citations] == ["unsupported", "verbatim"]
    assert "Birnen wiegen" not in answer.content
    opened = read(answer.trace)[0][0]
    assert opened["scope"] == {"doc": "boats.txt"}
    assert "about      doc=boats.txt" in show(read(answer.trace)[0])
    assert verify(answer.trace).ok
