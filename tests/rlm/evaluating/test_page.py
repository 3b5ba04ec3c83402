"""The page of an evaluation, in text and in a real browser: it stands alone, and nothing in it can run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from index_store.index import Index
from rlm.asking.questions import Question
from rlm.cli import main
from rlm.evaluating.cases import Case
from rlm.evaluating.evaluating import Grid, figures_of
from rlm.evaluating.figures import Row
from rlm.evaluating.folder import System
from rlm.evaluating.measures import COSTS, QUALITIES
from rlm.evaluating.page import render
from rlm.limits import Models
from tests.helpers.browser import CONTRAST, HOSTILE, Seen, chromium
from tests.helpers.model_server import MODEL, ModelServer

SMALL = "openai/small-model"
WON = "\n".join(["Two masts.", "", '[boats.txt] "The ketch has two masts."'])


@pytest.fixture(scope="module")
def folder(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation whose questions, answers, ids, file and models' replies are all hostile."""
    made = tmp_path_factory.mktemp("eval")
    cases = [
        {
            "_id": f"../../{HOSTILE}",
            "text": f"How many masts? {HOSTILE}".replace("\ud800", ""),
            "answers": ["two masts"],
        },
        {
            "_id": "b",
            "text": "Which is shorter?",
            "answers": [HOSTILE.replace("\ud800", "")],
            "gold": [{"doc": "one.txt"}],
        },
        {"_id": "c", "text": "What floats?", "answers": ["nine"]},
    ]
    questions = made / "<b onclick=hit=1>.jsonl"
    questions.write_text("".join(json.dumps(case) + "\n" for case in cases))

    def reply(body: dict[str, Any]) -> str:
        if body["model"] == "test-model":
            return HOSTILE.replace("\ud800", "").replace("\x00", "")
        return WON if "masts" in body["messages"][-1]["content"].rpartition("QUESTION")[2] else "nine"

    words = ["eval", str(index.path), str(questions), "-o", str(made / "out"), "--routes", "direct", "-q"]
    with ModelServer(reply) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        assert main([*words, "--models", f"{MODEL},{SMALL}", "--judge", "offline/judge"]) == 0
    return made / "out"


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_page_names_nothing_outside_itself_but_the_pages_of_its_runs(page: str, folder: Path) -> None:
    assert "default-src 'none'" in page
    links = re.findall(r'(?:src|href|action)="([^"#][^"]*)"', page)
    assert len(links) == 6
    for link in links:
        assert re.fullmatch(r"runs/[a-z0-9-]+/[a-z0-9-]+/review\.html", link)
        assert (folder / link).is_file()
    assert "url(" not in page and "@import" not in page


def test_the_names_of_folders_are_ours(folder: Path) -> None:
    made = [path.relative_to(folder) for path in folder.rglob("*")]
    assert all(re.fullmatch(r"[A-Za-z0-9.-]+", part) for path in made for part in path.parts)


def test_text_becomes_no_markup_wherever_it_stands(page: str) -> None:
    assert page.count("<script") == 1 and page.count("</style>") == 1
    assert not re.search(r"<(?:img|iframe|!--|b )|<a [^>]*javascript:", page)
    markup = re.sub(r'<script>.*?</script>|="[^"]*"', "", page, flags=re.DOTALL)
    assert not re.search(r"<[^>]*\son\w+", markup)
    assert not {"\u2028", "\u202e", "\x00", "\x1b"} & set(page)


SYSTEMS = [System("direct", Models()), System("retrieve", Models())]
_VALUES = st.dictionaries(
    st.sampled_from([*QUALITIES, *COSTS]), st.none() | st.floats(0, 1), max_size=len(QUALITIES) + len(COSTS)
)


@given(
    st.sampled_from([None, *QUALITIES]),
    st.lists(st.lists(_VALUES, max_size=3), min_size=2, max_size=2),
    st.sampled_from(["", "Two masts."]),
)
def test_a_page_is_made_of_any_figures_whatever_is_missing(
    index: Index, by: str | None, values: list[list[dict[str, float | None]]], content: str
) -> None:
    cases = [Case(Question(f"q{n}", "How many?"), (), (), "set") for n in range(3)]
    grid = Grid(cases, SYSTEMS)
    object.__setattr__(grid, "by", by)  # whatever the questions allow
    rows = {
        system.name: [
            Row(system.name, case, "runs/a/b", "0" * 64, "answer", content, (), own)
            for case, own in zip(cases, some, strict=False)
        ]
        for system, some in zip(SYSTEMS, values, strict=True)
    }
    page = render(figures_of(index, grid, rows), rows, SYSTEMS)
    assert ('id="frontier"' in page) == (by is not None)


# In a browser


@pytest.fixture(scope="module")
def browser(page: str) -> Iterator[Any]:
    with chromium() as started:
        yield started


def test_a_hostile_evaluation_does_not_run_and_asks_for_nothing(browser: Any, folder: Path) -> None:
    file = folder / "page.html"
    seen = Seen(browser, file)
    seen.look("document.querySelectorAll('details').forEach(part => part.open = true)")
    seen.page.wait_for_timeout(100)
    assert seen.look("typeof window.hit") == "undefined"
    assert seen.console == [] and seen.asked == [file.as_uri()]
    assert seen.look("document.querySelectorAll('script').length") == 1
    assert seen.look("document.querySelectorAll('img, iframe, object, base, form').length") == 0


def test_questions_are_sifted_by_who_won_and_by_words(browser: Any, folder: Path) -> None:
    seen = Seen(browser, folder / "page.html")

    def shown() -> list[str]:
        rows = seen.page.query_selector_all("#questions tbody tr")
        return [row.query_selector("td").inner_text().split("?")[0] for row in rows if row.is_visible()]

    assert len(shown()) == 3
    outcome = seen.page.query_selector(".sift select")
    outcome.select_option("won")
    assert shown() == ["How many masts", "What floats"]
    outcome.select_option("lost")
    assert shown() == ["Which is shorter"]
    outcome.select_option("")
    seen.page.fill(".sift input", "FLOATS")
    assert shown() == ["What floats"] and seen.page.inner_text(".sift output") == "1 of 3"


def test_every_questions_run_is_one_click_away(browser: Any, folder: Path) -> None:
    seen = Seen(browser, folder / "page.html")
    seen.page.click("#questions tbody tr:nth-child(3) .result:nth-of-type(3) a")
    assert seen.page.url.endswith("/review.html")
    assert "What floats?" in seen.page.inner_text("h1") and "nine" in seen.page.inner_text(".answer")


def test_the_page_reads_without_script(browser: Any, folder: Path) -> None:
    seen = Seen(browser, folder / "page.html", java_script_enabled=False)
    assert len(seen.page.query_selector_all("#questions tbody tr")) == 3
    assert seen.page.query_selector("select") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Any, folder: Path, scheme: str) -> None:
    assert Seen(browser, folder / "page.html", color_scheme=scheme).look(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_no_width_scrolls_sideways(browser: Any, folder: Path, width: int) -> None:
    seen = Seen(browser, folder / "page.html", viewport={"width": width, "height": 800})
    seen.look("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert seen.look("document.documentElement.scrollWidth") <= width
