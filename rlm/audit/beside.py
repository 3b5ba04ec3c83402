"""What lies beside a trace in its folder: read only where it is a plain file of a size to be expected, and the programs
of others by which it is made and checked."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from index_store.files import opening
from index_store.terminal import one_line
from rlm.audit.log import TraceError, trace_file

_PATIENCE_S = 120


def folder_of(run: str | Path) -> Path:
    """The folder of a run, which may be named by its trace. Raises TraceError where there is no trace."""
    return trace_file(run).parent


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A plain file, open for reading. Raises TraceError where it is none, FileNotFoundError where there is none."""
    try:
        # A folder of a stranger may hold links to anything, and pipes that nobody writes to.
        handle = os.open(path, opening("RDONLY", "NOFOLLOW", "NONBLOCK", "CLOEXEC"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror}; it must be a plain file") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise TraceError(f"cannot read {path}: it must be a plain file")
    with os.fdopen(handle, "rb") as file:
        try:
            yield file
        except OSError as error:
            raise TraceError(f"cannot read {path}: {error.strerror}; is the disk sound?") from error


def bytes_of(path: Path, limit: int) -> bytes | None:
    """The bytes of a file, None where there is none. Raises TraceError where it is no plain file, or too large."""
    try:
        with opened(path) as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    if len(content) > limit:
        raise TraceError(f"{path} has more than {limit:,} bytes, which is no file of ours; take it away")
    return content


def now() -> str:
    """This moment in ISO form, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def ran(
    program: str, *arguments: str | Path, given: bytes = b"", ask: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """A program of others, run to its end. `ask`: it may ask at the terminal, and then says there what it has to say.

    Raises TraceError where it is not installed or does not end.
    """
    path = shutil.which(program)
    if path is None:
        raise TraceError(f"{program} is not installed here, and this is done by it; install {_FROM[program]}")
    # In a session of its own a program has no terminal to wait at.
    apart = {} if ask else {"SSH_ASKPASS_REQUIRE": "never"}
    try:
        return subprocess.run(
            [path, *map(str, arguments)],
            input=given,
            stdout=subprocess.PIPE,
            stderr=None if ask else subprocess.PIPE,
            timeout=None if ask else _PATIENCE_S,
            start_new_session=not ask,
            env=os.environ | {"LC_ALL": "C"} | apart,
        )
    except subprocess.TimeoutExpired as error:
        raise TraceError(f"{program} did not end within {_PATIENCE_S} s; try again") from error
    except OSError as error:
        raise TraceError(f"cannot run {path}: {error.strerror}; install {_FROM[program]} anew") from error


_FROM = {"ssh-keygen": "OpenSSH (8.2 or later)", "openssl": "OpenSSL"}


def last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last line of what a program said went wrong."""
    lines = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()
    return one_line(lines[-1].strip(), 200) if lines else f"it ended with {done.returncode}"
