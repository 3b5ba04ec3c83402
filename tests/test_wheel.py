"""What users get: the wheel, built and installed away from the checkout, does all that the checkout does."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

PACKAGES = ("index_store", "raptor", "rlm")
NOTES = {
    "heapq.txt": "A heap is a binary tree whose smallest element stands at its root. Pushing keeps that order.",
    "bisect.txt": "Bisection finds the place of an item in a sorted list. Inserting there keeps the list sorted.",
}
TOWNS = {
    f"{town}.txt": f"{town} has a tower of {30 + number} metres. " + f"Much else is said of {town}. " * 60
    for number, town in enumerate(["Skerry", "Oakford", "Lune", "Brae"])
}
QUESTION = "What does pushing keep?"
TOWERS = "How high is the tower of Lune, and how high is the tower of Brae?"

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Built:
    """The two archives of `python -m build`: the sdist, and the wheel made from it."""

    sdist: Path
    wheel: Path


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel in it, and a folder of its own to work in."""

    bin: Path
    folder: Path

    def run(self, program: str, *arguments: str) -> str:
        """What a program of the environment prints. It must succeed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    pytest.importorskip("build", reason="the extra `dev` is not installed")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The dependencies come from this environment through a .pth file. The .pth files beside them, an editable
    install's among them, are not read then: our packages can come from the wheel only."""
    place = tmp_path_factory.mktemp("clean")
    venv.create(place / "env", with_pip=False, symlinks=True)
    python = place / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--disable-pip-version-check", str(built.wheel)], check=True)
    (site,) = (place / "env/lib").glob("python*/site-packages")
    ours = [path for path in sys.path if path.endswith("-packages")]
    (site / "dependencies.pth").write_text("\n".join(ours), encoding="utf-8")
    (place / "notes").mkdir()
    for name, text in (NOTES | TOWNS).items():
        (place / "notes" / name).write_text(text, encoding="utf-8")
    return Installed(python.parent, place)


def files_of_the_packages() -> Iterator[str]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix()


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(files_of_the_packages())
    assert {
        "rlm/py.typed",
        "rlm/prompts/system.md",
        "rlm/audit/page/look.css",
        "rlm/audit/page/page.css",
        "rlm/serving/web/index.html",
        "rlm/serving/web/app.js",
        "rlm/sandbox/cage/worker.py",
    } <= names


def test_the_source_archive_holds_what_the_wheel_is_built_from_and_no_scratch(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(files_of_the_packages()) < names
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "tests/test_wheel.py"} <= names
    top = {name.partition("/")[0] for name in names}
    assert top <= {
        *(
            *PACKAGES,
            "tests",
            "benchmarks",
            "notebooks",
            "docs",
            "mkdocs.yml",
            "PKG-INFO",
            "pyproject.toml",
            "constraints.txt",
        ),
        *(
            "Makefile",
            "LICENSE",
            "README.md",
            "ARCHITECTURE.md",
            "BENCHMARKS.md",
            "SECURITY.md",
            "CHANGELOG.md",
            "CONTRIBUTING.md",
            ".gitignore",
        ),
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_an_installed_wheel_builds_asks_verifies_and_shows(installed: Installed) -> None:
    where = f"import {', '.join(PACKAGES)}; print(*[m.__file__ for m in ({', '.join(PACKAGES)})], sep='\\n')"
    files = installed.run("python", "-P", "-c", where).splitlines()
    assert len(files) == len(PACKAGES)
    assert all(Path(file).is_relative_to(installed.bin.parent) for file in files)
    installed.run("raptor", "build", "notes", "-o", "notes.index")
    answer = installed.run("rlm", "ask", "notes.index", QUESTION, "--runs", "runs")
    assert "that order" in answer and "(verbatim)" in answer
    said = json.loads(installed.run("rlm", "ask", "notes.index", TOWERS, "--json", "--runs", "others"))
    assert "Lune has a tower of 32 metres." in said["answer"]
    assert "Brae has a tower of 33 metres." in said["answer"]
    for citation in said["citations"]:
        text = (installed.folder / "notes" / citation["doc"]).read_text(encoding="utf-8")
        assert text[citation["start"] : citation["end"]] == citation["quote"]
    (trace,) = (installed.folder / "runs").iterdir()
    assert "an unbroken chain" in installed.run("rlm", "trace", "verify", str(trace))
    installed.run("rlm", "review", str(trace), "-o", "page.html")
    page = (installed.folder / "page.html").read_text(encoding="utf-8")
    assert QUESTION in page and "<style" in page and "<script" in page
