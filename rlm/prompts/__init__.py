"""The texts that a model reads in a conversation, so that a change of prompt is a diff of text.

The long prompts are files beside this one; `refusals` has the texts for code that uses a verb or a call wrongly. Errors
of the packages below (no such node, a cap that is reached, a rule of the sandbox) are worded where they are raised. A
trace records VERSION and a digest of all these texts (`rlm.asking.runs.words_digest`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from index_store.terminal import count
from index_store.types import Json, Scope
from rlm.gateway.blocks import Block, quote

VERSION = "7"


def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8").removesuffix("\n")


SYSTEM = _text("system")
SUB_CALL = _text("sub_call")
SINGLE = _text("single")
JUDGE = _text("judge")
DRAFT = _text("draft")
MAP = _text("map")
MAP_SHARED = _text("map_shared")
REDUCE_LEAF = _text("reduce_leaf")
REDUCE_NOTES = _text("reduce_notes")
REDUCE_ANSWER = _text("reduce_answer")
OVER_CALLING = _text("over_calling")
#: Added to the system prompt of models with the word in their name. Qwen models make far more calls than others (arXiv
#: 2512.24601, section 4 and its prompts).
SUPPLEMENTS: Mapping[str, str] = {"qwen": OVER_CALLING}

#: The beginning of an answer by which it says that the documents do not hold what was asked.
NOT_IN_DOCUMENTS = "Not in these documents"
#: The whole reply of a call that cannot answer from its passages.
NOT_FOUND = "NOT FOUND"
NO_CODE = (
    "Your reply held no ```python block, so nothing ran. Write one block; to finish, set answer['content'], "
    "answer['citations'] and answer['ready'] = True in it."
)
EMPTY = "Your reply was empty, so nothing ran. Write one ```python block."
CUT = "Your reply was cut at {tokens:,} tokens before its code ended, so nothing ran. Write a shorter ```python block."
REFUSED = (
    "You declined to go on, so nothing ran. Write one ```python block; if the question cannot be answered from the "
    "documents, begin answer['content'] with \"Not in these documents\" and set answer['ready'] = True."
)
NO_TOOLS = "There are no tools to call here, so nothing ran. Write your code in one ```python block."
UNMET = "The answer is not taken yet: {why}\nMend it and set answer['ready'] = True again."
UNMET_SINGLE = "That answer is not taken yet: {why}\nAnswer again, whole, in the same form."
#: Added to the system prompt of a single call that reads areas.
AREAS = """


The passages are areas of a large corpus, from the upper levels of a tree over it. Each tells, beside its name, how much
of the text it holds, then its label, the beginning of its summary, and what is inside it. In all there are {documents}.
Answer about the corpus as a whole, or about the areas that are asked for, and say of each area that you name how large
it is. Quote words of labels and summaries as your sources."""
#: As AREAS, where it is a passage of each area, which can be quoted from a document.
PARTS = """


The passages are each from another part of a large text. Beside its name stands how much of the text that part holds,
and its name and label, where it has any. In all there are {documents}. Answer about the text as a whole, as far as
these passages show it, and say of each part that you name how large it is. Quote words of the passages as your
sources."""
#: About how many tokens the marked line above a passage has, with its place.
MARK_TOKENS = 20
LAST_TURN = (
    "This is your last turn: set answer['content'], answer['citations'] and answer['ready'] = True now."
)

OPENING = """\
Question: {question}

`context` is {where}: {documents}, {nodes}, {chars}. Begin."""
#: Added to the opening of a question on the route "map".
ASK_EVERY_ROW = " The question is about everything, so go way 3: ask every row, and count in code."
WHOLE, BRANCH = "the whole corpus", "the branch under {under}"
SCOPED = " of what the question is about, which is all that you can see and cite ({scope})"
NEXT = "The next question, in the same REPL: {question}"
OUTPUT = "Cell {cell}: {status}.\n{body}\n{left}"
NO_OUTPUT = "(it printed nothing)"
LEFT = "Left: {left}."
ASKED_OF = "{passages}\n\nQUESTION: {prompt}"
#: Where one question is put to many passages: so the prompts begin alike, and providers keep what they begin with.
ASKED_OF_EACH = "QUESTION: {prompt}\n\n{passages}"
PUT_AWAY = """\


To save room, the first turns are not shown any more. Your variables still hold what they made, and history(n) gives
the code and the output of cell n again. In short:
{lines}"""
TYPED = """\


The answer must be a value that fits this JSON Schema; {how}. Where the documents do not hold it, say "Not in these
documents" instead. The schema:
{schema}"""
TYPED_CELL = "set answer['content'] to it"
TYPED_SINGLE = "write it as JSON in one ```json block, before the lines of sources"
CITED = "\n\nThe answer is taken only with citations whose quotes stand word for word in the documents."


#: Told below the output of a cell that reduces: what that takes at most, and what its answer lacks.
REDUCE_PLAN = "llm_reduce: {packs} over {levels}, at most {calls}, {tokens} and {dollars}"
REDUCE_TOLD = "llm_reduce: {told}"
REDUCE_FAILED = (
    "{count:,} of its prompts failed, so that the answer may lack what they read (its `failed` says which)"
)
REDUCE_CUT = "{count:,} without evidence"
REDUCE_DROPPED = "{count:,} notes dropped that rested on nothing read, or had no room"
REDUCE_UNCITED = "{count:,} more sources stand in its notes than in its citations"


def system(model: str) -> str:
    """The system prompt of a conversation with a REPL, for one model."""
    return SYSTEM + "".join(text for word, text in SUPPLEMENTS.items() if word in model.lower())


def where(under: str | None, scope: Scope) -> str:
    """What `context` is, in words, for the first message: a branch or all, of the whole corpus or of a scope."""
    branch = BRANCH.format(under=under) if under else WHOLE
    named = json.dumps(scope.as_json(), ensure_ascii=False)
    return branch if scope.is_all else branch + SCOPED.format(scope=named)


def opening(question: str, where: str, documents: int, nodes: int, chars: int) -> str:
    """The first user message of a conversation: the question, what its view is, and the size of that."""
    held = {"documents": count(documents, "document"), "nodes": count(nodes, "node")}
    return OPENING.format(question=question, where=where, **held, chars=count(chars, "character"))


def demanded(citations: bool, schema: Mapping[str, Json] | None, how: str) -> str:
    """The end of a message that says what an answer must satisfy; '' for no demands. `how`: how to set it."""
    typed = TYPED.format(how=how, schema=json.dumps(schema, ensure_ascii=False)) if schema is not None else ""
    return typed + (CITED if citations else "")


def output(cell: int, status: str, stdout: str, error: str, left: str) -> str:
    """What a cell printed, and its error, in data blocks, since the words may be a document's; `left` is put below."""
    parts = {f"output of cell {cell}": stdout, f"error of cell {cell}": error}
    body = quote([Block(name, text) for name, text in parts.items() if text])
    return OUTPUT.format(cell=cell, status=status, body=body or NO_OUTPUT, left=left)


def left(amounts: Mapping[str, Json], lacks: str) -> str:
    """The end of a message about a cell: what is left of each cap, what a ready answer lacks, and the last turn."""
    shown = (f"{name} {round(n, 4):,}" for name, n in amounts.items() if isinstance(n, int | float))
    lines = [LEFT.format(left=", ".join(shown)), told_why(UNMET, lacks) if lacks else ""]
    return " ".join(line for line in [*lines, LAST_TURN * (amounts["turns"] == 1)] if line)


def told_why(words: str, why: str) -> str:
    """The message `words` with what an answer lacks in a data block, since those words may be a document's."""
    return words.format(why=f"\n{quote([Block('what it lacks', why)])}")


def put_away(lines: Sequence[str]) -> str:
    """The end of the opening message that replaces the turns which are no longer shown; `lines`: one about each."""
    return PUT_AWAY.format(lines="\n".join(lines))


def sub_call(prompt: str, passages: Sequence[Block], *, each: bool = False) -> str:
    """The user message of a call without a REPL: the passages in data blocks, then the prompt. `each`: the prompt is
    put to other passages too, and goes first."""
    words = ASKED_OF_EACH if each else ASKED_OF
    return words.format(passages=quote(passages), prompt=prompt) if passages else prompt
