"""The API that OpenAI's clients speak, below /v1: indexes are models, and a chat is a question."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from rlm.gateway.offline import PREFIX
from rlm.limits import Models
from rlm.serving.api import models_for
from rlm.serving.jobs import Event, Job
from rlm.serving.problems import Problem, openai_error
from rlm.serving.server import Asked, Server, grant_of, server_of
from rlm.serving.streams import KEEP_ALIVE, EventStream, comment, data
from rlm.serving.turns import (
    annotations_of,
    content_of,
    extra_of,
    finish_of,
    pieces,
    question_of,
    sources_of,
    usage_of,
)

router = APIRouter(prefix="/v1")
_STARTED = int(time.time())


class StreamOptions(BaseModel):
    """What is asked of a stream."""

    include_usage: bool = False


class Chat(BaseModel):
    """A request for a chat completion. What is not named here, such as a temperature, is passed over: it is the
    server that says how its models are called."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(max_length=300)
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=2_000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None


@router.get("/models")
def models(request: Request) -> dict[str, Any]:
    """The indexes that the key may ask, as models."""
    names = server_of(request).shelf.names(grant_of(request))
    return {"object": "list", "data": [_model(name) for name in names]}


@router.get("/models/{model:path}")
def model(request: Request, model: str) -> dict[str, Any]:
    """One of them."""
    server = server_of(request)
    server.shelf.open(_parts(model)[0], grant_of(request))
    return _model(model)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "raptor-rlm"}


def _parts(model: str) -> tuple[str, str | None]:
    """The index and the model that answers, of `index` or `index/model`."""
    index, _, named = model.partition("/")
    return index, named or None


@router.post("/chat/completions", response_model=None)
async def chat(request: Request, body: Chat) -> Response:
    """Answer the last message of a chat; earlier ones say what it is about. A client that goes away cancels the run."""
    if body.n not in (None, 1):
        raise Problem(400, f"n is {body.n}; one answer is given", "bad_request")
    server, grant = server_of(request), grant_of(request)
    index, named = _parts(body.model)
    question, shown = question_of(body.messages)
    asked_models: Models = await asyncio.to_thread(models_for, named, None, server)
    if asked_models.root.startswith(PREFIX):  # rules, which take every word of a question for what is asked
        question = shown
    asked = Asked(index, question, "auto", asked_models, server.settings.limits, shown=shown, is_kept=True)
    job = await server.ask(asked, grant)
    url = f"{request.base_url}#/{quote(index)}/text"
    if body.stream:
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        chunks = _streamed(job, body.model, url, wants_usage=wants_usage)
        return EventStream(chunks, lambda: server.jobs.cancel(job))
    await _ended_or_gone(request, server, job)
    if job.result is None:
        assert job.problem
        raise job.problem
    return JSONResponse(_completion(job, job.result, body.model, url))


async def _ended_or_gone(request: Request, server: Server, job: Job) -> None:
    """Wait for a job; where its client goes away first, cancel it."""
    ended = asyncio.ensure_future(job.ended())
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([ended, gone], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
        gone.cancel()
        server.jobs.cancel(job)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _completion(job: Job, answer: Mapping[str, Any], model: str, url: str) -> dict[str, Any]:
    content = content_of(answer)
    message = {
        "role": "assistant",
        "content": content + sources_of(answer),
        "refusal": None,
        "annotations": annotations_of(answer, content, url),
    }
    choice = {"index": 0, "message": message, "finish_reason": finish_of(answer), "logprobs": None}
    return {
        "id": f"chatcmpl-{job.id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": usage_of(answer),
        "raptor": extra_of(answer),
    }


async def _streamed(job: Job, model: str, url: str, *, wants_usage: bool) -> AsyncIterator[str]:
    """The chunks of an answer: who speaks, at once; what happens, as comments; the text, once there is one."""
    head = {
        "id": f"chatcmpl-{job.id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }

    def chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return data({**head, "choices": [choice], **({"usage": None} if wants_usage else {}), **more})

    yield chunk({"role": "assistant", "content": ""})
    async for _, event in job.follow():
        yield KEEP_ALIVE if event is None else comment(_told(event))
    if job.result is None:
        assert job.problem
        yield data({"error": openai_error(job.problem)})
    else:
        answer = job.result
        content = content_of(answer)
        for piece in pieces(content):
            yield chunk({"content": piece})
        if text := sources_of(answer):
            yield chunk({"content": text, "annotations": annotations_of(answer, content, url)})
        extra = extra_of(answer)
        yield chunk({}, finish_of(answer), **({} if wants_usage else {"raptor": extra}))
        if wants_usage:
            yield data({**head, "choices": [], "usage": usage_of(answer), "raptor": extra})
    yield data("[DONE]")


def _told(event: Event) -> str:
    """An event in a few words."""
    ahead = event.get("ahead")
    if event["kind"] == "waiting":
        return f"waiting, {ahead} ahead"
    node = event.get("node")
    return f"{event['kind']} {node}" if isinstance(node, str) else str(event["kind"])
