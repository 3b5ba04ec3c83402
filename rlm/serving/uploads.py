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


async def keep(files: Sequence[UploadFile], settings: Settings, index: str) -> tuple[Path, list[str]]:
    """Write files into the folder of what was uploaded for an index, over those of the same name, once all are whole.
    Returns the folder, and what they are called there."""
    folder = settings.uploads / index
    return await asyncio.to_thread(_kept, files, folder)


def _kept(files: Sequence[UploadFile], folder: Path) -> tuple[Path, list[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    coming = Path(tempfile.mkdtemp(prefix=".coming-", dir=folder.parent))
    try:
        names = dict[str, Path]()
        for number, file in enumerate(files):
            name = _free(safe_name(file.filename), names)
            names[name] = coming / str(number)
            with names[name].open("xb") as out:
                shutil.copyfileobj(file.file, out, _PART)
        for name, whole in names.items():
            whole.replace(folder / name)
    except OSError as e:
        raise RlmError(f"the files cannot be kept: {e.strerror or e}") from e
    finally:
        shutil.rmtree(coming, ignore_errors=True)
    return folder, sorted(names)


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
    job: Job, source: Path, names: Sequence[str], index: Path, summarizer: str, max_usd: float | None
) -> dict[str, Json]:
    """Build or update an index from a folder; gives the command's report, with `refused`: {"file", "reason"} of each
    file that could not be read. Of `names`, the files of this upload, those are taken away, so that no later build
    reads them again. `summarizer`: '' for the command's own.

    Raises RlmError with its sentence.
    """
    is_there = (index / "CURRENT").exists()
    index.parent.mkdir(parents=True, exist_ok=True)
    words = ["update", str(index), str(source)] if is_there else ["build", str(source), "-o", str(index)]
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
    if code != 0:
        told = last.removeprefix("raptor: ") or f"the build ended with the code {code}"
        told = (
            told.replace(f"{source}/", "").replace(str(source), "the files").replace(str(index), index.name)
        )
        if any(words in told for words in _NOTHING_READ):
            await asyncio.to_thread(_take_away, source, names)
            told = f"no file was taken: {told}"
        raise RlmError(told)
    job.done = job.of = max(job.done, 1)
    told_json: dict[str, Json] = json.loads(report.replace(f"{source}/".encode(), b""))
    refused = refused_in(told_json)
    gone = [one["file"] for one in refused if one["file"] in names]
    await asyncio.to_thread(_take_away, source, gone)
    return {**told_json, "index": index.name, "refused": [*refused]}


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
