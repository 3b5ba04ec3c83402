"""A map on the page: what it is, and its rows as a table that is sorted, filtered and saved, most in a real browser."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm.asking.tables import Table, map_rows
from rlm.audit import read
from rlm.audit.kinds import MapCalled, MapReturned, ReduceCalled, ReduceReturned, RowsAnswered
from rlm.audit.maps import map_in_words
from rlm.audit.page import Beside, render
from rlm.gateway.types import Usage
from rlm.limits import Models
from tests.helpers.audit_sample import Script
from tests.helpers.browser import CONTRAST, HOSTILE, PATIENCE_MS, Seen, chromium
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.review_sample import faults, seconds, shots
from tests.helpers.row_reader import Faults, row_script
from tests.helpers.thorough import cases
from tests.rlm.audit.conftest import Command
from tests.rlm.audit.test_page import printed

FIELDS: dict[str, Any] = {"label": ["spam", "ham"], "month": "YYYY-MM", "amount": "number"}
ROWS, MANY = 250, cases(1_500, 5_574)
# The fields stand by name, as a trace holds them: amount, label, month.
LABELS = "[...document.querySelectorAll('table.rows tbody tr')].map(row => row.cells[3].textContent)"
NUMBERS = LABELS.replace("cells[3]", "cells[0]")


def rule(text: str) -> dict[str, Any]:
    label, number, month = text.split()[:3]
    return {"label": label, "month": month, "amount": int(number) - 5 if int(number) % 3 else None}


def mapped(folder: Path, rows: int, pack_tokens: int = 400, wrong: Faults | None = None) -> Table:
    """A real map over the lines of a text, at a real server."""
    text = folder / "messages of us.txt"
    lines = (
        f"{'spam' if n % 7 == 0 else 'ham'} {n} 2024-{n % 12 + 1:02} is what it says\n" for n in range(rows)
    )
    text.write_text("".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, ModelServer(row_script(rule, wrong)) as server:
        server.use(patch)
        return map_rows(
            text,
            "Which label, month and amount has it?",
            FIELDS,
            split="line",
            sure=0.2,
            models=Models(MODEL),
            pack_tokens=pack_tokens,
            runs=folder / "runs",
            memo=False,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maps")


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    """Made before the browser, which keeps the event loop."""
    return mapped(folder, ROWS, wrong=Faults(dropped=0.1))


@pytest.fixture(scope="module")
def page(folder: Path, table: Table) -> Path:
    file = folder / "page.html"
    file.write_text(render(*read(table.trace)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def large(folder: Path, table: Table) -> Path:
    below = folder / "large"
    below.mkdir()
    return mapped(below, MANY, 6_000).trace


@pytest.fixture(scope="module")
def browser(table: Table) -> Iterator[Any]:
    with chromium() as started:
        yield started


def opened(browser: Any, page: Path, **settings: Any) -> Seen:
    seen = Seen(browser, page, **settings)
    seen.page.click("details.rows > summary")
    seen.wait("document.querySelector('table.rows tbody tr')")
    return seen


def hostile_map(folder: Path, row: str, value: str, error: str = "no answer") -> Path:
    """A run of two rows, of which one has an answer, with such words in them."""
    run = Script(folder)
    run.open()
    run.ask("```repl\nx\n```", 10, 10)
    run.scan("llm_map(question, rows, fields)")
    columns = {f"kind {value}": [value, "b"]}
    called: dict[str, Any] = {
        "cell": 1,
        "verb": "llm_map",
        "columns": columns,
        "rows": 2,
        "model": "m",
        "plan": {"calls": 1},
    }
    run.record(MapCalled(question=value, rows_sha256="0" * 64, **called))
    told = [{"row": row, "call": "", "error": error}, {"row": f"{row} 5-9", "call": "", "error": value}]
    run.record(RowsAnswered(first=0, answers=told))
    counts: dict[str, Any] = {
        "rows": 2,
        "failed": 2,
        "asked_again": 0,
        "stored": 0,
        "calls": 0,
        "agreement": {},
    }
    run.record(MapReturned(**counts, usage=Usage(), seconds=0))
    run.ran("")
    run.close("Two.", [])
    file = folder / "page.html"
    events, verdict = read(folder)
    assert verdict.ok, verdict.reason
    file.write_text(render(events, verdict, "", Beside(rows={row: f"words {value}"})), encoding="utf-8")
    return file


def saved(seen: Seen) -> list[dict[str, str]]:
    with seen.page.expect_download() as download:
        seen.page.click("text=Save as CSV")
    return list(
        csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"), newline=""))
    )


# In text


def test_the_step_of_a_map_says_what_was_asked_planned_and_came_of_it(table: Table, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    events, _ = read(table.trace)
    called, returned = (
        next(e for e in events if e["kind"] == kind) for kind in ("map_called", "map_returned")
    )
    step = text.partition(f'id="e{called["seq"]}"')[0].rpartition('<div class="event"')[0]
    step = text[len(step) :].partition("</noscript>")[0]
    for words in (
        "Which label, month and amount has it?",
        "amount: number; label: spam, ham; month: YYYY-MM",
        f"{called['plan']['calls']:,} calls, {called['plan']['text_tokens']:,} tokens of rows",
        map_in_words({**returned, "agreement": {}}),
        "<li>label: two readings of 50 agree in 100% (93% to 100%)</li>",
        "<dt>Read twice</dt><dd>20% of rows</dd>",
        f"<summary>{ROWS} rows</summary>",
    ):
        assert words in step, words
    assert step.count("<tr>") == ROWS + 1


def test_a_map_without_an_end_says_so(tmp_path: Path) -> None:
    run = Script(tmp_path)
    run.open()
    run.ask("```repl\nx\n```", 10, 10)
    run.scan("llm_map(question, rows, fields)")
    run.record(
        MapCalled(
            cell=1,
            verb="llm_map",
            question="Q?",
            columns={},
            rows=9,
            rows_sha256="0" * 64,
            model="m",
            plan={},
        )
    )
    run.trace.close()
    assert "It has no end in this trace." in render(*read(tmp_path))


def test_a_reduction_shows_its_plan_its_notes_with_what_they_rest_on_and_what_was_cut(tmp_path: Path) -> None:
    run = Script(tmp_path)
    run.open()
    run.ask("```repl\nx\n```", 10, 10)
    run.scan("llm_reduce(question)")
    plan = {"levels": 2, "calls": 4, "tokens": 20_000, "usd": 0.01}
    run.record(ReduceCalled(cell=1, question="What?", model="m", packs=1, passages=2, plan=plan))
    places: list[dict[str, Any]] = [
        {"doc": f"a.txt{HOSTILE}", "start": 3, "end": 7},
        {"node": "L1-00000"},
        {"text": 2},
    ]
    notes: list[Any] = [
        {"note": f"The rent {n}", "citations": [{**place, "quote": "rent"}]} for n, place in enumerate(places)
    ]
    run.record(
        ReduceReturned(
            answer="The rent. [1]",
            notes=3,
            cited=3,
            cut=["L0-00003, L0-00004"],
            failed=["L0-00005: it failed"],
            dropped=0,
            calls=0,
            usage=Usage(),
            seconds=0,
            noted=notes,
        )
    )
    run.ran("")
    run.close("The rent.", [])
    events, verdict = read(tmp_path)
    assert verdict.ok, verdict.reason
    text = render(events, verdict)
    for words in (
        "<dt>Planned</dt><dd>1 pack over 2 levels, at most 4 calls, 20,000 tokens and $0.01",
        "<li>The rent 0<ul",
        "<q>rent</q> text 2 of the code",
        "Cut, as it holds no evidence",
        "L0-00005: it failed",
    ):
        assert words in text, words
    assert text.count("<script") == 1 and " 3–7</li>" in text


# In a browser


def test_rows_are_sorted_filtered_and_all_shown(browser: Any, page: Path) -> None:
    seen = opened(browser, page)
    assert len(seen.look(LABELS)) == 200
    assert seen.page.inner_text("details.rows [role=status]") == "200 of 250 rows shown"
    seen.page.click("details.rows >> text=Show all rows")
    assert seen.look(NUMBERS) == [str(n) for n in range(1, ROWS + 1)]
    seen.page.click("table.rows th button >> text=amount")
    amounts = seen.look(LABELS.replace("cells[3]", "cells[2]"))
    told = [float(one) for one in amounts if one]
    assert told == sorted(told) and told[0] < 0 and amounts[len(told) :] == [""] * (ROWS - len(told))
    seen.page.click("table.rows th button >> text=amount")
    falling = seen.look(LABELS.replace("cells[3]", "cells[2]"))
    assert falling[: len(told)] == amounts[: len(told)][::-1] and falling[-1] == ""
    assert seen.look("document.querySelectorAll('table.rows th')[2].ariaSort") == "descending"
    seen.page.fill("details.rows input", "SPAM 2024-03")
    seen.wait("document.querySelector('details.rows [role=status]').textContent.startsWith('3 of 250 rows')")
    assert seen.look(LABELS) == ["spam"] * 3
    seen.page.fill("details.rows input", "")
    seen.wait(f"document.querySelectorAll('table.rows tbody tr').length === {ROWS}")
    assert seen.console == [] and seen.asked == [page.as_uri()]


def test_rows_are_gone_through_by_keys_alone(browser: Any, page: Path) -> None:
    seen = Seen(browser, page)
    seen.page.focus("details.rows > summary")
    seen.page.keyboard.press("Enter")
    seen.wait("document.querySelector('table.rows tbody tr')")
    seen.page.keyboard.press("Tab")
    seen.page.keyboard.type("ham")
    seen.wait("document.querySelector('details.rows [role=status]').textContent.includes('of 250 rows,')")
    assert set(seen.look(LABELS)) == {"ham"}
    for _ in range(2):
        seen.page.keyboard.press("Tab")
    if seen.look("document.activeElement.textContent") == "Save as CSV":
        seen.page.keyboard.press("Tab")
    while seen.look("document.activeElement.textContent") != "No.":
        seen.page.keyboard.press("Tab")
    for _ in range(2):
        seen.page.keyboard.press("Enter")
    assert int(seen.look(NUMBERS)[0]) > int(seen.look(NUMBERS)[-1])
    assert seen.console == []


def test_the_csv_has_all_rows_that_the_filter_leaves_as_the_table_of_the_command_has_them(
    browser: Any, table: Table, page: Path
) -> None:
    seen = opened(browser, page)
    rows = saved(seen)
    assert [row["No."] for row in rows] == [str(n) for n in range(1, ROWS + 1)]
    for row, own in zip(rows, table, strict=True):
        assert row["Row"] == own["row"]
        for name in FIELDS:
            assert row[name] == ("" if own[name] is None else str(own[name]))
    assert [row["Call"] for row in rows] == [one.call for one in table.mapped.answers]
    seen.page.fill("details.rows input", "spam")
    seen.wait("document.querySelector('details.rows [role=status]').textContent.includes('of 250 rows,')")
    assert [row["label"] for row in saved(seen)] == ["spam"] * 36
    assert seen.console == [] and all(url.startswith(("file:", "blob:")) for url in seen.asked)


def test_a_row_leads_to_the_call_that_answered_it(browser: Any, table: Table, page: Path) -> None:
    seen = opened(browser, page)
    call = table.mapped.answers[7].call
    link = "table.rows tbody tr:nth-child(8) td:last-child a"
    assert seen.page.inner_text(link) == call
    seen.page.click(link)
    seen.wait("document.querySelector('[aria-current=step]')")
    step = "document.querySelector('[aria-current=step]')"
    assert seen.look(f"{step}.dataset.talk") == call and seen.look(f"{step}.dataset.kind") == "model_asked"
    assert seen.page.is_visible("[aria-current=step] summary")


def test_with_the_index_a_row_opens_its_words_beside_it(
    browser: Any, folder: Path, table: Table, command: Command
) -> None:
    page = folder / "with-words.html"
    code, _, err = command("review", table.trace, "-o", page, "--index", folder / "messages of us.txt")
    assert code == 0, err
    seen = opened(browser, page)
    place = "table.rows tbody tr:nth-child(8) details"
    assert seen.page.inner_text(f"{place} summary") == table.asked.id(7)
    assert not seen.page.is_visible(f"{place} blockquote")
    seen.page.click(f"{place} summary")
    assert seen.page.inner_text(f"{place} blockquote") == table.asked.text(7)
    seen.page.fill("details.rows > .tools input", "100 2024-05")
    seen.wait("document.querySelectorAll('table.rows tbody tr').length === 1")
    assert saved(seen)[0]["Row"] == table.asked.id(100)


def test_hostile_words_run_nothing_and_no_formula(browser: Any, tmp_path: Path) -> None:
    for name, words in (
        ("html", HOSTILE.replace("\ud800", "")),
        ("formula", "=1+cmd|' /C calc'!A0"),
        ("at", "@SUM(1)"),
    ):
        (tmp_path / name).mkdir()
        page = hostile_map(tmp_path / name, words, words, words)
        assert page.read_text(encoding="utf-8").count("<script") == 1
        seen = opened(browser, page)
        seen.unfold()
        rows = saved(seen)
        assert len(rows) == 2 and seen.look("window.hit") is None
        cells = [cell for row in rows for cell in row.values()] + list(rows[0])
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
        if name != "html":
            assert rows[0]["Row"] == f"'{words}" == rows[1]["Error"]
        assert seen.console == [] and all(url.startswith(("file:", "blob:")) for url in seen.asked)


def test_the_table_has_no_serious_fault_and_reads_in_light_and_dark(
    browser: Any, page: Path, tmp_path: Path
) -> None:
    for scheme in ("light", "dark"):
        seen = opened(browser, page, bypass_csp=True, color_scheme=scheme)
        assert faults(seen.page) == []
        assert seen.look(CONTRAST) == []
    narrow = opened(browser, page, viewport={"width": 420, "height": 900})
    assert narrow.look("document.documentElement.scrollWidth") <= 420
    shots(narrow.page, tmp_path, "rows")


def test_rows_read_without_scripts_and_print_where_they_were_opened(browser: Any, page: Path) -> None:
    plain = opened(browser, page, java_script_enabled=False)
    assert plain.page.is_visible("table.rows tbody tr:nth-child(250)")
    seen = opened(browser, page)
    _, text = printed(seen)
    assert seen.look("document.querySelectorAll('table.rows tbody tr').length") == ROWS
    assert text.count("2024-03") > 20  # in rows; the counts of values have it once
    closed = Seen(browser, page)
    assert printed(closed)[1].count("2024-03") == 1


def test_a_search_of_the_steps_finds_what_stands_in_a_row(browser: Any, table: Table, page: Path) -> None:
    last = table.asked.id(ROWS - 1).split()[-1]
    for seen in (Seen(browser, page), opened(browser, page)):
        seen.page.fill("#search", last)
        seen.wait("document.querySelector('.tools [role=status]').textContent.includes(' of ')")
        kinds = seen.look(
            "[...document.querySelectorAll('#steps .event:not([hidden])')].map(e => e.dataset.kind)"
        )
        assert "map_called" in kinds


@pytest.mark.slow
def test_thousands_of_rows_are_opened_at_once_and_the_page_stays_light(
    browser: Any, large: Path, tmp_path: Path
) -> None:
    page = tmp_path / "large.html"
    page.write_text(render(*read(large)), encoding="utf-8")
    seen = Seen(browser, page)
    elements = "document.querySelectorAll('*').length"
    before = seen.look(elements)
    took = seconds(lambda: seen.page.click("details.rows > summary"))
    seen.wait("document.querySelector('table.rows tbody tr')")
    after = seen.look(elements)
    assert seen.page.inner_text("details.rows [role=status]") == f"200 of {MANY:,} rows shown"
    sorting = seconds(lambda: seen.page.click("table.rows th button >> text=month"))
    everything = seconds(lambda: seen.page.click("details.rows >> text=Show all rows"))
    size = page.stat().st_size
    print(
        f"{MANY:,} rows, {size:,} bytes, {before:,} elements, {after:,} with the rows open in {took:.2f} s, "
        f"sorted in {sorting:.2f} s, all shown in {everything:.2f} s"
    )
    assert after - before < 200 * 12 and len(seen.look(NUMBERS)) == MANY
    assert len(saved(seen)) == MANY
    assert took < PATIENCE_MS / 1_000 and seen.console == []
