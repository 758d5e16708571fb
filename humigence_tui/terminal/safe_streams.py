"""Standard output and error of both programs: whatever a library, a warning or a traceback prints, no control character gets out.

Our own lines are made safe where they are put together (`cli.terminal`), since they carry our own colours; they are written to
the stream inside. Everything else that knows `sys.stdout` and `sys.stderr` goes through here.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from pipeline.common.text import safe


class SafeStream:
    """A text stream whose `write` makes everything safe; in all else the stream it stands for."""

    def __init__(self, inside: TextIO) -> None:
        self.inside = inside

    def write(self, text: str) -> int:
        self.inside.write(safe(text, lines=True))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)


def inside(stream: Any) -> TextIO:
    """The stream itself, for who has made everything safe already."""
    found: TextIO = stream.inside if isinstance(stream, SafeStream) else stream
    return found


def open_standard_streams() -> None:
    """Started with some of them closed (`>&-`, a careless daemon), a process would give their numbers to the files it opens next,
    and whatever a library prints would end up in those.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  as long as the process lives


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Until the block ends, `sys.stdout` and `sys.stderr` let no control character out."""
    before = sys.stdout, sys.stderr
    made: list[Any] = [stream and SafeStream(inside(stream)) for stream in before]
    sys.stdout, sys.stderr = made
    try:
        yield
    finally:
        if sys.stdout is made[0]:
            sys.stdout = before[0]
        if sys.stderr is made[1]:
            sys.stderr = before[1]
