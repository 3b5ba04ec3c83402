"""The faces of the packages: names that are imported when they are first used, so that --help never waits for numpy."""

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(
    package: str, modules: Mapping[str, str]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package, from the names that each of its modules gives, in words.

    No name may be that of a module of the package: the import of such a module would replace what the name stands for.
    """
    # What a package logs is for the program that imports it to show; without this Python would print it.
    logging.getLogger(package).addHandler(logging.NullHandler())
    homes = {name: f"{package}.{module}" for module, names in modules.items() for name in names.split()}

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return sorted(homes), getattr_, lambda: sorted(homes)
