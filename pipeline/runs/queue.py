"""The queue of a workspace: which runs wait, in which order, and what became of those that ran. One file, changed under a lock.

`runs/.queue/queue.json` holds each run's whole config as it was when it was queued: a later edit of a config file changes
nothing. Whoever changes the file holds `.edit.lock` for that moment; whoever starts the runs holds `.runner.lock`, one in a
workspace. The file appears under its name whole, so reading needs no lock.
"""

from __future__ import annotations

import dataclasses
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.common.files import make_folder, read_json, write_json
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import locks

if TYPE_CHECKING:  # pydantic is a fifth of a second, and a look at the queue needs none of it
    from pipeline.config.schema import Config

State = Literal["waiting", "starting", "running", "ended"]
Outcome = Literal["", "finished", "gates failed", "stopped", "failed", "crashed"]
_NOT_THERE = "humigence queue list shows the numbers"


@dataclass(frozen=True)
class Queued:
    """A run of the queue.

    Attributes:
        number: what a person calls it by; never given twice.
        key: what its run folder knows it by (`Request.queued`), so that it is never started twice.
        config: the whole config, as JSON.
        source: the file it was read from.
        differs: (dotted key, value as typed) of what its sweep varies.
        sweep: number of the first run that was queued together with it.
        state: "starting" from the decision until its worker is known to be up.
        device: UUID of its GPU or "cpu", while it is on; "" where none was chosen.
        run: its folder, "PROJECT/RUN ID".
        waits_for: why it has not been started at the newest look.
        resumed_after: the attempt whose process died and that was gone on with; 0 while there is none.
        message: what a person should know of its end.
    """

    number: int
    key: str
    config: dict[str, Any]
    source: str
    added: float
    differs: tuple[tuple[str, str], ...] = ()
    sweep: int = 0
    state: State = "waiting"
    device: str = ""
    run: str = ""
    waits_for: str = ""
    began: float | None = None
    ended: float | None = None
    outcome: Outcome = ""
    exit_code: int | None = None
    resumed_after: int = 0
    message: str = ""

    @property
    def project(self) -> str:
        return str(self.config["project"])

    @property
    def is_on(self) -> bool:
        return self.state in ("starting", "running")

    def folder(self, workspace: Workspace) -> RunFolder | None:
        """Its run, once there is one."""
        return RunFolder(workspace.runs / self.run) if self.run else None

    def load_config(self) -> Config:
        """The config as it was queued.

        Raises:
            BadInput: this version takes it no more.
        """
        from pipeline.config.file import parse

        return parse(self.config, f"queued run {self.number}")


@dataclass(frozen=True)
class New:
    """What is to be queued: config as JSON, and what it differs in from those queued with it."""

    config: dict[str, Any]
    source: str
    differs: tuple[tuple[str, str], ...] = ()


class Queue:
    """The queue of `workspace`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.folder = workspace.runs / ".queue"  # no project begins with a dot
        self.file = self.folder / "queue.json"
        self.log = self.folder / "runner.log"
        self.runner_lock = self.folder / ".runner.lock"
        self._edit_lock = self.folder / ".edit.lock"
        self._stop = self.folder / "stop"

    # ------------------------------------------------------------------------------------------------- reading

    def read(self) -> tuple[Queued, ...]:
        """All of it, in order.

        Raises:
            BadInput: the file is damaged.
        """
        return self._document()[1]

    def stamp(self) -> tuple[int, int]:
        """Changes with the file; (0, 0) where there is none."""
        try:
            found = self.file.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    def runner(self) -> int | None:
        """The process that starts the runs, or None."""
        return locks.holder(self.runner_lock)

    def _document(self) -> tuple[int, tuple[Queued, ...]]:
        """The next number, and the runs."""
        try:
            document = read_json(self.file)
            return int(document["next"]), tuple(_queued(each) for each in document["runs"])
        except FileNotFoundError:
            return 1, ()
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{self.file}: this is no queue ({error})", "move it away: the runs that it started are in humigence runs"
            ) from error

    # ------------------------------------------------------------------------------------------------ changing

    def _change(self, change: Callable[[list[Queued]], Sequence[Queued]]) -> tuple[Queued, ...]:
        """Replace the runs by what `change` makes of them, nobody else changing them meanwhile."""
        with self._held():
            following, before = self._document()
            after = tuple(change(list(before)))
            following = max([following, *(each.number + 1 for each in after)])
            if after != before:
                write_json(self.file, {"next": following, "runs": [_as_json(each) for each in after]})
        return after

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Nobody else changes the queue, or begins to run it."""
        self.make_folder()
        lock = locks.wait_lock(self._edit_lock, every_s=0.01)
        assert lock is not None
        with lock:
            yield

    def make_folder(self) -> None:
        """The folder of the queue, readable by its owner only."""
        if not self.folder.is_dir():
            make_folder(self.folder)
            self.folder.chmod(0o700)  # as a run's folder: its owner's only

    def add(self, new: Sequence[New]) -> tuple[Queued, ...]:
        """Put runs at the end, together one sweep; gives them with their numbers."""
        added: list[Queued] = []

        def change(runs: list[Queued]) -> list[Queued]:
            first = max([self._document()[0], *(each.number + 1 for each in runs)])
            now = time.time()
            added.extend(
                Queued(first + place, uuid.uuid4().hex, each.config, each.source, now, each.differs, sweep=first)
                for place, each in enumerate(new)
            )
            return [*runs, *added]

        self._change(change)
        return tuple(added)

    def update(self, number: int, **changes: Any) -> Queued:
        """Change what is known of one run.

        Raises:
            BadInput: it is gone.
        """
        found: list[Queued] = []

        def change(runs: list[Queued]) -> list[Queued]:
            found.append(dataclasses.replace(_numbered(runs, number), **changes))
            return [found[0] if each.number == number else each for each in runs]

        self._change(change)
        return found[0]

    def claim(self, number: int, **changes: Any) -> Queued | None:
        """`update` of a run that waits, with state "starting"; None where it was removed, or waits no more."""
        taken: list[Queued] = []

        def change(runs: list[Queued]) -> list[Queued]:
            for each in runs:
                if each.number == number and each.state == "waiting":
                    taken.append(dataclasses.replace(each, state="starting", waits_for="", **changes))
            return [taken[0] if taken and each.number == number else each for each in runs]

        self._change(change)
        return taken[0] if taken else None

    def remove(self, numbers: Sequence[int]) -> tuple[Queued, ...]:
        """Take runs out of the list; all or none. What a run has made stays where it is. Gives those removed.

        Raises:
            BadInput: one is not there, or is on.
        """
        removed: list[Queued] = []

        def change(runs: list[Queued]) -> list[Queued]:
            removed.extend(_numbered(runs, number) for number in dict.fromkeys(numbers))
            for each in removed:
                if each.is_on:
                    raise BadInput(f"queued run {each.number} is on: it is not removed", stop_command(each))
            return [each for each in runs if each not in removed]

        self._change(change)
        return tuple(removed)

    def remove_ended(self) -> tuple[Queued, ...]:
        """Take those out whose run has ended; gives them."""
        removed: list[Queued] = []

        def change(runs: list[Queued]) -> list[Queued]:
            removed.extend(each for each in runs if each.state == "ended")
            return [each for each in runs if each.state != "ended"]

        self._change(change)
        return tuple(removed)

    def move(self, number: int, place: int) -> tuple[Queued, ...]:
        """Give a waiting run another place among those that wait, 1 being the next to start; gives the waiting ones in order.

        Raises:
            BadInput: it is not there, or does not wait.
        """

        def change(runs: list[Queued]) -> list[Queued]:
            moved = _numbered(runs, number)
            if moved.state != "waiting":
                raise BadInput(f"queued run {number} does not wait: it has no place to change", _NOT_THERE)
            waiting = [each for each in runs if each.state == "waiting" and each.number != number]
            waiting.insert(max(0, place - 1), moved)
            return [each for each in runs if each.state != "waiting"] + waiting

        return tuple(each for each in self._change(change) if each.state == "waiting")

    # ------------------------------------------------------------------------------------------ asking the runner

    def request_stop(self) -> None:
        """Ask the process that starts the runs to end; runs that are on go on.

        Raises:
            BadInput: there is none.
        """
        if self.runner() is None:
            raise BadInput("the queue is not running", "humigence queue run --train starts it")
        write_json(self._stop, {"asked": time.time()})

    def stop_requested(self) -> bool:
        return self._stop.exists()

    def take(self) -> locks.FileLock:
        """The right to start its runs, with a log of its own; the log before is kept as `runner.log.before`.

        Raises:
            EnvironmentFault: another process has it.
        """
        with self._held():
            lock = locks.try_lock(self.runner_lock)
            if lock is None:
                raise EnvironmentFault(
                    f"the queue is running already (process {self.runner() or '?'})", "humigence queue list shows it"
                )
            self._stop.unlink(missing_ok=True)
            if self.log.exists():
                os.replace(self.log, self.log.with_name(self.log.name + ".before"))
            self.log.touch(0o600)
            return lock

    def current_log(self) -> Path:
        """The log of the process that runs it now, else of the one that ran it last."""
        with self._held():
            return self.log


def waiting(runs: Sequence[Queued]) -> list[Queued]:
    return [each for each in runs if each.state == "waiting"]


def stop_command(queued: Queued) -> str:
    """What ends a run that is on."""
    return f"humigence runs stop {queued.run} ends it" if queued.run else "wait until it has started"


def newest_sweep(runs: Sequence[Queued]) -> list[Queued]:
    """The runs that were queued together last."""
    newest = max((each.sweep for each in runs), default=0)
    return [each for each in runs if each.sweep == newest]


def numbered(runs: Sequence[Queued], numbers: Sequence[int]) -> list[Queued]:
    """Those of these numbers, each once.

    Raises:
        BadInput: one is not there.
    """
    return [_numbered(runs, number) for number in dict.fromkeys(numbers)]


def _numbered(runs: Sequence[Queued], number: int) -> Queued:
    found = next((each for each in runs if each.number == number), None)
    if found is None:
        raise BadInput(f"there is no queued run {number}", _NOT_THERE)
    return found


def _as_json(queued: Queued) -> dict[str, Any]:
    return dataclasses.asdict(queued)


def _queued(document: dict[str, Any]) -> Queued:
    """Fields of a later version are left aside."""
    known = {field.name for field in dataclasses.fields(Queued)}
    values = {name: value for name, value in document.items() if name in known}
    return Queued(**{**values, "differs": tuple((key, value) for key, value in document.get("differs", ()))})
