"""The full-screen app: opens screens by name, owns the background threads, and turns what screens ask for into actions.

Nothing heavier than Textual is imported before the first screen is drawn; torch and its friends never are (`--in-process` aside).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from pipeline.runs import Workspace
from screens import base, messages, names, themes
from screens.base import Page

STYLES = Path(base.__file__).with_name("base.tcss")


class HumigenceApp(App[None]):
    """
    Args:
        workspace: the folder whose runs are shown.
        first: the name of the screen to begin with, on top of home.
        arguments: what that screen's class takes.
        in_process: train inside this process instead of in one of its own.
    """

    TITLE = "humigence"
    CSS_PATH = STYLES
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "quit", show=False, priority=True),
        Binding("ctrl+t", "next_theme", "dark, light, 16 colours", show=False),
    ]

    def __init__(
        self, workspace: Workspace, first: str = "home", arguments: dict[str, Any] | None = None, *, in_process: bool = False
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.in_process = in_process
        self._first, self._arguments = first, arguments or {}
        for theme in themes.THEMES:
            self.register_theme(theme)
        self.theme = themes.suited(self.console.color_system)

    def get_default_screen(self) -> Screen[None]:
        return names.load("home")()

    def on_mount(self) -> None:
        if self._first != "home":
            self.open(self._first, **self._arguments)
        self.call_after_refresh(self._start_background)

    def open(self, name: str, **arguments: Any) -> None:
        """Open a screen on top of this one; home is always the lowest."""
        if name == "home":
            while len(self.screen_stack) > 1:
                self.pop_screen()
            return
        self.push_screen(names.load(name)(**arguments))

    # -------------------------------------------------------------------------------------- the background threads

    def _start_background(self) -> None:
        """Threads are started once the first screen is drawn."""

    @property
    def pages(self) -> list[Page]:
        """The screens on the stack that take news."""
        return [screen for screen in self.screen_stack if isinstance(screen, Page)]

    @on(messages.Open)
    def _open(self, message: messages.Open) -> None:
        self.open(message.name, **message.arguments)

    # ---------------------------------------------------------------------------------------------------- actions

    def action_next_theme(self) -> None:
        order = [theme.name for theme in themes.THEMES]
        self.theme = order[(order.index(self.theme) + 1) % len(order)] if self.theme in order else order[0]

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        for name in names.NAMES:
            if name in ("home", "wizard", "doctor") and names.exists(name):
                yield SystemCommand(name, f"Open {name}", lambda name=name: self.open(name))
        yield SystemCommand("theme", "Dark, light, or the terminal's sixteen colours", self.action_next_theme)
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.description and active.node is screen:
                yield SystemCommand(
                    binding.description, active.tooltip, lambda action=binding.action: self._run_on(screen, action)
                )
        yield SystemCommand("quit", "Leave the app; a live run goes on if you say so", self.action_quit)

    def _run_on(self, screen: Screen[Any], action: str) -> None:
        self.call_later(screen.run_action, action)
