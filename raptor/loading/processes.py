"""Parse files in processes: several at once, each under limits, so that a hostile file ends its parser and no more.

A parser reads a line of JSON for each file and writes one. It imports nothing from the folder it is started in, which
may be that of the documents, gets no key in its environment, and gives up what `raptor.loading.confined` takes. (It is
not one of `multiprocessing`, which would run a caller's own script again where that lacks a main guard, and whose
messages are pickles.)
"""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Timer
from typing import IO, Any, Protocol, TypeGuard

from index_store.files import sha256_of
from index_store.types import MOST_LEVEL
from raptor.engines.engine import Engine, Stage, in_order
from raptor.errors import RaptorError
from raptor.loading.archives import TooMuch
from raptor.loading.confined import confine, limit_memory, python
from raptor.loading.kinds import PACKED
from raptor.loading.ocr import available, recognised
from raptor.loading.pdf import page_picture
from raptor.loading.readers import packed_at, read_file
from raptor.loading.types import (
    MAX_PACKED_BYTES,
    Failure,
    Loaded,
    Section,
    SourceFile,
    Text,
    TooLarge,
    state_of,
)

LIMIT_S = 120.0
MEMORY_BYTES = 4 * 2**30
#: Goes up when the same file gives another text, so that what is recorded of it is not used.
VERSION = 3
#: Whether a process can have itself ended in time; elsewhere, on Windows, its parent ends it, with a code of ours.
_HAS_ALARM = hasattr(signal, "setitimer")
_LATE = 5_117
#: Bytes of a file that is sent to another machine, and of files that are sent together; and how many those are.
_MOST_SENT, _MOST_FILES = 16 << 20, 16
_AHEAD = 4  # files submitted before their turn, for each process
#: All of a build's environment that reaches a parser: how names of files are encoded, and where Python's libraries are.
ENVIRONMENT = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH")
#: What a parser then runs. The tests put readers that die or hang before it.
SERVE = "from raptor.loading.processes import main; main()"


class ParseCache(Protocol):
    """Texts that were parsed before, by the sha256 of the file and how it is read; each is JSON."""

    def get(self, sha256: str, how: str) -> Any | None: ...
    def put(self, sha256: str, how: str, text: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class _Job:
    """A file on its way. `sha256`: of its bytes, "" where its text is not to be recorded; `state`: of the file then.

    `known`: whether its text was in the cache.
    """

    file: SourceFile
    sha256: str
    state: tuple[int, ...] | None
    loaded: Callable[[], list[Loaded]]
    known: bool = False


def parse_many(
    files: Sequence[SourceFile], cache: ParseCache | None = None, engine: Engine | None = None
) -> Generator[list[Loaded], None, None]:
    """What `read_file` gives for each file, in order, parsed in as many processes as there are processors.

    An engine on other machines gets the bytes of files, and parses them in processes that are as confined there.
    A file whose parser dies, or takes longer than LIMIT_S, is a Failure. Raises RaptorError where no process starts.
    """
    if engine is not None and not engine.is_here:
        return _parsed_elsewhere(files, cache, engine)
    return _parsed(files, cache, min(len(files), os.cpu_count() or 1))


def _parsed(
    files: Sequence[SourceFile], cache: ParseCache | None, workers: int
) -> Generator[list[Loaded], None, None]:
    parsers = _Parsers(deque(), [], Event())
    pending: deque[_Job] = deque()
    with closing(parsers), ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for file in files:
                pending.append(_begun(file, cache, lambda file: pool.submit(parsers.parse, file)))
                if len(pending) >= _AHEAD * workers:
                    yield _ended(pending.popleft(), cache)
            while pending:
                yield _ended(pending.popleft(), cache)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            parsers.stop()


def _begun(
    file: SourceFile, cache: ParseCache | None, submit: Callable[[SourceFile], Future[list[Loaded]]]
) -> _Job:
    if cache is None:
        return _Job(file, "", None, submit(file).result)
    state, sha256 = state_of(file.path), _sha256_of(file.path)
    known = cache.get(sha256, _how(file)) if sha256 else None
    if known is not None:
        text = _text_of(known | {"id": file.id, "source": str(file.path)})
        # A title that was the file's name is that of this file.
        named = replace(text, title=text.title or file.path.name)
        return _Job(file, sha256, state, lambda: [named], known=True)
    return _Job(file, sha256, state, submit(file).result)


def _parsed_elsewhere(
    files: Sequence[SourceFile], cache: ParseCache | None, engine: Engine
) -> Generator[list[Loaded], None, None]:
    """As `_parsed`. What is recorded, cannot be read or is too large to be sent is seen to here, in its turn."""
    turns: deque[tuple[SourceFile, str | None]] = deque()  # with the sha256 of what was sent

    def batches() -> Iterator[list[SourceFile]]:
        batch, size = list[SourceFile](), 0
        for file in files:
            content = None if cache is not None and is_known(file, cache) else _sendable(file)
            turns.append((file, None if content is None else hashlib.sha256(content).hexdigest()))
            if content is not None:
                batch.append(replace(file, content=content))
                size += len(content)
            if len(batch) == _MOST_FILES or size >= _MOST_SENT:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def due(parsed: deque[list[Loaded]]) -> Iterator[list[Loaded]]:
        while turns and (turns[0][1] is None or parsed):
            file, sha256 = turns.popleft()
            if sha256 is None:
                yield from _parsed([file], cache, 1)
            else:
                loaded = parsed.popleft()
                _record(file, sha256, loaded, cache)
                yield loaded

    parsed = deque[list[Loaded]]()
    for of_one in in_order(engine.map_batches(Stage("parse", parsed_batch, available()), batches())):
        parsed.extend(of_one)
        yield from due(parsed)
    yield from due(parsed)


def parsed_batch(ocr: bool, files: Sequence[SourceFile]) -> list[list[Loaded]]:
    """The stage: what each file gives, whose bytes are its `content`, in a process that is confined.

    `ocr`: whether pages that are pictures are read where the build runs. Raises RaptorError where they are not, or are,
    on this machine: the text would be another.
    """
    if ocr != available():
        raise RaptorError(
            "tesseract, which reads pages that are pictures, is on some machines of the cluster and not on others; "
            "install it on all of them, or on none"
        )
    with closing(_Parsers(deque(), [], Event())) as parsers, TemporaryDirectory() as folder:
        return [parsers.parse(file, _written(file, Path(folder))) for file in files]


def _written(file: SourceFile, folder: Path) -> Path:
    """A file with the content of another."""
    path = folder / "content"
    path.write_bytes(file.content or b"")
    return path


def _sendable(file: SourceFile) -> bytes | None:
    """All bytes of a file, or None where they are too many to be sent, or cannot be had."""
    try:
        return file.raw(_MOST_SENT) if file.path.is_file() else None
    except (OSError, TooLarge):
        return None


def is_known(file: SourceFile, cache: ParseCache) -> bool:
    """Whether the text of a file is in the cache."""
    sha256 = _sha256_of(file.path)
    return bool(sha256) and cache.get(sha256, _how(file)) is not None


def _ended(job: _Job, cache: ParseCache | None) -> list[Loaded]:
    loaded = job.loaded()
    if job.sha256 and not job.known and state_of(job.file.path) == job.state:
        _record(job.file, job.sha256, loaded, cache)
    return loaded


def _record(file: SourceFile, sha256: str, loaded: Sequence[Loaded], cache: ParseCache | None) -> None:
    """Keep the text of a file; what is packed in one has a name of its own, and is not kept."""
    first = loaded[0] if len(loaded) == 1 else None
    if cache is not None and isinstance(first, Text) and first.source == str(file.path):
        row = asdict(first)
        row["title"] = "" if row["title"] == file.path.name else row["title"]
        del row["id"], row["source"]
        cache.put(sha256, _how(file), row)


def _how(file: SourceFile) -> str:
    """What the text of a file hangs on, beside its bytes."""
    return " ".join(
        filter(None, (file.suffix, file.encoding, f"ocr{file.ocr_language}" if _is_read_by_ocr(file) else ""))
    )


def _is_read_by_ocr(file: SourceFile) -> bool:
    """Whether pages of it that are pictures are read; what has no suffix may be a PDF, and one may be packed in it."""
    return file.suffix in PACKED | {".pdf", ""} and available()


def _is_pdf(item: Loaded, file: SourceFile) -> TypeGuard[Text]:
    """Whether it is the text of a PDF with pages: of the file, or of one packed in it."""
    if not isinstance(item, Text) or not item.pages:
        return False
    return item.source == str(file.path) or item.source.lower().endswith(".pdf")


def _sha256_of(path: Path) -> str:
    """The sha256 of a regular file's bytes; "" where it cannot be read or is too large, about which reading raises."""
    try:
        return sha256_of(path) if path.is_file() and path.stat().st_size <= MAX_PACKED_BYTES else ""
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class _Parsers:
    """The processes that wait for a file, all that were started, and whether they are to end."""

    idle: deque[subprocess.Popen[bytes]]
    started: list[subprocess.Popen[bytes]]
    stopped: Event

    def parse(self, file: SourceFile, at: Path | None = None) -> list[Loaded]:
        """What a file gives. `at`: where its bytes are, if not under its path."""
        line = self._asked(file, at)
        if isinstance(line, Failure):
            return [line]
        try:
            loaded = [_loaded_of(row) for row in json.loads(line)]
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            return [Failure(str(file.path), f"its parser answered no document ({e}); leave it out")]
        if not _is_read_by_ocr(file):
            return loaded
        return [
            recognised(item, partial(self._picture, file, at, item.source), file.ocr_language)
            if _is_pdf(item, file)
            else item
            for item in loaded
        ]

    def _picture(self, file: SourceFile, at: Path | None, source: str, page: int) -> bytes:
        line = self._asked(file, at, page, source)
        try:
            return b"" if isinstance(line, Failure) else base64.b64decode(json.loads(line))
        except (ValueError, TypeError):
            return b""

    def _asked(self, file: SourceFile, at: Path | None, page: int = 0, source: str = "") -> bytes | Failure:
        """A parser's line about a file, or how the parser ended. With a page the line is a picture: of that page of the
        file, or of the one packed in it at `source`."""
        try:
            parser = self.idle.pop()
        except IndexError:
            parser = _started()
            self.started.append(parser)
            if self.stopped.is_set():
                parser.kill()
        line = _answer(parser, file, at, page, source)
        if not line.endswith(b"\n"):
            return Failure(str(file.path), _death(parser.wait()))
        self.idle.append(parser)
        return line

    def stop(self) -> None:
        """End the processes, and with them the threads that wait for one."""
        self.stopped.set()
        for parser in self.started:
            parser.kill()

    def close(self) -> None:
        for parser in self.started:
            with suppress(BrokenPipeError), parser:  # closes its pipes and waits for it
                pass


def _started() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            python(SERVE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )
    except OSError as e:
        raise RaptorError(
            f"cannot start a process to parse documents ({e.strerror or e}); free memory"
        ) from e


def _answer(
    parser: subprocess.Popen[bytes], file: SourceFile, at: Path | None, page: int, source: str
) -> bytes:
    """A parser's line about a file, without its end where the parser died."""
    assert parser.stdin is not None
    assert parser.stdout is not None
    asked = {
        "path": os.fsencode(file.path).hex(),
        "at": os.fsencode(at or "").hex(),
        "id": os.fsencode(file.id).hex(),
        "encoding": file.encoding,
        "password": file.password,
        "page": page,
        "source": os.fsencode(source).hex(),
        "limit_s": LIMIT_S,
    }
    try:
        with nullcontext() if _HAS_ALARM else _ended_when_late(parser):
            parser.stdin.write(json.dumps(asked).encode() + b"\n")
            parser.stdin.flush()
            return parser.stdout.readline()
    except OSError:  # a pipe without a reader
        return b""


@contextmanager
def _ended_when_late(parser: subprocess.Popen[bytes]) -> Iterator[None]:
    """Within it the parser is ended after LIMIT_S, where it has no alarm of its own."""

    def end() -> None:
        parser.kill()
        parser.wait()
        parser.returncode = _LATE

    timer = Timer(LIMIT_S, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _death(code: int) -> str:
    if code == (-signal.SIGALRM if _HAS_ALARM else _LATE):
        return f"it took more than {LIMIT_S:g} s to parse; split it, or leave it out"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"its parser died of it ({how}); open it in its own program and save it anew, or leave it out"


def _loaded_of(row: dict[str, Any]) -> Loaded:
    if "reason" in row:
        return Failure(str(row["source"]), str(row["reason"]))
    if not is_parsed(row):
        raise ValueError("its parts do not fit each other")
    return _text_of(row)


def is_parsed(row: Any) -> bool:
    """Whether a value is a text as `ParseCache` keeps it: strings, and offsets that ascend inside the text.

    A parser that was taken over, or a stranger's checkpoint, may say anything.
    """
    match row:
        case {
            "title": str(),
            "text": str(text),
            "pages": [*pages],
            "sections": [*sections],
            "meta": {**meta},
            "notes": [*notes],
        }:
            starts = [section.get("start") for section in sections if isinstance(section, dict)]
            return (
                len(starts) == len(sections)
                and all(_ascend(offsets, len(text)) for offsets in (pages, starts))
                and all(type(s.get("level")) is int and 0 <= s["level"] < MOST_LEVEL for s in sections)
                and all(isinstance(s.get("heading"), str) for s in sections)
                and all(isinstance(words, str) for words in (*meta.values(), *notes))
            )
    return False


def _ascend(offsets: Sequence[Any], most: int) -> bool:
    whole = all(type(offset) is int for offset in offsets)
    return whole and all(a <= b for a, b in pairwise([0, *offsets, most]))


def _text_of(row: dict[str, Any]) -> Text:
    sections = tuple(Section(s["start"], s["level"], s["heading"]) for s in row["sections"])
    pages, notes = tuple(row["pages"]), tuple(row["notes"])
    return Text(
        str(row["id"]),
        row["title"],
        str(row["source"]),
        row["text"],
        pages,
        sections,
        dict(row["meta"]),
        notes,
    )


# -- in the process ------------------------------------------------------------------------------------------


def _serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    for line in asked:
        request = json.loads(line)
        path, name, at = (os.fsdecode(bytes.fromhex(request[key])) for key in ("path", "id", "at"))
        _alarm(request["limit_s"])
        content = Path(at).read_bytes() if at else None
        told = {"encoding": request["encoding"], "password": request["password"], "content": content}
        source = os.fsdecode(bytes.fromhex(request["source"]))
        answer = _answered(SourceFile(Path(path), name, **told), request["page"], source)
        _alarm(0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _alarm(seconds: float) -> None:
    """The system ends this process then, native code and an orphan included; 0: it does not."""
    if _HAS_ALARM:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _answered(file: SourceFile, page: int, source: str) -> Any:
    if not page:
        return [asdict(item) for item in read_file(file)]
    pdf = _pdf_at(file, source, state_of(file.path))
    return base64.b64encode(page_picture(pdf, page) if pdf else b"").decode()


@lru_cache(1)  # its pages are asked for one after another
def _pdf_at(file: SourceFile, source: str, _: tuple[int, ...] | None) -> SourceFile | None:
    try:
        return file if source == str(file.path) else packed_at(file, source)
    except (OSError, TooMuch, TooLarge):
        return None


def main() -> None:
    """Serve on standard input and output, to which nothing else may write; this process is confined."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if _HAS_ALARM:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the build's to handle, which then ends this process
    limit_memory(MEMORY_BYTES)
    confine()
    _serve(sys.stdin.buffer, answers)
