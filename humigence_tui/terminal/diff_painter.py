"""Sends the terminal only the cells that are not there already.

Textual sends each widget that was refreshed whole, and the whole screen after a layout: on a screen of figures and curves a
hundred times what has changed. Here every update is compared with what the terminal shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len, get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip


class Cell(NamedTuple):
    """A character, and the codes (SGR) of its colours. The second half of a wide character is empty."""

    text: str
    codes: str


class Piece(NamedTuple):
    """Part of a line: where it begins, and what is there."""

    x: int
    y: int
    strip: Strip


# Moving the cursor costs more than sending this many cells again.
_GAP = 5
_UNKNOWN = Cell("\0", "")


class Painter:
    """Knows what the terminal shows. Nothing else may write to it; after something did, `forget`."""

    def __init__(self) -> None:
        self._lines: list[list[Cell]] = []
        self._codes: dict[Style, str] = {}

    def forget(self) -> None:
        """Send everything again with the next update."""
        self._lines = []

    def changes(self, update: CompositorUpdate, width: int, height: int) -> CompositorUpdate:
        """`update` without what the terminal shows already. A terminal of another size than before has forgotten all."""
        return _Changes(self, update, width, height)

    def paint(self, update: CompositorUpdate, width: int, height: int, console: Console) -> str:
        """The characters to send."""
        if len(self._lines) != height or len(self._lines[0]) != width:
            self._lines = [[_UNKNOWN] * width for _ in range(height)]
        system = console._color_system or ColorSystem.TRUECOLOR
        sent: list[str] = []
        codes = ""
        for piece in _pieces(update):
            if piece.y < height:
                codes = self._paint_piece(piece, width, system, codes, sent)
        if codes:
            sent.append("\x1b[0m")
        return "".join(sent)

    def _paint_piece(self, piece: Piece, width: int, system: ColorSystem, codes: str, sent: list[str]) -> str:
        """Append what has changed to `sent`; returns the codes that are on then."""
        new, is_plain = self._cells(piece.strip, system)
        new = new[: width - piece.x]
        line, begin = self._lines[piece.y], piece.x
        old = line[begin : begin + len(new)]
        if old == new:
            return codes
        line[begin : begin + len(new)] = new
        for first, last in runs(old, new) if is_plain else [(0, len(new))]:
            sent.append(f"\x1b[{piece.y + 1};{begin + first + 1}H")
            for wanted, cells in groupby(new[first:last], key=_codes_of):
                if wanted != codes:
                    sent.append(f"\x1b[0;{wanted}m" if wanted else "\x1b[0m")
                    codes = wanted
                sent.extend(cell.text for cell in cells)
        return codes

    def _cells(self, strip: Strip, system: ColorSystem) -> tuple[list[Cell], bool]:
        """The strip's cells, and whether each of its characters is one cell wide.

        Terminals disagree about the others: a piece with such a character is sent whole, so that nothing stays out of place.
        """
        cells: list[Cell] = []
        is_plain = True
        for text, style, control in strip:
            if control:
                continue
            codes = self._codes_for(style, system)
            if text.isascii() or cell_len(text) == len(text):
                cells += [Cell(character, codes) for character in text]
            else:
                is_plain = False
                _add_uneven(cells, text, codes)
        return cells, is_plain

    def _codes_for(self, style: Style | None, system: ColorSystem) -> str:
        if style is None:
            return ""
        codes = self._codes.get(style)
        if codes is None:
            if len(self._codes) > 4096:
                self._codes.clear()
            codes = self._codes[style] = Strip.render_ansi(style, system)
        return codes


def _codes_of(cell: Cell) -> str:
    return cell.codes


def _add_uneven(cells: list[Cell], text: str, codes: str) -> None:
    for character in text:
        width = get_character_cell_size(character)
        if width == 0 and cells:
            cells[-1] = Cell(cells[-1].text + character, cells[-1].codes)
        elif width:
            cells += [Cell(character, codes), *[Cell("", codes)] * (width - 1)]


def runs(old: list[Cell], new: list[Cell]) -> list[tuple[int, int]]:
    """Where `new` differs, as begin and end; neighbours that are cheaper to send than to skip are one."""
    found: list[tuple[int, int]] = []
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        if before != after:
            if found and number - found[-1][1] <= _GAP:
                found[-1] = (found[-1][0], number + 1)
            else:
                found.append((number, number + 1))
    return found


class _Changes(CompositorUpdate):
    """Compared when it is really sent: Textual drops some of its updates."""

    def __init__(self, painter: Painter, update: CompositorUpdate, width: int, height: int) -> None:
        self._painter, self._update, self._width, self._height = painter, update, width, height

    def render_segments(self, console: Console) -> str:
        return self._painter.paint(self._update, self._width, self._height, console)


def _pieces(update: CompositorUpdate) -> Iterator[Piece]:
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in strips:
                yield Piece(x, y, strip)
                x += strip.cell_length
    elif isinstance(update, ChopsUpdate):
        for y, first, last in update.spans:
            for end, (x, part) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
                if part is not None and x <= last and end > first:
                    yield Piece(x, y, part.crop(0, min(end, last) - x))
