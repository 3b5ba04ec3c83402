"""What a trace has told so far, of which the rules judge the next event."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rlm.audit.events import AMOUNT, RecordedEvent
from rlm.gateway.types import Usage
from rlm.mapping.types import Field

#: By how much a duration may pass the time between its events.
SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A call under way. `spent`: what the trace knew as spent when it began."""

    call: Any
    model: str
    time_s: float
    max_tokens: int
    spent: Usage


@dataclass(slots=True)
class Ending:
    """What bears on how a question ends. `began_s`: when it was put; `asks`: calls of its model; `failed`: one was not
    answered, nor cut off; `refused`: by a cap. `last`: the last call or cell that ended, as "model_answered",
    "model_failed", or the status of a cell; `limit`: the one that is noted to have stopped it."""

    began_s: float = 0.0
    asks: int = 0
    failed: bool = False
    refused: bool = False
    last: str = ""
    limit: str = ""


#: Bytes of a digest of a row: a map may have a million.
ROW_BYTES = 16


@dataclass(frozen=True, slots=True)
class Pack:
    """Rows of one prompt: a digest of the text of each, one after another, and of the values that the reply gave it,
    zeros for none."""

    texts: bytes
    values: bytes


@dataclass(slots=True)
class Recalled:
    """What the store had, of so many rows: the digest of a row's values is `known[which[i]]` where `rows[i]` is it."""

    rows: "array[int]" = field(default_factory=lambda: array("q"))
    which: "array[int]" = field(default_factory=lambda: array("q"))
    known: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True)
class Mapped:
    """A map under way. `rows`, `rows_sha256`: as it was called; `fields`: what each row is asked for; `first_child`:
    how many children there were before it, `used`: what they had used. `packs`: what its calls were asked and replied,
    None where it was taken out. `recalled`: what the store had, by turn; `is_recalled_taken`: some was taken out.
    `told`: rows whose answers are told, `failed` and `stored` of them; `hashed`: their digest so far. `missed`: rows of
    packs that a reply gave no answer; `times`: rows told with each text; `is_capped`: a cap was met. `pairs`: rows that
    were read twice, and `alike` in which field. `hashed` and `alike` are None, where something was taken out."""

    rows: int
    rows_sha256: str
    fields: tuple[Field, ...] | None
    cell: int
    first_child: int
    began_s: float
    used: Usage
    packs: dict[str, Pack | None] = field(default_factory=dict)
    recalled: dict[str, Recalled] = field(default_factory=dict)
    is_recalled_taken: bool = False
    told: int = 0
    failed: int = 0
    stored: int = 0
    missed: int = 0
    times: Counter[str] = field(default_factory=Counter)
    is_capped: bool = False
    pairs: int = 0
    alike: dict[str, int] | None = field(default_factory=dict)
    hashed: Any = field(default_factory=hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Reduction:
    """A reduction under way, in `cell`, which may make `calls` at most. `first_child`: how many children there were
    before it, `used`: what they had used."""

    cell: int
    calls: int
    first_child: int
    began_s: float
    used: Usage


@dataclass(slots=True)
class Talk:
    """A conversation under way.

    `sent`: the most messages of an ask. `reply`, `text`: the digest of what it last said, and the text where no cell
    ran. `cell`, `scan`: the last cell, and the verdict on it until it has run; `last_ok`: how it ran. `children`,
    `under_way`: how many it has called, and those that have not returned. `used`: by it and all below. `begun_anew`:
    its messages were, so that its cells may be counted from 1 again; `counted_anew`: they were. `told`: the answer
    that its code wrote in so many words; `printed`: what its last cell did; `computed`: code may have computed
    another. `said`: the digests of its replies; `has_words`: its answer has some. `free_s`: when its last call or
    cell ended; `called_s`: when it last called. `searched`: the run has searched by itself, and not gone on. `pack`:
    the digests of the rows that it was asked about, None where that is not known. `map`: the map under way; `mapped`:
    what came of the last; `reduction`: the one under way.
    """

    call: Asked | None = None
    sent: int = 0
    reply: bytes = b""
    text: str = ""
    cell: int = 0
    scan: str = ""
    children: int = 0
    under_way: list[str] = field(default_factory=list)
    used: Usage = Usage()  # noqa: RUF009  (frozen)
    begun_anew: bool = False
    counted_anew: bool = False
    has_answered: bool = False
    has_words: bool = False
    said: set[bytes] = field(default_factory=set)
    free_s: float = 0.0
    called_s: float = 0.0
    end: Ending = field(default_factory=Ending)
    pack: bytes | None = None
    map: Mapped | None = None
    mapped: str = ""
    reduction: Reduction | None = None
    told: str | None = None
    printed: str = ""
    computed: bool = False
    last_ok: bool = False
    searched: bool = False


@dataclass(slots=True)
class Story:
    """What a trace has told so far. `question`: the one that no model was asked yet. `spent`: the sum of its calls, of
    which `paid` had a usage; `noted`: the most that the ledger is said to have spent; `cut`: the end of a call is not
    known, so its cost is not. `unheard`: from where on the rules of today do not fit a trace of format 1, and why."""

    opened: RecordedEvent = field(default_factory=dict)
    question: str = ""
    talks: dict[str, Talk] = field(default_factory=lambda: {"0": Talk()})
    spent: Usage = Usage()  # noqa: RUF009  (frozen)
    noted: Usage = Usage()  # noqa: RUF009  (frozen)
    paid: int = 0
    call: Any = 0
    cut: bool = False
    stop: str = ""
    unheard: str = ""

    def limit(self, name: str) -> Any:
        """A limit of the run, None where it has none or it is no number."""
        value = self.opened.get("limits", {}).get(name)
        return None if AMOUNT.problem(value) else value


Rule: TypeAlias = Callable[[Story, RecordedEvent], str]


def end_children(story: Story, talk: Talk) -> None:
    """The children under way have ended, with all below them."""
    waiting, talk.under_way = talk.under_way, []
    while waiting:
        if (child := story.talks.pop(waiting.pop(), None)) is not None:
            story.cut = story.cut or child.call is not None
            waiting += child.under_way
