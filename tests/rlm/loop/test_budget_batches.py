"""A batch fits what is left, or it is refused whole with what would fit, and costs nothing."""

from pathlib import Path
from typing import Any

import pytest

from rlm.asking.asking import Answer, ask
from rlm.audit import read
from rlm.limits import Limits, Models
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.toy import publish_toy

DONE = 'answer["content"] = "done"\nanswer["ready"] = True'


def refused(call: str) -> str:
    return f"try: {call}\nexcept RuntimeError as error: print(error)"


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run one cell under limits: the answer, the events of its trace, and how often the server was called."""
    publish_toy(tmp_path / "toy.index")

    def cell(code: str, **limits: Any) -> tuple[Answer, list[dict[str, Any]], int]:
        with ModelServer([f"```python\n{code}\n{DONE}\n```", "a reply"]) as server:
            server.use(monkeypatch)
            answer = ask(
                tmp_path / "toy.index",
                "why",
                models=Models(MODEL, MODEL),
                limits=Limits(**limits),
                route="rlm",
                runs=tmp_path / "runs",
            )
            return answer, read(answer.trace)[0], server.calls

    return cell


def printed(events: list[dict[str, Any]]) -> str:
    return "".join(event["stdout"] for event in events if event["kind"] == "code_run")


def test_a_batch_above_the_cap_on_calls_is_refused_whole_and_one_that_fits_is_made(play: Any) -> None:
    answer, events, calls = play(
        refused("llm_query_batched(['a'] * 7)") + "\nprint(llm_query_batched(['a'] * 2))", calls=6
    )
    assert (
        "these 7 calls may need up to 7 calls, more than the 4 calls left of the cap of 6 calls (1 call spent, "
        "1 call reserved by calls under way); the first 4 of them fit"
    ) in printed(events)
    assert "['a reply', 'a reply']" in printed(events)
    assert (answer.content, answer.usage.calls, calls) == ("done", 3, 3)
    (budget,) = [event for event in events if event["kind"] == "budget"]
    assert (budget["left"]["calls"], budget["reserved"]["calls"]) == (4, 1)
    assert [event["verb"] for event in events if event["kind"] == "child_called"] == ["llm_query_batched"]


def test_a_batch_above_the_cap_on_tokens_is_refused_by_its_worst_case(play: Any) -> None:
    answer, events, calls = play(refused("llm_query_batched(['a'] * 20)"), tokens=10_000, reply_tokens=1_000)
    assert "these 20 calls may need up to 2" in printed(events)
    assert "left of the cap of 10,000 tokens" in printed(events)
    assert (answer.content, calls) == ("done", 1)


def test_children_of_whom_not_each_could_make_a_call_are_refused_together(play: Any) -> None:
    answer, events, calls = play(refused("rlm_query_batched(['a', 'b', 'c'])"), calls=4)
    assert "these 3 calls may need up to 3 calls, more than the 2 calls left" in printed(events)
    assert (answer.content, answer.usage.calls, calls) == ("done", 1, 1)
    assert not [event for event in events if event["kind"] == "child_called"]
