"""`rlm doctor`: the layers of this machine, and a machine without them named and not run on."""

import importlib.util
import json
from argparse import Namespace
from collections.abc import Callable

import pytest

from rlm.commands import doctor
from rlm.sandbox import SandboxUnavailable, layers, opening
from rlm.sandbox.cage import confinement
from rlm.sandbox.types import UNCONFINED

Machine = Callable[[dict[str, bool] | str], None]
Capture = pytest.CaptureFixture[str]
ALL_ON = {name: True for name, *_ in doctor.KNOWN_LAYERS}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose layers are what the test says; given words, it has none, and says so."""

    def pretend(held: dict[str, bool] | str) -> None:
        def answer() -> dict[str, bool]:
            if isinstance(held, str):
                raise SandboxUnavailable(held)
            return held

        monkeypatch.setattr(opening, "layers", answer)

    return pretend


def test_this_machine_can_run_model_written_code(capsys: Capture) -> None:
    assert doctor.doctor(Namespace(json=False)) == 0
    assert "sandbox: usable" in capsys.readouterr().out


def test_every_layer_a_worker_reports_is_known() -> None:
    assert set(layers()) == {name for name, *_ in doctor.KNOWN_LAYERS}


def test_the_required_layers_are_those_the_worker_requires() -> None:
    assert {name for name, required, *_ in doctor.KNOWN_LAYERS if required} == set(confinement.REQUIRED)


def test_every_layer_on_is_said(machine: Machine) -> None:
    machine(ALL_ON)
    assert doctor.report().verdict == "usable, every layer is on"


def test_an_extra_layer_that_is_off_is_named_with_what_to_do(machine: Machine, capsys: Capture) -> None:
    machine(ALL_ON | {"namespaces": False, "empty_root": False})
    assert doctor.doctor(Namespace(json=False)) == 0
    out = capsys.readouterr().out
    assert "usable, without namespaces, empty_root" in out and "apparmor_restrict_unprivileged_userns" in out


def test_without_layers_and_without_monty_it_is_a_failure_that_names_the_layer(
    machine: Machine, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(UNCONFINED.format(layer="seccomp: no filter"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert doctor.doctor(Namespace(json=False)) == 1
    out = capsys.readouterr().out
    assert "missing layer seccomp" in out and "unknown" in out and "--backend auto: none" in out


@pytest.mark.skipif(not importlib.util.find_spec("pydantic_monty"), reason="the extra monty is not installed")
def test_without_layers_code_runs_in_monty_and_the_report_says_why(machine: Machine, capsys: Capture) -> None:
    machine(UNCONFINED.format(layer="seccomp: no filter"))
    assert doctor.doctor(Namespace(json=True)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["usable"], report["backend"]) == (True, "monty")
    assert report["backend_why"].endswith("missing layer seccomp: no filter")


def test_where_the_layers_hold_auto_takes_them(machine: Machine) -> None:
    machine(ALL_ON)
    assert doctor.report().backend == "linux"


def test_the_report_is_json_too(machine: Machine, capsys: Capture) -> None:
    machine(ALL_ON)
    assert doctor.doctor(Namespace(json=True)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["usable"] is True and report["layers"][0]["state"] == "on"
