"""What became of a model call is told in the trace, on the page, as text and live: attempts, waits, costs, refusals."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm import Answer, Limits, Models, RlmError, ask
from rlm.audit import read, verify
from rlm.audit.page import render
from rlm.audit.timeline import show
from rlm.commands.live import lines
from rlm.gateway import gateway as gateway_module, models as models_module
from rlm.gateway.litellm_setup import litellm
from tests.helpers.forging import forged
from tests.helpers.model_server import MODEL, ModelServer, Script, Step, error, rate_limited, reset, slow
from tests.helpers.rlm_toy import warm_up

QUESTION = "How many masts has the ketch?"
REPLY = 'Two masts.\n\n[ketch.txt] "The ketch has two masts."'
SECRET = "sk-live-0123456789abcdefghij"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up()
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)


@pytest.fixture
def priced() -> Iterator[None]:
    module = litellm()
    entry = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "litellm_provider": "openai"}
    module.register_model({MODEL: {**entry, "mode": "chat"}})
    yield
    module.model_cost.pop(MODEL)
    module.utils._invalidate_model_cost_lowercase_map()


class Told:
    """A run over a scripted server, in each of the ways in which it is told."""

    def __init__(self, index: Index, folder: Path, script: Script, **options: Any) -> None:
        out = io.StringIO()
        self.answer: Answer | None = None
        self.error = ""
        given: dict[str, Any] = {"route": "direct", "models": Models(MODEL, MODEL)} | options
        with ModelServer(script) as server, pytest.MonkeyPatch.context() as patch:
            server.use(patch)
            try:
                self.answer = ask(index, QUESTION, runs=folder, watch=lines(out), **given)
            except RlmError as e:
                self.error = str(e)
            self.requests = server.requests
        (run,) = folder.iterdir()
        self.verdict = verify(run)
        self.events, chain = read(run)
        self.raw = (run / "trace.jsonl").read_text(encoding="utf-8")
        self.live, self.page = out.getvalue(), re.sub(r"<[^>]+>", " ", render(self.events, chain))
        self.text = show(self.events)

    def event(self, kind: str) -> dict[str, Any]:
        return next(event for event in self.events if event["kind"] == kind)

    def everywhere(self, words: str) -> bool:
        return words in self.live and words in self.text and words in self.page


def test_a_retry_that_succeeded_is_told_with_its_wait(index: Index, tmp_path: Path) -> None:
    told = Told(index, tmp_path, [rate_limited("0.6"), REPLY])
    assert told.verdict.ok, told.verdict.reason
    first, second = told.event("model_answered")["attempts"]
    assert (first["status"], second["status"]) == ("429", "200")
    assert "the rate limit was reached" in first["error"] and second["error"] == ""
    assert first["settled"]["calls"] == 0 and first["reserved"]["completion_tokens"] == 4_000
    assert second["settled"] == told.event("model_answered")["usage"]
    assert second["waited_s"] >= 0.6
    waited = f"429, waited {second['waited_s']:.2g} s, then 200"
    assert told.everywhere(waited), (waited, told.live)


@pytest.mark.parametrize(
    ("script", "status", "charged"),
    [
        ([error(503)], "503", False),
        ([error(529, "overloaded")], "529", False),
        ([error(401, "no")], "401", False),
        ([reset()], "connection broke", True),
        ([Step(raw=b"{")], "no chat completion", True),
    ],
    ids=["503", "529", "401", "reset", "no json"],
)
def test_a_call_that_failed_says_its_status_and_what_it_cost(
    index: Index, tmp_path: Path, script: Script, status: str, charged: bool, priced: None
) -> None:
    told = Told(index, tmp_path, script)
    assert told.verdict.ok, told.verdict.reason
    failed = told.event("model_failed")
    assert {one["status"] for one in failed["attempts"]} == {status}
    assert len(failed["attempts"]) == len(told.requests)
    assert failed["usage"]["calls"] == (len(told.requests) if charged else 0)
    assert (failed["usage"]["usd"] > 0) == charged
    cost = f"charged: {len(told.requests)} calls" if charged else "charged: nothing"
    assert told.everywhere(cost) and told.everywhere(status)


def test_a_call_refused_by_a_budget_says_which_cap_what_it_may_need_and_what_was_left(
    index: Index, tmp_path: Path, priced: None
) -> None:
    told = Told(index, tmp_path, [REPLY], limits=Limits(usd=0.005))
    assert told.verdict.ok, told.verdict.reason
    failed = told.event("model_failed")
    refused = failed["refused"]
    assert (refused["cap"], refused["left"]) == ("usd", 0.005)
    assert 0.008 < refused["asked"] < 0.01 and "attempts" not in failed and told.requests == []
    words = f"it may need up to ${refused['asked']:.4f}, and $0.0050 are left of the usd cap"
    assert told.everywhere(words), told.live


def test_the_status_is_the_providers_also_where_litellm_has_another_for_it(
    index: Index, tmp_path: Path
) -> None:
    claude = Models("anthropic/claude-sonnet-4-5")
    told = Told(index, tmp_path, [error(529, "Overloaded"), error(403, "no")], models=claude)
    assert [one["status"] for one in told.event("model_failed")["attempts"]] == ["529", "403"]


def test_a_call_that_was_stopped_says_what_it_was_charged(index: Index, tmp_path: Path, priced: None) -> None:
    told = Told(index, tmp_path, [slow("late", 60)], limits=Limits(timeout_s=3.0))
    assert told.verdict.ok, told.verdict.reason
    (attempt,) = told.event("model_failed")["attempts"]
    assert attempt["status"] == "cancelled" and attempt["settled"] == attempt["reserved"]
    assert told.event("model_failed")["usage"] == told.event("run_closed")["usage"] == attempt["settled"]
    assert told.everywhere("charged: 1 call, 4,")


def test_the_caps_on_tokens_and_calls_are_told_in_their_units(index: Index, tmp_path: Path) -> None:
    tokens = Told(index, tmp_path / "tokens", [REPLY], limits=Limits(tokens=1_000))
    assert re.search(r"up to 4,\d{3} tokens, and 1,000 tokens are left of the tokens cap", tokens.live)
    calls = Told(index, tmp_path / "calls", [REPLY], limits=Limits(calls=0))
    assert "up to 1 call, and 0 calls are left of the calls cap" in calls.live


def test_what_the_provider_said_of_itself_and_what_was_sent_are_in_the_trace(
    index: Index, tmp_path: Path
) -> None:
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "test-model-2026-01-01",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 90,
            "completion_tokens": 9,
            "total_tokens": 99,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }
    options = {"temperature": 0.5, "top_p": 0.9, "seed": 7}
    told = Told(index, tmp_path, [Step(raw=json.dumps(body).encode())], models=Models(MODEL, options=options))
    assert told.verdict.ok, told.verdict.reason
    answered, asked = told.event("model_answered"), told.event("model_asked")
    assert answered["served"] == {
        "model": "test-model-2026-01-01",
        "system_fingerprint": "fp_44709d6fcb",
        "cached_tokens": 64,
        "reasoning_tokens": 5,
    }
    assert (asked["temperature"], asked["parameters"]) == (0.5, {"top_p": 0.9, "seed": 7})
    (attempt,) = answered["attempts"]
    assert attempt["sent"] == {"max_tokens": 4_000, "temperature": 0.5, "top_p": 0.9, "seed": 7}
    assert {k: told.requests[0][k] for k in attempt["sent"]} == attempt["sent"]
    for shown in (told.page, told.text):
        for words in (
            "fingerprint fp_44709d6fcb",
            "64 tokens cached",
            "5 tokens of reasoning",
            "test-model-2026-01-01",
            "seed",
        ):
            assert words in shown
    opened = told.event("run_opened")["models"]
    assert opened == {"root": MODEL, "child": MODEL, "options": options, "child_options": options}


def test_no_secret_gets_into_what_is_told_of_a_call(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", SECRET)
    body = {
        "model": f"test-{SECRET}",
        "system_fingerprint": SECRET,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
        ],
    }
    told = Told(index, tmp_path, [error(503, f"bad {SECRET}"), Step(raw=json.dumps(body).encode())])
    assert told.verdict.ok, told.verdict.reason
    assert len(told.event("model_answered")["attempts"]) == 2
    for shown in (told.raw, told.page, told.text, told.live):
        assert SECRET not in shown
    with pytest.raises(RlmError, match="'user' holds a key of the environment"):
        Models(MODEL, options={"user": SECRET})


def test_a_provider_that_says_nonsense_of_itself_is_not_believed(index: Index, tmp_path: Path) -> None:
    body = {
        "model": "m" * 5_000,
        "system_fingerprint": "\x1b[2J\n" * 400,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 5,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": -4},
        },
    }
    told = Told(index, tmp_path, [Step(raw=json.dumps(body).encode())])
    assert told.verdict.ok, told.verdict.reason
    served = told.event("model_answered")["served"]
    assert len(served["model"]) == len(served["system_fingerprint"]) == 200 and served["cached_tokens"] == 0
    assert "\x1b" not in told.page + told.text + told.live


def test_an_old_trace_without_what_is_told_now_still_verifies_and_is_shown(
    index: Index, tmp_path: Path
) -> None:
    told = Told(index, tmp_path / "runs", [error(500), REPLY])
    new = ("attempts", "served", "refused", "parameters", "temperature")
    old = [{name: value for name, value in event.items() if name not in new} for event in told.events]
    path = forged(old, tmp_path)
    verdict = verify(path)
    assert verdict.ok, verdict.reason
    events, chain = read(path)
    assert "Two masts." in render(events, chain) and "Two masts." in show(events)


@pytest.mark.parametrize("change", ["settled", "waited_s", "status of the last"])
def test_attempts_that_do_not_add_up_to_their_call_are_found(
    index: Index, tmp_path: Path, change: str
) -> None:
    told = Told(index, tmp_path / "runs", [error(500), REPLY])
    answered = told.event("model_answered")
    last = answered["attempts"][-1]
    if change == "settled":
        last["settled"]["prompt_tokens"] += 1
    elif change == "waited_s":
        last["waited_s"] += 60
    else:
        last["error"] = "it failed"
    verdict = verify(forged(told.events, tmp_path))
    assert (verdict.ok, verdict.first_bad_line) == (False, answered["seq"] + 1)
    assert "attempts" in verdict.reason


HUGE = {"prompt_tokens": 900, "completion_tokens": 90_000, "total_tokens": 90_900}
PASSED = "the cap of $0.1 was passed by $0.0809, to $0.1809, as a provider reported more tokens than were asked for"


def test_a_reply_that_passes_the_ceiling_is_told_with_its_reason_and_the_sum(
    index: Index, tmp_path: Path, priced: None
) -> None:
    told = Told(index, tmp_path, [Step(REPLY, HUGE)], limits=Limits(usd=0.1))
    assert told.verdict.ok, told.verdict.reason
    assert told.event("budget")["reason"].startswith(PASSED) and told.event("budget")["left"]["usd"] == 0
    assert told.event("run_closed")["error"].startswith(PASSED)
    assert told.answer is not None and told.answer.content == "Two masts."
    assert told.answer.why.startswith(PASSED) and told.answer.usage.usd == pytest.approx(0.1809)


@pytest.mark.parametrize("usd", [1e-6, 0.0], ids=["priced", "free"])
def test_no_call_is_made_after_the_ceiling_was_passed(
    index: Index, tmp_path: Path, priced: None, usd: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second model costs nothing, and so its calls still fitted into what was left: nothing."""
    code = Step("```repl\nprint(llm_query('and now?'))\n```", HUGE)
    child = "openai/other-test-model"
    monkeypatch.setitem(models_module._given, child, (usd, usd))
    told = Told(
        index, tmp_path, [code], route="rlm", models=Models(MODEL, child), limits=Limits(usd=0.1, turns=4)
    )
    assert told.verdict.ok, told.verdict.reason
    assert len(told.requests) == 1
    assert told.answer is not None and told.answer.stop == "budget" and PASSED in told.answer.why


def test_tokens_that_a_provider_does_not_report_are_noted_once(index: Index, tmp_path: Path) -> None:
    cell = Step("```repl\nprint(1)\n```", {})
    told = Told(index, tmp_path, [cell], route="rlm", limits=Limits(turns=3))
    notes = [event["text"] for event in told.events if event["kind"] == "note"]
    assert notes.count(f"{MODEL} reports no token counts that can be read: they are counted here") == 1


@pytest.mark.parametrize(
    ("model", "options", "untaken"),
    [
        ("openai/gpt-5-mini", {"temperature": 0.3, "seed": 7}, "temperature"),
        ("openai/gpt-5-mini", {"top_p": 0.9, "logit_bias": {"5": 1}}, "logit_bias and top_p"),
        ("openai/gpt-4o-mini", {"reasoning_effort": "low", "top_p": 0.9}, "reasoning_effort"),
        ("openai/gpt-4o-mini", {"temperature": 0, "seed": 7}, ""),
        ("openai/test-model", {"own_field": 3}, ""),
    ],
)
def test_an_option_that_a_model_does_not_take_is_told_once_and_is_not_sent(
    index: Index, tmp_path: Path, model: str, options: dict[str, Any], untaken: str
) -> None:
    models = Models(model, model, options)
    told = Told(
        index, tmp_path, ["```repl\nprint(1)\n```"], route="rlm", models=models, limits=Limits(turns=3)
    )
    assert told.verdict.ok and len(told.requests) > 2, told.verdict.reason
    sentence = f"{model} does not take {untaken} as it was given: it is not sent"
    notes = [event["text"] for event in told.events if event["kind"] == "note"]
    assert notes.count(sentence) == bool(untaken)
    assert not untaken or (told.everywhere(sentence) and told.live.count(sentence) == 1)
    names = untaken.split(" and ") if untaken else []
    assert all(name not in body for body in told.requests for name in names)
    assert all(name in body for body in told.requests for name in options if name not in names)
