"""Room on disks: how much there is, whether an error means that there is none, and a reserve for the events that report it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

from pipeline.common.errors import EnvironmentFault
from pipeline.common.text import size

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What libraries written in other languages say: Rust and C++ quote the system, numpy has a message of its own.
_FULL_MESSAGES = re.compile(r"No space left on device|Disk quota exceeded|\b\d+ requested and \d+ written")
_MOUNTS = Path("/proc/self/mountinfo")


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def free_disk_bytes(path: Path) -> int:
    """Room on the disk that holds `path`, which need not exist yet."""
    return shutil.disk_usage(existing(path)).free


def is_full(error: BaseException) -> bool:
    """Whether an error of the system, or of a library that wrote a file, means that the disk or a quota is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return bool(_FULL_MESSAGES.search(str(error)))


def is_read_only(path: Path) -> bool:
    """Whether the file system that holds `path` takes no writes: mounted so, or shut by the kernel after an error."""
    path = existing(path)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return True
    # Newer kernels shut a damaged ext4 without the flag; proc_pid_mountinfo(5) names the device and its options.
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split()[2] == number and "emergency_ro" in line.split()[-1].split(",") for line in mounts)


def require_free(folder: Path, needed: int, what: str, hint: str = "make room, then start it again") -> None:
    """Refuse work that the disk has no room for.

    Args:
        folder: on the disk that is asked; it need not exist yet.
        needed: bytes.
        what: what they are needed for, as the message begins: "preparing the data".
        hint: what the person can do.

    Raises:
        EnvironmentFault: fewer bytes are free.
    """
    free = free_disk_bytes(folder)
    if needed > free:
        raise EnvironmentFault(f"{what}: about {size(needed)} are needed, {size(free)} are free at {folder}", hint)


class Reserve:
    """Room for the events that report a full disk: a file that is removed when they need it."""

    BYTES = 64 << 10

    def __init__(self, path: Path) -> None:
        self._path = path

    def hold(self) -> None:
        """Take the room, where there is any."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self.BYTES)
        except OSError as error:
            if not is_full(error) and error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(fd)

    def release(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
