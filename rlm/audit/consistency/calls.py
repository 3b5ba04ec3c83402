"""Model calls: their order, their caps, and what they cost, summed."""

from index_store.terminal import brief, count
from rlm.audit.consistency.story import SLACK_S, Asked, Story
from rlm.audit.consistency.sums import covers, digest, in_words, lineage, slack_usd, unlike_sum
from rlm.audit.events import RecordedEvent, is_taken
from rlm.gateway.types import Usage

#: The error of a call that was cancelled: the ledger was charged for it, and before there were attempts nobody was told
#: how much.
CUT_OFF = "the run was stopped before the model answered"


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
    if usd is not None and asked.spent.usd > usd + slack_usd(story, usd):
        return f"it was made when ${asked.spent.usd:g} were spent of ${usd:g}"
    return ""


def attempts_add_up(story: Story, event: RecordedEvent) -> str:
    """A call was charged what its attempts settled, took no less time than they, and ends as the last of them did."""
    attempts = event.get("attempts")
    if attempts is None:
        return ""
    settled = sum((Usage(**one["settled"]) for one in attempts), Usage())
    if problem := unlike_sum(story, event.get("usage", {}), settled, "the call is", "its attempts"):
        return problem
    took = sum(one["waited_s"] + one["seconds"] for one in attempts)
    if took > event["seconds"] + SLACK_S:
        return f"the call took {event['seconds']} s, and its attempts {took:.3f} s together"
    *before, last = [not one["error"] for one in attempts] or [False]
    if any(before) or last == ("error" in event):
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
    return unlike_sum(story, event["usage"], used, "the children are", "their calls")


def ledger_agrees(story: Story, event: RecordedEvent) -> str:
    """The ledger of the root has entered every call that has ended."""
    if event["conversation"] != "0" or covers(story, Usage(**event["spent"]), story.spent):
        return ""
    said = in_words(Usage(**event["spent"]))
    return f"the ledger is said to have spent {said}, and the calls so far {in_words(story.spent)}"


def total_is_the_sum(story: Story, event: RecordedEvent) -> str:
    """The run was charged what its calls used; more only where a call was cut off, and its cost never told."""
    closed = Usage(**event["usage"])
    if not covers(story, closed, story.noted):
        return f"the run is said to have used {in_words(closed)}, and its ledger had {in_words(story.noted)} before"
    if not story.cut and not any(talk.call for talk in story.talks.values()):
        return unlike_sum(story, event["usage"], story.spent, "the run is", "its calls")
    if not covers(story, closed, story.spent):
        return (
            f"the run is said to have used {in_words(closed)}, and its calls together {in_words(story.spent)}"
        )
    return ""


def asked(story: Story, event: RecordedEvent) -> None:
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


def ended(story: Story, event: RecordedEvent) -> None:
    name = event["conversation"]
    talk, used = story.talks[name], Usage(**event.get("usage", {}))
    talk.call, talk.free_s, talk.end.last = None, event["time_s"], event["kind"]
    talk.end.failed |= event.get("error", CUT_OFF) != CUT_OFF
    talk.end.refused |= "refused" in event
    if "text" in event:
        # Half a surrogate pair cannot be sent again, and is replaced.
        talk.said |= {digest(event["text"]), digest(event["text"].encode("utf-8", "replace").decode())}
        talk.reply = digest(event["text"])
        talk.text = event["text"] if name == "0" and not talk.cell else ""
    if is_taken(event, "text"):
        talk.said, talk.reply, talk.text = talk.said | {digest("")}, b"", ""
    is_told = "usage" in event and ("attempts" in event or event.get("error") != CUT_OFF)
    is_told = is_told and not is_taken(event, "error")
    story.cut = story.cut or not is_told
    story.spent, story.paid = story.spent + used, story.paid + 1
    for above in lineage(name):
        story.talks[above].used += used


def embedded(story: Story, event: RecordedEvent) -> None:
    used = Usage(**event["usage"])
    story.spent, story.paid = story.spent + used, story.paid + 1
    for above in lineage(event["conversation"]):
        story.talks[above].used += used


def budget(story: Story, event: RecordedEvent) -> None:
    spent = Usage(**event["spent"])
    story.noted = spent if covers(story, spent, story.noted) else story.noted
