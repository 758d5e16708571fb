"""What can be copied from a screen, in a list to choose from. It goes through the terminal (OSC 52), so over SSH too."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from pipeline.common.text import safe
from pipeline.runs.folders import RunFolder
from screens.widgets.choices import Choices, Option

_SHOWN = 60  # cells of each text, as a taste of it


class Copyable(NamedTuple):
    """A text a person may want elsewhere: a command, a path, an answer, the text of an error."""

    name: str
    text: str


class CopyScreen(ModalScreen[Copyable]):
    """Ends with what was chosen, or with None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,Y", "give_up", "close", show=False)]

    def __init__(self, copyables: Sequence[Copyable]) -> None:
        super().__init__()
        self._copyables = tuple(copyables)

    def compose(self) -> ComposeResult:
        options = [Option(number, each.name, taste(each.text)) for number, each in enumerate(self._copyables)]
        with Vertical(id="box"):
            yield Static("Copy to the clipboard", classes="title")
            yield Choices(options, None)

    def on_mount(self) -> None:
        self.query_one(Choices).focus()

    @on(Choices.Changed)
    def _chosen(self, event: Choices.Changed) -> None:
        self.dismiss(self._copyables[event.value])

    def action_give_up(self) -> None:
        """Copy nothing."""
        self.dismiss(None)


def taste(text: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(safe(text, lines=True).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def of_run(run: RunFolder) -> list[Copyable]:
    """Where a run is, and the command that shows it in a shell."""
    return [Copyable("folder", str(run.path)), Copyable("command", f"humigence runs show {shell_name(run)}")]


def shell_name(run: RunFolder) -> str:
    """A run as commands take it."""
    return shlex.quote(f"{run.project}/{run.run_id}")
