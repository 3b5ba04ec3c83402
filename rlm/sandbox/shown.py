"""What a caller is shown of a cell: output and errors within the session's allowance, deaths in words."""

from collections.abc import Mapping
from typing import Any

from rlm.sandbox.types import CellResult, SandboxLimits

ERROR_CHARS = 8_000
NOTE_CHARS = 200
REJECTED = (
    "The code was rejected before it ran: it uses something not allowed here; write it with plain Python."
)
DEATHS = {
    "time": "it ran longer than {limits.cell_timeout_s:g} s",
    "memory": "it needed more memory than {limits.memory_mb} MB",
    "cpu": "the session's code used more than {limits.cpu_s} s of processor time",
    "refusals": "more than {limits.refusals} of its calls were refused",
    "protocol": "it sent something that is no message",
    "forbidden": "it tried something that the sandbox forbids",
    "crash": "it crashed the interpreter",
    "gone": "its process ended",
    "signal": "its process was killed by something else, most likely for want of memory",
    "outside": "the session was ended from outside",
}


class Shown:
    """One session's allowance of output, and how much of it is used."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits, self._used = limits, 0

    def result(self, done: Mapping[str, Any], seconds: float) -> CellResult:
        """The result of a cell that came to its end; `done` is the worker's last frame, checked."""
        stdout, truncated = self.output(done["stdout"], done["truncated"])
        error = self._error(done["error"])
        if done["status"] == "rejected":
            error = f"The code was rejected before it ran: {error}." if error else REJECTED
        rule, line, answer = done["rule"], done["line"], done["answer"]
        return CellResult(done["status"], stdout, error, seconds, rule, line, answer, truncated, False)

    def death(self, reason: str, seconds: float, stdout: str, lost: bool, ended: bool) -> CellResult:
        """The result of a cell that was killed; `reason` is a key of DEATHS."""
        after = (
            "the variables of earlier cells are gone" if lost else "the variables of earlier cells are kept"
        )
        end = "" if ended else f"; {after}, this cell's are not"
        stdout, truncated = self.output(stdout, False)
        error = f"The cell was stopped: {DEATHS[reason].format(limits=self._limits)}{end}."
        return CellResult("killed", stdout, error, seconds, None, None, None, truncated, lost)

    def output(self, stdout: str, truncated: bool) -> tuple[str, bool]:
        """The output as shown: the worker's own cap is not trusted, and the session has one of its own."""
        stdout = stdout[: self._limits.output_chars + NOTE_CHARS]
        room = self._room()
        self._used += len(stdout)
        if len(stdout) <= room:
            return stdout, truncated
        note = f"\n[... the session's {self._limits.session_output_chars:,} characters of output are used up ...]\n"
        return stdout[:room] + note, True

    def _error(self, error: str) -> str:
        """The error as shown: it counts as output, but its beginning is always told."""
        room = self._room()
        self._used += min(len(error), ERROR_CHARS)
        return error[: min(ERROR_CHARS, max(room, NOTE_CHARS))]

    def _room(self) -> int:
        return max(self._limits.session_output_chars - self._used, 0)
