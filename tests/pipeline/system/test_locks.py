"""Locks: gone with their holder, kept beside forked children, not disturbed by looking."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pipeline.system import locks
from tests.processes import python, started
from tests.waiting import PATIENCE_S, killed

_HOLD = """
import sys
from pathlib import Path
from pipeline.system import locks
lock = locks.try_lock(Path(sys.argv[1]))
print("ready" if lock else "refused", flush=True)
sys.stdin.read()
"""
_HOLD_AND_FORK = """
import os, sys, time
from pathlib import Path
from pipeline.system import locks
lock = locks.try_lock(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(600)
    os._exit(0)
Path(sys.argv[2]).write_text(str(child))
print("ready", flush=True)
sys.stdin.read()
"""
_LOOK = """
import sys
from pathlib import Path
from pipeline.system import locks
print("ready", flush=True)
while True:
    locks.holder(Path(sys.argv[1]))
"""
_TRY = """
import sys
from pathlib import Path
from pipeline.system import locks
sys.exit(0 if locks.try_lock(Path(sys.argv[1])) else 1)
"""


def is_free(path: Path) -> bool:
    """Whether another process can take the lock."""
    return python(_TRY, path).returncode == 0


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = started(_HOLD, path)
    try:
        assert locks.try_lock(path) is None
        assert locks.holder(path) == holder.pid
    finally:
        killed(holder)


def test_kill_9_frees_the_lock_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = started(_HOLD, path)
    killed(holder)
    assert locks.holder(path) is None
    lock = locks.try_lock(path)
    assert lock is not None
    lock.release()


def test_a_dead_holders_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    path, child_file = tmp_path / "lock", tmp_path / "child"
    holder = started(_HOLD_AND_FORK, path, child_file)
    child = int(child_file.read_text())
    try:
        assert locks.holder(path) == holder.pid
        killed(holder)
        os.kill(child, 0)  # the child lives
        assert locks.holder(path) is None
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_that_ends_does_not_take_the_lock_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.try_lock(path):  # type: ignore[union-attr]
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert not is_free(path)
    assert is_free(path)


def test_looking_neither_takes_nor_drops_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert locks.holder(path) is None
    assert not path.exists()
    with locks.try_lock(path):  # type: ignore[union-attr]
        for _ in range(3):
            assert locks.holder(path) == os.getpid()
            assert locks.holder(tmp_path / "." / "lock") == os.getpid()
        assert not is_free(path)
    assert locks.holder(path) is None


def test_one_process_does_not_take_its_own_lock_twice(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.try_lock(path):  # type: ignore[union-attr]
        assert locks.try_lock(path) is None
        assert not is_free(path)


def test_many_lookers_never_keep_a_starter_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    looker = started(_LOOK, path)
    try:
        for _ in range(200):
            lock = locks.try_lock(path)
            assert lock is not None
            lock.release()
    finally:
        killed(looker)


def test_waiting_ends_when_the_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = started(_HOLD, path)
    end, looks = time.monotonic() + PATIENCE_S, 0

    def looked() -> bool:
        nonlocal looks
        looks += 1
        if looks == 5:
            killed(holder)
        return time.monotonic() > end

    lock = locks.wait_lock(path, give_up=looked, every_s=0.02)
    assert lock is not None
    lock.release()


def test_waiting_gives_up_when_told_to(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = started(_HOLD, path)
    try:
        assert locks.wait_lock(path, give_up=lambda: True) is None
    finally:
        killed(holder)
