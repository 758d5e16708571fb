"""What is sent to the terminal makes it show what Textual drew, and nothing is sent twice."""

from __future__ import annotations

from collections.abc import Iterable

import pyte
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from humigence_tui.terminal.diff_painter import Painter

WIDTH, HEIGHT = 24, 4
CONSOLE = Console(color_system="truecolor", width=WIDTH, height=HEIGHT)
STYLES = [Style(color="#ff0000", bgcolor="#000000"), Style(color="#00ff00", bgcolor="#000000", bold=True), Style()]


class Screen:
    """A terminal that is sent things."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.Stream(self.screen)

    def send(self, text: str) -> None:
        self._stream.feed(text)

    @property
    def cells(self) -> list[list[tuple[str, str, str, bool]]]:
        rows = (self.screen.buffer[y] for y in range(HEIGHT))
        return [[(row[x].data, row[x].fg, row[x].bg, row[x].bold) for x in range(WIDTH)] for row in rows]


def strips(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Strip]:
    """A line of the screen in a few colours."""
    segments = st.lists(st.tuples(texts, st.sampled_from(STYLES)).map(lambda made: Segment(*made)), max_size=4)
    return segments.map(lambda found: Strip(found).adjust_cell_length(WIDTH, STYLES[0]))


def layout(lines: Iterable[Strip]) -> LayoutUpdate:
    return LayoutUpdate([[line] for line in lines], Region(0, 0, WIDTH, HEIGHT))


def chops(line: Strip, y: int, begin: int, end: int) -> ChopsUpdate:
    """A line of which the middle is drawn, as of a widget."""
    cuts = [0, begin, end, WIDTH]
    parts = {begin: line.crop(begin, end)}
    lines: list[dict[int, Strip | None]] = [{} for _ in range(HEIGHT)]
    ends: list[list[int]] = [[] for _ in range(HEIGHT)]
    lines[y] = {0: None, begin: parts[begin], end: None}
    ends[y] = cuts[1:]
    return ChopsUpdate(lines, [(y, begin, end)], ends)


def paint(painter: Painter, update: CompositorUpdate) -> str:
    return painter.changes(update, WIDTH, HEIGHT).render_segments(CONSOLE)


PLAIN = st.text("abc ⠿█ü", max_size=9)
WIDE = st.text("ab 日🙂é", max_size=9)


@given(st.lists(st.lists(strips(PLAIN), min_size=HEIGHT, max_size=HEIGHT), min_size=1, max_size=4), st.data())
def test_the_terminal_shows_what_was_drawn(frames: list[list[Strip]], data: st.DataObject) -> None:
    painter, sent, whole = Painter(), Screen(), Screen()
    for frame in frames:
        begin = data.draw(st.integers(0, WIDTH - 1))
        part = chops(frame[0], 1, begin, data.draw(st.integers(begin + 1, WIDTH)))
        for update in (layout(frame), part):
            sent.send(paint(painter, update))
            whole.send(update.render_segments(CONSOLE))
        assert sent.cells == whole.cells


@given(st.lists(st.lists(strips(WIDE), min_size=HEIGHT, max_size=HEIGHT), min_size=1, max_size=4))
def test_characters_of_two_cells_stay_in_their_place(frames: list[list[Strip]]) -> None:
    painter, sent, whole = Painter(), Screen(), Screen()
    for frame in frames:
        sent.send(paint(painter, layout(frame)))
        whole.send(layout(frame).render_segments(CONSOLE))
        assert sent.screen.display == whole.screen.display


@given(st.lists(strips(PLAIN | WIDE), min_size=HEIGHT, max_size=HEIGHT))
def test_nothing_is_sent_for_what_is_there_already(frame: list[Strip]) -> None:
    painter = Painter()
    paint(painter, layout(frame))
    assert paint(painter, layout(frame)) == ""


def line(text: str) -> Strip:
    return Strip([Segment(text, STYLES[0])]).adjust_cell_length(WIDTH, STYLES[0])


def test_a_digit_that_changed_costs_a_digit() -> None:
    painter = Painter()
    frame = [line("step 411 of 1,204")] * HEIGHT
    paint(painter, layout(frame))
    sent = paint(painter, layout([line("step 412 of 1,204"), *frame[1:]]))
    assert "2" in sent
    assert "step" not in sent
    assert len(sent) < 60


def test_forgotten_it_is_sent_again_and_so_it_is_to_a_terminal_of_another_size() -> None:
    painter, frame = Painter(), [line("loss")] * HEIGHT
    first = paint(painter, layout(frame))
    painter.forget()
    assert paint(painter, layout(frame)) == first
    wider = painter.changes(LayoutUpdate([[line("loss")]], Region(0, 0, WIDTH, 1)), WIDTH, 1).render_segments(CONSOLE)
    assert "loss" in wider


def test_where_terminals_may_disagree_the_whole_piece_is_sent() -> None:
    painter = Painter()
    frame = [line("日本 step 411")] * HEIGHT
    paint(painter, layout(frame))
    assert "日本 step 412" in paint(painter, layout([line("日本 step 412"), *frame[1:]]))
