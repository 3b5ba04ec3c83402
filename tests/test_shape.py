"""The shape of the project: who may import whom, what is never used, and that what is written about it is true."""

import argparse
import ast
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import raptor.cli
import rlm.cli
from tests.helpers.places import ROOT

OURS = ("index_store", "raptor", "rlm")
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


def modules() -> list[Path]:
    return sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it: at the top, inside a function, for the type checker only."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, [_above(path, node.level), node.module]))
            yield from [source, *(f"{source}.{alias.name}" for alias in node.names)]


def _above(path: Path, level: int) -> str:
    """The package that the dots of a relative import stand for; nothing for no dots."""
    return ".".join(path.relative_to(ROOT).parts[:-level]) if level else ""


def allowed(module: str) -> tuple[str, ...]:
    """What of ours a module may import."""
    if module.startswith("rlm.gateway"):
        return ("rlm.gateway",)
    return {"index_store": ("index_store",), "raptor": ("raptor", "index_store", "rlm.gateway")}.get(
        module.partition(".")[0], ("rlm", "index_store")
    )


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_downwards_only(path: Path) -> None:
    ours = [name for name in imported(path) if within(name, OURS)]
    # `from rlm.gateway.x import y` names rlm.gateway.x and rlm.gateway.x.y; plain `rlm` is a module of the wrong floor
    wrong = [name for name in ours if not within(name, allowed(name_of(path)))]
    assert wrong == []


def test_the_floors_are_told_apart() -> None:
    assert not within("rlm", allowed("raptor.build"))
    assert not within("rlm.gatewayish", allowed("raptor.build"))
    assert not within("raptor.errors", allowed("rlm.loop.engine"))
    assert not within("index_store", allowed("rlm.gateway.cache"))
    assert within("rlm.gateway.blocks", allowed("raptor.summarising"))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_nothing_is_pickled(path: Path) -> None:
    assert [name for name in imported(path) if name.partition(".")[0] in PICKLERS] == []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {k.arg: k.value for k in node.keywords}
            if ast.unparse(node.func) in ("np.load", "np.save", "numpy.load", "numpy.save"):
                assert ast.unparse(given["allow_pickle"]) == "False", f"{path}:{node.lineno}"
            assert "allow_pickle" not in given or ast.unparse(given["allow_pickle"]) == "False"


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
    parser = {"raptor": raptor.cli.parser, "rlm": rlm.cli.parser}[words[0]]()
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


TEXTS = sorted(ROOT.glob("*.md"))


def test_the_readme_shows_commands_at_all() -> None:
    shown = written_commands(README)
    assert {"raptor build", "raptor inspect", "rlm ask", "rlm trace"} <= {
        " ".join(c.split()[:2]) for c in shown
    }


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_that_is_written_down_exists(path: Path) -> None:
    for command in written_commands(path.read_text(encoding="utf-8")):
        check_make(command) if command.startswith("make ") else check_command(command)


def test_every_command_there_is_stands_in_the_readme() -> None:
    shown = written_commands(README)
    for name, parser in (("raptor", raptor.cli.parser()), ("rlm", rlm.cli.parser())):
        for command in subparsers(parser):
            assert any(line.startswith(f"{name} {command}") for line in shown), f"{name} {command}"


@pytest.mark.parametrize(
    "wrong",
    [
        "raptor bild x",
        "rlm ask i q --max-dollars 1",
        "rlm trace check RUN",
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
