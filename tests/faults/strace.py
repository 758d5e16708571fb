"""A program under `strace`: which system calls it makes from a mark on, and what is left when it is killed at one of them."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.mark import MARK
from tests.processes import ROOT
from tests.waiting import PATIENCE_S

# Everything that changes a folder or a file in it, or makes such a change durable.
CALLS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink",
    "unlinkat", "rmdir", "ftruncate", "fchmod", "chmod", "link", "linkat", "fallocate", "sendfile", "copy_file_range", "close",
)  # fmt: skip
_LINE = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>\S+)")

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@dataclass(frozen=True)
class Call:
    """One system call; `number` counts those of its name from the start of the program."""

    name: str
    arguments: str
    number: int
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.name} #{self.number} ({self.arguments[:90]})"


def traced(program: Sequence[str], trace: Path, *inject: str) -> int:
    """Run Python with `program` under strace, the trace going to a file; returns the exit status, negative for a signal."""
    faults = [word for each in inject for word in ("-e", f"inject={each}")]
    command = ["strace", "-y", "-s", "40", "-e", f"trace={','.join(CALLS)}", *faults, "-o", str(trace)]
    # -E, -B: the same calls before the mark every time.
    done = subprocess.run(
        [*command, sys.executable, "-E", "-B", *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def calls_after_mark(trace: Path) -> list[Call]:
    """The calls of a trace from `MARK` on, in order."""
    counts: Counter[str] = Counter()
    calls: list[Call] = []
    marked = False
    for line in trace.read_text(errors="replace").splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        name, arguments = found["name"], found["arguments"]
        counts[name] += 1
        if marked:
            calls.append(Call(name, arguments, counts[name], failed=found["result"] == "-1"))
        marked = marked or MARK in arguments
    assert marked, "the program has not come to its mark"
    return calls


def was_killed_at(trace: Path, call: Call) -> bool:
    """Whether the last call in a trace is the one meant, so that no test takes a death at start-up for one while writing."""
    lines = [line for line in trace.read_text(errors="replace").splitlines() if "(" in line]
    counted = sum(1 for line in lines if re.match(rf"(?:\d+ +)?{call.name}\(", line))
    return re.match(rf"(?:\d+ +)?{call.name}\(", lines[-1]) is not None and counted == call.number


def touches_files(call: Call) -> bool:
    """Whether a death before this call can leave other files than a death before the next: reads and Python's own can't."""
    if call.failed:
        return False
    if call.name == "openat":
        return "O_CREAT" in call.arguments or "O_TRUNC" in call.arguments
    return call.name != "close"


# ------------------------------------------------------------------------------------------- in what order it is flushed

_FD = re.compile(r"^\d+<(?P<path>[^>]*)>")
_PATHS = re.compile(r'"((?:[^"\\]|\\.)*)"')


def not_durable(calls: Sequence[Call], within: Path) -> list[str]:
    """Where a power cut could lose or tear what `calls` wrote below `within`: each in words; empty when the order is right.

    A file is flushed after its last write and before it gets its name; a folder after the last name in it was made.
    """
    problems: list[str] = []
    dirty_files: set[str] = set()
    dirty_folders: set[str] = set()
    for call in calls:
        if call.failed:
            continue
        on_fd = _FD.match(call.arguments)
        if call.name in ("fsync", "fdatasync") and on_fd:
            dirty_files.discard(on_fd["path"])
            dirty_folders.discard(on_fd["path"])
        elif call.name in ("write", "pwrite64", "sendfile", "copy_file_range") and on_fd:
            target = _FD.findall(call.arguments.split(", ")[2])[0] if call.name == "copy_file_range" else on_fd["path"]
            if target.startswith(str(within)):
                dirty_files.add(target)
        elif (call.name == "openat" and "O_CREAT" in call.arguments) or call.name in ("mkdir", "mkdirat"):
            _named(_PATHS.findall(call.arguments)[0], within, dirty_folders)
        elif call.name.startswith("rename"):
            problems += _renamed(*_PATHS.findall(call.arguments)[:2], dirty_files, dirty_folders)
            _named(_PATHS.findall(call.arguments)[1], within, dirty_folders)
    problems += [f"{path} is not flushed after its last write" for path in sorted(dirty_files) if not _temporary(path)]
    problems += [f"{path} is not flushed after a name in it was made" for path in sorted(dirty_folders) if not _temporary(path)]
    return problems


def _renamed(old: str, new: str, dirty_files: set[str], dirty_folders: set[str]) -> list[str]:
    below = [path for path in dirty_files | dirty_folders if path == old or path.startswith(old + "/")]
    for path in below:
        dirty_files.discard(path)
        dirty_folders.discard(path)
    return [f"{path} is not flushed before its rename to {new}" for path in sorted(below)]


def _named(path: str, within: Path, dirty_folders: set[str]) -> None:
    if path.startswith(str(within)) and not _temporary(path):
        dirty_folders.add(path.rpartition("/")[0])


def _temporary(path: str) -> bool:
    return path.endswith((".tmp", ".old", ".gone")) or ".tmp/" in path or ".gone/" in path or "/.lock" in path
