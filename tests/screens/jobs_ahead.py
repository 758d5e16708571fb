"""Jobs that start in a moment: forked from a process that has loaded what a chat and the data screen take.

Loading that anew took most of the time of every test that opens one of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from multiprocessing import Pipe, forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import pytest

from pipeline.jobs import client, server
from tests.processes import IMPORT_PATH
from tests.waiting import PATIENCE_S

_spawn = client._spawn


@pytest.fixture
def jobs_alone(jobs_ahead: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They start them as the app does all the same."""
    monkeypatch.setattr(client, "_spawn", _spawn)


@pytest.fixture
def jobs_ahead(_begun: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The screens of this test fork their jobs."""
    monkeypatch.setattr(client, "_spawn", Forked)


@pytest.fixture(scope="session")
def _begun() -> None:
    """The process they are forked from; it ends with this one. An app that is on has no standard error to give to it."""
    forkserver.set_forkserver_preload(["tests.screens.jobs_loaded"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = IMPORT_PATH
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


class Forked:
    """In the place of `jobs.client._spawn` and the `Popen` it returns."""

    def __init__(self, module: str, folder: Path, environment: Mapping[str, str], printed: IO[bytes]) -> None:
        requests, to_child = Pipe(duplex=False)
        from_child, answers = Pipe(duplex=False)
        told = Connection(os.dup(printed.fileno()), readable=False)
        pipes = (requests, answers, told)
        self._process = get_context("forkserver").Process(
            target=_serve, args=(module, str(folder), dict(environment), *pipes), daemon=True
        )
        self._process.start()
        for pipe in pipes:
            pipe.close()
        self.pid = self._process.pid or 0
        self.stdin = os.fdopen(os.dup(to_child.fileno()), "wb")
        self.stdout = os.fdopen(os.dup(from_child.fileno()), "rb")
        to_child.close()
        from_child.close()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join(PATIENCE_S)
        assert self._process.exitcode is not None
        return self._process.exitcode


def _serve(
    module: str, folder: str, environment: dict[str, str], requests: Connection, answers: Connection, printed: Connection
) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number, pipe in enumerate((requests, answers, printed)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os._exit(server.main([module]))
