"""What a run was made with: seed, code, packages, driver, GPU, command line and the environment that matters.

One entry for each start of the run, in its `meta.json`: a run that is resumed after an upgrade was made with both. Never a token:
names that say secret are left out, values are redacted.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline import QUIET, __version__
from pipeline.common.files import read_json, write_json
from pipeline.common.redact import is_secret, redact
from pipeline.runs.folders import RunFolder
from pipeline.system import gpu

# Those whose version changes what a run does.
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")
# Variables that change what runs, where, or how fast.
_MATTERS = re.compile(
    r"(HF|HUGGINGFACE|TRANSFORMERS|CUDA|PYTORCH|TORCH|TORCHINDUCTOR|TRITON|BNB|BITSANDBYTES|OMP|MKL|CUBLAS|CUDNN|TOKENIZERS"
    r"|HUMIGENCE)_\w+|NVIDIA_VISIBLE_DEVICES|TRAIN|VALIDATION_ONLY|LD_LIBRARY_PATH|PYTHONHASHSEED"
)


def of_this_process(root: Path, seed: int, device: str, command: str) -> dict[str, Any]:
    """One entry, as JSON.

    Args:
        root: the workspace, whose commit is recorded when it is a git checkout.
        device: the name of the device that was chosen.
        command: what the person typed.
    """
    found = gpu.survey()
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "pid": os.getpid(),
        "command": redact(command),
        "seed": seed,
        "humigence": __version__,
        "code": git_state(Path(__file__).resolve().parent),
        "workspace": git_state(root),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "driver": found.driver_version,
        "cuda": found.cuda_version,
        "device": device,
        "environment": environment_that_matters(os.environ),
    }


def command_line() -> str:
    """This process's command as it would be typed again."""
    return shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])


def environment_that_matters(environ: Mapping[str, str]) -> dict[str, str]:
    matters = (name for name in sorted(environ) if _MATTERS.fullmatch(name) and not is_secret(name))
    return {name: redact(environ[name]) for name in matters if QUIET.get(name) != environ[name]}


def installed_version(package: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, Any] | None:
    """`{"commit", "dirty"}` of the checkout that tracks `folder`; None where there is none, or no git.

    Dirty is a change of a tracked file: what a run itself writes into the folder is none.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    # A virtual environment or a workspace inside somebody's checkout is not that checkout's code.
    if not commit or not _git(folder, "ls-files", "--", "."):
        return None
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


# ------------------------------------------------------------------------------------------------------ meta.json


def record(run: RunFolder, entry: dict[str, Any]) -> None:
    """Add an entry to the run's `meta.json`, whatever state that file is in.

    Args:
        entry: of one start, as `of_this_process` gives it.
    """
    meta = _meta(run)
    write_json(run.meta, meta | {"starts": [*_starts(meta), entry]})


def starts(run: RunFolder) -> list[dict[str, Any]]:
    """Every entry, the oldest first; none where the run was made by an older version."""
    return _starts(_meta(run))


def of_training(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The start that trained last; a later one may only have judged or packed, on another machine. The newest if none did."""
    trained = [entry for entry in entries if entry.get("trains")]
    return (trained or entries or [{}])[-1]


def _meta(run: RunFolder) -> dict[str, Any]:
    try:
        meta = read_json(run.meta)
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _starts(meta: dict[str, Any]) -> list[dict[str, Any]]:
    found = meta.get("starts")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


# ---------------------------------------------------------------------------------------------------- for people


def facts(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """An entry as rows of name and value; what is not known is left out."""
    rows = [
        ("command", entry.get("command")),
        ("seed", entry.get("seed")),
        ("git commit", _commit(entry)),
        ("versions", versions(entry)),
        ("driver", driver(entry)),
        ("device", entry.get("device")),
        ("environment", " ".join(f"{name}={value}" for name, value in (entry.get("environment") or {}).items())),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _commit(entry: dict[str, Any]) -> str:
    """The code's commit, and the workspace's where that is another."""
    code, workspace = entry.get("code"), entry.get("workspace")
    states = [_state(code)] if code else []
    if workspace and workspace != code:
        states.append(_state(workspace) + (" (workspace)" if code else ""))
    return ", ".join(states)


def _state(state: dict[str, Any]) -> str:
    return f"{state['commit'][:12]}{' with uncommitted changes' if state['dirty'] else ''}"


def versions(entry: dict[str, Any]) -> str:
    """`humigence 0.1.0, Python 3.11.2, torch 2.13.0, …`."""
    first = {"humigence": entry.get("humigence"), "Python": entry.get("python")}
    named = first | (entry.get("packages") or {})
    return ", ".join(f"{name} {version}" for name, version in named.items() if version)


def driver(entry: dict[str, Any]) -> str:
    """`580.65.06, CUDA up to 13.0`; empty where there is no driver."""
    if not entry.get("driver"):
        return ""
    return str(entry["driver"]) + (f", CUDA up to {entry['cuda']}" if entry.get("cuda") else "")


def publishable(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """`facts` for a card: of paths only the last part, since the others name people and machines."""
    return [(name, _PATH.sub(r"…/\1", value)) for name, value in facts(entry)]


_PATH = re.compile(r"(?:~|(?<![\w.…]))/(?:[^\s/:'\"]+/)*([^\s/:'\"]*)")


def differences(entries: list[dict[str, Any]]) -> list[str]:
    """What of one start differs from the one before it: `torch 2.12.0 → 2.13.0`."""
    changes: list[str] = []
    for before, after in itertools.pairwise(entries):
        old, new = _comparable(before), _comparable(after)
        changes += [f"{name} {old.get(name) or 'none'} → {new[name] or 'none'}" for name in new if new[name] != old.get(name)]
    return changes


def _comparable(entry: dict[str, Any]) -> dict[str, str]:
    packages = {name: str(version or "") for name, version in (entry.get("packages") or {}).items()}
    return {
        "commit": _commit(entry),
        "driver": str(entry.get("driver") or ""),
        "device": str(entry.get("device") or ""),
    } | packages
