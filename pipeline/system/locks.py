"""Locks that die with their holder: POSIX record locks on a file that is opened once.

`flock` and open-file-description locks are inherited by forked children, so a data loader that outlives its worker would make a
dead run look alive. Record locks belong to the process. Their trap: closing *any* descriptor of the file drops them, so this
process never opens a file a second time that it holds (`_held`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

_held: dict[str, FileLock] = {}
_held_guard = threading.Lock()
# struct flock on Linux: l_type, l_whence, l_start, l_len, l_pid (padded as C would).
_FLOCK = "hhqqi4x"


class FileLock:
    """An exclusive lock on `path`, held until `release` or until this process ends."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def release(self) -> None:
        with _held_guard:
            if _held.pop(_key(self.path), None) is not None:
                os.close(self._fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _key(path: Path) -> str:
    return os.path.realpath(path)


def try_lock(path: Path) -> FileLock | None:
    """Take the lock now, or None when another holder has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _held_guard:
        if _key(path) in _held:
            return None
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return None
            raise
        lock = FileLock(path, fd)
        _held[_key(path)] = lock
        return lock


def wait_lock(path: Path, *, give_up: Callable[[], bool] = lambda: False, every_s: float = 0.1) -> FileLock | None:
    """Take the lock as soon as it is free; None when `give_up()` is true first.

    Args:
        path: the lock file; made where it is missing.
        every_s: seconds between attempts.
    """
    while (lock := try_lock(path)) is None:
        if give_up():
            return None
        time.sleep(every_s)
    return lock


def holder(path: Path) -> int | None:
    """The pid that holds the lock, or None. Asks without taking it, so that looking never keeps a starter out."""
    with _held_guard:
        if _key(path) in _held:
            return os.getpid()
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return _holder_read_only(path)
        try:
            return _query(fd)
        finally:
            os.close(fd)


def _holder_read_only(path: Path) -> int | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _query(fd)
    finally:
        os.close(fd)


def _query(fd: int) -> int | None:
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _whence, _start, _length, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, request))
    return None if kind == fcntl.F_UNLCK else int(pid)
