"""`.ci/audit` tells of what is not pinned and of known weaknesses, and never fails a build."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / ".ci/audit").exists(), reason="only a checkout has .ci")


def audited(folder: Path, constraints: str, answer: str) -> str:
    """What the script says in a folder with these constraints, where `pip-audit` prints `answer`."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/audit", folder / ".ci/audit")
    (folder / "constraints.txt").write_text(constraints)
    for name, lines in (
        (".venv/bin/python", f'exec {sys.executable} "$@"'),
        (".venv/audit/bin/pip-audit", f"echo 'no answer' >&2\nprintf '%s' '{answer}'"),
    ):
        program = folder / name
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
    (folder / ".venv/audit/ready").touch()
    done = subprocess.run(
        [folder / ".ci/audit"], capture_output=True, text=True, timeout=300, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_not_pinned_or_pinned_otherwise_is_told(tmp_path: Path) -> None:
    said = audited(tmp_path, "numpy==0.1\nruff>=1\n", '{"dependencies": []}')
    assert f"WARN: numpy {version('numpy')} is installed, and 0.1 is pinned in constraints.txt" in said
    assert "WARN: constraints.txt does not pin 'ruff>=1'; write NAME==VERSION" in said
    assert f"WARN: pytest {version('pytest')} is installed and not pinned in constraints.txt" in said
    assert "raptor" not in said


def test_known_weaknesses_and_unknown_packages_are_told(tmp_path: Path) -> None:
    found = [
        {"name": "a", "version": "1", "vulns": [{"id": "V-1", "fix_versions": ["2"]}]},
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "skip_reason": "it is not there"},
    ]
    said = audited(tmp_path, "", json.dumps({"dependencies": found}))
    assert "WARN: a 1: V-1; mended in 2" in said
    assert "WARN: the vulnerability service does not know 1 of 3 packages, c among them" in said
    assert "1 weaknesses are known of the other 2 packages" in said


def test_a_service_that_is_out_of_reach_is_one_line(tmp_path: Path) -> None:
    assert "WARN: the vulnerability service could not be asked: no answer\n" in audited(tmp_path, "", "")
