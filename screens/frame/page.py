"""The frame all screens share: where I am and in what state, a thin rule, the screen itself, a thin rule, the keys.

A screen is a `Page`: it names its `trail`, composes its `body` and declares `BINDINGS`. It asks the app for things with
messages (`screens.frame.messages`), and gets news by `take_snapshot`, `take_runs` and `take_machine`. It is opened by name
(`screens.frame.registry`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import var
from textual.screen import Screen

from pipeline.common.text import safe
from screens.frame.key_line import KeyLine
from screens.frame.messages import Open, Ready
from screens.frame.top_line import TopLine

if TYPE_CHECKING:
    from pipeline.runs.folders import Workspace
    from screens.frame.copying import Copyable
    from screens.frame.machine_snapshot import Machine
    from screens.frame.run_snapshot import RunRow, Snapshot

# What counts as narrow and as low: widgets that need room are hidden by the class the frame sets.
NARROW_COLUMNS = 110
LOW_ROWS = 32


class Page(Screen[None]):
    """A screen with the common frame.

    Attributes:
        trail: the places after "humigence ▸" in the first line.
        cells: the state of it, most important first, at the right of the first line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back"),
        Binding("Y", "copy_one", "copy…", tooltip="copy a command, a path, an answer, an error: asks which"),
        Binding("question_mark", "keys", "keys"),
        Binding("f1", "keys", "keys", show=False),  # where letters are typed
        # Textual's own, with our text.
        Binding("ctrl+c,super+c", "screen.copy_text", "copy the text that the mouse has marked", show=False),
        Binding("tab", "app.focus_next", "next part", show=False),
        Binding("shift+tab", "app.focus_previous", "part before", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (NARROW_COLUMNS, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (LOW_ROWS, "-high")]  # noqa: RUF012

    trail: var[tuple[str, ...]] = var(())
    cells: var[tuple[Content, ...]] = var(())

    def compose(self) -> ComposeResult:
        yield TopLine(id="top-line").data_bind(Page.trail, Page.cells)
        with Vertical(id="body"):
            yield from self.body()
        yield KeyLine(id="key-line")

    ready: bool = False  # its widgets are there: news may come
    leads_to_a_run: ClassVar[bool] = False  # closes once the run that it sets up has begun

    def on_mount(self) -> None:
        self.ready = True
        self.post_message(Ready(self))

    def on_screen_resume(self) -> None:
        if self.ready:
            self.post_message(Ready(self))  # what has happened while it was covered

    @property
    def workspace(self) -> Workspace:
        """The folder the app was opened in."""
        return cast(Any, self.app).workspace  # type: ignore[no-any-return]  # every app that opens a page has one

    def body(self) -> ComposeResult:
        """The screen itself, between the rules."""
        yield from ()

    def open(self, name: str, **arguments: Any) -> None:
        """Open another screen on top of this one."""
        self.post_message(Open(name, **arguments))

    def question_before_leaving(self) -> str:
        """What would be lost by going back now, as a question; empty when nothing would."""
        return ""

    def action_back(self) -> None:
        question = self.question_before_leaving()
        if not question:
            self._go_back()
            return
        from screens.frame.question import Answer, Question

        answers = (Answer("stay", "stay here"), Answer("leave", "leave", danger=True))
        self.app.push_screen(Question(question, answers), self._leave)

    def _leave(self, chosen: str | None) -> None:
        if chosen == "leave":
            self._go_back()

    def _go_back(self) -> None:
        cast(Any, self.app).go_back()

    def action_keys(self) -> None:
        from screens.frame.keys_help import KeysScreen

        self.app.push_screen(KeysScreen(self))

    def copyables(self) -> list[Copyable]:
        """What of this screen a person may want elsewhere, the likeliest first."""
        return []

    def action_copy_one(self) -> None:
        """Ask what to copy, and copy it through the terminal."""
        offered = [each for each in self.copyables() if each.text]
        if not offered:
            self.notify("There is nothing to copy here.", timeout=2)
            return
        from screens.frame.copying import CopyScreen

        self.app.push_screen(CopyScreen(offered), self._copy)

    def _copy(self, chosen: Copyable | None) -> None:
        if chosen is not None:
            self.app.copy_to_clipboard(safe(chosen.text, lines=True))
            self.notify(f"In the clipboard: {chosen.name}.", timeout=2, markup=False)

    # ------------------------------------------------------------------------------- news, on the app's own thread

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """The followed run has changed."""

    def take_runs(self, rows: tuple[RunRow, ...]) -> None:
        """The list of runs has changed."""

    def take_machine(self, machine: Machine) -> None:
        """GPUs, CPU and memory, once a second."""
