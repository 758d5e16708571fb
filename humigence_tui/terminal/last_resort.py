"""The app's end where its event loop no longer answers: once it is asked to end it ends, whatever it was doing."""

from __future__ import annotations

import faulthandler
import os
import queue
import threading
import time
from collections.abc import Callable

# Longer than an orderly end takes, of threads that close and screens that are taken down.
PATIENCE_S = 10.0
EXIT_BY_FORCE = 1


class LastResort(threading.Thread):
    """Waits until the app is asked to end, and ends the process where the app has not done so some seconds later.

    Args:
        needed: whether the process has more to do than to show a screen: a run that is trained in it is waited for.
        restore: gives the terminal back.
    """

    def __init__(self, needed: Callable[[], bool], restore: Callable[[], None]) -> None:
        super().__init__(name="humigence-last-resort", daemon=True)
        self._needed, self._restore = needed, restore
        # Its `put` may be called by a signal handler that interrupts another `put`; an Event's `set` may not.
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended = threading.Event()

    def ask(self) -> None:
        """The app was asked to end. Safe in a signal handler and in any thread."""
        self._asked.put(None)

    def stand_down(self) -> None:
        """The app has ended by itself."""
        self._ended.set()
        self.ask()

    def run(self) -> None:
        self._asked.get()
        if self._ended.wait(PATIENCE_S):
            return
        # What kept it, into the app's log, which is descriptor 2: `sys.stderr` is Textual's.
        faulthandler.dump_traceback(2, all_threads=True)
        while self._needed():
            time.sleep(0.5)
        self._restore()
        os._exit(EXIT_BY_FORCE)
