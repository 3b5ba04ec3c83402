"""The index of a static site of many runs: a table that its reader sorts and filters."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from index_store.terminal import count, one_line
from rlm.audit.costs import in_dollars
from rlm.audit.listing import BROKEN, Listed
from rlm.audit.page.html import Html, asset, document, join, style, tag
from rlm.audit.page.judged import TONES

INDEX = "index.html"
_NOT_VERIFIED = (
    "Who signed is told as the statements say; the page of each run says what was checked of that."
)


@dataclass(frozen=True, slots=True)
class Row:
    """A run in the table. `file`: of its page, beside the index, '' where none could be made; `checked`, `coverage`:
    what the check found; `is_whole`: its trace is as it was written; `problem`: why not, or why there is no page."""

    listed: Listed
    name: str
    file: str
    checked: str | None = None
    coverage: float | None = None
    is_whole: bool = False
    problem: str = ""


def file_of(name: str) -> str:
    """The file of the page of a run with this name, a path below the folder of runs: one that any system can have."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "run"
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}.html"


_COLUMNS = ("Question", "Started", "Ended", "Cost", "Coverage", "Check", "Reviewer", "Signer", "Trace")


def site_index(rows: Sequence[Row], folder: str) -> str:
    """The page with the table of all runs of a folder."""
    title = f"{count(len(rows), 'run')} in {one_line(Path(folder).name or folder, 80)}"
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in _COLUMNS)))
    table = tag("table", tag("caption", title, cls="unseen"), head, tag("tbody", *map(_row, rows)), id="runs")
    main = tag(
        "main",
        tag("header", tag("p", "Review of runs", cls="kicker"), tag("h1", title)),
        _filters(rows),
        # It scrolls by itself on a narrow screen; its links make it reachable by the keyboard.
        tag("div", table, cls="wide"),
        tag("p", _NOT_VERIFIED, cls="meta"),
        id="top",
    )
    skip = tag("a", "Skip to the runs", href="#runs", cls="skip")
    return document(title, tag("div", skip, main, cls="whole"), style(), asset("table.js") + asset("site.js"))


def _filters(rows: Sequence[Row]) -> Html:
    """What filters the table: a template, so that without the script nothing stands there idle."""
    selects = (
        ("Ended", sorted({row.listed.stop for row in rows})),
        ("Check", sorted({row.checked for row in rows if row.checked})),
        ("Reviewer", sorted({row.listed.verdict for row in rows if row.listed.verdict})),
        ("Signer", sorted({row.listed.signer for row in rows if row.listed.signer})),
    )
    search = tag("input", type="search", id="search", autocomplete="off", spellcheck="false")
    return tag(
        "template",
        tag("span", tag("label", "Search the runs", for_="search"), search),
        *(_select(name, values) for name, values in selects if values),
        id="filters",
    )


def _select(name: str, values: Sequence[str]) -> Html:
    anchor = f"filter-{name.lower()}"
    options = (tag("option", one_line(value, 60), value=value) for value in values[:500])
    select = tag(
        "select", tag("option", "all", value=""), *options, id=anchor, data_column=_COLUMNS.index(name)
    )
    return tag("span", tag("label", name, for_=anchor), select)


def _row(row: Row) -> Html:
    return tag("tr", *_cells(row))


def _cells(row: Row) -> Iterator[Html]:
    one = row.listed
    title = one_line(one.question or row.name, 300)
    link = tag("a", title, href=quote(row.file)) if row.file else tag("span", title)
    yield tag("th", link, tag("span", f" {one_line(row.name, 120)}", cls="meta"), scope="row")
    yield _cell((one.started or "")[:16].replace("T", " "), one.started or "")
    yield _cell(one.stop)
    yield _cell("" if one.cost is None else in_dollars(one.cost), one.cost)
    yield _cell("" if row.coverage is None else f"{100 * row.coverage:.0f} %", row.coverage)
    yield _cell(row.checked or "", row.checked or "", TONES.get(row.checked or "", ""))
    yield _cell(one.verdict or "", one.verdict or "")
    yield _cell(one.signer or "", one.signer or "")
    problem = one_line(row.problem or one.problem or BROKEN, 300)
    yield _cell("whole" if row.is_whole else problem, tone="" if row.is_whole else "bad")


def _cell(words: str, value: str | float | None = None, tone: str = "") -> Html:
    """A cell, and the value by which it is sorted and filtered: a number where `value` is one, else its words."""
    shown: Html | str = tag("span", words, cls=f"chip {tone}") if tone and words else one_line(words, 300)
    if isinstance(value, int | float):
        return tag("td", shown, data_number=f"{value:.10g}")
    return tag("td", join([shown]), data_value=words if value is None else value)
