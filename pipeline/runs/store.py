"""Run folders: create, list, find, read and follow the event log, ask a run to stop, tell whether it lives.

Nothing here imports torch, so the command line and the app can look at a thousand runs at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.common.files import disk_bytes, fsync_folder, make_folder, read_json, write_atomic, write_json
from pipeline.common.redact import redactor
from pipeline.runs.events import Envelope, Event, StepProgress, StopMode, TrainStep, readable, to_line
from pipeline.runs.fold import fold_lines
from pipeline.runs.folders import RunFolder as RunFolder
from pipeline.runs.folders import Workspace as Workspace
from pipeline.runs.state import RunState, Status
from pipeline.system import locks

if TYPE_CHECKING:  # pydantic is a fifth of a second, and a list of runs needs none of it
    from pipeline.config.schema import Config

# Lost by a power cut without harm; everything else is flushed to disk as it is written.
_NOT_FLUSHED = (StepProgress, TrainStep)
_TAIL_BYTES = 1 << 16
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?!\d)")
_STAMP_WIDTH = len("2026-01-01_00-00-00")
_PIECE_BYTES = 8 << 20
# Of a log that is no log: a line is never read whole into memory whatever its length.
_LONGEST_LINE = 64 << 20

_LONGEST_LINE_BACKWARDS = 4 << 20


def create(workspace: Workspace, config: Config, meta: dict[str, Any]) -> RunFolder:
    """A new run folder, readable by its owner only, holding `config.json` and `meta.json`."""
    folder = _unused_folder(workspace.project(config.project))
    run = RunFolder(folder)
    write_json(run.meta, meta)
    write_json(run.config, config.to_json())
    return run


def _unused_folder(project: Path) -> Path:
    make_folder(project)
    # A clock that was set back must not make a new run look older than those before it.
    before = [folder.name[:_STAMP_WIDTH] for folder in _folders(project) if _STAMP.match(folder.name)]
    stamp = max([datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S"), *before])
    for attempt in range(1, 10_000):
        folder = project / (stamp if attempt == 1 else f"{stamp}_{attempt:02d}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        fsync_folder(project)
        return folder
    raise BadInput(f"{project}: ten thousand runs in one second")


# -------------------------------------------------------------------------------------------------- finding


def runs_of(workspace: Workspace, project: str | None = None) -> list[RunFolder]:
    """Runs, newest first; of one project or of all."""
    projects = [workspace.project(project)] if project else _folders(workspace.runs)
    found = [RunFolder(folder) for each in projects for folder in _folders(each) if (folder / "config.json").is_file()]
    return sorted(found, key=lambda run: (run.run_id, run.project), reverse=True)


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def find(workspace: Workspace, selector: str | None = None, project: str | None = None) -> RunFolder:
    """The run a person means.

    Args:
        selector: a run id, the start of one, `project/run id`, or a path; None for the newest.

    Raises:
        MissingArtifact: there is none.
        BadInput: several fit.
    """
    if selector and (Path(selector) / "config.json").is_file():
        return _at(workspace, Path(selector))
    found = runs_of(workspace, project)
    if selector:
        found = [run for run in found if run.run_id.startswith(selector) or f"{run.project}/{run.run_id}".startswith(selector)]
    if not found:
        what = f"no run {selector!r}" if selector else "no run yet"
        raise MissingArtifact(f"{what} below {workspace.runs}", "humigence runs lists them; humigence pipeline --train makes one")
    exact = [run for run in found if selector in (run.run_id, f"{run.project}/{run.run_id}")]
    if selector and len(exact) != 1 and len(found) > 1:
        names = ", ".join(f"{run.project}/{run.run_id}" for run in found[:5])
        raise BadInput(f"{selector!r} fits {len(found)} runs: {names}", "give more of the name")
    return (exact or found)[0]


def _at(workspace: Workspace, path: Path) -> RunFolder:
    """The run in a folder; by its name in the workspace where it is one of its runs, whatever links the path goes through."""
    name = path.resolve().name
    same = (run for run in runs_of(workspace) if run.run_id == name and run.path.samefile(path))
    return next(same, RunFolder(Path(os.path.abspath(path))))


# -------------------------------------------------------------------------------------------------- the log


class EventWriter:
    """Appends events to a run's log. One at a time: whoever holds the run's lock."""

    def __init__(self, run: RunFolder) -> None:
        self._fd = _opened_log(run.events)
        _drop_torn_line(self._fd)
        self.seq, last_attempt = _last_numbers(self._fd)
        self.attempt = last_attempt + 1
        self._redact = redactor()

    def is_alone(self) -> bool:
        """Whether no other process writes this log; if so, none will that asks, as long as this writer is open.

        The run's lock is a file of its own, and somebody may have deleted that for a stale one. The log nobody deletes.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without such locks: the run's own lock has to do
            return True
        return True

    def emit(self, event: Event) -> None:
        """Write one event; on disk when this returns, unless a power cut may lose it without harm."""
        # Counted first: a signal handler may raise once the line is written, and no number may be used twice.
        self.seq += 1
        line = to_line(Envelope(self.seq, time.time(), self.attempt, event))
        if not isinstance(event, TrainStep):  # numbers alone, and by the thousand
            line = self._redact(line)
        data = (line + "\n").encode("utf-8", "backslashreplace")  # lone surrogates of file names, as JSON spells them
        try:
            _write_all(self._fd, data)
        except BaseException as error:
            _drop_torn_line(self._fd)  # a full disk takes a part of a line
            if isinstance(error, OSError):
                self.seq -= 1
            raise
        if not isinstance(event, _NOT_FLUSHED):
            os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _opened_log(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    fsync_folder(path.parent)
    return fd


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _drop_torn_line(fd: int) -> None:
    """Cut off a last line without its newline: its writer died, the event never happened."""
    size = os.fstat(fd).st_size
    position = size
    while position > 0:
        start = max(0, position - _TAIL_BYTES)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != size:
        os.ftruncate(fd, position)


def _last_numbers(fd: int) -> tuple[int, int]:
    """(seq, attempt) of the newest event in a log that ends with a whole line, of a kind this version knows or not."""
    return next(filter(None, map(_numbers, _lines_backwards(fd))), (0, 0))


def _lines_backwards(fd: int) -> Iterator[bytes]:
    """The lines of a log, the last one first. One that no writer of ours can have made comes as what is left of it."""
    end, rest = os.fstat(fd).st_size, b""
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        first, *others = os.pread(fd, end - start, start).split(b"\n")
        if others:
            others[-1] += rest
            yield from reversed(others)
            rest = b""
        rest = first + rest if len(rest) < _LONGEST_LINE_BACKWARDS else rest
        end = start
    yield rest


def newest_seq(run: RunFolder) -> int:
    """The number of the newest event in the run's log; 0 before the first."""
    try:
        fd = os.open(run.events, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return _last_numbers(fd)[0]
    finally:
        os.close(fd)


def _numbers(line: bytes) -> tuple[int, int] | None:
    try:
        document = json.loads(line)
        return int(document["seq"]), int(document["attempt"])
    except (ValueError, KeyError, TypeError):
        return None


class EventReader:
    """Reads a run's log as it grows. Keeps its place (`offset`, in bytes), so each call returns only what is new."""

    def __init__(self, run: RunFolder, offset: int = 0) -> None:
        self._path = run.events
        self.offset = offset

    def read(self, most_bytes: int = _PIECE_BYTES) -> list[Envelope]:
        """The next whole events, at most about `most_bytes` of them; a last line still being written waits for the next call."""
        return [envelope for envelope in map(readable, self.read_lines(most_bytes)) if envelope]

    def read_lines(self, most_bytes: int = _PIECE_BYTES) -> list[bytes]:
        """The same as lines that are not read yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(most_bytes)
                if len(data) == most_bytes and b"\n" not in data:
                    data += file.readline(_LONGEST_LINE)
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) >= _LONGEST_LINE:
            whole = len(data)  # no event: what follows up to its end is passed over as damaged
        self.offset += whole
        return [line for line in data[:whole].split(b"\n") if line]


def read_state(run: RunFolder) -> RunState:
    """The fold of the whole log."""
    reader, state = EventReader(run), RunState()
    while lines := reader.read_lines():
        fold_lines(lines, state)
    return state


def follow(run: RunFolder, every_s: float = 0.2) -> Iterator[list[Envelope]]:
    """Batches of new events until the run ends or its process is gone; an empty batch when nothing is new.

    The last batch may be empty: the caller then asks `status_of`.
    """
    reader = EventReader(run)
    while True:
        alive = is_alive(run)  # before reading: what a process wrote before it ended is then always read
        batch = reader.read()
        yield batch
        if not batch and not alive:
            return
        if not batch:
            time.sleep(every_s)


# ------------------------------------------------------------------------------------------ alive, stop, status


def is_alive(run: RunFolder) -> bool:
    """Whether a process holds the run's lock."""
    return locks.holder(run.lock) is not None


def status_of(run: RunFolder, state: RunState) -> Status:
    """The fold's status, or `crashed` when the run says it is on and no process holds its lock."""
    if state.status in ("starting", "running") and not is_alive(run):
        return "crashed"
    return state.status


def request_stop(run: RunFolder, mode: StopMode) -> None:
    """Ask the run to stop; it answers with a `StopAcknowledged` event at the end of the optimizer step.

    Where the request can't be left in the folder, its process is told by signals.
    """
    try:
        write_atomic(run.stop_request, mode + "\n")
    except OSError:
        pid = locks.holder(run.lock)
        if pid in (None, os.getpid()):
            raise
        # The first saves, the second aborts; two of the same kind could become one.
        for number in (signal.SIGTERM, signal.SIGINT)[: 2 if mode == "abort" else 1]:
            os.kill(pid, number)


def stop_requested(run: RunFolder) -> StopMode | None:
    """What was asked for, if anything."""
    try:
        text = run.stop_request.read_text().strip()
    except FileNotFoundError:
        return None
    return "abort" if text == "abort" else "save"


def clear_stop_request(run: RunFolder) -> None:
    """A new attempt starts with no request pending."""
    run.stop_request.unlink(missing_ok=True)


def summary(run: RunFolder) -> dict[str, Any]:
    """One row of `humigence runs --json`. Times are ISO 8601; absent values are None."""
    state = read_state(run)
    return {
        "project": run.project,
        "run_id": run.run_id,
        "state": status_of(run, state),
        "path": str(run.path),
        "started": _iso(state.started),
        "finished": _iso(state.ended),
        "model": state.model,
        "precision_mode": state.precision_mode,
        "step": state.step,
        "steps": state.total_steps,
        "train_loss": state.train_loss,
        "val_loss": state.val_loss,
        "exit_code": state.exit_code,
        "gates": {gate.gate: gate.verdict for gate in state.gates},
        "disk_bytes": disk_bytes(run.path),
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def read_report(path: Path) -> Any | None:
    """A report in a run folder, or None when its step has not run."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
