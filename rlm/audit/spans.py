"""A finished run as OpenTelemetry spans, and these as requests of OTLP over HTTP, in its JSON form.

A run is a span `invoke_agent`; below it stand `chat` for each model call and `execute_tool` for each cell, below a cell
`retrieval` for each visit, and the calls that its code made: a child run is an `invoke_agent` of its own, a map or a
reduction an `execute_tool` with the calls of its packs below it. Times are those of the trace. A span's id follows from
the head of the trace and the number of the event that it begins with, so the same run is the same spans whenever it is
sent.

After the OTLP specification 1.9 (JSON: ids in hex, 64-bit numbers as strings) and rlm.audit.genai.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from index_store.types import Json
from rlm.audit import genai
from rlm.audit.conversation import asks
from rlm.audit.events import RecordedEvent
from rlm.audit.maps import agreement_in_words
from rlm.errors import RlmError
from rlm.gateway.types import Message

#: A request is no larger than this, unless one span is.
BATCH_BYTES = 4 * 1024 * 1024
#: Characters of all contents of one span, of which the last are sent.
CONTENT_CHARS = 400_000
INTERNAL, CLIENT = 1, 3
_IDENTIFIER = re.compile(r"[\w.:-]{1,60}", re.ASCII)
_LAST_NS = 2**63 - 1

Value: TypeAlias = str | bool | int | float | list[str]


@dataclass(slots=True)
class Span:
    """One span. `seq`: the event that it begins with; `start_s` and `end_s`: seconds since the run began, the end None
    while it has none; `error`: the kind of error it ended in, '' for none."""

    name: str
    kind: int
    seq: int
    parent: "Span | None"
    start_s: float
    end_s: float | None = None
    error: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)

    def end(self, time_s: float, error: str = "") -> None:
        """It ended then."""
        self.end_s, self.error = max(time_s, self.start_s), error


def spans_of(events: Sequence[RecordedEvent], head: str, *, contents: bool = False) -> list[Span]:
    """The spans of a run, in the order in which they begin. `contents`: questions, prompts, replies, code and results
    are in them too."""
    story = _Story(head, {event["seq"]: seen for event, seen in asks(events)} if contents else {})
    for event in events:
        story.hear(event)
    spans = story.ended(events[-1]["time_s"] if events else 0.0)
    if not contents:
        for span in spans:
            span.attributes = {k: v for k, v in span.attributes.items() if k not in genai.CONTENTS}
    return spans


class _Story:
    """Hears the events of a run in order and keeps which spans are open."""

    def __init__(self, head: str, seen: Mapping[int, list[Message]]) -> None:
        self.head, self.seen = head, seen
        self.spans: list[Span] = []
        self.agents: dict[str, Span] = {}  # by conversation
        self.cells: dict[str, Span] = {}
        self.callers: dict[str, Span] = {}  # of a conversation that is no agent: the cell that asks
        self.tables: dict[
            str, Span
        ] = {}  # a map or a reduction under way, by the conversation that waits for it
        self.calls: dict[tuple[str, str], Span] = {}
        self.index = ""

    def hear(self, event: RecordedEvent) -> None:
        handler = getattr(self, f"_{event['kind']}", None)
        if handler is not None:
            handler(event)

    def ended(self, time_s: float) -> list[Span]:
        """All spans; those that are still open end with the run."""
        for span in self.spans:
            if span.end_s is None:
                span.end(time_s)
                span.attributes[genai.UNFINISHED] = True
        return self.spans

    def _begin(
        self, event: RecordedEvent, operation: str, what: str, parent: Span | None, kind: int = INTERNAL
    ) -> Span:
        who = event["conversation"]
        name = f"{operation} {what}".strip()
        span = Span(name, kind, event["seq"], parent, event["time_s"])
        span.attributes |= {
            genai.OPERATION: operation,
            genai.CONVERSATION: f"{self.head[:32]}/{who}",
            genai.HEAD: self.head,
            genai.SEQ: event["seq"],
            genai.WHO: who,
        }
        self.spans.append(span)
        return span

    def _place(self, who: str) -> Span | None:
        """What a conversation's steps stand below: its open cell, its agent, or the cell that asked for it."""
        return self.cells.get(who) or self.agents.get(who) or self.callers.get(who) or self.agents.get("0")

    def _run_opened(self, event: RecordedEvent) -> None:
        agent = self.agents["0"] = self._begin(event, genai.INVOKE_AGENT, genai.AGENT, None)
        self.index = event["index"]["digest"]
        provider, model = provider_of(str(event["models"].get("root", "")))
        agent.attributes |= {
            genai.AGENT_NAME: genai.AGENT,
            genai.AGENT_VERSION: event["code_version"],
            genai.PROVIDER: provider,
            genai.REQUEST_MODEL: model,
            genai.DATA_SOURCE: self.index,
            genai.ROUTE: event["route"],
            genai.INPUT_MESSAGES: _messages([{"role": "user", "content": event["question"]}]),
        }

    def _run_closed(self, event: RecordedEvent) -> None:
        agent, usage = self.agents["0"], event["usage"]
        agent.attributes |= {genai.STOP: event["stop"], genai.CALLS: usage["calls"], **_tokens(usage)}
        agent.end(event["time_s"], "error" if event.get("error") else "")

    def _answered(self, event: RecordedEvent) -> None:
        agent = self.agents.get(event["conversation"])
        if agent:
            agent.attributes[genai.OUTPUT_MESSAGES] = _messages(
                [{"role": "assistant", "content": event["content"]}], event["stop"]
            )
            if event["conversation"] != "0":
                agent.attributes[genai.STOP] = event["stop"]

    def _model_asked(self, event: RecordedEvent) -> None:
        provider, model = provider_of(event["model"])
        who = event["conversation"]
        span = self._begin(event, genai.CHAT, model, self._place(who), CLIENT)
        span.attributes |= {
            genai.PROVIDER: provider,
            genai.REQUEST_MODEL: model,
            genai.MAX_TOKENS: event["max_tokens"],
            genai.INPUT_MESSAGES: _messages(self.seen.get(event["seq"], [])),
        }
        temperature = event.get("parameters", event).get("temperature")
        if (
            isinstance(temperature, int | float)
            and not isinstance(temperature, bool)
            and abs(temperature) < 1e6
        ):
            span.attributes[genai.TEMPERATURE] = float(temperature)
        self.calls[who, str(event["call"])] = span

    def _model_answered(self, event: RecordedEvent) -> None:
        span = self.calls.pop((event["conversation"], str(event["call"])), None)
        if span is None:
            return
        served = event.get("served", {})
        reply: list[Message] = [{"role": "assistant", "content": event["text"]}]
        span.attributes |= {
            genai.FINISH_REASONS: [event["finish_reason"]],
            genai.OUTPUT_MESSAGES: _messages(reply, event["finish_reason"]),
            **_tokens(event["usage"]),
        }
        for name, key in (
            (genai.RESPONSE_MODEL, "model"),
            (genai.CACHED_TOKENS, "cached_tokens"),
            (genai.REASONING_TOKENS, "reasoning_tokens"),
        ):
            if served.get(key):
                span.attributes[name] = served[key]
        span.end(event["time_s"])

    def _model_failed(self, event: RecordedEvent) -> None:
        span = self.calls.pop((event["conversation"], str(event["call"])), None)
        if span is None:
            return
        status = event["attempts"][-1]["status"] if event.get("attempts") else ""
        kind = "budget" if "refused" in event else status if _IDENTIFIER.fullmatch(status) else genai.OTHER
        span.attributes |= _tokens(event["usage"]) if "usage" in event else {}
        span.end(event["time_s"], kind)

    def _code_scanned(self, event: RecordedEvent) -> None:
        who = event["conversation"]
        self.cells.pop(who, None)
        span = self.cells[who] = self._begin(event, genai.EXECUTE_TOOL, genai.TOOL, self._place(who))
        span.attributes |= {
            genai.TOOL_NAME: genai.TOOL,
            genai.TOOL_TYPE: "extension",
            genai.TOOL_CALL: f"{who}/{event['cell']}",
            genai.TOOL_ARGUMENTS: _json({"code": _cut(event["code"])}),
        }

    def _code_run(self, event: RecordedEvent) -> None:
        span = self.cells.pop(event["conversation"], None)
        self.tables.pop(event["conversation"], None)
        if span is None:
            return
        result = {"stdout": _cut(event["stdout"]), "error": _cut(event["error"])}
        span.attributes[genai.TOOL_RESULT] = _json(result)
        span.end(event["time_s"], "" if event["status"] == "ok" else event["status"])

    def _visited(self, event: RecordedEvent) -> None:
        span = self._begin(event, genai.RETRIEVAL, "", self._place(event["conversation"]))
        shown, arguments = event["shown"], event["arguments"]
        began = span.parent.start_s if span.parent else 0.0
        span.start_s = max(event["time_s"] - event.get("seconds", 0.0), began)
        query = next((str(arguments[k]) for k in ("query", "question", "pattern") if k in arguments), "")
        span.attributes |= {
            genai.DATA_SOURCE: self.index,
            genai.VERB: event["verb"],
            genai.SHOWN: len(shown),
            genai.PASSED: len(event["not_taken"]),
            genai.QUERY: _cut(query),
            genai.DOCUMENTS: _json([_document(node) for node in shown[:1_000]]),
        }
        span.end(event["time_s"], "refused" if event.get("error") else "")

    def _table(self, event: RecordedEvent, verb: str, asked: Mapping[str, Json]) -> Span:
        who = event["conversation"]
        span = self.tables[who] = self._begin(event, genai.EXECUTE_TOOL, verb, self._place(who))
        span.attributes |= {
            genai.TOOL_NAME: verb,
            genai.TOOL_TYPE: "extension",
            genai.TOOL_ARGUMENTS: _cut(_json(asked)),
        }
        return span

    def _tabled(self, event: RecordedEvent, told: Mapping[str, Value]) -> None:
        span = self.tables.pop(event["conversation"], None)
        if span is not None:
            span.attributes |= {genai.CALLS: event["calls"], **_tokens(event["usage"]), **told}
            span.end(event["time_s"])

    def _map_called(self, event: RecordedEvent) -> None:
        asked = {name: event[name] for name in ("question", "columns")}
        self._table(event, event["verb"], asked).attributes[genai.ROWS] = event["rows"]

    def _map_returned(self, event: RecordedEvent) -> None:
        names = {"failed": genai.FAILED, "asked_again": genai.ASKED_AGAIN, "stored": genai.STORED}
        agreed = [one["share"] for one in event["agreement"].values() if agreement_in_words(one)]
        least: dict[str, Value] = {genai.AGREEMENT: float(min(agreed))} if agreed else {}
        self._tabled(event, {**{key: event[name] for name, key in names.items()}, **least})

    def _reduce_called(self, event: RecordedEvent) -> None:
        span = self._table(event, "llm_reduce", {"question": event["question"]})
        span.attributes[genai.PASSAGES] = event["passages"]

    def _reduce_returned(self, event: RecordedEvent) -> None:
        self._tabled(event, {genai.NOTES: event["notes"], genai.CITED: event["cited"]})

    def _child_called(self, event: RecordedEvent) -> None:
        cell = self.tables.get(event["conversation"]) or self._place(event["conversation"])
        for child, prompt in zip(event["children"], event["prompts"], strict=False):
            if not event["verb"].startswith("rlm_query"):
                if cell:
                    self.callers[child] = cell
                continue
            agent = self._begin(event, genai.INVOKE_AGENT, genai.AGENT, cell)
            agent.attributes |= {
                genai.AGENT_NAME: genai.AGENT,
                genai.WHO: child,
                genai.CONVERSATION: f"{self.head[:32]}/{child}",
                genai.DATA_SOURCE: self.index,
                genai.INPUT_MESSAGES: _messages([{"role": "user", "content": prompt}]),
            }
            if provider := self.agents["0"].attributes.get(genai.PROVIDER):
                agent.attributes[genai.PROVIDER] = provider
            self.agents[child] = agent

    def _child_returned(self, event: RecordedEvent) -> None:
        for child, result in zip(event["children"], event["results"], strict=False):
            agent = self.agents.get(child) if child != "0" else None
            if agent is not None and agent.end_s is None:
                agent.end(event["time_s"], "" if result["ok"] else "error")


def provider_of(model: str) -> tuple[str, str]:
    """(the provider, its name of the model) by litellm's name of a model."""
    first, slash, rest = model.partition("/")
    if not slash:
        return genai.BARE.get(re.split(r"[-.]", model)[0], genai.OTHER), model
    return genai.PROVIDERS.get(first, first), rest


def _tokens(usage: Mapping[str, Any]) -> dict[str, Value]:
    return {
        genai.INPUT_TOKENS: usage["prompt_tokens"],
        genai.OUTPUT_TOKENS: usage["completion_tokens"],
        genai.USD: float(usage["usd"]),
    }


def _document(node: Mapping[str, Any]) -> dict[str, Json]:
    score = node.get("score")
    return {"id": node["node"] or node.get("doc") or ""} | ({} if score is None else {"score": score})


def _messages(messages: Iterable[Message], finish: str | None = None) -> str:
    """Messages as the conventions have them; of many the last, as far as they fit."""
    left, kept = CONTENT_CHARS, list[Json]()
    for message in reversed(list(messages)):
        if left <= 0:
            break
        text = _cut(message["content"], left)
        left -= len(text)
        part: dict[str, Json] = {"role": message["role"], "parts": [{"type": "text", "content": text}]}
        kept.append(part | ({} if finish is None else {"finish_reason": finish}))
    return _json(kept[::-1])


def _cut(text: str, most: int = CONTENT_CHARS // 4) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- as OTLP -----------------------------------------------------------------------------------------------


def requests(spans: Sequence[Span], head: str, started: str, version: str) -> Iterator[bytes]:
    """The bodies of the requests that send these spans. `started`: when the run began, in ISO form; `version`: of what
    ran. Raises RlmError where a time cannot be told in nanoseconds since 1970."""
    begin = _nanoseconds(started)
    about = _attributes({"service.name": "raptor-rlm", "service.version": version})
    scope = {
        "name": "raptor-rlm",
        "version": version,
        "attributes": _attributes({"gen_ai.conventions": genai.CONVENTIONS}),
    }
    batch, size = list[bytes](), 0
    resource, told = _dumped({"attributes": about}), _dumped(scope)
    opening = f'{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"scope":{told},'
    for span in spans:
        one = _dumped(_as_json(span, head, begin)).encode()
        if batch and size + len(one) > BATCH_BYTES:
            yield _whole(opening, batch)
            batch, size = [], 0
        batch.append(one)
        size += len(one)
    if batch:
        yield _whole(opening, batch)


def _whole(opening: str, batch: Sequence[bytes]) -> bytes:
    return opening.encode() + b'"spans":[' + b",".join(batch) + b"]}]}]}"


def _as_json(span: Span, head: str, begin: int) -> dict[str, Json]:
    times = [begin + round(s * 1e9) for s in (span.start_s, span.end_s or span.start_s)]
    if not 0 <= times[0] <= times[1] <= _LAST_NS:
        raise RlmError("the trace has times that no clock can tell; it cannot be sent as spans")
    failed: dict[str, Json] = {"code": 2, "message": span.error} if span.error else {}
    attributes = span.attributes | ({genai.ERROR_TYPE: span.error} if span.error else {})
    return {
        "traceId": trace_id(head),
        "spanId": span_id(head, span),
        **({"parentSpanId": span_id(head, span.parent)} if span.parent else {}),
        "name": _sound(span.name),
        "kind": span.kind,
        "startTimeUnixNano": str(times[0]),
        "endTimeUnixNano": str(times[1]),
        "attributes": _attributes(attributes),
        "status": failed,
    }


def trace_id(head: str) -> str:
    """The id of a run's trace: 32 hex digits."""
    return hashlib.sha256(f"raptor-rlm trace {head}".encode()).hexdigest()[:32]


def span_id(head: str, span: Span) -> str:
    """The id of a span: 16 hex digits."""
    who = span.attributes[genai.WHO]
    return hashlib.sha256(f"raptor-rlm span {head} {span.seq} {who}".encode()).hexdigest()[:16]


def _attributes(values: Mapping[str, Value]) -> list[Json]:
    return [
        {"key": name, "value": _value(value)} for name, value in values.items() if value not in ("", None)
    ]


def _value(value: Value) -> dict[str, Json]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else 0.0}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": _sound(value)}


def _sound(text: str) -> str:
    """The text without what UTF-8 cannot say: half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _dumped(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _nanoseconds(started: str) -> int:
    try:
        moment = datetime.fromisoformat(started)
        if moment.tzinfo is None:
            raise ValueError
        return round(moment.timestamp() * 1e6) * 1000
    except (ValueError, OverflowError) as error:
        raise RlmError("the trace does not say when it began, so it cannot be sent as spans") from error
