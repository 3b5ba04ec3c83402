"""The sandbox for a user without rights: its tests, run again as such a user."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from tests.helpers.places import ROOT

USERS = (1234, 65534)
#: The tests of what hangs on the user: the known attacks are on the language, whose rules are the same for all.
FILES = ["corpus", "confinement", "session"]
#: Of them, what hangs on no user: the language's own rules, frames, and that payloads work where no layer is. What the
#: kernel's layers hold alone, as of the same payloads on effects, they hold with the language's and of known escapes.
ALIKE = "language or forged_frame or without_the_layers or with_every_layer or known_escapes"
STARTS = "import rlm, pytest, subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
SELF_CHECK = """
import sys
sys.path[:0] = [{root!r}]
from rlm.sandbox import layers, open_session
held = layers()
assert all(held.values()), held
with open_session(lambda name, items, named: items, frozenset({{"echo"}})) as session:
    assert session.run("echo(1 + 1)").stdout == "[2]\\n"
    assert session.run("import os").status == "rejected"
print("held")
"""


def as_user(uid: int, command: list[str], *capabilities: str) -> subprocess.CompletedProcess[str]:
    """Run `command` as that user, with nothing of root's left but `capabilities`."""
    given = "".join(f",+{name}" for name in capabilities)
    become = [f"--{kind}-caps=-all{given}" for kind in ("inh", "ambient")] + [f"--bounding-set=-all{given}"]
    who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *become]
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*who, *command], env=environment, capture_output=True, text=True, cwd=ROOT, check=False
    )


@functools.cache
def reading(uid: int) -> tuple[str, ...] | None:
    """What that user needs to read this Python: nothing, or, where it lies in root's home, the right to read."""
    for capabilities in ((), ("dac_read_search",)):
        if as_user(uid, [sys.executable, "-c", STARTS], *capabilities).returncode == 0:
            return capabilities
    return None


@pytest.fixture(params=USERS)
def user(request: pytest.FixtureRequest) -> int:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else; these tests are run as a plain user already")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    if reading(request.param) is None:
        pytest.skip(f"user {request.param} may not read this Python or this folder")
    return int(request.param)


def test_every_layer_holds_for_a_user_without_rights(user: int) -> None:
    done = as_user(user, [sys.executable, "-c", SELF_CHECK.format(root=str(ROOT))], *(reading(user) or ()))
    assert (done.returncode, done.stdout) == (0, "held\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("user", USERS[:1], indirect=True)
def test_the_tests_of_the_sandbox_pass_for_a_user_without_rights(user: int) -> None:
    files = [str(ROOT / f"tests/rlm/sandbox/test_{name}.py") for name in FILES]
    base = f"{tempfile.gettempdir()}/sandbox-tests-{user}"
    plain = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", f"not ({ALIKE})", "--basetemp", base]
    done = as_user(user, [sys.executable, "-m", "pytest", *plain, *files], *(reading(user) or ()))
    shutil.rmtree(base, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
