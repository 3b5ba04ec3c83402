"""What the three packages give when imported: every name, explained, and nothing heavy before it is used."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import pytest

import index_store
import raptor
import rlm
from rlm import audit
from rlm.asking.options import Options
from tests.helpers.imports import within
from tests.helpers.places import ROOT

FACES = (index_store, raptor, rlm, audit)
#: Names of types that no docstring can be written for.
ALIASES = {"MODES", "Mode"}


def names() -> list[tuple[ModuleType, str]]:
    return [(face, name) for face in FACES for name in face.__all__]


def has_docstring(thing: object) -> bool:
    """Whether its docstring was written for it; a dataclass without one is given its signature."""
    text = getattr(thing, "__doc__", None) or ""
    return bool(text) and not text.startswith(f"{getattr(thing, '__name__', '')}(")


def public_members(kind: type) -> Iterator[tuple[str, object]]:
    """Methods and properties that a class of ours defines or inherits from one of ours."""
    for owner in kind.__mro__:
        if within(owner.__module__, [face.__name__ for face in FACES]):
            for name, member in vars(owner).items():
                is_method = callable(member) or isinstance(member, property)
                if not name.startswith("_") and is_method:
                    yield name, member


@pytest.mark.parametrize(("face", "name"), names(), ids=lambda given: getattr(given, "__name__", given))
def test_every_name_is_there_and_explains_itself(face: ModuleType, name: str) -> None:
    thing = getattr(face, name)
    if name in ALIASES:
        return
    assert has_docstring(thing)
    if inspect.isclass(thing):
        assert [n for n, member in public_members(thing) if not has_docstring(member)] == []


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_a_face_lists_its_names_and_none_of_them_is_a_module(face: ModuleType) -> None:
    assert dir(face) == face.__all__
    # Importing a module of the same name would put it in the place of what the name stands for.
    assert {module.name for module in iter_modules(face.__path__)} & set(face.__all__) == set()
    with pytest.raises(AttributeError, match=f"module '{face.__name__}' has no attribute 'opne'"):
        face.opne  # noqa: B018
    assert (ROOT / face.__name__.partition(".")[0] / "py.typed").is_file()


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_what_the_type_checker_sees_is_what_there_is(face: ModuleType) -> None:
    source = Path(face.__path__[0], "__init__.py").read_text(encoding="utf-8")
    assert sorted(re.findall(r" (\w+) as \1\b", source)) == face.__all__


def test_importing_the_faces_imports_nothing_heavy() -> None:
    code = (
        "import index_store, raptor, rlm, sys; dir(rlm);"
        "print({'numpy', 'litellm', 'rich', 'faiss'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_a_question_begins_without_what_its_loop_and_readers_of_its_trace_need() -> None:
    code = (
        "import rlm.asking.asking, sys; unneeded = ('rlm.audit.page', 'rlm.audit.checking', 'tomllib', "
        "'rlm.loop.engine', 'rlm.mapping.mapping')"
        "; print([name for name in sys.modules if name.startswith(unneeded)])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("name", ["ask", "ask_async", "ask_many", "events", "open_chat"])
def test_every_option_stands_in_the_signature(name: str) -> None:
    options = set(inspect.signature(Options).parameters)
    taken = inspect.signature(getattr(rlm, name)).parameters
    assert options <= set(taken)
    assert {p.kind for p in taken.values()} <= {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    }


def test_one_base_catches_all_that_a_package_raises() -> None:
    assert issubclass(rlm.GatewayError, rlm.RlmError)
    assert issubclass(rlm.TraceError, rlm.RlmError)
    assert issubclass(rlm.SandboxUnavailable, rlm.RlmError)
    assert issubclass(index_store.BadQuery, index_store.IndexStoreError)
