"""How much of each prompt the one before it had begun with, which a provider may read from its cache."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from index_store.index import Index
from rlm import ask, prompts
from rlm.audit.conversation import asks
from rlm.audit.costs import Reuse, reuse
from rlm.audit.page import render
from rlm.audit.timeline import show
from rlm.gateway.blocks import Block
from rlm.gateway.offline.reader import read as read_offline
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message
from rlm.memo import memo_path
from tests.helpers.model_server import MODEL
from tests.helpers.recorded import DONE, LOOK, MODELS, QUESTION, Play, Recording, events_of

NODES = "[['L0-00000'], ['L0-00001'], ['L0-00002']]"
LONG = "Name every boat that this passage tells of, with the number of its masts, one a line, in the passage's words. "


@pytest.fixture
def recording(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    return Recording(index, tmp_path / "runs", monkeypatch)


def recorded(recording: Recording, *cells: str) -> list[dict[str, Any]]:
    with recording.served(Play([*cells, DONE])):
        answer = ask(recording.index, QUESTION, route="rlm", models=MODELS, runs=recording.runs, memo=False)
    return events_of(answer.trace)


def sent(events: list[dict[str, Any]], *names: str) -> list[list[Message]]:
    """The messages of each call of the conversations that begin so, in order of their conversations."""
    found = [(event["conversation"], messages) for event, messages in asks(events)]
    return [messages for name, messages in found if name in names]


# -- the figure --------------------------------------------------------------------------------------------


def asked(call: int, name: str, *contents: str, of: int | None = None) -> dict[str, Any]:
    messages = [{"role": "user", "content": text} for text in contents]
    total = len(contents) if of is None else of
    return {"kind": "model_asked", "seq": call, "call": call, "conversation": name, "messages": messages} | {
        "conversation_messages": total
    }


def answered(call: int, name: str, cached: bool = False, tokens: int = 0) -> dict[str, Any]:
    served = {"served": {"model": "", "system_fingerprint": "", "cached_tokens": tokens}} if tokens else {}
    return {
        "kind": "model_answered",
        "seq": 100 + call,
        "call": call,
        "conversation": name,
        "cached": cached,
    } | served


def called(*children: str) -> dict[str, Any]:
    return {
        "kind": "child_called",
        "seq": 50,
        "conversation": "0",
        "verb": "llm_query_batched",
        "children": [*children],
    }


def test_the_share_is_of_the_prompts_that_come_after_another() -> None:
    assert reuse([asked(1, "0", "abcd")]) == Reuse()
    again = [asked(1, "0", "abcd"), asked(2, "0", "efgh", "ij", of=3)]
    assert reuse(again) == Reuse(root=4 / 10)
    changed = [asked(1, "0", "abcd", "xy"), asked(2, "0", "abce", "xy")]
    assert reuse(changed) == Reuse(root=3 / 6)


def test_a_batch_is_read_in_its_order_and_other_conversations_are_in_none() -> None:
    first, second = asked(1, "0.1", "abcd"), asked(2, "0.2", "abxy")
    batch = [
        called("0.1", "0.2"),
        first,
        second,
        called("0.3"),
        asked(3, "0.3", "abxy"),
        asked(4, "0.9.1", "abxy"),
    ]
    assert reuse(batch) == Reuse(batches=2 / 4)


def test_what_came_from_the_store_was_sent_to_nobody() -> None:
    events = [
        called("0.1", "0.2", "0.3"),
        *(asked(n, f"0.{n}", text) for n, text in ((1, "abcd"), (2, "zzzz"), (3, "abcx"))),
        answered(1, "0.1", tokens=7),
        answered(2, "0.2", cached=True, tokens=9),
        answered(3, "0.3", tokens=5),
    ]
    assert reuse(events) == Reuse(1, 12, None, 3 / 4)
    assert reuse(events).in_words() == "1 reply from the store, 12 tokens cached by the provider"
    assert reuse(events).shares_in_words() == "batches 0.75"


@given(
    texts=st.lists(st.lists(st.text("ab\u2028", max_size=4), min_size=1, max_size=3), min_size=2, max_size=5)
)
@example(texts=[["", ""], ["", ""]])
@example(texts=[["ab"], ["ab"]])
def test_two_prompts_begin_alike_as_far_as_a_plain_comparison_says(texts: list[list[str]]) -> None:
    same, size = 0, 0
    for before, after in pairwise(texts):
        one, other = ([char for text in part for char in [*text, "end"]] for part in (before, after))
        pairs = list(zip(one, other, strict=False))
        alike = next((n for n, pair in enumerate(pairs) if pair[0] != pair[1]), len(pairs))
        same += sum(char != "end" for char in other[:alike])
        size += sum(map(len, after))
    got = reuse([asked(n, "0", *contents) for n, contents in enumerate(texts)]).root
    assert got == (same / size if size else None)


# -- recorded runs -----------------------------------------------------------------------------------------


def test_the_root_of_a_run_repeats_most_of_each_prompt(recording: Recording) -> None:
    events = recorded(recording, LOOK, "print(context.search('mizzen'))", "print(context.read('L0-00002'))")
    share = reuse(events).root
    assert share is not None and share >= 0.7
    print(f"{share:.2f} of a prompt is the beginning of the one before")
    prompts_sent = sent(events, "0")
    before, after = (
        sum(count_tokens(MODEL, p) for p in part) for part in (prompts_sent[:-1], prompts_sent[1:])
    )
    assert abs(share - before / after) < 0.05  # characters stand for tokens
    assert f"Prompts begin as the one before: root {share:.2f}" in show(events)
    assert f"from its cache: root {share:.2f}." in render(events)


@pytest.mark.parametrize(
    ("code", "least"),
    [
        (f"llm_query_batched([{LONG!r}] * 3, nodes={NODES})", 0.7),
        (
            "llm_query_batched(['How many masts?', 'Which is shorter?', 'Who built it?'], nodes=[['L0-00000']] * 3)",
            0.5,
        ),
        (f"llm_query_batched(['a?', 'b?', 'c?'], nodes={NODES})", 0.0),
    ],
    ids=["one question", "one passage", "neither"],
)
def test_the_prompts_of_a_batch_begin_with_what_they_share(
    recording: Recording, code: str, least: float
) -> None:
    events = recorded(recording, f"print({code})")
    share = reuse(events).batches
    assert share is not None and share >= least
    first, *others = sent(events, "0.1", "0.2", "0.3")
    assert all(other[0] == first[0] for other in others)
    users = [messages[1]["content"] for messages in (first, *others)]
    assert all(text.startswith("QUESTION: ") for text in users) == (LONG in code)
    print(f"{share:.2f} of a prompt is the beginning of the one before")


def test_a_single_question_has_its_passages_first(recording: Recording) -> None:
    events = recorded(recording, "print(llm_query('How many?', nodes=['L0-00000']))")
    ((_, asked_of),) = sent(events, "0.1")
    assert asked_of["content"].startswith("<<<DATA ") and asked_of["content"].endswith(
        "\n\nQUESTION: How many?"
    )


@pytest.mark.parametrize("each", [False, True])
def test_the_offline_reader_reads_both_orders(each: bool) -> None:
    block = Block("a.txt 0-40", "A ketch has two masts. Apples are red.\nQUESTION: How red are apples?")
    content = prompts.sub_call("How many masts has a ketch?", [block], each=each)
    reply = read_offline([{"role": "user", "content": content}], 500)
    assert reply.endswith('\n\n[a.txt 0-40] "A ketch has two masts."')


def test_no_store_is_left_beside_the_shared_index(recording: Recording) -> None:
    recorded(recording, "print(llm_query('How many?'))")
    assert not memo_path(recording.index.path).exists()
