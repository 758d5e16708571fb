"""`?`: every key that works on the screen below, with what it does."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from screens.widgets.key_line import key_name


class KeysScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter,q", "dismiss", "close", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, below: Screen[None]) -> None:
        super().__init__()
        self._lines = all_keys(below)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False):
            yield Static(self._lines)

    def action_scroll(self, by: int) -> None:
        self.query_one("#box").scroll_relative(y=by, animate=False)


def all_keys(screen: Screen[None]) -> Content:
    """One line an action: its keys, what it does. The screen's own come first, then those of its parts, then the app's."""
    groups: dict[str, dict[tuple[str, str], list[str]]] = {"this screen": {}, "the focused part": {}, "everywhere": {}}
    for active in screen.active_bindings.values():
        if not active.enabled or not active.binding.description:
            continue
        group = "this screen" if active.node is screen else "everywhere" if active.node is screen.app else "the focused part"
        what = (active.binding.action, active.tooltip or active.binding.description)
        names = groups[group].setdefault(what, [])
        name = active.binding.key_display or key_name(active.binding.key)
        if name not in names:
            names.append(name)
    return _told(groups)


def _told(groups: dict[str, dict[tuple[str, str], list[str]]]) -> Content:
    lines: list[Content] = []
    for title, actions in groups.items():
        if not actions:
            continue
        lines += [Content("")] * bool(lines) + [Content.styled(title, "$dim")]
        for (_, what), names in sorted(actions.items(), key=lambda item: item[1]):
            keys = "  ".join(names)
            lines.append(Content.assemble((f"  {keys:<22}", "bold"), what))
    return Content("\n").join(lines)
