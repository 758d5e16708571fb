"""What our child processes are started with."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGES = Path(__file__).resolve().parents[2]


def child_environment() -> dict[str, str]:
    """This process's environment, in which a child imports the same `pipeline` and nothing that it prints is held back.

    Start the child with `-P`: it keeps a folder named `pipeline` in the workspace out.
    """
    path = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
