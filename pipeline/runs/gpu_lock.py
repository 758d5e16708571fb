"""One training at a time on a card, whatever project it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.cache import cache_folder
from pipeline.common.errors import EnvironmentFault, Stopped
from pipeline.runs.events import Event, Note
from pipeline.system import locks
from pipeline.system.gpu import Device


@contextmanager
def card_held(device: Device, *, wait: bool, give_up: Callable[[], bool], emit: Callable[[Event], None]) -> Iterator[None]:
    """Hold the device against other trainings of this user; the CPU is nobody's.

    Args:
        wait: queue behind the run that trains on it, instead of failing.
        give_up: asked ten times a second while waiting.
        emit: gets a `Note` of what is waited for.

    Raises:
        EnvironmentFault: another run trains on it and `wait` is off.
        Stopped: `give_up()` was true while waiting.
    """
    if device.kind == "cpu":
        yield
        return
    path = _lock_of(device)
    lock = locks.try_lock(path)
    if lock is None:
        pid = locks.holder(path) or "?"
        if not wait:
            raise EnvironmentFault(
                f"{device.name} ({device.uuid}) is busy: process {pid} trains on it",
                "--wait queues behind it; compute.gpu chooses another one",
            )
        emit(Note(f"waiting for {device.name}: process {pid} trains on it"))
        lock = locks.wait_lock(path, give_up=give_up)
        if lock is None:
            raise Stopped("stopped while waiting for the GPU")
    with lock:
        yield


def card_holder(device: Device) -> int | None:
    """The process that trains on the device, or None; the CPU is nobody's."""
    return None if device.kind == "cpu" else locks.holder(_lock_of(device))


def _lock_of(device: Device) -> Path:
    return cache_folder("locks") / f"{device.uuid}.lock"
