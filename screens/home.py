"""Home: the runs of all projects, and what to begin."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from screens.base import Page


class HomeScreen(Page):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new_run", "new run"),
        Binding("d", "doctor", "doctor"),
    ]

    def body(self) -> ComposeResult:
        yield Static("")

    def action_new_run(self) -> None:
        self.open("wizard")

    def action_doctor(self) -> None:
        self.open("doctor")
