"""A map that was rewritten with right hashes: each answer is held against the reply that it is said to come from."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm import Models
from rlm.asking.tables import map_rows
from rlm.audit import read, verify
from rlm.audit.redacting import redact_field
from rlm.gateway.blocks import Block, quote, unquote
from tests.helpers.forging import forged
from tests.helpers.mapped_run import CALL, FIELDS, Played, messages, rule
from tests.helpers.model_server import MODEL, Body, ModelServer
from tests.helpers.row_reader import row_script, rows_in

Event = dict[str, Any]
Forge = Callable[[list[Event]], Event]
READY = "answer['content'] = 'Done.'\nanswer['ready'] = True"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return messages(tmp_path_factory.mktemp("messages") / "messages.index")


def torn(body: Body) -> Any:
    """A child whose second reading of some rows differs, and that never answers one."""
    is_strong = "strong" in body["model"]
    lines = []
    for number, row in rows_in(body["messages"][-1]["content"]).items():
        if "b.txt7 " in row:
            continue
        said = rule(row)
        if number % 5 == 0 and not is_strong:
            said["label"] = "ham"
        lines.append(json.dumps({"row": number, **said}))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def events(index: Index, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """A map whose rows were read twice and judged where the readings differed, then one of equal texts."""
    code = FIELDS + (
        CALL.format(rows="context.rows('line')", more=", strong=True, pack_tokens=120")
        + "\n"
        + CALL.format(rows="['win 2024-01', 'so 2024-02', 'win 2024-01']", more="")
    )
    played = Played(index, tmp_path_factory.mktemp("runs"), [code, READY], child=torn)
    told = [one for event in played.kinds("rows_answered") for one in event["answers"]]
    assert {"first", "again", "error"} <= {name for one in told for name in one}
    return played.events


def first(events: list[Event], kind: str, **fields: Any) -> Event:
    fitting = (event for event in events if event["kind"] == kind)
    return next(event for event in fitting if all(event[name] == value for name, value in fields.items()))


def answers(events: list[Event]) -> list[Event]:
    told: list[Event] = first(events, "rows_answered")["answers"]
    return told


def a_value_changed(events: list[Event]) -> Event:
    answers(events)[1]["values"]["label"] = "spam"
    return first(events, "rows_answered")


def a_value_of_the_first_reading_changed(events: list[Event]) -> Event:
    one = next(one for one in answers(events) if "first" in one)
    one["first"]["values"]["month"] = "2031-01"
    return first(events, "rows_answered")


def a_value_of_the_second_reading_changed(events: list[Event]) -> Event:
    one = next(one for one in answers(events) if "again" in one)
    one["again"]["values"]["month"] = "2031-01"
    return first(events, "rows_answered")


def values_swapped(events: list[Event]) -> Event:
    one, other = answers(events)[:2]
    one["values"], other["values"] = other["values"], one["values"]
    return first(events, "rows_answered")


def answers_swapped_whole(events: list[Event]) -> Event:
    told = answers(events)
    told[0], told[1] = told[1] | {"row": told[0]["row"]}, told[0] | {"row": told[1]["row"]}
    return first(events, "map_returned")


def a_row_named_otherwise(events: list[Event]) -> Event:
    answers(events)[0]["row"] = "b.txt 0-29"
    return first(events, "map_returned")


def a_row_left_out(events: list[Event]) -> Event:
    del answers(events)[3]
    return first(events, "map_returned")


def a_row_doubled(events: list[Event]) -> Event:
    answers(events).insert(3, copy.deepcopy(answers(events)[3]))
    return first(events, "rows_answered")


def rows_left_out_and_counted(events: list[Event]) -> Event:
    del answers(events)[3]
    first(events, "map_called")["rows"] -= 1
    first(events, "map_returned")["rows"] -= 1
    return first(events, "map_returned")


def an_error_made_an_answer(events: list[Event]) -> Event:
    failed = next(one for one in answers(events) if "error" in one)
    del failed["error"]
    failed |= {"values": {"label": "spam", "month": "2024-01"}}
    return first(events, "rows_answered")


def an_error_made_an_answer_of_a_call(events: list[Event]) -> Event:
    failed = next(one for one in answers(events) if "error" in one)
    del failed["error"], failed["text"]
    failed |= {name: answers(events)[0][name] for name in ("values", "call", "number")}
    first(events, "map_returned")["failed"] -= 1
    return first(events, "map_returned")


def an_answer_made_an_error(events: list[Event]) -> Event:
    one = answers(events)[0]
    for name in ("values", "number"):
        del one[name]
    one |= {"error": "no reply", "call": ""}
    return first(events, "map_returned")


def another_call(events: list[Event]) -> Event:
    """One in which another row has the number: a second reading may have the same row there, and the same answer."""

    def row_of(call: str) -> str | None:
        asked = first(events, "model_asked", conversation=call)["messages"][-1]["content"]
        return rows_in(asked).get(one["number"])

    one = answers(events)[0]
    calls = sorted({one["call"] for one in answers(events)} - {""})
    one["call"] = next(call for call in calls if row_of(call) != row_of(one["call"]))
    return first(events, "rows_answered")


def a_call_of_another_map(events: list[Event]) -> Event:
    told = [event for event in events if event["kind"] == "rows_answered"]
    answers(events)[0]["call"] = told[1]["answers"][0]["call"]
    return told[0]


def no_number(events: list[Event]) -> Event:
    del answers(events)[0]["number"]
    return first(events, "rows_answered")


def a_number_beyond(events: list[Event]) -> Event:
    answers(events)[0]["number"] = 2**53
    return first(events, "rows_answered")


def an_answer_from_the_store_invented(events: list[Event]) -> Event:
    one = answers(events)[0]
    del one["number"]
    one["call"] = ""
    return first(events, "rows_answered")


def a_reply_changed(events: list[Event]) -> Event:
    call = answers(events)[0]["call"]
    said = first(events, "model_answered", conversation=call)
    altered = said["text"].replace("spam", "ham", 1)
    returned = next(e for e in events if e["kind"] == "child_returned" and call in e["children"])
    returned["results"][returned["children"].index(call)]["text"] = altered
    said["text"] = altered
    return first(events, "rows_answered")


def a_row_changed_in_its_prompt(events: list[Event]) -> Event:
    call = answers(events)[0]["call"]
    asked = first(events, "model_asked", conversation=call)
    words = asked["messages"][-1]["content"]
    (block,) = unquote(words)
    other = quote([Block("rows", block.text.replace("a prize", "a price", 1))])
    asked["messages"][-1]["content"] = words[: words.index("<<<DATA")] + other
    return first(events, "map_returned")


def no_fields(events: list[Event]) -> Event:
    first(events, "map_called")["columns"] = {"label": 7}
    return first(events, "map_called")


def other_fields(events: list[Event]) -> Event:
    first(events, "map_called")["columns"] = {"label": ["spam", "ham"]}
    return first(events, "rows_answered")


def too_many_rows(events: list[Event]) -> Event:
    first(events, "map_called")["rows"] = 2**53
    return first(events, "map_called")


def other_rows(events: list[Event]) -> Event:
    first(events, "map_called")["rows_sha256"] = "0" * 64
    return first(events, "map_returned")


def counts(name: str) -> Forge:
    def forge(events: list[Event]) -> Event:
        first(events, "map_returned")[name] += 1
        return first(events, "map_returned")

    forge.__name__ = f"{name}_changed"
    return forge


def asked_again_where_nothing_was_missed(events: list[Event]) -> Event:
    returned = [event for event in events if event["kind"] == "map_returned"][1]
    returned["asked_again"] = 3
    return returned


def asked_again_more_often_than_there_were_prompts_for(events: list[Event]) -> Event:
    returned = first(events, "map_returned")
    returned["asked_again"] += 10 * returned["rows"]
    return returned


def agreement(name: str) -> Forge:
    def forge(events: list[Event]) -> Event:
        first(events, "map_returned")["agreement"]["label"][name] *= 0.9
        return first(events, "map_returned")

    forge.__name__ = f"agreement_{name}_changed"
    return forge


def agreement_invented(events: list[Event]) -> Event:
    returned = [event for event in events if event["kind"] == "map_returned"]
    returned[1]["agreement"] = returned[0]["agreement"]
    return returned[1]


def a_second_reading_left_out(events: list[Event]) -> Event:
    del next(one for one in answers(events) if "again" in one)["again"]
    return first(events, "map_returned")


def a_wave_removed(events: list[Event]) -> Event:
    called = first(events, "child_called", verb="llm_map")
    after = events.index(first(events, "child_returned", verb="llm_map"))
    gone = set(called["children"])
    at = events.index(called)
    call = next(e for e in events[after:] if e["kind"] == "child_called")
    events[at : after + 1] = [e for e in events[at : after + 1] if e["conversation"] not in gone | {"0"}]
    return call


def answers_before_their_replies(events: list[Event]) -> Event:
    told, called = first(events, "rows_answered"), first(events, "child_called")
    events.remove(told)
    told["time_s"] = called["time_s"]
    events.insert(events.index(called), told)
    return told


FORGERIES: list[Forge] = [
    a_value_changed, a_value_of_the_first_reading_changed, a_value_of_the_second_reading_changed, values_swapped,
    answers_swapped_whole, a_row_named_otherwise, a_row_left_out, a_row_doubled, rows_left_out_and_counted,
    an_error_made_an_answer, an_error_made_an_answer_of_a_call, an_answer_made_an_error, another_call,
    a_call_of_another_map, no_number, a_number_beyond, an_answer_from_the_store_invented, a_reply_changed,
    a_row_changed_in_its_prompt, no_fields, other_fields, too_many_rows, other_rows,
    *map(counts, ("rows", "failed", "stored", "calls")), asked_again_where_nothing_was_missed,
    asked_again_more_often_than_there_were_prompts_for,
    *map(agreement, ("share", "low", "high", "rows")), agreement_invented, a_second_reading_left_out,
    a_wave_removed, answers_before_their_replies,
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_map_is_found_on_the_line_that_contradicts(
    events: list[Event], tmp_path: Path, forge: Forge
) -> None:
    altered = copy.deepcopy(events)
    named = forge(altered)
    verdict = verify(forged(altered, tmp_path))
    assert not verdict.ok
    assert verdict.first_bad_line == altered.index(named) + 1, verdict.reason
    assert "contradicts" in verdict.reason


def test_it_is_otherwise_believed(events: list[Event], tmp_path: Path) -> None:
    verdict = verify(forged(copy.deepcopy(events), tmp_path))
    assert verdict.ok, verdict.reason


def test_every_single_change_of_an_answer_is_found(events: list[Event], tmp_path: Path) -> None:
    rng = random.Random(3)
    for _ in range(60):
        altered = copy.deepcopy(events)
        told = rng.choice([event for event in altered if event["kind"] == "rows_answered"])
        one = rng.choice(told["answers"])
        holder, name = rng.choice([(h, n) for h in (one, one.get("values", {})) for n in h if n != "error"])
        change(rng, holder, name)
        verdict = verify(forged(altered, tmp_path))
        assert not verdict.ok, (name, one)
        returned = next(e for e in altered[altered.index(told) :] if e["kind"] == "map_returned")
        assert verdict.first_bad_line in (altered.index(told) + 1, altered.index(returned) + 1)


def change(rng: random.Random, holder: Event, name: str) -> None:
    """Another value of the same type, or none."""
    value = holder[name]
    if rng.random() < 0.2 or isinstance(value, dict):
        del holder[name]
    else:
        holder[name] = value + 1 if isinstance(value, int) else value + "1"


def stored(tmp_path: Path) -> Path:
    """A map half of whose rows the store had."""
    path = tmp_path / "rows.txt"
    with ModelServer(row_script(rule)) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        for rows in (5, 10):
            path.write_text(
                "".join(f"{'win' if n % 2 else 'see'} {n} 2024-{n + 1:02}\n" for n in range(rows))
            )
            table = map_rows(
                path,
                "Which?",
                {"label": ["spam", "ham"], "month": "YYYY-MM"},
                split="line",
                models=Models(MODEL),
                runs=tmp_path / "runs",
            )
    assert table.stored == 5
    return table.trace


def test_what_the_store_had_of_one_row_it_had_not_of_another(tmp_path: Path) -> None:
    events = read(stored(tmp_path))[0]
    assert verify(forged(copy.deepcopy(events), tmp_path)).ok
    told = answers(events)
    told[0]["values"], told[1]["values"] = told[1]["values"], told[0]["values"]
    verdict = verify(forged(events, tmp_path))
    assert verdict.first_bad_line == events.index(first(events, "rows_answered")) + 1
    assert "from the store, which had no such answer" in verdict.reason


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": [0, 0, 1, 2, 3]},
        {"rows": [4, 3, 2, 1, 0]},
        {"rows": [0, 1, 2, 3, 99]},
        {"turn": "third"},
        {"rows": [0]},
    ],
)
def test_what_the_store_is_said_to_have_had_is_of_these_rows(tmp_path: Path, changed: Event) -> None:
    events = read(stored(tmp_path))[0]
    recalled = first(events, "rows_recalled")
    recalled |= changed
    verdict = verify(forged(events, tmp_path))
    assert verdict.first_bad_line == events.index(recalled) + 1, verdict.reason


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("rows_answered", "answers"),
        ("rows_answered", "answers/0/values"),
        ("rows_answered", "answers/0/text"),
        ("rows_answered", "answers/9/values"),
        ("rows_answered", "answers/9/row"),
        ("model_asked", "messages"),
        ("model_answered", "text"),
        ("map_called", "columns"),
        ("rows_recalled", "values"),
    ],
)
def test_what_was_taken_out_is_not_missed(tmp_path: Path, kind: str, field: str) -> None:
    run = stored(tmp_path)
    redact_field(run, first(read(run)[0], kind)["seq"], field, "someone", "it names a person")
    verdict = verify(run)
    assert verdict.ok, verdict.reason
