"""Two runs side by side, as one page: answers, claims, branches, steps with the first that differ marked, cost."""

from collections.abc import Iterator

from index_store.terminal import count, one_line
from rlm.audit.claims import Claim, counted, in_words
from rlm.audit.costs import in_dollars
from rlm.audit.difference import Aligned, Difference, Run, Step
from rlm.audit.page.html import Html, asset, document, fold, join, pre, style, tag

_MOST_CLAIMS, _MOST_BRANCHES = 500, 1_000
_SECTIONS = (
    ("answers", "Answers"),
    ("claims", "Claims"),
    ("branches", "Branches"),
    ("steps", "Steps"),
    ("cost", "Cost"),
)


def render_difference(found: Difference, names: tuple[str, str] = ("A", "B")) -> str:
    """The page of a difference, as `rlm.audit.difference.difference` finds it. `names`: what the runs are called."""
    main = tag(
        "main",
        _header(found, names),
        _section("answers", "Answers", _sides(_answer(found.a), _answer(found.b))),
        _section("claims", "Claims", _sides(*_claims(found))),
        _section("branches", "Branches entered", _sides(*_branches(found))),
        _section("steps", "Steps", *_steps(found)),
        _section("cost", "Cost", _cost(found)),
        id="top",
        cls="both",
    )
    links = (tag("a", name, href=f"#{anchor}") for anchor, name in _SECTIONS)
    nav = tag("nav", tag("a", "raptor-rlm", href="#top", cls="home"), *links, aria_label="Parts of this page")
    skip = tag("a", "Skip to the answers", href="#answers", cls="skip")
    title = f"{one_line(found.a.question, 80)} · two runs side by side"
    return document(title, join([skip, nav, main]), style(), asset("sides.js"))


def _section(anchor: str, title: str, *parts: Html | None) -> Html:
    return tag("section", tag("h2", title), *parts, id=anchor)


def _sides(a: Html, b: Html, head: str = "h3") -> Html:
    """What both have of something, beside each other; on a narrow screen one below the other."""
    named = (tag("div", tag(head, name), side, cls="side") for name, side in (("A", a), ("B", b)))
    return tag("div", *named, cls="sides")


def _header(found: Difference, names: tuple[str, str]) -> Html:
    a, b = found.a, found.b
    questions = (
        tag("h1", one_line(a.question, 2_000))
        if a.question == b.question
        else join([tag("h1", "Two questions"), _sides(tag("p", a.question), tag("p", b.question), "h2")])
    )
    told = f"{found.in_words[0].upper()}{found.in_words[1:]}."
    parting = found.parting
    where = (
        join([" They part at ", tag("a", _place(parting), href="#parting"), "."])
        if parting
        else " Their steps are the same."
    )
    runs = (
        tag("p", tag("b", f"{side} "), tag("code", one_line(name, 300)), cls="meta")
        for side, name in zip("AB", names, strict=True)
    )
    return tag(
        "header",
        tag("p", "Two runs side by side", cls="kicker"),
        questions,
        tag("p", tag("strong", told), where, cls="seal good" if found.is_same else "seal warn", id="same"),
        *runs,
    )


def _place(parting: Aligned) -> str:
    sides = [f"event {step.seq} of {name}" for name, step in (("A", parting.a), ("B", parting.b)) if step]
    return " and ".join(sides)


def _answer(run: Run) -> Html:
    stop = tag("p", f"Ended by {run.stop}." if run.stop else "The trace has no end.", cls="meta")
    words = tag("div", run.answer, cls="answer") if run.answer else tag("p", "There is no answer.")
    return join([words, stop])


def _claims(found: Difference) -> Iterator[Html]:
    for run, other in ((found.a, found.b), (found.b, found.a)):
        items = (_claim(one, one in other.claims) for one in run.claims[:_MOST_CLAIMS])
        yield join([tag("p", counted(run.claims), cls="meta"), tag("ul", *items, cls="supports")])


def _claim(one: Claim, is_shared: bool) -> Html:
    tone = "good" if not one.doubt else "bad" if one.is_missing else "warn"
    return tag(
        "li",
        tag("span", in_words(one.supported), cls=f"chip {tone}"),
        tag("q", one_line(one.quote, 1_000)),
        None if is_shared else tag("strong", "only here"),
    )


def _branches(found: Difference) -> Iterator[Html]:
    for run, other in ((found.a, found.b), (found.b, found.a)):
        theirs = {branch.node for branch in other.branches}
        items = (
            tag(
                "li",
                branch.label or branch.node,
                tag("span", f" {branch.node}", cls="id"),
                None if branch.node in theirs else tag("strong", " only here"),
            )
            for branch in run.branches[:_MOST_BRANCHES]
        )
        yield tag("ol", *items, cls="order") if run.branches else tag("p", "No branch was entered.")


def _steps(found: Difference) -> Iterator[Html]:
    same = sum(step.is_same for step in found.steps)
    yield tag("p", f"{count(len(found.steps), 'step')}, {same:,} of them the same on both sides.", cls="meta")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in ("A", "B"))))
    marked = next((i for i, step in enumerate(found.steps) if not step.is_same), None)
    rows = (_aligned(step, i == marked) for i, step in enumerate(found.steps))
    if found.steps:
        yield tag("table", head, tag("tbody", *rows), cls="aligned")


def _aligned(step: Aligned, is_parting: bool) -> Html:
    mark = tag("p", tag("strong", "Here they part."), cls="doubt") if is_parting else None
    return tag(
        "tr",
        tag("td", mark, _step(step.a) if step.a else tag("span", "no such step", cls="meta")),
        tag("td", _step(step.b) if step.b else tag("span", "no such step", cls="meta")),
        id="parting" if is_parting else None,
        cls="same" if step.is_same else "other",
    )


def _step(step: Step) -> Html:
    name = join(
        [tag("b", step.verb), tag("span", f" event {step.seq}: {one_line(step.arguments, 120)}", cls="meta")]
    )
    came = [tag("p", "What came of it", cls="role"), pre(step.result)] if step.result else []
    return fold(name, pre(step.arguments), *came)


def _cost(found: Difference) -> Html:
    a, b = map(_spent, (found.a, found.b))
    rows = ((name, words, b[name]) for name, words in a.items())
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in ("What", "A", "B"))))
    body = (
        tag("tr", tag("th", name, scope="row"), tag("td", one), tag("td", other)) for name, one, other in rows
    )
    return tag("table", head, tag("tbody", *body))


def _spent(run: Run) -> dict[str, str]:
    return {
        "Model calls": f"{run.usage.calls:,}",
        "Tokens": f"{run.usage.tokens:,}",
        "Cost": in_dollars(run.usage.usd),
        "Time": f"{run.seconds:.1f} s",
        "Events": f"{run.events:,}",
    }
