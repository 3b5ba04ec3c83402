"""The API of OpenAI, asked by OpenAI's own client."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from rlm.audit import read, verify
from tests.helpers.model_server import Step, error
from tests.helpers.served import Served, raw_request, wait_until
from tests.rlm.serving.conftest import LIGHTS, SCRIPTED, Model, cell, light

TWO = cell('FINAL("It has two masts.", citations=["two masts"])')


def said(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_indexes_are_listed_as_models(served: Served) -> None:
    with served.openai() as client:
        assert [model.id for model in client.models.list()] == ["lights", "toy"]
        assert client.models.retrieve("toy").object == "model"


def test_an_answer_comes_with_its_usage_its_citations_and_its_run(served: Served, model: Model) -> None:
    model.reply = TWO
    with served.openai() as client:
        reply = client.chat.completions.create(model=SCRIPTED, messages=said("How many masts has a ketch?"))
    (choice,) = reply.choices
    assert choice.finish_reason == "stop"
    assert choice.message.content == "It has two masts.\n\nSources:\n[1] boats.txt: “two masts”"
    assert choice.message.annotations
    cited = choice.message.annotations[0].url_citation
    assert choice.message.content[cited.start_index : cited.end_index] == "[1] boats.txt: “two masts”"
    assert cited.url == f"{served.url}/#/toy/text?doc=boats.txt&start=14&end=23"
    assert reply.usage
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    extra: Any = (reply.model_extra or {})["raptor"]
    assert extra["stop"] == "answer"
    assert extra["citations"][0]["doc"] == "boats.txt"
    assert verify(served.server.settings.runs / extra["run"]).ok


def test_a_stream_is_the_same_answer_in_pieces(served: Served, model: Model) -> None:
    model.reply = TWO
    with served.openai() as client:
        whole = client.chat.completions.create(model=SCRIPTED, messages=said("How many masts?"))
        chunks = list(
            client.chat.completions.create(
                model=SCRIPTED,
                messages=said("How many masts?"),
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert len([delta for delta in deltas if delta.content]) > 1
    annotations: Any = next(delta for delta in deltas if "annotations" in (delta.model_extra or {}))
    assert annotations.annotations[0]["file_citation"]["doc"] == "boats.txt"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    last = chunks[-1]
    assert last.choices == []
    assert last.usage
    assert last.usage.total_tokens > 0
    assert (last.model_extra or {})["raptor"]["stop"] == "answer"


def test_without_usage_the_last_chunk_still_names_the_run(served: Served, model: Model) -> None:
    model.reply = TWO
    with served.openai() as client:
        chunks = list(client.chat.completions.create(model=SCRIPTED, messages=said("Masts?"), stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert (chunks[-1].model_extra or {})["raptor"]["run"]
    assert all(chunk.usage is None for chunk in chunks)


def test_what_happens_is_told_as_comments_until_there_is_an_answer(served: Served, model: Model) -> None:
    model.reply = cell("context.search('ketch', k=2)\nFINAL('Two.')")
    body = {"model": SCRIPTED, "messages": said("Masts?"), "stream": True}
    with served.client() as client:
        text = client.post("/v1/chat/completions", json=body).text
    comments = [line for line in text.splitlines() if line.startswith(":")]
    assert ": run_opened" in comments
    assert ": visited" in comments
    assert text.index('"role":"assistant"') < text.index(": run_opened") < text.index('"content":"Two."')
    assert text.endswith("data: [DONE]\n\n")


def test_earlier_turns_are_quoted_before_the_question_and_other_system_messages_passed_over(
    served: Served, model: Model
) -> None:
    model.reply, model.asked = TWO, []
    with served.openai() as client:
        client.chat.completions.create(
            model=SCRIPTED,
            messages=[
                {"role": "system", "content": "You are a pirate."},
                {"role": "user", "content": "What is a ketch?"},
                {"role": "assistant", "content": "A boat.\n\nSources:\n[1] boats.txt: “x”"},
                {"role": "user", "content": [{"type": "text", "text": "How many masts has it?"}]},
            ],
        )
    told = json.dumps(model.asked[0], ensure_ascii=False)
    assert "> user: What is a ketch?\\n> assistant: A boat.\\n\\nThe question: How many masts has it?" in told
    assert "pirate" not in told


def test_the_second_turn_of_a_chat_with_an_offline_model_is_asked_as_it_stands(served: Served) -> None:
    asked = f"How tall is the lighthouse of {light(7)}?"
    with served.openai() as client:
        reply = client.chat.completions.create(
            model="lights",
            messages=[
                {"role": "user", "content": f"How tall is the lighthouse of {light(3)}?"},
                {"role": "assistant", "content": "103 feet; and what else would you know?"},
                {"role": "user", "content": asked},
            ],
        )
    run = served.server.settings.runs / (reply.model_extra or {})["raptor"]["run"]
    assert read(run)[0][0]["question"] == asked
    content = reply.choices[0].message.content or ""
    assert f"The lighthouse of {light(7)} is 107 feet tall." in content
    assert "conversation" not in content


@pytest.mark.parametrize("streams", [False, True])
def test_a_client_that_goes_away_cancels_its_run(served: Served, model: Model, *, streams: bool) -> None:
    let_go = threading.Event()
    model.reply, model.asked = Step(TWO, until=let_go), []
    body = {"model": SCRIPTED, "messages": said("Who waits?"), "stream": streams}
    try:
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(raw_request("/v1/chat/completions", body))
            wait_until(lambda: model.asked, "the model is not asked")
        wait_until(lambda: served.server.jobs.running == 0, "the run goes on")
        with served.client() as asking:
            newest = asking.get("/api/runs").json()["runs"][0]
    finally:
        let_go.set()
    assert newest["question"] == "Who waits?"
    assert newest["stop"] == "cancelled"
    assert read(served.server.settings.runs / newest["folder"])[0][-1]["stop"] == "cancelled"


def test_a_stream_that_its_client_closes_is_cancelled(served: Served, model: Model) -> None:
    let_go = threading.Event()
    model.reply = Step(TWO, until=let_go)
    try:
        with served.openai() as client:
            stream = client.chat.completions.create(model=SCRIPTED, messages=said("Who?"), stream=True)
            next(iter(stream))
            stream.close()
        wait_until(lambda: served.server.jobs.running == 0, "the run goes on")
    finally:
        let_go.set()


def test_errors_are_worded_as_the_client_knows_them(served: Served, model: Model) -> None:
    with served.openai() as client:
        with pytest.raises(
            openai.NotFoundError, match="there is no index 'nothing'; there is lights, toy"
        ) as e:
            client.chat.completions.create(model="nothing", messages=said("?"))
        assert e.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="the last message is no question"):
            client.chat.completions.create(model="toy", messages=[{"role": "assistant", "content": "I"}])
        with pytest.raises(openai.BadRequestError, match="n is 2"):
            client.chat.completions.create(model="toy", messages=said("?"), n=2)
        image: Any = [{"type": "image_url", "image_url": {"url": "data:"}}]
        with pytest.raises(openai.BadRequestError, match="more than text"):
            client.chat.completions.create(model="toy", messages=[{"role": "user", "content": image}])
        with pytest.raises(openai.BadRequestError, match="unknown model"):
            client.chat.completions.create(model="toy/no-such-model", messages=said("?"))
        model.reply = error(401, "scripted: no such key")
        with pytest.raises(openai.BadRequestError, match="scripted: no such key") as refused:
            client.chat.completions.create(model=SCRIPTED, messages=said("?"))
        assert str(served.server.settings.runs) not in str(refused.value)
        with pytest.raises(openai.APIError, match="scripted: no such key"):
            list(client.chat.completions.create(model=SCRIPTED, messages=said("?"), stream=True))


def test_a_limit_that_leaves_no_answer_is_no_error(served: Served, model: Model) -> None:
    model.reply = "I write no code."
    with served.openai() as client:
        reply = client.chat.completions.create(model=SCRIPTED, messages=said("?"))
    assert (reply.model_extra or {})["raptor"]["stop"] == "no code"
    assert reply.choices[0].message.content


@pytest.mark.slow
def test_no_answer_is_mixed_up_among_forty_clients(served: Served) -> None:
    def ask(number: int) -> str | None:
        with served.openai() as client:
            question = f"How tall is the lighthouse of {light(number)}?"
            reply = client.chat.completions.create(model="lights", messages=said(question))
        return reply.choices[0].message.content

    with ThreadPoolExecutor(LIGHTS) as pool:
        answers = list(pool.map(ask, range(LIGHTS)))
    for number, answer in enumerate(answers):
        assert (
            f"The lighthouse of {light(number)} is {100 + number} feet tall."
            in (answer or "").splitlines()[0]
        )
