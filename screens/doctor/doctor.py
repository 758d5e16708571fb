"""Doctor: what this machine has, what is missing, and how to mend it."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from pipeline.common.text import safe
from pipeline.doctor.check import Check, Status
from pipeline.doctor.report import examine
from screens.frame.copying import Copyable
from screens.frame.page import Page

_MARKS: dict[Status, tuple[str, str]] = {"ok": ("✔", "$success"), "warning": ("▲", "$warning"), "problem": ("✘", "$error")}


class DoctorScreen(Page):
    CSS_PATH = "doctor.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "again", "look again"),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("pagedown", "scroll(10)", "page down", show=False),
        Binding("pageup", "scroll(-10)", "page up", show=False),
    ]

    class Examined(Message):
        def __init__(self, checks: tuple[Check, ...]) -> None:
            super().__init__()
            self.checks = checks

    def __init__(self) -> None:
        super().__init__()
        self.trail = ("doctor",)
        self.checks: tuple[Check, ...] = ()

    def body(self) -> ComposeResult:
        with VerticalScroll(id="report", can_focus=False):
            yield Static("", id="checks")

    def on_mount(self) -> None:
        self.action_again()

    def on_resize(self) -> None:
        self._show()

    def action_again(self) -> None:
        """Examine the machine again."""
        self.cells = (Content.styled("looking …", "$dim"),)
        root = self.workspace.root

        def work() -> None:
            self.post_message(self.Examined(tuple(examine(root))))

        self.run_worker(work, thread=True, group="doctor", exclusive=True)

    @on(Examined)
    def _examined(self, event: Examined) -> None:
        self.checks = event.checks
        self.cells = (verdict(self.checks),)
        self._show()

    def _show(self) -> None:
        if self.checks:
            self.query_one("#checks", Static).update(report(self.checks, self.size.width - 4))

    def copyables(self) -> list[Copyable]:
        commands = [Copyable(check.name, check.command) for check in self.checks if check.command]
        return [*commands, Copyable("the whole report", report(self.checks, 120).plain if self.checks else "")]

    def action_scroll(self, by: int) -> None:
        """Where the screen is low."""
        self.query_one("#report").scroll_relative(y=by, animate=False)


def verdict(checks: tuple[Check, ...]) -> Content:
    """What it comes to: the worst first."""
    worst: tuple[Status, ...] = ("problem", "warning")
    for status in worst:
        count = sum(check.status == status for check in checks)
        if count:
            mark, colour = _MARKS[status]
            return Content.styled(f"{mark} {count} {status}{'s' if count > 1 else ''}", colour)
    return Content.assemble(("✔ all is well", "$success"))


def report(checks: tuple[Check, ...], width: int) -> Content:
    """What needs doing first, then the rest as it came; the advice below what it is about."""
    names = max(len(check.name) for check in checks) + 2
    order = sorted(checks, key=lambda check: ("problem", "warning", "ok").index(check.status))
    lines: list[Content] = []
    for number, check in enumerate(order):
        if number and check.status == "ok" and order[number - 1].status != "ok":
            lines.append(Content(""))
        mark, colour = _MARKS[check.status]
        quiet = "$dim" if check.status == "ok" else "bold"
        line = Content.assemble((f" {mark} ", colour), (f"{check.name:<{names}}", quiet), safe(check.value))
        lines += _hanging(line, width, names + 3)
        if check.advice:
            lines += _hanging(Content.assemble(" " * (names + 3), (f"→ {safe(check.advice)}", "$dim")), width, names + 5)
        if check.command:
            lines += _hanging(Content.assemble(" " * (names + 5), (safe(check.command), "bold")), width, names + 7)
    return Content("\n").join(lines)


def _hanging(line: Content, width: int, indent: int) -> list[Content]:
    """`line` wrapped at `width`, what follows the first line indented."""
    if line.cell_length <= width:
        return [line]
    first, *_ = line.wrap(width)
    rest = line[len(first.plain) :].plain.strip()
    style = "$dim" if "→" in first.plain else ""
    folded = Content.styled(rest, style).wrap(max(20, width - indent))
    return [first, *(Content(" " * indent) + each for each in folded)]
