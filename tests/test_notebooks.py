"""The notebooks run from top to bottom, and are committed without what they printed."""

from pathlib import Path

import nbformat
import pytest

from tests.helpers.places import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks_to_build_to_ask_and_to_review() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["1-build", "2-ask", "3-review"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_output_and_explains_itself(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert sum(cell.cell_type == "markdown" for cell in notebook.cells) >= len(code) / 2
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any("/home" in cell.source or "/work" in cell.source for cell in notebook.cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    streams = [
        out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "stream"
    ]
    assert sum(len(out.text) for out in streams if out.name == "stdout") > 200
    complaints = [out.text for out in streams if out.name == "stderr"]
    assert [
        text for text in complaints if "IProgress not found" not in text
    ] == []  # tqdm's, on a bare Jupyter
    assert list((tmp_path / "TMPDIR").glob("raptor-rlm-*")) == []  # it cleans up after itself
