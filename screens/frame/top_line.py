"""The first line of every screen: `humigence ▸ where I am` at the left, the state of it at the right."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from pipeline.common.text import safe

NAME = "humigence"
_GAP = 4
_NARROW_GAP = 2
_BEFORE_THE_TRAIL = 4  # cells that a long path makes way for: state, share, what is left, when it is done
_LEAST_TRAIL = 24  # cells of a path that state never takes: a short project and its run


class TopLine(Widget):
    """`trail` are the places below the app's name; `cells` say the state, the most important first."""

    trail: reactive[tuple[str, ...]] = reactive(())
    cells: reactive[tuple[Content, ...]] = reactive(())

    def render(self) -> Content:
        # A project can be any folder below runs/, whatever its name.
        return top_line([safe(place) for place in self.trail], self.cells, self.content_size.width)


def top_line(trail: Sequence[str], cells: Sequence[Content], width: int) -> Content:
    """One line of `width` cells. What does not fit is left out: the app's name, the trail's end, the least important cells."""
    short = len(" ▸ ".join(trail))
    fitting, gap = _fitting(cells, width - short - 3)
    if len(fitting) < min(_BEFORE_THE_TRAIL, len(cells)):
        fitting, gap = _fitting(cells[:_BEFORE_THE_TRAIL], width - min(short, _LEAST_TRAIL) - 3)
    state = Content(" " * gap).join(fitting)
    room = width - state.cell_length - 3
    places = tuple(trail) if trail and _length(trail) > room else (NAME, *trail)
    where = _trail(places).truncate(max(room, 0), ellipsis=True)
    return Content(" ").join([Content(""), where.pad_right(max(0, room - where.cell_length)), state, Content("")])


def _length(trail: Sequence[str]) -> int:
    return len(" ▸ ".join((NAME, *trail)))


def _fitting(cells: Sequence[Content], room: int) -> tuple[list[Content], int]:
    """As many of the first cells as fit, and the gap between them."""
    for count in range(len(cells), 0, -1):
        for gap in (_GAP, _NARROW_GAP):
            if sum(cell.cell_length for cell in cells[:count]) + gap * (count - 1) <= room:
                return list(cells[:count]), gap
    return list(cells[:1]), _NARROW_GAP


def _trail(places: Sequence[str]) -> Content:
    parts: list[Content | tuple[str, str]] = []
    for number, place in enumerate(places):
        if number:
            parts.append((" ▸ ", "$faint"))
        parts.append((place, "bold" if number == len(places) - 1 else "$dim"))
    return Content.assemble(*parts)
