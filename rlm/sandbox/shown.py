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
    """Makes the results of one session's cells, and keeps count of the output they have used up."""

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
        left = self._left()
        self._used += len(stdout)
        if len(stdout) <= left:
            return stdout, truncated
        note = f"\n[... the session's {self._limits.session_output_chars:,} characters of output are used up ...]\n"
        return stdout[:left] + note, True

    def _error(self, error: str) -> str:
        """The error as shown: it counts as output, but its first NOTE_CHARS are always shown."""
        left = self._left()
        self._used += min(len(error), ERROR_CHARS)
        return error[: min(ERROR_CHARS, max(left, NOTE_CHARS))]

    def _left(self) -> int:
        """Characters of output that the session may still show."""
        return max(self._limits.session_output_chars - self._used, 0)
