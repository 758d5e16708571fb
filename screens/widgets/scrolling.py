"""Keys for parts that scroll: at once, without the animation that costs a remote terminal a dozen frames."""

from __future__ import annotations

from typing import Any

from textual.binding import Binding, BindingType

SCROLL_BINDINGS: list[BindingType] = [
    Binding("down,j", "lines(1)", "down", show=False),
    Binding("up,k", "lines(-1)", "up", show=False),
    Binding("pagedown", "pages(1)", "page down", show=False),
    Binding("pageup", "pages(-1)", "page up", show=False),
    Binding("home", "top", "first line", show=False),
    Binding("end", "bottom", "last line", show=False),
]


class Scrolls:
    """The actions of `SCROLL_BINDINGS`, for a widget that can scroll."""

    def action_lines(self: Any, by: int) -> None:
        self.scroll_relative(y=by, animate=False, immediate=True)

    def action_pages(self: Any, by: int) -> None:
        self.scroll_relative(y=by * max(1, self.scrollable_content_region.height - 1), animate=False, immediate=True)

    def action_top(self: Any) -> None:
        self.scroll_to(y=0, animate=False, immediate=True)

    def action_bottom(self: Any) -> None:
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True)
