"""Our own payloads: none breaks the language, none has an effect outside; and without the layers they would."""

import resource
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlm.sandbox import CellResult, SandboxLimits
from rlm.sandbox.dialogue import Line
from rlm.sandbox.session import LinuxSession
from rlm.sandbox.spawn import Worker
from rlm.sandbox.types import Serve
from tests.helpers import attacks
from tests.helpers.attacks import Attack
from tests.helpers.sandbox_scene import LINK, effects_of, probe, scenes
from tests.helpers.sandbox_sessions import start, stopped_soon
from tests.helpers.thorough import cases

LIMITS = SandboxLimits(memory_mb=200, cpu_s=60)
CALLS = frozenset({"llm_query", "context.search"})
OPTIONAL = ["_enter_namespaces", "_empty_root", "_drop_root", "_landlock"]
STOPPED = ("MemoryError", "RecursionError", "OverflowError", "SyntaxError", "ValueError", "ImportError")


@pytest.fixture(scope="module")
def session() -> Iterator[LinuxSession]:
    with opened_session(LIMITS) as opened:
        yield opened


def opened_session(
    limits: SandboxLimits, serve: Serve = lambda name, arguments, named: "real"
) -> LinuxSession:
    return start(limits, {"context_length": 10}, serve, CALLS)


def codes(payloads: Iterable[Attack]) -> list[str]:
    return [attack.code for attack in payloads]


def judged(mode: str, payloads: Sequence[Attack], **request: Any) -> list[tuple[Attack, dict[str, Any]]]:
    """Each payload with how the probe saw it end."""
    return list(zip(payloads, probe(mode, codes(payloads), **request)["ends"], strict=True))


def test_the_corpus_is_large_and_every_payload_is_another() -> None:
    assert len(attacks.ALL) >= 150
    assert (
        len({attack.id for attack in attacks.ALL})
        == len({attack.code for attack in attacks.ALL})
        == len(attacks.ALL)
    )


def test_no_payload_breaks_the_language() -> None:
    broken = {attack.id: end["broke"] for attack, end in judged("cell", attacks.LANGUAGE) if end["broke"]}
    assert broken == {}


def test_without_the_layers_every_payload_breaks_the_language() -> None:
    harmless = {attack.id: end for attack, end in judged("off", attacks.LANGUAGE) if not end["broke"]}
    assert harmless == {}


def test_with_every_layer_no_payload_has_an_effect() -> None:
    assert effects_of("cell", attacks.EFFECTS) == {}


def test_the_kernel_layers_alone_leave_no_effect() -> None:
    assert effects_of("bare", attacks.EFFECTS) == {}


def test_what_breaks_the_language_where_there_is_none_has_no_effect() -> None:
    with scenes(1) as (scene,):
        said = "".join(end["said"] for _, end in judged("bare", attacks.LANGUAGE))
        assert scene.effects(said.replace("BROKEN", "")) == []  # it is broken, as there is no such layer


def test_without_the_layers_every_payload_has_its_effect() -> None:
    found = effects_of("off", attacks.EFFECTS)
    assert [attack.id for attack in attacks.EFFECTS if attack.id not in found] == []


@pytest.mark.parametrize("layer", OPTIONAL)
def test_where_one_optional_layer_cannot_be_had_the_others_hold(layer: str) -> None:
    assert effects_of("bare", attacks.EFFECTS, broken=[layer]) == {}


def test_with_no_optional_layer_at_all_the_required_ones_hold() -> None:
    assert effects_of("bare", attacks.EFFECTS, broken=OPTIONAL) == {}


def test_with_the_filter_gone_unnoticed_nothing_outside_is_reached() -> None:
    found = effects_of("bare", attacks.EFFECTS, absent=["_seccomp"])
    assert {name for effects in found.values() for name in effects} <= {"power"}


@pytest.mark.parametrize(("step", "layer"), [("_limit", "rlimits"), ("_seccomp", "seccomp")])
def test_where_a_required_layer_cannot_be_had_nothing_runs(step: str, layer: str) -> None:
    reply = probe("bare", ["R = 'ran'"], broken=[step])
    assert "ran" not in str(reply["ends"])


def test_where_privileges_cannot_be_given_up_nothing_starts() -> None:
    reply = probe("bare", ["R = 'ran'"], broken=["_prctl"])
    assert reply["missing"].startswith("no_new_privs") and reply["ends"] == []


@pytest.mark.parametrize("family", dict.fromkeys(attack.family for attack in attacks.LANGUAGE))
def test_a_session_outlives_every_language_payload(session: LinuxSession, family: str) -> None:
    for attack in attacks.LANGUAGE:
        if attack.family == family:
            session.reset()
            result = session.run(attack.code)
            assert result.status in ("ok", "error", "rejected"), attack.id
            assert session.run("1 + 1").stdout == "2\n", attack.id


@pytest.mark.parametrize("family", dict.fromkeys(attack.family for attack in attacks.EFFECTS))
def test_a_session_refuses_every_payload_with_effects(session: LinuxSession, family: str) -> None:
    payloads = [attack for attack in attacks.EFFECTS if attack.family == family]
    with scenes(len(payloads)) as made:
        for scene, attack in zip(made, payloads, strict=True):
            result = session.run(scene.fill(attack.code))
            assert result.status in ("error", "rejected"), attack.id
            assert scene.effects(result.stdout + result.error) == [], attack.id
    assert session.run("1 + 1").stdout == "2\n"


@pytest.mark.slow
@pytest.mark.parametrize("family", dict.fromkeys(attack.family for attack in attacks.FLOODS))
def test_every_flood_ends_in_time_and_the_session_goes_on(session: LinuxSession, family: str) -> None:
    for attack in attacks.FLOODS:
        if attack.family == family:
            session.reset()
            began = time.monotonic()
            result = stopped_soon(session, attack.code)
            assert time.monotonic() - began < 60, attack.id
            assert len(result.stdout) + len(result.error) < 50_000, attack.id
            assert session.run("1 + 1").stdout == "2\n", attack.id


@pytest.mark.slow
def test_without_the_layers_a_flood_does_not_end_or_takes_too_much() -> None:
    floods = [attack for attack in attacks.FLOODS if attack.family != "parse bombs"]
    ended = {a.id: end for a, end in judged("off", floods, seconds=cases(0.1, 0.4)) if is_quiet(end)}
    assert ended == {}


def is_quiet(end: dict[str, Any]) -> bool:
    return end["end"] == "exit 0" and not end["said"].startswith(STOPPED)


@pytest.mark.slow
def test_the_kernel_layers_alone_end_every_flood() -> None:
    floods = [attack for attack in attacks.FLOODS if attack.family in ("memory", "output")]
    late = [a.id for a, end in judged("bare", floods, seconds=60) if end["end"] == "late"]
    assert late == []


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


#: Forged frames that leave the parent waiting, so that only the clock ends their cell.
SILENT = {"a size and no body", "half a size", "silence", "hanging up", "a flood of output"}
#: What the parent may take before it sees that more came: the two writes are two packets.
TAKEN = {"a second ending", "rejected twice", "an ending and one byte more"}


def served_to(sockets: Iterable[tuple[str, socket.socket]]) -> tuple[set[str], dict[str, CellResult]]:
    """A session whose worker is a probe's: runs each payload's side of the line, and what it asked for."""
    asked, results = [], {}
    limits = SandboxLimits(cell_timeout_s=60, calls_per_cell=50, refusals=20)
    with opened_session(limits, lambda name, *more: asked.append(name)) as session:
        for name, end in sockets:
            session.limits = replace(limits, cell_timeout_s=0.25) if name in SILENT else limits
            session.reset()
            end.setblocking(False)
            worker = SimpleNamespace(
                link=end, close=end.close, kill=lambda: None, exit_code=lambda timeout_s: None
            )
            session._line = Line(cast(Worker, worker), bytearray())
            results[name] = session.run("x = 1")
            session._drop()
        assert session.run("1 + 1").stdout == "2\n"
    return set(asked), results


def test_no_forged_frame_moves_the_parent() -> None:
    pairs = [socket.socketpair() for _ in attacks.FRAMES]
    links = [theirs.fileno() for _, theirs in pairs]
    names = [attack.id.partition(": ")[2] for attack in attacks.FRAMES]
    filled = [attack.code.replace("@LINK@", str(LINK)) for attack in attacks.FRAMES]
    fds = {"fds": links, "links": links, "seconds": 1}
    thread = threading.Thread(target=probe, args=("bare", filled), kwargs=fds)
    before = memory_mb()
    thread.start()
    asked, results = served_to(zip(names, (ours for ours, _ in pairs), strict=True))
    thread.join()
    for _, theirs in pairs:
        theirs.close()
    assert asked <= CALLS
    assert {name for name, result in results.items() if result.status != "killed"} <= TAKEN
    assert {name for name, result in results.items() if "it ran longer" in result.error} <= SILENT
    assert memory_mb() - before < 300
