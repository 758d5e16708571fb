"""The full-screen app: opens screens by name, owns the background threads, and turns what screens ask for into actions.

Nothing heavier than Textual is imported before the first screen is drawn; torch and its friends never are (`--in-process` aside).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.console import RenderableType
from textual import on
from textual._compositor import CompositorUpdate
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from humigence_tui.background.gc_freeze import keep_for_good
from humigence_tui.background.run_endings import Endings, ending_text, terminal_notification
from humigence_tui.terminal.diff_painter import Painter
from humigence_tui.terminal.last_resort import LastResort
from humigence_tui.terminal.safe_lines import SafeLines
from humigence_tui.terminal.tty import Tty, TtyDriver
from pipeline.common.text import safe
from pipeline.runs.folders import RunFolder, Workspace
from screens.frame import messages, registry, themes
from screens.frame import page as base
from screens.frame.page import Page

if TYPE_CHECKING:
    from humigence_tui.background.threads import Threads
    from humigence_tui.background.trainer import InProcessTrainer
    from pipeline.config.schema import Config
    from pipeline.runs.events import StopMode
    from pipeline.runs.request import Request
    from screens.frame.machine_snapshot import Machine
    from screens.frame.run_snapshot import RunRow, Snapshot

STYLES = Path(base.__file__).with_name("page.tcss")


class HumigenceApp(App[None]):
    """
    Args:
        workspace: the folder whose runs are shown.
        first: the name of the screen to begin with, on top of home.
        arguments: what that screen's class takes.
        in_process: train inside this process instead of in one of its own.
        tty: the terminal, when the app has one of its own (see `humigence_tui.terminal.tty`).
    """

    TITLE = "humigence"
    # Home's among them: of the lowest screen Textual does not load the styles itself.
    CSS_PATH = [STYLES, STYLES.parents[1] / "home" / "home.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave", "quit", show=False, priority=True),
        Binding("ctrl+t", "next_theme", "dark, light, 16 colours", show=False),
        Binding("ctrl+l", "redraw", "draw the screen again", show=False),
    ]

    def __init__(
        self, workspace: Workspace, first: str = "home", arguments: dict[str, Any] | None = None, *, in_process: bool = False,
        tty: Tty | None = None,
    ) -> None:  # fmt: skip
        super().__init__(driver_class=TtyDriver if tty else None)
        self.tty = tty
        self.last_resort = LastResort(self._trains_here, tty.restore if tty else lambda: None)
        self._painter = Painter()
        self.trainer: InProcessTrainer | None = None
        self.workspace = workspace
        self.in_process = in_process
        self.threads: Threads | None = None
        self._safe_lines = SafeLines()
        self._first, self._arguments = first, arguments or {}
        self.way_out = False  # whether leaving the first page ends the app: a command opened it for that page
        self._first_page: Screen[Any] | None = None
        self._rows: tuple[RunRow, ...] | None = None  # None until the list has been read
        self._machine: Machine | None = None
        self._followed: tuple[RunFolder, ...] = ()
        self._snapshots: dict[RunFolder, Snapshot] = {}  # the newest of each run followed
        self._has_drawn_curves = False
        self._endings = Endings()
        for theme in (*themes.THEMES, themes.NO_COLOR):
            self.register_theme(theme)
        self.theme = themes.NO_COLOR.name if self.no_color else themes.suited(self.console.color_system)

    def get_default_screen(self) -> Screen[None]:
        return registry.load("home")()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Every line of every widget passes these on its way to the terminal."""
        if self.no_color:
            from humigence_tui.terminal.no_color import AttributesOnly

            # Textual's own filter would make greys of the colours, which are colours still.
            return [AttributesOnly(), self._safe_lines]
        return [*super().get_line_filters(), self._safe_lines]

    def on_mount(self) -> None:
        if self.tty:
            self._outlive(self.tty)
        if self._first != "home":
            self._first_page = self.open(self._first, **self._arguments)
        self.call_after_refresh(self._start_threads)

    def on_unmount(self) -> None:
        if self.threads:
            self.threads.close()

    def _outlive(self, tty: Tty) -> None:
        """End in good order when the terminal vanishes; a run has its own process and goes on."""
        loop = asyncio.get_running_loop()

        def end(*_: object) -> None:
            self.last_resort.ask()  # the loop may be busy for ever
            with suppress(RuntimeError):  # it may have ended
                loop.call_soon_threadsafe(self.exit)

        tty.on_gone = end
        signal.signal(signal.SIGHUP, lambda *_: tty.lost())
        signal.signal(signal.SIGTERM, end)

    def _trains_here(self) -> bool:
        return self.trainer is not None and self.trainer.is_alive()

    def exit(self, *arguments: Any, **named: Any) -> None:
        if self.tty:
            self.last_resort.ask()
        super().exit(*arguments, **named)

    def _start_threads(self) -> None:
        """Once the first screen is drawn: what they import must not keep it waiting."""
        from humigence_tui.background.threads import Threads

        self.threads = Threads(self.workspace, self.post_message)
        self.threads.start()
        if self._followed:
            self.threads.follower.follow(*self._followed)
        self._keep_what_is_loaded()

    def _keep_what_is_loaded(self) -> None:
        if self.tty and len(self.screen_stack) == 1:  # home is never closed
            keep_for_good()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        # Here everything that Textual draws passes on its way to the terminal.
        if isinstance(renderable, CompositorUpdate):
            renderable = self._painter.changes(renderable, *self.size)
        super()._display(screen, renderable)

    # ------------------------------------------------------------------------------------------------- screens

    @property
    def pages(self) -> list[Page]:
        """The screens that are seen and can take news; none once the app is being taken down.

        A covered screen gets its news when it is uncovered. Textual would draw the one on top anew for each change below it.
        """
        if not self.is_running:
            return []
        found: list[Page] = []
        for screen in reversed(self.screen_stack):
            if isinstance(screen, Page) and screen.ready:
                found.append(screen)
            if not screen.is_modal:
                break
        return found

    def open(self, name: str, **arguments: Any) -> Screen[Any]:
        """Open a screen on top of this one; home is always the lowest."""
        if name == "home":
            while len(self.screen_stack) > 1:
                self.pop_screen()
            return self.screen
        is_new = not registry.is_loaded(name)
        screen = registry.load(name)(**arguments)
        if is_new:
            self._keep_what_is_loaded()
        self.push_screen(screen)
        return screen

    def go_back(self) -> None:
        """Close the page on top; where a command opened the app for it, that is the way out."""
        if self.way_out and self.screen is self._first_page:
            self.exit()
        else:
            self.pop_screen()

    @on(messages.Ready)
    def _send_known_state(self, message: messages.Ready) -> None:
        if message.page not in self.pages:  # gone, or covered again, before its message came
            return
        if self._rows is not None:
            message.page.take_runs(self._rows)
        if self._machine is not None:
            message.page.take_machine(self._machine)
        # Of a run that has ended there is no other one to come.
        for snapshot in self._snapshots.values():
            message.page.take_snapshot(snapshot)

    @on(messages.Open)
    def _open(self, message: messages.Open) -> None:
        self.open(message.name, **message.arguments)

    # ---------------------------------------------------------------------------------------------------- runs

    @on(messages.Follow)
    def _follow(self, message: messages.Follow) -> None:
        self._followed = message.runs
        self._snapshots = {run: known for run, known in self._snapshots.items() if run in message.runs}
        if self.threads:
            self.threads.follower.follow(*message.runs)

    @on(messages.StopRun)
    def _stop_run(self, message: messages.StopRun) -> None:
        from pipeline.runs.control import request_stop

        request_stop(message.run, message.mode)

    @on(messages.StartRun)
    def _start_run(self, message: messages.StartRun) -> None:
        self._launch(lambda: message.config, message.request)

    @on(messages.ResumeRun)
    def _resume_run(self, message: messages.ResumeRun) -> None:
        from pipeline.runs.request import Request

        self._launch(message.run.load_config, Request(train=True, resume=True, run=str(message.run.path)))

    def _launch(self, config: Callable[[], Config], request: Request) -> None:
        """In a worker process, or with `--in-process` in a thread; either way the screen goes on."""
        if self.in_process:
            from humigence_tui.background.trainer import InProcessTrainer

            if self.trainer is not None and self.trainer.is_alive():
                self.notify("A run is on in this process: one at a time.", severity="warning", markup=False)
                return
            self.trainer = InProcessTrainer(self.workspace, config(), request, self.post_message)
            self.trainer.start()
        elif self.threads:
            self.threads.follower.launch(lambda: _started(self.workspace, config(), request))

    @on(messages.RunQueue)
    def _run_queue(self) -> None:
        self.run_worker(self._launch_queue, thread=True, group="queue")

    def _launch_queue(self) -> None:
        """In a thread: the process takes a second to come."""
        from pipeline.common.errors import HumigenceError
        from pipeline.runner import queue_process

        try:
            queue_process.spawn(self.workspace)
        except HumigenceError as error:
            self.post_message(messages.RunRefused(error))

    @on(messages.RunStarted)
    def _run_started(self, message: messages.RunStarted) -> None:
        here = self.screen
        if getattr(here, "run_folder", None) == message.run:
            self.post_message(messages.Follow(message.run))
        else:
            while isinstance(self.screen, Page) and self.screen.leads_to_a_run:
                self.pop_screen()  # Esc from the run leads to the runs, not into the form it was made with
            self.open("run", run=message.run)
        if message.standing:
            self.notify("Nothing has changed since this run: its results stand.", markup=False)
        if self.threads:
            self.threads.run_list.wake()

    @on(messages.RunRefused)
    def _run_refused(self, message: messages.RunRefused) -> None:
        title, hint = safe(message.error.message, lines=True), safe(message.error.hint, lines=True)
        self.notify(hint, title=title, severity="error", timeout=15, markup=False)

    # ---------------------------------------------------------------------------------------------------- news

    @on(messages.SnapshotNews)
    def _snapshot_news(self, message: messages.SnapshotNews) -> None:
        if not self._has_drawn_curves:
            self._has_drawn_curves = True
            self.call_after_refresh(self._keep_what_is_loaded)  # home has loaded what draws them
        self._snapshots[message.snapshot.run] = message.snapshot
        for page in self.pages:
            page.take_snapshot(message.snapshot)

    @on(messages.RunsNews)
    def _runs_news(self, message: messages.RunsNews) -> None:
        self._rows = message.rows
        for page in self.pages:
            page.take_runs(message.rows)
        for row in self._endings.among(message.rows):
            self._notify_ended(row)

    def _notify_ended(self, row: RunRow) -> None:
        """By a bell, by the terminal where it can, and as a notice where the run is not what is looked at."""
        text, good = ending_text(row)
        self.bell()
        if self._driver and not self.is_headless:
            self._driver.write(terminal_notification(text))
        if not self.screen_stack:
            return  # news that came while the app was ending
        if getattr(self.screen, "run_folder", None) != row.run:
            self.notify(text, severity="information" if good else "warning", timeout=10, markup=False)

    @on(messages.MachineNews)
    def _machine_news(self, message: messages.MachineNews) -> None:
        self._machine = message.machine
        for page in self.pages:
            page.take_machine(message.machine)

    # ---------------------------------------------------------------------------------------------------- actions

    def action_next_theme(self) -> None:
        if self.no_color:
            self.notify("NO_COLOR is set: the app has one look.", timeout=3)
            return
        order = [theme.name for theme in themes.THEMES]
        self.theme = order[(order.index(self.theme) + 1) % len(order)] if self.theme in order else order[0]

    def action_redraw(self) -> None:
        """After something else has written to the terminal."""
        self._painter.forget()
        self.screen.refresh(layout=True)

    def action_leave(self) -> None:
        """Leave; with a run on, ask what is to become of it."""
        live = [row for row in self._rows or () if row.live and row.still_alive()]
        if not live:
            self.exit()
            return
        from screens.frame.question import Question
        from screens.frame.quitting import question_when_leaving

        if not isinstance(self.screen, Question):
            self.push_screen(question_when_leaving(live), lambda chosen: self._leave(live, chosen))

    def _leave(self, live: list[RunRow], chosen: str | None) -> None:
        if chosen == "save" or chosen == "abort":
            for row in live:
                self.post_message(messages.StopRun(row.run, cast("StopMode", chosen)))
        if chosen in ("save", "abort", "leave"):
            self.call_later(self.exit)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        for name in registry.IN_PALETTE:
            yield SystemCommand(name, f"Open {name}", lambda name=name: self.open(name))
        yield SystemCommand("theme", "Dark, light, or the terminal's sixteen colours", self.action_next_theme)
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.description and active.node is screen:
                yield SystemCommand(
                    binding.description, active.tooltip, lambda action=binding.action: self.call_later(screen.run_action, action)
                )
        yield SystemCommand("quit", "Leave the app; a run goes on unless you say otherwise", self.action_leave)


def _started(workspace: Workspace, config: Config, request: Request) -> tuple[RunFolder, bool]:
    from pipeline.runner import launch

    started = launch.start(workspace, config, request)
    return started.run, started.standing
