"""A map over the rows of an index, from Python, over real HTTP: the table, its trace, its replay, and its store."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rlm
from rlm.asking.replaying.replay import replay
from rlm.asking.tables import Table, map_rows
from rlm.audit import read
from rlm.gateway.models import give_price
from rlm.limits import Limits, Models
from rlm.loop import verbs
from rlm.mapping import planning
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.places import DATA
from tests.helpers.row_reader import Faults, row_script

LINES = [f"{'spam' if n % 7 == 0 else 'ham'}\tmessage {n} of 2024-{n % 12 + 1:02}\n" for n in range(300)]
FIELDS: dict[str, Any] = {"month": "YYYY-MM", "label": ["spam", "ham"]}
FAULTY = Faults(failed=0.1, cut=0.1, cut_untold=0.1, dropped=0.05, doubled=0.05, foreign=0.05, wrong=0.02)


def rule(text: str) -> dict[str, Any]:
    return {"label": text.split("\t")[0], "month": text[-7:]}


TRUE = [rule(line.strip()) for line in LINES]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "messages.tsv"
    path.write_text("".join(LINES), encoding="utf-8")
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer(row_script(rule)) as opened:
        opened.use(monkeypatch)
        yield opened


def asked(text: Path, **options: Any) -> Table:
    given: dict[str, Any] = {
        "split": "line",
        "models": Models(MODEL),
        "runs": text.parent / "runs",
        "pack_tokens": 400,
    } | options
    return map_rows(text, "Which label and month has it?", FIELDS, **given)


def values(table: Table) -> list[dict[str, Any]]:
    return [{name: row.get(name) for name in FIELDS} for row in table]


def test_every_row_is_answered_in_order_with_its_span(text: Path, server: ModelServer) -> None:
    table = asked(text)
    assert values(table) == TRUE
    whole = text.read_text(encoding="utf-8")
    spans = [(int(str(row["start"])), int(str(row["end"]))) for row in table]
    assert [whole[start:end] for start, end in spans] == [line.strip("\n") for line in LINES]
    assert {value: one.count for value, one in table.counts("label").items()} == {"ham": 257, "spam": 43}
    assert (table.stop, table.failed, len(table)) == ("answer", 0, 300)


def test_rows_are_split_and_counted_once_for_the_plan_and_for_the_map(
    text: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Counter[str]()

    def counted(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def counting(*args: Any, **named: Any) -> Any:
            made[name] += 1
            return real(*args, **named)

        monkeypatch.setattr(module, name, counting)

    counted(verbs, "rows_of")
    counted(planning, "row_tokens")
    assert asked(text, sure=0.1).failed == 0
    assert made == {"rows_of": 1, "row_tokens": len(LINES)}


def test_a_table_is_a_sequence_of_its_rows(text: Path, server: ModelServer) -> None:
    table = asked(text)
    place = {"row": "messages.tsv 0-25", "doc": "messages.tsv", "start": 0, "end": 25}
    assert table[0] == {**place, **TRUE[0], "error": None}
    assert (table[-1], table[1:3], table[::-100]) == (
        list(table)[299],
        list(table)[1:3],
        list(table)[::-100],
    )
    assert table.index(table[5]) == 5 and next(reversed(table)) == table[299]
    with pytest.raises(IndexError):
        table[300]
    columns = "row, doc, start, end, month, label, error"
    assert repr(table) == f"<Table of 300 rows, 0 without an answer: {columns}>"


def test_it_is_exact_whatever_fails_on_the_way(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(row_script(rule, FAULTY)) as server:
        server.use(monkeypatch)
        table = asked(text, sure=0.1)
    assert values(table) == TRUE
    assert table.mapped.progress.asked_again > 0
    assert table.agreement["label"].share == 1.0


def test_its_trace_is_whole_and_comes_out_the_same_when_it_is_done_again(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(row_script(rule, FAULTY)) as server:
        server.use(monkeypatch)
        table = asked(text, sure=0.1)
        calls = server.calls
        events, verdict = read(table.trace)
        assert verdict.ok, verdict.reason
        assert replay(table.trace, text).is_same
        assert server.calls == calls
    told = [one for event in events if event["kind"] == "rows_answered" for one in event["answers"]]
    assert [one["values"] for one in told] == TRUE
    said = {e["conversation"]: e["text"] for e in events if e["kind"] == "model_answered"}
    assert all('"label"' in said[one["call"]] for one in told)


async def of_a_loop(text: Path) -> Table:
    return await rlm.map_rows_async(
        text, "Which?", FIELDS, split="line", models=Models(MODEL), runs=text.parent / "runs"
    )


def test_an_event_loop_gets_the_same_table(text: Path, server: ModelServer) -> None:
    assert values(asyncio.run(of_a_loop(text))) == TRUE


def test_a_plan_says_what_it_takes_and_nothing_is_asked_or_left(text: Path, server: ModelServer) -> None:
    give_price(MODEL, (1.0, 10.0))
    asking: dict[str, Any] = {"split": "line", "pack_tokens": 400, "models": Models(MODEL)}
    plan = rlm.plan_rows(text, "Which?", FIELDS, **asking)
    assert (server.calls, [path.name for path in text.parent.iterdir()]) == (0, [text.name])
    table = rlm.map_rows(text, "Which?", FIELDS, **asking, runs=text.parent / "runs")
    assert (plan.rows, plan.distinct, plan.calls) == (300, 300, table.usage.calls)
    assert plan.usd is not None and plan.most_usd is not None and plan.usd < plan.most_usd
    done = rlm.plan_rows(text, "Which?", FIELDS, **asking)
    assert (done.stored, done.calls, done.usd) == (300, 0, 0)
    other = rlm.plan_rows(text, "Which?", FIELDS, **asking | {"models": Models("openai/unheard-of")})
    assert (other.stored, other.usd, other.most_usd) == (0, None, None)


def test_what_was_answered_before_is_not_asked_again(text: Path, server: ModelServer) -> None:
    asked(text)
    calls = server.calls
    table = asked(text)
    assert (server.calls, values(table), table.stored) == (calls, TRUE, 300)
    assert read(table.trace)[1].ok
    assert replay(table.trace, text).is_same


def test_fields_in_any_order_are_verified_and_replayed(text: Path, server: ModelServer) -> None:
    fields = {name: FIELDS[name] for name in ("month", "label")}
    table = map_rows(
        text,
        "Which month and label has it?",
        fields,
        split="line",
        sure=0.2,
        models=Models(MODEL),
        runs=text.parent / "runs",
    )
    assert list(table.agreement) == ["month", "label"]
    verdict = read(table.trace)[1]
    assert verdict.ok, verdict.reason
    assert replay(table.trace, text).is_same


def test_a_changed_line_is_asked_alone(text: Path, server: ModelServer) -> None:
    asked(text)
    calls = server.calls
    text.write_text("".join(["spam\tanother of 2023-05\n", *LINES[1:]]), encoding="utf-8")
    table = asked(text)
    assert server.calls == calls + 1
    assert server.requests[-1]["messages"][-1]["content"].count("another of 2023-05") == 1
    assert "message 1 " not in server.requests[-1]["messages"][-1]["content"]
    assert values(table)[0] == {"label": "spam", "month": "2023-05"}


def test_without_the_store_everything_is_asked_again(text: Path, server: ModelServer) -> None:
    asked(text, memo=False)
    calls = server.calls
    assert asked(text, memo=False).stored == 0
    assert server.calls == 2 * calls


def test_a_cap_ends_it_with_what_it_has_and_the_same_call_goes_on(text: Path, server: ModelServer) -> None:
    table = asked(text, limits=Limits(calls=5))
    assert table.stop == "budget"
    assert server.calls == 5
    assert 0 < table.failed < 300
    assert all("calls" in str(row["error"]) for row in table if row["error"])
    assert read(table.trace)[1].ok
    assert replay(table.trace, text).is_same
    more = asked(text)
    assert (more.failed, more.stored) == (0, 300 - table.failed)


def test_a_model_that_gives_no_rows_is_not_paid_again_and_again(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(lambda body: "I cannot do that.") as server:
        server.use(monkeypatch)
        with pytest.raises(rlm.RlmError, match="I cannot do that"):
            asked(text)
        assert server.calls < 50


@pytest.mark.skipif(not (DATA / "sms_spam.tsv").exists(), reason="the development data is not here")
@pytest.mark.slow
def test_a_table_of_5574_messages_is_counted_exactly_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_message(line: str) -> dict[str, Any]:
        label, _, words = line.partition("\t")
        return {"label": label, "month": f"2024-{sum(map(ord, words)) % 12 + 1:02}"}

    lines = (DATA / "sms_spam.tsv").read_text(encoding="utf-8").split("\n")
    faults = Faults(failed=0.1, cut=0.1, dropped=0.05, doubled=0.05, foreign=0.05)
    with ModelServer(row_script(of_message, faults)) as server:
        server.use(monkeypatch)
        table = map_rows(
            DATA / "sms_spam.tsv",
            "Which?",
            FIELDS,
            split="line",
            models=Models(MODEL),
            runs=tmp_path,
            memo=False,
        )
    expected = [of_message(line.strip()) for line in lines if line.strip()]
    for name in FIELDS:
        counts = {value: one.count for value, one in table.counts(name).items()}
        assert counts == Counter(row[name] for row in expected), json.dumps(counts)
    assert len(table) == 5_574
