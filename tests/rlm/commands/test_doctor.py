"""`rlm doctor`: the layers of this machine, and a machine without them named and not run on."""

import json
from argparse import Namespace

import pytest

from rlm.commands import doctor
from rlm.sandbox import SandboxUnavailable
from rlm.sandbox.cage import confinement

ALL_ON = {name: True for name, *_ in doctor._KNOWN}


@pytest.fixture
def machine(monkeypatch):
    """A machine whose layers are what the test says."""

    def pretend(held):
        def answer():
            if isinstance(held, str):
                raise SandboxUnavailable(held)
            return held

        monkeypatch.setattr(doctor, "layers", answer)

    return pretend


def test_this_machine_can_run_model_written_code(capsys):
    assert doctor.doctor(Namespace(json=False)) == 0
    assert "sandbox: usable" in capsys.readouterr().out


def test_every_layer_a_worker_reports_is_known():
    assert set(doctor.layers()) == {name for name, *_ in doctor._KNOWN}


def test_the_required_layers_are_those_the_worker_requires():
    assert {name for name, required, *_ in doctor._KNOWN if required} == set(confinement.REQUIRED)


def test_every_layer_on_is_said(machine):
    machine(ALL_ON)
    assert doctor.report().verdict == "usable, every layer is on"


def test_an_extra_layer_that_is_off_is_named_with_what_to_do(machine, capsys):
    machine(ALL_ON | {"namespaces": False, "empty_root": False})
    assert doctor.doctor(Namespace(json=False)) == 0
    out = capsys.readouterr().out
    assert "usable, without namespaces, empty_root" in out and "apparmor_restrict_unprivileged_userns" in out


def test_a_missing_required_layer_is_a_failure_that_names_it(machine, capsys):
    machine("this machine cannot confine model-written code; missing layer seccomp: no filter")
    assert doctor.doctor(Namespace(json=False)) == 1
    out = capsys.readouterr().out
    assert "missing layer seccomp" in out and "unknown" in out


def test_the_report_is_json_too(machine, capsys):
    machine(ALL_ON)
    assert doctor.doctor(Namespace(json=True)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["usable"] is True and found["layers"][0]["state"] == "on"
