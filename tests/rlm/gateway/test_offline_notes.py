"""offline/reader on the prompts of a reduction: sentences as notes, the best passed on, nothing where nothing is."""

import json

from rlm.gateway.blocks import Block
from rlm.gateway.offline.notes import NOTHING, OF_ALL, OF_NOTES, OF_PASSAGES, read_or_note
from rlm.gateway.tokens import count_tokens
from rlm.mapping.notes import Messages, Note, answer_messages, leaf_messages, parent_messages
from rlm.prompts import REDUCE_ANSWER, REDUCE_LEAF, REDUCE_NOTES

QUESTION = "Who mended the mast of the ketch?"
PASSAGE = Block("L0-00000", "It rained.\nAda mended the mast\nof the ketch. Bo slept.")
OTHER = Block("L0-00001", "Soup was served.")


def reply(messages: Messages, tokens: int = 1_000) -> str:
    return read_or_note([*messages], tokens)


def test_the_prompts_ask_in_the_forms_that_it_knows() -> None:
    assert (OF_PASSAGES in REDUCE_LEAF, OF_NOTES in REDUCE_NOTES, OF_ALL in REDUCE_ANSWER) == (True,) * 3


def test_it_notes_the_sentence_that_answers_with_its_exact_words() -> None:
    first = reply(leaf_messages(QUESTION, [PASSAGE, OTHER])).split("\n")[0]
    quote = json.loads(first)["quote"]
    assert quote in PASSAGE.text
    assert json.loads(first) == {"note": " ".join(quote.split()), "from": ["L0-00000"], "quote": quote}
    assert "mended" in quote


def test_where_nothing_bears_on_the_question_it_says_so() -> None:
    assert reply(leaf_messages(QUESTION, [OTHER])) == NOTHING


def test_it_passes_notes_on_the_best_first_by_their_numbers() -> None:
    notes = [Note(text, ()) for text in ("Soup.", "A ketch has masts.", "Ada mended the mast of the ketch.")]
    for messages, name in ((parent_messages, "note"), (answer_messages, "statement")):
        first = json.loads(reply(messages(QUESTION, notes)).split("\n")[0])
        assert first == {name: "Ada mended the mast of the ketch.", "from": [3]}


def test_it_ends_with_the_last_note_that_fits() -> None:
    notes = [Note(f"Mast {n} of the ketch was mended by Ada {n}.", ()) for n in range(30)]
    whole = reply(parent_messages(QUESTION, notes))
    part = reply(parent_messages(QUESTION, notes), 100)
    assert count_tokens("offline/reader", part) <= 100
    assert whole.startswith(part)
    assert len(whole) > len(part)
