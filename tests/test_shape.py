"""The shape of the project: who may import whom, what is never used, and that what is written about it is true."""

import argparse
import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import raptor.cli
import rlm.cli
from tests.helpers.imports import MODULES, OURS, imported, modules, name_of, ours_in, tree_of, within
from tests.helpers.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

# What the owner of the project asked for by name.
LAYOUT = ["raptor", "rlm", "index_store", "tests", "notebooks", "pyproject.toml", "README.md"]
DEPENDENCIES = {
    "numpy",
    "scikit-learn",
    "umap-learn",
    "sentence-transformers",
    "faiss-cpu",
    "litellm",
    "networkx",
}
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


# -- rooms and floors --------------------------------------------------------------------------------------

# From the ground up. A line is a floor: what stands on it imports from lower floors and from its own room, and never
# from a neighbour on the same floor. A room is a package, or a module that stands by itself.
FLOORS = """
index_store.errors index_store.terminal index_store.files index_store.lazy index_store.paths
index_store.arguments index_store.late index_store.own index_store.stop_words
index_store.types
index_store.access index_store.config index_store.spool
index_store.reproducible
index_store.tables index_store.minilm index_store.word_list index_store.names index_store.duplicates
index_store.embedder index_store.manifest index_store.documents index_store.outline index_store.lexical
index_store.name_table
index_store.vectors
index_store.inverted_write index_store.folder
index_store.store index_store.writer
index_store.tree index_store.cache
index_store.shards
index_store.stores
index_store.filters index_store.folding index_store.grep index_store.plain
index_store.branches
index_store.walk index_store.areas index_store.narrowing
index_store.search
index_store.gathering
index_store.index
index_store.graph index_store.provenance index_store.view
index_store.rows
index_store.picture index_store.generations index_store.verify
index_store

rlm.gateway
rlm.errors
rlm.prompts rlm.sandbox rlm.memo
rlm.mapping
rlm.audit
rlm.limits
rlm.answers rlm.overview
rlm.loop
rlm.asking
rlm.evaluating
rlm.adapters rlm.serving
rlm
rlm.commands
rlm.cli

raptor.errors
raptor.engines
raptor.checkpoint raptor.chunking raptor.clustering raptor.embedding raptor.summarising
raptor.loading raptor.settings raptor.calling
raptor.types
raptor.workspace raptor.metering
raptor.places
raptor.grower
raptor.corpus raptor.summaries
raptor.apart
raptor.sampling raptor.growing raptor.reconciling raptor.selecting
raptor.sharding.planning
raptor.estimating
raptor.sharding
raptor.build raptor.pruning raptor.checking raptor.progress
raptor
raptor.commands
raptor.cli
"""
FLOOR_OF = {room: floor for floor, line in enumerate(FLOORS.splitlines()) for room in line.split()}
#: What the worker of the sandbox boots: without our packages, without site-packages.
CAGE = "rlm.sandbox.cage"


def room_of(module: str) -> str:
    """The room that a module stands in: the longest name of a room that it begins with."""
    rooms = [room for room in FLOOR_OF if within(module, [room])]
    room = max(rooms, key=len, default="")
    assert room not in OURS or module == room, f"{module} stands in no room; give it a floor in FLOORS"
    return room


def foreign(module: str) -> tuple[str, ...]:
    """What a module may import of the other two packages."""
    if within(module, ["rlm.gateway"]) or within(module, ["index_store"]):
        return ()
    return ("index_store", "rlm.gateway") if within(module, ["raptor"]) else ("index_store",)


def may_import(module: str, other: str) -> bool:
    """Whether a module of ours may import another: downwards, inside its room, or from a package it stands on."""
    if module.partition(".")[0] != other.partition(".")[0]:
        return within(other, foreign(module))
    here, there = room_of(module), room_of(other)
    if within(module, ["rlm.gateway"]):
        return here == there
    return here == there or FLOOR_OF[there] < FLOOR_OF[here]


def circles(arrows: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The groups of modules that reach each other."""
    graph = nx.DiGraph([(module, other) for module, others in arrows.items() for other in others])
    return [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_downwards_only(path: Path) -> None:
    module = name_of(path)
    others = sorted(ours_in(path) - {module})
    assert [other for other in others if not may_import(module, other)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {name: ours_in(path) - {name, *_parents(name)} for name, path in MODULES.items()}
    assert circles(arrows) == []


def _parents(module: str) -> Iterator[str]:
    """The packages that a module lies in: their faces name it lazily, and so do not wait for it."""
    while module := module.rpartition(".")[0]:
        yield module


@pytest.mark.parametrize("path", [p for n, p in MODULES.items() if within(n, [CAGE])], ids=name_of)
def test_the_cage_imports_the_standard_library_and_itself(path: Path) -> None:
    def is_known(name: str) -> bool:
        return name.partition(".")[0] in sys.stdlib_module_names or within(name, [CAGE])

    assert [name for name in imported(path) if not is_known(name)] == []


def test_a_wall_that_is_broken_is_noticed() -> None:
    assert not may_import("raptor.build", "rlm.loop.engine")
    assert not may_import("rlm.loop.engine", "raptor.errors")
    assert not may_import("rlm.gateway.ledger", "index_store.files")
    assert not may_import("index_store.search", "index_store.index")
    assert not may_import("rlm.answers.citations", "rlm.loop.run")
    assert not may_import("rlm.sandbox.session", "rlm.audit.log")
    assert may_import("raptor.summarising", "rlm.gateway.blocks")
    assert may_import("rlm.audit.page.tree", "rlm.audit.routing")
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]


def test_a_corridor_does_not_grow_again() -> None:
    beside = sorted(path.name for path in (ROOT / "rlm").glob("*.py"))
    assert len(beside) <= 5, f"rlm/ holds {beside}; put the new one into a room"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_nothing_is_pickled(path: Path) -> None:
    assert [name for name in imported(path) if name.partition(".")[0] in PICKLERS] == []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {k.arg: k.value for k in node.keywords}
            if ast.unparse(node.func) in ("np.load", "np.save", "numpy.load", "numpy.save"):
                assert ast.unparse(given["allow_pickle"]) == "False", f"{path}:{node.lineno}"
            assert "allow_pickle" not in given or ast.unparse(given["allow_pickle"]) == "False"


@pytest.mark.parametrize("path", [p for n, p in MODULES.items() if within(n, OURS)], ids=name_of)
def test_no_process_imports_from_the_folder_it_is_started_in(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        words = [ast.unparse(word) for word in node.elts] if isinstance(node, ast.List) else []
        assert "sys.executable" not in words or {"'-I'", "'-P'"} & {*words}, f"{path}:{ast.unparse(node)}"
    spawned = "'spawn'" in ast.unparse(tree_of(path))
    assert not spawned or "PYTHONSAFEPATH" in ast.unparse(tree_of(path))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_says_what_it_is_for_and_has_a_name_that_does(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))
    assert path.stem not in ("utils", "util", "helpers", "base", "common", "misc", "manager", "factory")


def test_the_layout_and_the_packages_are_those_that_were_asked_for() -> None:
    assert [name for name in LAYOUT if not (ROOT / name).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split(r"[\s\[<>=!~;]", line)[0].lower() for line in project["dependencies"]}
    assert named >= DEPENDENCIES
    assert set(project["scripts"]) == {"raptor", "rlm"}


def test_architecture_is_short_enough_to_read() -> None:
    path = ROOT / "ARCHITECTURE.md"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout knows which files are tracked")
def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    # In pieces, so that this file does not name them either.
    pattern = re.compile(
        "|".join(["/(?:wo" "rk|ho" "me|Us" "ers|ro" "ot)/[a-z]", "--(?:extra-)?index" "-url", "files.python" "hosted"])
    )  # fmt: skip
    found = []
    for name in filter(None, listed.decode().split("\0")):
        path = ROOT / name
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        found += [f"{name}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


# -- what is written can be typed --------------------------------------------------------------------------


def written_commands(text: str) -> list[str]:
    """Lines and `quoted` pieces of a Markdown text that are commands of ours, without prompt and comment."""
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines() if line.startswith(("    ", "\t"))]
    fenced = [
        line.removeprefix("$ ")
        for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
        for line in block.splitlines()
    ]
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    found = [piece.split("  #")[0].strip() for piece in [*lines, *fenced, *quoted]]
    return sorted({piece for piece in found if re.match(r"(raptor|rlm|make) [a-z]", piece)})


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser that a command reaches through its subcommands, and the words that are left for it."""
    parser: argparse.ArgumentParser = {"raptor": raptor.cli.parser, "rlm": rlm.cli.parser}[words[0]]()
    rest = words[1:]
    while choices := subparsers(parser):
        assert rest, f"{words} names no subcommand"
        assert rest[0] in choices, f"{words}: there is no {rest[0]!r}, only {sorted(choices)}"
        parser, rest = choices[rest[0]], rest[1:]
    return parser, rest


def check_command(command: str) -> None:
    """The subcommand exists, and so does each option that its line names; a fixed choice is one there is."""
    synopsis = shlex.split(command.replace("...", " "), comments=True)
    parser, rest = parser_of(synopsis)
    options = {option for action in parser._actions for option in action.option_strings}
    given = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(rest)))
    assert given <= options, f"{command}: {sorted(given - options)} is no option of it"
    fixed = [a for a in parser._actions if not a.option_strings and a.choices]
    for action, word in zip(fixed, rest, strict=False):
        assert action.choices
        assert word in action.choices, f"{command}: {word!r} is none of {list(action.choices)}"


def check_make(command: str) -> None:
    target, *variables = shlex.split(command)[1:]
    assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.M), f"there is no target {target!r}"
    for variable in variables:
        name = variable.partition("=")[0]
        assert f"$({name})" in MAKEFILE or f"$(if $({name})" in MAKEFILE, f"the Makefile takes no {name}"


TEXTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")} - {*ROOT.glob("docs/handbook/*")})


def test_the_readme_shows_commands_at_all() -> None:
    shown = written_commands(README)
    assert {"raptor build", "rlm ask", "rlm trace"} <= {" ".join(c.split()[:2]) for c in shown}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_that_is_written_down_exists(path: Path) -> None:
    for command in written_commands(path.read_text(encoding="utf-8")):
        check_make(command) if command.startswith("make ") else check_command(command)


def test_every_command_there_is_stands_in_the_list_of_commands() -> None:
    shown = written_commands((ROOT / "docs/reference/commands.md").read_text(encoding="utf-8"))
    for name, parser in (("raptor", raptor.cli.parser()), ("rlm", rlm.cli.parser())):
        for command in subparsers(parser):
            assert any(line.startswith(f"{name} {command}") for line in shown), f"{name} {command}"


@pytest.mark.parametrize(
    "wrong",
    [
        "raptor bild x",
        "rlm ask i q --max-dollars 1",
        "rlm trace burn RUN",
        "raptor",
        "make tea",
        "make demo TEA=1",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check_make(wrong) if wrong.startswith("make ") else check_command(wrong)


def test_the_python_in_the_readme_names_what_there_is() -> None:
    import importlib

    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in OURS:
                module: Any = importlib.import_module(node.value.id)
                assert getattr(module, node.attr, None) is not None, f"{node.value.id}.{node.attr}"
