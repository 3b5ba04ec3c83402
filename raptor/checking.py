"""Whether the files that an index was made of still say what it holds.

It stands here and not in `rlm`, as only this package reads documents. A run is taken as its trace says; whether that is
whole, `rlm trace verify` says.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from index_store.arguments import checked
from index_store.generations import list_generations
from index_store.index import Index, open_generation, open_index
from index_store.paths import file_of, is_below
from index_store.types import Document
from raptor.corpus import document_of
from raptor.errors import RaptorError
from raptor.loading.load import load
from raptor.loading.origins import FILE, Source, holder, is_gone
from raptor.loading.parsed import CheckpointCache
from raptor.loading.types import Failure, SourceFile, Text
from raptor.settings import BuildSettings
from raptor.workspace import Progress, looked_at, recorded_origins, silent

TRACE = "trace.jsonl"

#: What became of a document: it says the same, it says something else, it is not there, or that cannot be told.
State = Literal["same", "changed", "gone", "unread"]


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a document's file stands to its text in an index. `file`: absolute. `reason`: why it is `unread`, else ""."""

    doc: str
    file: str
    state: State
    reason: str = ""


@checked(RaptorError)
def check_sources(
    index: str | Path,
    run: str | Path | None = None,
    *,
    follow_links: bool = False,
    password: str = "",
    progress: Progress | None = None,
) -> list[SourceState]:
    """How the file of each document of an index stands to the text that was indexed, in the order of the documents.

    `run`: the folder of a run of `rlm ask`; then only of the documents that its answer cites, in the generation that it
    asked. `follow_links`: whether links that lead out of a source's folder are read, where the build did not.
    `password`: what opens encrypted files.
    Raises BrokenIndex where there is no index, RaptorError for a run that cannot be read, or is one of another index.
    """
    path, progress = Path(index), progress or silent
    opened = open_index(path)
    documents: Sequence[Document] = opened.documents
    settings = BuildSettings.from_json(opened.manifest.settings)
    if run is not None:
        documents = _cited(path, opened, Path(run))
    with looked_at(path) as checkpoint:
        origins = recorded_origins(checkpoint)
        places, owners = origins.places(documents), origins.owning()
        files = dict[str, SourceFile]()
        for document in documents:
            place = places[document.id]
            file = holder(place)
            if file not in files and not is_gone(file):
                found = _file(document, place, owners(file_of(document.source)), follow_links)
                files[file] = replace(
                    found, encoding=settings.encoding, ocr_language=settings.ocr_language, password=password
                )
        loaded = load(files.values(), CheckpointCache(path, lambda: checkpoint))
        texts, failures = _sorted_out(loaded, progress)
    return [_state(document, places[document.id], texts, failures) for document in documents]


def _file(document: Document, place: str, owners: Sequence[Source], follow_links: bool) -> SourceFile:
    file = holder(place)
    real = os.path.realpath(file)
    may_be_read = follow_links or any(
        source.kind == FILE or source.follow_links or is_below(real, [source.root]) for source in owners
    )
    outside = not may_be_read and (bool(owners) or real != file)
    return SourceFile(Path(file), document.id.removesuffix(place.removeprefix(file)), outside)


def _sorted_out(
    loaded: Iterator[Text | Failure], progress: Progress
) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """The sha256 of each text by its place and, for one of several in it, its id; and for each place that failed, the
    first reason."""
    texts, failures = dict[tuple[str, str], str](), dict[str, str]()
    progress("load", 0, 0)
    for done, item in enumerate(loaded, 1):
        if isinstance(item, Text):
            texts[_key(item)] = document_of(item).sha256
        else:
            failures.setdefault(file_of(item.source), item.reason)
        progress("load", done, 0)
    return texts, failures


def _key(text: Text | Document, place: str = "") -> tuple[str, str]:
    file = file_of(text.source)
    return place or file, text.id if file != text.source else ""


def _state(
    document: Document, place: str, texts: dict[tuple[str, str], str], failures: dict[str, str]
) -> SourceState:
    sha256 = texts.get(_key(document, place))
    if sha256 is not None:
        return SourceState(document.id, place, "same" if sha256 == document.sha256 else "changed")
    failed = next((path for path in (place, *map(str, Path(place).parents)) if path in failures), None)
    if failed is not None:
        return SourceState(document.id, place, "unread", failures[failed])
    return SourceState(document.id, place, "gone")


# -- a run -------------------------------------------------------------------------------------------------


def _cited(path: Path, live: Index, run: Path) -> list[Document]:
    """The documents that the answer of a run cites, as they were in the generation that it asked."""
    digest, cited = _answer(run / TRACE if run.is_dir() else run)
    asked = live if live.digest == digest else _generation(path, digest, run)
    return [asked.document(doc) for doc in sorted(cited) if asked.has_document(doc)]


def _generation(path: Path, digest: str, run: Path) -> Index:
    for generation in list_generations(path):
        if generation.digest == digest:
            return open_generation(path, generation.number)
    raise RaptorError(
        f"the run {run} asked an index with the digest {digest[:12]!r}, which no generation of {path} has; name the "
        "index that it asked"
    )


def _answer(trace: Path) -> tuple[str, set[str]]:
    """The digest of the index that a run asked, and the documents that its answer cites. Raises RaptorError."""
    digest, cited = "", set[str]()
    try:
        with trace.open("rb") as lines:
            for line in lines:
                event = json.loads(line)
                if event["kind"] == "run_opened":
                    digest = str(event["index"]["digest"])
                elif event["kind"] == "answered" and event["conversation"] == "0":
                    cited |= {str(citation["doc"]) for citation in event["citations"] if citation["doc"]}
    except OSError as e:
        raise RaptorError(f"cannot read the run {trace}: {e.strerror or e}; name a folder of rlm ask") from e
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise RaptorError(
            f"{trace} is no trace of a run ({type(e).__name__}: {e}); name a folder of rlm ask"
        ) from e
    return digest, cited
