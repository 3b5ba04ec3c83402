"""A count over 2,000 short documents: sub-calls label, code counts, and the calls are packed nearly full."""

import csv
import json
import math
import random
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from index_store.index import Index, open_index
from index_store.types import Json
from index_store.writer import Draft
from rlm import Limits, Models, ask, prompts
from rlm.answers.demands import Demands
from rlm.gateway.tokens import count_tokens
from tests.helpers.model_server import MODEL, Body, ModelServer
from tests.helpers.places import data_file
from tests.helpers.rlm_toy import warm_up
from tests.helpers.toy import document, publish_toy, unit_rows

ROWS, BRANCH = 2_000, 50
PROMPT_TOKENS = 2_500  # what one labelling prompt may hold
QUESTION = "How many of the messages are spam, by month?"
COUNTS: dict[str, Json] = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}

LOOK = """
view = context.overview()
print(view["documents"], "documents in", len(view["children"]), "branches")
print(context.read("L0-00000"))
"""
MAP = """
rows = []
for branch in context.overview()["children"]:
    rows += context.read([leaf["node"] for leaf in context.leaves(branch["node"])])

TASK = "Label each message as spam or ham: one line each, its user and the label.\\n"
packs, room = [], 0
for row in rows:
    if room < len(row) + 1:
        packs.append(TASK)
        room = PROMPT_CHARS - len(TASK)
    packs[-1] += row + "\\n"
    room -= len(row) + 1

labels = {}
for reply in llm_query_batched(packs):
    labels |= dict(line.split() for line in reply.splitlines())
fields = [re.match(r"Date: (\\w+) .*? User: (\\d+) ", row) for row in rows]
spam = collections.Counter(month for month, user in (f.groups() for f in fields) if labels[user] == "spam")
print(len(packs), "calls;", len(labels), "of", len(rows), "labelled")
"""
# There are no tokens to count in the sandbox; these rows have 3.2 characters a token, and marks take some.
MAP = MAP.replace("PROMPT_CHARS", str(int(3.1 * (PROMPT_TOKENS - 40))))
FINISH = 'answer["content"] = dict(spam)\nanswer["ready"] = True'


def messages() -> list[tuple[str, str]]:
    """(label, text) of the rows, each with a date and a user, as OOLONG (arXiv 2511.02817) gives them."""
    rng = random.Random(5)
    with data_file("sms_spam.tsv").open(encoding="utf-8", newline="\n") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    days = [date(2023, 1, 1) + timedelta(rng.randrange(365)) for _ in range(ROWS)]
    return [
        (label, f"Date: {day:%b %d, %Y} || User: {10_000 + i} || Instance: {text}")
        for i, (day, (label, text)) in enumerate(zip(days, rng.sample(rows, ROWS), strict=True))
    ]


def one_chunk_each(path: Path, texts: list[str]) -> Index:
    """An index of documents of one chunk, fifty to a branch."""
    branches = [np.arange(a, min(a + BRANCH, len(texts))) for a in range(0, len(texts), BRANCH)]
    top = np.arange(len(texts), len(texts) + len(branches))
    nodes = len(texts) + len(branches) + 1
    names = [f"Messages {b[0]} to {b[-1]}" for b in branches] + ["Messages"]
    draft = Draft(
        documents=[document(f"{i:04}.txt", text) for i, text in enumerate(texts)],
        chunks=np.array([(i, 0, len(text)) for i, text in enumerate(texts)]),
        labels=names,
        summaries=names,
        levels=[len(texts), len(branches), 1],
        children=[*branches, top],
        tokens=np.full(nodes, 40, dtype=np.int64),
        vectors=unit_rows(nodes),
    )
    publish_toy(path, draft)
    return open_index(path)


class Labeller:
    """The scripted models: a root that writes three cells, and one that knows the label of each row it is shown."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels

    def __call__(self, body: Body) -> str:
        first, second = (message["content"] for message in body["messages"][:2])
        if first == prompts.SUB_CALL:
            rows = [line for line in second.splitlines() if line in self.labels]
            return "\n".join(
                f"{row.split(' || ')[1].removeprefix('User: ')} {self.labels[row]}" for row in rows
            )
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        return f"```python\n{(LOOK, MAP, FINISH)[turn]}\n```"


def test_spam_is_counted_by_month_exactly_in_few_calls_and_a_short_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = messages()
    warm_up()
    index = one_chunk_each(tmp_path / "sms.index", [text for _, text in rows])
    with ModelServer(Labeller({text: label for label, text in rows})) as server:
        server.use(monkeypatch)
        answer = ask(
            index,
            QUESTION,
            models=Models(MODEL, MODEL),
            limits=Limits(timeout_s=120),
            runs=tmp_path,
            route="rlm",
            demands=Demands(schema=COUNTS),
        )
    months = Counter(text[6:9] for label, text in rows if label == "spam")
    assert (answer.stop, json.loads(answer.content)) == ("answer", dict(months))

    of_root = [body for body in server.requests if body["messages"][0]["content"] != prompts.SUB_CALL]
    asked = [body["messages"][1]["content"] for body in server.requests if body not in of_root]
    sizes = [count_tokens("gpt-5", prompt) for prompt in asked]
    assert max(sizes) <= PROMPT_TOKENS
    full = math.ceil(sum(count_tokens("gpt-5", text) for _, text in rows) / PROMPT_TOKENS)
    assert len(server.requests) == answer.usage.calls <= 1.2 * full
    conversation = count_tokens("gpt-5", of_root[-1]["messages"])
    print(f"{len(asked)} + {len(of_root)} calls, packed full {full}; {conversation:,} tokens of conversation")
    assert conversation < 8_000
