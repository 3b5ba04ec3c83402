"""The limits, models and routes of a run. Quick to import: the command line takes its defaults from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from index_store.arguments import check_fields
from index_store.terminal import count
from index_store.types import Json
from rlm.errors import RlmError
from rlm.gateway.naming import Named, aliases
from rlm.gateway.options import check_options
from rlm.sandbox.opening import AUTO, choices

Route = Literal["auto", "direct", "retrieve", "overview", "map", "rlm"]
ROUTES: tuple[Route, ...] = get_args(Route)
#: Those on which a model writes code; on "map" it is told to ask every row first.
LOOPS: tuple[Route, ...] = ("map", "rlm")
#: Characters of each hit's text that `rlm search --json` prints.
HIT_CHARS = 1_000
#: The folder in which each run gets a folder, by default.
RUNS = "rlm-runs"
MOST = 1e9  # larger than any useful limit, and small enough for every clock and counter
_ABOVE_0 = ("turns", "timeout_s", "cell_timeout_s", "output_chars", "reply_tokens", "concurrency")
_RATES = ("requests_per_minute", "tokens_per_minute", "window")
_FROM_0 = ("usd", "tokens", "calls", "depth")


#: What the first messages of a conversation take, about; and the window that a reply leaves must hold them.
PROMPT_TOKENS = 2_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a root conversation and all its descendants together; None is no limit.

    `usd`, `tokens`, `calls`: of all model calls, the root's own included. `turns`: of the root, and of each child by
    itself. `depth`: levels of children below the root. `timeout_s`: wall clock of the whole run. `cell_timeout_s`: of
    one cell, with its verbs, and without the time in which models answer its calls. `output_chars`: of one cell's
    output, as the model sees it. `reply_tokens`: of one reply, its reasoning included. `concurrency`: model calls
    under way at the same time. `requests_per_minute`, `tokens_per_minute`: to each model. `allow_unpriced`: call
    models whose price is not known even under a dollar cap, and count them as $0. `window`: tokens of the root
    model's window, where litellm does not know it. `backend`: the sandbox that confines the code; "auto": the kernel's
    layers where they hold, and else Monty; of one that is named no other is used in its place.

    Raises RlmError for a number out of range, or what is no number.
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = 200
    turns: int = 16
    depth: int = 1
    timeout_s: float = 600.0
    cell_timeout_s: float = 30.0
    output_chars: int = 8_000
    reply_tokens: int = 4_000
    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    allow_unpriced: bool = False
    window: int | None = None
    backend: str = AUTO

    def __post_init__(self) -> None:
        check_fields(self, RlmError)
        if self.backend not in choices():
            raise RlmError(f"backend is {str(self.backend)[:40]!r}; give one of {', '.join(choices())}")
        for name in _FROM_0:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MOST:
                raise RlmError(f"{name} is {str(value)[:40]}; give a number from 0 to {MOST:g}")
        for name in _ABOVE_0 + _RATES:
            value = getattr(self, name)
            if value is not None and not 0 < value <= MOST:
                raise RlmError(f"{name} is {str(value)[:40]}; give more than 0 and at most {MOST:g}")
        if self.window is not None and self.window < (least := self.reply_tokens + PROMPT_TOKENS):
            raise RlmError(
                f"window is {self.window}, and a reply of {count(self.reply_tokens, 'token')} with the least of a "
                f"prompt takes {least}; give a window of at least {least}, or fewer reply tokens"
            )


#: Of a map: as many calls as its rows need, and a day.
MAP_LIMITS = Limits(calls=None, timeout_s=86_400.0)


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a run, as litellm names them; `named` takes short names.

    `root`: of conversations, children's too. `child`: of sub-calls; if none is named, the root model, or beside an
    offline one offline/reader, which alone reads passages.

    `options`: sent with each call, such as {"temperature": 0, "reasoning_effort": "low"}, by litellm's names; a
    parameter that a model does not have is left out. `child_options`: sent with sub-calls instead; by default the same.

    Raises GatewayError for an option that cannot be sent, RlmError for a name that is no text.
    """

    root: str = "offline/navigator"
    child: str = ""
    options: Mapping[str, Json] = field(default_factory=dict)
    child_options: Mapping[str, Json] | None = None

    def __post_init__(self) -> None:
        child_options = self.options if self.child_options is None else self.child_options
        object.__setattr__(self, "options", check_options(self.options))
        object.__setattr__(self, "child_options", check_options(child_options))
        check_fields(self, RlmError)
        if not self.child:
            offline = self.root.startswith("offline/")
            object.__setattr__(self, "child", "offline/reader" if offline else self.root)

    @classmethod
    def named(cls, root: str, child: str = "", *, file: str | Path | None = None) -> "Models":
        """The models that short names stand for, with their options and prices, as on a command line; a name that is
        none is litellm's. `file`: of short names; by default the user's own (`rlm models` lists what is in it). Only
        this reads it: `Models(root)` takes litellm's names. A window that the file tells is for `Limits(window=...)`.

        Raises GatewayError for a file that cannot be used.
        """
        from rlm.gateway.models import give_price  # here, as --help needs none

        known = aliases(file)
        named = known.get(root, Named(root))
        own = known.get(child, Named(child)) if child else named
        for model in (named, own):
            give_price(model.model, model.usd_per_million)
        return cls(named.model, own.model if child else "", named.options, own.options)

    def sub_call_options(self, model: str) -> Mapping[str, Json]:
        """The options of a sub-call that is put to one of the two models."""
        return (self.child_options if model == self.child else self.options) or {}

    def as_json(self) -> dict[str, Json]:
        """The models as a trace and a file of answers name them: with their options, where there are any."""
        names: dict[str, Json] = {"root": self.root, "child": self.child}
        options = {"options": self.options, "child_options": self.child_options}
        return names | (
            {name: dict(given or {}) for name, given in options.items()} if any(options.values()) else {}
        )
