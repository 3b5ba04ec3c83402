"""How a build is done and what it may cost: settings, their defaults, and reading them from a TOML file."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from index_store import config
from index_store.arguments import check_fields, checked
from index_store.embedder import AUTO, FLOAT32, PRECISIONS
from index_store.manifest import SHARDS
from index_store.terminal import brief
from raptor.clustering.settings import ClusterSettings
from raptor.errors import RaptorError

SUMMARIZER = "offline/extractive"
EMBEDDER = "minilm"
MOST_USD = 10**9
#: How documents are divided into shards.
BY = ("size", "folder", "access")
SHARD_CHUNKS = 100_000  # whose vectors take some 150 MB
#: In the settings of an index of shards: how it is divided, and what its shards are.
SHARDING = "sharding"
OF_SHARDS = (SHARDING, SHARDS)
_LANGUAGES = re.compile(r"[A-Za-z]\w{1,40}(\+[A-Za-z]\w{1,40}){0,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How an index is built.

    `chunk_tokens`: most tokens in a chunk. `summary_tokens`: most tokens in a model's reply with a summary.
    `concurrency`: model calls at a time. `root_children`: a level of at most so many nodes gets the root as its one
    parent, without clustering. `cluster`: how the nodes of a level are grouped. `encoding`: that of every text file;
    "": each file's own, found out. `ocr_language`: that of pictures of pages, as tesseract names it, such as deu+eng;
    "": English. `precision`: what embeddings are computed in, "float32", "bfloat16" in half the time, or "auto":
    bfloat16 where the processor has it. An index keeps that of its build. Raises RaptorError for a number that is out
    of range, an unknown encoding or precision, or what is no language.
    """

    chunk_tokens: int = 100
    summary_tokens: int = 200
    concurrency: int = 16
    root_children: int = 12
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    encoding: str = ""
    ocr_language: str = ""
    precision: str = AUTO

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "BuildSettings":
        """The settings that an index was built with, from its manifest; raises RaptorError where they do not fit."""
        values = {"precision": FLOAT32} | dict(given)  # what an index without a word of it was built in
        if values["precision"] == AUTO:
            raise RaptorError(
                f"the index's manifest sets precision to {AUTO!r}, which no build writes; build it again"
            )
        for name in OF_SHARDS:
            values.pop(name, None)
        cluster = values.pop("cluster", {})
        return cls(
            **_checked(values, cls, "the index's manifest"),
            cluster=ClusterSettings(**_checked(cluster, ClusterSettings, "the index's manifest")),
        )

    def __post_init__(self) -> None:
        check_fields(self, RaptorError)
        least = {"chunk_tokens": 16, "summary_tokens": 32, "concurrency": 1, "root_children": 2}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise RaptorError(f"{name} is {getattr(self, name)}; give at least {minimum}")
        _check_encoding(self.encoding)
        if self.ocr_language and not _LANGUAGES.fullmatch(self.ocr_language):
            raise RaptorError(
                f"ocr_language is {self.ocr_language[:80]!r}; give languages as tesseract names them, such as deu+eng"
            )
        if self.precision not in PRECISIONS:
            raise RaptorError(f"precision is {self.precision[:80]!r}; give one of {', '.join(PRECISIONS)}")
        if not 0 <= self.cluster.seed < 2**32:
            raise RaptorError(f"seed is {self.cluster.seed}; give a number from 0 to {2**32 - 1}")


def lasting(settings: BuildSettings) -> dict[str, Any]:
    """The settings that change what an index holds: all but how many calls ran at a time.

    An encoding, language or precision is left out where it is what an index had before there was one to name: so it has
    the digest that it had then.
    """
    unsaid = {"concurrency"} | {name for name in ("encoding", "ocr_language") if not getattr(settings, name)}
    unsaid |= {"precision"} if settings.precision == FLOAT32 else set()
    return {name: value for name, value in asdict(settings).items() if name not in unsaid}


def _check_encoding(name: str) -> None:
    try:
        "a".encode(name or "utf-8")
    except (LookupError, ValueError) as error:
        raise RaptorError(
            f"the encoding {name[:80]!r} is unknown; give one such as latin-1, cp1252, utf-16 or shift_jis"
        ) from error


@dataclass(frozen=True, slots=True)
class Spending:
    """What one run of a build may spend.

    `usd`: most dollars for summaries, and for embeddings where these are paid for, None for no cap; a build that is
    expected to cost more does not start. `max_errors`: failed summaries after which no further one is asked for.
    Raises RaptorError for a number that is out of range.
    """

    usd: float | None = None
    max_errors: int = 10

    def __post_init__(self) -> None:
        check_fields(self, RaptorError)
        if self.usd is not None and not 0 <= self.usd <= MOST_USD:
            raise RaptorError(f"max-usd is {self.usd}; give a number of dollars from 0 to {MOST_USD:,}")
        if self.max_errors < 0:
            raise RaptorError(f"max-errors is {self.max_errors}; give 0 or more")


@dataclass(frozen=True, slots=True)
class Sharding:
    """How documents are divided. `by`: one of BY. `chunks`: most chunks of a shard, but for a document that has more.

    Raises RaptorError for another word, and for fewer than one chunk.
    """

    by: str = "size"
    chunks: int = SHARD_CHUNKS

    def __post_init__(self) -> None:
        check_fields(self, RaptorError)
        if self.by not in BY:
            raise RaptorError(f"shards are by {self.by[:80]!r}; give one of {', '.join(BY)}")
        if self.chunks < 1:
            raise RaptorError(f"shard-chunks is {self.chunks}; give at least 1")


@checked(RaptorError)
def read_settings(path: str | Path) -> BuildSettings:
    """Settings from a TOML file, as raptor.toml is: the fields of BuildSettings in [build] or at the top, those of
    ClusterSettings in a table [build.cluster] or [cluster].

    Raises RaptorError, in one sentence, for a file that cannot be read, and for a name or value that is unknown.
    """
    try:
        found = config.read(path)
    except config.ConfigError as error:
        raise RaptorError(str(error)) from error
    last = {name.removeprefix("build."): value for name, value in found.items() if name.startswith("build.")}
    return settings_of(last, path)


def settings_of(found: Mapping[str, Any], path: str | Path) -> BuildSettings:
    """The settings of a build among those that were found in `path`, by their names in [build]. Raises RaptorError."""
    own = {field.name for field in fields(BuildSettings)} - {"cluster"}
    values = {name: value for name, value in found.items() if name in own}
    cluster = _checked(found.get("cluster", {}), ClusterSettings, path)
    return BuildSettings(**_checked(values, BuildSettings, path), cluster=ClusterSettings(**cluster))


def _checked(given: Any, kind: type, path: str | Path) -> dict[str, Any]:
    """`given`, if all its names are fields of `kind` and its values of their types; else raises RaptorError."""
    if not isinstance(given, Mapping):
        raise RaptorError(f"{path} sets cluster to {brief(given)}; write a table [cluster]")
    types = {f.name: type(f.default) for f in fields(kind) if isinstance(f.default, int | float | str)}
    for name, value in given.items():
        if name not in types:
            raise RaptorError(f"{path} sets {name!r}, which is unknown{config.nearest(name, sorted(types))}")
        wanted = types[name]
        if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
            raise RaptorError(f"{path} sets {name} to {value!r}; give a {wanted.__name__}")
    return dict(given)
