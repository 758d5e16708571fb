"""The thread behind the list of runs: looks once a second, folds only what is new, posts only what has changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from humigence_tui.background.post import Post
from pipeline.common.files import disk_bytes
from pipeline.runs import control, fold_cache, store
from pipeline.runs.event_log import EventReader
from pipeline.runs.fold import fold_lines
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.state import RunState
from screens.frame import messages
from screens.frame.run_snapshot import RunRow

EVERY_S = 1.0
# A list of a thousand runs that was never cached takes a while: names are shown at once, the rest as it becomes known.
_POST_EVERY_S = 0.25
_MANY_RUNS = 100
_MUCH_TO_READ = 2 << 20
# A log that takes more than a second to read keeps nobody waiting.
_LONG_LOG = 64 << 20


@dataclass
class _Known:
    stamp: tuple[int, int]  # time of change and size of the log
    row: RunRow
    live: tuple[RunState, EventReader] | None = None


class RunList(threading.Thread):
    """Daemon; `close` ends it in good order."""

    def __init__(
        self, workspace: Workspace, post: Post, is_read_elsewhere: Callable[[RunFolder], bool] = lambda run: False
    ) -> None:
        """`is_read_elsewhere`: whether another thread is reading the run's log; its cache is waited for."""
        super().__init__(name="humigence-runs", daemon=True)
        self._workspace, self._post = workspace, post
        self._is_read_elsewhere = is_read_elsewhere
        self._woken = threading.Event()
        self._closing = False
        self._known: dict[RunFolder, _Known] = {}
        self._posted: tuple[RunRow, ...] | None = None

    def wake(self) -> None:
        """Look again now."""
        self._woken.set()

    def close(self) -> None:
        self._closing = True
        self._woken.set()
        if self.is_alive():
            self.join(timeout=5)

    def run(self) -> None:
        while not self._closing:
            self._woken.clear()
            self._look()
            self._woken.wait(EVERY_S)

    def _look(self) -> None:
        found = store.runs_of(self._workspace)
        for gone in set(self._known) - set(found):
            del self._known[gone]
        rows: dict[RunFolder, RunRow] = {}
        takes_long = self._posted is None and _takes_long(found)
        if takes_long:
            rows = {run: _named(run) for run in found}
            self._post(messages.RunsNews(in_order(rows.values())))
        posted = time.monotonic()
        for run in found:
            if self._closing:
                return
            rows[run] = _named(run) if self._waits(run) else self._row(run)
            if takes_long and time.monotonic() - posted > _POST_EVERY_S:
                self._post(messages.RunsNews(in_order(rows.values())))
                posted = time.monotonic()
        ordered = in_order([rows[run] for run in found])
        if ordered != self._posted:
            self._posted = ordered
            self._post(messages.RunsNews(ordered))

    def _waits(self, run: RunFolder) -> bool:
        """Whether a long log that no cache holds is left for later: no list was shown yet, or it is being read elsewhere."""
        if run in self._known or _stamp(run)[1] < _LONG_LOG or fold_cache.unread_bytes(run) < _LONG_LOG:
            return False
        return self._posted is None or self._is_read_elsewhere(run)

    def _row(self, run: RunFolder) -> RunRow:
        known = self._known.get(run)
        alive = known is None or known.row.live or _changed(known, run)
        alive = alive and control.is_alive(run)
        stamp = _stamp(run)
        if known is not None and known.stamp == stamp and known.row.live == alive:
            if known.row.disk_bytes is None:
                known.row = replace(known.row, disk_bytes=self._disk_bytes(run))
            return known.row
        self._known[run] = self._read(run, stamp, alive, known)
        return self._known[run].row

    def _read(self, run: RunFolder, stamp: tuple[int, int], alive: bool, known: _Known | None) -> _Known:
        if not alive:
            summary = fold_cache.read_summary(run)
            status = "crashed" if summary.status in ("starting", "running") else summary.status
            return _Known(stamp, RunRow(run, status, summary, self._disk_bytes(run)))
        state, reader = (known.live if known else None) or fold_cache.read_folded(run)
        while lines := reader.read_lines():
            fold_lines(lines, state)
        summary = fold_cache.summarize(state)
        return _Known(stamp, RunRow(run, summary.status, summary, self._disk_bytes(run)), (state, reader))

    def _disk_bytes(self, run: RunFolder) -> int | None:
        """Not before the list has been shown: it walks through every run's checkpoints."""
        return None if self._posted is None else disk_bytes(run.path)


def _named(run: RunFolder) -> RunRow:
    return RunRow(run, "running" if control.is_alive(run) else "finished", fold_cache.Summary(), is_read=False)


def _takes_long(found: Sequence[RunFolder]) -> bool:
    return len(found) >= _MANY_RUNS or sum(map(fold_cache.unread_bytes, found)) > _MUCH_TO_READ


def _changed(known: _Known, run: RunFolder) -> bool:
    return known.stamp != _stamp(run)


def _stamp(run: RunFolder) -> tuple[int, int]:
    try:
        found = os.stat(run.events)
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


def in_order(rows: Iterable[RunRow]) -> tuple[RunRow, ...]:
    """Live runs on top, then the newest first."""
    return tuple(sorted(rows, key=lambda row: not row.live))
