"""All threads of the app, begun and ended together."""

from __future__ import annotations

import contextlib
import ctypes

from humigence_tui.background.follower import Follower
from humigence_tui.background.machine import MachineWatch
from humigence_tui.background.post import Post
from humigence_tui.background.run_list import RunList
from pipeline.runs.folders import Workspace

# mallopt(3)
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
_OWN_MAPPING_BYTES = 256 << 10


class Threads:
    def __init__(self, workspace: Workspace, post: Post) -> None:
        self.follower = Follower(post)
        self.run_list = RunList(workspace, post, self.follower.is_reading)
        self.machine = MachineWatch(post)

    def start(self) -> None:
        _give_memory_back()
        for thread in (self.run_list, self.follower, self.machine):
            thread.start()

    def close(self) -> None:
        """Returns when they are gone, or seconds later where a driver or a disk hangs."""
        for thread in (self.run_list, self.follower, self.machine):
            thread.close()


def _give_memory_back() -> None:
    """Curves are copied as they grow. Left to itself glibc keeps ever larger blocks in its heaps, one a thread, and the holes
    between them: after a day of events twice what is in use.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        libc.mallopt(_ARENA_MAX, 1)
