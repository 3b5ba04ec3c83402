"""Every way to show a run knows every kind of event: as text, as a page, and line by line while it goes on."""

from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from rlm.audit import read, timeline
from rlm.audit.events import EVENTS
from rlm.audit.log import Trace
from rlm.audit.page import render, steps
from rlm.commands import live
from tests.helpers.audit_sample import one_of_each_kind

#: What each place that must know every kind does know, and how it is taught a new one.
PLACES: dict[str, tuple[Callable[[], Collection[str]], str]] = {
    "timeline": (lambda: timeline.STEPS, "give it a line in STEPS of rlm/audit/timeline.py"),
    "page": (lambda: steps.STEPS, "give it a line in STEPS of rlm/audit/page/steps.py"),
    "live": (
        lambda: {*live.LINES, *live.SILENT},
        "give it a line in LINES of rlm/commands/live.py, or name it in SILENT if a person need not see it go by",
    ),
    "examples": (
        lambda: [event.kind for event in one_of_each_kind()],
        "give it an example in one_of_each_kind of tests/helpers/audit_sample.py",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_kind_of_event_is_known(place: str) -> None:
    known, advice = PLACES[place]
    for kind in EVENTS:
        assert kind in known(), f"the kind {kind!r} is missing from the {place}: {advice}"
    extra = set(known()) - set(EVENTS)
    assert not extra, f"give {extra} a row in EVENTS of rlm/audit/events.py, or remove it from the {place}"


def test_no_kind_is_both_silent_and_given_a_line() -> None:
    assert not live.SILENT.intersection(live.LINES)


def test_each_kind_is_shown_by_every_renderer(tmp_path: Path) -> None:
    examples = one_of_each_kind()
    with Trace.open(tmp_path) as trace:
        for event in examples:
            trace.record("0", event)
    events, verdict = read(tmp_path)
    assert verdict.ok
    page, text = render(events, verdict), timeline.show(events, verdict)
    for recorded in events:
        assert f'id="e{recorded["seq"]}"' in page, f"{recorded['kind']} has no place on the page"
    assert text.count(" s  ") >= len(examples), "a kind has no line in the timeline"
    for example in examples:
        line = live.line_of(example.kind, "0", example.fields())
        assert bool(line) == (example.kind in live.LINES)
