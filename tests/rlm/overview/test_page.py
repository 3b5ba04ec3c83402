"""The page of an overview: hostile text stays text, the map is true, and it works in a real browser."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from index_store.areas import Area
from rlm.overview.page import boxes, render, squarified
from tests.helpers.browser import CONTRAST, HOSTILE, Seen, chromium

LABELS = [HOSTILE, "Boats and masts", "", "x" * 4_000, "שלום \u202e עולם"]


def area(number: int, chars: int, inside: tuple[Area, ...] = (), more: int = 0) -> Area:
    label = LABELS[number % len(LABELS)]
    names, dates = ((HOSTILE, "Ketch"), ("2019", "2021-02")) if number % 2 else ((), ())
    level = 0 if not inside else 1 + max(one.level for one in inside)
    return Area(
        f"L{level}-{number:05d}", level, label, chars / 40_000, 3, 9, chars, names, dates, inside, more
    )


@pytest.fixture(scope="module")
def whole() -> Area:
    parts = [
        area(100 + n, 4_000 - 500 * n, tuple(area(10 * n + i, 300 - 10 * i) for i in range(6)), 4)
        for n in range(7)
    ]
    return area(999, 40_000, tuple(parts), 31)


@pytest.fixture(scope="module")
def page(whole: Area) -> str:
    return render(whole, HOSTILE, lambda node: f"{node} {HOSTILE}" * 3)


@pytest.fixture(scope="module")
def file(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overview") / "page.html"
    path.write_text(page, encoding="utf-8")
    return path


def test_text_becomes_no_markup_wherever_it_stands(page: str) -> None:
    assert page.count("<script") == 1 and page.count("</style>") == 1
    assert "<script></script>" in page, "the page has a script of its own"
    assert not re.search(r"<(?:img|iframe|!--|b )|<a [^>]*javascript:", page)
    markup = re.sub(r'="[^"]*"', "", page)
    assert not re.search(r"<[^>]*\son\w+", markup)
    assert not {"\u2028", "\u202e", "\x00", "\x1b"} & set(page)


def test_what_is_not_told_is_counted(page: str) -> None:
    assert "and 31 more areas inside L2-00999" in page
    assert page.count("and 4 more areas inside") == 7


def test_an_area_without_parts_is_a_page_too() -> None:
    page = render(area(2, 10), "one", lambda node: "words")
    assert 'id="map"' not in page and "nothing inside" in page


sizes = st.lists(st.floats(1, 1e9), min_size=1, max_size=20).map(lambda some: sorted(some, reverse=True))


@given(sizes, st.floats(20, 1_000), st.floats(20, 1_000))
def test_rectangles_have_the_shares_that_they_stand_for_and_do_not_overlap(
    some: list[float], width: float, height: float
) -> None:
    made = squarified(some, 5.0, 7.0, width, height)
    assert len(made) == len(some)
    for size, (left, top, w, h) in zip(some, made, strict=True):
        assert w * h == pytest.approx(width * height * size / sum(some), rel=1e-3)
        assert left >= 5 - 1e-3 and top >= 7 - 1e-3
        assert left + w <= 5 + width + 1e-3 and top + h <= 7 + height + 1e-3
    for (a, b, w, h), (c, d, v, u) in combinations(made, 2):
        across, down = min(a + w, c + v) - max(a, c), min(b + h, d + u) - max(b, d)
        assert min(across, down) < 1e-3


def test_a_box_is_as_large_as_the_text_of_its_area(whole: Area) -> None:
    outer = [box for box in boxes(whole) if box.depth == 1]
    assert sum(box.more for box in outer) == 31
    largest = max(outer, key=lambda box: box.area.chars if box.area else 0)
    for box in outer:
        chars = box.area.chars if box.area else 40_000 - sum(one.chars for one in whole.inside)
        assert box.width * box.height / (largest.width * largest.height) == pytest.approx(chars / 4_000)


# -- in a browser ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(page: str) -> Iterator[Any]:
    with chromium() as started:
        yield started


def test_a_hostile_overview_does_not_run_and_asks_for_nothing(browser: Any, file: Path) -> None:
    seen = Seen(browser, file)
    seen.look("document.querySelectorAll('details').forEach(part => part.open = true)")
    seen.page.wait_for_timeout(100)
    assert seen.look("typeof window.hit") == "undefined"
    assert seen.console == [] and seen.asked == [file.as_uri()]
    assert seen.look("document.querySelectorAll('img, iframe, object, base, form').length") == 0


def test_the_keyboard_leads_from_the_map_to_an_area(browser: Any, file: Path) -> None:
    seen = Seen(browser, file, reduced_motion="reduce")
    seen.look("document.querySelector('.map a').focus()")
    seen.page.keyboard.press("Enter")
    at = seen.look("location.hash.slice(1)")
    assert at.startswith("a-L1-")
    assert seen.look("document.querySelector(':target').id") == at
    top = seen.look("document.querySelector(':target').getBoundingClientRect().top")
    assert 0 <= top < 800
    stops = seen.look("document.querySelectorAll('.map a:not([tabindex=\"-1\"])').length")
    assert stops == 7, "the parts inside an area are no stops on the way: the list has them"


def test_a_summary_opens_by_the_keyboard(browser: Any, file: Path) -> None:
    seen = Seen(browser, file, java_script_enabled=False)
    seen.page.locator("#areas summary").first.press("Enter")
    assert seen.page.locator("#areas details[open] pre").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Any, file: Path, scheme: str) -> None:
    assert Seen(browser, file, color_scheme=scheme).look(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_no_width_scrolls_sideways(browser: Any, file: Path, width: int) -> None:
    seen = Seen(browser, file, viewport={"width": width, "height": 800})
    seen.look("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert seen.look("document.documentElement.scrollWidth") <= width


def test_words_of_the_map_stay_inside_their_boxes(browser: Any, file: Path) -> None:
    seen = Seen(browser, file)
    outside = seen.look(
        """[...document.querySelectorAll('.map a, .map g')].filter(box => {
          const around = box.querySelector('rect').getBoundingClientRect();
          return [...box.querySelectorAll('text')].some(text => {
            const words = text.getBoundingClientRect();
            return words.bottom > around.bottom + 2 || words.left < around.left;
          });
        }).length"""
    )
    assert outside == 0
