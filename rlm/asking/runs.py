"""Begin and end a run: open its index, check its models, make its gateway and folder, record both ends."""

import asyncio
import hashlib
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path

import index_store
from index_store.files import sha256_of
from index_store.index import Index, open_any
from index_store.own import make_folder
from index_store.types import Json
from index_store.view import View
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.asking.options import Options
from rlm.asking.routes import Choice
from rlm.audit.kinds import RunClosed, RunOpened
from rlm.errors import RlmError
from rlm.gateway.gateway import Gateway
from rlm.gateway.lanes import Lanes
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.litellm_setup import warm_up
from rlm.gateway.models import check_model, window
from rlm.gateway.offline import PREFIX
from rlm.gateway.purse import Purse
from rlm.gateway.redaction import redacted
from rlm.gateway.tokens import count_tokens
from rlm.limits import LOOPS, Limits, Models
from rlm.loop import navigator
from rlm.loop.budget import Budget
from rlm.loop.embedding import check_called
from rlm.loop.recording import Journal, Recorder
from rlm.loop.run import Run
from rlm.memo import open_memo
from rlm.sandbox import chosen

#: Model calls that may be under way in one process at a time, whatever the number of runs.
PROCESS_CALLS = 64
#: What the code stands on, as far as that can change an answer.
STANDS_ON = (
    "litellm",
    "numpy",
    "faiss-cpu",
    "tokenizers",
    "tiktoken",
    "PyStemmer",
    "google-re2",
    "jsonschema",
)
#: The packages in which the texts for models are: prompts, refusals, errors of verbs and calls, what a cell prints.
TEXT_FOLDERS = (
    "index_store",
    "rlm/answers",
    "rlm/gateway",
    "rlm/loop",
    "rlm/mapping",
    "rlm/prompts",
    "rlm/sandbox",
)


def ready(index: str | Path | Index, models: Models) -> Index:
    """The index, opened, once its models can be asked without delay, before anything is spent.

    Those that run in this process need no litellm, and the first call of one loads its vocabulary: so what a person
    sees first does not wait for either.
    Raises IndexStoreError, or GatewayError where a model is unknown or has no key.
    """
    opened = opened_for(index, models)
    served = [model for model in (models.root, models.child) if not model.startswith(PREFIX)]
    # Before a run's clock starts: a vocabulary takes half a second, litellm's import seconds.
    for model in served:
        count_tokens(model, "")
    warm_up(*served)
    return opened


def opened_for(
    index: str | Path | Index, models: Models, check: Callable[[str], object] = check_model
) -> Index:
    """The index, opened, once its embedder is one that may be loaded, and the models exist and have their keys.

    `check`: raises where a model will not do. Raises as `ready` does.
    """
    opened = index if isinstance(index, Index) else open_any(index)
    check_embedder(opened)
    check_models(models, check)
    return opened


def check_embedder(index: Index) -> None:
    """Raise BadQuery or GatewayError where the embedder of an index was not named, or will not do."""
    if not index.is_plain:
        index.check_embedder_named()
        check_called(index)


def check_models(models: Models, check: Callable[[str], object] = check_model) -> None:
    """Raise GatewayError, or what `check` does, where one of the models will not do."""
    navigator.register()
    for model in dict.fromkeys([models.root, models.child]):
        check(model)


@cache
def _lanes(requests_per_minute: float | None, tokens_per_minute: float | None) -> Lanes:
    """The rates and slots that all runs of this process with the same rates share."""
    return Lanes(PROCESS_CALLS, requests_per_minute, tokens_per_minute)


def gateway_for(limits: Limits, purse: Purse | None = None) -> Gateway:
    """A gateway with a ledger of its own under the caps of `limits`; its rates hold for the whole process.

    `purse`: what its calls are paid from besides.
    """
    return Gateway(
        Ledger(Caps(limits.usd, limits.tokens, limits.calls), purse=purse),
        concurrency=limits.concurrency,
        timeout_s=limits.timeout_s,
        allow_unpriced=limits.allow_unpriced,
        lanes=_lanes(limits.requests_per_minute, limits.tokens_per_minute),
    )


def new_run(
    view: View, options: Options, gateway: Gateway, trace: Recorder, loop: asyncio.AbstractEventLoop
) -> Run:
    """A run over what the question is about, whose clock starts now.

    `trace`: keeps its events; `loop`: makes its model calls.
    """
    return Run(
        view,
        options.models,
        options.limits,
        options.demands,
        Budget(
            gateway, options.limits.timeout_s, memo=open_memo(view.index.beside) if options.memo else None
        ),
        Journal(trace, options.watch),
        loop,
        window=options.limits.window or window(options.models.root),
    )


def record_opening(
    run: Run,
    question: str,
    choice: Choice,
    options: Options = Options(),
    parent: Mapping[str, Json] | None = None,
    map: Mapping[str, Json] | None = None,
) -> None:
    """Record the first event of a run: its question, index, models, limits, demands, route, who asks and what for, of a
    fork its `parent`, and of a run that is one map what that asks, as RunOpened has it. Where it runs code, its limits
    then name the backend that does."""
    backend = chosen(run.limits.backend) if choice.route in LOOPS and map is None else None
    if backend is not None:
        run.limits = replace(run.limits, backend=backend.name)
    opened = RunOpened(
        question=question,
        index={
            "name": run.index.path.name,
            "generation": run.index.generation,
            "digest": run.index.digest,
            "documents": len(run.index.documents),
            "nodes": len(run.index),
        },
        models=run.models.as_json(),
        prompts={"version": prompts.VERSION, "sha256": words_digest()},
        limits=asdict(run.limits),
        code_version=version("raptor-rlm"),
        route=choice.route,
        route_why=choice.why,
        demands=asdict(run.demands),
        scope=run.view.scope.as_json() or None,
        operator=redacted(options.operator) or None,
        purpose=redacted(options.purpose) or None,
        retain_until=options.retain or None,
        key=purse.key if (purse := run.budget.ledger.purse) else None,
        versions=versions(),
        window=run.window,
        parent=parent,
        map=map,
        backend_why=(backend and backend.why) or None,
        access=None if run.index.access is None else sorted(run.index.access),
    )
    run.journal.record("0", opened)


@cache
def versions() -> dict[str, Json]:
    """The versions of what the code stands on, by the names of the distributions, as far as they are there."""
    found = dict[str, Json]()
    for name in STANDS_ON:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return {"python": platform.python_version(), **found}


@cache
def words_digest(root: Path = Path(index_store.__file__).parents[1]) -> str:
    """sha256 over the files with texts for models; two runs with the same digest had the same texts.

    The files are the code and the prompts in TEXT_FOLDERS; code, since errors and refusals are worded there.
    """
    hashed = hashlib.sha256()
    for folder in TEXT_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".md"):
                hashed.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)}\n".encode())
    return hashed.hexdigest()


def record_closing(run: Run, conclusion: Conclusion) -> None:
    """Record the last event of a run: why it ended, what it used and how long it took."""
    closed = RunClosed(
        stop=conclusion.stop,
        usage=run.budget.ledger.spent,
        seconds=round(time.monotonic() - run.budget.began, 3),
        error=conclusion.error or None,
    )
    run.journal.record("0", closed)


@contextmanager
def early_folder(runs: Path, question: str) -> Iterator[Path]:
    """As `new_folder`, before the index is opened; it is taken away again where the run did not begin."""
    was_there = runs.exists()
    folder = new_folder(runs, question)
    try:
        yield folder
    finally:
        with suppress(OSError):  # something stands in it
            folder.rmdir()
            if not was_there:
                runs.rmdir()


def new_folder(runs: Path, question: str) -> Path:
    """Make a folder in `runs`, named by the time and the first words of the question, and by a number if that is taken.

    Raises RlmError where it cannot be made.
    """
    words = re.sub(r"[^a-z0-9]+", "-", question.lower()).strip("-")[:40].strip("-") or "question"
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{words}"
    for number in count(1):
        folder = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            make_folder(runs)
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.is_dir():
                raise RlmError(f"cannot make a run folder in {runs}: a file is in the way") from None
        except OSError as e:
            raise RlmError(f"cannot make a run folder in {runs}: {e.strerror or e}") from e
    raise AssertionError("unreachable: numbers do not end")
