"""What `import raptor` gives: every name that is promised, documented, and nothing heavy before it is used."""

import inspect
import subprocess
import sys
from pkgutil import iter_modules

import pytest

import raptor
from tests.helpers.places import ROOT


@pytest.mark.parametrize("name", raptor.__all__)
def test_every_name_resolves_to_what_its_home_defines_and_says_what_it_is(name: str) -> None:
    given = getattr(raptor, name)
    assert given.__module__ == raptor._HOMES[name]
    doc = inspect.getdoc(given)
    assert doc
    assert not doc.startswith(f"{name}("), "a dataclass without a docstring of its own"


def test_the_names_are_the_same_in_all_three_lists() -> None:
    assert sorted(raptor.__all__) == raptor.__all__ == sorted(raptor._HOMES)
    assert set(raptor.__all__) <= set(dir(raptor))


def test_no_name_is_a_module_too() -> None:
    for module in iter_modules(raptor.__path__):  # importing it would put it in the place of the name
        assert module.name not in raptor.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bild_index'"):
        raptor.bild_index  # noqa: B018


def test_importing_raptor_imports_nothing_heavy() -> None:
    code = "import raptor, sys; dir(raptor); print([n for n in ('numpy', 'litellm', 'rich') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
