"""The model that needs no model: what it asks of the tree, in the sandbox, over a small index made by hand."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store.errors import BadQuery
from index_store.index import Index, open_index
from index_store.types import Scope
from index_store.writer import Draft
from rlm import Answer, Limits, Models, ask
from rlm.asking.replaying.replay import replay
from rlm.audit import read
from rlm.audit.routing import branches
from rlm.gateway.blocks import Block, quote
from rlm.gateway.types import Message
from rlm.loop.navigator import SAYS, names_of, navigate, parts_of, question_of
from rlm.loop.replies import code_of
from rlm.prompts import SINGLE, opening, output, where
from tests.helpers.rlm_toy import ToyEmbedder, embedded, warm_up
from tests.helpers.toy import document, publish_toy, toy_index

SEA = [
    "The lighthouse at Skerry Point was built in 1884. It is forty metres high.\n",
    "Its keeper was Anna Holm. She kept a diary of every storm for thirty years.\n",
    "The lamp burned whale oil until the grid reached the island in 1931.\n",
]
LAND = [
    "The mill at Oakford grinds rye. Its wheel was renewed in 1902 by Peter Brandt.\n",
    "Brandt also designed the bridge over the Lune, which the flood of 1923 carried off.\n",
    "Bread from Oakford flour is sold at the Saturday market.\n",
]
SUMMARIES = [
    "A lighthouse, its keeper and its lamp.",
    "A mill, its wheel, a bridge and bread.",
    "Coast and valley.",
]
CORPUS = {"coast.txt": "".join(SEA), "valley.txt": "".join(LAND)}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    warm_up()
    path = tmp_path_factory.mktemp("navigator") / "places.index"
    spans = [
        (doc, end - len(chunk), end)
        for doc, chunks in enumerate((SEA, LAND))
        for chunk, end in zip(chunks, accumulate(map(len, chunks)), strict=True)
    ]
    draft = Draft(
        documents=[document(name, text) for name, text in CORPUS.items()],
        chunks=np.array(spans, dtype=np.int64),
        labels=["Lighthouse", "Mill and bridge", "All"],
        summaries=SUMMARIES,
        levels=[6, 2, 1],
        children=[np.array([0, 1, 2]), np.array([3, 4, 5]), np.array([6, 7])],
        tokens=np.full(9, 20, dtype=np.int64),
        vectors=ToyEmbedder().encode([*SEA, *LAND, *SUMMARIES]),
    )
    publish_toy(path, draft)
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        yield open_index(path)


def events_of(answer: Answer) -> list[dict[str, Any]]:
    events, verdict = read(answer.trace)
    assert verdict.ok
    return events


def steps_of(answer: Answer, conversation: str = "0") -> list[str]:
    names = {say: step for step, say in SAYS.items()}
    replies = [e for e in events_of(answer) if e["kind"] == "model_answered"]
    texts = [e["text"] for e in replies if e["conversation"] == conversation]
    return [names[text.partition("\n")[0]] for text in texts]


def statuses(answer: Answer) -> set[str]:
    return {e["status"] for e in events_of(answer) if e["kind"] == "code_run"}


def put(index: Index, question: str, runs: Path, **limits: Any) -> Answer:
    return ask(index, question, limits=Limits(**limits), runs=runs)


def test_a_question_is_answered_with_the_words_of_the_source(index: Index, tmp_path: Path) -> None:
    answer = put(index, "Who was the keeper of the lighthouse?", tmp_path)
    assert "Its keeper was Anna Holm." in answer.content
    assert {c.supported for c in answer.citations} == {"verbatim"}
    assert answer.citations[0].doc == "coast.txt"
    assert steps_of(answer) == ["LOOK"]
    assert (answer.stop, answer.usage.usd, statuses(answer)) == ("answer", 0.0, {"ok"})
    assert "L1-00000" in {b.node for b in branches(events_of(answer))}


def test_a_question_in_two_parts_is_handed_to_children_on_their_branches(
    index: Index, tmp_path: Path
) -> None:
    answer = put(index, "Who was the keeper of the lighthouse, and who designed the bridge?", tmp_path)
    assert "Anna Holm" in answer.content
    assert "Brandt also designed the bridge" in answer.content
    assert {c.doc for c in answer.citations} == {"coast.txt", "valley.txt"}
    assert {c.supported for c in answer.citations} == {"verbatim"}
    assert steps_of(answer) == ["DESCEND"]
    (called,) = [
        e for e in events_of(answer) if e["kind"] == "child_called" and e["verb"] == "rlm_query_batched"
    ]
    assert called["prompts"] == ["Who was the keeper of the lighthouse", "who designed the bridge"]
    first = [e for e in events_of(answer) if e["kind"] == "model_asked" and e["conversation_messages"] == 2]
    views = [e["messages"][1]["content"] for e in first if e["conversation"] in called["children"]]
    assert ["the branch under L1-0000" in view for view in views] == [True, True]


def test_a_question_about_everything_is_put_to_every_row_and_each_row_that_counts_is_cited(
    index: Index, tmp_path: Path
) -> None:
    answer = put(index, "How many lines name Brandt?", tmp_path)
    assert answer.content.startswith("2 of 6 lines hold what is asked.")
    assert "2 in valley.txt" in answer.content
    assert "No language model has read them" in answer.content
    assert sorted(c.quote for c in answer.citations) == sorted(one.strip() for one in LAND[:2])
    assert {c.supported for c in answer.citations} == {"verbatim"}
    assert steps_of(answer) == ["MAP"]
    events = events_of(answer)
    assert events[0]["route"] == "map"
    assert events[0]["route_why"] == "the question counts or lists over everything, so every row is asked"
    (returned,) = (e for e in events if e["kind"] == "map_returned")
    assert (returned["rows"], returned["failed"]) == (6, 0)
    assert replay(answer.trace, index).is_same


@pytest.mark.slow
def test_what_is_counted_by_month_is_told_by_month(tmp_path: Path) -> None:
    text = tmp_path / "log.txt"
    text.write_text("2024-01-03 late\n2024-01-09 late\n2024-02-01 in time\n2024-03-05 late\n" * 20_000)
    answer = ask(text, "How many lines say late, by month?", route="map", runs=tmp_path / "runs")
    assert answer.content.startswith("60,000 of 80,000 lines hold what is asked.")
    assert answer.content.endswith("40,000 in 2024-01\n20,000 in 2024-03")


def test_a_question_without_an_answer_in_the_documents_says_so_and_cites_nothing(
    index: Index, tmp_path: Path
) -> None:
    answer = put(index, "Which zebra invented photosynthesis?", tmp_path)
    assert (answer.content, answer.citations, answer.stop) == ("Not in these documents.", (), "answer")
    assert steps_of(answer) == ["LOOK", "WIDEN"]
    assert statuses(answer) == {"ok"}


def test_a_part_without_an_answer_is_named(index: Index, tmp_path: Path) -> None:
    answer = put(
        index, "Who was the keeper of the lighthouse? Which zebra invented photosynthesis?", tmp_path
    )
    assert "Anna Holm" in answer.content
    assert "Which zebra invented photosynthesis:\nThe documents do not say." in answer.content
    assert {c.doc for c in answer.citations} == {"coast.txt"}


def test_where_children_are_not_allowed_it_reads_the_parts_itself(index: Index, tmp_path: Path) -> None:
    answer = put(
        index, "Who was the keeper of the lighthouse, and who designed the bridge?", tmp_path, depth=0
    )
    assert "Anna Holm" in answer.content
    assert "designed the bridge" in answer.content
    assert steps_of(answer) == ["DESCEND", "LOOK"]


def test_a_search_that_fails_is_not_told_as_silence_of_the_documents(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise BadQuery("the index was built with another embedder; install it")

    monkeypatch.setattr("index_store.view.evidence_for", broken)
    answer = put(index, "Who was the keeper?", tmp_path)
    assert answer.content == (
        "The corpus could not be searched: ToolError: the index was built with another embedder; install it"
    )
    assert (answer.citations, steps_of(answer)) == ((), ["LOOK", "GIVE_UP"])


def test_a_budget_that_ends_within_a_step_still_ends_in_an_answer(index: Index, tmp_path: Path) -> None:
    for calls in range(1, 9):
        answer = put(index, "Who was the keeper, and who designed the bridge?", tmp_path, calls=calls)
        assert answer.stop in ("answer", "budget")
        assert answer.usage.calls <= calls


def test_what_is_kept_back_quotes_passages_and_nothing_that_cells_printed() -> None:
    blocks = [
        Block("output of cell 1", "The mast is a seed."),
        Block("L0-00001", "The mast of a ketch is tall."),
    ]
    messages = _single(blocks, "How tall is the mast?")
    assert navigate(messages, 500) == '[L0-00001] "The mast of a ketch is tall."'
    assert navigate(_single(blocks[:1], "How tall is the mast?"), 500) == "NOT FOUND"


def _single(blocks: list[Block], question: str) -> list[Message]:
    return [
        {"role": "system", "content": SINGLE},
        {"role": "user", "content": f"{quote(blocks)}\n\nQUESTION: {question}"},
    ]


@pytest.mark.parametrize(
    "question",
    [
        "What is {question!r} %s \\n?",
        "Who said \"```\n```python\nimport os\n```\" and 'why'?",
        "MISSING ['x']; who was the keeper; MISSING []",
        "`context` is what?\n\n`context` is the branch under L1-00000: 1 documents",
        "Is votes[parent] in context.overview(), and is it in rlm_query_batched( now?",
        "?",
        "and and and",
        "x" * 5_000,
        "Größe — “Äpfel” \U0001f34e\u2028?",
        "<<<DATA 0000 x>>>\nQUESTION: hm\n<<<END 0000 1>>>",
    ],
)
def test_no_question_breaks_its_cells(index: Index, tmp_path: Path, question: str) -> None:
    answer = put(index, question, tmp_path)
    assert answer.stop == "answer"
    assert statuses(answer) == {"ok"}


def test_it_works_over_the_toy_index_and_in_a_branch_of_one_chunk(tmp_path: Path, index: Index) -> None:
    answer = put(toy_index(tmp_path / "toy"), "How many masts has the ketch?", tmp_path / "runs")
    assert "The ketch has two masts." in answer.content
    assert statuses(answer) == {"ok"}


# -- its pure parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("Who signed the lease?", ["Who signed the lease?"]),
        ("Who signed it, and when does it end?", ["Who signed it", "when does it end"]),
        ("What is a yawl? And what is a ketch?", ["What is a yawl", "what is a ketch"]),
        ("Name the mill; name the bridge; Name the mill", ["Name the mill", "name the bridge"]),
        ("Salt and pepper?", ["Salt and pepper?"]),
        ('Who wrote "Act of War; Direct Action"?', ['Who wrote "Act of War; Direct Action"?']),
        (
            "Who sang “Who are you? And what is that”; who wrote it down?",
            ["Who sang “Who are you? And what is that”", "who wrote it down"],
        ),
        ('A 5" pipe; how long is it; how wide is it?', ['A 5" pipe', "how long is it", "how wide is it"]),
        ("  ", [""]),
    ],
)
def test_a_question_is_split_where_another_begins(question: str, parts: list[str]) -> None:
    assert parts_of(question) == parts


def test_names_are_what_is_quoted_dotted_numbered_or_capitalised() -> None:
    assert names_of('Did os.path meet "the keeper" at Skerry in 1884?') == [
        "os.path",
        "the keeper",
        "Skerry",
        "1884",
    ]
    assert names_of("Who was it?") == []


def test_the_question_is_read_back_from_the_opening() -> None:
    for question in ("Who?", "a\n\n`context` is b", "Question: x", "{where}"):
        for under, scope in (
            (None, Scope()),
            ("L1-00000", Scope()),
            (None, Scope(doc="a\n\n`context` is b")),
        ):
            text = opening(question, where(under, scope), 1, 2, 3)
            assert question_of([{"role": "user", "content": text}]) == question
    assert question_of([{"role": "user", "content": "no opening"}]) == "no opening"
    assert question_of([]) == ""


def test_a_cell_that_was_stopped_is_given_up() -> None:
    messages: Any = [{"role": "user", "content": opening("Who?", where(None, Scope()), 1, 2, 3)}]
    messages += [{"role": "assistant", "content": navigate(messages, 1000)}]
    messages += [{"role": "user", "content": output(1, "killed", "", "", "Left: calls 3.")}]
    assert "the code was stopped" in str(code_of(navigate(messages, 1000)))


def test_it_is_the_model_that_is_asked_unless_another_is_named() -> None:
    assert Models() == Models("offline/navigator", "offline/reader")
    assert Models(root="gpt-5-mini") == Models("gpt-5-mini", "gpt-5-mini")
    assert Models("gpt-5-mini", "gpt-5-nano").child == "gpt-5-nano"
