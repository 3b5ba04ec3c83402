"""What a page shows beside the trace itself: the check, the notes of reviewers, who vouches for it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from index_store.terminal import count, one_line
from rlm.audit.checking import Report
from rlm.audit.page.html import Html, join, tag
from rlm.audit.reviewing import TEXT_CHARS, VERDICTS, Note, Review
from rlm.audit.signing import Signature
from rlm.audit.verifying import TakenOut, Verdict

_MOST_NOTES = 1_000
_MOST_SIGNATURES = 100
_TONES = {"accepted": "good", "rejected": "bad", "needs another look": "warn"}

_CHAIN = (
    "It proves that no line was changed, removed, moved or added by anyone who did not also rewrite every line after "
    "it; it does not prove that the whole file was not rewritten: for that, compare the head with one that was kept "
    "elsewhere when the run ended."
)
_SIGNATURE = (
    "It proves that whoever holds the signer's key put that name to this head, and so to every line before it; it does "
    "not prove that what stands there is true, nor when it was signed."
)
_TIMESTAMP = (
    "It proves that the signed statement, and so this head, was there at the time that the authority names; it does "
    "not prove who wrote the trace, nor that it is true."
)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known of a run beside its trace; each may be missing. `passages`: the words of the evidence that the
    report says was lost, by node;
    `rows`: the texts of rows that maps answered, by their ids."""

    report: Report | None = None
    passages: Mapping[str, str] = field(default_factory=dict)
    review: Review | None = None
    signatures: Sequence[Signature] = ()
    rows: Mapping[str, str] = field(default_factory=dict)


def proofs(verdict: Verdict, signatures: Sequence[Signature]) -> Html:
    """What the chain, a signature and a timestamp each prove and what not, and how they stand here."""
    chain = "It is whole here. " if verdict.ok else f"It is not whole here: {one_line(verdict.reason, 500)}. "
    signed = [_signed(one) for one in signatures[:_MOST_SIGNATURES]]
    stamped = [_stamped(one) for one in signatures[:_MOST_SIGNATURES] if one.stamp]
    rows = (
        ("Chain", chain + _CHAIN),
        ("Signature", " ".join([*(signed or ["There is none here."]), _SIGNATURE])),
        ("Timestamp", " ".join([*(stamped or ["There is none here."]), _TIMESTAMP])),
    )
    head = tag("p", "Head ", tag("code", verdict.head, cls="hash"))
    listed = tag("dl", *(tag("div", tag("dt", name), tag("dd", words)) for name, words in rows), cls="facts")
    taken = [tag("li", _taken(one)) for one in verdict.taken_out[:_MOST_NOTES]]
    removed = join([tag("h3", "What was taken out later"), tag("ul", *taken)]) if taken else None
    return tag("div", tag("h3", "What vouches for it, and for what"), listed, head, removed, cls="chain")


def _taken(one: TakenOut) -> str:
    why = one_line(f"by {one.by}: {one.why}", 500)
    return f"{count(one.contents, 'content')} on {one_line(one.at[:10], 10)} {why}"


def _signed(one: Signature) -> str:
    state = "" if one.ok else f": {one_line(one.reason, 500)}"
    if not one.by:
        return f"There is one that cannot be read{state}."
    good = (
        "There is a good one"
        if one.ok
        else "There is one that does not hold,"
        if one.ok is False
        else "There is one"
    )
    return f"{good} by {one_line(one.by, 200)}, who says at {one_line(one.at, 40)}{state}."


def _stamped(one: Signature) -> str:
    assert one.stamp
    holds = {True: "A good one", False: "One that does not hold", None: "One"}[one.stamp.ok]
    return f"{holds} names {one.stamp.at or 'no time'}: {one_line(one.stamp.reason, 500)}."


def notes_by_step(review: Review | None) -> dict[int, list[Note]]:
    """The notes on single events, by their seq."""
    by_step: dict[int, list[Note]] = {}
    for one in review.notes[:_MOST_NOTES] if review else ():
        if one.step is not None:
            by_step.setdefault(one.step, []).append(one)
    return by_step


def noted(one: Note, about: Html | None = None) -> Html:
    """A reviewer's note, with a link to what it is about where that is not where it stands."""
    verdict = tag("span", one.verdict, cls=f"chip {_TONES.get(one.verdict, '')}") if one.verdict else None
    return tag(
        "div",
        tag("p", tag("b", one_line(one.by, 200)), f", {one_line(one.at, 40)} ", about, verdict),
        tag("p", one.text, cls="said") if one.text else None,
        cls="reviewed",
    )


def review_section(verdict: Verdict | None, review: Review | None, folder: str) -> Html:
    """What reviewers said, and a form for a review of one's own, which the page's script brings to life.

    There is none for a trace that is not as it was written: nobody can vouch for that.
    """
    notes = [noted(one, _about(one)) for one in review.notes[:_MOST_NOTES]] if review else []
    wrong = f"Line {review.line} of {review.file.name}: {review.reason}." if review and review.line else ""
    can_review = verdict is not None and (verdict.ok or verdict.only_unclosed)
    return tag(
        "section",
        tag("h2", "Review"),
        *(notes or [tag("p", "No reviewer has noted anything yet.")]),
        tag("p", wrong, cls="doubt") if wrong else None,
        _form(verdict, folder) if can_review and verdict else None,
        id="review",
    )


def _about(one: Note) -> Html:
    if one.step is None:
        return tag("span", "of the run ", cls="meta")
    return tag("span", "of ", tag("a", f"step {one.step}", href=f"#e{one.step}"), " ", cls="meta")


def _form(verdict: Verdict, folder: str) -> Html:
    """A template, so that without the script there is no form that does nothing."""
    choices = [*((one, one) for one in VERDICTS), ("", "no verdict")]
    radios = (
        tag("label", tag("input", type="radio", name="verdict", value=value, checked=not value), f" {words}")
        for value, words in choices
    )
    file = f"review-{verdict.head[:12]}.json"
    command = f"rlm trace note {shlex.quote(folder or 'RUN')} --import {file}"
    return tag(
        "template",
        tag("h3", "Your review"),
        tag(
            "p",
            "Nothing leaves this page. Add notes, save them as a file, and put them beside the trace with",
            tag("code", command, cls="block"),
        ),
        _labelled("review-by", "Your name", tag("input", id="review-by", maxlength=200, autocomplete="name")),
        tag("fieldset", tag("legend", "Verdict"), *radios),
        _labelled(
            "review-step",
            "About step (empty: the whole run)",
            tag("input", id="review-step", inputmode="numeric", maxlength=9, autocomplete="off"),
        ),
        _labelled("review-text", "Note", tag("textarea", id="review-text", rows=4, maxlength=TEXT_CHARS)),
        tag(
            "p",
            tag("button", "Add note", type="button", id="review-add"),
            " ",
            tag("button", "Save as a file", type="button", id="review-save"),
        ),
        tag("p", id="review-said", role="status"),
        tag("ol", id="review-notes"),
        id="reviewing",
        data_head=verdict.head,
        data_file=file,
        data_events=verdict.events,
    )


def _labelled(anchor: str, words: str, field: Html) -> Html:
    return tag("p", tag("label", words, for_=anchor), field, cls="field")
