"""Processes in sessions of their own, which outlive who starts them, and a logout where that is possible."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.common.errors import EnvironmentFault
from pipeline.system import login_session

_START_S = 120.0  # a cold disk can take that long to load Python and pydantic
_LOOK_S = 0.02


def spawn(
    module: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: Path,
    *,
    is_up: Callable[[], bool],
    has_come: Callable[[subprocess.Popen[bytes]], bool],
    late: EnvironmentFault,
    gone: EnvironmentFault,
) -> subprocess.Popen[bytes]:
    """Start one, and return it once it is up or has ended in order.

    Args:
        module: what Python runs as `-m`, and its arguments.
        folder: which it starts in.
        output: a file that what it prints is added to.
        is_up: asked until it is, or the process has ended.
        has_come: whether a process that is up or has ended did what it was started for.
        late, gone: raised where it is not up in two minutes, and where it ended without having come.

    Raises:
        EnvironmentFault: `late` or `gone`.
    """
    scope = login_session.own_scope()
    # A manager that is not there, or not allowed: then as everywhere else.
    for before in [scope, []] if scope else [[]]:
        with output.open("ab") as log:
            process = subprocess.Popen(
                [*before, sys.executable, "-P", "-m", *module],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        began = time.monotonic()
        while not is_up() and process.poll() is None:
            if time.monotonic() - began > _START_S:
                process.kill()
                raise late
            time.sleep(_LOOK_S)
        if has_come(process):
            return process
    raise gone
