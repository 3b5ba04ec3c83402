"""Our own payloads against the sandbox: by family, each with what it is after and how its success is seen.

`language`: after an object that no cell may hold; success is a forbidden object in `R`, judged inside the worker.
`effects`: after the world outside the worker; success is seen from outside, or is the secret in `R`.
`floods`: after the machine's time and memory; success is a run that neither ends nor stays within its limits.
`frames`: raw bytes on the worker's socket; success is a parent that raises, hangs or serves what it should not.
"""

from dataclasses import dataclass

from tests.helpers.attacks import effects, floods, frames, language


@dataclass(frozen=True, slots=True)
class Attack:
    """One payload. `code` may hold @DIR@ (a writable folder with `secret.txt`), @PORT@ (a listening TCP port),
    @PID@ (a process to be ended), @FD@ (an open descriptor) and @LINK@ (the worker's socket)."""

    id: str
    family: str
    goal: str
    code: str


def collect(goal: str, families: dict[str, dict[str, str]]) -> list[Attack]:
    """Every payload of a module's FAMILIES, in order."""
    return [
        Attack(f"{family}: {name}", family, goal, code.strip("\n") + "\n")
        for family, payloads in families.items()
        for name, code in payloads.items()
    ]


LANGUAGE = collect("object", language.FAMILIES)
EFFECTS = collect("effect", effects.FAMILIES)
FLOODS = collect("flood", floods.FAMILIES)
FRAMES = collect("frame", frames.FAMILIES)
ALL = [*LANGUAGE, *EFFECTS, *FLOODS, *FRAMES]
