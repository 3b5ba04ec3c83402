"""A real table of 5,574 rows: counts are exact whatever fails, and little is sent beside the rows."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import pytest

from rlm.gateway.tokens import count_tokens
from rlm.mapping.calibrating import sampled
from rlm.mapping.certainty import count_values
from rlm.mapping.fields import parse_fields
from rlm.mapping.mapping import map_rows, plan, prepare
from rlm.mapping.packing import full_packs
from rlm.mapping.planning import sizes
from rlm.mapping.types import Forgetful, Mapped, Reader, Task
from rlm.mapping.wording import row_tokens
from tests.helpers.places import data_file
from tests.helpers.row_reader import Child, Faults

MODEL = "openai/gpt-5-mini"
pytestmark = pytest.mark.slow


@cache
def rows() -> list[str]:
    return data_file("sms_spam.tsv").read_text(encoding="utf-8").removesuffix("\n").split("\n")


def rule(text: str) -> dict[str, Any]:
    """The label that stands before the tab, and a month by the text's hash."""
    digest = hashlib.sha256(text.strip().encode()).digest()
    return {"label": text.partition("\t")[0], "month": f"2024-{digest[0] % 12 + 1:02}"}


TASK = Task(
    "Is this message spam, and of which month is it?",
    parse_fields({"label": ["spam", "ham"], "month": "YYYY-MM"}),
    Reader(MODEL),
)


def mapped(child: Child, texts: list[str], task: Task = TASK) -> Mapped:
    return asyncio.run(map_rows(prepare(task, texts), child, Forgetful(), lambda progress: None))


def counts(found: Mapped, field: str) -> dict[Any, int]:
    return {value: one.count for value, one in count_values(found, field).items()}


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(failed=0.1),
        Faults(dropped=0.05, doubled=0.05, foreign=0.05),
        Faults(failed=0.1, cut=0.1, cut_untold=0.05, dropped=0.02, doubled=0.02, foreign=0.01),
    ],
)
def test_counts_are_exact_by_label_and_month_whatever_fails(faults: Faults) -> None:
    found = mapped(Child(rule, faults), rows())
    assert not [answer.error for answer in found.answers if answer.error]
    true = [rule(text) for text in rows()]
    for field in ("label", "month"):
        assert counts(found, field) == Counter(one[field] for one in true)
    assert counts(found, "label") == {"ham": 4_827, "spam": 747}


def sent(child: Child) -> int:
    return sum(count_tokens(MODEL, prompt.messages) for prompt in child.prompts)


def asked(child: Child, texts: list[str]) -> list[str]:
    return [texts[row] for prompt in child.prompts for row in prompt.rows]


def paragraphs(tokens: int) -> Iterator[str]:
    """Chunks of about so many tokens, of running text in lines of about 80 characters."""
    words = " ".join(line.partition("\t")[2] for line in rows()).split()
    lines = [" ".join(words[at : at + 15]) for at in range(0, len(words), 15)]
    held: list[str] = []
    for line in lines:
        if held and count_tokens(MODEL, "\n".join([*held, line])) > tokens:
            yield "\n".join(held)
            held = []
        held.append(line)


def check(texts: list[str], task: Task, most: float) -> None:
    child = Child(lambda text: {"label": "ham", "month": None})
    mapped(child, texts, task)
    every = asked(child, texts)
    distinct = list(dict.fromkeys(every))
    again = len(every) - len(distinct)  # those by which the size of packs is tried out
    assert set(distinct) == set(texts) and again <= sampled(len(texts))
    ratio = sent(child) / sum(count_tokens(MODEL, text) for text in distinct)
    assert ratio <= most, f"tokens sent over tokens of text: {ratio:.4f}"
    tokens = sum(row_tokens(MODEL, text) for text in distinct)
    full = full_packs(len(distinct), tokens, sizes(task, task.reader).full)
    assert len(child.prompts) <= 1.05 * full, f"{len(child.prompts)} calls, {full} full ones"
    assert len(child.prompts) - asyncio.run(plan(prepare(task, texts))).calls in (0, 1)


def test_short_rows_take_15_hundredths_more_than_their_text_at_most() -> None:
    check(rows(), TASK, 1.15)


def test_chunks_take_5_hundredths_more_than_their_text_at_most() -> None:
    chunks = list(islice(paragraphs(115), 2_000))
    about = sum(count_tokens(MODEL, chunk) for chunk in chunks) / len(chunks)
    assert 95 < about < 115
    check(chunks, Task(TASK.question, TASK.fields, TASK.reader, calibrate=False), 1.05)
