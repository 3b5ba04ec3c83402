"""What a caller of `index_store` finds: every name, documented, and nothing heavy before it is used."""

import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import index_store
from tests.helpers.places import ROOT


def public_members(kind: type) -> Iterator[tuple[str, object]]:
    """Methods and properties that a class of ours defines or inherits from one of ours."""
    for owner in kind.__mro__:
        if owner.__module__.startswith("index_store"):
            for name, member in vars(owner).items():
                if not name.startswith("_") and (callable(member) or inspect.isdatadescriptor(member)):
                    yield name, member


def has_docstring(thing: object) -> bool:
    """Whether its docstring was written for it; a dataclass without one is given its signature."""
    text = getattr(thing, "__doc__", None) or ""
    return bool(text) and not text.startswith(f"{getattr(thing, '__name__', '')}(")


@pytest.mark.parametrize("name", index_store.__all__)
def test_every_name_is_there_and_explains_itself(name: str) -> None:
    thing = getattr(index_store, name)
    if inspect.isclass(thing):
        assert has_docstring(thing)
        slots = getattr(thing, "__slots__", ())
        assert [
            n for n, member in public_members(thing) if n not in slots and not has_docstring(member)
        ] == []
    elif inspect.isfunction(thing):
        assert has_docstring(thing)
    else:
        assert name in ("MODES", "Mode")


def test_all_names_are_listed() -> None:
    assert set(index_store.__all__) <= set(dir(index_store))
    assert set(index_store.__all__) == set(index_store._HOMES)
    assert sorted(index_store.__all__, key=lambda name: (not name.isupper(), name)) == index_store.__all__


def test_no_name_is_replaced_when_a_module_is_imported() -> None:
    modules = {module.name for module in pkgutil.iter_modules(index_store.__path__)}
    assert modules & set(index_store.__all__) == set()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'index_store' has no attribute 'opne_index'"):
        index_store.opne_index  # noqa: B018


def test_importing_it_waits_for_neither_numpy_nor_faiss() -> None:
    code = "import sys, index_store; print(sorted({'numpy', 'faiss'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_its_types_are_for_others_too() -> None:
    assert (Path(index_store.__file__).parent / "py.typed").is_file()
