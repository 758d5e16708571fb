"""Small disks that really are full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.workers import Workers
from tests.faults.zygote import fill

SIZE_MIB = 64


class Disk:
    """A file system of its own, of 64 MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.filler = path / "filler"

    def fill(self, *, leave: int = 0) -> None:
        """Take all the room but `leave` bytes."""
        fill(self.filler)
        with self.filler.open("rb+") as file:
            file.truncate(max(0, self.filler.stat().st_size - leave))

    def make_room(self) -> None:
        self.filler.unlink(missing_ok=True)

    def make_read_only(self, *, yes: bool = True) -> None:
        subprocess.run(["mount", "-o", "remount,ro" if yes else "remount,rw", str(self.path)], check=True)


def mounted(path: Path) -> Disk | None:
    """An empty disk at `path`; None where this user may not mount one."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return Disk(path) if done.returncode == 0 else None


def unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """An empty disk; the test is skipped where this user may not mount one."""
    made = mounted(tmp_path / "disk")
    if made is None:
        pytest.skip("this user may not mount a disk")
    yield made
    Workers.end_all()
    unmount(made.path)
