"""What an index is made of. Plain frozen data; nothing here reads a file.

Offsets are characters (Unicode code points) into a document's canonical text unless a name says bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from index_store.arguments import check_fields
from index_store.errors import BadQuery

#: How a search ranks: by meaning and words, by meaning, by words, or all levels in one pool.
Mode = Literal["hybrid", "dense", "lexical", "tree"]
MODES: tuple[Mode, ...] = get_args(Mode)
#: Called every so often by what may read a whole corpus; it raises to stop it.
Check: TypeAlias = Callable[[], object]
#: A value of JSON.
Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
#: (character offset, level, heading) of each heading in order, level 1 outermost.
Sections = Sequence[tuple[int, int, str]]
MOST_LEVEL = 100  # of a heading; HTML has six


def unchecked() -> None:
    """A check that stops nothing."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of an index that a question is about: chunks of the document `doc`, or of those that this folder or
    pattern of ids, or file, stands for (see `Documents.named`), of documents whose metadata has each field of `where`
    with that value, under a heading that contains `section`, whatever the case. Without any, all. Raises BadQuery for
    what is no text."""

    doc: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    section: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, BadQuery)

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.doc is None and not self.where and self.section is None

    def as_json(self) -> dict[str, Json]:
        """The scope as files and traces have it: only what it names."""
        named = {"doc": self.doc, "where": dict(sorted(self.where.items())) or None, "section": self.section}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Document:
    """One source text.

    `pages`: the character offset at which each page starts, () when unpaged. `sections`: (character offset, level,
    heading) for each heading in order, level 1 outermost. `meta`: the metadata its user gave, value by field.
    """

    id: str
    title: str
    source: str
    sha256: str
    chars: int
    pages: tuple[int, ...] = ()
    sections: tuple[tuple[int, int, str], ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `start:end` of the document with id `doc`."""

    doc: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Node:
    """A chunk (level 0, a span of one document) or a summary (level >= 1, text of its own, no span).

    `label`: a few words that name it. `tokens`: of its text, as the embedder counts them.
    """

    id: str
    level: int
    label: str
    span: Span | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A node that a search returns. `score`: higher is better, comparable only inside one result list.

    `copies`: passages of other documents that say the same, and so are no hits of their own.
    """

    node: str
    level: int
    span: Span | None
    score: float
    copies: tuple[Span, ...] = ()

    @property
    def also_in(self) -> tuple[str, ...]:
        """The ids of the documents of `copies`."""
        return tuple(dict.fromkeys(span.doc for span in self.copies))


@dataclass(frozen=True, slots=True)
class Match:
    """One match of a pattern: the chunk in which it starts, its characters, and the line around it."""

    node: str
    span: Span
    line: str
