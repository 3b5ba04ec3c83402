"""litellm is imported in one place, in a version that was tested, and cannot send a request behind the ledger."""

import ast
import gc
import importlib.util
import operator
import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm.gateway import litellm_setup
from rlm.gateway.errors import GatewayError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.gateway.litellm_setup import RELIED_ON, SUPPORTED, litellm
from rlm.gateway.types import Message, Request
from tests.helpers.gateway_calls import run
from tests.helpers.model_server import ModelServer, half_a_body
from tests.helpers.places import ROOT

RESEND = "litellm.llms.custom_httpx.http_handler:AsyncHTTPHandler.single_connection_post_request"


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            yield str(getattr(node.args[0], "value", ""))


def test_litellm_is_imported_in_one_module_only() -> None:
    paths = [path for package in ("rlm", "raptor", "index_store") for path in (ROOT / package).rglob("*.py")]
    users = [path for path in paths if any(name.split(".")[0] == "litellm" for name in imports_of(path))]
    assert users == [Path(litellm_setup.__file__)]


@pytest.mark.parametrize("was", [True, False])
def test_garbage_is_collected_after_the_import_as_it_was_before(
    was: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm_setup, "_module", None)
    enabled = gc.isenabled()
    try:
        (gc.enable if was else gc.disable)()
        litellm()
        assert gc.isenabled() == was
        with pytest.raises(ZeroDivisionError), litellm_setup._uncollected():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() == was
    finally:
        (gc.enable if enabled else gc.disable)()


def test_the_bounds_that_a_refusal_names_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [name for name in project["dependencies"] if name.startswith("litellm")] == [SUPPORTED]


@pytest.mark.parametrize("name", RELIED_ON)
def test_a_litellm_without_something_that_the_gateway_changes_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    litellm()
    owner, _, attribute = name.rpartition("." if "." in name.partition(":")[2] else ":")
    monkeypatch.setattr(litellm_setup, "_module", None)
    monkeypatch.delattr(pkgutil.resolve_name(owner), attribute)
    with pytest.raises(GatewayError) as refused:
        litellm()
    assert name in str(refused.value)
    assert f'pip install "{SUPPORTED}"' in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_renamed_resend_stops_the_command_line_with_one_sentence(tmp_path: Path) -> None:
    """As litellm 1.108 renamed it."""
    text = tmp_path / "story.txt"
    text.write_text("The king lived in a castle.", encoding="utf-8")
    code = (
        "import os, sys\n"
        "os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP='True', OPENAI_API_KEY='sk-test')\n"
        "from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler as handler\n"
        "handler.single_connection_request = handler.single_connection_post_request\n"
        "del handler.single_connection_post_request\n"
        "from rlm.cli import main\n"
        f"sys.exit(main(['ask', {str(text)!r}, 'Where did the king live?', '--model', 'openai/gpt-5-mini', '--runs', "
        f"{str(tmp_path / 'runs')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    opening, said = done.stderr.splitlines()
    assert opening == f"opening {text}" and said.startswith("rlm: litellm ")
    assert f"has no {RESEND}, which the gateway must change" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("replaced", [True, False])
def test_without_the_replacement_litellm_would_send_a_broken_request_twice(
    monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """What the guard guards: two requests on the wire and one call in the ledger."""
    litellm()
    if not replaced:
        module, _, attribute = RESEND.partition(":")
        owner, _, method = attribute.rpartition(".")
        original = operator.attrgetter(attribute)(unchanged(module))
        monkeypatch.setattr(pkgutil.resolve_name(f"{module}:{owner}"), method, original)
    ledger = Ledger()
    request = Request("anthropic/claude-sonnet-4-5", (Message(role="user", content="hello"),), 50)
    with ModelServer([half_a_body(), "the second"]) as server:
        server.use(monkeypatch)
        run(Gateway(ledger, attempts=1), request)
    assert (server.calls, ledger.spent.calls) == (1 if replaced else 2, 1)


def unchanged(module: str) -> Any:
    """A second copy of a module, as its file has it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
