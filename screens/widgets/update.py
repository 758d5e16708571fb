"""Changing a text without more work than the change is worth: four times a second, on a machine that trains."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


def update_text(widget: Static, content: Content) -> None:
    """Show `content`. Nothing happens where it is there already; the screen is laid out again only when its height changes."""
    before = Content(widget.content) if isinstance(widget.content, str) else widget.content
    if isinstance(before, Content) and before.is_same(content):
        return
    width = widget.content_size.width
    same = isinstance(before, Content) and width > 0 and _height(widget, before, width) == _height(widget, content, width)
    widget.update(content, layout=not same)


def _height(widget: Static, content: Content, width: int) -> int:
    """Rows of `content`, as the widget wraps it."""
    if widget.styles.text_wrap == "nowrap":
        return content.plain.count("\n") + 1
    return len(content.wrap(width))
