"""One family of errors: each knows its exit code and the next thing a person can do.

Raised anywhere below the command line or the app, caught once at the top of each. An exception that is not a
`HumigenceError` is a bug of ours: exit code 1.
"""

from __future__ import annotations

from typing import ClassVar

from pipeline.common.redact import redact

EXIT_OK = 0
EXIT_BUG = 1
EXIT_STOPPED = 130


class HumigenceError(Exception):
    """What went wrong, in the user's words.

    Args:
        message: what is wrong and where (file, line, dotted key).
        hint: the next thing to do, usually a command. Empty only where `message` says it already.
    """

    exit_code: ClassVar[int] = EXIT_BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = redact(message)  # a URL or a value in it may hold a token
        self.hint = redact(hint)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[HumigenceError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class BadInput(HumigenceError):
    """A setting, an argument or a data file that cannot be used as it is."""

    exit_code = 2


class GatesFailed(HumigenceError):
    """The run finished and its result did not meet an acceptance threshold."""

    exit_code = 3


class Diverged(HumigenceError):
    """Training produced a loss or a gradient that is not a finite number."""

    exit_code = 3


class EnvironmentFault(HumigenceError):
    """The machine: a driver, a GPU, memory, disk, network, a lock somebody else holds."""

    exit_code = 4


class MissingArtifact(HumigenceError):
    """Something an earlier step makes is not there: a model, a run, an adapter."""

    exit_code = 5


class Stopped(HumigenceError):
    """The person asked to stop. What was trained is saved unless they asked to abort."""

    exit_code = EXIT_STOPPED


class Interrupted(KeyboardInterrupt):
    """The person asked to stop at once, and a signal's handler raises it wherever the work is.

    Not an `Exception`: no library, and no line of ours, takes it for a fault of what it interrupts.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, as much of it as a person reads."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
