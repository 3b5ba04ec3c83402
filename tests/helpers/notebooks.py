"""Run the notebooks and compare what they show with what is kept in them. `make notebooks` runs this file.

python -m tests.helpers.notebooks      runs all, and keeps in each what it shows now
"""

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from nbclient import NotebookClient

import index_store
from tests.helpers.places import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WORK = "demo-out"  # where the notebooks write
TIMEOUT_S = 900  # of a cell: a build on a busy machine

#: What may differ from one run to the next, and by what it is replaced on both sides before they are compared.
VARYING = [
    (r"\b\d{8}-\d{6}-", "<start>-"),  # a run's folder begins with the time at which it started
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d:.Z+]*", "<time>"),
    (r" *\b\d+(\.\d+)?(e-\d+)? s\b|\bseconds \d+(\.\d+)?", " <seconds>"),
    (
        r"\b[0-9a-f]{16,64}\b",
        "<hash>",
    ),  # of lines of a trace, which hold times; digests of indexes are shown shorter
    (r"\b[\d,.]+ (bytes|kB|MB)\b", "<size>"),  # a page or a trace with other times in it
]

Said = list[tuple[str, str]]


def normal(text: str) -> str:
    """A text without what differs from one run to the next."""
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text


def said(notebook: Any) -> list[Said]:
    """What each code cell shows, as (kind, normal text): the texts of a stream as one, of a result its plain text."""
    return [_said(cell) for cell in notebook.cells if cell.cell_type == "code"]


def _said(cell: Any) -> Said:
    shown: dict[str, str] = {}
    for number, output in enumerate(cell.outputs):
        if output.output_type == "stream":
            shown[output.name] = shown.get(output.name, "") + output.text
        elif output.output_type == "error":
            shown[f"{number} error"] = f"{output.ename}: {output.evalue}"
        else:
            shown[f"{number} {' '.join(sorted(output.data))}"] = output.data.get("text/plain", "")
    return [(kind, normal(text)) for kind, text in shown.items()]


def differences(kept: Any, now: Any) -> list[str]:
    """Where a notebook that was run shows something else than what is kept in it, one line each; [] where nowhere.

    Numbers of an embedder or of UMAP may differ in their last digits between processors, and Python's documentation
    between its versions: either gives another tree. So the texts are compared where the machine or the tree is that of
    the kept outputs; elsewhere only which kinds of output each cell has.
    """
    alike = any(kept.metadata.made_by[fact] == now.metadata.made_by[fact] for fact in ("machine", "tree"))
    pairs = zip(said(kept), said(now), strict=True)
    return [
        f"cell {number}: kept {a!r}, now {b!r}"
        for number, (before, after) in enumerate(pairs, 1)
        for a, b in _unlike(before, after, alike)
    ]


def _unlike(before: Said, after: Said, alike: bool) -> Iterator[tuple[object, object]]:
    if [kind for kind, _ in before] != [kind for kind, _ in after]:
        yield before, after
    elif alike:
        for (kind, old), (_, new) in zip(before, after, strict=True):
            lines = old.splitlines(), new.splitlines()
            count = max(map(len, lines))
            padded = ([*side, *[""] * (count - len(side))] for side in lines)
            yield from ((f"{kind}: {a}", f"{kind}: {b}") for a, b in zip(*padded, strict=True) if a != b)


def run(path: Path, folder: Path) -> Any:
    """The notebook, run in a folder, beside the files that it imports, with `made_by` in its metadata."""
    folder = folder.resolve()  # for settings that are named relative to nothing
    for helper in FOLDER.glob("*.py"):
        shutil.copy(helper, folder)
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    with _nothing_of_the_user(folder / ".jupyter"):
        client.execute()
    _drop_frames(notebook)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "made_by": made_by(folder / WORK),
    }
    return notebook


def _drop_frames(notebook: Any) -> None:
    """Take out the pages in frames: Jupyter shows none in a notebook that was not run here, and each is large."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "<iframe" in output.get("data", {}).get("text/html", ""):
                del output.data["text/html"]


@contextmanager
def _nothing_of_the_user(folder: Path) -> Iterator[None]:
    """Settings, histories and sockets of Jupyter in a folder of their own; the packages of this checkout."""
    names = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR")
    own = {name: str(folder / name) for name in names}
    for place in own.values():
        Path(place).mkdir(parents=True, exist_ok=True)
    with patch.dict(os.environ, own | {"PYTHONPATH": str(ROOT)}):
        yield


def made_by(work: Path) -> dict[str, str]:
    """What the outputs hang on besides our code: the machine with the documents of its Python, and the tree."""
    from llvmlite.binding import get_host_cpu_name

    docs = hashlib.sha256(b"".join(file.read_bytes() for file in sorted((work / "docs").iterdir())))
    edges = index_store.open_index(work / "python.index").edges()
    tree = hashlib.sha256(b"".join(side.astype("<i8").tobytes() for side in edges))
    machine = f"{platform.machine()} {get_host_cpu_name()}, documents {docs.hexdigest()[:16]}"
    return {"machine": machine, "tree": tree.hexdigest()[:16]}


def main() -> int:
    """Run all notebooks in their order in one folder, and write each with what it shows."""
    with tempfile.TemporaryDirectory() as folder:
        for path in NOTEBOOKS:
            notebook = run(path, Path(folder))
            nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    return 0


if __name__ == "__main__":
    sys.exit(main())
