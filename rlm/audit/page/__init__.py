"""A run as one HTML file that stands alone: no network, nothing outside it, nothing from a document can run."""

from collections.abc import Sequence

from index_store.terminal import one_line
from rlm.audit.checking import Step
from rlm.audit.costs import costs
from rlm.audit.events import RecordedEvent
from rlm.audit.page.answer import MOST_CITATIONS, answer_section
from rlm.audit.page.beside import Beside, notes_by_step, review_section
from rlm.audit.page.charts import cost_section
from rlm.audit.page.html import Html, asset, document, join, style, tag
from rlm.audit.page.judged import check_section
from rlm.audit.page.run import header, run_section
from rlm.audit.page.steps import steps_section
from rlm.audit.page.tree import tree_section
from rlm.audit.pairs import Pair, pairs_of
from rlm.audit.routing import places_of
from rlm.audit.verifying import Verdict

__all__ = ["Beside", "render", "style"]

_SECTIONS = (
    ("answer", "Answer"),
    ("check", "Check"),
    ("route", "Route"),
    ("steps", "Steps"),
    ("cost", "Cost"),
    ("run", "Run"),
    ("review", "Review"),
)
_KEYS = (
    ("j", "next turn, or next step that a filter leaves"),
    ("k", "the one before"),
    ("J", "next step"),
    ("K", "the step before"),
    ("/", "search the steps"),
    ("n", "note on this step"),
    ("Esc", "leave the search, and show all steps"),
    ("?", "this list"),
)
_HELP = tag(
    "template",
    tag(
        "dialog",
        tag("h2", "Keys", id="help-title"),
        tag(
            "dl",
            *(tag("div", tag("dt", tag("kbd", key)), tag("dd", what)) for key, what in _KEYS),
            cls="facts",
        ),
        tag("button", "Close", type="button"),
        id="help",
        aria_labelledby="help-title",
    ),
    id="keys",
)
_SKIP = tag("a", "Skip to the answer", href="#answer", cls="skip")


def render(
    events: Sequence[RecordedEvent],
    verdict: Verdict | None = None,
    folder: str = "",
    beside: Beside | None = None,
    home: str = "",
) -> str:
    """The page for the events of one run, as `rlm.audit.read` gives them, with its verdict on the file, its folder,
    and what is known of it beside the trace. `home`: a page that lists this run among others, which it links to.

    They may be those of a stranger, or end early, or be none at all: what is there is shown, and what the verdict says
    of the rest stands at the top.
    """
    beside = beside or Beside()
    report = beside.report
    places = places_of(events)
    anchors = {node: f"n{i}" for i, node in enumerate(places)}
    pairs = pairs_of(events)
    judged: dict[int, list[Step]] = {}
    for step in report.steps if report else ():
        judged.setdefault(step.seq, []).append(step)
    main = tag(
        "main",
        header(pairs, events, verdict, folder, report, beside.signatures),
        answer_section(pairs, events, anchors),
        check_section(report, beside.passages, places, anchors, _cited(pairs)) if report else None,
        tree_section(events, places, anchors),
        steps_section(events, places, anchors, judged, notes_by_step(beside.review), beside.rows),
        cost_section(events, costs(events)),
        run_section(events, verdict, beside.signatures),
        review_section(verdict, beside.review, folder),
        id="top",
    )
    body = join([_SKIP, _navigation(report is not None, home), main, _HELP])
    return document(_title(pairs), body, style(), asset("table.js") + asset("page.js"))


def _navigation(is_checked: bool, home: str) -> Html:
    shown = (part for part in _SECTIONS if is_checked or part[0] != "check")
    links = (tag("a", name, href=f"#{anchor}") for anchor, name in shown)
    top = tag("a", "raptor-rlm", href="#top", cls="home")
    back = tag("a", "All runs", href=home) if home else None
    return tag("nav", top, back, *links, aria_label="Parts of this page")


def _cited(pairs: Sequence[Pair]) -> int:
    """How many citations stand on the page under ids of their own, c1 and on: those of a run with one answer."""
    answered = pairs[0].answered if len(pairs) == 1 else None
    return min(len(answered["citations"]), MOST_CITATIONS) if answered else 0


def _title(pairs: Sequence[Pair]) -> str:
    if not pairs:
        return "Review of a run"
    more = f" and {len(pairs) - 1:,} more · review of a chat" if len(pairs) > 1 else " · review of a run"
    return one_line(pairs[0].question, 80) + more
