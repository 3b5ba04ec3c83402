"""The verdict on a run: reasonable, questionable, or that it cannot be told, each with its reasons and figures."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from index_store.terminal import count, one_line
from rlm.audit.checking.findings import Findings, Lost, Step

RunVerdict: TypeAlias = Literal["reasonable", "questionable", "cannot tell"]
#: What ended a run that had not finished.
LIMITS = {"budget": "its budget", "turns": "its turns", "timeout": "its time"}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on what is questionable; the page DEFINITIONS.md says what each is a share of, and how it was set.

    `strong`: of the best passage's share, from which a passage is strong; `passages`: strong ones, at most; `cited`: of
    the best passage's share, what the best that are cited must have together; `regret`: of the evidence on offer at a
    step, the most; `on_offer`: of all evidence, below which a step is not judged; `words`: of a sentence's telling
    words that must occur in what it cites; `unsupported`: of the sentences, the most that may lack support by more
    than words; `found`: of the question's words by their rarity, what the best passage must hold to speak against an
    answer that the documents do not hold it.
    """

    strong: float = 0.03
    passages: int = 15
    cited: float = 0.4
    regret: float = 0.3
    on_offer: float = 0.05
    words: float = 0.4
    unsupported: float = 0.5
    found: float = 0.5


DEFAULT = Thresholds()
THRESHOLD_NAMES = tuple(field.name for field in fields(Thresholds))


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one question, and its reasons, the strongest first."""

    verdict: RunVerdict
    reasons: tuple[str, ...]


def judge(found: Findings, thresholds: Thresholds) -> Judged:
    """The verdict on one question. What speaks against a run goes before what speaks for it."""
    against = [*_ended(found), *_evidence_against(found, thresholds), *_claims_against(found, thresholds)]
    doubtful = [step for step in found.steps if step.verdict == "questionable"]
    if against:
        return Judged("questionable", (*against, *_steps_told(doubtful, found.steps)))
    if found.best is None:
        wrong = _steps_told(doubtful, found.steps)
        verdict: RunVerdict = "questionable" if doubtful else "cannot tell"
        return Judged(verdict, (*wrong, *_told_without(found)))
    return Judged("reasonable", (*_evidence_for(found), *_steps_told(doubtful, found.steps)))


def _ended(found: Findings) -> list[str]:
    """What is wrong with how a run ended."""
    if found.has_answer:
        return []
    by = LIMITS.get(found.stop)
    if by:
        return [f"{by} ended the search before there was an answer (stop: {found.stop})"]
    return [f"there is no answer (stop: {one_line(found.stop, 40)})"]


def _evidence_against(found: Findings, thresholds: Thresholds) -> list[str]:
    reached = _reached(found)
    if found.best is None or reached is None or not found.has_answer or found.lacks_evidence:
        return []
    if reached >= thresholds.cited * found.best:
        return []
    share = reached / found.best if found.best else 0.0
    least = f"less than {_percent(thresholds.cited)}"
    told = (
        f"{_best_came_to(found)} has {_percent(share)} of the evidence of the best there is, {least}"
        if found.citations or found.says_not_found or found.is_map
        else "the answer cites nothing"
    )
    worst = f"; {_where_lost(found.lost[0])}" if found.lost else ""
    return [f"{told}{worst}", *_limited(found), *_by_words(found)]


def _reached(found: Findings) -> float | None:
    """What a run is judged by: what it cites, or read where nothing can be cited."""
    return found.best_read if found.says_not_found or found.is_map else found.best_cited


def _by_words(found: Findings) -> list[str]:
    """That the independent search had no vector of the question."""
    told = (
        "the independent search was by words alone: the embedder of the index is not at hand or was not named"
    )
    return [told] if found.by_words else []


def _best_came_to(found: Findings) -> str:
    """The passage by which a run is judged, in words: cited, or read where the answer says that nothing holds it, or is
    what came of a map."""
    if found.is_map:
        return "the best that was read"
    if found.says_not_found:
        return "the answer says that the documents do not hold it, and the best that was read"
    return "the best that is cited"


def _limited(found: Findings) -> list[str]:
    """Whether a limit, or what was there to find, ended the search."""
    if by := LIMITS.get(found.stop):
        return [f"{by} ended the search (stop: {found.stop})"]
    return ["the search ended by itself, neither by a budget nor for want of evidence"]


def _where_lost(lost: Lost) -> str:
    """Where the best of what was lost fell out, in words."""
    words = {
        "not offered": "was never offered",
        "not entered": "was offered and not entered",
        "not read": "was entered and not read",
        "not cited": "was read and not cited",
    }
    place = f"{lost.node} ({one_line(lost.doc, 60)} {lost.start}-{lost.end})"
    return f"the strongest passage that it does not cite, {place}, {words[lost.stage]}"


def _claims_against(found: Findings, thresholds: Thresholds) -> list[str]:
    if not found.claims:
        return []
    hard = [claim for claim in found.claims if claim.hard]
    if len(hard) <= thresholds.unsupported * len(found.claims):
        return []
    first = f'"{one_line(hard[0].text, 100)}": {hard[0].why}'
    have = "has" if len(hard) == 1 else "have"
    return [f"{len(hard)} of {count(len(found.claims), 'sentence')} {have} no support, such as {first}"]


def _evidence_for(found: Findings) -> list[str]:
    cover = found.coverage
    if found.lacks_evidence:
        told = (
            "the answer says that the documents do not hold it, and an independent search finds no strong evidence: "
            f"its best passage holds {_percent(found.asked)} of the question's words by their rarity"
        )
        return [told, "so nothing had to be cited, and coverage is whole", *_by_words(found)]
    cited = (
        "nothing had to be cited, as the run is one map"
        if found.is_map
        else f"{_percent(cover.cited or 0)} is cited"
    )
    told = (
        f"of the evidence that an independent search finds, {_percent(cover.read or 0)} was read and {cited}"
    )
    reached = _reached(found)
    share = 0.0 if not found.best else (reached or 0.0) / found.best
    best = f"{_best_came_to(found)} has {_percent(share)} of the evidence of the best there is"
    by = LIMITS.get(found.stop)
    ended = [f"{by} ended the search (stop: {found.stop})"] if by else []
    return [best, told, *ended, *_by_words(found)]


def _steps_told(doubtful: Sequence[Step], steps: Sequence[Step]) -> list[str]:
    if not doubtful:
        return []
    worst = max(doubtful, key=lambda step: step.regret or 0.0)
    one = "is" if len(doubtful) == 1 else "are"
    return [
        f"{len(doubtful)} of {count(len(steps), 'step')} {one} questionable, most so event {worst.seq}: {worst.why}"
    ]


def _told_without(found: Findings) -> list[str]:
    supported = sum(claim.supported for claim in found.claims)
    claims = (
        [f"{supported} of {count(len(found.claims), 'sentence')} occur in what they cite"]
        if found.claims
        else []
    )
    return [*claims, "no index was given, so what the run could have found is not known"]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
