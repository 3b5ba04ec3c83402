"""A conversation that nears its window loses its oldest turns, and says so."""

from hypothesis import given, strategies as st

from rlm import prompts
from rlm.gateway.types import Message
from rlm.loop.history import FULL_SHARE, TARGET_SHARE, put_away


def words(message: Message) -> int:
    return len(message["content"].split())


def conversation(turns: int, size: int = 10) -> tuple[list[Message], list[str]]:
    messages: list[Message] = [
        {"role": "system", "content": "you are"},
        {"role": "user", "content": "Question: how many?"},
    ]
    for n in range(1, turns + 1):
        messages.append({"role": "assistant", "content": f"reply {n} " + "x " * (size - 2)})
        messages.append({"role": "user", "content": f"told {n} " + "y " * (size - 2)})
    return messages, [f"ok: cell {n}" for n in range(1, turns + 1)]


def test_a_conversation_that_fits_is_left_alone() -> None:
    messages, lines = conversation(4)
    assert put_away(messages, lines, 10_000, words) is None


def test_the_oldest_turns_go_and_the_opening_says_each_in_a_line() -> None:
    messages, lines = conversation(10, 40)
    kept = put_away(messages, lines, 800, words)
    assert kept is not None
    assert [m["role"] for m in kept[:3]] == ["system", "user", "assistant"]
    assert kept[2:] == messages[-len(kept[2:]) :]
    gone = 10 - len(kept[2:]) // 2
    assert kept[1]["content"].startswith("Question: how many?\n")
    assert [f"ok: cell {n}" in kept[1]["content"] for n in range(1, 11)] == [n <= gone for n in range(1, 11)]
    assert "history(n)" in kept[1]["content"]


def test_it_can_be_done_again_without_saying_things_twice() -> None:
    messages, lines = conversation(10)
    kept = put_away(messages, lines, 200, words)
    assert kept is not None
    more, _ = conversation(20)
    again = put_away([*kept, *more[22:]], [f"ok: cell {n}" for n in range(1, 21)], 200, words)
    assert again is not None
    assert again[1]["content"].count("the first turns are not shown") == 1
    assert again[1]["content"].count("ok: cell 1\n") <= 1


def test_two_turns_stay_even_where_they_are_too_large() -> None:
    messages, lines = conversation(3, size=1_000)
    kept = put_away(messages, lines, 100, words)
    assert kept is not None
    assert kept[2:] == messages[-4:]
    assert put_away(kept, lines, 100, words) is None


@given(st.lists(st.integers(2, 300), max_size=30), st.integers(50, 5_000))
def test_whatever_the_sizes_what_is_left_is_shorter_and_ends_the_same(sizes: list[int], window: int) -> None:
    messages, lines = conversation(0)
    for n, size in enumerate(sizes):
        messages.append({"role": "assistant", "content": f"r{n} " + "x " * size})
        messages.append({"role": "user", "content": f"t{n}"})
        lines.append(f"cell {n}")
    kept = put_away(messages, lines, window, words)
    total = sum(map(words, messages))
    if kept is None:
        assert total <= FULL_SHARE * window or len(sizes) <= 2 or sum(map(words, messages[-4:])) > 0
        return
    assert len(kept) < len(messages)
    assert len(kept) % 2 == 0
    assert kept[-4:] == messages[-4:]
    assert (
        len(kept) == 6 or sum(map(words, kept[2:])) + sum(map(words, messages[:2])) <= TARGET_SHARE * window
    )


def test_a_document_that_speaks_of_turns_put_away_does_not_cut_the_question_short() -> None:
    said = prompts.PUT_AWAY.partition("{")[0]
    opening: Message = {"role": "user", "content": f"Question: what says {said}lines? And more."}
    system: Message = {"role": "system", "content": "be brief"}
    turns = conversation(8)[0][2:]
    first = put_away([system, opening, *turns], ["one"] * 8, 150, words)
    assert first is not None and first[1]["content"].startswith(opening["content"] + said)
    again = [*first, *turns]
    second = put_away(again, ["one"] * 16, 150, words)
    assert second is not None and second[1]["content"].startswith(opening["content"] + said)
    assert second[1]["content"].count(said) == 2
