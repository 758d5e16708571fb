"""What happened to the machine since a run began, as far as it still shows: restarted, out of memory, a disk that failed, its
clock set. Why a run's process ended without a word, above all.

At each start the run notes what it needs for that (`provenance`); whoever looks later compares.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pipeline.runs import provenance
from pipeline.runs.folders import RunFolder
from pipeline.system import disk

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_VMSTAT = Path("/proc/vmstat")


def witnesses() -> dict[str, Any]:
    """Noted with a start: which boot of the machine this is and when that was by its clock, and how many processes the kernel
    has ended for memory since.
    """
    return {"boot": _boot(), "booted": _booted(), "killed_for_memory": _killed_for_memory()}


def why(run: RunFolder) -> str:
    """One sentence, or "" where nothing on this machine shows it. Only worth asking of a crashed run."""
    if disk.is_read_only(run.path):
        return "its disk is read-only now, so nothing more could be written: dmesg tells why"
    start = _last_start(run)
    boot, killed = start.get("boot"), start.get("killed_for_memory")
    if boot and _boot() and boot != _boot():
        return "the machine was restarted since (or this is another machine)"
    now = _killed_for_memory()
    if isinstance(killed, int) and now is not None and now > killed:
        return "the kernel has ended a process for want of memory since the run began: most likely this one (dmesg tells)"
    return ""


def clock_moved_s(run: RunFolder) -> float:
    """Seconds by which the clock was set forward (or back: negative) since the run's last start; 0 where that is not known.

    The moment the machine started lies still; reckoned with a clock that was set in the meantime it moves.
    """
    start = _last_start(run)
    booted = start.get("booted")
    if not isinstance(booted, int | float) or not _boot() or start.get("boot") != _boot():
        return 0.0
    return _booted() - booted


def _last_start(run: RunFolder) -> dict[str, Any]:
    """What the run's newest start noted; empty where an older version made it."""
    return (provenance.starts(run) or [{}])[-1]


def _booted() -> float:
    """When the machine started, by its clock as it is set now, in seconds since 1970."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _killed_for_memory() -> int | None:
    """The kernel's counter since boot, for the whole machine and every container on it; None where it does not count."""
    try:
        lines = _VMSTAT.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
