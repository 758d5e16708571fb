"""The system call that tells a trace where the writing begins."""

from __future__ import annotations

import contextlib
import os

MARK = "/the-writing-begins-here"


def mark() -> None:
    with contextlib.suppress(FileNotFoundError):
        os.close(os.open(MARK, os.O_RDONLY))
