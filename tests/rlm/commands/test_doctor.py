"""`rlm doctor`: the layers of this machine, and a machine without them named and not run on."""

import json
from argparse import Namespace
from collections.abc import Callable

import pytest

from rlm.commands import doctor
from rlm.sandbox import SandboxUnavailable, layers
from rlm.sandbox.cage import confinement

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

        monkeypatch.setattr(doctor, "layers", answer)

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


def test_a_missing_required_layer_is_a_failure_that_names_it(machine: Machine, capsys: Capture) -> None:
    machine("this machine cannot confine model-written code; missing layer seccomp: no filter")
    assert doctor.doctor(Namespace(json=False)) == 1
    out = capsys.readouterr().out
    assert "missing layer seccomp" in out and "unknown" in out


def test_the_report_is_json_too(machine: Machine, capsys: Capture) -> None:
    machine(ALL_ON)
    assert doctor.doctor(Namespace(json=True)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["usable"] is True and report["layers"][0]["state"] == "on"
