"""The messages that screens and the app post to each other.

Their values are frozen: they cross from the worker thread to the widgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from textual.message import Message

if TYPE_CHECKING:
    from pipeline.common.errors import HumigenceError
    from pipeline.config.schema import Config
    from pipeline.runs.events import StopMode
    from pipeline.runs.folders import RunFolder
    from pipeline.runs.request import Request
    from screens.frame.machine_snapshot import Machine
    from screens.frame.run_snapshot import RunRow, Snapshot


# ------------------------------------------------------------------------------------------ a screen asks the app


class Open(Message):
    """Open a screen by its name (`screens.frame.registry`) with the arguments its class takes."""

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__()
        self.name = name
        self.arguments = arguments


class Listener(Protocol):
    """What hears of news: a screen."""

    def take_runs(self, rows: tuple[RunRow, ...]) -> None: ...

    def take_machine(self, machine: Machine) -> None: ...

    def take_snapshot(self, snapshot: Snapshot) -> None: ...


class Ready(Message):
    """A screen has its widgets and wants to hear what is known already."""

    def __init__(self, page: Listener) -> None:
        super().__init__()
        self.page = page


class Follow(Message):
    """Follow these runs instead of those followed now: their snapshots come as `SnapshotNews`."""

    def __init__(self, *runs: RunFolder) -> None:
        super().__init__()
        self.runs = runs


class StartRun(Message):
    """Start a run; the app opens the run screen when its worker is up, or says why it is not."""

    def __init__(self, config: Config, request: Request) -> None:
        super().__init__()
        self.config = config
        self.request = request


class ResumeRun(Message):
    """Go on with a run from its newest checkpoint."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self.run = run


class RunQueue(Message):
    """Start the process that starts the queued runs."""


class StopRun(Message):
    """Ask a live run to stop."""

    def __init__(self, run: RunFolder, mode: StopMode) -> None:
        super().__init__()
        self.run = run
        self.mode = mode


# -------------------------------------------------------------------------------------- posted by the app's threads


class SnapshotNews(Message):
    """What a followed run looks like now."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class RunsNews(Message):
    """The list of runs has changed. Newest first, live ones on top."""

    def __init__(self, rows: tuple[RunRow, ...]) -> None:
        super().__init__()
        self.rows = rows


class MachineNews(Message):
    """GPUs, CPU and memory now, with their last minutes."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine


class RunStarted(Message):
    """A run asked for is on, or (`standing`) nothing has changed since it finished."""

    def __init__(self, run: RunFolder, standing: bool) -> None:
        super().__init__()
        self.run = run
        self.standing = standing


class RunRefused(Message):
    """A run could not be started."""

    def __init__(self, error: HumigenceError) -> None:
        super().__init__()
        self.error = error
