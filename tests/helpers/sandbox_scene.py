"""What hostile code could touch, one scene a payload: a secret, a listener, a process, a pipe. And who looks."""

import fcntl
import json
import os
import secrets
import select
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.attacks import Attack
from tests.helpers.places import HELPERS, ROOT

LINK = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """A world of its own for one payload."""

    folder: Path
    secret: str
    listeners: tuple[socket.socket, ...]  # TCP and Unix
    victim: subprocess.Popen[bytes]
    pipe: tuple[int, int]

    def fill(self, code: str) -> str:
        """The payload with this scene's names in it."""
        names = {"DIR": self.folder, "PORT": self.listeners[0].getsockname()[1], "PID": self.victim.pid}
        for name, value in (names | {"FD": self.pipe[1], "LINK": LINK}).items():
            code = code.replace(f"@{name}@", str(value))
        return code

    def effects(self, said: str) -> list[str]:
        """Every trace the payload left outside its process."""
        found = {
            "secret": self.secret in said,
            "file": os.path.lexists(self.folder / "owned"),
            "connection": any(is_ready(listener) for listener in self.listeners),
            "process ended": self.victim.poll() is not None,
            "descriptor": is_ready(self.pipe[0]),
            "power": "BROKEN" in said,
        }
        return [name for name, on in found.items() if on]

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for listener in self.listeners:
            listener.close()
        for end in self.pipe:
            os.close(end)
        shutil.rmtree(self.folder)


def is_ready(end: socket.socket | int) -> bool:
    return bool(select.select([end], [], [], 0)[0])


def set_scene() -> Scene:
    folder = Path(tempfile.mkdtemp(prefix="scene"))
    folder.chmod(0o777)  # the worker's user may write here, if any layer lets it
    secret = secrets.token_hex(8)
    for name, text in (("secret.txt", secret), ("spare.txt", "spare")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o666)
    with closing(sqlite3.connect(folder / "secret.db")) as database:
        database.execute("create table t (word)")
        database.execute("insert into t values (?)", (secret,))
        database.commit()
    (folder / "secret.db").chmod(0o666)
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(folder / "door"))
    (folder / "door").chmod(0o777)
    tcp = socket.create_server(("127.0.0.1", 0))
    door.listen()
    reading, writing = os.pipe()
    # Clear of what the worker itself has open, and a free one: dup2 would close another scene's.
    high = fcntl.fcntl(writing, fcntl.F_DUPFD, 500)
    os.close(writing)
    os.set_inheritable(high, True)
    return Scene(folder, secret, (tcp, door), subprocess.Popen(["sleep", "600"]), (reading, high))


@contextmanager
def scenes(count: int) -> Iterator[list[Scene]]:
    """`count` scenes, gone afterwards."""
    made: list[Scene] = []
    try:
        made.extend(set_scene() for _ in range(count))
        yield made
    finally:
        for scene in made:
            scene.close()


def probe(mode: str, snippets: Iterable[str], fds: Sequence[int] = (), **request: Any) -> dict[str, Any]:
    """The probe's reply; `fds` are inherited."""
    command = [
        sys.executable,
        "-s",
        "-P",
        "-S",
        str(HELPERS / "sandbox_probe.py"),
        str(ROOT / "rlm/sandbox/cage"),
    ]
    asked = json.dumps({"mode": mode, "snippets": list(snippets), **request})
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, env={}, pass_fds=fds, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def effects_of(mode: str, attacks: Sequence[Attack], **request: Any) -> dict[str, list[str]]:
    """By payload, the effects it had: only those that had any."""
    with scenes(len(attacks)) as made:
        codes = [scene.fill(attack.code) for scene, attack in zip(made, attacks, strict=True)]
        reply = probe(mode, codes, [scene.pipe[1] for scene in made], **request)
        found = {
            attack.id: scene.effects(end["said"])
            for scene, attack, end in zip(made, attacks, reply["ends"], strict=True)
        }
    return {name: effects for name, effects in found.items() if effects}
