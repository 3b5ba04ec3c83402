"""Runs of every kind, recorded over real HTTP by a scripted model, for what does recorded runs again."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from index_store.types import Json
from rlm import Demands, Limits, Models, Question, ask, ask_async, ask_many, prompts
from rlm.asking.chat import Chat, open_chat
from rlm.audit import read
from rlm.errors import RlmError
from rlm.gateway import gateway as gateway_module
from rlm.gateway.blocking import run_blocking
from tests.helpers.model_server import MODEL, Body, ModelServer, Step

QUESTION = "How many masts has a ketch?"
DONE = 'answer["content"] = "Two."; answer["citations"] = ["L0-00000"]; answer["ready"] = True'
MODELS = Models(MODEL, MODEL)
LATE_S = 300.0  # a reply after this comes too late for anything
Sub = Callable[[str], str | Step]


def cell(code: str) -> str:
    return f"I look.\n```python\n{code}\n```\nAnd so on."


def _echo(prompt: str) -> str:
    return f"({prompt.rpartition('QUESTION: ')[2]})"


@dataclass(frozen=True)
class Play:
    """Replies: `root` for the question itself, `children` by theirs, `sub` for single calls, given the prompt, `single`
    for a call about passages."""

    root: Sequence[str | Step]
    children: Mapping[str, Sequence[str | Step]] = field(default_factory=dict)
    sub: Sub = _echo
    single: str | Step = "NOT FOUND"

    def __call__(self, body: Body) -> str | Step:
        first, second = (message["content"] for message in body["messages"][:2])
        if first == prompts.SUB_CALL:
            return self.sub(second)
        if first.startswith(prompts.SINGLE):
            return self.single
        turn: int = sum(message["role"] == "assistant" for message in body["messages"])
        is_next = f"question, in the same REPL: {QUESTION}" in body["messages"][-1]["content"]
        asked = next(
            (replies for q, replies in self.children.items() if f"Question: {q}\n" in second and not is_next),
            self.root,
        )
        step = asked[min(turn, len(asked) - 1)]
        return step if isinstance(step, Step) or "```" in step or not step else cell(step)


@dataclass(frozen=True)
class Recording:
    """Where runs over an index are recorded."""

    index: Index
    runs: Path
    patch: pytest.MonkeyPatch

    def play(self, play: Play, **options: Any) -> None:
        """Ask QUESTION, whatever comes of it."""
        with self.served(play), contextlib.suppress(RlmError):
            ask(self.index, QUESTION, runs=self.runs, **_options(options))

    def broken_off(self, play: Play, when: Callable[[str, str], bool], **options: Any) -> None:
        """Ask QUESTION, and stop it as Ctrl-C does at the first event of which `when(kind, conversation)` holds."""

        async def asking() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            stopped: list[bool] = []

            def watch(kind: str, conversation: str, fields: object) -> None:
                if when(kind, conversation) and not stopped:
                    stopped.append(True)
                    loop.call_soon_threadsafe(lambda: loop.call_later(0.3, task.cancel))

            with contextlib.suppress(asyncio.CancelledError):
                await ask_async(self.index, QUESTION, runs=self.runs, watch=watch, **_options(options))

        with self.served(play):
            run_blocking(asking())

    def chat(self, play: Play, talk: Callable[[Chat], Any], **options: Any) -> None:
        """Chat as `talk` does."""

        async def chatting() -> None:
            async with open_chat(self.index, runs=self.runs, **{"route": "rlm", **_options(options)}) as chat:
                await talk(chat)

        with self.served(play):
            run_blocking(chatting())

    def many(self, play: Play, questions: Sequence[str], **options: Any) -> None:
        """Ask many questions at once."""

        async def asking() -> None:
            listed = [Question(i, text) for i, text in enumerate(questions)]
            async for _ in ask_many(self.index, listed, runs=self.runs, **_options(options)):
                pass

        with self.served(play):
            run_blocking(asking())

    @contextlib.contextmanager
    def served(self, play: Play) -> Iterator[ModelServer]:
        """A server of the scripted model, which the calls of this process go to."""
        with ModelServer(play) as server, self.patch.context() as patch:
            patch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)
            server.use(patch)
            yield server


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The limits among the options as Limits; the loop, with the scripted model, where nothing else is said."""
    own = {"route", "models", "demands", "scope", "at_once", "each"}
    limits = Limits(**{name: value for name, value in given.items() if name not in own})
    return {"route": "rlm", "models": MODELS, "limits": limits} | {n: v for n, v in given.items() if n in own}


LOOK = (
    "for hit in context.search('masts of a ketch', k=3): print(hit['node'], hit['score'], hit['text'])\n"
    "print(context.overview()['children'], context.peek('L1-00000'), context.children('L1-00000'))\n"
    "print(context.grep('mizzen'), context.gather('masts', chars=500), context.branches('masts'))\n"
    "print(context.areas(chars=600), context.packs(50), context.read('L0-00001'), len(context), 'ketch' in context)"
)
ROWS = (
    "rows = context.rows(split='line')\n"
    "print(rows, [(row['row'], row['text']) for row in rows], rows[1:2])\n"
    "print(context.rows(split='record', under='L0-00001'), context.rows(split='chunk')[0])"
)
CITES_ROWS = 'answer["content"] = "Two [1]."; answer["citations"] = rows[:2]; answer["ready"] = True'
SLOW = Step("too late", delay_s=LATE_S)
ENDLESS = "while True: pass"
TYPED: dict[str, Json] = {
    "type": "object",
    "properties": {"masts": {"type": "integer"}},
    "required": ["masts"],
}


async def _three_questions(chat: Chat) -> None:
    await chat.ask(QUESTION)
    chat.use(Models(MODEL, MODEL, {"temperature": 0.5}))
    await chat.ask("Which of them is shorter?")
    await chat.ask("Who built it?")


async def _given_up(chat: Chat) -> None:
    first = asyncio.ensure_future(chat.ask("Never mind?"))
    await asyncio.sleep(1.5)
    first.cancel()
    await asyncio.wait([first])
    await chat.ask(QUESTION)


def _hangs_on(question: str) -> Sub:
    return lambda prompt: SLOW if question in prompt else _echo(prompt)


#: Each records one run or more.
RECORDED: dict[str, Callable[[Recording], None]] = {
    "an answer at once": lambda r: r.play(Play([DONE])),
    "every way to look": lambda r: r.play(Play([LOOK, "print(history(1)['output'][:50])", DONE])),
    "rows": lambda r: r.play(
        Play([ROWS, "print(len(rows), rows[-1]['text'], context.rows('page'))", CITES_ROWS])
    ),
    "rows of a child": lambda r: r.play(
        Play(["print(rlm_query('How many?', under='L1-00000'))", DONE], {"How many?": [ROWS, CITES_ROWS]})
    ),
    "an endless cell over rows": lambda r: r.play(
        Play([ROWS, ROWS + "\nwhile True: pass", "print(rows[2]['text'])", CITES_ROWS]), cell_timeout_s=3.0
    ),
    "refused verbs": lambda r: r.play(
        Play(["context.read('L9-00000')", "context.search(3)", "context.nope()", DONE])
    ),
    "rejected code": lambda r: r.play(Play(["import os", "print(open('/etc/passwd'))", DONE])),
    "an error": lambda r: r.play(Play(["x = 1\nprint('before')\n1 / 0", "print(x)", DONE])),
    "a sub-call": lambda r: r.play(
        Play(["print(llm_query('How many?', nodes=['L0-00000', 'L0-00001']))", DONE])
    ),
    "a batch": lambda r: r.play(Play(["print(llm_query_batched([f'q{i}' for i in range(9)]))", DONE])),
    "a batch that fails in part": lambda r: r.play(
        Play(
            ["print(llm_query_batched(['good', 'bad', 'fine']))", DONE],
            sub=lambda p: Step("no", status=400) if "bad" in p else _echo(p),
        )
    ),
    "a child": lambda r: r.play(
        Play(["print(rlm_query('How many?', under='L1-00000'))", DONE], {"How many?": [LOOK, DONE]})
    ),
    "children side by side": lambda r: r.play(
        Play(
            ["print(rlm_query_batched(['A?', 'B?', 'C?', 'D?'], under='L1-00000'))", "print(budget())", DONE],
            {
                q: [f"print(context.search('{q}'), budget()['calls'])", "print(llm_query('so?'))", DONE]
                for q in ("A?", "B?", "C?", "D?")
            },
        )
    ),
    "a child that runs out of turns": lambda r: r.play(
        Play(["print(rlm_query('How many?'))", DONE], {"How many?": ["x = 1"]}), turns=3
    ),
    "what is left, printed": lambda r: r.play(
        Play(["print(budget())", "print(budget()['seconds'] > 1, llm_query(str(budget())))", DONE]),
        usd=1.0,
        allow_unpriced=True,
    ),
    "no more calls": lambda r: r.play(
        Play(["print(context.search('masts'))"], single='Two. \n\n[L0-00000] "two masts"'), calls=4
    ),
    "no more calls for a batch": lambda r: r.play(
        Play(["try:\n    llm_query_batched(['q'] * 30)\nexcept RuntimeError as e: print(e)", DONE]), calls=8
    ),
    "few tokens": lambda r: r.play(Play([LOOK]), tokens=30_000),
    "a cap that was passed": lambda r: r.play(
        Play([Step(cell(LOOK), usage={"prompt_tokens": 90_000, "completion_tokens": 9}), DONE]), tokens=50_000
    ),
    "no more turns": lambda r: r.play(Play([LOOK], single='Two. \n\n[L0-00000] "two masts"'), turns=3),
    "no more turns, and nothing read": lambda r: r.play(Play(["x = 1"]), turns=2),
    "a draft at the end": lambda r: r.play(Play(["answer['content'] = 'Perhaps two.'"]), turns=3),
    "no code": lambda r: r.play(Play(["```text\nnone\n```"])),
    "a reply that was cut": lambda r: r.play(
        Play([Step("```python\nx = (1,", finish_reason="length"), "", DONE])
    ),
    "a tool called": lambda r: r.play(Play([Step(tool=("python", '{"code": "print(1)"}')), DONE])),
    "no key": lambda r: r.play(Play([Step("bad key", status=401)])),
    "a retry": lambda r: r.play(Play([Step("busy", status=429, headers={"retry-after": "0"}), DONE])),
    "an answer not taken": lambda r: r.play(
        Play(
            [
                "answer['content'] = 'Nine.'; answer['citations'] = [{'quote': 'nine masts'}]; answer['ready'] = True",
                DONE,
            ]
        ),
        demands=Demands(citations=True),
    ),
    "typed by code": lambda r: r.play(
        Play(
            [
                "answer['content'] = {'masts': 'two'}; answer['ready'] = True",
                "answer['content'] = {'masts': 2}; answer['ready'] = True",
            ]
        ),
        demands=Demands(schema=TYPED),
    ),
    "typed in one call": lambda r: r.play(
        Play([], single='{"answer": {"masts": 2}, "sources": []}'),
        demands=Demands(schema=TYPED),
        route="direct",
    ),
    "the whole text in one call": lambda r: r.play(
        Play([], single='Two. \n\n[boats.txt] "two masts"'), route="direct"
    ),
    "what a search finds in one call": lambda r: r.play(
        Play([], single='Two. \n\n[L0-00000] "two masts"'), route="retrieve"
    ),
    "few passages": lambda r: r.play(Play([], single="Two."), route="retrieve", tokens=900, reply_tokens=100),
    "the areas in one call": lambda r: r.play(Play([], single="Boats."), route="overview"),
    "without a model": lambda r: r.play(Play([]), models=Models()),
    "without a model, in parts": lambda r: r.many(
        Play([]), ["How many masts has a ketch, and what do apples weigh?"], models=Models()
    ),
    "a small window": lambda r: r.play(
        Play([*[f"print('x{i} ' * 2000)" for i in range(6)], DONE]),
        window=6_200,
        output_chars=4_000,
        reply_tokens=200,
    ),
    "a chat": lambda r: r.chat(Play([LOOK, DONE]), _three_questions),
    "many at once": lambda r: r.many(
        Play([LOOK, "print(llm_query('so?'))", DONE]),
        [f"{QUESTION} ({i})" for i in range(6)],
        at_once=4,
        calls=60,
    ),
    # -- where a clock decided, or a person --
    "an endless cell": lambda r: r.play(
        Play(["x = 41", "x = 1\nprint('on')\n" + ENDLESS, "print(x + 1)", DONE]), cell_timeout_s=1.0
    ),
    "an endless cell that looks": lambda r: r.play(
        Play(["n = 0\nwhile True:\n    n += 1\n    context.read('L0-00000')", "print(budget())", DONE]),
        cell_timeout_s=1.0,
    ),
    "a cell too large": lambda r: r.play(
        Play(["y = 2", "print('big')\nz = 'x' * (1 << 34)", "print(y)", DONE])
    ),
    "an endless child": lambda r: r.play(
        Play(["print(rlm_query_batched(['A?', 'B?']))", DONE], {"A?": [ENDLESS, DONE], "B?": [LOOK, DONE]}),
        cell_timeout_s=1.0,
    ),
    "time up while the model thinks": lambda r: r.play(Play([LOOK, SLOW]), timeout_s=4.0),
    "time up in a cell": lambda r: r.play(
        Play(["answer['content'] = 'Two?'", "import time\nprint(1)\ntime.sleep(200)"]), timeout_s=4.0
    ),
    "time up in a cell that then ends": lambda r: r.play(
        Play(["print(llm_query('good'), llm_query('hang'))"], sub=_hangs_on("hang")), timeout_s=4.0
    ),
    "time up with children": lambda r: r.play(
        Play(
            ["print(rlm_query_batched(['A?', 'B?', 'C?']))"],
            {
                "A?": [LOOK, SLOW],
                "B?": [LOOK, "print(llm_query_batched(['good', 'hang']))"],
                "C?": [LOOK, "import time\ntime.sleep(200)"],
            },
            _hangs_on("hang"),
        ),
        timeout_s=6.0,
    ),
    "time up in one call": lambda r: r.play(Play([], single=SLOW), route="retrieve", timeout_s=4.0),
    "broken off while the model thinks": lambda r: r.broken_off(
        Play([LOOK, SLOW]), lambda kind, name: kind == "code_run"
    ),
    "broken off in a cell": lambda r: r.broken_off(
        Play(["print(context.read('L0-00000'))\n" + ENDLESS]), lambda kind, name: kind == "visited"
    ),
    "broken off with children": lambda r: r.broken_off(
        Play(["print(rlm_query_batched(['A?', 'B?']))"], {"A?": [LOOK, SLOW], "B?": [LOOK, ENDLESS]}),
        lambda kind, name: kind == "code_run",
    ),
    "a question given up": lambda r: r.chat(Play([LOOK, DONE], {"Never mind?": [LOOK, SLOW]}), _given_up),
}

#: Those that wait for a clock, or for a person.
TAKING_LONG = frozenset(
    name for name in RECORDED if name.startswith(("an endless", "time up", "broken off", "a question given"))
)


def traces_in(runs: Path) -> list[Path]:
    """The folders of the runs, the first recorded first."""
    return sorted(runs.iterdir())


def events_of(run: Path) -> list[dict[str, Any]]:
    """All events of a run."""
    return read(run)[0]
