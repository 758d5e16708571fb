"""What NO_COLOR asks for: no colour is sent at all, and what colours showed is shown by bold, dim and reversed text.

Used with `themes.NO_COLOR`, whose sixteen colours stand for what they mean and never reach the terminal.
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from screens.frame.themes import BOLD_WITHOUT_COLOR, DIM_WITHOUT_COLOR


class AttributesOnly(LineFilter):
    """Turns each colour of a segment into the attribute that stands for it."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(text, style and without_color(style), control) for text, style, control in segments]


@lru_cache(4096)
def without_color(style: Style) -> Style:
    """Any background of its own, as a cursor has, becomes reversed text."""
    reverse = bool(style.reverse) or not _is_default(style.bgcolor)
    bold = bool(style.bold) or _name(style.color) in BOLD_WITHOUT_COLOR
    dim = not reverse and not bold and (bool(style.dim) or _name(style.color) in DIM_WITHOUT_COLOR)
    return Style(
        reverse=reverse, bold=bold, dim=dim, underline=style.underline, italic=style.italic, strike=style.strike, meta=style.meta
    )


def _is_default(color: RichColor | None) -> bool:
    return color is None or color.is_default


def _name(color: RichColor | None) -> int | None:
    """The number of one of the sixteen colours."""
    return color.number if color is not None else None
