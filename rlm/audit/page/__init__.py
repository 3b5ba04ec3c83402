"""A run as one HTML file that stands alone: no network, nothing outside it, nothing from a document can run."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from index_store.terminal import one_line
from rlm.audit.costs import costs
from rlm.audit.events import RecordedEvent
from rlm.audit.page.answer import answer_section
from rlm.audit.page.charts import cost_section
from rlm.audit.page.html import Html, join, tag
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
    return _document(_title(pairs), join([_navigation(), main]))


def _document(title: str, body: Html) -> str:
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(style)),
    ]
    skip = tag("a", "Skip to the answer", href="#answer", cls="skip")
    page = tag("html", tag("head", *head), tag("body", skip, body, tag("script", Html(script))), lang="en")
    return f"<!doctype html>\n{page}\n"


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


def _source(text: str) -> str:
    """The name by which the page's own policy lets this text, and no other, be its style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
