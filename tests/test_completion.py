"""What `--print-completion` says: a real bash reads it, and completes commands, options, choices and files."""

import shutil
import subprocess
from pathlib import Path

import pytest

import raptor.cli
import rlm.cli

# As bash does at a Tab: the words so far, which of them the cursor stands in, and what the program's function answers.
TAB = """
. ./completion.bash
COMP_WORDS=({line} "{last}"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="{line} {last}"
function=$(complete -p {program} | grep -o '_shtab[a-z_]*')
$function {program} "{last}" x
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "last", "offered"),
    [
        ("raptor", "b", ["build"]),
        ("raptor build", "--exc", ["--exclude"]),
        ("raptor build --precision", "b", ["bfloat16"]),
        ("raptor build -o", "my", ["my.index"]),
        ("rlm", "tr", ["trace"]),
        ("rlm trace", "ver", ["verify"]),
        ("rlm ask --backend", "mon", ["monty"]),
        ("rlm ask", "my", ["my.index"]),
    ],
)
def test_bash_completes(
    line: str, last: str, offered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = line.split()[0]
    with pytest.raises(SystemExit) as ended:
        (raptor.cli.main if program == "raptor" else rlm.cli.main)(["--print-completion", "bash"])
    assert ended.value.code == 0
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)
    (tmp_path / "my.index").mkdir()
    script = TAB.format(line=line, last=last, program=program)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (offered, "")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_are_told_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rlm.cli.main(["--print-completion", shell])
    said = capsys.readouterr().out
    assert "overview" in said and ("#compdef rlm" in said) == (shell == "zsh")
