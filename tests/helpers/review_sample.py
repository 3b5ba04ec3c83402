"""What a page shows beside a trace, made by hand for the sample run; a long run; and axe-core in the browser."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm.audit import read
from rlm.audit.checking import ClaimCheck, Coverage, Lost, Option, Report, Step
from rlm.audit.checking.findings import StepVerdict
from rlm.audit.events import RecordedEvent
from rlm.audit.page import Beside
from rlm.audit.reviewing import Note, Review
from tests.helpers.audit_sample import Script, children
from tests.helpers.browser import UNFOLD
from tests.helpers.thorough import cases

PASSAGE = "the words of the letter that nobody cited"


def step_of(event: RecordedEvent, regret: float, hostile: str = "") -> Step:
    """The choice at an event that listed nodes, of which the last was taken."""
    nodes = [ref["node"] for ref in event["shown"]]
    options = tuple(Option(node, 0.4 - i / 20, i == len(nodes) - 1) for i, node in enumerate(nodes))
    why = f"{nodes[-1]} ranks {len(nodes)} of {len(nodes)}{hostile}"
    verdict: StepVerdict = "questionable" if regret > 0.3 else "reasonable"
    query = f"why did the margin fall?{hostile}"
    return Step(
        event["seq"], "children", nodes[-1], len(nodes), len(nodes), regret, verdict, why, query, options
    )


def sample_beside(events: Sequence[RecordedEvent], hostile: str = "") -> Beside:
    """A check, notes and passages for the sample run. `hostile`: put wherever text from outside can stand."""
    listed = [event for event in events if event["kind"] == "visited" and len(event["shown"]) > 1]
    regrets = (0.41, 0.02, 0.0)
    steps = tuple(step_of(event, regret, hostile) for event, regret in zip(listed, regrets, strict=False))
    report = Report(
        "questionable",
        tuple(f"reason {i}{hostile}" for i in range(1, 6)),
        Coverage(0.9, 0.8, 0.7, 0.25),
        steps,
        (
            Lost("L0-00004", f"regulator.txt{hostile}", 0, 40, "not cited", f"The letter{hostile}", 0.3),
            Lost("L0-00099", "report.txt", 5, 9, "not offered", "", 0.1),
        ),
        (
            ClaimCheck(f"The margin fell.{hostile}", True, "all of its telling words occur"),
            ClaimCheck("It fell by 9 points.", False, f"9 stands nowhere{hostile}", ("9",), (1,), True),
        ),
    )
    notes = (
        Note("jane", "2026-01-31T10:00:00+00:00", None, listed[0]["seq"], f"Why this one?{hostile}"),
        Note("bob", "2026-01-31T11:00:00+00:00", "rejected"),
    )
    return Beside(report, {"L0-00004": PASSAGE + hostile}, Review(Path("review.jsonl"), notes))


def long_run(folder: Path, events: int) -> Path:
    """A run of a root that goes on looking, of so many events or a few more."""
    run = Script(folder)
    run.open()
    code = "\n".join(
        f"for child in context.children('L2-00000'):\n    print(child['node'], {i})" for i in range(6)
    )
    nodes = children("L2-00000")
    count = 1
    while count < events - 2:
        run.ask(f"Looking again, for the {count}th time.\n```repl\n{code}\n```", 900, 60)
        run.scan(code)
        for _ in range(3):
            run.visit(
                "children", nodes, [{"node": node, "text": "water " * 40} for node in nodes], node="L2-00000"
            )
        run.ran("a line of output\n" * 12)
        count += 7
    run.close("Because.", [])
    return folder


def checked(run: Path) -> tuple[list[RecordedEvent], Any, Beside]:
    """(its events, the verdict on them, what is beside it) of a long run, each choice judged."""
    events, verdict = read(run)
    listed = [event for event in events if event["kind"] == "visited" and len(event["shown"]) > 1]
    steps = tuple(step_of(event, 0.5 if i % 50 == 0 else 0.0) for i, event in enumerate(listed))
    report = Report("questionable", ("one",), Coverage(1.0, 1.0, 1.0, 1.0), steps, (), ())
    return events, verdict, Beside(report)


def faults(page: Any) -> list[str]:
    """The serious faults that axe-core finds on a page with all of it open; the page must let the test's script in."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page.evaluate(UNFOLD)
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical") or one["id"] in ("heading-order", "label")
        for node in one["nodes"]
    ]


def shots(page: Any, folder: Path, name: str) -> None:
    """Screenshots at a wide and at a narrow width, kept with what a thorough test put out: nothing looks at them."""
    for width in cases((), (1400, 420)):
        page.set_viewport_size({"width": width, "height": 1000})
        page.screenshot(path=folder / f"{name}-{width}.png", full_page=True)


def seconds(act: Any) -> float:
    """How long something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
