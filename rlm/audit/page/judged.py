"""The check on the page: its verdict at the top, its lists, and at each step that it judged what was on offer there."""

from collections.abc import Iterator, Mapping, Sequence

from index_store.terminal import count, one_line
from rlm.audit.checking import ClaimCheck, Coverage, Lost, Option, Report, Step
from rlm.audit.page.html import Html, fold, join, pre, stowed, tag
from rlm.audit.routing import Place

TONES = {"reasonable": "good", "questionable": "warn", "cannot tell": "unknown"}
_TITLES = {
    "reasonable": "By the check: reasonable.",
    "questionable": "By the check: questionable.",
    "cannot tell": "By the check: it cannot be told whether this was reasonable.",
}
_STAGES = {
    "not offered": "never offered",
    "not entered": "offered, not entered",
    "not read": "entered, not read",
    "not cited": "read, not cited",
}
_SEARCHED = "What was on offer is ranked by an independent search of the index, not by what the run recorded."
_RECORDED = (
    "What was on offer is ranked by what the run itself recorded, as there was no index of it to search."
)
_HOW = "What each figure means, with its formula, is printed by rlm trace check --definitions."
_SHARES = ("offered", "entered", "read", "cited")
_FIRST, _MOST_REASONS = 3, 100
_MOST_OPTIONS, _MOST_STEPS, _MOST_LOST, _MOST_CLAIMS = 12, 1_000, 500, 1_000


def verdict_on_run(report: Report) -> Html:
    """The verdict with its three strongest reasons, the others folded, and the coverage."""
    reasons = [tag("li", one_line(reason, 1_000)) for reason in report.reasons[:_MOST_REASONS]]
    rest = reasons[_FIRST:]
    more = fold(f"{count(len(rest), 'more reason')}", tag("ol", *rest, start=_FIRST + 1), cls="sent")
    return tag(
        "div",
        tag("p", tag("strong", _TITLES[report.verdict]), cls=f"seal {TONES[report.verdict]}"),
        tag("ol", *reasons[:_FIRST], cls="reasons"),
        more if rest else None,
        _covered(report.coverage),
        id="verdict",
        cls="judgement",
    )


def _covered(coverage: Coverage) -> Html:
    shares = [(name, getattr(coverage, name)) for name in _SHARES]
    if any(share is None for _, share in shares):
        return tag("p", "How much of the evidence it covered cannot be told without the index.", cls="meta")
    bars = (
        tag(
            "li",
            tag("span", name),
            tag("meter", min=0, max=1, value=f"{share:.4f}", aria_label=f"{name}: {_percent(share)}"),
            tag("b", _percent(share)),
        )
        for name, share in shares
    )
    told = "Of the evidence that an independent search of the whole index finds:"
    return tag("div", tag("p", told, cls="meta"), tag("ul", *bars, cls="coverage"))


def check_section(
    report: Report,
    passages: Mapping[str, str],
    places: Mapping[str, Place],
    anchors: Mapping[str, str],
    cited: int = 0,
) -> Html:
    """The steps that were judged, the evidence that was lost, and the sentences of the answer with their support.

    `passages`: the words of what was lost, by its node; `places`, `anchors`: each node of the trace, and its HTML id;
    `cited`: how many citations a sentence can link to, 0 in a chat, which has several first ones.
    """
    return tag(
        "section",
        tag("h2", "Check"),
        tag("p", f"{_RECORDED if report.coverage.cited is None else _SEARCHED} {_HOW}", cls="meta"),
        tag("h3", "Steps judged"),
        _steps(report.steps),
        tag("h3", "Evidence that was lost"),
        _lost(report, passages, anchors),
        tag("h3", "Sentences of the answer"),
        _claims(report.claims, cited),
        id="check",
    )


def _steps(steps: Sequence[Step]) -> Html:
    if not steps:
        return tag("p", "At no step was there a choice that can be judged.")
    names = ("Step", "Choice", "Taken", "Rank", "Regret", "Verdict")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    rows = (tag("tr", *(tag("td", cell) for cell in _step_cells(step))) for step in steps[:_MOST_STEPS])
    doubtful = sum(step.verdict == "questionable" for step in steps)
    unknown = sum(step.verdict == "cannot tell" for step in steps)
    words = f"{count(len(steps), 'step')}: {doubtful:,} questionable, {unknown:,} that cannot be told"
    table = tag("div", tag("table", head, tag("tbody", *rows)), cls="wide")
    return fold(words, stowed(table), cls="sent")


def _step_cells(step: Step) -> Iterator[str]:
    yield tag("a", f"event {step.seq}", href=f"#e{step.seq}")
    yield step.choice
    yield step.taken or "nothing"
    yield f"{step.rank or '–'} of {step.of}"
    yield "–" if step.regret is None else f"{step.regret:.2f}"
    yield _chip(step.verdict)


def _lost(report: Report, passages: Mapping[str, str], anchors: Mapping[str, str]) -> Html:
    if report.coverage.cited is None:
        return tag("p", "What could have been found is not known without the index.")
    if not report.lost:
        return tag("p", "Every strong passage is cited.")
    parts = []
    for stage, words in _STAGES.items():
        lost = [one for one in report.lost if one.stage == stage]
        items = (tag("li", _lost_one(one, passages, anchors)) for one in lost[:_MOST_LOST])
        title = f"{count(len(lost), 'passage')} {words}"
        parts += [fold(title, tag("ul", *items, cls="lost"), cls="sent", data_stage=stage)] if lost else []
    return join(parts)


def _lost_one(lost: Lost, passages: Mapping[str, str], anchors: Mapping[str, str]) -> Html:
    name = lost.label or lost.node
    anchor = anchors.get(lost.node)
    place = f" {lost.node}, {lost.doc} {lost.start}–{lost.end}, {_percent(lost.share)} of all evidence"
    words = passages.get(lost.node)
    return join(
        [
            tag("a", name, href=f"#{anchor}") if anchor else tag("b", name),
            tag("span", place, cls="meta"),
            pre(words, "words") if words else None,
        ]
    )


def _claims(claims: Sequence[ClaimCheck], cited: int) -> Html:
    if not claims:
        return tag("p", "There is no sentence to check.")
    items = (
        tag(
            "li",
            tag(
                "span",
                "supported" if one.supported else "not supported",
                cls=f"chip {'good' if one.supported else 'bad' if one.hard else 'warn'}",
            ),
            tag("q", one_line(one.text, 1_000)),
            tag("span", one_line(one.why, 500), cls="meta"),
            *(tag("a", f" [{number}]", href=f"#c{number}") for number in one.citations if number <= cited),
        )
        for one in claims[:_MOST_CLAIMS]
    )
    lacking = sum(not one.supported for one in claims)
    words = f"{lacking:,} of {count(len(claims), 'sentence')} without support"
    return join([tag("p", words, cls="meta"), tag("ul", *items, cls="supports")])


def judged_step(step: Step, places: Mapping[str, Place], anchors: Mapping[str, str]) -> Html:
    """What the check says of one step: its verdict and why, its rank and regret, and all that was on offer, ranked."""
    regret = "" if step.regret is None else f", regret {step.regret:.2f}"
    rank = f"rank {step.rank} of {step.of}" if step.rank else f"none of {step.of} taken"
    is_doubtful = step.verdict == "questionable"
    return tag(
        "div",
        tag("p", _chip(step.verdict), tag("b", f" {rank}{regret}")),
        tag("p", step.why, cls="meta"),
        fold(
            f"What was on offer ({step.choice}), best first",
            tag("p", "Ranked for: ", tag("q", one_line(step.query, 300)), cls="meta") if step.query else None,
            _options(step.offered, places, anchors),
            cls="sent" if is_doubtful else "sent aside",
        )
        if step.offered
        else None,
        cls=f"judged {TONES[step.verdict]}",
    )


def _options(offered: Sequence[Option], places: Mapping[str, Place], anchors: Mapping[str, str]) -> Html:
    ranked = list(enumerate(offered, 1))
    taken = [(rank, one) for rank, one in ranked[_MOST_OPTIONS:] if one.taken]
    listed = [*ranked[:_MOST_OPTIONS], *taken[:_MOST_OPTIONS]]
    items = (_option(rank, one, places, anchors) for rank, one in listed)
    left = len(offered) - len(listed)
    return join(
        [tag("ol", *items, cls="offered"), tag("p", f"and {left:,} more", cls="meta") if left else None]
    )


def _option(rank: int, one: Option, places: Mapping[str, Place], anchors: Mapping[str, str]) -> Html:
    """A node on offer, as few elements as can be: a long run has very many."""
    place = places.get(one.node)
    label = (place.label if place else "") or one.node
    anchor = anchors.get(one.node)
    name = tag("a", label, href=f"#{anchor}") if anchor else label
    standing = "taken" if one.taken else "passed by"
    words = f" {one.node}, {_percent(one.mass)}, {standing}"
    return tag("li", name, words, value=rank, cls="taken" if one.taken else None)


def _chip(verdict: str) -> Html:
    return tag("span", verdict, cls=f"chip {TONES[verdict]}")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
