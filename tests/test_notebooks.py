"""The notebooks run from top to bottom, show what is kept in them, and name only what is public."""

import ast
import base64
import fcntl
import importlib
import os
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.helpers.imports import within
from tests.helpers.notebooks import FOLDER, NOTEBOOKS, WORK, differences, normal, run, said
from tests.helpers.places import ROOT

ORDER = ["1-build", "2-ask", "3-review", "4-update-and-scale"]
#: What the pictures, and only they, need besides our packages.
DRAWING = ["IPython.display", "PIL", "matplotlib", "numpy", "sklearn", "threadpoolctl"]
FACES = ["index_store", "raptor", "rlm", "rlm.audit"]
MOST_BYTES = 700_000  # of a notebook with its outputs
MOST_PICTURE_BYTES = 120_000

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


# -- as they are committed ---------------------------------------------------------------------------------


def test_there_are_notebooks_in_the_order_in_which_one_learns_and_the_readme_names_each() -> None:
    assert [path.stem for path in NOTEBOOKS] == ORDER
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"notebooks/{path.name}" not in readme] == []


@each
def test_a_notebook_explains_itself_and_keeps_what_it_showed(path: Path) -> None:
    notebook, code = read(path), code_cells(path)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    assert sum(cell.cell_type == "markdown" for cell in notebook.cells) >= len(code)
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [kind for shown in said(notebook) for kind, _ in shown]
    assert not any("error" in kind or kind == "stderr" for kind in kinds)
    assert sum(kind == "stdout" for kind in kinds) >= 5
    assert path.stat().st_size < MOST_BYTES


@each
def test_what_a_notebook_keeps_names_no_place_of_the_machine_that_ran_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.~*<])/(?:tmp|home|work|root|usr|var|opt|Users|private)\b[^\s\"]*", text) == []


@each
def test_a_picture_is_small_and_says_in_words_what_it_shows(path: Path) -> None:
    pictures = [
        output
        for cell in code_cells(path)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    for output in pictures:
        png = base64.b64decode(output.data["image/png"])
        width, height = struct.unpack(">II", png[16:24])
        assert len(png) < MOST_PICTURE_BYTES
        assert 400 <= width <= 1000
        assert 200 <= height <= 1600
        assert output.metadata["image/png"]["alt"]


# -- names -------------------------------------------------------------------------------------------------


def sources() -> list[tuple[str, str]]:
    """The code of each notebook and of the files that they import, by name."""
    cells = [(path.name, "\n".join(cell.source for cell in code_cells(path))) for path in NOTEBOOKS]
    files = [FOLDER / "corpus.py", FOLDER / "pictures.py"]
    return cells + [(file.name, file.read_text(encoding="utf-8")) for file in files]


def deep_names(code: str) -> Iterator[str]:
    """Everything that a code names and that is not for everybody: modules inside our packages, names with a leading
    underscore, names that a package does not list."""
    tree = ast.parse(code)
    bound = {face.rpartition(".")[2]: face for face in FACES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if not _is_open(name.name))
        elif isinstance(node, ast.ImportFrom):
            given = [f"{node.module}.{name.name}" for name in node.names]
            faces = [name for name in given if within(name, FACES[:3])]
            yield from (name for name in faces if not _is_listed(*name.rsplit(".", 1)))
            yield from () if faces or _is_open(node.module or "") else given
        elif isinstance(node, ast.Attribute):
            if node.attr.startswith("_") and not node.attr.endswith("__"):
                yield ast.unparse(node)
            face = bound.get(node.value.id) if isinstance(node.value, ast.Name) else None
            if face and not _is_listed(face, node.attr):
                yield f"{face}.{node.attr}"


def _is_open(module: str) -> bool:
    return (
        module in FACES[:3]
        or module in ("corpus", "pictures")
        or module.partition(".")[0] in sys.stdlib_module_names
        or within(module, DRAWING)
    )


def _is_listed(face: str, name: str) -> bool:
    return f"{face}.{name}" in FACES or (face in FACES and name in importlib.import_module(face).__all__)


@pytest.mark.parametrize(("name", "code"), sources(), ids=lambda given: given if "." in given[-6:] else "")
def test_a_notebook_names_only_what_is_public(name: str, code: str) -> None:
    assert list(deep_names(code)) == []


@pytest.mark.parametrize(
    "code",
    [
        "import rlm.audit.page",
        "from rlm.audit.page import render",
        "from rlm import audit\naudit.canonical",
        "import index_store.terminal as t",
        "from index_store.terminal import say",
        "from index_store import terminal",
        "raptor.build.grow",
        "index._nodes",
        "import networkx",
    ],
)
def test_a_name_that_is_not_for_everybody_is_noticed(code: str) -> None:
    assert list(deep_names(code))


def test_public_names_are_let_through() -> None:
    code = "import index_store, rlm\nfrom rlm import audit\naudit.read(rlm.ask(index_store.open_index('i'), 'q').trace)"
    assert list(deep_names(code)) == []


# -- stale outputs -----------------------------------------------------------------------------------------


def with_output(text: str, machine: str = "a", tree: str = "1") -> Any:
    """A notebook of one cell that printed a text."""
    output = nbformat.v4.new_output("stream", name="stdout", text=text)  # type: ignore[no-untyped-call]
    cell = nbformat.v4.new_code_cell("f()", outputs=[output])  # type: ignore[no-untyped-call]
    facts = {"made_by": {"machine": machine, "tree": tree}}
    return nbformat.v4.new_notebook(cells=[cell], metadata=facts)  # type: ignore[no-untyped-call]


def test_times_hashes_run_names_and_sizes_may_differ_and_nothing_else() -> None:
    old = f"   0.25 s  run demo-out/runs/20261130-032818-what-is, head {'ab' * 32}, 1,024 bytes, 2026-11-30T03:28:18Z"
    new = f"  12.50 s  run demo-out/runs/20270101-000000-what-is, head {'0c' * 32}, 998 bytes, 2027-01-01T00:00:00Z"
    assert differences(with_output(old), with_output(new)) == []
    assert normal("413 chunks in 2 s, left: seconds 595.8") == "413 chunks in <seconds>, left:  <seconds>"
    for one, other in (
        ("413 chunks", "414 chunks"),
        ("0.25", "0.26"),
        ("L1-00003", "L1-00004"),
        ("ab", "ab "),
    ):
        assert len(differences(with_output(one), with_output(other))) == 1


def test_a_line_too_many_and_another_kind_of_output_are_noticed() -> None:
    assert differences(with_output("a\nb"), with_output("a")) != []
    other = with_output("a")
    other.cells[0].outputs[0].name = "stderr"
    assert differences(with_output("a"), other) != []


def test_texts_are_compared_where_the_machine_or_the_tree_is_the_same_and_kinds_elsewhere() -> None:
    kept = with_output("413 chunks")
    assert differences(kept, with_output("414 chunks", tree="2")) != []
    assert differences(kept, with_output("414 chunks", machine="b")) != []
    assert differences(kept, with_output("414 chunks", machine="b", tree="2")) == []
    empty = with_output("", machine="b", tree="2")
    empty.cells[0].outputs = []
    assert differences(kept, empty) != []


@each
def test_a_number_that_was_changed_in_what_is_kept_is_noticed(path: Path) -> None:
    kept, forged = read(path), read(path)
    outputs = [out for cell in forged.cells for out in cell.get("outputs", []) if "text" in out]
    output = next(out for out in outputs if re.search(r"\b\d{1,3} (documents|events)\b", out.text))
    output.text = re.sub(r"\b(\d{1,3}) (documents|events)\b", r"7\1 \2", output.text, count=1)
    assert len(differences(kept, forged)) == 1


# -- run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The first notebook as it runs, and the folder that it leaves, which the others read: run once, by the worker
    of xdist that comes first."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "notebooks"
    folder.mkdir(exist_ok=True)
    ran = folder / "ran.ipynb"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ran.exists():
            nbformat.write(run(NOTEBOOKS[0], folder), ran)  # type: ignore[no-untyped-call]
    return read(ran), folder


@pytest.mark.slow
@each
def test_a_notebook_shows_what_is_kept_in_it(path: Path, first: tuple[Any, Path], tmp_path: Path) -> None:
    now, folder = first
    if path != NOTEBOOKS[0]:
        shutil.copytree(folder / WORK, tmp_path / WORK)
        now = run(path, tmp_path)
    found = differences(read(path), now)
    assert found == [], "what is kept is stale: run `make notebooks`, look at the pictures, and commit"
