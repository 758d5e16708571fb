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


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """An empty disk; the test is skipped where this user may not mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"this user may not mount a disk: {mounted.stderr.strip()}")
    yield Disk(path)
    Workers.end_all()
    subprocess.run(["umount", "--lazy", str(path)], check=True)
