"""Who called whom, what a conversation was told, and of what models."""

from index_store.access import is_label
from index_store.terminal import brief, count
from rlm.audit.consistency.story import Ending, Story, Talk, end_children
from rlm.audit.consistency.sums import digest, too_long
from rlm.audit.events import RecordedEvent, is_taken

#: Conversations that may be under way together; the engine opens 500 at a time in each of a few.
MOST_OPEN = 100_000


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


def reader_has_labels(story: Story, event: RecordedEvent) -> str:
    """A reader to whom the index was narrowed has labels, in order, each once; or none."""
    labels = event.get("access") or []
    if labels == sorted({*labels}) and all(map(is_label, labels)):
        return ""
    return f"the run is said to read as {brief(labels)}, which are no labels in order"


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
            and said != digest(result["text"])
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
    return too_long(event, story.talks[event["conversation"]].called_s, "the children")


def assistant_said_it(story: Story, event: RecordedEvent) -> str:
    """What a model is sent as its own words, it has said before in this conversation."""
    said = story.talks[event["conversation"]].said
    for number, message in enumerate(event["messages"]):
        words = digest(message["content"])
        unknown = digest("") in said or is_taken(event, f"messages/{number}")
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


def opened(story: Story, event: RecordedEvent) -> None:
    story.opened, story.question = event, "" if is_taken(event, "question") else event["question"]


def put(story: Story, event: RecordedEvent) -> None:
    story.question = "" if is_taken(event, "question") else event["question"]
    story.talks["0"].end = Ending(event["time_s"])


def models_changed(story: Story, event: RecordedEvent) -> None:
    story.opened = story.opened | {"models": event["models"]}


def called(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    end_children(story, talk)  # a call that was refused half-way never returned
    talk.under_way, talk.children = list(event["children"]), talk.children + len(event["children"])
    talk.called_s = event["time_s"]
    story.talks |= {child: Talk() for child in event["children"]}


def returned(story: Story, event: RecordedEvent) -> None:
    end_children(story, story.talks[event["conversation"]])
