"""What this machine has, what is missing, and how to mend it. Works without a GPU, a driver, a network or torch."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.base_model.locate import hub_cache
from pipeline.catalogue import free_disk_bytes, has_token
from pipeline.gpu import GIB, Survey, read_host, survey, torch_cuda_build

Status = Literal["ok", "warning", "problem"]
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "huggingface_hub", "gguf", "textual")
_OLDEST_PYTHON = (3, 11)
_LITTLE_DISK, _LITTLE_MEMORY = 10 * GIB, 8 * GIB
_CUDA_TORCH = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"


@dataclass(frozen=True)
class Check:
    """One line of the report. `advice` is what to do; empty where all is well."""

    name: str
    status: Status
    value: str
    advice: str = ""


def examine(workspace: Path, found: Survey | None = None) -> list[Check]:
    """The whole report.

    Args:
        workspace: the folder whose disk is looked at.
        found: the GPUs, when they have been read already.
    """
    found = survey() if found is None else found
    return [
        _python(),
        *_packages(),
        _torch_build(found),
        *_gpus(found),
        _bitsandbytes(found),
        *_host(),
        _disk("disk (workspace)", workspace),
        _disk("disk (Hugging Face cache)", hub_cache()),
        _cache(),
        _token(),
        *_logout_kills(),
    ]


def to_json(checks: list[Check]) -> dict[str, Any]:
    """`{"healthy": …, "checks": [{"name", "status", "value", "advice"}, …]}`; healthy when there is no problem."""
    return {"healthy": healthy(checks), "checks": [asdict(check) for check in checks]}


def healthy(checks: list[Check]) -> bool:
    return all(check.status != "problem" for check in checks)


def package_version(name: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        return Check("Python", "problem", version, "Humigence needs Python 3.11 or newer")
    return Check("Python", "ok", f"{version} ({sys.executable})")


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        version = package_version(name)
        yield Check(name, "ok", version) if version else Check(name, "problem", "not installed", f"pip install {name}")


def _torch_build(found: Survey) -> Check:
    """A CPU-only torch beside a GPU trains a hundred times slower and says nothing."""
    build = torch_cuda_build()
    if build is None:
        if found.gpus:
            return Check("torch build", "problem", "CPU only, and there is a GPU", _CUDA_TORCH)
        return Check("torch build", "ok", "CPU only")
    if found.gpus and found.cuda_version and _major(found.cuda_version) < _major(build):
        value = f"CUDA {build}, and the driver runs up to CUDA {found.cuda_version}"
        return Check("torch build", "problem", value, "update the NVIDIA driver, or install a torch built for an older CUDA")
    return Check("torch build", "ok", f"CUDA {build}")


def _major(version: str) -> int:
    return int(version.split(".")[0])


def _gpus(found: Survey) -> Iterator[Check]:
    if not found.gpus:
        advice = "training runs on the CPU: fine for the demo, slow for more"
        yield Check("GPU", "warning", found.problem or "none", advice)
        return
    yield Check("NVIDIA driver", "ok", f"{found.driver_version or 'unknown'}, CUDA up to {found.cuda_version or 'unknown'}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        yield Check(
            "CUDA_VISIBLE_DEVICES", "ok" if visible else "warning", repr(visible), "" if visible else "it hides every GPU"
        )
    for gpu in found.gpus:
        free, total = gpu.memory_free_bytes, gpu.memory_total_bytes
        memory = f", {free / GIB:.1f} of {total / GIB:.1f} GiB free" if free is not None and total else ""
        busy = free is not None and total and free < total / 4
        advice = "something else holds most of its memory: nvidia-smi shows what" if busy else ""
        capability = f", capability {gpu.capability[0]}.{gpu.capability[1]}" if gpu.capability else ""
        yield Check(f"GPU {gpu.index}", "warning" if busy else "ok", f"{gpu.name or 'unknown'}{memory}{capability}", advice)


def _bitsandbytes(found: Survey) -> Check:
    """Whether its native library for this machine came with the package. Does not load it: that imports torch."""
    name = "bitsandbytes library"
    spec = importlib.util.find_spec("bitsandbytes")
    if spec is None or not spec.origin:
        return Check(name, "problem", "not installed", "pip install bitsandbytes")
    libraries = sorted(file.name for file in Path(spec.origin).parent.glob("libbitsandbytes_*.so"))
    build = torch_cuda_build()
    wanted = f"libbitsandbytes_cuda{_major(build)}" if build and found.gpus else "libbitsandbytes_cpu"
    match = next((library for library in libraries if library.startswith(wanted)), None)
    if match:
        return Check(name, "ok", match)
    value = f"no {wanted}….so among {', '.join(libraries) or 'none'}"
    return Check(name, "problem", value, "pip install --upgrade bitsandbytes; python -m bitsandbytes tells more")


def _host() -> Iterator[Check]:
    host = read_host()
    yield Check("CPU", "ok", f"{host.cpu_name}, {host.cores} cores")
    little = host.memory_available_bytes < _LITTLE_MEMORY
    value = f"{host.memory_available_bytes / GIB:.1f} of {host.memory_total_bytes / GIB:.1f} GiB available"
    yield Check("memory", "warning" if little else "ok", value, "the demo needs 5 GiB, larger models more" if little else "")


def _disk(name: str, path: Path) -> Check:
    free = free_disk_bytes(path)
    little = free < _LITTLE_DISK
    advice = "a base model, its checkpoints and the prepared data take up to 10 GiB" if little else ""
    return Check(name, "warning" if little else "ok", f"{free / GIB:.1f} GiB free at {path}", advice)


def _cache() -> Check:
    cache = hub_cache()
    existing = next((each for each in (cache, *cache.parents) if each.exists()), Path("/"))
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Check("Hugging Face cache", "ok", str(cache))
    return Check("Hugging Face cache", "problem", f"{cache} cannot be written to", "set HF_HOME to a folder of yours")


def _token() -> Check:
    """Only whether there is one."""
    if has_token():
        return Check("HF_TOKEN", "ok", "set")
    return Check("HF_TOKEN", "ok", "not set (only gated and private models need it)")


def _logout_kills() -> Iterator[Check]:
    """systemd can be told to kill what a person leaves running at logout: a training with it."""
    manager = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = ["busctl", "get-property", *manager, "KillUserProcesses"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
        if answer == "b true":
            advice = "a training ends when you log out; keep it with: loginctl enable-linger, or run it inside systemd-run --user"
            yield Check("KillUserProcesses", "warning", "yes", advice)
        elif answer == "b false":
            yield Check("KillUserProcesses", "ok", "no: a training outlives the login")
