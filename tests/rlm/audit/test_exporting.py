"""A run in other tools: spans that a real OTLP endpoint receives, and a text for a ticket."""

import html
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from index_store.index import Index
from rlm.audit import genai, spans, verify
from rlm.audit.markdown import fenced, span
from rlm.audit.reviewing import add, note
from rlm.cli import main
from tests.helpers.audit_sample import QUESTION, Script, sample_run
from tests.helpers.chat_sample import QUESTIONS, chat_sample
from tests.helpers.collector import collecting
from tests.helpers.model_server import MODEL, ModelServer
from tests.rlm.audit.conftest import Command

HOSTILE = (
    "<script>alert(1)</script>\n```\n# [x](javascript:1) @everyone ~~~ `` ` ```` \x1b[31m \ud800 <!-- &amp;"
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return sample_run(tmp_path / "run")


@pytest.fixture
def rlm(command: Command) -> Any:
    def call(*arguments: object) -> tuple[int, str]:
        code, out, err = command("trace", "export", *arguments)
        return code, out + err

    return call


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm.audit.posting.time.sleep", lambda _: None)
    for name in ("http_proxy", "HTTP_PROXY", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.delenv(name, raising=False)


# -- spans -------------------------------------------------------------------------------------------------


def test_a_real_endpoint_receives_the_spans_of_a_run_and_their_parents_fit(rlm: Any, run: Path) -> None:
    with collecting() as collector:
        assert rlm(run, "--otlp", collector.url)[0] == 0
    assert [path for path, _, _ in collector.requests] == ["/v1/traces"]
    assert collector.requests[0][1]["Content-Type"] == "application/json"
    count = Counter(one["name"].partition(" ")[0] for one in collector.spans)
    assert count == {"invoke_agent": 2, "chat": 8, "execute_tool": 5, "retrieval": 8}
    ids = {one["spanId"]: one for one in collector.spans}
    assert len(ids) == len(collector.spans) and len({one["traceId"] for one in collector.spans}) == 1
    (root,) = [one for one in collector.spans if "parentSpanId" not in one]
    assert root["name"] == "invoke_agent rlm"
    for one in collector.spans:
        if one is root:
            continue
        parent = ids[one["parentSpanId"]]
        assert int(parent["startTimeUnixNano"]) <= int(one["startTimeUnixNano"])
        assert int(one["endTimeUnixNano"]) <= int(parent["endTimeUnixNano"])
    below = {name: {ids[one["parentSpanId"]]["name"] for one in collector.by_name(name)} for name in
             ("chat", "execute_tool", "retrieval")}  # fmt: skip
    assert below["retrieval"] == {"execute_tool python"}
    assert below["execute_tool"] == {"invoke_agent rlm"}
    assert below["chat"] == {"invoke_agent rlm", "execute_tool python"}


def test_spans_have_the_names_of_the_conventions_and_where_they_stand_in_the_trace(
    rlm: Any, run: Path
) -> None:
    with collecting() as collector:
        rlm(run, "--otlp", collector.url)
    head = verify(run).head
    assert {one["attributes"]["raptor_rlm.head"] for one in collector.spans} == {head}
    seqs = [one["attributes"]["raptor_rlm.seq"] for one in collector.spans]
    assert seqs == sorted(seqs) and len(set(seqs)) == len(seqs)
    chat = collector.by_name("chat")[0]
    assert chat["name"] == "chat gpt-5" and chat["kind"] == 3
    told = chat["attributes"]
    assert told["gen_ai.operation.name"] == "chat" and told["gen_ai.provider.name"] == "openai"
    assert told["gen_ai.request.model"] == "gpt-5" and told["gen_ai.response.finish_reasons"] == ["stop"]
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (912, 61)
    rejected = collector.by_name("execute_tool")[1]
    assert rejected["status"]["code"] == 2 and rejected["attributes"]["error.type"] == "rejected"
    search = next(
        one for one in collector.by_name("retrieval") if one["attributes"]["raptor_rlm.verb"] == "search"
    )
    assert search["attributes"]["raptor_rlm.shown"] == 3 and search["kind"] == 1


def test_the_same_run_is_the_same_spans_and_another_is_another(rlm: Any, run: Path, tmp_path: Path) -> None:
    with collecting() as collector:
        for _ in range(2):
            rlm(run, "--otlp", f"{collector.url}/v1/traces")
        rlm(sample_run(tmp_path / "other"), "--otlp", collector.url)
    (_, _, one), (_, _, again), (_, _, other) = collector.requests
    assert one == again and other != one
    assert len({span["traceId"] for span in collector.spans}) == 2


def test_contents_leave_only_where_they_are_asked_for(rlm: Any, run: Path) -> None:
    with collecting() as collector:
        rlm(run, "--otlp", collector.url)
        (_, _, bare) = collector.requests[-1]
        rlm(run, "--otlp", collector.url, "--with-contents")
    for words in ("margin", "Harrow", "Stourbeck", "children(", "L0-00002", "NameError"):
        assert words.encode() not in bare
    told = [one["attributes"] for one in collector.spans[23:]]
    assert json.loads(told[0]["gen_ai.input.messages"])[0]["parts"][0]["content"] == QUESTION
    assert json.loads(told[0]["gen_ai.output.messages"])[0]["parts"][0]["content"].startswith(
        "Operating margin"
    )
    chats = [json.loads(t["gen_ai.input.messages"]) for t in told if t["gen_ai.operation.name"] == "chat"]
    assert [len(messages) for messages in chats[:3]] == [2, 4, 6]  # all that the model saw
    documents = [t["gen_ai.retrieval.documents"] for t in told if "gen_ai.retrieval.query.text" in t]
    assert json.loads(documents[0])[0] == {"id": "L0-00002"}
    assert any("NameError" in t.get("gen_ai.tool.call.result", "") for t in told)


def test_hostile_words_are_sent_as_words(rlm: Any, tmp_path: Path) -> None:
    with collecting() as collector:
        run = sample_run(tmp_path / "run", HOSTILE)
        assert rlm(run, "--otlp", collector.url, "--with-contents")[0] == 0
    assert len(collector.spans) == 23


def test_batches_stay_far_below_what_a_collector_takes(
    rlm: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "BATCH_BYTES", 5_000)
    with collecting() as collector:
        assert rlm(run, "--otlp", collector.url)[0] == 0
    assert len(collector.spans) == 23 and len(collector.requests) > 2
    assert all(len(body) < 7_000 for _, _, body in collector.requests)


def test_one_huge_prompt_is_cut_below_the_bound(rlm: Any, tmp_path: Path) -> None:
    script = Script(tmp_path / "run")
    script.open("Why?")
    script.say("user", "Why?" + "\u2028\x01" * 2_000_000)
    script.ask("\x02" * 2_000_000, 1, 1)
    script.close("Thus.", [])
    with collecting() as collector:
        assert rlm(tmp_path / "run", "--otlp", collector.url, "--with-contents")[0] == 0
    assert all(len(body) < 16 * 1024 * 1024 for _, _, body in collector.requests)
    assert len(collector.spans) == 2


def test_of_a_long_history_the_last_messages_are_sent(
    rlm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "CONTENT_CHARS", 1_000)
    script = Script(tmp_path / "run")
    script.open("Why?")
    script.say("user", "Why?")
    for number in range(10):
        script.ask(f"{number}" * 400, 1, 1)
        script.say("user", f"go on {number}")
    script.close("Thus.", [])
    with collecting() as collector:
        assert rlm(tmp_path / "run", "--otlp", collector.url, "--with-contents")[0] == 0
    told = json.loads(collector.by_name("chat")[-1]["attributes"]["gen_ai.input.messages"])
    texts = [one["parts"][0]["content"] for one in told]
    assert texts[-1] == "go on 8" and len(texts) < 8 and sum(map(len, texts)) < 1_100


def test_a_busy_endpoint_is_tried_again_and_one_that_refuses_is_told(rlm: Any, run: Path) -> None:
    busy = (503, {"Retry-After": "1"}, b"later")
    with collecting(busy, (429, {}, b"")) as collector:
        assert rlm(run, "--otlp", collector.url)[0] == 0
        assert len(collector.requests) == 3
    for replies, words in (
        ([(401, {}, b"no key")], "refused what was sent (HTTP 401: no key)"),
        ([(302, {"Location": "http://example.org"}, b"")], "HTTP 302"),
        ([busy] * 3, "was tried 3 times and did not take it (HTTP 503: later)"),
        (
            [(200, {}, b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"full"}}')],
            "refused 3 spans: full",
        ),
        ([(404, {}, b"\x1b[31m\n" * 9_000)], "HTTP 404"),
    ):
        with collecting(*replies) as collector:
            code, said = rlm(run, "--otlp", collector.url)
        assert code == 2 and words in said and len(said.splitlines()) == 1 and "\x1b" not in said, said
    code, said = rlm(run, "--otlp", "http://127.0.0.1:1")
    assert code == 2 and "is it up?" in said


@pytest.mark.parametrize(
    "reply", [b"", b"null", b"[]", b"<html>", b'{"partialSuccess":{}}', b'{"partialSuccess":null}']
)
def test_what_an_endpoint_says_that_took_all_may_be_anything(rlm: Any, run: Path, reply: bytes) -> None:
    with collecting((200, {}, reply)) as collector:
        assert rlm(run, "--otlp", collector.url)[0] == 0


@pytest.mark.parametrize(
    "url", ["localhost:4318", "ftp://x", "http://", "http://a b", "http://x:99999", "-", "http://é"]
)
def test_an_address_that_is_none_is_one_sentence(rlm: Any, run: Path, url: str) -> None:
    code, said = rlm(run, f"--otlp={url}")
    assert code == 2 and "is no address" in said and len(said.splitlines()) == 1


def test_a_password_in_the_address_is_not_said(rlm: Any, run: Path) -> None:
    code, said = rlm(run, "--otlp", "http://jane:secret@127.0.0.1:1/x?key=hidden")
    assert code == 2 and "secret" not in said and "hidden" not in said


def test_headers_come_from_where_exporters_have_them(
    rlm: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, Other=2")
    with collecting() as collector:
        rlm(run, "--otlp", collector.url)
    sent = {name.lower(): value for name, value in collector.requests[0][1].items()}
    assert sent["x-key"] == "a b" and sent["other"] == "2"
    for wrong in ("x", "a b=1", "x-key=a%0d%0ab", "=1"):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", wrong)
        code, said = rlm(run, "--otlp", "http://127.0.0.1:1")
        assert code == 2 and "OTEL_EXPORTER_OTLP_HEADERS" in said


def test_only_a_trace_as_it_was_written_is_sent(rlm: Any, run: Path) -> None:
    with collecting() as collector:
        code, said = rlm(run, "--otlp", collector.url, "--head", "0" * 64)
        assert code == 2 and "nothing was sent" in said
        path = run / "trace.jsonl"
        path.write_bytes(path.read_bytes().replace(b"margin", b"profit", 1))
        code, said = rlm(run, "--otlp", collector.url)
    assert code == 2 and "line 1" in said and not collector.requests


def test_a_run_that_never_ended_is_sent_up_to_its_end(rlm: Any, tmp_path: Path) -> None:
    script = Script(tmp_path / "run")
    script.open("Why?")
    script.say("user", "Why?")
    script.ask("```python\nx\n```", 1, 1)
    script.scan("x")
    script.trace.close()
    with collecting() as collector:
        assert rlm(tmp_path / "run", "--otlp", collector.url)[0] == 0
    unfinished = {one["name"]: one["attributes"].get("raptor_rlm.unfinished") for one in collector.spans}
    assert unfinished == {"invoke_agent rlm": True, "chat gpt-5": None, "execute_tool python": True}


def test_a_start_that_no_clock_can_tell_is_one_sentence() -> None:
    events = [{"kind": "note", "time_s": 0.0, "seq": 0, "conversation": "0", "text": ""}]
    begun = spans.Span("x", 1, 0, None, 0.0, 2.0**52, attributes={genai.WHO: "0"})
    assert spans.spans_of(events, "0" * 64) == []
    for started in ("", "yesterday", "2026-01-31", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-23:59"):
        with pytest.raises(Exception, match="cannot be sent as spans"):
            list(spans.requests([begun], "0" * 64, started, "1"))


def test_a_run_of_the_engine_with_children_is_sent(
    rlm: Any, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [
        '```python\nprint(rlm_query("Which mast is shorter?", under="L1-00000"))\n```',
        '```python\ncontext.search("mast")\nanswer["content"] = "The mizzen."\nanswer["ready"] = True\n```',
        '```python\nanswer["content"] = "Two."\nanswer["citations"] = []\nanswer["ready"] = True\n```',
    ]
    with ModelServer(script) as server:
        server.use(monkeypatch)
        arguments = [
            "ask",
            str(index.path),
            "How many masts?",
            "--route",
            "rlm",
            "--model",
            MODEL,
            "--child-model",
            MODEL,
        ]
        assert main([*arguments, "--runs", str(tmp_path / "runs")]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    with collecting() as collector:
        assert rlm(run, "--otlp", collector.url)[0] == 0
    ids = {one["spanId"]: one for one in collector.spans}
    parent: dict[str, list[str]] = {one["name"]: [] for one in collector.spans}
    for one in collector.spans:
        parent[one["name"]].append(ids[one["parentSpanId"]]["name"] if "parentSpanId" in one else "")
    assert parent["invoke_agent rlm"] == ["", "execute_tool python"]
    assert parent["execute_tool python"] == ["invoke_agent rlm"] * 3
    child = next(one for one in collector.by_name("invoke_agent") if "parentSpanId" in one)
    inside = [one for one in collector.spans if one.get("parentSpanId") == child["spanId"]]
    assert [one["name"].partition(" ")[0] for one in inside] == ["chat", "execute_tool"]


def test_a_chat_of_several_questions_is_one_run(rlm: Any, index: Index, tmp_path: Path) -> None:
    run, _ = chat_sample(index, tmp_path / "runs")
    with collecting() as collector:
        assert rlm(run, "--otlp", collector.url)[0] == 0
    assert len(collector.by_name("invoke_agent")) == 1 and len(collector.by_name("chat")) == 4
    code, text = rlm(run, "--markdown")
    assert code == 0 and [f"### Question {n} of 3" in text for n in (1, 2, 3)] == [True] * 3
    assert all(question in text for question in QUESTIONS)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("openai/gpt-5", ("openai", "gpt-5")),
        ("gpt-5-mini", ("openai", "gpt-5-mini")),
        ("bedrock/anthropic.claude", ("aws.bedrock", "anthropic.claude")),
        ("openrouter/x/y", ("openrouter", "x/y")),
        ("offline/navigator", ("offline", "navigator")),
        ("mine", ("_OTHER", "mine")),
        ("", ("_OTHER", "")),
    ],
)
def test_a_model_s_name_tells_its_provider(model: str, told: tuple[str, str]) -> None:
    assert spans.provider_of(model) == told


# -- Markdown ----------------------------------------------------------------------------------------------


def test_a_ticket_has_the_question_the_answer_and_what_they_rest_on(
    rlm: Any, run: Path, tmp_path: Path
) -> None:
    add(run, [note("jane", "rejected", 12, "wrong year")])
    code, text = rlm(run, "--markdown")
    assert code == 0
    for words in (QUESTION, "[2: in other words]", "report.txt 600-684, page 12", "$0.0284", verify(run).head,
                  "search(k=3", "wrong year", "rejected", "openai/gpt-5"):  # fmt: skip
        assert words in text
    assert rlm(run, "--markdown", "-o", tmp_path / "run.md") == (0, f"{tmp_path / 'run.md'}\n")
    assert (tmp_path / "run.md").read_text() == text


def outside_of_code(text: str) -> str:
    """What a renderer of Markdown does not take for code, by the rules of CommonMark for fences and spans."""
    kept, fence = [], ""
    for line in text.split("\n"):
        bare = line.strip()
        mark = re.match(r"`{3,}(?=[^`]*$)|~{3,}", bare)
        if fence:
            fence = "" if re.fullmatch(rf"{fence[0]}{{{len(fence)},}}", bare) else fence
        elif mark:
            fence = mark[0]
        else:
            kept.append(line)
    assert not fence
    return re.sub(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", "\n".join(kept))


def test_hostile_words_stay_inside_of_code(rlm: Any, tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", HOSTILE)
    add(run, [note("j`a``n`e", "rejected", text=HOSTILE), note("<b>", "rejected", text="```\n" * 30)])
    code, text = rlm(run, "--markdown")
    assert code == 0 and "\x1b" not in text
    rest = outside_of_code(text)
    for words in ("script", "javascript", "everyone", "<", "](", "alert", "\\x1b"):
        assert words not in rest, rest
    assert html.escape(rest) == rest.replace("'", "&#x27;").replace('"', "&quot;")


@given(text=st.text(st.sampled_from("`~ab \n<>"), max_size=60))
def test_no_text_closes_its_own_code(text: str) -> None:
    lines = fenced(text)
    assert not any(
        re.fullmatch(r"\s*`{3,}\s*", line) and len(line.strip()) >= len(lines[-1]) for line in lines[1:-1]
    )
    assert outside_of_code(span(text)) == ""


def test_a_trace_that_is_broken_is_told_before_what_it_says(rlm: Any, run: Path) -> None:
    lines = (run / "trace.jsonl").read_bytes().splitlines(keepends=True)
    (run / "trace.jsonl").write_bytes(b"".join(lines[:9]) + b"<script>\n" + b"".join(lines[9:]))
    code, text = rlm(run, "--markdown")
    assert code == 1 and "THE TRACE IS NOT AS IT WAS WRITTEN: line 10" in text and "script" not in text
    (run / "trace.jsonl").write_bytes(b"nothing\n")
    code, text = rlm(run, "--markdown")
    assert code == 1 and "line 1" in text


def test_what_does_not_go_together_is_one_sentence(rlm: Any, run: Path) -> None:
    for line, words in (
        (("--markdown", "--with-contents"), "--with-contents goes with --otlp"),
        (("--otlp", "http://x", "-o", "f"), "-o goes with --markdown"),
        (("--markdown", "-o", "."), "cannot write"),
    ):
        code, said = rlm(run, *line)
        assert code == 2 and words in said
