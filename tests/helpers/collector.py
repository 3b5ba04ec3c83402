"""An endpoint of OTLP over HTTP that keeps what it is sent, and holds each span to the specification."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Collector:
    """`replies`: (status, headers, body) of the first requests; after them 200 and `{}`. `spans`: those it took."""

    replies: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.requests.append((path, headers, body))
        status, more, reply = self.replies.pop(0) if self.replies else (200, {}, b"{}")
        if status == 200:
            self.spans += [checked(span) for span in spans_in(body)]
        return status, more, reply

    def by_name(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"].partition(" ")[0] == name]


def spans_in(body: bytes) -> Iterator[dict[str, Any]]:
    for resource in json.loads(body)["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def checked(span: dict[str, Any]) -> dict[str, Any]:
    """The span, its attributes as a dict of plain values. Raises AssertionError where it is none of OTLP."""
    assert re.fullmatch(r"[0-9a-f]{32}", span["traceId"]) and re.fullmatch(r"[0-9a-f]{16}", span["spanId"])
    assert set(span["traceId"]) != {"0"} and span["name"] and span["kind"] in (1, 3)
    start, end = span["startTimeUnixNano"], span["endTimeUnixNano"]
    assert isinstance(start, str) and isinstance(end, str) and 0 < int(start) <= int(end) < 2**64
    names = [one["key"] for one in span["attributes"]]
    assert len(set(names)) == len(names)
    assert span["status"].get("code", 0) in (0, 2)
    return span | {"attributes": {one["key"]: plain(one["value"]) for one in span["attributes"]}}


def plain(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "intValue":
        assert isinstance(content, str) and -(2**63) <= int(content) < 2**63
        return int(content)
    if kind == "arrayValue":
        return [plain(item) for item in content["values"]]
    kinds = {"stringValue": str, "boolValue": bool, "doubleValue": (int, float)}
    assert isinstance(content, kinds[kind])  # type: ignore[arg-type]
    if kind == "stringValue":
        content.encode()  # no half of a surrogate pair
    return content


@contextmanager
def collecting(*replies: tuple[int, dict[str, str], bytes]) -> Iterator[Collector]:
    collector = Collector(list(replies))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, more, reply = collector.take(self.path, dict(self.headers), body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(reply)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
