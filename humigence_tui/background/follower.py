"""The thread that starts, resumes and follows a run: reads its log, folds it, and posts frozen snapshots.

It never touches a widget. It reads what is new every `EVERY_S` and posts at most that often, and at least once a second while
the run is on, so that times that grow are seen growing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from humigence_tui.background.log_lines import log_lines, logged_lines
from humigence_tui.background.output import OutputTail
from humigence_tui.background.post import Post
from pipeline.common.errors import HumigenceError
from pipeline.runs import control, fold_cache, post_mortem
from pipeline.runs.event_log import EventReader
from pipeline.runs.events import StopMode
from pipeline.runs.fold import fold_lines
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState
from screens.frame import messages
from screens.frame.run_snapshot import Freezer, LogLine, Snapshot

EVERY_S = 0.25
_AT_LEAST_EVERY_S = 1.0
_MAX_LINES = 2000
# Small enough that a snapshot of a long log is there before all of it is read.
_PIECE_BYTES = 2 << 20


class Follower(threading.Thread):
    """Daemon, so that a hung disk cannot keep the app from ending; `close` ends it in good order."""

    def __init__(self, post: Post) -> None:
        super().__init__(name="humigence-follower", daemon=True)
        self._post = post
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._following: list[Following] = []

    def follow(self, *runs_: RunFolder) -> None:
        """Follow these runs instead of those followed now."""
        self._tasks.put(lambda: self._begin(runs_))

    def launch(self, start: Callable[[], tuple[RunFolder, bool]]) -> None:
        """Call `start` here, which gives (run, whether it stands already), and follow what comes of it."""
        self._tasks.put(lambda: self._launch(start))

    def is_reading(self, run: RunFolder) -> bool:
        """Whether the log of this run is being read here, not to its end yet."""
        return any(following.run == run and not following.whole for following in self._following)

    def close(self) -> None:
        """End the thread; returns when it is gone."""
        self._tasks.put(None)
        if self.is_alive():
            self.join(timeout=5)

    def run(self) -> None:
        while True:
            try:
                # With nothing to follow there is nothing to wake up for.
                task = self._tasks.get(timeout=EVERY_S if self._following else None)
            except queue.Empty:
                task = self._look
            if task is None:
                return
            task()

    def _begin(self, runs_: tuple[RunFolder, ...]) -> None:
        known = {following.run: following for following in self._following}
        self._following = [known.get(run) or Following(run) for run in runs_]
        for following in self._following:
            following.show_again()
        self._look()

    def _launch(self, start: Callable[[], tuple[RunFolder, bool]]) -> None:
        try:
            run, standing = start()
        except HumigenceError as error:
            self._post(messages.RunRefused(error))
            return
        self._post(messages.RunStarted(run, standing))

    def _look(self) -> None:
        """Read what is new of each run, a piece at a time until all is read or there is something else to do."""
        pending = list(self._following)
        while pending:
            for following in pending:
                if following.read_log() and (following.whole or following.may_post()):
                    self._post(messages.SnapshotNews(following.snapshot()))
            pending = [following for following in pending if not following.whole]
            if not self._tasks.empty():
                return


@dataclass
class _Seen:
    posted: float = 0.0
    alive: bool | None = None
    lines: int = 0


class Following:
    """One run being followed: its log, its fold, its output."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._state: RunState | None = None
        self._reader: EventReader | None = None
        self._freezer = Freezer(run)
        self._log: deque[LogLine] = deque(maxlen=_MAX_LINES)
        self._output = OutputTail(run.output_log)
        self._seen = _Seen()
        self._unsaved = 0  # bytes of the log that no cache holds
        self.whole = False  # whether the log has been read to its end

    def read_log(self) -> bool:
        """Read what is new; True when there is something to show that was not there before."""
        state, reader = self._opened()
        alive = control.is_alive(self.run)  # before reading, so that a last event is never missed
        before = reader.offset
        fold_lines(reader.read_lines(_PIECE_BYTES), state, lambda envelope: self._log.extend(log_lines(envelope, state)))
        output_changed = self._output.read_new()
        was_whole, whole = self.whole, reader.offset - before < _PIECE_BYTES // 2
        grown = reader.offset != before
        self._unsaved += reader.offset - before
        # Not while it grows: a flood would have the whole curve written four times a second.
        if whole and self._unsaved > fold_cache.WORTH_IT_BYTES and not (was_whole and alive):
            fold_cache.save(self.run, state, reader.offset)
            self._unsaved = 0
        self.whole = whole  # from now on others read the cache
        changed = grown or output_changed or self.whole != was_whole or alive != self._seen.alive or self._due(alive)
        self._seen.alive = alive
        return changed

    def _due(self, alive: bool) -> bool:
        return not self._seen.posted or (alive and time.monotonic() - self._seen.posted >= _AT_LEAST_EVERY_S)

    def may_post(self) -> bool:
        """Whether the newest snapshot is old enough for another one."""
        return time.monotonic() - self._seen.posted >= EVERY_S

    def show_again(self) -> None:
        """The next `read_log` has something to show, whatever is new."""
        self._seen.posted = 0.0

    def _opened(self) -> tuple[RunState, EventReader]:
        """The fold and its reader; at first from the cache, the log pane filled from the end of the log."""
        if self._state is None or self._reader is None:
            cached = fold_cache.cached(self.run)
            if cached:
                self._state, self._reader = cached
                self._log.extend(logged_lines(self.run, self._reader.offset))
            else:
                self._state, self._reader = RunState(), EventReader(self.run)
        return self._state, self._reader

    def _asked(self) -> StopMode | None:
        try:
            return control.stop_requested(self.run)
        except OSError:
            return None

    def snapshot(self) -> Snapshot:
        """What the run looks like after the newest `read_log`."""
        assert self._state is not None
        self._seen.posted = time.monotonic()
        summary = fold_cache.summarize(self._state)
        status = summary.status
        if status in ("starting", "running") and not self._seen.alive:
            status = "crashed"
        return self._freezer.freeze(
            self._state, summary, status, time.time(), self._log, self._output.lines, whole=self.whole,
            gone=post_mortem.why(self.run) if status == "crashed" and self.whole else "",
            asked=self._asked() if status in ("starting", "running") else None,
        )  # fmt: skip
