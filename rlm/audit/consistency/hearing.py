"""Which rules each kind of event must keep, and what it adds to the story."""

from collections.abc import Callable

from rlm.audit.consistency import calls, cells, conversations, endings, maps
from rlm.audit.consistency.story import Rule, Story
from rlm.audit.events import RecordedEvent

#: The rules for each kind of event, in the order in which they are asked; each may rely on those before it. Notes and
#: flags have none: a thread of its own may record them a moment late; but that a limit is reached is noted at once.
RULES: dict[str, tuple[Rule, ...]] = {
    "run_opened": (conversations.stands_at_the_root, conversations.reader_has_labels),
    "question_put": (conversations.stands_at_the_root, conversations.question_is_next),
    "model_asked": (
        conversations.is_under_way,
        calls.call_is_next,
        conversations.model_is_the_runs,
        calls.messages_add_up,
        conversations.question_is_put,
        conversations.assistant_said_it,
        conversations.output_is_shown,
    ),
    "model_answered": (
        conversations.is_under_way,
        calls.call_was_begun,
        calls.caps_hold,
        calls.attempts_add_up,
        calls.stored_cost_nothing,
    ),
    "model_failed": (
        conversations.is_under_way,
        calls.call_was_begun,
        calls.caps_hold,
        calls.attempts_add_up,
    ),
    "code_scanned": (conversations.is_under_way, cells.cell_is_next),
    "code_run": (conversations.is_under_way, cells.cell_was_scanned),
    "visited": (
        conversations.is_under_way,
        cells.cell_was_let_run,
        cells.run_searched_for_its_end,
        cells.visit_gave_what_it_counts,
    ),
    "embedded": (conversations.is_under_way, calls.attempts_add_up),
    "child_called": (
        conversations.is_under_way,
        cells.cell_was_let_run,
        conversations.children_are_next,
        conversations.depth_is_allowed,
        maps.reduces_what_was_called,
    ),
    "child_returned": (
        conversations.is_under_way,
        cells.cell_was_let_run,
        conversations.children_return_as_called,
        conversations.children_took_their_time,
        calls.children_cost_what_they_used,
        conversations.children_end_as_they_did,
    ),
    "map_called": (
        conversations.is_under_way,
        cells.cell_was_let_run,
        maps.map_is_alone,
        maps.map_asks_for_fields,
    ),
    "rows_recalled": (conversations.is_under_way, maps.map_is_under_way, maps.recalled_rows_are_its_own),
    "rows_answered": (
        conversations.is_under_way,
        maps.map_is_under_way,
        maps.rows_are_answered_once,
        maps.answers_are_what_was_replied,
    ),
    "map_returned": (conversations.is_under_way, maps.map_is_under_way, maps.map_returns_what_it_told),
    "reduce_called": (conversations.is_under_way, cells.cell_was_let_run, maps.reduction_is_alone),
    "reduce_returned": (conversations.is_under_way, maps.reduction_returns_what_it_did),
    "budget": (calls.ledger_agrees,),
    "models_changed": (conversations.models_are_named,),
    "answered": (
        conversations.is_under_way,
        endings.answer_is_what_was_said,
        endings.stop_is_what_happened,
        endings.citations_agree,
    ),
    "run_closed": (
        conversations.stands_at_the_root,
        endings.run_took_its_time,
        calls.total_is_the_sum,
        endings.run_ends_as_it_answered,
    ),
}

_AFTER: dict[str, tuple[Callable[[Story, RecordedEvent], None], ...]] = {
    "run_opened": (conversations.opened,),
    "question_put": (conversations.put,),
    "models_changed": (conversations.models_changed,),
    "model_asked": (calls.asked, maps.pack_asked),
    "model_answered": (calls.ended, maps.pack_answered),
    "model_failed": (calls.ended, maps.pack_failed),
    "code_scanned": (cells.scanned,),
    "code_run": (cells.ran,),
    "visited": (cells.visited,),
    "embedded": (calls.embedded,),
    "child_called": (conversations.called,),
    "child_returned": (conversations.returned,),
    "map_called": (maps.map_called,),
    "rows_recalled": (maps.rows_recalled,),
    "rows_answered": (maps.rows_answered,),
    "map_returned": (maps.map_returned,),
    "reduce_called": (maps.reduce_called,),
    "reduce_returned": (maps.reduce_returned,),
    "budget": (calls.budget, maps.budget_noted),
    "note": (endings.noted,),
    "answered": (endings.answered,),
}


def hear(story: Story, event: RecordedEvent) -> str:
    """What contradicts the story in the next event, '' for nothing; it is then part of the story."""
    if story.unheard:
        return ""
    for rule in RULES.get(event["kind"], ()):
        if problem := rule(story, event):
            if story.opened.get("format") != 1:
                return problem
            story.unheard = (
                f"what this trace of format 1 says from line {event['seq'] + 1} on, by the rules of today"
            )
            return ""
    for add in _AFTER.get(event["kind"], ()):
        add(story, event)
    return ""
