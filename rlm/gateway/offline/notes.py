"""What `offline/reader` replies to the prompts of a reduction: sentences as notes, word for word, the best first."""

import json
import re
from collections.abc import Iterable

from rlm.gateway.blocks import Block, outside, unquote
from rlm.gateway.offline.reader import MODEL, asked, best, read
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message

#: The forms in which a system prompt wants notes of passages, fewer notes, or an answer of notes.
OF_PASSAGES = '{"note": "...", "from": ["NAME"], "quote": "..."}'
OF_NOTES = '{"note": "...", "from": [1, 2]}'
OF_ALL = '{"statement": "...", "from": [1, 2]}'
NOTHING = "NONE"
_NUMBERED = re.compile(r"^(\d{1,9}): (.*)$", re.MULTILINE)
PASSED_ON = 40  # notes, at most


def read_or_note(messages: list[Message], max_tokens: int) -> str:
    """Notes, where the system prompt wants them in one of these forms; else as `read`."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    prompt = messages[-1]["content"]
    question, blocks = asked(outside(prompt)), unquote(prompt)
    if OF_PASSAGES in system:
        return _fitting(_of_passages(question, blocks), max_tokens)
    if OF_NOTES in system:
        return _fitting(_of_notes("note", question, blocks, PASSED_ON), max_tokens)
    if OF_ALL in system:
        return _fitting(_of_notes("statement", question, blocks), max_tokens)
    return read(messages, max_tokens)


def _of_passages(question: str, blocks: list[Block]) -> Iterable[dict[str, object]]:
    for one in best(question, blocks):
        yield {"note": " ".join(one.text.split()), "from": [one.block], "quote": one.text}


def _of_notes(
    name: str, question: str, blocks: list[Block], most: int | None = None
) -> Iterable[dict[str, object]]:
    notes = [Block(n, text) for block in blocks[-1:] for n, text in _NUMBERED.findall(block.text)]
    for one in best(question, notes) if most is None else best(question, notes, most):
        yield {name: one.text, "from": [int(one.block)]}


def _fitting(lines: Iterable[dict[str, object]], max_tokens: int) -> str:
    """As many lines as fit."""
    fitting: list[str] = []
    for line in lines:
        longer = [*fitting, json.dumps(line, ensure_ascii=False)]
        if count_tokens(MODEL, "\n".join(longer)) > max_tokens:
            break
        fitting = longer
    return "\n".join(fitting) or NOTHING
