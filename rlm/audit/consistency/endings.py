"""How questions and the run end: the answer, what stopped it, its citations."""

import re
from collections.abc import Callable
from typing import Any

from index_store.terminal import brief, count
from rlm.audit.consistency.story import SLACK_S, Story
from rlm.audit.consistency.sums import digest
from rlm.audit.envelope import opened
from rlm.audit.events import CONTEXT_CHARS, RecordedEvent, is_taken
from rlm.audit.likeness import SAME_WORDS, same_words

#: The ends of a run that has an answer event, and those of one that may have been broken off anywhere.
REGULAR, BROKEN = (
    frozenset({"answer", "unmet", "turns", "budget", "timeout", "no code"}),
    frozenset({"failed", "cancelled"}),
)
#: The note of a run that reached a limit, before it answers from what it has.
_STOPPED = re.compile(r"stopped by (turns|budget|timeout|no code): ")


def answer_is_what_was_said(story: Story, event: RecordedEvent) -> str:
    """Where code wrote the answer in so many words, or a single call gave it, the answer is that; of a run that is one
    map it says what came of that."""
    talk, content = story.talks[event["conversation"]], event["content"]
    if "map" in story.opened:
        is_it = content == talk.mapped or is_taken(event, "content")
        return "" if is_it else "the answer is not what came of the map"
    if talk.call or talk.scan:
        return "the answer is given before the last call or cell has ended"
    if event["stop"] in ("answer", "unmet") and not talk.said:
        return "an answer is given, and no model said anything"
    if event.get("lacks") and event["stop"] != "unmet":
        return f"the answer is said to lack something, and to have ended by {brief(event['stop'])}"
    if event["stop"] != "answer" or is_taken(event, "content"):
        return ""
    if talk.cell:
        says_another = talk.last_ok and not talk.computed and talk.told not in (None, content)
        return f"the answer is not the one that cell {talk.cell} wrote" if says_another else ""
    if (
        len(content) > 40
        and talk.text
        and not content.startswith('"')
        and not _lines(content) <= _lines(talk.text)
        and ((envelope := opened(talk.text)) is None or envelope.answer != content)
    ):
        return "the answer holds a line that the model's reply does not"
    return ""


def stop_is_what_happened(story: Story, event: RecordedEvent) -> str:
    """What ends by an answer was stopped by no limit, and has it from a cell of the loop, or from a call; what ends by
    a limit has reached it."""
    end, stop = story.talks[event["conversation"]].end, event["stop"]
    if "map" in story.opened:
        return ""
    said = f"it is said to have ended by {brief(stop)}"
    # The one call that is kept back for the end may meet another limit.
    last_calls = ("budget", "timeout") if end.limit != "timeout" else ()
    if end.limit and stop not in (end.limit, *last_calls):
        return f"{said}, and to have been stopped by {end.limit}"
    if stop in ("answer", "unmet"):
        loops = story.opened["route"] in ("map", "rlm") or event["conversation"] != "0"
        if end.refused:
            return f"{said}, and a cap had refused its last call"
        if end.last not in (("ok", "error") if loops else ("model_answered",)):
            return f"{said}, and the last that happened was no {'cell' if loops else 'reply'} that could give one"
    if stop == "budget" and not end.failed:
        return f"{said}, and no call was refused"
    turns, timeout_s = story.limit("turns"), story.limit("timeout_s")
    if stop == "turns" and turns is not None and end.asks < turns:
        return f"{said}, and took {end.asks} of {turns}"
    took = event["time_s"] - end.began_s
    if stop == "timeout" and timeout_s is not None and took < timeout_s - SLACK_S:
        return f"{said}, and took {took:.3f} of {timeout_s} s"
    return ""


def citations_agree(story: Story, event: RecordedEvent) -> str:
    """A citation that stands in a document has a place of the length of its words; word for word means equal words,
    and the same words mean the same whatever their spacing."""
    for number, cited in enumerate(event["citations"], 1):
        if is_taken(event, f"citations/{number - 1}"):
            continue
        if problem := _citation_problem(cited):
            return f"citation {number} {problem}"
    return ""


def _citation_problem(cited: dict[str, Any]) -> str:
    start, end, found, kind = cited["start"], cited["end"], cited.get("found"), cited["supported"]
    if kind == "verbatim" and (cited["doc"] is None or start is None or end is None):
        return "is said to stand in a document word for word, and has no place there"
    if kind == "verbatim" and found is not None and found != cited["quote"]:
        return "is said to stand there word for word, and the words found are not those quoted"
    if kind == "respaced" and (
        start is None or end is None or found is None or not same_words(found, cited["quote"])
    ):
        return "is said to stand there in the same words, and the words found are others"
    words = found if found is not None else cited["quote"] if kind == "verbatim" else None
    if words is not None and start is not None and end is not None and end - start != len(words):
        place, chars = count(end - start, "character"), count(len(words), "character")
        return f"has a place of {place}, and {chars} of words"
    if kind == "summary" and (cited["node"] is None or cited["doc"] is not None or start is not None):
        return "is said to stand in a summary, and names none, or a place in a document"
    if kind == "unsupported" and (start is not None or end is not None or found is not None):
        return "is said to stand nowhere, and has a place"
    if (like := cited["similarity"]) is not None and not _ALIKE[kind](like):
        return f"is said to be {kind}, and {like} alike"
    before, after = cited["context_before"], cited["context_after"]
    if start is not None and (len(before) != min(start, CONTEXT_CHARS) or len(after) > CONTEXT_CHARS):
        return f"stands after {count(start, 'character')}, of which {len(before):,} are shown"
    return ""


_ALIKE: dict[str, Callable[[float], bool]] = {
    "verbatim": lambda alike: alike == 1,
    "respaced": lambda alike: alike == SAME_WORDS,
    "nearest": lambda alike: 0 < alike < 1,
    "summary": lambda alike: alike == 1,
    "unsupported": lambda alike: alike < 1,  # an earlier version told how like the nearest words were
}


def run_ends_as_it_answered(story: Story, event: RecordedEvent) -> str:
    """The run ends as its last answer did, unless it was broken off; then calls and cells may be left open."""
    stop, root = event["stop"], story.talks["0"]
    if stop in BROKEN:
        return ""
    if (stop in REGULAR or story.stop) and stop != story.stop:
        return f"the run ended by {brief(stop)}, and its last answer by {brief(story.stop)}"
    return "the run closes before its last call or cell has ended" if root.call or root.scan else ""


def run_took_its_time(story: Story, event: RecordedEvent) -> str:
    """The clock of a run starts after its trace does."""
    if event["seconds"] > event["time_s"] + SLACK_S:
        return f"the run took {event['seconds']} s, and closed {event['time_s']} s after it opened"
    return ""


def _lines(text: str) -> set[str]:
    return {line.strip() for line in text.split("\n")}


def noted(story: Story, event: RecordedEvent) -> None:
    talk = story.talks.get(event["conversation"])
    if talk is not None and (stopped := _STOPPED.match(event["text"])):
        talk.end.limit = stopped[1]


def answered(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.searched = False
    talk.has_answered, talk.reply, talk.has_words = True, digest(event["content"]), bool(event["content"])
    if is_taken(event, "content"):
        talk.reply = b""
    if event["conversation"] == "0":
        story.stop = event["stop"]
