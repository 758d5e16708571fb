"""The last line of every screen: the keys that matter here, as many as fit, `?` always among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from textual import events
from textual.binding import Binding
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
    """Clickable. Keys of the focused widget come first, then the screen's, then the app's, as they are declared."""

    keys: reactive[tuple[Key, ...]] = reactive(())

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._look)
        self.call_after_refresh(self._look, self.screen)

    def _look(self, _: Screen[object]) -> None:
        if self.is_attached and self.screen.is_attached:
            self.keys = tuple(shown_keys(self.screen))

    def render(self) -> Content:
        return key_line(self.keys, self.content_size.width)

    async def on_click(self, event: events.Click) -> None:
        action = event.style.meta.get("key_action")
        if isinstance(action, str):
            await self.screen.run_action(action)


def shown_keys(screen: Screen[object]) -> Iterable[Key]:
    """The bindings that are on and meant to be shown, each action once, its keys side by side."""
    together: dict[tuple[int, str], tuple[list[str], str]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if not binding.show or not active.enabled:
            continue
        names, _ = together.setdefault((id(active.node), binding.action), ([], binding.description))
        name = binding.key_display or key_name(binding.key)
        if name not in names:
            names.append(name)
    found = [Key(" ".join(names), label, action) for (_, action), (names, label) in together.items()]
    order = declared_order(screen)
    return sorted(found, key=lambda key: order.get(key.action, len(order)))


def declared_order(screen: Screen[object]) -> dict[str, int]:
    """Action → its place: the screen's own bindings as they are written, then those of the frame."""
    actions = [
        binding.action
        for cls in type(screen).__mro__
        for binding in cls.__dict__.get("BINDINGS", ())
        if isinstance(binding, Binding)
    ]
    return {action: number for number, action in reversed(list(enumerate(actions)))}


def key_line(keys: Sequence[Key], width: int) -> Content:
    """` ⏎ open   n new run   ? keys`: keys that do not fit are left out, the last of them first, never `?`."""
    for gap in ("   ", "  "):
        for kept in range(len(keys), 0, -1) if gap == "  " else (len(keys),):
            shown = [*keys[: kept - 1], keys[-1]] if keys else []
            line = Content(gap).join([_key(key) for key in shown])
            if line.cell_length + 2 <= width:
                return Content.assemble(" ", line)
    return Content("")


def _key(key: Key) -> Content:
    click = Style.from_meta({"key_action": key.action})
    return Content.assemble((f"{key.name} ", "bold $foreground"), (key.label, "$dim")).stylize(click)
