"""Standard output is data, standard error is messages. Everything printed passes through here and is made safe."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Literal, TextIO

from humigence_tui.terminal.safe_streams import inside
from pipeline.common.redact import redact
from pipeline.common.text import json_text, safe

Colour = Literal["green", "amber", "red", "dim", "bold", "tint"]
_CODES: dict[Colour, str] = {"green": "32", "amber": "33", "red": "31", "dim": "2", "bold": "1", "tint": "36"}


def colours(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that wants colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")


def paint(text: str, colour: Colour | None, stream: TextIO) -> str:
    """`text`, made safe, in a colour where the stream wants any. Green, amber and red are verdicts."""
    text = safe(text)
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colour and text and colours(stream) else text


class ReaderGone(Exception):
    """Whoever read our stream has closed it (`humigence infer … | head -1`): there is nobody left to work for."""


def out(text: str = "", colour: Colour | None = None) -> None:
    """One line of data."""
    _write(sys.stdout, paint(text, colour, sys.stdout) + "\n")


def out_parts(parts: Sequence[tuple[str, Colour | None]]) -> None:
    """One line of data in pieces, each in its colour."""
    _write(sys.stdout, "".join(paint(text, colour, sys.stdout) for text, colour in parts) + "\n")


def out_json(value: Any) -> None:
    """One JSON document."""
    _write(sys.stdout, json_text(value) + "\n")


def out_json_line(value: Any) -> None:
    """One line of JSON Lines.

    Raises:
        ReaderGone: nobody reads it any more.
    """
    if not _write(sys.stdout, json_text(value, indent=None) + "\n"):
        raise ReaderGone


def out_piece(text: str) -> None:
    """A piece of streamed text, line breaks included.

    Raises:
        ReaderGone: nobody reads it any more.
    """
    if not _write(sys.stdout, safe(text, lines=True)):
        raise ReaderGone


def print_message(text: str = "", colour: Colour | None = None) -> None:
    """One line on standard error; no access token is ever in it."""
    _write(sys.stderr, paint(redact(text), colour, sys.stderr) + "\n")


def _write(stream: TextIO, text: str) -> bool:
    """Write through to the other side; False when it is closed, and then nothing more is sent there.

    A closed stream does not end the command: its exit code still has to report how the work went.
    """
    stream = inside(stream)
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _to_nowhere(stream)
        return False
    except OSError:
        # A message is no result, may go to a log on the very disk whose room the run waits for: then it follows later.
        if stream is not inside(sys.stderr):
            raise
        return False
    return True


def discard_messages() -> None:
    """What could not be written until now never will be, and must not change the exit code when Python tries again at the end."""
    try:
        sys.stderr.flush()
    except OSError:
        _to_nowhere(inside(sys.stderr))


def _to_nowhere(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_next_commands(*commands: str) -> None:
    """The commands a person is likely to want now."""
    for number, command in enumerate(commands):
        print_message(("next:  " if number == 0 else "       ") + command)


def is_interactive() -> bool:
    """Whether a question can be asked: somebody sees standard error and can type."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str, default: bool = True) -> bool:
    """Ask on standard error; Enter takes the default. An end of input is a no."""
    choices = "[Y/n]" if default else "[y/N]"
    while True:
        print(f"{safe(question)} {choices}: ", end="", file=sys.stderr, flush=True)  # noqa: T201
        line = sys.stdin.readline()
        answer = line.strip().lower()
        if not line:
            print_message()
            return False
        if answer in ("", "y", "yes", "n", "no"):
            return default if not answer else answer.startswith("y")


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), head: Sequence[str] = ()) -> list[str]:
    """Rows of cells as aligned lines, two spaces between the columns.

    Args:
        right: the columns that are aligned at their right side (numbers).
        head: titles of the columns; none for none.
    """
    cells = [[safe(cell) for cell in row] for row in ([head] if head else []) + list(rows)]
    if not cells:
        return []
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(_aligned(row, widths, right)).rstrip() for row in cells]


def _aligned(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
