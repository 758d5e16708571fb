"""The app's last look at each line before it is drawn: no text of a widget can carry a control character to the terminal."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from pipeline.common.text import unsafe_dropped


class SafeLines(LineFilter):
    """Screens show what they are given with `pipeline.common.text.safe`, which leaves controls visible. Here a line has its
    place and its width already: what somebody forgot is dropped, and so are hyperlinks.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [_safe(segment) for segment in segments]


def _safe(segment: Segment) -> Segment:
    text = unsafe_dropped(segment.text)
    style = segment.style
    if style is not None and style.link:
        style = style.update_link(None)
    return segment if text is segment.text and style is segment.style else Segment(text, style)
