"""The part of the page with the answer, and each citation among the words around it in the source."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from index_store.terminal import count
from rlm.audit.claims import IN_OTHER_WORDS, IN_SUMMARY, RESPACED, Claim, Piece, counted, differences, pieces
from rlm.audit.costs import in_dollars
from rlm.audit.events import CONTEXT_CHARS, RecordedEvent, is_taken
from rlm.audit.likeness import same_words
from rlm.audit.page.html import Html, join, tag
from rlm.audit.page.tree import entered
from rlm.audit.pairs import Pair
from rlm.audit.routing import texts_held, where_shown
from rlm.audit.timeline import lacking

_SUPPORT = {
    "verbatim": ("good", "word for word"),
    "respaced": ("good", RESPACED),
    "nearest": ("warn", IN_OTHER_WORDS),
    "summary": ("warn", IN_SUMMARY),
    "unsupported": ("bad", "not in the source"),
}
MOST_CITATIONS = 500
_MOST_WORDS = 400


def answer_section(
    pairs: Sequence[Pair], events: Sequence[RecordedEvent], anchors: Mapping[str, str]
) -> Html:
    """The answer as given, then its citations; in a chat so for each question; a sentence where there is no answer.

    `pairs`: those of `events`; `anchors`: the HTML id of each node.
    """
    held = texts_held(events)
    if len(pairs) == 1 and pairs[0].answered is not None:
        parts = _answer(pairs[0], "", held, anchors)
        return tag("section", tag("h2", "Answer"), *parts, id="answer")
    if len(pairs) < 2:
        return tag("section", tag("h2", "Answer"), tag("p", "These events hold no answer."), id="answer")
    drawn = (_pair(pair, held, anchors) for pair in pairs)
    return tag("section", tag("h2", "Questions and answers"), *drawn, id="answer")


def _pair(pair: Pair, held: Mapping[int, list[str]], anchors: Mapping[str, str]) -> Html:
    """A question of a chat with its answer, what it cost, and its route."""
    stop = f"ended by {pair.answered['stop']}" if pair.answered else "no answer"
    used = pair.usage
    price = in_dollars(used.usd) if used.usd else "no known price"
    cost = f"{count(used.calls, 'call')}, {count(used.tokens, 'token')}, {price}"
    steps = tag("a", f"event {pair.events[0]['seq']}", href=f"#e{pair.events[0]['seq']}")
    number = f"{pair.number}. "
    return tag(
        "article",
        tag("h3", tag("span", number), pair.question),
        tag("p", f"{stop[0].upper()}{stop[1:]}; {cost}; its steps begin at ", steps, cls="meta"),
        *(_answer(pair, f"q{pair.number}", held, anchors) if pair.answered else ()),
        tag("h4", "Branches entered, in order"),
        entered(pair.branches, anchors),
        id=f"q{pair.number}",
        cls="exchange",
    )


def _answer(
    pair: Pair, prefix: str, held: Mapping[int, list[str]], anchors: Mapping[str, str]
) -> Iterator[Html]:
    """The answer and its citations. `prefix`: of the HTML ids of the citations."""
    assert pair.answered is not None
    cited, stop = pair.answered["citations"], pair.answered["stop"]
    if stop == "unmet":
        yield tag("p", tag("strong", "Not accepted: "), lacking(pair.answered), cls="doubt")
    content = pair.answered["content"]
    yield (
        tag("div", _linked(content, pair.claims, prefix), cls="answer")
        if content
        else tag("p", f"There is no answer: stopped by {stop}.")
    )
    yield tag("h3" if not prefix else "h4", "Citations", tag("span", counted(pair.claims), cls="tally"))
    cards = (
        citation_card(
            i, one, held, anchors, prefix, is_whole=not is_taken(pair.answered, f"citations/{i - 1}")
        )
        for i, one in enumerate(cited[:MOST_CITATIONS], 1)
    )
    yield tag("ol", *cards, cls="citations") if cited else tag("p", "The answer cites nothing.")


def citation_card(
    number: int,
    cited: dict[str, Any],
    held: Mapping[int, list[str]],
    anchors: Mapping[str, str],
    prefix: str = "",
    *,
    is_whole: bool = True,
) -> Html:
    """One citation: whether the source holds it, the words in their place, and the events (of `held`, as from
    routing.texts_held) that showed them to the run. `anchors`: the HTML id of each node; `prefix`: of its own;
    `is_whole`: nothing of it was taken out."""
    tone, words = _SUPPORT[cited["supported"]]
    alike = f", {cited['similarity']:.0%} alike" if cited["similarity"] and tone != "good" else ""
    title = cited.get("title") or cited["doc"] or "no document"
    shown = where_shown(held, cited.get("found") or cited["quote"])
    return tag(
        "li",
        tag(
            "div",
            tag("b", f"{number}", cls="ordinal"),
            tag("strong", title),
            _chip(tone, words + alike),
            cls="head",
        ),
        _in_place(cited),
        _claimed(cited) if cited["supported"] != "verbatim" else None,
        tag("p", *_place(cited, anchors), cls="meta"),
        tag("p", *_shown(shown), cls="meta"),
        *(tag("p", doubt, cls="doubt") for doubt in (doubts(cited) if is_whole else ())),
        id=f"{prefix}c{number}",
        cls=tone,
    )


def doubts(cited: dict[str, Any]) -> Iterator[str]:
    """A sentence for each pair of a citation's fields that contradict each other."""
    found, start, end = cited.get("found"), cited["start"], cited["end"]
    if cited["supported"] == "verbatim" and found is not None and found != cited["quote"]:
        yield "The trace says word for word, yet the words it found are not the words quoted."
    if cited["supported"] == "respaced" and not same_words(cited["quote"], found or ""):
        yield "The trace says the same words, yet the words it found are others."
    if found and start is not None and end is not None and end - start != len(found):
        yield f"The place is {count(end - start, 'character')} long, and the words found are {len(found):,}."


def _linked(content: str, claims: Sequence[Claim], prefix: str) -> Html:
    """The answer, each claim that it names a link to its citation; one that does not stand says so."""
    return join(_link(piece, prefix) for piece in pieces(content, claims))


def _link(piece: Piece, prefix: str) -> str:
    if piece.number is None or piece.number > MOST_CITATIONS:
        return piece.text
    tone = "" if piece.claim is None else " missing" if piece.claim.is_missing else " near"
    return tag("a", piece.text, href=f"#{prefix}c{piece.number}", cls=f"cite{tone}")


def _chip(tone: str, words: str) -> Html:
    return tag("span", words, cls=f"chip {tone}")


def _in_place(cited: dict[str, Any]) -> Html | None:
    """The words as they stand in the source, marked, with what is around them."""
    found = cited.get("found") or (cited["quote"] if cited["supported"] == "verbatim" else None)
    if found is None:
        return None
    before, after = cited["context_before"][-2000:], cited["context_after"][:2000]
    # An ellipsis where the source goes on; that it does at the end is known only from a context cut at full length.
    more = (cited["start"] or 0) > len(before), len(after) >= CONTEXT_CHARS
    return tag(
        "blockquote", "… " if more[0] else "", before, tag("mark", found), after, " …" if more[1] else ""
    )


def _claimed(cited: dict[str, Any]) -> Html:
    is_summed = cited["supported"] == "summary"
    missed = "of the label or the summary of a node" if is_summed else "and no such words were found"
    lead = "The answer quotes: " if cited.get("found") else f"The answer quotes, {missed}: "
    is_near = cited.get("found") and cited["supported"] == "nearest"
    quote = _compared(cited["quote"], cited["found"]) if is_near else tag("q", cited["quote"])
    differs = differences(cited["quote"], cited["found"]) if is_near else ""
    told = tag("strong", f" Differs: {differs}", cls="differs") if differs else None
    return tag("p", lead, quote, told, cls="claimed")


def _compared(quote: str, found: str) -> Html:
    """The quote with the words that are not in the source, or not there in the source, marked."""
    quoted, source = re.split(r"(\s+)", quote), re.split(r"(\s+)", found)
    if len(quoted) + len(source) > 4 * _MOST_WORDS:
        return tag("q", quote)
    steps = SequenceMatcher(None, quoted, source, autojunk=False).get_opcodes()
    words = (
        "".join(quoted[a:b]) if step == "equal" else tag("s", "".join(quoted[a:b]))
        for step, a, b, _, _ in steps
        if a < b
    )
    return tag("q", *words)


def _place(cited: dict[str, Any], anchors: Mapping[str, str]) -> Iterator[str]:
    yield cited["doc"] or "no document"
    if cited["page"] is not None:
        yield f" · page {cited['page']}"
    if cited["start"] is not None:
        yield f" · characters {cited['start']}–{'?' if cited['end'] is None else cited['end']}"
    if cited["node"] is not None:
        anchor = anchors.get(cited["node"])
        yield " · "
        yield tag("a", cited["node"], href=f"#{anchor}") if anchor else cited["node"]


def _shown(seqs: list[int]) -> Iterator[str]:
    yield (
        "These words were shown to the run at event "
        if seqs
        else "Nothing the run was shown holds these words in one piece."
    )
    for i, seq in enumerate(seqs[:8]):
        yield ", " if i else ""
        yield tag("a", str(seq), href=f"#e{seq}")
