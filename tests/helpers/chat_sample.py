"""A chat of three questions over the toy index, with a scripted model: claims that stand, one that does not, none."""

from pathlib import Path

import pytest

from index_store.index import Index
from rlm import Answer, Models
from rlm.asking.chat import open_chat
from rlm.gateway.blocking import run_blocking
from tests.helpers.model_server import MODEL, ModelServer

QUESTIONS = ("How many masts has the ketch?", "Which of them is shorter?", "Who built it?")
_FINAL = """```python
{look}
answer["content"] = {content!r}
answer["citations"] = {quotes!r}
answer["ready"] = True
```"""
SCRIPT = [
    _FINAL.format(
        look="print(context.read('L0-00000'))",
        content="Two [1], and nine oars [2].",
        quotes=["The ketch  has two masts.", "It has nine oars."],
    ),
    "```python\nprint(context.peek('L1-00000'))\n```",
    _FINAL.format(look="", content="The mizzen [1].", quotes=["The mizzen is shorter."]),
    _FINAL.format(look="", content="Not in these documents.", quotes=[]),
]


def chat_sample(index: Index, runs: Path) -> tuple[Path, list[Answer]]:
    """(its run folder, its answers)."""

    async def chatting() -> list[Answer]:
        async with open_chat(index, models=Models(MODEL, MODEL), runs=runs) as chat:
            return [await chat.ask(question) for question in QUESTIONS]

    with ModelServer(list(SCRIPT)) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        answers = run_blocking(chatting())
    (folder,) = runs.iterdir()
    return folder, answers
