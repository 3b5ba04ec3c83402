"""With the language layer gone (full builtins, every module) hostile code still has no effect: the kernel
holds it."""

import json
from pathlib import Path

import pytest

from rlm.sandbox import layers
from rlm.sandbox.confinement import Unconfined, seccomp_program
from tests.sandbox_scene import probe

ATTACKS = Path(__file__).parent.parent.parent / "shared/data/repl/attacks.jsonl"
FOUND, BEGINNINGS = ("root:", "'etc'"), ("'/", "<socket", "{'PATH")


def said(snippets):
    """What each snippet left in `R`, or raised, or how its process ended, under the kernel layers alone."""
    return [end["said"] or end["end"] for end in probe("bare", snippets)["ends"]]


def test_other_descriptors_are_closed_by_the_filter_too():
    tried = said(["import os; os.write(2, b'x')", "import os; os.read(0, 1)"])
    assert all(text.startswith("PermissionError") for text in tried)


def test_what_a_cell_needs_still_works():
    works = [
        "import time; time.sleep(0.01); R = sorted([2, 1])",
        "import random; R = random.Random().random() < 1",
    ]
    assert said(works) == ["[1, 2]", "True"]


def test_memory_and_time_have_an_end():
    assert said(["R = len('a' * 10**9)", "while True: pass"]) == ["MemoryError: ", "SIGXCPU"]


@pytest.mark.skipif(not ATTACKS.exists(), reason="the development data is not here")
def test_known_escapes_find_nothing_outside():
    attacks = [json.loads(line) for line in ATTACKS.read_text(encoding="utf-8").splitlines()]
    escapes = [attack for attack in attacks if attack["goal"] not in ("dos", "tamper")]
    ends = zip(escapes, said([escape["code"] for escape in escapes]), strict=True)
    found = {e["id"]: t for e, t in ends if t.startswith(BEGINNINGS) or any(sign in t for sign in FOUND)}
    assert found == {}


def test_the_required_layers_are_reported():
    held = layers()
    assert held["rlimits"] and held["no_new_privs"] and held["seccomp"]


def test_a_machine_without_a_filter_is_named():
    with pytest.raises(Unconfined, match="seccomp: no filter for linux on sparc"):
        seccomp_program(3, "sparc")


def test_the_filter_fits_one_jump_and_covers_both_machines():
    assert len(seccomp_program(3, "aarch64")) % 8 == 0
    assert seccomp_program(3, "aarch64") != seccomp_program(3, "x86_64")
