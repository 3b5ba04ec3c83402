"""What the notebooks read: the documentation that Python carries in itself, as a folder of Markdown files.

One file for each module of the standard library that is named here: what the module says of itself, then each of its
functions and classes under a heading. Nothing is fetched, and nothing in a file depends on the machine (`pydoc` would
print the path that each module was loaded from).
"""

import csv
import importlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import index_store
import raptor

#: A bare Jupyter lacks what draws progress bars, and a library of ours warns of it; no notebook shows one.
warnings.filterwarnings("ignore", message="IProgress not found")

#: Where the notebooks write: beside themselves, in a folder that git ignores.
FOLDER = Path("demo-out")
#: The modules, by theme; the theme becomes a field of each document's metadata.
THEMES = {
    "numbers": "fractions math",
    "text": "html string textwrap urllib.parse",
    "files": "fnmatch glob shutil tempfile",
    "data": "bisect csv heapq json",
    "time": "datetime sched",
    "programs": "contextlib itertools queue",
}


def write_documents(folder: Path = FOLDER / "docs") -> Path:
    """Write the files, and beside the folder `themes.csv`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in " ".join(THEMES.values()).split():
        write_document(folder, name)
    with (folder.parent / "themes.csv").open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["doc", "theme"])
        rows.writerows((f"{name}.md", theme) for theme, names in THEMES.items() for name in names.split())
    return folder


def write_document(folder: Path, module: str) -> Path:
    """Write what one module says of itself; returns the file."""
    file = folder / f"{module}.md"
    file.write_text("\n\n".join(_parts(module)) + "\n", encoding="utf-8")
    return file


def python_index() -> Path:
    """The folder of the index that the first notebook builds; built here where it is missing."""
    index = FOLDER / "python.index"
    if not index.exists():
        docs = write_documents()
        raptor.build_index(docs, index, metadata=raptor.read_metadata(docs.parent / "themes.csv"))
    return index


def shown(text: str, width: int = 100) -> str:
    """A text on one line, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def outline(index: index_store.Index, node: index_store.Node, depth: int) -> Iterator[str]:
    """A node and what is below it, one line each, indented by depth."""
    yield f"{node.id}  {shown(node.label, 70)}"
    for child in index.children(node.id) if depth else ():
        yield from (f"    {line}" for line in outline(index, child, depth - 1))


def _parts(name: str) -> Iterator[str]:
    """A module's own words, then those of its functions, classes and methods, each under a heading."""
    module = importlib.import_module(name)
    yield f"# {name}"
    yield inspect.cleandoc(module.__doc__ or "")
    for inner, thing in _documented(module, getattr(module, "__all__", None)):
        yield f"## {inner}"
        yield inspect.cleandoc(thing.__doc__)
        for method, function in _documented(thing) if inspect.isclass(thing) else ():
            yield f"### {inner}.{method}"
            yield inspect.cleandoc(function.__doc__)


def _documented(owner: object, listed: list[str] | None = None) -> Iterator[tuple[str, Any]]:
    """The functions and classes in a module or class that have words of their own, by name."""
    for name in sorted(listed or vars(owner)):
        thing = vars(owner).get(name)
        words = getattr(thing, "__doc__", None)
        if callable(thing) and not name.startswith("_") and isinstance(words, str) and words.strip():
            yield name, thing
