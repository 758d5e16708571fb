"""The end of a run's `output.log` as lines that are safe to show."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

from pipeline.common.text import safe
from screens.frame.run_snapshot import LogLine

_TAIL_BYTES = 64 << 10
_LINES_KEPT = 1000
_LINE_CHARACTERS = 2000
# Colours, cursor movements and titles, which a log need not show at all.
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


class OutputTail:
    """Follows a file that grows; what is too much to be read is skipped, the newest lines stay."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = -1
        self._rest = ""
        self.lines: deque[LogLine] = deque(maxlen=_LINES_KEPT)

    def read_new(self) -> bool:
        """Read what is new; True when there was anything."""
        try:
            size = self._path.stat().st_size
            if size == self._offset:
                return False
            skipped = size - max(self._offset, 0) > _TAIL_BYTES
            start = size - _TAIL_BYTES if skipped else max(self._offset, 0)
            with self._path.open("rb") as file:
                file.seek(start)
                data = file.read(size - start)
        except OSError:
            return False
        first = self._offset < 0
        self._offset = start + len(data)
        text = ("" if skipped else self._rest) + data.decode(errors="replace")
        *whole, self._rest = text.split("\n")
        self.lines.extend(LogLine(None, line, "output") for line in map(shown, whole) if line)
        return bool(data) or first


def shown(line: str) -> str:
    """A line as a terminal would leave it: the last state of a progress bar, without escape sequences."""
    states = [part for part in _SEQUENCES.sub("", line).split("\r") if part.strip()]
    return safe(states[-1][:_LINE_CHARACTERS].expandtabs(4).rstrip()) if states else ""
