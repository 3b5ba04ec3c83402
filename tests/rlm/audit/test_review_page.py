"""The page with a check, notes and a review in it, that of two runs, and the site of many; most in a real browser."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm import Models, ask
from rlm.audit import read, verify
from rlm.audit.difference import difference
from rlm.audit.page import render, steps
from rlm.audit.page.sides import render_difference
from rlm.audit.page.site import file_of
from rlm.audit.reviewing import add, note, reviewed
from rlm.gateway.offline.registry import register_offline
from tests.helpers.audit_sample import Script, sample_run
from tests.helpers.browser import CONTRAST, HOSTILE, Seen, chromium
from tests.helpers.review_sample import PASSAGE, checked, faults, long_run, sample_beside, seconds, shots
from tests.helpers.thorough import cases
from tests.rlm.audit.conftest import Command

QUESTION = "How many masts has the ketch?"
WRONG = (
    f"context.search({QUESTION!r}, k=6)\ncontext.read('L0-00003')\n"
    'answer["content"] = "It has 7 masts. Apples are heavy [1]."\n'
    'answer["citations"] = [{"node": "L0-00003", "quote": "Maße"}]\nanswer["ready"] = True'
)


def words_of(page: str) -> str:
    plain = re.sub(r"<(?:style|script)>.*?</(?:style|script)>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(plain).split())


@pytest.fixture(scope="module")
def real(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run over the toy index that goes wrong; made before the browser, which keeps the event loop."""
    register_offline("scripted", lambda messages, tokens: f"```python\n{WRONG}\n```")
    runs = tmp_path_factory.mktemp("real")
    models = Models("offline/scripted", "offline/reader")
    return ask(index, QUESTION, route="rlm", models=models, runs=runs).trace


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, form: str) -> tuple[Path, Path]:
    """(the run, its page with a check), in each form."""
    folder = tmp_path_factory.mktemp("sample")
    run = sample_run(folder / "run")
    events, verdict = read(run)
    page = folder / "page.html"
    page.write_text(render(events, verdict, str(run), sample_beside(events)), encoding="utf-8")
    return run, page


@pytest.fixture
def rlm(command: Command) -> Command:
    return command


# In text


def test_the_verdict_stands_at_the_top_with_its_three_strongest_reasons_and_the_coverage(
    sample: tuple[Path, Path],
) -> None:
    head = sample[1].read_text(encoding="utf-8").partition("</header>")[0]
    words = words_of(head)
    assert "By the check: questionable." in words
    shown, _, folded = head.partition("2 more reasons")
    assert all(f"<li>reason {i}</li>" in shown for i in (1, 2, 3)) and "reason 4" in folded
    assert all(part in words for part in ("offered 90 %", "entered 80 %", "read 70 %", "cited 25 %"))


def test_what_was_on_offer_stands_ranked_at_its_step_with_regret_and_verdict(
    sample: tuple[Path, Path],
) -> None:
    run, page = sample
    seq = next(e["seq"] for e in read(run)[0] if e["kind"] == "visited" and len(e["shown"]) > 1)
    text = page.read_text(encoding="utf-8")
    (step,) = re.findall(rf'<details id="e{seq}".*?href="#e{seq}" class="seq"', text, re.DOTALL)
    words = words_of(step)
    assert "questionable rank 5 of 5, regret 0.41" in words
    assert re.search(r"Stourbeck works and bulk water L1-00000, 40 %, passed by", words)
    assert re.search(r"Pensions, leases and tax notes L1-00004, 20 %, taken", words)
    assert "jane" in words and "Why this one?" in words


def test_lost_evidence_is_listed_by_stage_with_its_words_and_sentences_with_their_support(
    sample: tuple[Path, Path],
) -> None:
    text = sample[1].read_text(encoding="utf-8")
    stages = dict(re.findall(r'<details class="sent" data-stage="(.*?)">(.*?)</details>', text, re.DOTALL))
    assert list(stages) == ["not offered", "not cited"]
    assert PASSAGE in stages["not cited"] and "regulator.txt 0–40" in stages["not cited"]
    words = words_of(text)
    assert "1 of 2 sentences without support" in words
    assert "not supported It fell by 9 points. 9 stands nowhere [1]" in words


def test_the_page_says_what_chain_signature_and_timestamp_each_prove_and_what_not(
    sample: tuple[Path, Path],
) -> None:
    words = words_of(sample[1].read_text(encoding="utf-8"))
    for name in ("Chain It is whole here. It proves that", "Signature There is none here. It proves that"):
        assert name in words
    assert "Timestamp There is none here. It proves that" in words
    assert words.count("not prove") == 3


def test_the_command_puts_the_check_the_notes_and_the_lost_words_on_the_page(
    index: Index, real: Path, rlm: Any, tmp_path: Path
) -> None:
    add(real, [note("jane", "rejected"), note("jane", step=2, text="not here")])
    page = tmp_path / "page.html"
    code, out, err = rlm("review", real, "-o", page, "--index", index.path)
    assert (code, out) == (0, f"{page}\n"), err
    text = page.read_text(encoding="utf-8")
    words = words_of(text)
    assert "By the check: questionable." in words and "The ketch has two masts." in words
    assert 'data-stage="not entered"' in text or 'data-stage="not read"' in text
    assert "not here" in words and "rejected" in words
    code, _, _ = rlm("review", real, "-o", page)
    words = words_of(page.read_text(encoding="utf-8"))
    assert code == 0 and "cannot be told without the index" in words
    code, _, err = rlm("review", sample_run(tmp_path / "other"), "-o", page, "--index", index.path)
    assert code == 2 and "another" in err and err.count("\n") == 1


def test_a_signature_that_was_not_checked_is_no_good_one_on_the_page(tmp_path: Path) -> None:
    from rlm.audit.page import Beside
    from rlm.audit.signing import Signature
    from rlm.audit.stamping import Stamped

    events, verdict = read(sample_run(tmp_path))
    stamp = Stamped("2026-01-31T10:00:00+00:00", None, "it was not checked")
    for ok, told in (
        (None, "There is one by jane"),
        (True, "There is a good one by jane"),
        (False, "does not hold"),
    ):
        one = Signature(tmp_path, "jane", "2026-01-31T09:00:00", verdict.head, ok, "because", stamp)
        words = words_of(render(events, verdict, "", Beside(signatures=[one])))
        assert ("Nobody has vouched" in words) is (ok is not True) and (
            "jane has signed this trace" in words
        ) is (ok is True)
        assert told in words and "One names 2026-01-31T10:00:00+00:00: it was not checked" in words


def test_a_site_tells_how_far_it_is(rlm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm.commands.review._TELL_S", -1.0)
    for name in "ab":
        small_run(tmp_path / "runs" / name, "Why?")
    code, _, err = rlm("review", tmp_path / "runs", "-o", tmp_path / "site")
    assert code == 0 and err.splitlines() == ["0 of 2 runs", "1 of 2 runs"]


def test_names_of_pages_are_plain_and_differ(tmp_path: Path) -> None:
    names = ["a", "A", "a/b", "a-b", "../a", "é" * 300, "\udcff", "", '"><script>', "x" * 400]
    files = [file_of(name) for name in names]
    assert len({file.lower() for file in files}) == len(files)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,100}\.html", file) and file[0] != "." for file in files)


# -- the commands' other forms


def small_run(folder: Path, question: str, answer: str = "An answer.", stop: str = "answer") -> Path:
    run = Script(folder)
    run.open(question)
    run.say("user", question)
    run.ask("A reply.", 100, 10)
    run.close(answer, [], stop)
    return folder


def test_two_runs_are_one_page_with_both_sides_and_where_they_part(rlm: Any, tmp_path: Path) -> None:
    a, b = sample_run(tmp_path / "a"), small_run(tmp_path / "b", "Why?")
    page = tmp_path / "both.html"
    code, out, err = rlm("review", a, b, "-o", page)
    assert (code, out) == (0, f"{page}\n"), err
    text = page.read_text(encoding="utf-8")
    assert text.count('id="parting"') == 1 and "Here they part." in text
    words = words_of(text)
    assert "The runs differ." in words and "An answer." in words and "Four and a half points" in words
    assert rlm("review", a, a, "-o", page)[0] == 0
    assert "The runs are the same." in words_of(page.read_text(encoding="utf-8"))
    for wrong in (("--head", "0" * 64), ("--index", a)):
        assert rlm("review", a, b, "-o", page, *wrong)[0] == 2
    assert "3 runs are given" in rlm("review", a, a, a, "-o", page)[2]
    assert "no trace at" in rlm("review", a, tmp_path / "nowhere", "-o", page)[2]


def test_a_folder_of_runs_is_a_site_whose_index_tells_of_each_also_of_broken_ones(
    rlm: Any, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    small_run(runs / "a", f"Who? {HOSTILE}")
    small_run(runs / "deep" / "b", "When?", stop="failed")
    add(runs / "deep" / "b", [note("jane", "accepted")])
    (runs / "empty").mkdir()
    (runs / "empty" / "trace.jsonl").write_bytes(b"")
    (runs / "folder" / "trace.jsonl").mkdir(parents=True)
    site = tmp_path / "out" / "site"
    code, out, err = rlm("review", runs, "-o", site)
    assert (code, out) == (1, f"{site / 'index.html'}\n")
    assert err.startswith("rlm: 1 run with a fault, such as empty:") and err.count("\n") == 1
    index = (site / "index.html").read_text(encoding="utf-8")
    links = [html.unescape(link) for link in re.findall(r'<a href="([^"#]+)"', index)]
    assert len(links) == 3 and all((site / link).is_file() for link in links)
    assert "accepted" in index and "failed" in index and "the trace is empty" in index
    assert index.count("<script") == 1 and not re.search(r"<(?:img|iframe|!--)", index)
    assert rlm("review", runs, "-o", runs / "a" / "trace.jsonl")[0] == 2
    assert rlm("review", tmp_path / "out", "-o", site)[0] == 2  # no run in it


# In a browser


@pytest.fixture(scope="module")
def browser(real: Path) -> Iterator[Any]:
    with chromium() as started:
        yield started


def test_the_page_of_a_real_run_opens_the_evidence_that_it_lost(
    browser: Any, index: Index, real: Path, rlm: Any, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert rlm("review", real, "-o", page, "--index", index.path)[0] == 0
    seen = Seen(browser, page)
    assert not seen.page.is_visible("#check .lost >> nth=0")
    seen.page.click("#check details[data-stage] > summary >> nth=0")
    assert "mizzen" in seen.page.inner_text("#check .lost >> nth=0")
    seen.page.click("#check >> text=questionable,")
    seen.page.click("#check table a >> nth=0")
    seen.wait("document.querySelector('[aria-current=step] .judged')")
    assert seen.console == [] and seen.asked == [page.as_uri()]


def test_steps_are_filtered_and_searched(browser: Any, sample: tuple[Path, Path]) -> None:
    run, page = sample
    seen = Seen(browser, page)
    shown = "[...document.querySelectorAll('#steps .event:not([hidden])')].map(e => e.dataset.kind)"
    every = seen.look(shown)
    assert len(every) == sum(event["kind"] != "budget" for event in read(run)[0])
    seen.page.select_option("#filter-kind", "code_scanned")
    assert set(seen.look(shown)) == {"code_scanned"}
    assert seen.page.inner_text(".tools [role=status]").startswith(f"{every.count('code_scanned')} of ")
    seen.page.select_option("#filter-kind", "")
    seen.page.select_option("#filter-verdict", "questionable")
    assert seen.look(shown) == ["visited"]
    seen.page.select_option("#filter-verdict", "noted")
    assert seen.look(shown) == ["visited"]
    seen.page.select_option("#filter-verdict", "")
    seen.page.select_option("#filter-talk", "0.1")
    assert "visited" not in seen.look(shown) and "model_asked" in seen.look(shown)
    assert seen.look(
        "[...document.querySelectorAll('.event[data-talk=\"0.1\"]')].every(e => e.closest('.child').open)"
    )
    seen.page.click("text=Show all")
    assert seen.look(shown) == every
    seen.page.keyboard.press("/")
    seen.page.keyboard.type("MEMBRANE trains")
    seen.wait("document.querySelector('.tools [role=status]').textContent")
    found = seen.look(
        "[...document.querySelectorAll('#steps .event:not([hidden])')].map(e => e.textContent.toLowerCase())"
    )
    assert 0 < len(found) < len(every) and all("membrane" in text for text in found)
    seen.page.keyboard.press("Escape")
    assert seen.look(shown) == every and seen.console == [] and seen.asked == [page.as_uri()]


def test_a_deep_link_opens_what_it_needs_to_and_shows_what_a_filter_hides(
    browser: Any, sample: tuple[Path, Path]
) -> None:
    run, page = sample
    child = next(e["seq"] for e in read(run)[0] if e["conversation"] == "0.1")
    seen = Seen(browser, page)
    seen.page.select_option("#filter-kind", "visited")
    seen.look(f"location.hash = '#e{child}'")
    seen.wait(f"document.getElementById('e{child}').closest('.event').ariaCurrent === 'step'")
    assert (
        seen.page.is_visible(f"#e{child}") and seen.look("document.getElementById('filter-kind').value") == ""
    )
    other = Seen(browser, page)
    other.page.goto(f"{page.as_uri()}#e{child}")
    other.page.reload()
    assert other.page.is_visible(f"#e{child}")
    budget = next(e["seq"] for e in read(run)[0] if e["kind"] == "budget")
    seen.look(f"location.hash = '#e{budget}'")
    seen.wait(f"document.getElementById('e{budget}').closest('details').open")
    assert seen.console == [] and other.console == []


def test_a_citation_is_clicked_and_keys_go_from_step_to_step(browser: Any, sample: tuple[Path, Path]) -> None:
    seen = Seen(browser, sample[1])
    keys = seen.page.keyboard
    seen.page.click(".answer a.cite >> nth=0")
    assert seen.look("location.hash") == "#c1" and seen.page.is_visible("#c1")
    at = "document.activeElement.querySelector(':scope > .seq')?.textContent"
    seen.look("document.activeElement.blur()")
    walked = []
    for key in ("J", "J", "J", "K"):
        keys.press(f"Shift+{key}")
        walked.append(seen.look(at))
    assert walked == ["0", "1", "2", "1"]
    assert seen.look("getComputedStyle(document.activeElement).outlineStyle") != "none"
    seen.page.select_option("#filter-kind", "visited")
    seen.look("document.activeElement.blur()")
    keys.press("j")
    assert seen.look("document.activeElement.dataset.kind") == "visited"
    keys.press("Escape")
    assert seen.look("document.querySelectorAll('.event[hidden]').length") == 0
    keys.press("?")
    assert seen.page.is_visible("dialog#help") and "search the steps" in seen.page.inner_text("dialog#help")
    keys.press("Escape")
    assert not seen.page.is_visible("dialog#help") and seen.console == []


def test_a_verdict_and_notes_are_saved_on_the_page_and_imported(
    browser: Any, sample: tuple[Path, Path], rlm: Any, tmp_path: Path
) -> None:
    run, page = sample
    seen = Seen(browser, page, accept_downloads=True)
    keys = seen.page.keyboard
    seen.page.click("#review-add")
    assert "your name" in seen.page.inner_text("#review-said")
    seen.page.fill("#review-by", "jane doe")
    seen.page.fill("#review-step", "99999")
    seen.page.fill("#review-text", "x")
    seen.page.click("#review-add")
    assert "There is no step 99999" in seen.page.inner_text("#review-said")
    seen.page.fill("#review-step", "")
    seen.page.fill("#review-text", "")
    step = next(e["seq"] for e in read(run)[0] if e["kind"] == "visited")
    seen.look(f"location.hash = '#e{step}'")
    seen.wait(f"document.querySelector('[aria-current=step] > .seq')?.textContent === '{step}'")
    seen.look("document.activeElement.blur()")
    keys.press("n")
    assert seen.look("document.getElementById('review-step').value") == str(step)
    keys.type('wrong year, see "p. 3" </script>')
    seen.page.click("#review-add")
    seen.page.fill("#review-text", "to be taken away")
    seen.page.click("#review-add")
    seen.page.click("#review-notes li:nth-child(2) button")
    seen.page.check("input[name=verdict][value='needs another look']")
    with seen.page.expect_download() as waiting:
        seen.page.click("#review-save")
    saved = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(saved)
    told = seen.page.inner_text("#review code.block")
    assert told == f"rlm trace note {run} --import {saved.name}"
    assert set(json.loads(saved.read_text(encoding="utf-8"))) == {"head", "notes"}
    assert rlm("trace", "note", run, "--import", saved)[0] == 0
    review = reviewed(run, verify(run).head)
    assert review and [(one.by, one.step, one.verdict, one.text) for one in review.notes] == [
        ("jane doe", step, None, 'wrong year, see "p. 3" </script>'),
        ("jane doe", None, "needs another look", ""),
    ]
    assert seen.console == [] and len(seen.asked) <= 2 and seen.asked[0] == page.as_uri()


def test_hostile_text_beside_a_trace_runs_no_script(browser: Any, form: str, tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", hostile=HOSTILE)
    events, verdict = read(run)
    page = tmp_path / "page.html"
    page.write_text(render(events, verdict, HOSTILE, sample_beside(events, HOSTILE)), encoding="utf-8")
    both = tmp_path / "both.html"
    both.write_text(render_difference(difference(events, events[:9]), (HOSTILE, HOSTILE)), encoding="utf-8")
    for file in (page, both):
        seen = Seen(browser, file)
        seen.unfold()
        seen.page.wait_for_timeout(100)
        assert seen.look("typeof window.hit") == "undefined"
        assert seen.console == [] and seen.asked == [file.as_uri()]
        assert seen.look("document.querySelectorAll('script').length") == 1
        assert seen.look("document.querySelectorAll('img, iframe, object, base, form').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_on_the_page_of_a_run_and_of_two(
    browser: Any, sample: tuple[Path, Path], tmp_path: Path, scheme: str
) -> None:
    both = tmp_path / "both.html"
    runs = (read(sample_run(tmp_path / "a"))[0], read(small_run(tmp_path / "b", "Why?"))[0])
    both.write_text(render_difference(difference(*runs)), encoding="utf-8")
    for name, file in (("run", sample[1]), ("both", both)):
        seen = Seen(browser, file, color_scheme=scheme, bypass_csp=True)
        shots(seen.page, tmp_path, f"{name}-{scheme}")
        assert faults(seen.page) == []
        assert seen.look(CONTRAST) == []
        seen.page.set_viewport_size({"width": 390, "height": 800})
        assert seen.look("document.documentElement.scrollWidth") <= 390


def test_what_speaks_for_and_against_a_run_is_on_paper(browser: Any, sample: tuple[Path, Path]) -> None:
    from tests.rlm.audit.test_page import printed

    _, words = printed(Seen(browser, sample[1]))
    for part in (
        "reason 4",
        PASSAGE,
        "It fell by 9 points.",
        "rank 5 of 5, regret 0.41",
        "Why this one?",
        "passed by",
    ):
        assert part in words, part
    for furniture in ("Search the steps", "Your review", "Note on this step"):
        assert furniture not in words, furniture


def test_the_page_of_two_runs_is_walked_and_told_apart(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "both.html"
    a, b = read(sample_run(tmp_path / "a"))[0], read(small_run(tmp_path / "b", "Why?"))[0]
    page.write_text(render_difference(difference(a, b)), encoding="utf-8")
    seen = Seen(browser, page)
    seen.page.click("header a[href='#parting']")
    assert seen.page.is_visible("#parting")
    seen.page.keyboard.press("j")
    assert seen.look("document.activeElement.id") == "parting"
    seen.page.check("#only")
    assert seen.look("document.querySelectorAll('.aligned tr.same:not([hidden])').length") == 0
    assert seen.console == [] and seen.asked == [page.as_uri()]


def test_a_step_of_a_long_run_is_made_when_it_is_wanted_and_nothing_of_it_is_lost(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.rlm.audit.test_page import printed

    monkeypatch.setattr(steps, "LONG", 150)
    events, verdict, beside = checked(long_run(tmp_path / "run", 200))
    page = tmp_path / "long.html"
    page.write_text(render(events, verdict, "run", beside), encoding="utf-8")
    kept, last = "document.querySelectorAll('#steps noscript').length", events[-2]["seq"]
    step = next(e for e in reversed(events) if e["kind"] == "visited")["seq"]
    seen = Seen(browser, page)
    many = seen.look(kept)
    assert many > 150 and not seen.page.query_selector(f"#e{step}")
    seen.page.keyboard.press("/")
    seen.page.keyboard.type('"L1-00003"')  # stands in nothing but what verbs gave
    seen.page.keyboard.press("Enter")
    seen.wait("document.querySelector('#steps .visit[open]')")
    found = seen.look("document.querySelectorAll('#steps .event:not([hidden])').length")
    assert found == sum(e["kind"] == "visited" for e in events)
    assert "L1-00003" in seen.page.inner_text("[aria-current=step] .visit[open] pre")
    seen.page.keyboard.press("Escape")
    to_last = f"document.querySelector('.seq[href=\"#e{last}\"]').scrollIntoView({{ behavior: 'instant' }})"
    seen.wait(f"({to_last}, document.getElementById('e{last}'))")
    assert 0 < seen.look(kept) < many
    linked = Seen(browser, page)
    linked.page.goto(f"{page.as_uri()}#e{step}")
    linked.page.reload()
    linked.wait(f"document.querySelector('#e{step}:target')?.open")
    assert linked.page.is_visible(f"#e{step} pre") and linked.look(kept) > 0
    linked.page.keyboard.press("Control+f")
    assert linked.look(kept) == 0
    paper, plain = Seen(browser, page), Seen(browser, page, java_script_enabled=False)
    assert printed(paper)[1] == printed(plain)[1] and paper.look(kept) == 0
    assert plain.page.query_selector(f"#e{step}") and plain.page.is_visible(f"#e{last}")
    for one in (seen, linked, paper, plain):
        assert one.console == [] and set(one.asked) <= {page.as_uri(), f"{page.as_uri()}#e{step}"}


@pytest.mark.slow
def test_a_run_of_thousands_of_events_opens_and_stays_smooth(browser: Any, tmp_path: Path) -> None:
    events, verdict, beside = checked(long_run(tmp_path / "run", cases(800, 5_000)))
    page = tmp_path / "long.html"
    page.write_text(render(events, verdict, "run", beside), encoding="utf-8")
    assert page.stat().st_size < 5_000 * len(events)
    seen = Seen(browser, page)
    opened = seen.look("performance.timing.loadEventEnd - performance.timing.navigationStart")
    nodes = seen.look("document.querySelectorAll('*').length")
    print(f"{len(events)} events, {page.stat().st_size:,} bytes, {nodes:,} elements, open in {opened} ms")
    assert nodes < 6 * len(events) and opened < 60_000
    # Of what is not in view nothing is made or laid out: that is what keeps it smooth, on any machine.
    assert seen.look("getComputedStyle(document.querySelector('#steps > .turn')).contentVisibility") == "auto"
    last = events[-2]["seq"]
    took = seconds(lambda: seen.look(f"location.hash = '#e{last}'"))
    seen.wait(f"document.getElementById('e{last}').getBoundingClientRect().top < innerHeight")
    seen.page.select_option("#filter-verdict", "questionable")
    seen.page.fill("#search", "children")
    seen.wait("document.querySelector('.tools [role=status]').textContent.includes(' of ')")
    left = seen.look("document.querySelectorAll('#steps .event:not([hidden])').length")
    assert beside.report
    assert left == sum(step.verdict == "questionable" for step in beside.report.steps) and took < 60
    seen.look("document.activeElement.blur()")
    for _ in range(5):
        seen.page.keyboard.press("j")
    assert seen.look("document.activeElement.dataset.verdict") == "questionable"
    shots(seen.page, tmp_path, "long")
    assert seen.console == [] and seen.asked == [page.as_uri()]


@pytest.mark.slow
def test_a_site_of_many_runs_is_sorted_filtered_and_clicked(browser: Any, rlm: Any, tmp_path: Path) -> None:
    runs, site, many = tmp_path / "runs", tmp_path / "site", cases(70, 200)
    for i in range(many):
        small_run(runs / f"r{i:03}", f"Question {i} of {i % 7}?", stop="failed" if i % 10 == 0 else "answer")
    add(runs / "r042", [note("jane", "rejected")])
    assert rlm("review", runs, "-o", site)[0] == 0
    seen = Seen(browser, site / "index.html", bypass_csp=True)
    shown = "[...document.querySelectorAll('#runs tbody tr:not([hidden])')].map(r => r.cells[0].textContent)"
    assert len(seen.look(shown)) == many
    seen.page.click("#runs th button >> text=Question")
    first = seen.look(shown)
    seen.page.click("#runs th button >> text=Question")
    assert seen.look(shown) == first[::-1] != first
    assert seen.look("document.querySelector('#runs th').ariaSort") == "descending"
    seen.page.select_option("#filter-ended", "failed")
    assert len(seen.look(shown)) == many // 10
    assert f"{many // 10} of {many} runs" in seen.page.inner_text("[role=status]")
    seen.page.select_option("#filter-ended", "")
    seen.page.select_option("#filter-reviewer", "rejected")
    assert "Question 42 of 0?" in seen.look(shown)[0] and len(seen.look(shown)) == 1
    seen.page.select_option("#filter-reviewer", "")
    seen.page.keyboard.press("/")
    seen.page.keyboard.type("question 68")
    assert len(seen.look(shown)) == 1
    shots(seen.page, tmp_path, "site")
    assert faults(seen.page) == [] and seen.look(CONTRAST) == []
    seen.page.click("#runs tbody tr:not([hidden]) a")
    assert seen.page.inner_text("h1") == "Question 68 of 5?"
    seen.page.click("nav >> text=All runs")
    assert len(seen.look(shown)) == many
    assert seen.console == [] and all(url.startswith(site.as_uri()) for url in seen.asked)
