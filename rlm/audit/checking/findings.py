"""What a check finds, as data: coverage, lost passages, steps, sentences. Nothing here reads an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["not offered", "not entered", "not read", "not cited"]
StepVerdict: TypeAlias = Literal["reasonable", "questionable", "cannot tell"]
Choice: TypeAlias = Literal["children", "hits", "branches", "siblings", "documents"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of the evidence in the strong passages, from 0 to 1, what a run was offered, entered, read and cited; None each
    where there is no index to tell by."""

    offered: float | None = None
    entered: float | None = None
    read: float | None = None
    cited: float | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """A strong passage that the answer does not cite, and the first stage at which it fell out. `share`: of all
    evidence."""

    node: str
    doc: str
    start: int
    end: int
    stage: Stage
    label: str = ""
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Option:
    """One of the nodes on offer at a step. `mass`: its share of the evidence on offer there; `taken`: whether it, or
    something below it, was entered, read or cited."""

    node: str
    mass: float
    taken: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A choice, judged. `taken`: the id of the best node that was taken, None where none was; `rank`: its place among
    `of`; `regret`: by how much the best that was passed by is better, as a share of the evidence on offer, from 0 to 1.
    `offered`: all options, best first; `query`: the question by which they are ranked here."""

    seq: int
    choice: Choice
    taken: str | None
    rank: int | None
    of: int
    regret: float | None
    verdict: StepVerdict
    why: str
    query: str = ""
    offered: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """A sentence of an answer. `supported`: whether what it says occurs in what it cites; `why`, in one sentence.
    `missing`: the numbers and names of it that do not occur there; `citations`: by their numbers, from 1. `hard`:
    whether it lacks support by more than other words: a number, a name, a quote, or any citation that stands. `cited`:
    the words at its citations, those of the answer where it names none. `question`: the number of its question in a
    chat, from 1."""

    text: str
    supported: bool
    why: str
    missing: tuple[str, ...] = ()
    citations: tuple[int, ...] = ()
    hard: bool = False
    cited: tuple[str, ...] = ()
    question: int = 1


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found of one question.

    `best`, `best_cited`, `best_read`: the share of the strongest chunk, and what the strongest that the answer cites,
    or that were read, hold together, at most that; None without an index. `asked`: of the question's words, by their
    rarity, what the strongest chunk holds; `lacks_evidence`: whether that is too little to hold against an answer that
    the documents do not hold it. `stop`: what ended it. `has_answer`, `says_not_found`: of its
    answer; `citations`: how many it has, of which `standing` stand in the documents. `by_words`: whether an
    index that has vectors was searched by words alone. `is_map`: whether the run is one map, which has nothing to cite.
    """

    coverage: Coverage
    lost: Sequence[Lost]
    steps: Sequence[Step]
    claims: Sequence[ClaimCheck]
    best: float | None
    best_cited: float | None
    best_read: float | None
    stop: str
    has_answer: bool
    says_not_found: bool
    citations: int
    standing: int
    by_words: bool = False
    asked: float = 0.0
    lacks_evidence: bool = False
    is_map: bool = False
