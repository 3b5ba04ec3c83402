"""A command that begins at once ends, prints and listens to signals as one does that starts by itself."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.test_pages import environment
from tests.helpers.documentation import plain

STOPPED = """mkfifo in; rlm shell handbook.index --json < in > out & exec 3> in; echo '{"code": "1"}' >&3
until grep -q . out; do sleep 0.1; done; kill -TERM $!; wait $!; echo $?; rm in out"""
TYPED = {
    "an exit code of arguments": "raptor; echo $?; raptor --no-such 'a  b'",
    "an exit code of its own": "rlm ask nowhere 'What?'",
    "standard input": """echo '{"code": "print(6 * 7)"}' | rlm shell handbook.index --json""",
    "standard error in a pipe": "rlm search handbook.index --mode none 2>&1 | head -n 1",
    "a folder": "mkdir -p below && cd below && raptor verify ../handbook.index",
    "a variable": "HOME=$PWD/below COLUMNS=60 raptor config --help",
    "a signal in the background": STOPPED,
}


@pytest.mark.slow
@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED)
def test_a_command_that_begins_at_once_does_what_it_does_when_it_starts_by_itself(
    typed: str, handbook: Path, warmed: Path, tmp_path: Path
) -> None:
    (tmp_path / "handbook.index").symlink_to(handbook / "handbook.index")

    def done(*first: Path) -> tuple[int, str, str]:
        words, shell = ["bash", "-c", typed], environment(tmp_path, *first)
        ran = subprocess.run(words, cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=600)
        return ran.returncode, plain(ran.stdout), plain(ran.stderr)

    assert done(warmed) == done()
