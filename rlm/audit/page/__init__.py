"""A run as one HTML file that stands alone: no network, nothing outside it, nothing from a document can run."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from index_store.terminal import one_line
from rlm.audit.costs import costs
from rlm.audit.events import RecordedEvent
from rlm.audit.page.answer import answer_section
from rlm.audit.page.charts import cost_section
from rlm.audit.page.html import Html, document, join, tag
from rlm.audit.page.run import header, run_section
from rlm.audit.page.steps import steps_section
from rlm.audit.page.tree import tree_section
from rlm.audit.pairs import Pair, pairs_of
from rlm.audit.routing import places_of
from rlm.audit.verify import Verdict

__all__ = ["render"]

_SECTIONS = (
    ("answer", "Answer"),
    ("route", "Route"),
    ("steps", "Steps"),
    ("cost", "Cost"),
    ("run", "Run"),
)
_SKIP = tag("a", "Skip to the answer", href="#answer", cls="skip")


def render(events: Sequence[RecordedEvent], verdict: Verdict | None = None, folder: str = "") -> str:
    """The page for the events of one run, as `rlm.audit.read` gives them, with its verdict on the file, and its folder.

    Everything on the page comes from the events. They may be those of a stranger, or end early, or be none at
    all: what is there is shown, and what the verdict says of the rest stands at the top.
    """
    places = places_of(events)
    anchors = {node: f"n{i}" for i, node in enumerate(places)}
    pairs = pairs_of(events)
    main = tag(
        "main",
        header(pairs, events, verdict, folder),
        answer_section(pairs, events, anchors),
        tree_section(events, places, anchors),
        steps_section(events, anchors),
        cost_section(events, costs(events)),
        run_section(events, verdict),
        id="top",
    )
    return document(_title(pairs), join([_SKIP, _navigation(), main]), style(), _asset("page.js"))


def style() -> str:
    """The style of our pages."""
    return _asset("page.css")


def _navigation() -> Html:
    links = (tag("a", name, href=f"#{anchor}") for anchor, name in _SECTIONS)
    return tag(
        "nav", tag("a", "raptor-rlm", href="#top", cls="home"), *links, aria_label="Parts of this page"
    )


def _title(pairs: Sequence[Pair]) -> str:
    if not pairs:
        return "Review of a run"
    more = f" and {len(pairs) - 1:,} more · review of a chat" if len(pairs) > 1 else " · review of a run"
    return one_line(pairs[0].question, 80) + more


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
