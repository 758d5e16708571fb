"""The thread that reads GPUs, CPU and memory once a second. A driver call that hangs hangs here and nowhere else."""

from __future__ import annotations

import threading
import time

from humigence_tui.background.post import Post
from pipeline.system import gpu
from pipeline.system.host import read_host
from screens.frame import messages
from screens.frame.machine_snapshot import MachineHistory

EVERY_S = 1.0


class MachineWatch(threading.Thread):
    """Daemon: a call that never returns cannot keep the app from ending."""

    def __init__(self, post: Post) -> None:
        super().__init__(name="humigence-machine", daemon=True)
        self._post = post
        self._closing = threading.Event()

    def close(self) -> None:
        self._closing.set()
        if self.is_alive():
            self.join(timeout=2)

    def run(self) -> None:
        history = MachineHistory()
        while not self._closing.is_set():
            # psutil reports the CPU's load since the call before: the first one is thrown away.
            survey, host = gpu.survey(), read_host()
            self._post(messages.MachineNews(history.add(survey, host, time.time())))
            self._closing.wait(EVERY_S)
