"""How often a build takes what `raptor build --dry-run` said: pieces of the development sets, as text and as PDFs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import REPOSITORY, Options
from benchmarks._report import Claim, Item, Table
from benchmarks._sets import there
from benchmarks._spent import spent

SETS = ("codebase", "contractnli", "musique")  # of more the part would take half an hour
SIZES = (20_000, 60_000, 150_000, 400_000)  # characters; with --nodes above a million ones of megabytes too
LARGE = (1_200_000, 5_000_000)
PDFS = (40_000, 160_000)


def measure(options: Options) -> Iterator[Item]:
    """A row for each corpus, and how many builds took what was expected. Raises NotRun without data."""
    there(options)
    rows = [_row(options.work / "estimates", *corpus) for corpus in _corpora(options)]
    columns = ("corpus", "characters", "expected, processor s", "took", "within")
    note = (
        f"Of the sets {', '.join(SETS)}, where no others are named. Processor seconds, as other programs come and go; "
        "the range of an estimate, which is of the clock, divided by the pace at which the clock ran meanwhile."
    )
    yield Table("Builds and their estimates", columns, tuple(rows), note)
    hits = sum(row[-1] == "yes" for row in rows)
    text, told = "builds that took what was expected", f"{hits} of {len(rows)}"
    yield Claim("estimates", text, "nine of ten", told, holds=hits >= 0.9 * len(rows))


def _corpora(options: Options) -> Iterator[tuple[str, int, str]]:
    """The name of a set with its file, how many of its characters, and as which kind of file."""
    wanted = options.sets or SETS
    sets = [file for file in sorted(options.data.glob("*/corpus.jsonl")) if file.parent.name in wanted]
    sizes = SIZES + (LARGE if options.nodes > 1_000_000 else ())
    for number, file in enumerate(sets):
        for size in sizes[number % 2 :: 2]:
            yield str(file), size, ".txt"
        if number % 4 == 0:
            yield str(file), PDFS[number // 4 % 2], ".pdf"


def _row(work: Path, file: str, size: int, suffix: str) -> tuple[str, ...]:
    name = f"{Path(file).parent.name}-{size}{suffix}"
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    chars = _write(folder / "docs", Path(file), size, suffix)
    command = [sys.executable, "-m", "raptor.cli", "build", str(folder / "docs"), "-o", str(folder / "index")]
    done = subprocess.run(
        [*command, "--dry-run", "--json"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    low, high = said["seconds_low"] / said["pace"], said["seconds_high"] / said["pace"]
    took = spent([*command, "--quiet"]).cpu_s or 0.0
    within = "yes" if low <= took <= high else "no"
    return name, f"{chars:,}", f"{low:.0f} to {high:.0f}", f"{took:.0f}", within


def _write(folder: Path, file: Path, size: int, suffix: str) -> int:
    """Write documents of a set, so many characters of them, as files; returns how many these are."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    with file.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines):
            if written >= size:
                break
            text = json.loads(line)["text"][: size - written]
            written += len(text)
            path = folder / f"{number:05}{suffix}"
            if suffix == ".pdf":
                _write_pdf(path, text.splitlines())
            else:
                path.write_text(text, encoding="utf-8", errors="replace")
    return written


def _write_pdf(path: Path, lines: Sequence[str]) -> None:
    from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

    page, y = Canvas(str(path)), 800
    for line in lines:
        for start in range(0, len(line), 90):
            page.drawString(40, y, line[start : start + 90])
            y -= 12
            if y < 40:
                page.showPage()
                y = 800
    page.save()
