"""`?`: every key that works on the screen below, with what it does."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from screens.frame.key_line import declared_order, key_name

# By title: (action, what it does) → the names of its keys.
Groups = dict[str, dict[tuple[str, str], list[str]]]
_WIDEST, _SHARE, _FRAME = 76, 0.92, 9  # the box at most; its border, padding and scrollbar (page.tcss)


class KeysScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter,q", "dismiss", "close", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, below: Screen[None]) -> None:
        super().__init__()
        self._keys = all_keys(below)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False):
            yield Static()

    def on_resize(self, event: events.Resize) -> None:
        self.query_one(Static).update(keys_text(self._keys, min(_WIDEST, int(event.size.width * _SHARE)) - _FRAME))

    def action_scroll(self, by: int) -> None:
        self.query_one("#box").scroll_relative(y=by, animate=False)


def all_keys(screen: Screen[None]) -> Groups:
    """By group, (action, what it does) → its keys: the screen's own as declared, those of the focused part, the app's."""
    groups: Groups = {"this screen": {}, "the focused part": {}, "everywhere": {}}
    for active in screen.active_bindings.values():
        if not active.enabled or not active.binding.description:
            continue
        group = "this screen" if active.node is screen else "everywhere" if active.node is screen.app else "the focused part"
        what = (active.binding.action, active.tooltip or active.binding.description)
        names = groups[group].setdefault(what, [])
        name = active.binding.key_display or key_name(active.binding.key)
        if name not in names:
            names.append(name)
    order = declared_order(screen)
    here = groups["this screen"]
    groups["this screen"] = dict(sorted(here.items(), key=lambda item: order.get(item[0][0], len(order))))
    return groups


def keys_text(groups: Groups, width: int) -> Content:
    """A line an action, at most `width` cells; what is longer goes on below itself."""
    lines: list[Content] = []
    column = 4 + max(len("  ".join(names)) for actions in groups.values() for names in actions.values())
    for title, actions in groups.items():
        if not actions:
            continue
        lines += [Content("")] * bool(lines) + [Content.styled(title, "$dim")]
        for (_, what), names in actions.items():
            keys = "  ".join(names)
            for number, part in enumerate(Content(what).wrap(max(10, width - column))):
                lines.append(Content.assemble((f"  {keys:<{column - 2}}" if number == 0 else " " * column, "bold"), part))
    return Content("\n").join(lines)
