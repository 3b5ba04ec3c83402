"""What a change of a few documents costs beside a full build, and whether search is as good after it."""

import json
import shutil
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks._report import Table
from index_store import Index, open_index
from raptor import BuildReport, build_index, update_index

DOCUMENTS, SIZE = 100, 5_000  # documents, and characters of each
WORDS, HITS = 6, 5


def table(folder: Path) -> Table:
    """1 % of the documents added, then one changed, then one removed; full builds beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    texts = python_texts(DOCUMENTS)
    names, added = sorted(texts), max(1, DOCUMENTS // 100)
    late, changed, removed = (names[i :: DOCUMENTS // added][:n] for i, n in ((3, added), (7, 1), (11, 1)))
    site, rows = Site(folder), []
    full = site.build({n: t for n, t in texts.items() if n not in late})
    rows.append(site.row("full build", full, full))
    rows.append(site.row(f"{added} added", site.update({n: texts[n] for n in late}), full))
    now = dict(texts)
    full = site.build(now)
    rows.append(site.row("full build of the same", full, full))
    now[changed[0]] = now[changed[0]][SIZE // 2 :] + now[removed[0]][: SIZE // 2]
    rows.append(site.row("one changed", site.update({changed[0]: now[changed[0]]}), full))
    del now[removed[0]]
    rows.append(site.row("one removed", site.update({}, removed), full))
    full = site.build(now)
    rows.append(site.row("full build of the same", full, full))
    note = (
        f"Documents: the first {SIZE:,} characters of {DOCUMENTS} modules of Python's own library. Calls: of the "
        f"offline summarizer, as the build reports them. Questions: {WORDS} words of each chunk that has so many. By "
        f"chunks: percent whose chunk is among the {HITS} best; by summaries: percent of which one of the {HITS} best "
        "summaries of level 1 stands on the chunk."
    )
    columns = (
        "what",
        "documents",
        "chunks",
        "calls",
        "percent of a full build's",
        "questions",
        "by chunks",
        "by summaries",
        "processor s",
    )
    return Table("Updates", columns, tuple(rows), note)


class Site:
    """An index in `folder` that is updated, and full builds beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.builds, self.began = folder, 0, time.process_time()

    def build(self, texts: dict[str, str]) -> BuildReport:
        """A full build; the first is the one that updates go on from."""
        self.began, self.builds = time.process_time(), self.builds + 1
        return build_index(written(self.folder / f"{self.builds}.jsonl", texts), self._index(self.builds))

    def update(self, texts: dict[str, str], remove: Sequence[str] = ()) -> BuildReport:
        self.began = time.process_time()
        # The file that it was built from: a document is not replaced by one of another file.
        sources = written(self.folder / "1.jsonl", texts) if texts else ()
        return update_index(self._index(1), sources, remove=remove)

    def _index(self, number: int) -> Path:
        return self.folder / f"{number}.index"

    def row(self, what: str, report: BuildReport, full: BuildReport) -> tuple[str, ...]:
        cpu_s = time.process_time() - self.began
        asked, by_chunks, by_summaries = recall(open_index(report.index))
        return (
            what,
            f"{report.documents:,}",
            f"{report.chunks:,}",
            f"{report.calls:,}",
            f"{100 * report.calls / full.calls:.1f}",
            f"{asked:,}",
            f"{by_chunks:.1f}",
            f"{by_summaries:.1f}",
            f"{cpu_s:.0f}",
        )


def python_texts(count: int) -> dict[str, str]:
    """The beginnings of `count` modules of the standard library, chosen evenly, by their dotted names."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [f for f in sorted(library.rglob("*.py")) if not {"site-packages", "test", "tests"} & {*f.parts}]
    large = [f for f in files if f.stat().st_size > 2 * SIZE]
    chosen = [large[i] for i in np.linspace(0, len(large) - 1, count).astype(int).tolist()]
    names = [".".join(f.relative_to(library).with_suffix("").parts) for f in chosen]
    return {n: f.read_text("utf-8", errors="replace")[:SIZE] for n, f in zip(names, chosen, strict=True)}


def written(file: Path, texts: dict[str, str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"_id": name, "title": name, "text": text}) for name, text in texts.items()]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def recall(index: Index) -> tuple[int, float, float]:
    """How many questions, and the percent whose chunk is found: among the chunks, below the summaries of level 1."""
    asked = questions(index)
    vectors = index.embed_queries([text for _, text in asked])
    chunks = summaries = 0
    for (gold, text), vector in zip(asked, vectors, strict=True):
        hits = index.search(text, HITS, vector=vector)
        above = index.search(text, HITS, vector=vector, level=1) if len(index.levels) > 1 else []
        chunks += gold in {index.number_of(hit.node) for hit in hits}
        summaries += any(gold in index.neighbours(index.number_of(hit.node), "children") for hit in above)
    return len(asked), 100 * chunks / len(asked), 100 * summaries / len(asked)


def questions(index: Index) -> list[tuple[int, str]]:
    """Chunks and some words of each, the same for any index of the same documents, in whatever order it has them."""
    random = np.random.default_rng(0)
    numbers = sorted(range(index.levels[0]), key=lambda n: str(index.span_at(n)))
    asked = []
    for number in numbers:
        words = sorted({w for w in index.text_at(number).split() if w.isalpha() and len(w) > 3})
        if len(words) >= WORDS:
            asked.append((number, " ".join(random.choice(words, WORDS, replace=False))))
    return asked
