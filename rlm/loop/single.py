"""Answers from one call: the whole text, what a search finds, or what a run that met its limit had seen."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from index_store.types import Json, Span
from rlm import prompts
from rlm.answers.citations import Citation, Conclusion
from rlm.answers.demands import unmet
from rlm.gateway.blocks import Block
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.ledger import Reservation
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message, Request
from rlm.loop.run import Run
from rlm.loop.verbs import Verbs

NOT_HERE = f"{prompts.NOT_IN_DOCUMENTS}."
TRIES = 3
HITS = 60
RETRIEVED_TOKENS = 6_000
_SOURCE = re.compile(
    r'^[ \t]*\[([^\n\]]+)\][ \t]*["“](.*?)["”][ \t]*$(?=\n+[ \t]*\[|\s*\Z)', re.DOTALL | re.MULTILINE
)
_JSON = re.compile(r"^```(?:json)?[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Passages:
    """Blocks for one prompt, and what the name of each cites."""

    blocks: tuple[Block, ...]
    places: Mapping[str, Mapping[str, Json]]


def whole_text(run: Run) -> Passages:
    """Every document, whole."""
    documents = run.index.documents
    blocks = tuple(
        Block(d.id.replace("\n", " "), run.index.span_text(Span(d.id, 0, d.chars))) for d in documents
    )
    return Passages(blocks, {d.id.replace("\n", " "): {"doc": d.id} for d in documents})


def retrieved_text(run: Run, verbs: Verbs, question: str, tokens: int) -> Passages:
    """What a search over chunks and summaries in one pool finds, best first, within `tokens`.

    The collapsed tree of RAPTOR (arXiv 2401.18059, section 3).
    """
    entries = verbs.serve("search", [question[:2_000]], {"k": HITS, "level": None})
    blocks: list[Block] = []
    left = tokens
    assert isinstance(entries, list)
    for entry in entries:
        block = Block(*verbs.passage(entry))
        left -= count_tokens(run.models.root, block.text)
        if left < 0 and blocks:
            break
        blocks.append(block)
    return Passages(tuple(blocks), {})


async def answer_once(
    run: Run, question: str, passages: Passages, held: Reservation | None = None, stop: str = "answer"
) -> Conclusion:
    """Ask the root model once, and again while the answer does not satisfy what is demanded and tries are left.

    `held` is what was set aside for the first try. Ends with a result, which is recorded; `stop` is why it was asked.
    """
    tries = _Tries(run, _messages(run, question, passages), passages.places, held)
    error, cut_short = "", stop != "answer"
    given = [(block.name, block.text) for block in passages.blocks]
    await asyncio.to_thread(run.journal.flag, "0", "passages", given)  # reading a long text takes a while
    try:
        async with asyncio.timeout(max(run.budget.left_s, 0.001)):
            await tries.go(1 if cut_short else TRIES)
    except TimeoutError:
        stop = "timeout"
    except OverBudget:
        stop = "budget"
    except GatewayError as e:
        stop, error = (stop if cut_short else "failed"), str(e)
    if stop == "answer" and tries.why:
        stop = "unmet"
    if cut_short and tries.content == NOT_HERE:
        tries.content = ""  # a limit says nothing about the documents
    return run.conclude("0", tries.content, tries.citations, stop, error)


@dataclass(slots=True)
class _Tries:
    run: Run
    messages: list[Message]
    places: Mapping[str, Mapping[str, Json]]
    held: Reservation | None
    content: str = ""
    citations: Sequence[Citation] = ()
    why: str | None = None  # it is not taken
    told: int = 0

    async def go(self, most: int) -> None:
        for left in reversed(range(most)):
            reply = await self._ask()
            typed = self.run.demands.schema is not None
            self.content, offered = parse(reply, self.places, typed)
            self.citations = await self.run.cited(self.content, offered)
            self.why = why = unmet(self.run.demands, self.content, self.citations)
            if why is None or not left:
                return
            self.messages.append({"role": "assistant", "content": reply})
            self.messages.append({"role": "user", "content": prompts.told_why(prompts.UNMET_SINGLE, why)})

    async def _ask(self) -> str:
        held, self.held = self.held, None
        new, self.told = len(self.messages) - self.told, len(self.messages)
        most = self.run.limits.reply_tokens if held is None else held.worst.completion_tokens
        model = self.run.models.root
        reply = await self.run.ask("0", model, self.messages, new, most, held)
        self.told += 1  # its own reply, which a next call sends again
        return reply.text


def _messages(run: Run, question: str, passages: Passages) -> list[Message]:
    wanted = prompts.demanded(run.demands.citations, run.demands.schema, prompts.TYPED_SINGLE)
    asked = prompts.sub_call(question, passages.blocks)
    return [{"role": "system", "content": prompts.SINGLE + wanted}, {"role": "user", "content": asked}]


def fitting(run: Run, question: str, passages: Passages) -> Passages:
    """As many of the passages, from the first, as one call may still pay for; all of them where none fits."""
    left, blocks = run.budget.ledger.left(), passages.blocks
    while blocks:
        messages = tuple(_messages(run, question, Passages(blocks, {})))
        worst = run.budget.gateway.worst(Request(run.models.root, messages, run.limits.reply_tokens))
        if (left.tokens is None or worst.tokens <= left.tokens) and (
            left.usd is None or worst.usd <= left.usd
        ):
            return Passages(blocks, passages.places)
        blocks = blocks[: len(blocks) // 2]
    return passages


def parse(
    reply: str, places: Mapping[str, Mapping[str, Json]], typed: bool = False
) -> tuple[str, list[Json]]:
    """(answer, offered citations) of a reply in the form that prompts.SINGLE asks for.

    A reply of nothing but quoted lines is answered by the quotes themselves.
    """
    sources = [(m[1].strip(), m[2]) for m in _SOURCE.finditer(reply)]
    offered: list[Json] = [{**places.get(name, {"node": name}), "quote": words} for name, words in sources]
    words = _SOURCE.sub("", reply).strip()
    if typed and (block := _JSON.search(words)):
        words = block[1].strip()
    if words.strip(" .\n") == prompts.NOT_FOUND:
        return NOT_HERE, []
    quotes = (f'"{" ".join(quote.split())}" [{n}]' for n, (_, quote) in enumerate(sources, 1))
    return words or "\n".join(quotes), offered
