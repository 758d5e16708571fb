"""Memory, disks, the hub cache, the clock, and whether a training outlives the login."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pipeline
from pipeline.base_model.hub_cache import has_token, hub_cache
from pipeline.common.text import duration
from pipeline.doctor.check import Check
from pipeline.runs import post_mortem, store
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import login_session
from pipeline.system.disk import existing, is_read_only
from pipeline.system.gpu import GIB
from pipeline.system.host import read_host

_FULL, _LITTLE_DISK, _LITTLE_MEMORY = GIB, 10 * GIB, 8 * GIB
_CLOCK_SLACK_S = 120.0
_RUNS_LOOKED_AT = 20
_ASK_S = 5.0  # longest wait for an answer of systemd's


def checks(workspace: Path) -> Iterator[Check]:
    yield from _host()
    yield _writable("workspace", workspace, "work in a folder of yours", "cd ~ && mkdir -p humigence && cd humigence")
    yield _disk("disk (workspace)", workspace, "humigence runs prune  # shows first what it would delete")
    yield _disk("disk (Hugging Face cache)", hub_cache(), "hf cache ls  # then: hf cache rm REPO")
    yield _writable("Hugging Face cache", hub_cache(), "downloads have nowhere to go", "export HF_HOME=~/huggingface")
    yield _token()
    yield _clock(workspace)
    yield from _logout_kills()


def _host() -> Iterator[Check]:
    host = read_host()
    yield Check("CPU", "ok", f"{host.cpu_name}, {host.cores} cores")
    little = host.memory_available_bytes < _LITTLE_MEMORY
    value = f"{host.memory_available_bytes / GIB:.1f} of {host.memory_total_bytes / GIB:.1f} GiB available"
    mend = ("the demo needs 5 GiB, larger models more", "ps aux --sort=-rss | head  # shows who has it") if little else ("", "")
    yield Check("memory", "warning" if little else "ok", value, *mend)


# --------------------------------------------------------------------------------------------------------- disks


def _disk(name: str, path: Path, command: str) -> Check:
    volume = _volume(path)
    free = volume.f_bavail * volume.f_frsize
    value = f"{free / GIB:.1f} GiB free at {path}"
    if free < _FULL or (volume.f_files and not volume.f_favail):
        what = "full" if free < _FULL else "no more files can be made on it"
        return Check(name, "problem", f"{what}: {value}", "a training pauses when its disk is full: make room first", command)
    if free < _LITTLE_DISK:
        advice = "a base model, its checkpoints and the prepared data take up to 10 GiB"
        return Check(name, "warning", value, advice, command)
    return Check(name, "ok", value)


def _writable(name: str, path: Path, advice: str, command: str) -> Check:
    there = existing(path)
    read_only = is_read_only(there)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK) and not read_only:
        return Check(name, "ok", str(path))
    why = "is on a disk that is read-only (dmesg tells why)" if read_only else "cannot be written to"
    return Check(name, "problem", f"{path} {why}", advice, command)


def _volume(path: Path) -> os.statvfs_result:
    """The file system that holds `path`, which need not exist yet."""
    return os.statvfs(existing(path))


def _token() -> Check:
    """Only whether there is one."""
    if has_token():
        return Check("HF_TOKEN", "ok", "set")
    return Check("HF_TOKEN", "ok", "not set (only gated and private models need it)")


# --------------------------------------------------------------------------------------------------------- clock


def _clock(workspace: Path) -> Check:
    """A clock that went back makes new runs older than the old ones; a wrong one breaks TLS and every time that is shown."""
    now = time.time()
    value = datetime.fromtimestamp(now).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    set_it = "sudo timedatectl set-ntp true"
    newest, path = max(((_written(path), path) for path in _dated(workspace)), default=(0.0, workspace))
    if newest > now + _CLOCK_SLACK_S:
        then = datetime.fromtimestamp(newest).astimezone().strftime("%Y-%m-%d %H:%M")
        advice = f"the clock jumped back: {path} was written at {then}; runs would be listed in the wrong order"
        return Check("clock", "warning", value, advice, set_it)
    if advice := next(filter(None, map(_set_since, _newest_runs(workspace))), ""):
        return Check("clock", "warning", value, advice, set_it)
    if _answer("timedatectl", "show", "--property=NTPSynchronized", "--value") == "no":
        return Check("clock", "warning", f"{value}, not synchronized", "it may jump while a run is on", set_it)
    return Check("clock", "ok", value)


def _set_since(run: RunFolder) -> str:
    moved = post_mortem.clock_moved_s(run)
    if abs(moved) <= _CLOCK_SLACK_S:
        return ""
    way = "forward" if moved > 0 else "back"
    return f"it was set {way} by {duration(abs(moved))} since run {run.project}/{run.run_id} began: its times do not fit together"


def _dated(workspace: Path) -> Iterator[Path]:
    """Files that were certainly written in the past."""
    yield Path(pipeline.__file__)
    for run in _newest_runs(workspace):
        yield run.events


def _newest_runs(workspace: Path) -> list[RunFolder]:
    return store.runs_of(Workspace(workspace))[:_RUNS_LOOKED_AT]


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


# -------------------------------------------------------------------------------------------------------- logout


def _logout_kills() -> Iterator[Check]:
    """systemd can be configured to kill what a person leaves running at logout: a training with it."""
    kills = login_session.kills_at_logout()
    if kills is None:
        return
    if not kills:
        yield Check("KillUserProcesses", "ok", "no: a training outlives the login")
    elif login_session.this_login().lingers:
        yield Check("KillUserProcesses", "ok", "yes, but you linger: a training gets a scope of its own and outlives the login")
    else:
        advice = "a training ends when you log out; once you linger it gets a scope of its own"
        yield Check("KillUserProcesses", "warning", "yes", advice, login_session.KEEP)


def _answer(*command: str) -> str:
    """What a program says, or "" where it is missing, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
