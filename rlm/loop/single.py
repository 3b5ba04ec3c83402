"""Answers from one call: over the whole text, what a search finds, or what a run that reached its limit had read."""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from index_store.outline import in_place
from index_store.terminal import count, percent
from index_store.types import Json
from index_store.view import CHARS_A_TOKEN
from rlm import prompts
from rlm.answers.citations import Citation, Conclusion
from rlm.answers.demands import unmet
from rlm.answers.structured import response_format
from rlm.audit.envelope import opened
from rlm.audit.fences import fenced_blocks
from rlm.gateway.blocks import Block, block_name
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.ledger import Reservation
from rlm.gateway.offline.areas import FROM, OF_THE_TEXT
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message, Reply, Request
from rlm.loop import checks
from rlm.loop.run import Run
from rlm.loop.verbs import Verbs
from rlm.loop.whole import is_about_all

NOT_HERE = f"{prompts.NOT_IN_DOCUMENTS}."
_IS_CODE = re.compile(r"\s*```(?:repl|python|py)\b")
TRIES = 3  # calls, while the answer lacks what is demanded of it
RETRIEVED_TOKENS = 4_000  # of the passages that a search finds, together
STRETCHES = 12  # of a text that has one area alone, a passage of each
GATHERED_CHARS = (
    4.5  # for a token, rather many: of what is gathered, the last passages are left out that do not fit
)
_SOURCE = re.compile(r'^[ \t]*\[([^\n\]]+)\][ \t]*["“]', re.MULTILINE)
_SOURCE_END = re.compile(r'["”][ \t]*$(?=\n+[ \t]*\[|\s*\Z)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Passages:
    """Passages for one prompt.

    `places`: for the name of a block, the place that a citation of it names, such as {"doc": id}; the name of a block
    that is not in it is a node's id. `told`: what a model is told of them.
    """

    blocks: tuple[Block, ...]
    places: Mapping[str, Mapping[str, Json]]
    told: str = ""


def whole_text(run: Run) -> Passages:
    """Every document that the question is about, whole, or as much of it as is in the scope."""
    view = run.view
    ids = [view.index.documents[number].id for number in view.documents]
    names = {id: block_name(id) for id in ids}
    texts = {id: "\n\n".join(map(view.index.span_text, view.spans_of(id))) for id in ids}
    titles = [view.index.outline(number).title for number in view.documents]
    blocks = tuple(
        # A title that the id says already tells nothing more.
        Block(names[id], texts[id], "" if title.casefold() in id.casefold() else title)
        for id, title in zip(ids, titles, strict=True)
    )
    return Passages(blocks, {names[id]: {"doc": id} for id in ids})


def retrieved_text(run: Run, verbs: Verbs, question: str, tokens: int) -> Passages:
    """What `gather` finds to read for a question, the best piece first, with `tokens` together at most."""
    pieces = verbs.serve("gather", [question[:2_000]], {"chars": int(tokens * GATHERED_CHARS)})
    assert isinstance(pieces, list)
    return Passages(_as_fit(run, (_piece(verbs, piece) for piece in pieces), tokens), {})


def _piece(verbs: Verbs, piece: Json) -> Block:
    (passage,) = verbs.passages(checks.nodes([piece]))
    block = verbs.block(passage)
    return replace(block, about=block.about + _beside(piece))


def _as_fit(run: Run, blocks: Iterable[Block], tokens: int) -> tuple[Block, ...]:
    """The first blocks that have `tokens` together at most, and the first in any case."""
    taken: list[Block] = []
    for block in blocks:
        tokens -= count_tokens(run.models.root, block.text)
        if tokens < 0 and taken:
            break
        taken.append(block)
    return tuple(taken)


def upper_levels(run: Run, verbs: Verbs, question: str, tokens: int) -> Passages:
    """The areas of the corpus, each with its share, as the upper levels of the tree tell of them, `tokens` together at
    most. Those that a question is about have more room, unless it is about all of them.

    Where quotes must stand in documents, and of a text file, which has no summaries, it is a passage of each.
    """
    about = "" if is_about_all(question) else question[:2_000]
    entries = verbs.serve("areas", [about], {"chars": CHARS_A_TOKEN * tokens})
    assert isinstance(entries, list)
    documents = count(len(run.view.documents), "document")
    if run.demands.citations or run.index.is_plain:
        blocks = _as_fit(run, (_part(verbs, *part) for part in _parts(run, entries)), tokens)
        verbs.serve("read", [[block.name for block in blocks]], {})
        return Passages(blocks, {}, prompts.PARTS.format(documents=documents))
    return Passages(_as_fit(run, map(_area, entries), tokens), {}, prompts.AREAS.format(documents=documents))


def _area(entry: Any) -> Block:
    return Block(str(entry["node"]), str(entry["text"]), f"{percent(entry['share'])} {OF_THE_TEXT}")


def _parts(run: Run, entries: Sequence[Any]) -> list[tuple[int, float, str]]:
    """(a chunk of it, its share of the text, its id and label) for each area, or for STRETCHES of the text where there
    is but one area."""
    view, chunks = run.view, run.view.chunks
    if len(entries) > 1:
        numbers = [run.index.number_of(entry["node"]) for entry in entries]
        labels = [
            in_place(str(entry["label"])) if view.is_text(number) else ""
            for number, entry in zip(numbers, entries, strict=True)
        ]
        return [
            (chunk, entry["share"], f", {entry['node']} {label}".rstrip())
            for chunk, entry, label in zip(view.centres(numbers), entries, labels, strict=True)
        ]
    parts = min(STRETCHES, len(chunks))
    starts = [len(chunks) * part // parts for part in range(parts + 1)]
    return [(chunks[start], (end - start) / len(chunks), "") for start, end in pairwise(starts)]


def _part(verbs: Verbs, chunk: int, share: float, what: str) -> Block:
    (passage,) = verbs.passages([verbs.index.id_of(chunk)])
    return replace(verbs.block(passage), about=f"{FROM} {percent(share)} {OF_THE_TEXT}{what}")


def _beside(piece: Json) -> str:
    """Where else a piece stands, for the line of its block; "" for nowhere."""
    others = piece.get("also_in") if isinstance(piece, Mapping) else None
    return f"; also in: {in_place(', '.join(map(str, others)))}" if isinstance(others, list) else ""


async def answer_once(
    run: Run, question: str, passages: Passages, reservation: Reservation | None = None, stop: str = "answer"
) -> Conclusion:
    """The root model's answer to `question` from these passages; recorded, as is every try.

    It is asked again, TRIES times in all, while the answer lacks what is demanded. `reservation`: for the first try.
    `stop`: "answer", or the limit after which this is the one last call. A limit or an error ends in a result too.
    """
    schema = run.demands.schema
    shape = None if schema is None else response_format(schema)
    tries = _Tries(run, _messages(run, question, passages), passages.places, reservation, shape)
    error, cut_short = "", stop != "answer"
    texts = [(block.name, block.text) for block in passages.blocks]
    await asyncio.to_thread(run.journal.flag, "0", "passages", texts)  # reading a long text takes a while
    try:
        async with run.budget.within():
            await tries.ask(1 if cut_short else TRIES)
    except TimeoutError:
        stop = "timeout"
    except OverBudget as e:
        stop, error = "budget", e.told
    except GatewayError as e:
        stop, error = (stop if cut_short else "failed"), str(e)
    if stop == "answer" and tries.lacks:
        stop = "unmet"
    if cut_short and (tries.content == NOT_HERE or _IS_CODE.match(tries.content)):
        tries.content = ""  # a limit says nothing about the documents, nor does code that nothing will run
    return run.conclude("0", tries.content, tries.citations, stop, error)


@dataclass(slots=True)
class _Tries:
    """`response_format`: what replies are held to, until a provider does not. `recorded`: how many of the messages are
    in the trace. `lacks`: why the answer is not taken; None if it is."""

    run: Run
    messages: list[Message]
    places: Mapping[str, Mapping[str, Json]]
    reservation: Reservation | None
    response_format: Mapping[str, Json] | None = None
    content: str = ""
    citations: Sequence[Citation] = ()
    lacks: str | None = None
    recorded: int = 0

    async def ask(self, most: int) -> None:
        """Ask until an answer lacks nothing, at most `most` times."""
        for left in reversed(range(most)):
            reply = await self._ask_once()
            typed = self.run.demands.schema is not None
            self.content, offered = parse(reply.text, self.places, typed, structured=reply.structured)
            self.citations = await self.run.cited(self.content, offered)
            self.lacks = lacks = unmet(self.run.demands, self.content, self.citations)
            if lacks is None or not left:
                return
            self.messages.append({"role": "assistant", "content": reply.text})
            self.messages.append({"role": "user", "content": prompts.told_why(prompts.UNMET_SINGLE, lacks)})

    async def _ask_once(self) -> Reply:
        reservation, self.reservation = self.reservation, None
        new, self.recorded = len(self.messages) - self.recorded, len(self.messages)
        most = self.run.limits.reply_tokens if reservation is None else reservation.worst.completion_tokens
        reply = await self.run.ask(
            "0",
            self.run.models.root,
            self.messages,
            new,
            most,
            reservation,
            options=self.run.models.options,
            response_format=self.response_format,
        )
        self.recorded += 1  # the reply, which a next call sends again
        self.response_format = self.response_format if reply.structured else None
        return reply


def _messages(run: Run, question: str, passages: Passages) -> list[Message]:
    wanted = prompts.demanded(run.demands.citations, run.demands.schema, prompts.TYPED_SINGLE)
    asked = prompts.sub_call(question, passages.blocks)
    return [
        {"role": "system", "content": prompts.SINGLE + passages.told + wanted},
        {"role": "user", "content": asked},
    ]


def fitting(run: Run, question: str, passages: Passages) -> Passages:
    """All, half, a quarter ... of the passages: the most that the budget pays a call over; all where it pays none."""
    blocks = passages.blocks
    while blocks:
        messages = tuple(_messages(run, question, replace(passages, blocks=blocks)))
        if run.budget.pays(Request(run.models.root, messages, run.limits.reply_tokens)):
            return replace(passages, blocks=blocks)
        blocks = blocks[: len(blocks) // 2]
    return passages


def parse(
    reply: str, places: Mapping[str, Mapping[str, Json]], typed: bool = False, *, structured: bool = False
) -> tuple[str, list[Json]]:
    """(answer, offered citations) of a reply in the form that prompts.SINGLE asks for.

    `places`: see Passages. `typed`: the answer is the first fenced block of JSON, where there is one. Where a reply is
    nothing but quoted lines, the quotes themselves are the answer. `structured`: it may be an envelope instead.
    """
    envelope = opened(reply) if structured else None
    if envelope is not None:
        offered = [_offered(name, quote, places) for name, quote in envelope.sources]
        return (envelope.answer, offered) if envelope.answer else (NOT_HERE, [])
    sources, words = _sources(reply)
    offered = [_offered(name, quote, places) for name, quote in sources]
    if typed:
        blocks = (block.code.strip() for block in fenced_blocks(words) if block.name in ("", "json"))
        words = next(blocks, words)
    if words.strip(" .\n") == prompts.NOT_FOUND:
        return NOT_HERE, []
    quotes = (f'"{" ".join(quote.split())}" [{n}]' for n, (_, quote) in enumerate(sources, 1))
    return words or "\n".join(quotes), offered


def _offered(name: str, quote: str, places: Mapping[str, Mapping[str, Json]]) -> Json:
    return {**places.get(name, {"node": name}), "quote": quote}


def _sources(reply: str) -> tuple[list[tuple[str, str]], str]:
    """((name, quote) of each quoted line `[name] "quote"`, the reply without these lines).

    A quote ends at the first mark that ends a line before another such line, or the reply.
    """
    sources, words, at = list[tuple[str, str]](), list[str](), 0
    ends = _SOURCE_END.finditer(reply)
    end = next(ends, None)
    for opening in _SOURCE.finditer(reply):
        if opening.start() < at:
            continue
        while end is not None and end.start() < opening.end():
            end = next(ends, None)
        if end is None:
            break
        sources.append((opening[1].partition("|")[0].strip(), reply[opening.end() : end.start()]))
        words.append(reply[at : opening.start()])
        at = end.end()
    return sources, "".join([*words, reply[at:]]).strip()
