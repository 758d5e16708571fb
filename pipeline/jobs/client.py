"""Jobs: work that is not a run but needs a tokenizer or a model, in a child process, so that a screen never loads either.

    parent                                  child: `python -m pipeline.jobs MODULE`
    {"id": 1, "ask": "open", "with": {…}}   ──▶  requests, one line of JSON each, answered one after the other
    {"cancel": 1}                           ──▶  taken note of at once, also while a request is being answered
                                            ◀──  {"id": 1, "update": "opened", "data": {…}} any number
                                            ◀──  {"id": 1, "end": "done", "data": {…}}      exactly one

MODULE is a kind: `pipeline.jobs.rows`, with its `handlers()`. Its process has a session of its own and dies with its
parent. What libraries print goes to a file, never into the protocol; when the child dies, the last lines of that file are
emitted as an event.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from pipeline.system.child_process import child_environment

Outcome = Literal["done", "cancelled", "failed"]
_LAST_LINES = 8
_LAST_BYTES = 8192


@dataclass(frozen=True)
class JobUpdate:
    """Something that came of a request; after its end too where the kind goes on in the background. `data` is JSON."""

    request: int
    what: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A request is answered, cancelled, or failed for a reason a person can do something about (`message`, `hint`, and the
    `exit_code` of a command that ends with it)."""

    request: int
    outcome: Outcome
    message: str = ""
    hint: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0


@dataclass(frozen=True)
class Gone:
    """The child has died and was not asked to. `how` says how ("was killed: …"); `last_lines` are the last it printed."""

    how: str
    last_lines: tuple[str, ...]


JobEvent = JobUpdate | Ended | Gone


class Job:
    """A child process of one kind.

    Args:
        module: the kind's module, `pipeline.jobs.rows`.
        on_event: called with each event, in order, from a thread of the job's own.
        folder: the child's working folder.
    """

    def __init__(self, module: str, on_event: Callable[[JobEvent], object], folder: Path) -> None:
        self.module = module
        self._on_event = on_event
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by the reader
        self._writing = threading.Lock()
        self._last_id = 0
        self._closed = False

    @property
    def pid(self) -> int:
        """Of the child; 0 before `start`."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the child. Returns at once; that it could not start is emitted as `Gone`."""
        environment = child_environment()
        environment.setdefault("TRANSFORMERS_VERBOSITY", "error")
        self._process = _spawn(self.module, self._folder, environment, self._printed)
        threading.Thread(target=self._read, args=(self._process,), name=f"job {self.module}", daemon=True).start()

    def send(self, ask: str, **parameters: Any) -> int:
        """Ask for something; returns the request's number, which its events carry."""
        self._last_id += 1
        self._write({"id": self._last_id, "ask": ask, "with": parameters})
        return self._last_id

    def cancel(self, request: int) -> None:
        """Give a request up. It ends "cancelled", or as it would have when it is too late."""
        self._write({"cancel": request})

    def close(self) -> None:
        """End the child at once; nothing more is emitted."""
        self._closed = True
        if self._process and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None, "start() comes first"
        # A child that is gone is reported by the reader; there is nobody left to write to.
        with self._writing, contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()

    # ------------------------------------------------------------------------------------------ the reader's thread

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None and process.stdin is not None
        for line in process.stdout:
            event = _event(line)
            if event is not None and not self._closed:
                self._on_event(event)
        code = process.wait()
        process.stdout.close()
        with self._writing, contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        last_lines = _last_lines(self._printed)
        self._printed.close()
        if not self._closed:
            self._on_event(Gone(how_it_ended(code), last_lines))


def _spawn(module: str, folder: Path, environment: Mapping[str, str], printed: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pipeline.jobs", module],
        cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, start_new_session=True,
    )  # fmt: skip


def how_it_ended(code: int) -> str:
    """A process's exit status as the text that follows "the process"; negative where a signal ended it."""
    if code == -signal.SIGKILL:
        return "was killed: memory ran out, or somebody ended it"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _event(line: bytes) -> JobUpdate | Ended | None:
    try:
        parsed = json.loads(line)
    except ValueError:  # cut short by the child's death
        return None
    if "update" in parsed:
        return JobUpdate(parsed["id"], parsed["update"], parsed["data"])
    texts = parsed.get("message", ""), parsed.get("hint", "")
    return Ended(parsed["id"], parsed["end"], *texts, parsed.get("data") or {}, parsed.get("exit_code", 0))


def _last_lines(printed: IO[bytes]) -> tuple[str, ...]:
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - _LAST_BYTES))
    text = printed.read().decode("utf-8", "replace")
    # Tracebacks underline with lines of their own.
    return tuple(line.rstrip() for line in text.splitlines() if line.strip(" ^~"))[-_LAST_LINES:]
