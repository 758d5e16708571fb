"""All threads of the app, begun and ended together."""

from __future__ import annotations

from humigence_tui.background import Post
from humigence_tui.background.follower import Follower
from humigence_tui.background.machine import MachineWatch
from humigence_tui.background.run_list import RunList
from pipeline.runs import Workspace


class Threads:
    def __init__(self, workspace: Workspace, post: Post) -> None:
        self.follower = Follower(post)
        self.run_list = RunList(workspace, post)
        self.machine = MachineWatch(post)

    def start(self) -> None:
        for thread in (self.run_list, self.follower, self.machine):
            thread.start()

    def close(self) -> None:
        """Returns when they are gone, or seconds later where a driver or a disk hangs."""
        for thread in (self.run_list, self.follower, self.machine):
            thread.close()
