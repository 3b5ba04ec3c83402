"""Ask an index: open it, run the loop under its limits, leave a trace, return the answer."""

import asyncio
import re
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from index_store.plain import open_any
from index_store.reader import Index
from rlm import navigator, prompts
from rlm.answer import Citation, Conclusion
from rlm.audit.log import Trace
from rlm.engine import converse
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.provider import check_model, litellm
from rlm.gateway.types import Usage
from rlm.limits import Limits, Models
from rlm.run import Run, Watch, unwatched, usage_json

RUNS = Path("rlm-runs")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `stop`: why the run ended ("answer" when the model finished); `trace`: the run's folder;
    `head`: the hash of its last line, which kept elsewhere shows later that the trace was not rewritten."""

    content: str
    citations: tuple[Citation, ...]
    stop: str
    usage: Usage
    trace: Path
    head: str

    def as_json(self) -> dict[str, Any]:
        return {
            "answer": self.content,
            "citations": [c.as_json() for c in self.citations],
            "stop": self.stop,
            "usage": usage_json(self.usage),
            "trace": str(self.trace),
            "head": self.head,
        }


def ask(
    index: str | Path | Index,
    question: str,
    *,
    models: Models | None = None,
    limits: Limits | None = None,
    runs: str | Path = RUNS,
    watch: Watch = unwatched,
) -> Answer:
    """Answer `question` from the index; blocks. Raises RlmError, GatewayError or IndexStoreError: one sentence."""
    return run_blocking(ask_async(index, question, models=models, limits=limits, runs=runs, watch=watch))


async def ask_async(
    index: str | Path | Index,
    question: str,
    *,
    models: Models | None = None,
    limits: Limits | None = None,
    runs: str | Path = RUNS,
    watch: Watch = unwatched,
) -> Answer:
    """As `ask`, inside an event loop."""
    navigator.register()
    models, limits = models or Models(), limits or Limits()
    _check_question(question)
    opened = index if isinstance(index, Index) else open_any(index)
    for model in dict.fromkeys([models.root, models.child]):
        check_model(model)
    litellm()  # before the run's clock starts: its first import takes seconds
    ledger = Ledger(Caps(limits.usd, limits.tokens, limits.calls))
    async with Gateway(ledger, concurrency=limits.concurrency, timeout_s=limits.timeout_s) as gateway:
        folder = new_folder(Path(runs), question)
        with Trace.open(folder) as trace:
            run = Run(opened, gateway, models, limits, trace, folder, asyncio.get_running_loop(), watch)
            return await _recorded(run, trace, question)


def _check_question(question: str) -> None:
    if not question.strip():
        raise RlmError("the question is empty; ask with at least one word")
    if question != question.encode("utf-8", "replace").decode():
        raise RlmError(f"the question {question[:80]!a} is not Unicode text; give it in UTF-8")


async def _recorded(run: Run, trace: Trace, question: str) -> Answer:
    """The run between its first event and its last, whatever happens between them."""
    run.record("run_opened", "0", **_opening(run, question))
    conclusion = Conclusion("", (), "cancelled", "the run was cancelled")
    try:
        conclusion = await converse(run, question)
    except Exception as e:
        conclusion = Conclusion("", (), "failed", f"{type(e).__name__}: {e}")
        raise
    finally:
        _close(run, conclusion)
    if conclusion.stop == "failed":
        raise RlmError(f"{conclusion.error} (trace: {run.folder})")
    spent = run.gateway.ledger.spent
    return Answer(conclusion.content, conclusion.citations, conclusion.stop, spent, run.folder, trace.head)


def _close(run: Run, conclusion: Conclusion) -> None:
    run.record(
        "run_closed",
        "0",
        stop=conclusion.stop,
        usage=usage_json(run.gateway.ledger.spent),
        seconds=round(time.monotonic() - run.began, 3),
        **({"error": conclusion.error} if conclusion.error else {}),
    )


def _opening(run: Run, question: str) -> dict[str, Any]:
    manifest = run.index.manifest
    return {
        "question": question,
        "index": {
            "name": run.index.path.name,
            "generation": manifest.generation,
            "digest": manifest.digest,
            "documents": manifest.documents,
            "nodes": len(run.index),
        },
        "models": asdict(run.models),
        "prompts": {"version": prompts.VERSION, "sha256": prompts.digest()},
        "limits": asdict(run.limits),
        "code_version": version("raptor-rlm"),
        "route": "rlm",
    }


def new_folder(runs: Path, question: str) -> Path:
    """Make a folder whose name sorts by time and says what was asked; a number is added when it is taken."""
    words = re.sub(r"[^a-z0-9]+", "-", question.lower()).strip("-")[:40].strip("-") or "question"
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{words}"
    for number in count(1):
        folder = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.is_dir():
                raise RlmError(f"cannot make a run folder in {runs}: a file is in the way") from None
        except OSError as e:
            raise RlmError(f"cannot make a run folder in {runs}: {e.strerror or e}") from e
    raise AssertionError("unreachable: numbers do not end")
