"""What our child processes are started with."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PACKAGES = Path(__file__).resolve().parents[2]


def child_environment() -> dict[str, str]:
    """This process's environment, in which a child imports the same `pipeline` and nothing that it prints is held back.

    Start the child with `-P`: it keeps a folder named `pipeline` in the workspace out.
    """
    path = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def die_with_parent() -> None:
    """In a child: ask Linux to end this process when the one that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
