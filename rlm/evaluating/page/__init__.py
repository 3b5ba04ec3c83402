"""An evaluation as one HTML file beside its runs: what each system scores and costs, and every question's run a click
away.

Built as the review page is: the words of documents, questions and models cannot become markup, and nothing but the
page's own script can run. It links to the review pages of the runs, by names that the evaluation made.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from index_store.terminal import count, one_line
from rlm.audit.costs import in_dollars
from rlm.audit.page import style
from rlm.audit.page.html import Html, document, fold, join, pre, tag
from rlm.evaluating import figures, judging, reach, scoring
from rlm.evaluating.figures import Row, frontier
from rlm.evaluating.folder import System
from rlm.evaluating.measures import COSTS, QUALITIES, REACHED

_SECTIONS = (
    ("systems", "Systems"),
    ("frontier", "Cost and quality"),
    ("sets", "Sets"),
    ("questions", "Questions"),
    ("definitions", "Definitions"),
)
_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BASE = 620, 320, 64, 590, 24, 270
_FEW = 10  # questions, of which no difference is coloured: an interval over so few says little
_TOPS = (0.1, 0.2, 0.5, 1.0)  # of the axis of quality
_SAID = 600  # characters of an answer in the table


def render(
    all_figures: Mapping[str, Any], rows: Mapping[str, Sequence[Row]], systems: Sequence[System]
) -> str:
    """The page. `all_figures`: as figures.json has them; `rows`: of each system, by its name, with the runs to link
    to."""
    f = all_figures
    title = f"{count(f['questions'], 'question')} by {count(len(systems), 'system')}"
    main = tag(
        "main",
        tag("p", "An evaluation", cls="kicker"),
        tag("h1", title),
        tag("p", *_facts(f), cls="meta"),
        _systems(f, systems),
        _frontier(f, systems) if f["by"] else None,
        _sets(f, systems),
        _questions(f, rows, systems),
        _definitions(),
        id="top",
    )
    sections = ((anchor, name) for anchor, name in _SECTIONS if f["by"] or anchor != "frontier")
    links = (tag("a", name, href=f"#{anchor}") for anchor, name in sections)
    nav = tag("nav", tag("a", "raptor-rlm", href="#top", cls="home"), *links, aria_label="Parts of this page")
    skip = tag("a", "Skip to the systems", href="#systems", cls="skip")
    return document(
        f"{title} · evaluation", join([skip, nav, main]), style() + _asset("page.css"), _asset("page.js")
    )


def _facts(f: Mapping[str, Any]) -> Iterator[str]:
    index = f["index"]
    yield f"Index {index['name']}, {count(index['documents'], 'document')}, digest {index['digest'][:12]}. "
    yield (
        f"A question is won or lost by {QUALITIES[f['by']]}. "
        if f["by"]
        else "No question has answers or gold, so none is won or lost. "
    )
    yield f"Citations were judged by {f['judge']}." if f["judge"] else "No model judged citations."


# -- systems -----------------------------------------------------------------------------------------------


def _systems(f: Mapping[str, Any], systems: Sequence[System]) -> Html:
    own = [f["all"][system.name] for system in systems]
    return tag(
        "section",
        tag("h2", "Systems"),
        tag("ol", *(_named(system, number) for number, system in enumerate(systems, 1)), cls="named"),
        _table(
            "Means over the questions, each from 0 to 1. Below a mean: the difference to system 1, with its 95% "
            "interval by a paired bootstrap, and n where not all questions have the figure.",
            _numbered(systems),
            [_row("answered", [_answered(one) for one in own])]
            + [_row(QUALITIES[name], [_quality(one, name) for one in own]) for name in _told(f, systems)],
        ),
        tag("h3", "What a question took"),
        _table(
            "The mean; below: the median, the 95th percentile by nearest rank, and the sum, without a judge's cost.",
            _numbered(systems),
            [_row(words, [_cost(one["cost"][name], name) for one in own]) for name, words in COSTS.items()],
        ),
        id="systems",
    )


def _told(f: Mapping[str, Any], systems: Sequence[System]) -> list[str]:
    """The names of the qualities that any system has."""
    return [name for name in QUALITIES if any(f["all"][s.name]["quality"][name]["n"] for s in systems)]


def _named(system: System, number: int) -> Html:
    unpriced = None if system.is_priced else " (a price is not known: its dollars are too low)"
    return tag("li", tag("span", str(number), cls="numbered"), str(system), unpriced)


def _numbered(systems: Sequence[System]) -> list[Html]:
    return [
        tag("th", tag("span", str(number), cls="numbered", title=str(system)), scope="col")
        for number, system in enumerate(systems, 1)
    ]


def _table(caption: str, heads: Sequence[Html], rows: Sequence[Html]) -> Html:
    table = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", tag("td"), *heads)),
        tag("tbody", *rows),
    )
    return tag("div", table, cls="wide", tabindex="0", role="region", aria_label=caption)


def _row(name: str, cells: Sequence[Html]) -> Html:
    return tag("tr", tag("th", name, scope="row"), *cells)


def _answered(own: Mapping[str, Any]) -> Html:
    stops = ", ".join(f"{stop} {n}" for stop, n in own["stops"].items() if stop != "answer")
    return tag("td", f"{own['answered']:,} of {own['questions']:,}", tag("small", stops) if stops else None)


def _quality(own: Mapping[str, Any], name: str) -> Html:
    value, compared = own["quality"][name], own["against_first"].get(name)
    few = f"n = {value['n']:,}" if value["n"] != own["questions"] else None
    return tag(
        "td",
        _figure(value["mean"]),
        _difference(compared) if compared else None,
        tag("small", few) if few else None,
    )


def _difference(compared: Mapping[str, Any]) -> Html:
    low, high = compared["low"], compared["high"]
    tone = None if compared["n"] < _FEW else "better" if low > 0 else "worse" if high < 0 else None
    return tag("small", tag("span", f"{compared['difference']:+.3f} [{low:+.3f}, {high:+.3f}]", cls=tone))


def _cost(value: Mapping[str, Any], name: str) -> Html:
    if not value["n"]:
        return tag("td", "–")
    parts = {"median": value["median"], "p95": value["p95"], "sum": value["sum"]}
    below = (tag("small", f"{part} {_amount(amount, name)}") for part, amount in parts.items())
    return tag("td", _amount(value["mean"], name), *below, tag("small", f"n = {value['n']:,}"))


def _amount(value: float, name: str) -> str:
    if name == "usd":
        return in_dollars(value)
    return f"{value:,.1f} s" if name == "seconds" else f"{value:,.1f}".removesuffix(".0")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _sets(f: Mapping[str, Any], systems: Sequence[System]) -> Html:
    tables = (
        _table(
            f"{one_line(name, 80)}: means over {count(max(own[s.name]['questions'] for s in systems), 'question')}",
            _numbered(systems),
            [
                _row(
                    QUALITIES[quality],
                    [tag("td", _figure(own[s.name]["quality"][quality]["mean"])) for s in systems],
                )
                for quality in _told(f, systems)
            ],
        )
        for name, own in f["sets"].items()
    )
    return tag("section", tag("h2", "Sets"), tag("div", *tables, cls="beside"), id="sets")


# -- cost and quality --------------------------------------------------------------------------------------


def _frontier(f: Mapping[str, Any], systems: Sequence[System]) -> Html:
    has_price = any(f["all"][s.name]["cost"]["usd"]["sum"] for s in systems) and all(
        s.is_priced for s in systems
    )
    by, name = f["by"], "usd" if has_price else "tokens"
    points: dict[str, tuple[float, float]] = {}
    for number, system in enumerate(systems, 1):
        own = f["all"][system.name]
        if own["quality"][by]["n"] and own["cost"][name]["n"]:
            point = own["cost"][name]["mean"], own["quality"][by]["mean"]
            same = next((at for at, other in points.items() if other == point), "")
            points.pop(same, None)  # two at one place are one dot with both numbers
            points[f"{same}, {number}" if same else str(number)] = point
    words = (
        f"Mean {QUALITIES[by]} against mean {COSTS[name]} of a question; no system beats those on the line"
    )
    shown = (
        tag("figure", tag("figcaption", words), _drawn(points, name, by, words), cls="frontier")
        if points
        else tag("p", "No system has both figures.")
    )
    return tag("section", tag("h2", "Cost and quality"), shown, id="frontier")


def _drawn(points: Mapping[str, tuple[float, float]], name: str, by: str, words: str) -> Html:
    dearest = max(cost for cost, _ in points.values()) or 1.0
    top = next((top for top in _TOPS if top >= max(q for _, q in points.values())), _TOPS[-1])
    best = set(frontier(points))
    place = {
        number: (
            _LEFT + 14 + (_RIGHT - _LEFT - 28) * cost / dearest,
            _BASE - (_BASE - _TOP) * quality / top,
        )
        for number, (cost, quality) in points.items()
    }
    edge = sorted(place[number] for number in best)
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in edge)
    axes = f"M{_LEFT} {_TOP}V{_BASE}H{_RIGHT}"
    ticks = [
        tag(
            "text",
            f"{share * top:g}",
            x=_LEFT - 8,
            y=f"{_BASE - (_BASE - _TOP) * share + 4:.1f}",
            text_anchor="end",
        )
        for share in (0, 0.5, 1)
    ]
    across = [
        tag("text", _amount(0.0, name), x=_LEFT + 14, y=_BASE + 20, text_anchor="middle"),
        tag("text", _amount(dearest, name), x=_RIGHT - 14, y=_BASE + 20, text_anchor="end"),
        tag("text", COSTS[name], x=(_LEFT + _RIGHT) // 2, y=_BASE + 40, text_anchor="middle"),
        tag("text", QUALITIES[by], x=4, y=_TOP - 8),
    ]
    dots = [_dot(number, *place[number], number in best, points[number], name) for number in points]
    return tag(
        "svg",
        tag("path", d=axes, cls="axis"),
        tag("path", d=line, cls="edge"),
        *ticks,
        *across,
        *dots,
        viewBox=f"0 0 {_WIDE} {_HIGH}",
        role="img",
        aria_label=words,
    )


def _dot(number: str, x: float, y: float, is_best: bool, point: tuple[float, float], name: str) -> Html:
    told = f"system {number}: {point[1]:.3f} for {_amount(point[0], name)}"
    return tag(
        "g",
        tag("circle", tag("title", told), cx=f"{x:.1f}", cy=f"{y:.1f}", r=9 + 3 * len(number)),
        tag("text", number, x=f"{x:.1f}", y=f"{y + 4.5:.1f}"),
        cls="point best" if is_best else "point",
    )


# -- questions ---------------------------------------------------------------------------------------------


def _questions(f: Mapping[str, Any], rows: Mapping[str, Sequence[Row]], systems: Sequence[System]) -> Html:
    by_case: dict[str, dict[str, Row]] = {}
    for name, some in rows.items():
        for row in some:
            by_case.setdefault(row.case.id, {})[name] = row
    heads = [
        tag("th", "Question", scope="col"),
        *(tag("th", str(s), scope="col", data_system=s.name) for s in systems),
    ]
    body = (_question(own, systems, f["by"]) for own in by_case.values())
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body))
    box = tag("div", table, cls="wide", tabindex="0", role="region", aria_label="Questions")
    return tag("section", tag("h2", "Questions"), box, id="questions")


def _question(own: Mapping[str, Row], systems: Sequence[System], by: str | None) -> Html:
    case = next(iter(own.values())).case
    answers = "; ".join(case.answers[:5])
    asked = tag(
        "td",
        one_line(case.question.text, 400),
        tag("small", f"given: {one_line(answers, 300)}") if answers else None,
        tag("small", f"{one_line(case.set, 60)} · {one_line(case.id, 80)}"),
        cls="words",
    )
    first = own.get(systems[0].name)
    told: dict[str, list[str]] = {"won": [], "lost": [], "tied": [], "none": []}
    for system in systems:
        row = own.get(system.name)
        if row is None or not row.content:
            told["none"].append(system.name)
        if (outcome := _outcome(row, first, by)) and system is not systems[0]:
            told[outcome].append(system.name)
    cells = (_result(own.get(system.name), first, by) for system in systems)
    marks = {f"data_{name}": " ".join(names) or None for name, names in told.items()}
    return tag("tr", asked, *cells, **marks)


def _outcome(row: Row | None, first: Row | None, by: str | None) -> str:
    ours, theirs = (None if one is None or by is None else one.values.get(by) for one in (row, first))
    if ours is None or theirs is None:
        return ""
    return "won" if ours > theirs else "lost" if ours < theirs else "tied"


def _result(row: Row | None, first: Row | None, by: str | None) -> Html:
    if row is None:
        return tag("td", "not asked", cls="result")
    v = row.values
    tone = {"won": "better", "lost": "worse"}.get(_outcome(row, first, by)) if row is not first else None
    stop = "" if row.stop == "answer" else f"{row.stop}; "
    reached = [name for name in reversed(REACHED) if v.get(name)]
    calls, tokens, usd, seconds = (v.get(name) or 0 for name in ("calls", "tokens", "usd", "seconds"))
    took = f"{count(int(calls), 'call')}, {int(tokens):,} tokens, {in_dollars(usd)}, {seconds:.1f} s"
    return tag(
        "td",
        tag(
            "p",
            tag("span", _figure(v.get(by)), cls=tone) if by else None,
            " ",
            tag("a", "run", href=f"{row.run}/review.html"),
        ),
        tag("p", one_line(row.content, _SAID) or one_line(row.error, 300) or "(no answer)", cls="said"),
        tag("small", f"{stop}{took}"),
        tag("small", f"gold {reached[0] if reached else 'not offered'}") if row.gold else None,
        cls="result",
    )


# -- definitions -------------------------------------------------------------------------------------------


def _definitions() -> Html:
    told = (
        ("Answers", scoring),
        ("Gold and citations", reach),
        ("ALCE", judging),
        ("Over all questions", figures),
    )
    folds = (fold(name, pre((module.__doc__ or "").strip(), "words")) for name, module in told)
    return tag("section", tag("h2", "Definitions"), *folds, id="definitions")


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
