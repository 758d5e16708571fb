"""Small disks that really are full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.workers import Workers
from tests.faults.zygote import fill
from tests.waiting import PATIENCE_S

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
        subprocess.run(["mount", "-o", "remount,ro" if yes else "remount,rw", str(self.path)], timeout=PATIENCE_S, check=True)


class FailingDisk:
    """An ext4 of its own that the kernel can be told to shut against writes, as it does after an error."""

    def __init__(self, image: Path, path: Path) -> None:
        self._image, self.path = image, path

    def mount(self) -> bool:
        self.path.mkdir(exist_ok=True)
        return _did("mount", "-o", "loop,errors=remount-ro", self._image, self.path)

    def unmount(self) -> bool:
        return _did("umount", self.path)

    def mend(self) -> None:
        """Look through it and mount it again, as a person does."""
        assert self.unmount()
        _did("e2fsck", "-f", "-y", self._image)
        assert self.mount()

    @property
    def trigger(self) -> Path:
        """What is written to for an error."""
        device = self.path.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        return Path(f"/sys/fs/ext4/{name}/trigger_fs_error")


def _did(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0
    except FileNotFoundError:
        return False


def mounted(path: Path) -> Disk | None:
    """An empty disk at `path`; None where this user may not mount one."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError:
        return None
    return Disk(path) if done.returncode == 0 else None


def unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], timeout=PATIENCE_S, check=True)


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[FailingDisk]:
    """Skipped where this user may not mount an ext4, or not break it."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(SIZE_MIB << 20)
    made = FailingDisk(image, tmp_path / "disk")
    if not (_did("mkfs.ext4", "-q", image) and made.mount()):
        pytest.skip("this user may not mount a disk")
    if not os.access(made.trigger, os.W_OK):
        made.unmount()
        pytest.skip("this kernel can't be told that an ext4 is damaged")
    yield made
    Workers.end_all()
    made.unmount()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """An empty disk; the test is skipped where this user may not mount one."""
    made = mounted(tmp_path / "disk")
    if made is None:
        pytest.skip("this user may not mount a disk")
    yield made
    Workers.end_all()
    unmount(made.path)
