"""A map in text, in a comparison and in spans: told as a map, not as the calls of its packs."""

from typing import Any

import pytest

from rlm.asking.tables import Table, map_rows
from rlm.audit import genai, read
from rlm.audit.difference import difference, in_text
from rlm.audit.maps import counts_in_words, map_in_words, maps_of, values_counted
from rlm.audit.markdown import markdown
from rlm.audit.page import render
from rlm.audit.page.sides import render_difference
from rlm.audit.spans import spans_of
from rlm.audit.timeline import show
from rlm.limits import Models
from rlm.mapping.types import Count
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.row_reader import Faults, row_script

ROWS = 200


def rule(text: str) -> dict[str, Any]:
    return {"label": text.split()[0], "long": "yes" if len(text) > 14 else "no"}


def other(text: str) -> dict[str, Any]:
    return rule(text) | ({"label": "ham"} if text == "spam message 7" else {})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    """The same map three times: asked, from the store, and of a model that reads one row otherwise."""
    folder = tmp_path_factory.mktemp("maps")
    text, made = folder / "messages.txt", list[Table]()
    text.write_text("".join(f"{'ham' if n % 7 else 'spam'} message {n}\n" for n in range(ROWS)))
    for told, times in ((rule, 2), (other, 1)):  # the store is by the address of a model too
        with (
            pytest.MonkeyPatch.context() as patch,
            ModelServer(row_script(told, Faults(dropped=0.1))) as server,
        ):
            server.use(patch)
            for _ in range(times):
                made.append(
                    map_rows(
                        text,
                        "Which label has it, and is it long?",
                        {"label": ["spam", "ham"], "long": "yes/no"},
                        split="line",
                        sure=0.1,
                        models=Models(MODEL),
                        pack_tokens=300,
                        runs=folder / "runs",
                    )
                )
    return made


def test_text_and_markdown_have_the_map_and_in_full_each_call_too(tables: list[Table]) -> None:
    events, verdict = read(tables[0].trace)
    (one,) = maps_of(events)
    assert one.returned is not None and len(one.answers) == ROWS
    calls = one.returned["calls"]
    words = map_in_words(one.returned)
    assert f"{ROWS} of {ROWS} rows answered" in words and "asked again" in words and "agree in" in words
    for text in (show(events, verdict), markdown(events, verdict)):
        assert f"llm_map: {ROWS} rows asked of {MODEL} for label, long" in text
        assert f"{ROWS} of {ROWS} rows answered" in text and " packs asked" in text
        assert "ask        " not in text and "reply      " not in text
    assert words in show(events, verdict)
    full = show(events, verdict, full=True)
    assert full.count("ask        ") == full.count("reply      ") == calls > 5


def test_text_and_page_count_the_rows_of_each_value_as_the_table_does(tables: list[Table]) -> None:
    for table in tables[::2]:
        events, verdict = read(table.trace)
        (one,) = maps_of(events)
        assert values_counted(one) == {name: table.counts(name) for name in ("label", "long")}
        words = counts_in_words(table.counts("label"))
        assert words.startswith("ham ") and " to " in words
        assert f"  label: {words}" in show(events, verdict) and f"label: {words}" in render(events, verdict)
    assert counts_in_words({None: Count(3), True: Count(1_200, 1_190.4, 1_209.6)}) == (
        "not said 3, true 1,200 (1,190 to 1,210)"
    )


def test_a_call_of_a_map_that_failed_is_told(tables: list[Table]) -> None:
    events, _ = read(tables[0].trace)
    answered = next(i for i, event in enumerate(events) if event["kind"] == "model_answered")
    failed = {
        name: events[answered][name] for name in ("seq", "time_s", "conversation", "call", "model", "seconds")
    }
    events[answered] = failed | {"kind": "model_failed", "error": "no answer came"}
    assert "no answer came" in show(events)


def test_maps_with_the_same_answers_are_the_same_whatever_gave_them(tables: list[Table]) -> None:
    asked, stored, differs = (read(table.trace)[0] for table in tables)
    assert tables[1].stored == ROWS
    steps = difference(asked, stored).steps
    assert [step.is_same for step in steps if step.a and step.a.verb == "llm_map"] == [True]
    repeated = difference(asked, stored)
    but = f"the runs are the same but for where the replies came from: A had 0 from the store, B {ROWS}"
    assert repeated.is_same and but in in_text(repeated) and but[1:] in render_difference(repeated)
    assert "the runs are the same\n" in in_text(difference(asked, asked))
    found = difference(asked, differs)
    assert found.parting is not None and found.parting.a is not None
    assert found.parting.a.verb == "llm_map" and found.parting.side == "both"
    assert [step.a.verb for step in found.steps if step.a] == ["context.rows", "llm_map", "answer"]
    assert "rows answered" in render_difference(found)


def test_a_map_is_a_span_with_the_calls_of_its_packs_below_it(tables: list[Table]) -> None:
    events, verdict = read(tables[0].trace)
    spans = spans_of(events, verdict.head)
    (span,) = (span for span in spans if span.attributes.get(genai.TOOL_NAME) == "llm_map")
    progress = tables[0].mapped.progress
    told = {
        genai.ROWS: ROWS,
        genai.FAILED: 0,
        genai.ASKED_AGAIN: progress.asked_again,
        genai.STORED: 0,
        genai.CALLS: progress.calls,
        genai.AGREEMENT: 1.0,
        genai.INPUT_TOKENS: tables[0].usage.prompt_tokens,
    }
    assert {name: span.attributes[name] for name in told} == told
    assert span.name == "execute_tool llm_map" and span.parent is spans[0] and span.end_s is not None
    calls = [one for one in spans if one.attributes[genai.OPERATION] == genai.CHAT]
    assert len(calls) == progress.calls and all(one.parent is span for one in calls)
    assert genai.TOOL_ARGUMENTS not in span.attributes
    (whole,) = (s for s in spans_of(events, verdict.head, contents=True) if s.name == span.name)
    assert "Which label has it" in str(whole.attributes[genai.TOOL_ARGUMENTS])
