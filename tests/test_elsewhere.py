"""Other systems than Linux: both commands work without what stands on Linux alone, and code runs in Monty."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm.cli import main
from tests.helpers.elsewhere import MODULES
from tests.helpers.imports import modules, name_of, tree_of, within
from tests.helpers.places import ROOT

#: What is imported on Linux alone: the sandbox by the kernel's layers.
LINUX = ["rlm.sandbox.session", "rlm.sandbox.spawn", "rlm.sandbox.dialogue", "rlm.sandbox.cage.confinement",
         "rlm.sandbox.cage.worker", "rlm.sandbox.cage.zygote"]  # fmt: skip
#: Where the one module stands that asks whether they are there.
ASKS = {"index_store.files": {"fcntl"}}

BOTH_COMMANDS = """
import sys
from tests.helpers.elsewhere import go_elsewhere
go_elsewhere()
import raptor.cli, rlm.cli
from raptor.loading import processes
processes.SERVE = f"import sys; sys.path.insert(0, {sys.argv[3]!r}); " \
    "from tests.helpers.elsewhere import go_elsewhere; go_elsewhere(); " + processes.SERVE
index, runs = sys.argv[1:3]
assert raptor.cli.main(["build", "boats.md", "boats.docx", "-o", index, "--max-errors", "0"]) == 0
assert rlm.cli.main(["ask", index, "What does a ketch carry?", "--runs", runs, "--route", "rlm"]) == 0
"""


def imports_as_it_loads(tree: ast.AST) -> Iterator[str]:
    """The modules that a module imports when it is itself imported: not those inside of its functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        yield from imports_as_it_loads(node)


@pytest.mark.parametrize("path", [p for p in modules() if not within(name_of(p), LINUX)], ids=name_of)
def test_no_module_imports_what_other_systems_lack(path: Path) -> None:
    needed = {*imports_as_it_loads(tree_of(path))}
    assert needed & MODULES <= ASKS.get(name_of(path), set())
    assert name_of(path) in LINUX or not needed & set(LINUX)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("pydantic_monty"), reason="the extra monty is not installed")
def test_elsewhere_an_index_is_built_and_asked_and_the_trace_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "# Boats\n\nA ketch carries two masts, the mizzen before the rudder post.\n\n" * 8
    (tmp_path / "boats.md").write_text(text)
    (tmp_path / "boats.docx").write_bytes(b"no archive")  # what is parsed in a process of its own
    command = [sys.executable, "-c", BOTH_COMMANDS, "boats.index", "runs", str(ROOT)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "two masts" in done.stdout and "boats.docx" in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert main(["trace", "verify", str(run)]) == 0
    assert main(["trace", "show", str(run)]) == 0
    assert "missing layer seccomp: darwin is not Linux" in capsys.readouterr().out
