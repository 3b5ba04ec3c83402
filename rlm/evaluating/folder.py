"""The folder of an evaluation: a run for each question and system, which the same command goes on with.

    evaluation.json              what all its runs have in common: index, prompts, demands
    runs/SYSTEM/QUESTION/        a run: trace.jsonl, judge.jsonl, review.html; a further try is QUESTION.2
    figures.json page.html       made anew from the traces each time

The traces are the record: what is done, and what was spent, is read from them, and nothing is kept twice.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

from index_store.arguments import check_fields
from index_store.files import Lock, lock, replace_file
from index_store.index import Index
from index_store.own import make_folder
from index_store.terminal import brief
from index_store.types import Json
from rlm.answers.demands import Demands
from rlm.asking.runs import words_digest
from rlm.audit import Verdict, read
from rlm.audit.conversation import messages_seen
from rlm.audit.events import RecordedEvent
from rlm.audit.log import FILE_NAME
from rlm.errors import RlmError
from rlm.evaluating import judging
from rlm.evaluating.cases import Case
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.models import price
from rlm.gateway.offline import PREFIX
from rlm.gateway.types import Request, Usage
from rlm.limits import ROUTES, Limits, Models, Route

#: The stops of a run that is a result, whatever it was worth; one that failed or was stopped is tried again.
RESULTS = frozenset({"answer", "unmet", "turns", "timeout", "no code"})
_NO_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class System:
    """A route with its models: what is held against others. `window`: tokens of the root model, where not known."""

    route: Route
    models: Models
    window: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, RlmError)
        if self.route not in ROUTES:
            raise RlmError(f"there is no route {brief(self.route)}; there are {', '.join(ROUTES)}")

    @property
    def name(self) -> str:
        """Its name, which is that of its folder too; models with other options have another."""
        told = json.dumps({"route": self.route, "models": self.models.as_json()}, sort_keys=True)
        return _name(f"{self.route} {self.models.root}", told)

    def __str__(self) -> str:
        models = dict.fromkeys((self.models.root, self.models.child))
        shown = [self.models.root] if self.models.root.startswith(PREFIX) else list(models)
        options = "".join(f" {name}={value}" for name, value in self.models.options.items())
        return f"{self.route} · {' + '.join(shown)}{options}"

    @property
    def is_priced(self) -> bool:
        """Whether the prices of its models are known; where one is not, its dollars are too low."""
        return all(price(model, 1, 1) is not None for model in (self.models.root, self.models.child))

    def as_json(self) -> dict[str, Json]:
        """The system as it is in the figures."""
        return {
            "priced": self.is_priced,
            "name": self.name,
            "shown_as": str(self),
            "route": self.route,
            "models": self.models.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Try:
    """One run of a question by a system, as far as its trace goes."""

    folder: Path
    events: Sequence[RecordedEvent]
    verdict: Verdict

    @property
    def stop(self) -> str:
        """Why it ended; '' where its trace is not closed."""
        last = self.events[-1] if self.events else {}
        return str(last["stop"]) if last.get("kind") == "run_closed" else ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The folder of an evaluation."""

    path: Path

    def lock(self) -> Lock:
        """Lock it against others. Raises RlmError where another has it, or it cannot be written."""
        busy = RlmError(
            f"another evaluation is writing {self.path}; wait for it, or name another folder with -o"
        )
        try:
            make_folder(self.path)
            return lock(self.path, busy)
        except OSError as e:
            raise RlmError(
                f"cannot write the folder {self.path}: {e.strerror or e}; name another with -o"
            ) from e

    def begin(self, index: Index, demands: Demands) -> None:
        """Write what its runs have in common. Raises RlmError where it holds runs that had something else."""
        common: dict[str, Json] = {
            "index": index.digest,
            "prompts": words_digest(),
            "demands": asdict(demands),
        }
        file = self.path / "evaluation.json"
        if not file.exists():
            if any(self.path.iterdir()):
                raise RlmError(
                    f"{self.path} holds something else than an evaluation; name another folder with -o"
                )
            with self.writing():
                replace_file(file, json.dumps(common, indent=1).encode())
            return
        try:
            theirs = json.loads(file.read_bytes())
        except (ValueError, OSError) as e:
            raise RlmError(f"cannot read {file}: {e}; name another folder with -o") from e
        other = [
            name
            for name, value in common.items()
            if not isinstance(theirs, dict) or theirs.get(name) != value
        ]
        if other:
            raise RlmError(
                f"{self.path} holds runs with another {', '.join(other)}; name another folder with -o"
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise RlmError where what the block writes there cannot be written."""
        try:
            yield
        except OSError as e:
            raise RlmError(
                f"cannot write {e.filename or self.path}: {e.strerror or e}; make room, or name another folder with -o"
            ) from e

    def place(self, system: System, case: Case) -> Path:
        """Where the first try of a question by a system is."""
        scope = {} if case.question.scope is None else case.question.scope.as_json()
        told = json.dumps([case.id, case.question.text, scope], sort_keys=True)
        return self.path / "runs" / system.name / _name(case.id, told)

    def next_place(self, system: System, case: Case) -> Path:
        """Where its next try goes."""
        place = self.place(system, case)
        tries = (place if n == 1 else place.with_name(f"{place.name}.{n}") for n in count(1))
        return next(path for path in tries if not path.exists())

    def tries(self, system: System, case: Case) -> Iterator[Try]:
        """What there is of a question by a system, the first try first."""
        place = self.place(system, case)
        for n in count(1):
            path = place if n == 1 else place.with_name(f"{place.name}.{n}")
            if not path.exists():
                return
            if found := try_in(path):
                yield found

    def result(self, system: System, case: Case, each: Caps = Caps()) -> Try | None:
        """The last try that is a result, else the last that ended otherwise; None where none did. `each`: see
        `is_done`."""
        closed = [one for one in self.tries(system, case) if one.stop not in ("", "cancelled")]
        done = [one for one in closed if is_done(one, each)]
        return next(reversed(done or closed), None)

    def spent(self) -> Usage:
        """What all tries that are there have used, and the judges; a call that was under way when its run was killed
        counts as what it may have cost."""
        total = Usage()
        for path in sorted((self.path / "runs").glob("*/*")):
            if found := try_in(path):
                total += _spent(found)
            total += judging.spent(path / judging.FILE_NAME)
        return total


def is_done(one: Try, each: Caps) -> bool:
    """Whether a try is a result: one that a cap ended is, if its own cap (`each`) was below what was left of all."""
    if one.stop != "budget":
        return one.stop in RESULTS
    own = each if each.calls is not None else replace(each, calls=Limits().calls)
    cap = cap_of(one)
    held_to = one.events[0]["limits"].get(cap) if cap else None
    return held_to is not None and held_to == getattr(own, cap)


def cap_of(one: Try) -> str:
    """The name of the cap by which the last call of a try was refused; '' where none was."""
    refused = (str(event["refused"]["cap"]) for event in reversed(one.events) if event.get("refused"))
    return next(refused, "")


def caps_left(limits: Limits, spent: Usage) -> Limits:
    """The limits with what is left of their caps."""
    return replace(
        limits,
        usd=None if limits.usd is None else max(limits.usd - spent.usd, 0.0),
        tokens=None if limits.tokens is None else max(limits.tokens - spent.tokens, 0),
        calls=None if limits.calls is None else max(limits.calls - spent.calls, 0),
    )


def try_in(path: Path) -> Try | None:
    """The try whose folder this is, as far as its trace goes; None where there is none."""
    if not (path / FILE_NAME).is_file():
        return None
    events, verdict = read(path)
    return Try(path, events, verdict)


def _spent(one: Try) -> Usage:
    if one.stop:
        return Usage(**one.events[-1]["usage"])
    ended = [e for e in one.events if e["kind"] in ("model_answered", "model_failed")]
    known = sum((Usage(**event["usage"]) for event in ended if event.get("usage")), Usage())
    calls = {event["call"] for event in ended}
    asks = (e for e in one.events if e["kind"] == "model_asked" and e["call"] not in calls)
    return sum((_worst(one.events, ask) for ask in asks if not ask["model"].startswith(PREFIX)), known)


def _worst(events: Sequence[RecordedEvent], ask: RecordedEvent) -> Usage:
    messages = tuple(messages_seen(events, ask["seq"]))
    return Gateway(Ledger()).worst(Request(ask["model"], messages, ask["max_tokens"]))


def _name(words: str, told: str) -> str:
    """A name for a folder: some of the words, and a hash of all that is told, by which it differs from others."""
    short = _NO_NAME.sub("-", words.lower()).strip("-")[:40].strip("-") or "x"
    return f"{short}-{hashlib.sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
