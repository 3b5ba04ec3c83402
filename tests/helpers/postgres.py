"""A PostgreSQL of the tests' own, from Debian's package: in a folder that goes with it, on a socket in that folder.

A server of PostgreSQL refuses to run as root; where the tests do, it runs as nobody.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL there is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server. `folder`: what it keeps, and its socket."""

    bin: Path
    folder: Path

    def emptied(self) -> str:
        """The address of its one database, with nothing in it any more."""
        with psycopg.connect(host=str(self.folder), user="tests", dbname="postgres") as connection:
            connection.execute("drop schema public cascade")
            connection.execute("create schema public")
        return f"postgresql://tests@/postgres?host={quote(str(self.folder), safe='')}"

    def start(self) -> None:
        """Let it take connections."""
        fast = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=60"
        options = f"-k {self.folder} -h '' {fast}"
        log = str(self.folder / "log")
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-w", "-o", options, "start")

    def stop(self) -> None:
        """End it, and every connection to it, at once."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "stop")

    def run(self, program: str, *arguments: str) -> None:
        """One of its programs, as a user who is not root."""
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            text=True,
            check=False,
            **user,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def cluster(bin: Path) -> Iterator[Cluster]:
    """A new server, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # not below pytest's folders, which nobody else may enter
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    made = Cluster(bin, folder)
    try:
        made.run(
            "initdb", "-D", str(folder / "data"), "-U", "tests", "-A", "trust", "-N", "--no-instructions"
        )
        made.start()
        yield made
    finally:
        if (folder / "data/postmaster.pid").exists():
            made.stop()
        shutil.rmtree(folder)
