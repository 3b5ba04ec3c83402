"""The server's pages in a real browser, over an index that was uploaded, with a scripted model that has a price."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from index_store.terminal import visible
from rlm.limits import Models
from rlm.serving.types import Grant
from tests.helpers.browser import CONTRAST, HOSTILE, Seen, chromium
from tests.helpers.model_server import Body, ModelServer, Step, text_of
from tests.helpers.review_sample import faults
from tests.helpers.rlm_toy import warm_up
from tests.helpers.served import KeyedState, Served, serving, settings_of
from tests.raptor.loading.test_loading import pdf

pytestmark = pytest.mark.slow

#: Where screenshots of all pages are put; none are made without it.
EMBEDDER = Index.__dict__["_embedder"]
SHOTS = os.environ.get("RLM_SCREENSHOTS")
PRICED = "openai/gpt-4o-mini"
QUESTION = "How deep is the harbour of Skerry, and who says so?"
FACT = "The harbour of Skerry is 23 feet deep at the lowest tide."
LAMPS = "Which oil do the lamps burn?"
MARKUP = HOSTILE.encode("utf-8", "ignore").decode().replace("\x00", "").replace("\n", " ")
TOWNS = ("Oakford", "Lune", "Brae", "Holm", "Wick", "Ness", "Garth", "Firth", "Skaill", "Stenness")


def pilots() -> str:
    """A long text with one fact in its middle."""
    lines = [
        f"## Harbour {n}: {town}\n\nThe harbour of {town} has {n + 3} berths and a quay of {40 + n} yards. "
        f"Its pilots take {n + 2} shillings a ship, and more in winter. {town} lies open to the north-west; "
        f"a swell of {n} feet closes it. Boats that draw much wait outside for the flood.\n"
        for n, town in enumerate(TOWNS * 2)
    ]
    return "# The pilots' book\n\n" + "\n".join([*lines[:10], f"## Skerry\n\n{FACT}\n", *lines[10:]])


# -- one server, one model, one index, one browser -------------------------------------------------------------


@dataclass(slots=True)
class Script:
    """What the model says. A question's first reply looks around; its last waits for `gate`."""

    gate: threading.Event = field(default_factory=threading.Event)

    def __call__(self, body: Body) -> str | Step:
        said = "\n".join(text_of(message["content"]) for message in body["messages"])
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        if not any("```python" in text_of(m["content"]) for m in body["messages"] if m["role"] == "system"):
            return "Twenty-three feet."  # to a sub-call
        if LAMPS in said:
            return _cell('hit = context.grep("colza oil")[0]', _cited('"They burn colza oil [1]."', "[hit]"))
        return _cell(*_LOOK) if turn == 0 else Step(_cell(*_ANSWER), until=self.gate)


def _cell(*lines: str) -> str:
    return "I look at the branches first.\n\n```python\n" + "\n".join(lines) + "\n```"


def _cited(content: str, citations: str) -> str:
    return f'answer["content"] = {content}\nanswer["citations"] = {citations}\nanswer["ready"] = True'


_LOOK = (
    "for branch in context.branches('harbour depth'):",
    "    print(context.peek(branch['node'])['label'])",
    "hits = context.search('harbour of Skerry', k=5)",
    "print(context.read(context.grep('onerror')[0]['node']))",
    "print(llm_query('How deep?', nodes=[hits[0]['node']]))",
)
_ANSWER = (
    "def said(words):",
    "    hit = context.grep(words)[0]",
    "    return {'doc': hit['doc'], 'start': hit['start'], 'end': hit['end']}",
    _cited(
        repr(f"It is 23 feet deep [1]; the chart agrees [2]; and a stranger wrote {MARKUP} [3]."),
        "[said('The harbour of Skerry[^.]*[.]'), said('Skerry, 23 feet'), said('onerror')]",
    ),
)


@dataclass(frozen=True, slots=True)
class Web:
    """A server with the index `harbours`, a browser, and the model's script."""

    served: Served
    browser: Any
    script: Script

    def open(self, place: str = "", **settings: Any) -> Seen:
        return Seen(self.browser, f"{self.served.url}/{place}", **settings)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("web")
    warm_up()
    script = Script()
    with ModelServer(script) as model, pytest.MonkeyPatch.context() as patch:
        model.use(patch)
        patch.setattr(
            Index, "_embedder", EMBEDDER
        )  # that of a build, whatever other tests of servers ask with
        with serving(settings_of(folder, models=Models(PRICED))) as served:
            _send(served, folder)
            with chromium() as browser:
                yield Web(served, browser, script)


def _send(served: Served, folder: Path) -> None:
    """Make the index, as a program would."""
    chart = pdf(
        folder / "chart.pdf", "A chart of the north.", "Skerry, 23 feet. Lune, 9 feet.", "Lights and marks."
    )
    files = [
        ("files", ("pilots.md", pilots().encode())),
        ("files", ("chart.pdf", chart.read_bytes())),
        ("files", ("hostile.txt", f"A stranger wrote this. {MARKUP} It ends here.".encode())),
    ]
    with served.client() as client:
        client.timeout = 180
        job = client.post("/api/indexes/harbours/documents", files=files).json()["job"]
        client.get(f"/api/jobs/{job}/events")
        found = client.get(f"/api/jobs/{job}").json()
    assert found["state"] == "done", found


@pytest.fixture
def seen(web: Web) -> Iterator[Seen]:
    """The first page; whatever a test then does, the console stays clean, and no request leaves the server."""
    web.script.gate.clear()
    seen = web.open()
    yield seen
    web.script.gate.set()
    _check_clean(seen, web.served.url)
    seen.page.context.close()


def _check_clean(seen: Seen, url: str) -> None:
    assert seen.console == []
    assert {asked for asked in seen.asked if not asked.startswith((f"{url}/", "data:", "about:"))} == set()
    assert seen.look("window.hit") is None


def ask(seen: Seen, question: str = QUESTION) -> None:
    seen.page.locator("#ask-question").fill(question)
    seen.page.get_by_text("Route, models, limits").click()
    seen.page.get_by_label("Route", exact=True).select_option("rlm")
    seen.page.get_by_role("button", name="Ask", exact=True).click()


def answered(seen: Seen, web: Web) -> None:
    """Ask, and let it be answered at once."""
    web.script.gate.set()
    ask(seen)
    seen.page.locator(".beside .answer").wait_for()


def focused(seen: Seen) -> Any:
    return seen.look("document.activeElement.textContent")


#: The second turn, which waits for the gate.
WAITING = ".steps > .turn.busy:nth-of-type(2)"


# -- asking ----------------------------------------------------------------------------------------------------


def test_a_run_is_watched_and_its_tree_lights_up_before_it_has_ended(seen: Seen) -> None:
    ask(seen)
    page = seen.page
    page.locator(".map .entered").first.wait_for()
    page.locator(WAITING).wait_for()
    assert page.locator(".steps > .turn > header h3").all_inner_texts() == ["Turn 1", "Turn 2"]
    first = page.locator(".steps > .turn").first.inner_text()
    assert "context.branches" in first
    assert "I look at the branches first." in first
    assert "```" not in first
    assert "llm_query" in first
    numbers = dict(
        zip(*(page.locator(f".numbers {name}").all_inner_texts() for name in ("dt", "dd")), strict=True)
    )
    assert numbers["Turns"] == "2"
    assert numbers["Calls"] == "2 + 1 under way"
    assert 0 < float(numbers["Dollars"].removeprefix("$")) < 0.1
    assert page.locator(".beside").count() == 0


def test_a_run_is_cancelled_from_its_page(seen: Seen, web: Web) -> None:
    ask(seen)
    seen.page.locator(WAITING).wait_for()
    seen.page.get_by_role("button", name="Cancel").click()
    seen.page.get_by_text("Cancelled.", exact=True).wait_for()
    assert seen.page.locator(".state").inner_text() == "cancelled"
    with web.served.client() as client:
        assert client.get("/api/jobs").json()[0]["state"] == "cancelled"


def test_a_reload_finds_the_run_that_is_under_way(seen: Seen, web: Web) -> None:
    ask(seen)
    seen.page.locator(WAITING).wait_for()
    seen.page.reload()
    seen.page.locator(".running h2").first.wait_for()
    assert seen.page.locator(".running h2").first.inner_text() == QUESTION
    web.script.gate.set()
    seen.page.locator(".beside .answer").wait_for()


def test_a_connection_that_breaks_is_taken_up_behind_the_last_event(seen: Seen, web: Web) -> None:
    web.script.gate.set()
    asked_from: list[str | None] = []

    def broken(route: Any) -> None:
        asked_from.append(route.request.headers.get("last-event-id"))
        if len(asked_from) > 1:
            route.continue_()
            return
        body = 'id: 0\ndata: {"kind":"note","conversation":"0","text":"so far"}\n\nid: 1\ndata: {"kind"'
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    seen.page.route("**/events", broken)
    ask(seen)
    seen.page.locator(".beside .answer").wait_for()
    assert asked_from == [None, "0"]


def test_a_citation_opens_its_source_at_the_words_and_gives_the_focus_back(seen: Seen, web: Web) -> None:
    answered(seen, web)
    page = seen.page
    page.get_by_role("button", name="Citation 1: ").click()
    mark = page.locator(".pane mark")
    mark.wait_for()
    assert mark.inner_text() == FACT
    assert focused(seen) == FACT
    assert seen.look(WITHIN)  # its box is scrolled to it
    assert page.locator(".pane h2").inner_text() == "The pilots' book"
    page.keyboard.press("Escape")
    assert seen.look("document.activeElement.closest('.citations > li:first-child') !== null")
    assert not page.locator(".pane").is_visible()
    page.get_by_role("button", name="Citation 2", exact=True).click()  # as the answer's own words name it
    page.locator(".pane .chip").wait_for()
    assert page.locator(".pane .chip").inner_text() == "page 2"
    assert page.locator(".pane .page-mark").all_inner_texts() == ["Page 1", "Page 2", "Page 3"]
    page.get_by_role("button", name="Back to citation 2").click()
    assert focused(seen) == "[2]"


WITHIN = """(() => {
  const [mark, box] = ['mark', '.text'].map(n => document.querySelector(`.pane ${n}`).getBoundingClientRect());
  const isScrolled = document.querySelector('.pane .text').scrollTop > 0;
  return isScrolled && mark.top >= box.top && mark.bottom <= Math.min(box.bottom, innerHeight);
})()"""


def test_a_pdf_that_was_uploaded_opens_at_the_page(seen: Seen, web: Web) -> None:
    answered(seen, web)
    page = seen.page
    page.get_by_role("button", name="Citation 2: ").click()
    with page.context.expect_event("response", lambda one: "/sources/" in one.url) as came:
        page.get_by_role("button", name="Open the PDF at page 2").click()
    with web.served.client() as client:
        response = client.get(came.value.url)
        assert response.content.startswith(b"%PDF-")
        assert response.headers["content-type"] == "application/pdf"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert client.get(came.value.url.replace("chart", "other")).status_code == 403


def test_only_a_pdf_that_was_uploaded_for_the_index_is_given_out(web: Web) -> None:
    with web.served.client() as client:
        of_text = {"doc": "pilots.md"}
        assert client.get("/api/indexes/harbours/source", params=of_text).json()["file"] is None
        assert client.post("/api/indexes/harbours/source", params=of_text).status_code == 404
        uploads = web.served.server.settings.uploads / "harbours"
        whole = (uploads / "chart.pdf").read_bytes()
        (uploads / "chart.pdf").write_bytes(b"<script>hit()</script>")
        try:
            told = client.get("/api/indexes/harbours/source", params={"doc": "chart.pdf"}).json()
        finally:
            (uploads / "chart.pdf").write_bytes(whole)
        assert told["file"] is None


def test_a_picture_of_the_tree_has_its_upper_levels_and_the_way_to_any_node(web: Web) -> None:
    with web.served.client() as client:
        tree = client.get("/api/indexes/harbours/tree").json()
        assert tree["level"] == 2
        assert sum(child["leaves"] for child in tree["children"]) >= tree["leaves"]
        below = tree["children"][0]["children"][0]
        paths = client.get("/api/indexes/harbours/paths", params={"node": below["node"]}).json()["paths"]
        way = [step["node"] for step in paths[below["node"]]]
        assert way == [tree["node"], tree["children"][0]["node"], below["node"]]
        assert client.get("/api/indexes/harbours/paths", params={"node": "L9-00001"}).status_code == 404


# -- runs ------------------------------------------------------------------------------------------------------


def test_a_verdict_is_saved_beside_the_trace_and_shown_at_once(seen: Seen, web: Web) -> None:
    answered(seen, web)
    page = seen.page
    page.get_by_role("link", name="Open this run").click()
    page.get_by_label("needs another look").check()
    page.get_by_label("In words").fill("Which tide? <b>Ask</b>.")
    page.get_by_label("Your name").fill("jane")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved").first.wait_for()
    note = page.locator(".notes li").inner_text()
    assert "jane" in note
    assert "Which tide? <b>Ask</b>." in note
    run = seen.look("decodeURIComponent(location.hash.split('/')[2])")
    assert "Which tide?" in (web.served.server.settings.runs / run / "review.jsonl").read_text(
        encoding="utf-8"
    )
    seen.look("location.hash = '#/runs?verdict=needs+another+look&q=skerry'")
    page.get_by_text("1–1 of 1 run").wait_for()
    assert page.locator(".cards .chip").all_inner_texts() == ["answered", "needs another look, jane"]
    page.get_by_label("Words").fill("zeppelin")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("No run is like that.").wait_for()


def test_the_review_page_stands_in_a_frame_without_a_way_out(seen: Seen, web: Web) -> None:
    answered(seen, web)
    page = seen.page
    page.get_by_role("link", name="Open this run").click()
    page.get_by_text("Review page").click()
    frame = page.frame_locator("iframe")
    assert "Skerry" in frame.locator("h1").inner_text()
    assert (
        page.locator("iframe").get_attribute("sandbox")
        == "allow-scripts allow-popups allow-downloads allow-modals"
    )
    assert page.frames[1].evaluate("origin") == "null"


# -- what documents say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    ["#/corpus/harbours/search?q=stranger&mode=lexical", "#/corpus/harbours/text?doc=hostile.txt", "#/runs"],
)
def test_markup_in_a_document_is_shown_and_never_read(seen: Seen, web: Web, place: str) -> None:
    answered(seen, web)  # whose answer has it too
    assert "<img src=x onerror='window.hit=1'>" in seen.page.locator(".answer").inner_text()
    assert "\\u202e" in seen.page.locator(".answer").inner_text()
    seen.look(f"location.hash = '{place}'")
    seen.page.locator(".cards li, .text").first.wait_for()
    shown = seen.page.locator("main").inner_text()
    assert "<img src=x" in shown or place == "#/runs"
    assert "\u202e" not in shown
    assert seen.look("document.querySelectorAll('main img, main script, main iframe').length") == 0


def test_what_acts_without_being_seen_is_written_out_as_everywhere_else(seen: Seen) -> None:
    texts = [
        MARKUP,
        "a\u200bb\u00adc\ufeff\u2066d\u2069\r\ne\tf\x1b[31m\x7f\U000e0041",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f 1\ufe0f\u20e3 a\ufe0f",
    ]
    shown = seen.page.evaluate("texts => import('/dom.js').then(dom => texts.map(dom.visible))", texts)
    assert shown == [visible(text) for text in texts]


def test_a_link_to_another_origin_cannot_be_made(seen: Seen) -> None:
    tried = "href => import('/dom.js').then(dom => dom.h('a', {href}).href).catch(error => error.message)"
    for href in ("javascript:hit=1", "https://example.org/", "//example.org/", "data:text/html,x"):
        assert seen.page.evaluate(tried, href) == "a link leaves this server"


def test_the_corpus_is_wandered_through_from_its_root_to_a_words_place(seen: Seen) -> None:
    page = seen.page
    page.get_by_role("link", name="Corpus").click()
    branch = page.locator(".branches > li").first
    branch.locator("summary").first.click()
    branch.get_by_role("link", name="Go there").first.click()
    page.locator("nav.way").wait_for()
    page.get_by_label("Search", exact=True).fill("lowest tide at Skerry")
    page.get_by_role("button", name="Search").click()
    page.locator(".cards a").first.click()
    page.locator(".text mark").wait_for()
    assert FACT in page.locator(".text mark").inner_text()
    page.get_by_role("link", name="Documents").first.click()
    page.get_by_text("1–3 of 3 documents").wait_for()
    page.get_by_label("Title or id has").fill("chart")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("1–1 of 1 document").wait_for()
    assert "3 pages" in page.locator(".cards li").inner_text()


# -- keys ------------------------------------------------------------------------------------------------------


def test_a_server_with_keys_is_given_one_in_the_page(web: Web, tmp_path: Path) -> None:
    state = KeyedState({"rk-ann": Grant("a1", "ann")})
    harbours = web.served.server.settings.made / "harbours"
    web.script.gate.set()
    with serving(settings_of(tmp_path, harbours, models=Models(PRICED)), state) as keyed:
        seen = Seen(web.browser, f"{keyed.url}/")
        field = seen.page.get_by_role("textbox", name="Key")
        field.fill("rk-none")
        seen.page.get_by_role("button", name="Use this key").click()
        seen.page.get_by_text("does not know the key").wait_for()
        field.fill("rk-ann")
        field.press("Enter")
        seen.page.get_by_text("harbours · 3 documents").wait_for(state="attached")
        ask(seen)
        seen.page.locator(".beside .answer").wait_for()
        seen.page.get_by_role("link", name="Open this run").click()
        assert seen.page.get_by_label("Your name").count() == 0  # the key says whose word it is
        assert seen.page.context.cookies() == []
        assert not any("rk-" in asked for asked in seen.asked)
        refused = "Failed to load resource: the server responded with a status of 401 (Unauthorized)"
        seen.console[:] = [line for line in seen.console if line != refused]
        _check_clean(seen, keyed.url)
        seen.page.context.close()


# -- by keyboard, by every eye ---------------------------------------------------------------------------------


def tab_to(seen: Seen, selector: str, key: str = "Tab") -> None:
    """Press a key until this has the focus; whatever has it on the way can be seen to."""
    for _ in range(150):
        seen.page.keyboard.press(key)
        assert seen.look(FOCUS_SEEN), seen.look("document.activeElement.outerHTML")
        if seen.look(f"document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"the keyboard does not reach {selector}")


FOCUS_SEEN = """(() => {
  const at = document.activeElement;
  return at === document.body || at.tagName === 'IFRAME' || getComputedStyle(at).outlineStyle !== 'none';
})()"""


def test_everything_is_done_by_keyboard_alone(seen: Seen, web: Web, tmp_path: Path) -> None:
    lamps = [tmp_path / f"{name}.txt" for name in ("lamps", "wicks", "towers")]
    for file, words in zip(
        lamps, ("The lamps burn colza oil.", "Wicks are cut daily.", "Nine towers."), strict=True
    ):
        file.write_text(f"{words} Keepers note it in the book of the light.", encoding="utf-8")
    press, web_type, page = seen.page.keyboard.press, seen.page.keyboard.type, seen.page
    web.script.gate.set()

    tab_to(seen, ".skip")
    press("Enter")
    assert seen.look("document.activeElement.id") == "main"
    tab_to(seen, "#ask-question")
    web_type(QUESTION)
    tab_to(seen, ".options summary")
    press("Enter")
    tab_to(seen, ".options select")
    web_type("rlm")
    tab_to(seen, "button.first")
    press("Enter")
    page.locator(".beside .answer").wait_for()
    tab_to(seen, "button.open")
    press("Enter")
    page.locator(".pane mark").wait_for()
    assert focused(seen) == FACT
    press("Escape")
    tab_to(seen, "a[href^='#/runs/']")
    press("Enter")
    page.locator(".review legend").wait_for()
    tab_to(seen, ".review input[type=radio]")
    press("ArrowDown")
    tab_to(seen, ".review textarea")
    web_type("Right, by the chart too.")
    tab_to(seen, ".review button")
    press("Enter")
    page.get_by_text("Saved").first.wait_for()
    assert "accepted" in page.locator(".notes li").first.inner_text()

    tab_to(seen, "nav a[href='#/build']", "Shift+Tab")
    press("Enter")
    page.get_by_role("heading", name="Build").wait_for()
    tab_to(seen, "input[list=build-known]")
    web_type("lights")
    tab_to(seen, "input[type=file]")
    with page.expect_file_chooser() as chooser:
        press("Space")
    chooser.value.set_files(lamps)
    tab_to(seen, "button.first")
    press("Enter")
    page.get_by_text("Built:").wait_for()
    assert "3 documents" in page.locator(".building .seal").inner_text()
    tab_to(seen, ".building a")
    press("Enter")
    page.locator("#ask-index").wait_for()
    assert seen.look("document.getElementById('ask-index').value") == "lights"
    tab_to(seen, "#ask-question")
    press("ControlOrMeta+a")
    web_type(LAMPS)
    press("ControlOrMeta+Enter")
    page.get_by_text("They burn colza oil").first.wait_for()
    tab_to(seen, "button.open")
    press("Enter")
    page.locator(".pane mark").wait_for()
    assert "colza oil" in focused(seen)


PAGES = {
    "ask": ("#/ask", "#ask-question"),
    "runs": ("#/runs", ".cards li"),
    "tree": ("#/corpus/harbours", ".branches li"),
    "documents": ("#/corpus/harbours/documents", ".cards li"),
    "text": ("#/corpus/harbours/text?doc=chart.pdf&start=30&end=60", ".text mark"),
    "search": ("#/corpus/harbours/search?q=swell+at+Lune", ".cards li"),
    "build": ("#/build", "form.card"),
}


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("light", 1360, "light"), ("dark", 1360, "dark"), ("narrow", 420, "dark")]
)
def test_every_page_can_be_read_by_all_and_fits_its_screen(
    web: Web, name: str, width: int, scheme: str
) -> None:
    web.script.gate.clear()
    seen = web.open(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    ask(seen)
    seen.page.locator(WAITING).wait_for()
    seen.page.locator(".map .entered").first.wait_for()
    _look_at(seen, f"{name}-watched", width)
    web.script.gate.set()
    seen.page.get_by_role("button", name="Citation 1: ").click()
    seen.page.locator(".pane mark").wait_for()
    _look_at(seen, f"{name}-answer", width)
    seen.page.get_by_role("link", name="Open this run").click()
    seen.page.locator(".review").wait_for()
    _look_at(seen, f"{name}-run", width)
    for title, (place, part) in PAGES.items():
        seen.look(f"location.hash = '{place}'")
        seen.page.locator(part).first.wait_for()
        _look_at(seen, f"{name}-{title}", width)
    _check_clean(seen, web.served.url)
    seen.page.context.close()


def _look_at(seen: Seen, name: str, width: int) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        seen.page.screenshot(path=Path(SHOTS) / f"{name}.png")
    if "light-" in name:  # from which the others differ in colours and places alone
        assert faults(seen.page) == [], name
        # axe looks into the review page, which lets nobody in; that it was refused is no word of the page's.
        seen.console[:] = [line for line in seen.console if "'postMessage' on 'DOMWindow'" not in line]
    assert seen.page.evaluate(CONTRAST) == [], name
    assert seen.look("document.documentElement.scrollWidth") <= width, name
