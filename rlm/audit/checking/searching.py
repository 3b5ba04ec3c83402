"""What a check finds of one question: with the index by searching it anew, without it by what the run recorded."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from index_store.errors import IndexStoreError
from index_store.index import Index
from index_store.search import chunks_in
from rlm.audit.checking.evidence import Evidence, evidence_for, held_by, strong_passages
from rlm.audit.checking.findings import ClaimCheck, Coverage, Findings, Step
from rlm.audit.checking.mapped import tallied
from rlm.audit.checking.reached import Record, Trail, coverage_of, lost_in, trail_of
from rlm.audit.checking.sentences import NOT_FOUND, checked_claims
from rlm.audit.checking.shown import areas_shown
from rlm.audit.checking.steps import Offer, judged, offers_of, prompts_of
from rlm.audit.checking.verdict import Thresholds
from rlm.audit.claims import STANDING
from rlm.audit.events import MAX_NUMBER, RecordedEvent
from rlm.audit.given import scope_of
from rlm.audit.maps import is_one_map, maps_of
from rlm.audit.pairs import Pair
from rlm.audit.routing import places_of

Look = Callable[[Pair, Thresholds], Findings]
MOST_QUERIES = (
    300  # different questions of one run that are searched for; of more, steps are judged by the first alone
)
MOST_STEPS = 10_000


def with_index(index: Index, run: Sequence[RecordedEvent]) -> Look:
    """What looks at a question of a run by searching its index."""
    scope = scope_of(run)
    allowed = index.numbers(index.level_range(0)) if scope.is_all else chunks_in(index, scope)
    found: dict[str, Evidence] = {}
    record = Record.of(index, run)

    def evidence(query: str, always: bool = False) -> Evidence | None:
        if query not in found and (always or len(found) < MOST_QUERIES):
            found[query] = evidence_for(index, query, allowed)
        return found.get(query)

    return partial(_looked, index, evidence, record)


def _looked(
    index: Index,
    evidence: Callable[..., Evidence | None],
    record: Record,
    pair: Pair,
    thresholds: Thresholds,
) -> Findings:
    citations = _citations(pair)
    trail = trail_of(index, pair.events, record, citations)
    best = evidence(pair.question, always=True)
    assert best is not None
    end = _end(pair, citations)
    lacks_evidence = end["says_not_found"] and best.asked < thresholds.found
    passages = [] if lacks_evidence else strong_passages(index, best, thresholds.strong, thresholds.passages)
    taken = {index.id_of(number) for number in _touched(index, trail)}
    steps = []
    for offer in _some(offers_of(pair.question, pair.events, record.prompts)):
        ranked = {query: one for query in offer.queries if (one := evidence(query))} or {pair.question: best}
        masses = {query: partial(_held, one.by_id) for query, one in ranked.items()}
        steps.append(_judged(offer, masses, taken.__contains__, thresholds))
    is_map = is_one_map(record.opened)
    coverage, lost = coverage_of(index, trail, passages), lost_in(index, trail, passages)
    if is_map:  # nothing had to be cited
        coverage = replace(coverage, cited=coverage.read)
        lost = [one for one in lost if one.stage != "not cited"]
    return Findings(
        coverage,
        lost,
        steps,
        _claims(record.opened, pair, citations, thresholds, partial(_stands, index)),
        float(best.shares[0]) if len(best.shares) else 0.0,
        held_by(index, best, trail.cited),
        held_by(index, best, trail.read),
        **end,
        asked=best.asked,
        lacks_evidence=lacks_evidence,
        by_words=best.by_words and bool(index.vectors.shape[1]),
        is_map=is_map,
    )


def without_index(run: Sequence[RecordedEvent]) -> Look:
    """What looks at a question of a run by its record alone: its steps by the scores and shares that it was shown."""
    places = places_of(run)
    taken = {node for node, place in places.items() if place.entered or place.cited}
    waiting = list(taken)
    while waiting:
        parent = places[waiting.pop()].parent
        if parent is not None and parent in places and parent not in taken:
            taken.add(parent)
            waiting.append(parent)
    return partial(_recorded, run[0], taken, prompts_of(run))


def _recorded(
    opened: RecordedEvent, taken: Set[str], prompts: Mapping[str, str], pair: Pair, thresholds: Thresholds
) -> Findings:
    citations, steps = _citations(pair), []
    scores = {event["seq"]: _scores(event) for event in pair.events if event["kind"] == "visited"}
    for offer in _some(offers_of(pair.question, pair.events, prompts)):
        if recorded := scores.get(offer.seq):
            masses = {offer.queries[-1]: partial(_held, recorded)}
            steps.append(
                _judged(offer, masses, taken.__contains__, thresholds, " (by what the run recorded)")
            )
    claims = _claims(opened, pair, citations, thresholds, None)
    return Findings(Coverage(), (), steps, claims, None, None, None, **_end(pair, citations))


def _held(masses: Mapping[str, float], node: str) -> float:
    return masses.get(node, 0.0)


def _scores(event: RecordedEvent) -> dict[str, float]:
    """The evidence that a list gave of its nodes: the shares of `branches`, or a softmax over the scores of hits."""
    name = {"branches": "share", "search": "score"}.get(event["verb"])
    result = event["result"] if name and isinstance(event["result"], list) else []
    items = [item for item in result if isinstance(item, dict) and isinstance(item.get("node"), str)]
    scores = {item["node"]: float(item[name]) for item in items if _is_number(item.get(name))}
    if event["verb"] == "branches" or not scores:
        return {node: max(share, 0.0) for node, share in scores.items()}
    best = max(scores.values())
    return {node: float(np.exp(max(score - best, -700.0))) for node, score in scores.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER


def _judged(
    offer: Offer,
    masses: Mapping[str, Callable[[str], float]],
    is_taken: Callable[[str], bool],
    thresholds: Thresholds,
    ranked_by: str = "",
) -> Step:
    if not any(query in masses for query in offer.queries):
        offer = Offer(offer.seq, offer.choice, tuple(masses), offer.nodes, offer.entered)
    return judged(
        offer,
        masses,
        is_taken,
        most_regret=thresholds.regret,
        least_on_offer=thresholds.on_offer,
        ranked_by=ranked_by,
    )


def _some(offers: Iterator[Offer]) -> Iterator[Offer]:
    return (offer for offer, _ in zip(offers, range(MOST_STEPS), strict=False))


def _touched(index: Index, trail: Trail) -> set[int]:
    """The nodes that were taken, and all that they stand below."""
    taken = trail.entered | trail.read | trail.cited
    return {*taken, *index.above(np.array(sorted(taken), dtype=np.int64)).tolist()} if taken else set()


def _citations(pair: Pair) -> Sequence[Mapping[str, Any]]:
    return [] if pair.answered is None else pair.answered["citations"]


def _claims(
    opened: RecordedEvent,
    pair: Pair,
    citations: Sequence[Mapping[str, Any]],
    thresholds: Thresholds,
    stands_elsewhere: Callable[[str], bool] | None,
) -> list[ClaimCheck]:
    if is_one_map(opened):
        return []  # the answer is the map's own figures, as a trace that is whole has it
    areas, tallies = areas_shown(opened, pair.events), tallied(maps_of(pair.events))
    found = checked_claims(
        pair.question, pair.content, citations, thresholds.words, stands_elsewhere, areas, tallies
    )
    return [replace(claim, question=pair.number) for claim in found]


def _stands(index: Index, words: str) -> bool:
    """Whether these words stand in a document, however they are spaced."""
    pattern = r"\s+".join(map(_literal, words.strip(" .,;:!?…").split()))
    with suppress(IndexStoreError):
        return bool(index.grep(pattern, limit=1, ignore_case=True).matches)
    return False


def _literal(word: str) -> str:
    """A word as a pattern in which one kind of quotation mark, apostrophe or dash stands for all."""
    marks = {"'": "['‘’]", "’": "['‘’]", "-": "[-–—‐‑]", "–": "[-–—‐‑]", "—": "[-–—‐‑]"}
    return "".join(marks.get(sign, re.escape(sign)) for sign in word)


def _end(pair: Pair, citations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    closed = next((event["stop"] for event in reversed(pair.events) if event["kind"] == "run_closed"), None)
    stop = pair.answered["stop"] if pair.answered else closed or "the trace ends without an end"
    return {
        "stop": stop,
        "has_answer": bool(pair.content.strip()),
        "says_not_found": bool(NOT_FOUND.match(pair.content.strip())),
        "citations": len(citations),
        "standing": sum(one["supported"] in STANDING for one in citations),
    }
