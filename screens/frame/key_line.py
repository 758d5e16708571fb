"""The last line of every screen: the keys that matter here, as many as fit, `?` always among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from textual import events
from textual.binding import ActiveBinding, Binding
from textual.content import Content
from textual.reactive import reactive
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget

# How keys are written where Textual's own name is not what people say.
_KEYS = {
    "enter": "⏎", "escape": "esc", "space": "space", "left": "←", "right": "→", "up": "↑", "down": "↓", "question_mark": "?",
    "plus": "+", "minus": "−", "equals_sign": "=", "slash": "/", "tab": "tab", "shift+tab": "⇧tab",
    "pageup": "pgup", "pagedown": "pgdn", "full_stop": ".", "comma": ",", "left_square_bracket": "[", "right_square_bracket": "]",
}  # fmt: skip


def key_name(key: str) -> str:
    """`question_mark` → `?`, `ctrl+p` → `^p`."""
    if key in _KEYS:
        return _KEYS[key]
    return "^" + key.removeprefix("ctrl+") if key.startswith("ctrl+") else key


class Key(NamedTuple):
    name: str
    label: str
    action: str


class KeyLine(Widget):
    """Clickable. Keys of the focused widget come first, then the screen's as they are declared, `?` last."""

    keys: reactive[tuple[Key, ...]] = reactive(())

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._look)
        self.call_after_refresh(self._look, self.screen)

    def _look(self, screen: Screen[object]) -> None:
        if self.is_attached and screen.is_attached:
            self.keys = tuple(shown_keys(screen))

    def render(self) -> Content:
        return key_line(self.keys, self.content_size.width)

    async def on_click(self, event: events.Click) -> None:
        action = event.style.meta.get("key_action")
        if isinstance(action, str):
            await self.screen.run_action(action)


def shown_keys(screen: Screen[object]) -> Iterable[Key]:
    """The bindings that are on and meant to be shown, each action once, its keys side by side: the focused widget's first.

    Where letters are typed, an action's letter is text: another key of the same action stands for it, though it is not shown
    elsewhere.
    """
    active = [each for each in screen.active_bindings.values() if each.enabled and not _is_typed(screen.focused, each.binding)]
    together = _by_action(each for each in active if each.binding.show)
    wanted = {action for cls in type(screen).__mro__ for action, shows in _declared(cls) if shows}
    typed_over = wanted - {action for _, action in together}
    together |= _by_action(each for each in active if each.node is screen and each.binding.action in typed_over)
    found = [Key(" ".join(names), label, action) for (_, action), (names, label) in together.items()]
    order = declared_order(screen)
    return sorted(found, key=lambda key: order.get(key.action, -1))


def _is_typed(focused: Widget | None, binding: Binding) -> bool:
    """Whether the key is a letter to the field that has the focus; Textual does not know it of names that are not Unicode's."""
    character = _KEYS.get(binding.key, "")
    return (
        focused is not None and len(character) == 1 and character.isascii() and focused.check_consume_key(binding.key, character)
    )


def _by_action(bindings: Iterable[ActiveBinding]) -> dict[tuple[int, str], tuple[list[str], str]]:
    """(node, action) → the names of its keys, and its label."""
    together: dict[tuple[int, str], tuple[list[str], str]] = {}
    for each in bindings:
        names, _ = together.setdefault((id(each.node), each.binding.action), ([], each.binding.description))
        name = each.binding.key_display or key_name(each.binding.key)
        if name not in names:
            names.append(name)
    return together


def _declared(cls: type) -> Iterable[tuple[str, bool]]:
    """Actions of a class's own bindings, and whether the last line shows them."""
    return [(each.action, each.show) for each in cls.__dict__.get("BINDINGS", ()) if isinstance(each, Binding)]


def declared_order(screen: Screen[Any]) -> dict[str, int]:
    """Action → its place: the screen's own bindings as they are written, then those of the frame."""
    actions = [action for cls in type(screen).__mro__ for action, _ in _declared(cls)]
    return {action: number for number, action in reversed(list(enumerate(actions)))}


def key_line(keys: Sequence[Key], width: int) -> Content:
    """` ⏎ open   n new run   ? keys`: keys that do not fit are left out, the last of them first, never `?`."""
    for gap in ("   ", "  "):
        for count in range(len(keys), 0, -1) if gap == "  " else (len(keys),):
            shown = [*keys[: count - 1], keys[-1]] if keys else []
            line = Content(gap).join([_key(key) for key in shown])
            if line.cell_length + 2 <= width:
                return Content.assemble(" ", line)
    return Content("")


def _key(key: Key) -> Content:
    click = Style.from_meta({"key_action": key.action})
    return Content.assemble((f"{key.name} ", "bold $foreground"), (key.label, "$dim")).stylize(click)
