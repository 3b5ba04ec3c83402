"""Which module of ours imports which, read from the code, wherever the import stands."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.helpers.places import ROOT

OURS = ("index_store", "raptor", "rlm")


def modules() -> list[Path]:
    return sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file's tree."""
    return tuple(ast.walk(tree_of(path)))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Every module a file imports, wherever in it: at the top, inside a function, for the type checker only."""
    names = list[str]()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, [_above(path, node.level), node.module]))
            names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _above(path: Path, level: int) -> str:
    """The package that the dots of a relative import stand for; nothing for no dots."""
    return ".".join(path.relative_to(ROOT).parts[:-level]) if level else ""


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


MODULES = {name_of(path): path for path in modules()}


def ours_in(path: Path) -> set[str]:
    """The modules of ours that a file imports; `from rlm import prompts` is an import of `rlm.prompts` alone."""
    names = list(imported(path))
    packages = {
        name for name in names if any(other.startswith(f"{name}.") for other in names if other in MODULES)
    }
    return {name for name in names if name in MODULES and not (name in packages and name in OURS)}


def reached(module: str) -> set[str]:
    """A module and all of ours that it imports, and they, and so on."""
    seen, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += ours_in(MODULES[name])
    return seen
