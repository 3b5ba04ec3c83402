"""What the tools of `rlm mcp` give, as JSON with a schema: each field says what it is, for the model that reads it.

Offsets are characters of a document's own text.
"""

from pydantic import BaseModel, ConfigDict


class Result(BaseModel):
    """A part of what a tool gives."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Place(Result):
    """A node of the tree and where it is: a chunk is a span of one document, a summary is of many."""

    node: str
    """Id of the node, such as L0-00012, for peek, children, read, path and `under`."""
    level: int
    """0 for a chunk of a document, 1 and more for a summary."""
    label: str
    """A few words that name it."""
    doc: str | None
    """Id of the document; null for a summary."""
    start: int | None
    """Its first character in the document."""
    end: int | None
    """The character after its last."""
    page: int | None
    """The page on which it begins, where the document has pages."""
    section: list[str]
    """The headings above its beginning, outermost first."""


class Area(Result):
    """A part of the index that is about one thing."""

    node: str
    """Id of the node at its top."""
    label: str
    """A few words that name it."""
    share: float
    """Its share of all characters of the index, 0 to 1."""
    documents: int
    """How many documents it has text of."""
    chunks: int
    """How many chunks it holds."""
    names: list[str]
    """What its texts speak of most tellingly."""
    dates: list[str]
    """The first and last date in its documents' metadata, where they have some."""
    inside: list["Area"]
    """The largest areas in it."""
    more: int
    """How many areas in it are not listed."""


class Overview(Result):
    """What an index holds."""

    index: str
    """Name of the index."""
    indexes: list[str]
    """Names of all indexes that can be asked here."""
    documents: int
    """How many documents the index has."""
    characters: int
    """Length of all their texts."""
    levels: list[int]
    """How many nodes each level has, chunks first."""
    summary: str
    """The beginning of what the tree says of the node that was asked about, or of the whole."""
    area: Area
    """That node, and the areas in it."""


class Hit(Place):
    """A node that a search found."""

    score: float
    """Higher is better; comparable in one list only."""
    text: str
    """The beginning of its text; `read` gives the rest."""
    chars: int
    """Length of its whole text."""
    also_in: list[str]
    """Ids of other documents that say the same."""


class Hits(Result):
    """What a search found, best first."""

    hits: list[Hit]
    """Empty where nothing fits."""


class Match(Result):
    """A place that a pattern fits."""

    node: str
    """Id of the chunk in which it begins."""
    doc: str
    """Id of the document."""
    start: int
    """First character of the match in the document."""
    end: int
    """The character after its last."""
    page: int | None
    """The page on which it begins, where the document has pages."""
    section: list[str]
    """The headings above it, outermost first."""
    line: str
    """The line around it, cut where it is long."""


class Matches(Result):
    """Where a pattern fits, in the order of the documents."""

    matches: list[Match]
    """The first of them."""
    total: int
    """How many were counted."""
    complete: bool
    """Whether `total` is all there are; if not, counting ended early."""


class Peek(Place):
    """A node with the beginning of its text."""

    text: str
    """The beginning of its text; `read` gives the rest."""
    chars: int
    """Length of its whole text."""
    children: int
    """How many children it has; a chunk has none."""


class Nodes(Result):
    """Nodes in a list."""

    nodes: list[Place]
    """The nodes, in order."""
    total: int
    """How many there are, with those that are not listed."""


class Text(Result):
    """A text and where it is from."""

    node: str | None
    """Id of the node, where one was asked for."""
    doc: str | None
    """Id of the document; null for a summary."""
    start: int
    """Its first character, in the document, or in the summary's own text."""
    end: int
    """The character after its last."""
    page: int | None
    """The page on which it begins, where the document has pages."""
    section: list[str]
    """The headings above its beginning, outermost first."""
    text: str
    """The words of the document, or of the summary."""
    next_start: int | None
    """Where to read on, as `start`; null where all that was asked for is here."""


class Citation(Result):
    """A quote that stands for a part of an answer, and its place."""

    doc: str | None
    """Id of the document; null where no document has the words."""
    start: int | None
    """Its first character in the document."""
    end: int | None
    """The character after its last."""
    page: int | None
    """The page on which it begins, where the document has pages."""
    node: str | None
    """Id of the chunk in which it begins."""
    quote: str
    """The words."""
    supported: str
    """How the documents hold them: verbatim, respaced, nearest, summary or unsupported."""
    also_in: list[str]
    """Ids of other documents that hold these words."""


class Answer(Result):
    """An answer with its citations, and what it cost."""

    answer: str
    """The text of the answer; empty where there is none."""
    citations: list[Citation]
    """What it rests on."""
    stop: str
    """Why the run ended: answer, unmet, no code, turns, budget or timeout."""
    why: str
    """A sentence about the stop, where there is more to say."""
    read_by: str
    """Who read the text, where that was no language model."""
    warnings: list[str]
    """What such a reader cannot do for this question."""
    usd: float
    """Dollars that it cost."""
    priced: bool
    """Whether all prices are known; where not, `usd` is too low."""
    calls: int
    """Model calls that were made."""
    tokens: int
    """Tokens of their prompts and replies."""
    trace: str
    """The folder of the run on the server's machine, for `rlm trace` and `rlm review`."""
    head: str
    """The hash of the trace's last line; kept elsewhere, it shows later whether the trace was rewritten."""
