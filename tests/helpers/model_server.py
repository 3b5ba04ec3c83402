"""A scripted model server on loopback, for tests that want real HTTP and chosen faults.

It speaks OpenAI's protocol, and Anthropic's at /v1/messages. At /v1/embeddings each text has the vector of the tiny
embedder, in no order, unless a step is an error or has a `raw` body.

    with ModelServer(["first reply", error(429, retry_after="1"), "after the retry"]) as server:
        server.use(monkeypatch)          # OPENAI_BASE_URL, ANTHROPIC_API_BASE and keys
        ...                              # model "openai/test-model", or any of "anthropic/..."
        assert server.calls == 3

A script is a list of steps, one per call (the last one repeats), or a function of the request body. A function is
called once at a time: if it waited, all other calls would. What waits is its reply, a `Step(until=...)`.
A step is the text of a reply or a `Step`; the functions below make the usual faults.
"""

import base64
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

import pytest

from tests.helpers import tiny_embedder

MODEL = "openai/test-model"
_PATIENCE_S = 120.0  # a busy machine is slow; only a failing test waits so long

Body = dict[str, Any]
Usage = dict[str, int]


@dataclass(frozen=True, slots=True)
class Step:
    """One scripted answer. `usage` None counts words; `{}` leaves usage out. `raw` replaces the JSON body.

    Where `status` is an error, `text` is its message and `code` OpenAI's word for it.
    """

    text: str = ""
    usage: Usage | None = None
    finish_reason: str = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    code: str | None = None
    tool: tuple[str, str] | None = None  # a name, and arguments as JSON
    fault: Literal["reset", "half", "drip"] | None = None
    delay_s: float = 0.0
    until: threading.Event | None = None  # answered when it is set; refused when it is not within a while


Script = Sequence[str | Step] | Callable[[Body], str | Step]


def error(status: int, message: str = "scripted error", code: str | None = None, **headers: str) -> Step:
    """A refusal; header names are written with underscores: `retry_after="1"`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step(message, status=status, headers=named, code=code)


def rate_limited(retry_after: str | None = None) -> Step:
    return error(
        429,
        "Rate limit reached",
        "rate_limit_exceeded",
        **({"retry_after": retry_after} if retry_after else {}),
    )


def too_long(model: str = MODEL) -> Step:
    messages = {
        "openai": "This model's maximum context length is 100 tokens. However, your messages resulted in 200 tokens.",
        "anthropic": "prompt is too long: 200 tokens > 100 maximum",
    }
    return error(400, messages[model.partition("/")[0]], "context_length_exceeded")


def reset() -> Step:
    """The connection is reset before any reply."""
    return Step(fault="reset")


def half_a_body() -> Step:
    """Good headers, half the JSON, then the connection closes."""
    return Step("a reply that never ends", fault="half")


def dripping() -> Step:
    """Good headers, then a byte now and then, for as long as the client reads."""
    return Step(fault="drip")


def slow(text: str, delay_s: float) -> Step:
    return Step(text, delay_s=delay_s)


class _Listening(ThreadingHTTPServer):
    """A server that many connect to at once: of more than the usual five that may wait, the kernel resets some."""

    daemon_threads = True
    request_queue_size = 512


class ModelServer:
    """A context manager; `calls` counts and `requests` holds the bodies of what arrived, in order.

    `connections` counts those that were opened, `most_at_once` the calls that were under way together.
    """

    def __init__(self, script: Script) -> None:
        self.requests: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.connections = 0
        self._at_once = 0
        self._script = script
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Listening(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def calls(self) -> int:
        return len(self.requests)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point the clients of this process at the server."""
        monkeypatch.setenv("OPENAI_BASE_URL", self.base_url)
        monkeypatch.delenv("OPENAI_API_BASE", raising=False)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("ANTHROPIC_API_BASE", self.base_url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(length := int(handler.headers["content-length"]))
        if len(raw) < length:
            raise ConnectionResetError("the client was killed while it asked")
        body = json.loads(raw)
        with self._lock:
            self.requests.append(body)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            step = self._step(len(self.requests) - 1, body)
        if step.delay_s:
            self._closing.wait(step.delay_s)
        if step.until is not None and not step.until.wait(_PATIENCE_S):
            step.until.set()  # nor let the others wait in vain
            step = error(400, "the test never let this call be answered")
        with self._lock:
            self._at_once -= 1
        if step.fault == "drip":
            _drip(handler, self._closing)
        else:
            _send(handler, step, body)

    def _step(self, at: int, body: Body) -> Step:
        step = self._script(body) if callable(self._script) else self._script[min(at, len(self._script) - 1)]
        return Step(step) if isinstance(step, str) else step


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            server.connections += 1
            super().setup()

        def do_POST(self) -> None:
            try:
                server.serve(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client gave up, as some tests have it do

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _send(handler: BaseHTTPRequestHandler, step: Step, body: Body) -> None:
    if step.fault == "reset":
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.close_connection = True
        handler.connection.close()
        return
    payload = step.raw if step.raw is not None else json.dumps(_payload(step, body, handler.path)).encode()
    handler.send_response(step.status)
    for name, value in {"content-type": "application/json", **step.headers}.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(payload)))
    handler.end_headers()
    if step.fault == "half":
        payload, handler.close_connection = payload[: len(payload) // 2], True
    handler.wfile.write(payload)


def _drip(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("content-length", "100000")
    handler.end_headers()
    while not closing.wait(0.02):
        handler.wfile.write(b" ")


def _payload(step: Step, body: Body, path: str) -> Body:
    if path.endswith("/embeddings") and step.status == 200:
        return _embeddings(step, body)
    anthropic = path.endswith("/messages")
    if step.status != 200:
        return _anthropic_error(step) if anthropic else _openai_error(step)
    return _message(step, body) if anthropic else _completion(step, body)


def _openai_error(step: Step) -> Body:
    return {"error": {"message": step.text, "type": "scripted", "param": None, "code": step.code}}


def _anthropic_error(step: Step) -> Body:
    types = {401: "authentication_error", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}
    return {
        "type": "error",
        "error": {"type": types.get(step.status, "invalid_request_error"), "message": step.text},
    }


def _completion(step: Step, body: Body) -> Body:
    message: Body = {"role": "assistant", "content": step.text}
    if step.tool:
        function = {"name": step.tool[0], "arguments": step.tool[1]}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    reply: Body = {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": step.finish_reason}],
    }
    usage = _word_usage(step, body) if step.usage is None else step.usage
    return {**reply, "usage": usage} if usage else reply


def _embeddings(step: Step, body: Body) -> Body:
    """A vector for each text, the same each time."""
    rows = tiny_embedder.encode(body["input"])
    in_base64 = body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": place,
            "embedding": base64.b64encode(row.tobytes()).decode() if in_base64 else row.tolist(),
        }
        for place, row in enumerate(rows)
    ]
    words = sum(len(text.split()) for text in body["input"])
    usage = {"prompt_tokens": words, "total_tokens": words} if step.usage is None else step.usage
    return {"object": "list", "model": body["model"], "data": data[::-1], "usage": usage}


def _message(step: Step, body: Body) -> Body:
    content: list[Body] = [{"type": "text", "text": step.text}]
    if step.tool:
        tool = {"type": "tool_use", "id": "toolu_1", "name": step.tool[0], "input": json.loads(step.tool[1])}
        content = [tool]
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    reply: Body = {
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": reasons.get(step.finish_reason, step.finish_reason),
    }
    usage = _word_usage(step, body) if step.usage is None else step.usage
    if not usage:
        return reply
    return {
        **reply,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            **{name: count for name, count in usage.items() if name.startswith("cache_")},
        },
    }


def _word_usage(step: Step, body: Body) -> Usage:
    prompt = sum(len(text_of(message["content"]).split()) for message in body["messages"])
    completion = len(step.text.split())
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def text_of(content: Any) -> str:
    """The text of a message; Anthropic's come in blocks."""
    return content if isinstance(content, str) else "".join(block["text"] for block in content)
