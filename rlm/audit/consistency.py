"""Whether the events of a trace agree with each other: who called whom and when, what it cost, who said what.

Every rule holds in each trace that the engine writes, be the run whole, cancelled, over its budget or broken off. So an
event that breaks one was not written by the engine, even if its hash is right. A rule is a function over what was told
so far and the next event; it gives a sentence, '' where they agree. The trace may be a stranger's, and of any length:
what is kept is a few facts of each conversation that is under way, and events are only known to fit the table.

What was taken out of a trace (an event's `redacted`) is not there to be compared: a rule that needs it lets it pass.
"""

import ast
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from index_store.terminal import brief, count
from rlm.audit.envelope import opened
from rlm.audit.events import AMOUNT, CONTEXT_CHARS, RecordedEvent, is_taken
from rlm.audit.likeness import SAME_WORDS, same_words
from rlm.audit.maps import map_in_words
from rlm.gateway.types import Usage

#: Conversations that may be under way together; the engine opens 500 at a time in each of a few.
MOST_OPEN = 100_000
#: By how much a duration may pass the time between its events.
SLACK_S = 1.0
#: Code that is read for what it says the answer is; longer code is taken to do anything.
PLAIN_CHARS = 4_000
#: Of what a cell printed, held against what the model is told of it.
PRINTED_CHARS = 100_000
#: The ends of a run that has an answer event, and those of one that may have been broken off anywhere.
REGULAR, BROKEN = (
    frozenset({"answer", "unmet", "turns", "budget", "timeout", "no code"}),
    frozenset({"failed", "cancelled"}),
)
#: The note of a run that reached a limit, before it answers from what it has.
_STOPPED = re.compile(r"stopped by (turns|budget|timeout|no code): ")
#: The error of a call that was cancelled: the ledger was charged for it, and before there were attempts nobody was told
#: how much.
CUT_OFF = "the run was stopped before the model answered"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call under way. `spent`: what the trace knew as spent when it began."""

    call: Any
    model: str
    time_s: float
    max_tokens: int
    spent: Usage


@dataclass(slots=True)
class Ending:
    """What bears on how a question ends. `began_s`: when it was put; `asks`: calls of its model; `failed`: one was not
    answered, nor cut off; `refused`: by a cap. `last`: the last call or cell that ended, as "model_answered",
    "model_failed", or the status of a cell; `limit`: the one that is noted to have stopped it."""

    began_s: float = 0.0
    asks: int = 0
    failed: bool = False
    refused: bool = False
    last: str = ""
    limit: str = ""


@dataclass(slots=True)
class Mapped:
    """A map under way. `verb`, `rows`: as it was called; `first_child`: how many children there were before it, `used`:
    what they had used. `recalled`: the digests of what the store had, None where some was taken out. `told`: rows whose
    answers are told, `failed` and `stored` of them."""

    verb: str
    rows: int
    cell: int
    first_child: int
    began_s: float
    used: Usage
    recalled: set[bytes] | None = field(default_factory=set)
    told: int = 0
    failed: int = 0
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Reduction:
    """A reduction under way, in `cell`, which may make `calls` at most. `first_child`: how many children there were
    before it, `used`: what they had used."""

    cell: int
    calls: int
    first_child: int
    began_s: float
    used: Usage


@dataclass(slots=True)
class Talk:
    """A conversation under way.

    `sent`: the most messages of an ask. `reply`, `text`: the digest of what it last said, and the text where no cell
    ran. `cell`, `scan`: the last cell, and the verdict on it until it has run; `last_ok`: how it ran. `children`,
    `under_way`: how many it has called, and those that have not returned. `used`: by it and all below. `begun_anew`:
    its messages were, so that its cells may be counted from 1 again; `counted_anew`: they were. `told`: the answer
    that its code wrote in so many words; `printed`: what its last cell did; `computed`: code may have computed
    another. `said`: the digests of its replies; `has_words`: its answer has some. `free_s`: when its last call or
    cell ended; `called_s`: when it last called. `searched`: the run has searched by itself, and not gone on. `map`: the
    map under way; `mapped`: what came of the last; `reduction`: the one under way.
    """

    call: Asked | None = None
    sent: int = 0
    reply: bytes = b""
    text: str = ""
    cell: int = 0
    scan: str = ""
    children: int = 0
    under_way: list[str] = field(default_factory=list)
    used: Usage = Usage()  # noqa: RUF009  (frozen)
    begun_anew: bool = False
    counted_anew: bool = False
    has_answered: bool = False
    has_words: bool = False
    said: set[bytes] = field(default_factory=set)
    free_s: float = 0.0
    called_s: float = 0.0
    end: "Ending" = field(default_factory=lambda: Ending())
    map: "Mapped | None" = None
    mapped: str = ""
    reduction: "Reduction | None" = None
    told: str | None = None
    printed: str = ""
    computed: bool = False
    last_ok: bool = False
    searched: bool = False


@dataclass(slots=True)
class Story:
    """What a trace has told so far. `question`: the one that no model was asked yet. `spent`: the sum of its calls, of
    which `paid` had a usage; `noted`: the most that the ledger is said to have spent; `cut`: the end of a call is not
    known, so its cost is not. `unheard`: from where on the rules of today do not fit a trace of format 1, and why."""

    opened: RecordedEvent = field(default_factory=dict)
    question: str = ""
    talks: dict[str, Talk] = field(default_factory=lambda: {"0": Talk()})
    spent: Usage = Usage()  # noqa: RUF009  (frozen)
    noted: Usage = Usage()  # noqa: RUF009  (frozen)
    paid: int = 0
    call: Any = 0
    cut: bool = False
    stop: str = ""
    unheard: str = ""

    def limit(self, name: str) -> Any:
        """A limit of the run, None where it has none or it is no number."""
        value = self.opened.get("limits", {}).get(name)
        return None if AMOUNT.problem(value) else value

    def hear(self, event: RecordedEvent) -> str:
        """What contradicts the story in the next event, '' for nothing; it is then part of the story."""
        if self.unheard:
            return ""
        for rule in RULES.get(event["kind"], ()):
            if problem := rule(self, event):
                if self.opened.get("format") != 1:
                    return problem
                self.unheard = (
                    f"what this trace of format 1 says from line {event['seq'] + 1} on, by the rules of today"
                )
                return ""
        _AFTER.get(event["kind"], _nothing)(self, event)
        return ""


Rule: TypeAlias = Callable[[Story, RecordedEvent], str]


# -- conversations -----------------------------------------------------------------------------------------


def is_under_way(story: Story, event: RecordedEvent) -> str:
    """Only the root begins by itself; every other is called, and says nothing once it has ended."""
    name = event["conversation"]
    talk = story.talks.get(name)
    if talk is None:
        return f"conversation {name} says something before any other called it, or after it had returned"
    return f"conversation {name} goes on after its answer" if talk.has_answered and name != "0" else ""


def stands_at_the_root(story: Story, event: RecordedEvent) -> str:
    """A run opens and closes in its root."""
    name = event["conversation"]
    return (
        "" if name == "0" else f"{event['kind']} stands in conversation {name}; a run opens and closes in 0"
    )


def children_are_next(story: Story, event: RecordedEvent) -> str:
    """Children are new, are named after their parent and numbered on, one for each prompt."""
    name, talk = event["conversation"], story.talks[event["conversation"]]
    if len(event["under"]) != len(event["prompts"]):
        return f"{count(len(event['under']), 'branch', 'branches')} are named for {len(event['prompts']):,} prompts"
    if len(event["children"]) != len(event["prompts"]):
        began = count(len(event["children"]), "conversation")
        return f"{count(len(event['prompts']), 'prompt')} began {began}"
    if len(story.talks) + len(event["children"]) > MOST_OPEN:
        return f"it has more than {MOST_OPEN:,} conversations under way, which no run has"
    for number, child in enumerate(event["children"], talk.children + 1):
        if child != f"{name}.{number}":
            return f"it calls conversation {child} where {name}.{number} is next: a call was removed, added or moved"
    return ""


def depth_is_allowed(story: Story, event: RecordedEvent) -> str:
    """A child run lies no deeper than the limits let it."""
    most, depth = story.limit("depth"), event["conversation"].count(".") + 1
    if event["verb"].startswith("rlm_query") and most is not None and depth > most:
        return f"it begins a child run at depth {depth}, and the run allows {most}"
    return ""


def children_return_as_called(story: Story, event: RecordedEvent) -> str:
    """What returns was called, has ended its own calls and cells, and is returned with what it said."""
    talk = story.talks[event["conversation"]]
    if list(event["children"]) != talk.under_way:
        return "children return that were not called, or others than were called"
    if len(event["results"]) != len(event["children"]):
        back = count(len(event["results"]), "result")
        return f"{count(len(event['children']), 'child gives', 'children give')} back {back}"
    for number, (child, result) in enumerate(zip(event["children"], event["results"], strict=True)):
        own = story.talks[child]
        if own.call or own.scan:
            return f"conversation {child} returns before its last call or cell has ended"
        said = b"" if event["verb"].startswith("rlm_query") and not own.has_answered else own.reply
        if (
            result["ok"]
            and said
            and said != _digest(result["text"])
            and not is_taken(event, f"results/{number}")
        ):
            return f"conversation {child} gives back another text than it ended with"
    return ""


def children_end_as_they_did(story: Story, event: RecordedEvent) -> str:
    """What returns as an answer was one, and what returns as an error was none."""
    for child, result in zip(event["children"], event["results"], strict=True):
        own = story.talks[child]
        is_run = event["verb"].startswith("rlm_query")
        if is_run and not own.has_answered:  # an earlier version recorded no answer of a child
            continue
        if result["ok"] != (own.has_words if is_run else bool(own.said)):
            what = "an answer" if result["ok"] else "an error"
            return f"conversation {child} gives back {what}, and did not end with one"
    return ""


def children_took_their_time(story: Story, event: RecordedEvent) -> str:
    """No more time passed for the children than since their call."""
    return _too_long(event, story.talks[event["conversation"]].called_s, "the children")


def map_is_alone(story: Story, event: RecordedEvent) -> str:
    """A cell waits for a map before it goes on."""
    talk = story.talks[event["conversation"]]
    return "a map is called while another is under way" if talk.map and talk.map.cell == event["cell"] else ""


def map_is_under_way(story: Story, event: RecordedEvent) -> str:
    """Rows are answered, and a map returns, after it was called."""
    return (
        ""
        if story.talks[event["conversation"]].map
        else f"{event['kind']} tells of rows, and no map asked for any"
    )


def recalled_rows_are_its_own(story: Story, event: RecordedEvent) -> str:
    """The store has one answer each of rows that are asked about."""
    mapped, rows = story.talks[event["conversation"]].map, event["rows"]
    assert mapped is not None
    if len(rows) == len(event["values"]) == len(set(rows)) and all(row < mapped.rows for row in rows):
        return ""
    return "the store is said to have answers of rows that nobody asked about, or several of one"


def rows_are_answered_once(story: Story, event: RecordedEvent) -> str:
    """Answers are told in the order of rows, each once, each by the store or by a call of its map."""
    name, talk = event["conversation"], story.talks[event["conversation"]]
    mapped = talk.map
    assert mapped is not None
    if event["first"] != mapped.told:
        at = f"row {event['first']:,} where row {mapped.told:,} is next"
        return f"answers begin at {at}: some were removed, added or moved"
    if mapped.told + len(event["answers"]) > mapped.rows:
        return f"more answers are told than the {count(mapped.rows, 'row')} that were asked about"
    for number, one in enumerate(event["answers"], event["first"]):
        if ("values" in one) == ("error" in one):
            return f"row {number:,} has an answer and an error, or neither"
        if "values" in one and not one["call"] and not _had(mapped.recalled, event, number):
            return f"row {number:,} is said to have its answer from the store, which had no such answer"
        if one["call"] and not _is_called(one["call"], name, mapped.first_child, talk.children):
            return (
                f"row {number:,} is said to be answered by {brief(one['call'])}, which its map did not call"
            )
    return ""


def _had(recalled: set[bytes] | None, event: RecordedEvent, number: int) -> bool:
    """Whether the store had the answer of a row, as far as it was not taken out of the trace."""
    at = number - event["first"]
    taken = recalled is None or is_taken(event, f"answers/{at}")
    return taken or _values(event["answers"][at]["values"]) in (recalled or ())


def _is_called(call: str, parent: str, first: int, last: int) -> bool:
    """Whether a conversation is one of the children of `parent` that were called since there were `first`."""
    above, _, number = call.rpartition(".")
    return above == parent and number.isdecimal() and len(number) < 10 and first < int(number) <= last


def _values(values: dict[str, Any]) -> bytes:
    return _digest(json.dumps(values, sort_keys=True))


def map_returns_what_it_told(story: Story, event: RecordedEvent) -> str:
    """A map returns when all its rows are told, and counts them, its calls and what they used as they were."""
    talk = story.talks[event["conversation"]]
    mapped = talk.map
    assert mapped is not None
    told = {
        "rows": mapped.told,
        "failed": mapped.failed,
        "stored": mapped.stored,
        "calls": talk.children - mapped.first_child,
    }
    if mapped.told != mapped.rows:
        return f"a map returns with {mapped.told:,} of {count(mapped.rows, 'row')} told"
    for name, number in told.items():
        if event[name] != number:
            return f"a map is said to have {event[name]:,} {name}, and the trace has {number:,}"
    if unlike := _unlike(story, event["usage"], _less(talk.used, mapped.used), "the map", "its calls"):
        return unlike
    return _too_long(event, mapped.began_s, "the map")


def reduction_is_alone(story: Story, event: RecordedEvent) -> str:
    """A cell waits for a reduction before it goes on."""
    own = story.talks[event["conversation"]].reduction
    return "a reduction is called while another is under way" if own and own.cell == event["cell"] else ""


def reduces_what_was_called(story: Story, event: RecordedEvent) -> str:
    """Prompts of a reduction are asked while it is under way, and no more of them than it was to take."""
    if event["verb"] != "llm_reduce":
        return ""
    talk = story.talks[event["conversation"]]
    if talk.reduction is None:
        return "prompts of a reduction are asked, and none is under way"
    made = talk.children + len(event["children"]) - talk.reduction.first_child
    if made > talk.reduction.calls:
        return f"a reduction makes {made:,} calls where it was to make {talk.reduction.calls:,} at most"
    return ""


def reduction_returns_what_it_did(story: Story, event: RecordedEvent) -> str:
    """A reduction returns after it was called, and counts its calls and what they used as they were."""
    talk = story.talks[event["conversation"]]
    own = talk.reduction
    if own is None:
        return "a reduction returns, and none is under way"
    if event["calls"] != (made := talk.children - own.first_child):
        return f"a reduction is said to have made {event['calls']:,} calls, and the trace has {made:,}"
    if len(noted := event.get("noted", [None] * event["notes"])) != event["notes"]:
        return f"a reduction is said to have {count(event['notes'], 'note')}, and it tells {len(noted):,}"
    if unlike := _unlike(story, event["usage"], _less(talk.used, own.used), "the reduction", "its calls"):
        return unlike
    return _too_long(event, own.began_s, "the reduction")


def _less(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.calls - other.calls,
        one.prompt_tokens - other.prompt_tokens,
        one.completion_tokens - other.completion_tokens,
        one.usd - other.usd,
    )


def assistant_said_it(story: Story, event: RecordedEvent) -> str:
    """What a model is sent as its own words, it has said before in this conversation."""
    said = story.talks[event["conversation"]].said
    for number, message in enumerate(event["messages"]):
        words = _digest(message["content"])
        unknown = _digest("") in said or is_taken(event, f"messages/{number}")
        if message["role"] == "assistant" and words not in said and not unknown:
            return "it sends the model words of its own that it has not said"
    return ""


def question_is_put(story: Story, event: RecordedEvent) -> str:
    """The first call of the run puts its question to the model, and the first after each next question that one."""
    if event["conversation"] != "0" or not event["messages"] or is_taken(event, "messages"):
        return ""
    if any(story.question in message["content"] for message in event["messages"]):
        return ""
    about = "that the run is said to be about" if not story.talks["0"].sent else "that was put before them"
    return f"the first messages do not hold the question {about}"


def question_is_next(story: Story, event: RecordedEvent) -> str:
    """A next question is put when the last has ended."""
    root = story.talks["0"]
    return "a question is put before the last call or cell has ended" if root.call or root.scan else ""


def model_is_the_runs(story: Story, event: RecordedEvent) -> str:
    """Only the models of the run are asked."""
    known = story.opened["models"].values()
    return (
        "" if event["model"] in known else f"{brief(event['model'])} is asked, which is no model of the run"
    )


def models_are_named(story: Story, event: RecordedEvent) -> str:
    """The models change in the root, and not while one is asked."""
    if event["conversation"] != "0":
        return f"the models change in conversation {event['conversation']}; a chat has one, 0"
    return "the models change while one is asked" if story.talks["0"].call else ""


def output_is_shown(story: Story, event: RecordedEvent) -> str:
    """What the model is told that its last cell printed is what the cell printed."""
    talk = story.talks[event["conversation"]]
    last = event["messages"][-1]["content"] if event["messages"] else ""
    if is_taken(event, f"messages/{len(event['messages']) - 1}"):
        return ""
    if last.startswith(f"Cell {talk.cell}: ") and talk.printed not in last:
        return f"the model is told something else than what cell {talk.cell} printed"
    return ""


# -- calls and what they cost ------------------------------------------------------------------------------


def call_is_next(story: Story, event: RecordedEvent) -> str:
    """Calls are numbered on, and a conversation makes one at a time."""
    call, last = event["call"], story.call
    if isinstance(call, int) and isinstance(last, int) and call != last + 1:
        return f"it is call {call}, where call {last + 1} is next: a call was removed, added or moved"
    under_way = story.talks[event["conversation"]].call
    return "" if under_way is None else f"it asks while its call {brief(under_way.call)} is under way"


def messages_add_up(story: Story, event: RecordedEvent) -> str:
    """An ask sends again what was sent before, and a reply to that, and adds the rest."""
    again = event["conversation_messages"] - len(event["messages"])
    before = story.talks[event["conversation"]].sent
    if again < 0 or again > before + (before > 0):
        sent = f"{before:,} {'was' if before == 1 else 'were'}"
        return f"it sends {count(again, 'message')} again, where {sent} sent before"
    return ""


def call_was_begun(story: Story, event: RecordedEvent) -> str:
    """A call that ends was begun, in this conversation, with this model."""
    asked = story.talks[event["conversation"]].call
    if asked is None or asked.call != event["call"] or asked.model != event["model"]:
        return f"call {brief(event['call'])} of {brief(event['model'])} ends, and was not begun here"
    took = event["time_s"] - asked.time_s
    if event["seconds"] > took + SLACK_S:
        return f"the call took {event['seconds']} s, and {took:.3f} s passed since it was begun"
    return ""


def caps_hold(story: Story, event: RecordedEvent) -> str:
    """A call is only made where its reply at least still fits under the caps."""
    asked, used = story.talks[event["conversation"]].call, event.get("usage")
    if asked is None or not used or not used["calls"]:
        return ""
    calls, tokens, usd = (story.limit(name) for name in ("calls", "tokens", "usd"))
    if calls is not None and (made := story.spent.calls + used["calls"]) > calls:
        return f"it is call {made} of a run that may make {calls}"
    if tokens is not None and asked.spent.tokens + asked.max_tokens > tokens:
        return f"it was made when {asked.spent.tokens} of {tokens} tokens were spent, and may use {asked.max_tokens}"
    if usd is not None and asked.spent.usd > usd + _slack(story, usd):
        return f"it was made when ${asked.spent.usd:g} were spent of ${usd:g}"
    return ""


def attempts_add_up(story: Story, event: RecordedEvent) -> str:
    """A call was charged what its attempts settled, took no less time than they, and ends as the last of them did."""
    attempts = event.get("attempts")
    if attempts is None:
        return ""
    settled = sum((Usage(**one["settled"]) for one in attempts), Usage())
    if problem := _unlike(story, event.get("usage", {}), settled, "the call is", "its attempts"):
        return problem
    took = sum(one["waited_s"] + one["seconds"] for one in attempts)
    if took > event["seconds"] + SLACK_S:
        return f"the call took {event['seconds']} s, and its attempts {took:.3f} s together"
    *before, last = [not one["error"] for one in attempts] or [False]
    if any(before) or last != (event["kind"] == "model_answered"):
        return "its attempts end otherwise than the call did"
    return ""


def stored_cost_nothing(story: Story, event: RecordedEvent) -> str:
    """What came from the store, or in a fork from the record, was not asked for: no attempt was made, and nothing paid.
    The store has sub-calls alone."""
    if not event["cached"]:
        return ""
    if event.get("attempts") or Usage(**event["usage"]) != Usage():
        return "the reply is said to come from the store, and to have been asked for"
    if event["conversation"] == "0" and "parent" not in story.opened:
        return "the reply to the root is said to come from the store, which has those to sub-calls"
    return ""


def children_cost_what_they_used(story: Story, event: RecordedEvent) -> str:
    """The usage of children is the sum of their calls, and of all below them."""
    if story.talks["0"].counted_anew:  # earlier conversations had the same names
        return ""
    used = sum((story.talks[child].used for child in event["children"]), Usage())
    return _unlike(story, event["usage"], used, "the children are", "their calls")


def ledger_agrees(story: Story, event: RecordedEvent) -> str:
    """The ledger of the root has entered every call that has ended."""
    if event["conversation"] != "0" or _covers(story, Usage(**event["spent"]), story.spent):
        return ""
    said = _words(Usage(**event["spent"]))
    return f"the ledger is said to have spent {said}, and the calls so far {_words(story.spent)}"


def total_is_the_sum(story: Story, event: RecordedEvent) -> str:
    """The run was charged what its calls used; more only where a call was cut off, and its cost never told."""
    closed = Usage(**event["usage"])
    if not _covers(story, closed, story.noted):
        return (
            f"the run is said to have used {_words(closed)}, and its ledger had {_words(story.noted)} before"
        )
    if not story.cut and not any(talk.call for talk in story.talks.values()):
        return _unlike(story, event["usage"], story.spent, "the run is", "its calls")
    if not _covers(story, closed, story.spent):
        return f"the run is said to have used {_words(closed)}, and its calls together {_words(story.spent)}"
    return ""


# -- cells -------------------------------------------------------------------------------------------------


def cell_is_next(story: Story, event: RecordedEvent) -> str:
    """Cells are numbered on; each runs before the next is scanned, and none while its model is asked."""
    talk, cell = story.talks[event["conversation"]], event["cell"]
    if talk.scan:
        return f"cell {cell} is scanned, and cell {talk.cell} before it never ran"
    if talk.call:
        return f"cell {cell} is scanned while the model is asked for it"
    if cell == talk.cell + 1 or (cell == 1 and talk.begun_anew):
        return ""
    return f"it is cell {cell}, where cell {talk.cell + 1} is next: a cell was removed, added or moved"


def cell_was_let_run(story: Story, event: RecordedEvent) -> str:
    """What a cell asks for, it asks after a scan let it run and before it ended. A search before any cell has none."""
    talk, cell = story.talks[event["conversation"]], event["cell"]
    if event["kind"] == "visited" and (cell == talk.cell == 0 or "by" in event):
        return ""
    if "map" in story.opened and cell == talk.cell == 0 and event["conversation"] == "0":
        return ""
    if talk.scan != "ok" or cell != talk.cell:
        why = (
            "was rejected by its scan" if talk.scan and cell == talk.cell else "was not scanned, or had ended"
        )
        return f"cell {cell} asks for something, and {why}"
    return ""


def run_searched_for_its_end(story: Story, event: RecordedEvent) -> str:
    """The run itself gathers once in its root, after a cell or a call has ended and before its last one."""
    if "by" not in event:
        return ""
    talk = story.talks[event["conversation"]]
    if event["conversation"] != "0" or event["verb"] != "gather" or event["cell"] != talk.cell:
        return "the run itself is said to have done something else than gather in its root"
    if talk.call or talk.scan:
        return "the run itself is said to search while a cell or a call is under way"
    return "the run itself is said to search twice for one end" if talk.searched else ""


def cell_was_scanned(story: Story, event: RecordedEvent) -> str:
    """A cell runs once, after its scan; one that was rejected did not run."""
    talk, cell = story.talks[event["conversation"]], event["cell"]
    if not talk.scan or cell != talk.cell:
        return f"cell {cell} ran, and no scan let it"
    if talk.scan == "rejected" and event["status"] != "rejected":
        return f"cell {cell} was rejected by its scan, and is said to have run ({event['status']})"
    return _too_long(event, talk.free_s, f"cell {cell}")


def visit_gave_what_it_counts(story: Story, event: RecordedEvent) -> str:
    """A visit that was refused gave nothing; any other as many characters as it counts."""
    result, refused = event["result"], event.get("error")
    if refused and (result is not None or event["shown"] or event["not_taken"]):
        return "a visit was refused, and gave something"
    chars = 0 if refused else len(result if isinstance(result, str) else json.dumps(result))
    if is_taken(event, "result"):
        return ""
    if chars != event["result_chars"]:
        said = count(event["result_chars"], "character")
        return f"a visit is said to have given {said}, and gave {chars:,}"
    return ""


# -- answers -----------------------------------------------------------------------------------------------


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


def _too_long(event: RecordedEvent, began_s: float, who: str) -> str:
    took = event["time_s"] - began_s
    if event["seconds"] <= took + SLACK_S:
        return ""
    return f"{who} took {event['seconds']} s, and {took:.3f} s passed since it could begin"


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


#: The rules for each kind of event, in the order in which they are asked; each may rely on those before it. Notes and
#: flags have none: a thread of its own may record them a moment late; but that a limit is reached is noted at once.
RULES: dict[str, tuple[Rule, ...]] = {
    "run_opened": (stands_at_the_root,),
    "question_put": (stands_at_the_root, question_is_next),
    "model_asked": (
        is_under_way,
        call_is_next,
        model_is_the_runs,
        messages_add_up,
        question_is_put,
        assistant_said_it,
        output_is_shown,
    ),
    "model_answered": (is_under_way, call_was_begun, caps_hold, attempts_add_up, stored_cost_nothing),
    "model_failed": (is_under_way, call_was_begun, caps_hold, attempts_add_up),
    "code_scanned": (is_under_way, cell_is_next),
    "code_run": (is_under_way, cell_was_scanned),
    "visited": (is_under_way, cell_was_let_run, run_searched_for_its_end, visit_gave_what_it_counts),
    "child_called": (
        is_under_way,
        cell_was_let_run,
        children_are_next,
        depth_is_allowed,
        reduces_what_was_called,
    ),
    "child_returned": (
        is_under_way,
        cell_was_let_run,
        children_return_as_called,
        children_took_their_time,
        children_cost_what_they_used,
        children_end_as_they_did,
    ),
    "map_called": (is_under_way, cell_was_let_run, map_is_alone),
    "rows_recalled": (is_under_way, map_is_under_way, recalled_rows_are_its_own),
    "rows_answered": (is_under_way, map_is_under_way, rows_are_answered_once),
    "map_returned": (is_under_way, map_is_under_way, map_returns_what_it_told),
    "reduce_called": (is_under_way, cell_was_let_run, reduction_is_alone),
    "reduce_returned": (is_under_way, reduction_returns_what_it_did),
    "budget": (ledger_agrees,),
    "models_changed": (models_are_named,),
    "answered": (is_under_way, answer_is_what_was_said, stop_is_what_happened, citations_agree),
    "run_closed": (stands_at_the_root, run_took_its_time, total_is_the_sum, run_ends_as_it_answered),
}


# -- what an event adds to the story -----------------------------------------------------------------------


def _nothing(story: Story, event: RecordedEvent) -> None:
    return None


def _opened(story: Story, event: RecordedEvent) -> None:
    story.opened, story.question = event, "" if is_taken(event, "question") else event["question"]


def _put(story: Story, event: RecordedEvent) -> None:
    story.question = "" if is_taken(event, "question") else event["question"]
    story.talks["0"].end = Ending(event["time_s"])


def _noted(story: Story, event: RecordedEvent) -> None:
    talk = story.talks.get(event["conversation"])
    if talk is not None and (stopped := _STOPPED.match(event["text"])):
        talk.end.limit = stopped[1]


def _models_changed(story: Story, event: RecordedEvent) -> None:
    story.opened = story.opened | {"models": event["models"]}


def _asked(story: Story, event: RecordedEvent) -> None:
    talk, story.call = story.talks[event["conversation"]], event["call"]
    talk.searched = False
    talk.end.asks += 1
    if event["conversation"] == "0" and event["messages"]:
        story.question = ""
    talk.call = Asked(event["call"], event["model"], event["time_s"], event["max_tokens"], story.spent)
    talk.begun_anew = talk.begun_anew or event["conversation_messages"] == len(event["messages"])
    talk.sent = max(
        talk.sent, event["conversation_messages"]
    )  # a last call has a few of its own between others


def _ended(story: Story, event: RecordedEvent) -> None:
    name = event["conversation"]
    talk, used = story.talks[name], Usage(**event.get("usage", {}))
    talk.call, talk.free_s, talk.end.last = None, event["time_s"], event["kind"]
    talk.end.failed |= event.get("error", CUT_OFF) != CUT_OFF
    talk.end.refused |= "refused" in event
    if "text" in event:
        # Half a surrogate pair cannot be sent again, and is replaced.
        talk.said |= {_digest(event["text"]), _digest(event["text"].encode("utf-8", "replace").decode())}
        talk.reply = _digest(event["text"])
        talk.text = event["text"] if name == "0" and not talk.cell else ""
    if is_taken(event, "text"):
        talk.said, talk.reply, talk.text = talk.said | {_digest("")}, b"", ""
    is_told = "usage" in event and ("attempts" in event or event.get("error") != CUT_OFF)
    is_told = is_told and not is_taken(event, "error")
    story.cut = story.cut or not is_told
    story.spent, story.paid = story.spent + used, story.paid + 1
    for above in _lineage(name):
        story.talks[above].used += used


def _scanned(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    if event["cell"] == 1 and talk.cell:
        talk.children, talk.counted_anew, talk.told, talk.computed = 0, True, None, False
    talk.cell, talk.scan, talk.begun_anew, talk.text = event["cell"], event["verdict"], False, ""
    told = told_in(event["code"]) if event["verdict"] == "ok" else ""
    told = None if is_taken(event, "code") else told
    talk.computed = talk.computed or told is None
    talk.told = told or talk.told


def _ran(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.scan, talk.last_ok, talk.free_s = "", event["status"] == "ok", event["time_s"]
    talk.end.last = event["status"]
    talk.printed = "" if is_taken(event, "stdout") else event["stdout"][:PRINTED_CHARS]
    talk.computed = talk.computed or event["status"] not in ("ok", "rejected")
    talk.map = talk.reduction = None
    _end_children(story, talk)  # those of a cell that was cut short have ended with it


def _visited(story: Story, event: RecordedEvent) -> None:
    story.talks[event["conversation"]].searched |= "by" in event


def _called(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    _end_children(story, talk)  # a call that was refused half-way never returned
    talk.under_way, talk.children = list(event["children"]), talk.children + len(event["children"])
    talk.called_s = event["time_s"]
    story.talks |= {child: Talk() for child in event["children"]}


def _returned(story: Story, event: RecordedEvent) -> None:
    _end_children(story, story.talks[event["conversation"]])


def _map_called(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.map = Mapped(event["verb"], event["rows"], event["cell"], talk.children, event["time_s"], talk.used)


def _rows_recalled(story: Story, event: RecordedEvent) -> None:
    if (mapped := story.talks[event["conversation"]].map) is not None:
        had = {_values(values) for values in event["values"]}
        mapped.recalled = (
            None if mapped.recalled is None or is_taken(event, "values") else mapped.recalled | had
        )


def _rows_answered(story: Story, event: RecordedEvent) -> None:
    if (mapped := story.talks[event["conversation"]].map) is not None:
        mapped.told += len(event["answers"])
        mapped.failed += sum("error" in one for one in event["answers"])
        mapped.stored += sum("values" in one and not one["call"] for one in event["answers"])


def _map_returned(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.map, talk.mapped = None, map_in_words(event)


def _reduce_called(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    calls, began_s = event["plan"]["calls"], event["time_s"]
    talk.reduction = Reduction(event["cell"], calls, talk.children, began_s, talk.used)


def _reduce_returned(story: Story, event: RecordedEvent) -> None:
    story.talks[event["conversation"]].reduction = None


def _end_children(story: Story, talk: Talk) -> None:
    waiting, talk.under_way = talk.under_way, []
    while waiting:
        if (child := story.talks.pop(waiting.pop(), None)) is not None:
            story.cut = story.cut or child.call is not None
            waiting += child.under_way


def _budget(story: Story, event: RecordedEvent) -> None:
    spent = Usage(**event["spent"])
    story.noted = spent if _covers(story, spent, story.noted) else story.noted


def _answered(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.searched = False
    talk.has_answered, talk.reply, talk.has_words = True, _digest(event["content"]), bool(event["content"])
    if is_taken(event, "content"):
        talk.reply = b""
    if event["conversation"] == "0":
        story.stop = event["stop"]


_AFTER: dict[str, Callable[[Story, RecordedEvent], None]] = {
    "run_opened": _opened,
    "question_put": _put,
    "models_changed": _models_changed,
    "model_asked": _asked,
    "model_answered": _ended,
    "model_failed": _ended,
    "code_scanned": _scanned,
    "code_run": _ran,
    "visited": _visited,
    "child_called": _called,
    "child_returned": _returned,
    "map_called": _map_called,
    "rows_recalled": _rows_recalled,
    "rows_answered": _rows_answered,
    "map_returned": _map_returned,
    "reduce_called": _reduce_called,
    "reduce_returned": _reduce_returned,
    "budget": _budget,
    "note": _noted,
    "answered": _answered,
}


# -- the answer that code writes ---------------------------------------------------------------------------

_ANSWERING = re.compile(r"answer|FINAL|SUBMIT")


def told_in(code: str) -> str | None:
    """The answer that a cell gives in so many words; '' where it gives none, None where it may compute one.

    So many words are `FINAL("...")` alone, or `answer["content"] = "..."` among statements that name `answer` in no
    other way. JSON may be taken apart afterwards, so it is taken for computed.
    """
    if len(code) > PLAIN_CHARS:
        return None
    named = len(_ANSWERING.findall(unicodedata.normalize("NFKC", code)))
    if not named:
        return ""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    given = [pair for statement in body for pair in _given(statement)]
    texts = [value for key, value in given if key == "content"]
    if len(given) != named or (texts and not isinstance(texts[-1], str)):
        return None
    if len(given) > 1 and "FINAL" in code:  # which ends the cell, and what follows is not reached
        return None
    told = texts[-1] if texts else ""
    return None if told.startswith("{") or told != told.encode("utf-8", "replace").decode() else told


def _given(statement: ast.stmt) -> Iterator[tuple[str, Any]]:
    """(key, constant or None) where a statement puts something into the answer, and does nothing else with it."""
    match statement:
        case ast.Assign(
            targets=[ast.Subscript(value=ast.Name(id="answer"), slice=ast.Constant(value=str(key)))]
        ):
            yield key, statement.value.value if isinstance(statement.value, ast.Constant) else None
        case ast.Expr(
            value=ast.Call(func=ast.Name(id="FINAL"), args=[ast.Constant(value=str(text))], keywords=[])
        ):
            yield "content", text


# -- sums and digests --------------------------------------------------------------------------------------


def _lineage(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _lines(text: str) -> set[str]:
    return {line.strip() for line in text.split("\n")}


def _slack(story: Story, usd: float) -> float:
    """What a sum of dollars may be off: the ledger rounds each call up to a picodollar, and floats round sums."""
    return 1e-9 + story.paid * 1e-11 + usd * 1e-9


def _covers(story: Story, more: Usage, less: Usage) -> bool:
    counts = more.calls >= less.calls and more.prompt_tokens >= less.prompt_tokens
    counts = counts and more.completion_tokens >= less.completion_tokens
    return counts and more.usd >= less.usd - _slack(story, less.usd)


def _unlike(story: Story, said: dict[str, Any], summed: Usage, who: str, parts: str) -> str:
    usage = Usage(**said)
    if _covers(story, usage, summed) and _covers(story, summed, usage):
        return ""
    return f"{who} said to have used {_words(usage)}, and {parts} together {_words(summed)}"


def _words(usage: Usage) -> str:
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
    return f"{count(usage.calls, 'call')}, {tokens}, ${usage.usd:g}"
