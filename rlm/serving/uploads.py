"""Files that people send, and the index that is made of them by the command `raptor`, in a process of its own."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile

from index_store.access import written
from index_store.paths import is_url
from index_store.types import Document, Json
from rlm.errors import RlmError
from rlm.serving.jobs import Job
from rlm.serving.settings import Settings

NAME_BYTES = 150
_STAGES = 8  # of a build, about; how far it is
_STAGE = re.compile(r"(?P<stage>[\w -]{1,60}): (?P<done>[\d,]+) in [\d.]+ s")
#: How the command says that it could read none of the files.
_NOTHING_READ = ("there is nothing to index", "holds no file of a known type")
_END_S = 15.0  # for a build to end by itself when it is told to
_LINE_BYTES = 64 * 1024
_PART = 1 << 20
#: Kinds of file that are one document each, which has the name of its file as id.
_ONE_DOCUMENT = (
    ".csv", ".docx", ".htm", ".html", ".log", ".markdown", ".md", ".pdf", ".pptx", ".rst", ".tsv", ".txt", ".xlsx"
)  # fmt: skip
#: What Windows takes for a device.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe_name(name: str | None) -> str:
    """A file's name that names a file in one folder, whatever a client calls it: its last part, composed (NFC), with
    letters, digits, spaces and `._-()+` only, not hidden, and not too long for a disk; "file" where nothing is left."""
    last = re.split(r"[/\\]", name or "")[-1]
    plain = "".join(c if c.isalnum() or c in " ._-()+" else "_" for c in unicodedata.normalize("NFC", last))
    stem, dot, ending = plain.strip(" ._").rpartition(".")
    stem, ending = (stem, f".{ending[:20]}") if dot else (ending, "")
    stem = _cut(stem.rstrip(" ."), NAME_BYTES - len(ending.encode())) or "file"
    return f"_{stem}{ending}" if _DEVICES.match(stem) else f"{stem}{ending}"


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode("utf-8", "ignore").rstrip(" .")


def labels_of(given: str, files: Sequence[UploadFile]) -> str:
    """The labels of an upload as metadata has them; '' for none. Raises IndexStoreError for what are no labels, and
    RlmError for a file that may hold several documents, whose ids, by which metadata is given, are not those of files.
    """
    if not given.strip():
        return ""
    labels = written(given, "the upload")
    for name in (safe_name(file.filename) for file in files):
        if Path(name).suffix.lower() not in _ONE_DOCUMENT:
            raise RlmError(
                f"{name} may hold several documents, and labels are given to files of one: {' '.join(_ONE_DOCUMENT)}; "
                "send those, or no labels"
            )
    return labels


async def keep(files: Sequence[UploadFile], settings: Settings) -> tuple[Path, list[str]]:
    """Write files into a folder of their own, until their build begins. Returns it, and what they are called there."""
    return await asyncio.to_thread(_kept, files, settings.uploads)


def _kept(files: Sequence[UploadFile], uploads: Path) -> tuple[Path, list[str]]:
    coming = None
    try:
        uploads.mkdir(parents=True, exist_ok=True)
        coming = Path(tempfile.mkdtemp(prefix=".coming-", dir=uploads))
        names = dict[str, Path]()
        for file in files:
            name = _free(safe_name(file.filename), names)
            names[name] = coming / name
            with names[name].open("xb") as out:
                shutil.copyfileobj(file.file, out, _PART)
    except OSError as e:
        if coming is not None:
            give_up(coming)
        raise RlmError(f"the files cannot be kept: {e.strerror or e}") from e
    return coming, sorted(names)


def take_in(coming: Path, folder: Path, access: str) -> None:
    """Move files that have come into the folder of an index, over those of the same name. Their labels are written
    before, so that no build finds a file without them; one that comes anew without labels has those that it had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _labels_folder(folder).mkdir(parents=True, exist_ok=True)
        for file in sorted(coming.iterdir()):
            if access:
                (_labels_folder(folder) / file.name).write_text(access, encoding="utf-8")
            file.replace(folder / file.name)
    except OSError as e:
        raise RlmError(f"the files cannot be kept: {e.strerror or e}") from e
    finally:
        give_up(coming)


def give_up(coming: Path) -> None:
    """Take away what has come, and is not to be built of."""
    shutil.rmtree(coming, ignore_errors=True)


def _labels_folder(folder: Path) -> Path:
    """Where the labels of each file of an index are, under its name."""
    return folder.parent / ".access" / folder.name


def _write_metadata(folder: Path, to: Path) -> None:
    """The labels of all files of an index, as `--meta` reads them."""
    labelled = [file for file in sorted(_labels_folder(folder).glob("*")) if (folder / file.name).exists()]
    rows = ({"_id": file.name, "access": file.read_text(encoding="utf-8")} for file in labelled)
    to.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def uploaded_pdf(document: Document, settings: Settings, index: str) -> Path | None:
    """The PDF that a document was made of, where it was uploaded for this index and is still there."""
    file, folder = Path(document.source).resolve(), (settings.uploads / index).resolve()
    if file.suffix.lower() != ".pdf" or file.parent != folder or not file.is_file():
        return None
    with file.open("rb") as opened:
        return file if opened.read(5) == b"%PDF-" else None


def _free(name: str, taken: Mapping[str, Path]) -> str:
    """The name, with a number where another file of the same upload has it, whatever the case."""
    known = {each.casefold() for each in taken}
    stem, ending, number = Path(name).stem, Path(name).suffix, 1
    while name.casefold() in known:
        number += 1
        name = f"{stem} ({number}){ending}"
    return name


async def build(
    job: Job, source: Path, names: Sequence[str], index: str | Path, summarizer: str, max_usd: float | None
) -> dict[str, Json]:
    """Build or update an index from a folder; gives the command's report, with `refused`: {"file", "reason"} of each
    file that could not be read. Of `names`, the files of this upload, those are taken away, so that no later build
    reads them again. `summarizer`: '' for the command's own.

    Raises RlmError with its sentence.
    """
    called = Path(index).name
    is_there = is_url(index) or Path(index, "CURRENT").exists()
    if not is_url(index):
        Path(index).parent.mkdir(parents=True, exist_ok=True)
    words = ["update", str(index), str(source)] if is_there else ["build", str(source), "-o", str(index)]
    with tempfile.TemporaryDirectory() as beside:
        metadata = Path(beside) / "access.jsonl"
        await asyncio.to_thread(_write_metadata, source, metadata)
        code, report, last = await _raptor(job, [*words, "--meta", str(metadata)], summarizer, max_usd)
    if code != 0:
        told = last.removeprefix("raptor: ") or f"the build ended with the code {code}"
        told = told.replace(f"{source}/", "").replace(str(source), "the files").replace(str(index), called)
        if any(words in told for words in _NOTHING_READ):
            await asyncio.to_thread(_take_away, source, names)
            told = f"no file was taken: {told}"
        raise RlmError(told)
    job.done = job.of = max(job.done, 1)
    told_json: dict[str, Json] = json.loads(report.replace(f"{source}/".encode(), b""))
    refused = refused_in(told_json)
    gone = [one["file"] for one in refused if one["file"] in names]
    await asyncio.to_thread(_take_away, source, gone)
    return {**told_json, "index": called, "refused": [*refused]}


async def _raptor(
    job: Job, words: list[str], summarizer: str, max_usd: float | None
) -> tuple[int, bytes, str]:
    """Run the command: its exit code, what it printed, and the last line of what it said meanwhile."""
    if summarizer:
        words += ["--summarizer", summarizer]
        if max_usd is not None:
            words += ["--max-usd", str(max_usd)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "raptor.cli",
        *words,
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=_LINE_BYTES,
    )
    assert process.stdout
    assert process.stderr
    job.of = _STAGES
    try:
        report, last = await asyncio.gather(process.stdout.read(), _progress(job, process.stderr))
        code = await process.wait()
    finally:
        await _ended(process)
    return code, report, last


def check_taken(report: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise RlmError where a build has taken none of the files of its upload."""
    refused = {one["file"]: one["reason"] for one in report["refused"]}
    if set(names) <= refused.keys():
        reasons = "; ".join(f"{name}: {refused[name]}" for name in names)
        stays = f"the index stays at generation {report['generation']}"
        raise RlmError(f"no file was taken, and {stays}: {reasons}")


def refused_in(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """{"file", "reason"} of each source that a report says could not be loaded."""
    return [{"file": one["source"], "reason": one["reason"]} for one in report["failures"]]


def _take_away(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def may_have_cost(job: Job) -> bool:
    """Whether a build came so far that its summarizer may have been asked: that is once all passages are embedded."""
    return any(event.get("stage") == "embed" for event in job.events)


async def _progress(job: Job, lines: asyncio.StreamReader) -> str:
    """Tell who follows of each stage as it ends; gives the last line."""
    last = ""
    async for raw in lines:
        last = raw.decode("utf-8", "replace").strip() or last
        if stage := _STAGE.fullmatch(last):
            job.done += 1
            event: dict[str, Json] = {
                "kind": "build_progress",
                "conversation": "0",
                "seq": len(job.events),
                "stage": stage["stage"],
                "done": int(stage["done"].replace(",", "")),
            }
            job.add(event)
    return last


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Make sure that a build, and all that it started, has ended."""
    if process.returncode is None:
        _signal(process, signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            _signal(process, signal.SIGKILL)
            await process.wait()


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # it has just ended
        return
