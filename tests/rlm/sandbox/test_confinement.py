"""With the language layer gone (full builtins, every module) hostile code still has no effect: the kernel
holds it."""

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from rlm.sandbox import layers
from rlm.sandbox.cage import confinement
from rlm.sandbox.cage.confinement import (
    CALLS,
    CAPSET,
    LANDLOCK_CREATE,
    LANDLOCK_RESTRICT,
    PIVOT_ROOT,
    Unconfined,
    seccomp_program,
)
from tests.helpers.bpf import verdict
from tests.helpers.places import data_file
from tests.helpers.sandbox_scene import probe

FOUND, BEGINNINGS = ("root:", "'etc'"), ("'/", "<socket", "{'PATH")


def said(snippets: Iterable[str], **request: Any) -> list[str]:
    """What each snippet left in `R`, or raised, or how its process ended, under the kernel layers alone."""
    return [end["said"] or end["end"] for end in probe("bare", snippets, **request)["ends"]]


def test_other_descriptors_are_closed_by_the_filter_too() -> None:
    tried = said(["import os; os.write(2, b'x')", "import os; os.read(0, 1)"])
    assert all(text.startswith("PermissionError") for text in tried)


def test_what_a_cell_needs_still_works() -> None:
    works = [
        "import time; time.sleep(0.01); R = sorted([2, 1])",
        "import random; R = random.Random().random() < 1",
    ]
    assert said(works) == ["[1, 2]", "True"]


def test_memory_and_time_have_an_end() -> None:
    # A minute, because a second of processor time takes long where others work.
    assert said(["R = len('a' * 10**9)", "while True: pass"], seconds=60) == ["MemoryError: ", "SIGXCPU"]


def test_known_escapes_find_nothing_outside() -> None:
    lines = data_file("repl/attacks.jsonl").read_text(encoding="utf-8").splitlines()
    attacks = [json.loads(line) for line in lines]
    escapes = [attack for attack in attacks if attack["goal"] not in ("dos", "tamper")]
    ends = zip(escapes, said([escape["code"] for escape in escapes]), strict=True)
    found = {e["id"]: t for e, t in ends if t.startswith(BEGINNINGS) or any(sign in t for sign in FOUND)}
    assert found == {}


def test_the_required_layers_are_reported() -> None:
    held = layers()
    assert held["rlimits"] and held["no_new_privs"] and held["seccomp"]


def test_a_machine_without_a_filter_is_named() -> None:
    with pytest.raises(Unconfined, match="seccomp: no filter for linux on sparc"):
        seccomp_program(3, "sparc")


ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED, REFUSED, KILLED = 0x7FFF0000, 0x00050001, 0x80000000
#: The kernel's own lists, where this machine has them: aarch64 numbers its calls by the generic one.
HEADERS = {
    "x86_64": [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}


def kernel_numbers(machine: str) -> dict[str, int]:
    """Every call's number by its name, from the kernel's header."""
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip(f"the kernel's header for {machine} is not installed")
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


@pytest.mark.parametrize("machine", ARCH)
def test_every_number_in_the_filter_is_the_kernels(machine: str) -> None:
    numbers = kernel_numbers(machine)
    ours = {name: number for group in CALLS[machine].values() for name, number in group.items()}
    ours |= {"capset": CAPSET[machine], "pivot_root": PIVOT_ROOT[machine]}
    ours |= {"landlock_create_ruleset": LANDLOCK_CREATE, "landlock_restrict_self": LANDLOCK_RESTRICT}
    assert ours == {name: numbers[name] for name in ours}


@pytest.mark.parametrize("machine", ARCH)
def test_both_machines_allow_and_forbid_the_same_calls(machine: str) -> None:
    other = CALLS["x86_64"]
    only_x86 = {"fork", "vfork"}  # aarch64 has clone alone
    for group, calls in CALLS[machine].items():
        assert set(calls) | only_x86 == set(other[group]) | only_x86, group


@pytest.mark.parametrize("machine", ARCH)
def test_the_filter_answers_each_call_of_each_machine_as_its_table_says(machine: str) -> None:
    program, calls, arch = seccomp_program(3, machine), CALLS[machine], ARCH[machine]
    said = {number: verdict(program, arch, number, (3, 0, 3)) for number in range(600)}
    allowed = {n for group in ("allow", "own_fd", "not_exec", "wait_or_wake") for n in calls[group].values()}
    assert {n for n, answer in said.items() if answer == ALLOWED} == allowed
    assert {n for n, answer in said.items() if answer == KILLED} == set(calls["kill"].values())
    assert set(said.values()) == {ALLOWED, REFUSED, KILLED}


@pytest.mark.parametrize("machine", ARCH)
def test_the_filter_looks_at_arguments(machine: str) -> None:
    program, calls, arch = seccomp_program(3, machine), CALLS[machine], ARCH[machine]
    for number in calls["own_fd"].values():
        assert [verdict(program, arch, number, (fd, 0, 1)) for fd in (0, 2, 3, 4)] == [
            REFUSED, REFUSED, ALLOWED, REFUSED
        ]  # fmt: skip
    for number in calls["not_exec"].values():
        said = [verdict(program, arch, number, (0, 4096, prot)) for prot in range(8)]
        assert said == [ALLOWED] * 4 + [REFUSED] * 4  # PROT_EXEC is 4
    for number in calls["wait_or_wake"].values():
        said = [verdict(program, arch, number, (4096, op, 0)) for op in range(512)]
        assert {op & 127 for op, answer in enumerate(said) if answer == ALLOWED} == {0, 1}
        assert [said[op] for op in (128, 129, 256, 385)] == [ALLOWED] * 4  # private, by another clock


def test_every_call_that_is_allowed_stands_in_the_list_of_reasons() -> None:
    lines = re.findall(r"^#   (?=\S)([\w, ]+?)  +\S", inspect.getsource(confinement), re.MULTILINE)
    explained = [name for line in lines for name in line.split(", ")]
    allowed = {name for group, calls in CALLS["x86_64"].items() if group != "kill" for name in calls}
    assert sorted(explained) == sorted(allowed)


@pytest.mark.parametrize("machine", ARCH)
def test_a_call_by_another_machines_numbers_kills(machine: str) -> None:
    program = seccomp_program(3, machine)
    others = [arch for name, arch in ARCH.items() if name != machine] + [0x40000003, 0x40000028]  # i386, arm
    assert {verdict(program, arch, number, (3,)) for arch in others for number in range(600)} == {KILLED}
    x32 = {verdict(program, ARCH[machine], 0x40000000 | number, (3,)) for number in range(600)}
    assert x32 == {KILLED}
