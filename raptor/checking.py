"""Whether the files that an index was made of still say what it holds, or at least the words that were cited.

It stands here and not in `rlm`, as only this package reads documents. A run is taken as its trace says; whether that is
whole, `rlm trace verify` says.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from raptor.loading.origins import FILE, Source, holder, is_gone, outside_of_here
from raptor.loading.parsed import CheckpointCache
from raptor.loading.types import Failure, SourceFile, Text
from raptor.places import at_place
from raptor.settings import BuildSettings
from raptor.workspace import (
    Allow,
    Progress,
    looked_at,
    recorded_origins,
    refuse_unknown_sources,
    silent,
)

TRACE = "trace.jsonl"

#: What became of a document: it says the same, it says something else, it is not there, or that cannot be told.
State = Literal["same", "changed", "gone", "unread"]


#: Passages of a document that are looked for in its file, at most: of more, as many that lie evenly over it.
MOST_PASSAGES = 1_000


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a document's file stands to its text in an index. `file`: absolute. `reason`: why it is `unread`, else "".

    `passages`: where it is `changed`, how many passages were looked for in the file: those that the run's answer cites,
    else the document's chunks; `standing`: how many of them are in it still, but for white space.
    """

    doc: str
    file: str
    state: State
    reason: str = ""
    passages: int = 0
    standing: int = 0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A document of an index, and what gives the passages of it that somebody may rely on."""

    document: Document
    passages: Callable[[], Sequence[str]]

    def state(self, place: str, text: str | None) -> SourceState:
        """The state, given the file's text; None where that is the same."""
        if text is None:
            return SourceState(self.document.id, place, "same")
        now, passages = _spaced(text), self.passages()
        standing = sum(_spaced(passage) in now for passage in passages)
        return SourceState(self.document.id, place, "changed", "", len(passages), standing)


@checked(RaptorError)
@at_place(publishes=False)
def check_sources(
    index: str | Path,
    run: str | Path | None = None,
    *,
    follow_links: bool = False,
    allow: Allow | None = None,
    password: str = "",
    progress: Progress | None = None,
) -> list[SourceState]:
    """How the file of each document of an index stands to the text that was indexed, in the order of the documents.

    `run`: the folder of a run of `rlm ask`; then only of the documents that its answer cites, in the generation that it
    asked. `follow_links`: whether links that lead out of a source's folder are read, where the build did not.
    `allow`: called with the paths of files that lie outside the working folder, where the index was not built on this
    machine, and says whether they may be read; without it they may not. `password`: what opens encrypted files.
    Raises BrokenIndex where there is no index, RaptorError for files that may not be read, and for a run that cannot be
    read, or is one of another index.
    """
    path, progress = Path(index), progress or silent
    opened = open_index(path)
    settings = BuildSettings.from_json(opened.manifest.settings)
    wanted = _chunks(opened) if run is None else _cited(path, opened, Path(run))
    documents = [one.document for one in wanted]
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
        outside = outside_of_here(file for file, found in files.items() if not found.outside)
        refuse_unknown_sources(path, outside, checkpoint, allow, "to have them read")
        loaded = load(files.values(), CheckpointCache(path, lambda: checkpoint))
        held = {_key(document, places[document.id]): document.sha256 for document in documents}
        texts, failures = _sorted_out(loaded, held, progress)
    return [_state(one, places[one.document.id], texts, failures) for one in wanted]


def _file(document: Document, place: str, owners: Sequence[Source], follow_links: bool) -> SourceFile:
    file = holder(place)
    real = os.path.realpath(file)
    may_be_read = follow_links or any(
        source.kind == FILE or source.follow_links or is_below(real, [source.root]) for source in owners
    )
    outside = not may_be_read and (bool(owners) or real != file)
    return SourceFile(Path(file), document.id.removesuffix(place.removeprefix(file)), outside)


def _sorted_out(
    loaded: Iterator[Text | Failure], held: Mapping[tuple[str, str], str], progress: Progress
) -> tuple[dict[tuple[str, str], str | None], dict[str, str]]:
    """Each text by its place and, for one of several in it, its id, None where its sha256 is the one `held`; and for
    each place that failed, the first reason."""
    texts, failures = dict[tuple[str, str], str | None](), dict[str, str]()
    progress("load", 0, 0)
    for done, item in enumerate(loaded, 1):
        if isinstance(item, Text):
            key = _key(item)
            if key in held:
                texts[key] = None if document_of(item).sha256 == held[key] else item.text
        else:
            failures.setdefault(file_of(item.source), item.reason)
        progress("load", done, 0)
    return texts, failures


def _key(text: Text | Document, place: str = "") -> tuple[str, str]:
    file = file_of(text.source)
    return place or file, text.id if file != text.source else ""


def _state(
    wanted: _Wanted, place: str, texts: Mapping[tuple[str, str], str | None], failures: Mapping[str, str]
) -> SourceState:
    document = wanted.document
    if (key := _key(document, place)) in texts:
        return wanted.state(place, texts[key])
    failed = next((path for path in (place, *map(str, Path(place).parents)) if path in failures), None)
    if failed is not None:
        return SourceState(document.id, place, "unread", failures[failed])
    return SourceState(document.id, place, "gone")


def _spaced(text: str) -> str:
    """The words of a text with one blank between them."""
    return " ".join(text.split())


def _chunks(index: Index) -> list[_Wanted]:
    """Every document of an index, with its chunks."""

    def texts(number: int) -> list[str]:
        leaves = index.document_leaves(number)
        return [index.text_at(leaf) for leaf in leaves[:: max(1, -(-len(leaves) // MOST_PASSAGES))]]

    return [_Wanted(document, partial(texts, number)) for number, document in enumerate(index.documents)]


# -- a run -------------------------------------------------------------------------------------------------


def _cited(path: Path, live: Index, run: Path) -> list[_Wanted]:
    """The documents that a run's answers cite, as they were in the generation that it asked, and the words there."""
    digest, cited = _answer(run / TRACE if run.is_dir() else run)
    asked = live if live.digest == digest else _generation(path, digest, run)
    known = (doc for doc in sorted(cited) if asked.has_document(doc))
    return [_Wanted(asked.document(doc), partial(list, cited[doc])) for doc in known]


def _generation(path: Path, digest: str, run: Path) -> Index:
    for generation in list_generations(path):
        if generation.digest == digest:
            return open_generation(path, generation.number)
    raise RaptorError(
        f"the run {run} asked an index with the digest {digest[:12]!r}, which no generation of {path} has; name the "
        "index that it asked"
    )


def _answer(trace: Path) -> tuple[str, dict[str, list[str]]]:
    """The digest of the index that a run asked, and the documents that its answers cite, each with the words that stand
    there. Raises RaptorError."""
    digest, cited = "", dict[str, list[str]]()
    try:
        with trace.open("rb") as lines:
            for line in lines:
                event = json.loads(line)
                if event["kind"] == "run_opened":
                    digest = str(event["index"]["digest"])
                elif event["kind"] == "answered" and event["conversation"] == "0":
                    for one in event["citations"]:
                        quoted = one.get("found") or one["quote"]
                        if one["doc"] and quoted:  # null where it was taken out of the trace
                            cited.setdefault(str(one["doc"]), []).append(str(quoted))
    except OSError as e:
        raise RaptorError(f"cannot read the run {trace}: {e.strerror or e}; name a folder of rlm ask") from e
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise RaptorError(
            f"{trace} is no trace of a run ({type(e).__name__}: {e}); name a folder of rlm ask"
        ) from e
    return digest, cited
