"""With the language layer gone (full builtins, every module) hostile code still has no effect: the kernel
holds it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlm.sandbox import layers
from rlm.sandbox.confinement import Unconfined, seccomp_program

HERE = Path(__file__).parent
ATTACKS = HERE.parent.parent / "shared/data/repl/attacks.jsonl"
SIGNS = ("root:", "'etc'", "R='/", "R=<socket", "R={'PATH")

EFFECTS = {
    "reads a file": "R = open('/etc/passwd').read()",
    "lists the root": "import os; R = os.listdir('/')",
    "writes a file": "import os; R = os.open('/tmp/owned', os.O_CREAT | os.O_WRONLY)",
    "makes an anonymous file": "import os; R = os.memfd_create('x')",
    "forks": "import os; R = os.fork()",
    "starts a thread": "import threading; threading.Thread(target=print).start(); R = 1",
    "runs a program": "import os; R = os.execv('/bin/true', ['true'])",
    "spawns a program": "import subprocess; R = subprocess.run(['/bin/true'])",
    "opens a socket": "import socket; R = socket.socket()",
    "makes a socket pair": "import socket; R = socket.socketpair()",
    "signals its parent": "import os; os.kill(os.getppid(), 0); R = 1",
    "traces": "import ctypes; R = ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0 or 1 / 0",
    "raises its memory limit": "import resource as r; r.setrlimit(r.RLIMIT_AS, (-1, -1)); R = 1",
    "maps executable memory": "import mmap; R = mmap.mmap(-1, 4096, prot=7)",
    "writes to another descriptor": "import os; R = os.write(2, b'x')",
    "reads another descriptor": "import os; R = os.read(0, 1)",
    "duplicates its descriptor": "import os; R = os.dup(3)",
    "changes its user": "import os; os.setuid(0); R = 1",
    "makes a namespace": "import ctypes; R = ctypes.CDLL(None).unshare(0x10000000) == 0 or 1 / 0",
}


def probe(snippets):
    command = [
        sys.executable,
        "-s",
        "-P",
        "-S",
        str(HERE / "sandbox_probe.py"),
        str(HERE.parent / "rlm/sandbox"),
    ]
    done = subprocess.run(
        command, input=json.dumps(snippets), capture_output=True, text=True, env={}, check=True
    )
    return json.loads(done.stdout)["said"]


def test_no_effect_gets_past_the_kernel_layers():
    said = dict(zip(EFFECTS, probe(list(EFFECTS.values())), strict=True))
    assert {name: text for name, text in said.items() if text.startswith("R=")} == {}


def test_other_descriptors_are_closed_by_the_filter_too():
    said = probe(["import os; os.write(2, b'x')", "import os; os.read(0, 1)"])
    assert all(text.startswith("PermissionError") for text in said)


def test_what_a_cell_needs_still_works():
    said = probe(
        [
            "import time; time.sleep(0.01); R = sorted([2, 1])",
            "import random; R = random.Random().random() < 1",
        ]
    )
    assert said == ["R=[1, 2]", "R=True"]


def test_memory_and_time_have_an_end():
    assert probe(["R = len('a' * 10**9)", "while True: pass"]) == ["MemoryError: ", "SIGXCPU"]


@pytest.mark.skipif(not ATTACKS.exists(), reason="the development data is not here")
def test_known_escapes_find_nothing_outside():
    attacks = [json.loads(line) for line in ATTACKS.read_text(encoding="utf-8").splitlines()]
    escapes = [attack for attack in attacks if attack["goal"] not in ("dos", "tamper")]
    said = zip(escapes, probe([escape["code"] for escape in escapes]), strict=True)
    found = {escape["id"]: text for escape, text in said if any(sign in text for sign in SIGNS)}
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
