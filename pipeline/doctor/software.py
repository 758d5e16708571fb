"""Python, the packages, and whether torch and bitsandbytes are built for the GPU that is here. Imports neither."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.base_model.precision import PRECISIONS
from pipeline.doctor.check import Check
from pipeline.runs.provenance import installed_version
from pipeline.system.gpu import Survey, torch_cuda_build

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "huggingface_hub", "gguf", "textual")
_OLDEST_PYTHON = (3, 11)
_TORCH_FOR = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/"
# Driver's CUDA, by its major version -> the newest build of torch it can run. Within a major version any minor one goes:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
_BUILDS = {12: "cu126", 13: "cu130"}
# What CUDA 13 can still be compiled for (Turing); older cards need a build for CUDA 12.
_OLDEST_CAPABILITY_CUDA_13 = (7, 5)


def checks(found: Survey) -> Iterator[Check]:
    yield _python()
    for name in PACKAGES:
        version = installed_version(name)
        missing = Check(name, "problem", "not installed", "Humigence does not work without it", f"pip install {name}")
        yield Check(name, "ok", version) if version else missing
    yield _torch_build(found)
    yield _bitsandbytes(found)


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        advice = "Humigence needs Python 3.11 or newer"
        return Check("Python", "problem", version, advice, "make clean-venv && make install PYTHON=python3.12")
    return Check("Python", "ok", f"{version} ({sys.executable})")


def _torch_build(found: Survey) -> Check:
    """A CPU-only torch beside a GPU trains a hundred times slower and says nothing."""
    build = torch_cuda_build()
    runs = major(found.cuda_version)
    if build is None:
        if found.gpus:
            advice = "training would use the CPU and take a hundred times as long"
            command = _TORCH_FOR + _BUILDS.get(runs or max(_BUILDS), _BUILDS[max(_BUILDS)])
            return Check("torch build", "problem", "CPU only, and there is a GPU", advice, command)
        return Check("torch build", "ok", "CPU only")
    if found.gpus and runs and runs < (major(build) or 0):
        return _driver_too_old(build, found, runs)
    old = [gpu for gpu in found.gpus if gpu.capability and gpu.capability < _OLDEST_CAPABILITY_CUDA_13]
    if old and (major(build) or 0) >= 13:
        capability = ".".join(map(str, old[0].capability or ()))
        value = f"CUDA {build}, which has no code for GPU {old[0].index} (capability {capability})"
        return Check("torch build", "problem", value, "the card is older than this build supports", _TORCH_FOR + _BUILDS[12])
    return Check("torch build", "ok", f"CUDA {build}")


def _driver_too_old(build: str, found: Survey, runs: int) -> Check:
    value = f"CUDA {build}, and the driver {found.driver_version or ''} runs up to CUDA {found.cuda_version}".replace("  ", " ")
    advice = f"the driver is too old for the installed torch: update the NVIDIA driver, or install a torch for CUDA {runs}"
    return Check("torch build", "problem", value, advice, _TORCH_FOR + _BUILDS[runs] if runs in _BUILDS else _NEWEST_DRIVER)


_NEWEST_DRIVER = "sudo ubuntu-drivers install  # or your distribution's way to the newest NVIDIA driver, then reboot"


def _bitsandbytes(found: Survey) -> Check:
    """Whether its native library for this machine came with the package. Does not load it: that imports torch."""
    name = "bitsandbytes library"
    spec = importlib.util.find_spec("bitsandbytes")
    if spec is None or not spec.origin:
        bits = sorted(mode.bits for mode in PRECISIONS.values() if mode.needs_package == "bitsandbytes")
        advice = f"{' and '.join(f'{each}-bit' for each in bits)} weights need it"
        return Check(name, "problem", "not installed", advice, "pip install bitsandbytes")
    libraries = sorted(file.name for file in Path(spec.origin).parent.glob("libbitsandbytes_*.so"))
    build = torch_cuda_build()
    forced = os.environ.get("BNB_CUDA_VERSION")
    if build and found.gpus and forced and f"libbitsandbytes_cuda{forced}.so" not in libraries:
        value = f"BNB_CUDA_VERSION={forced} names a library that is not there"
        return Check(name, "problem", value, "bitsandbytes then loads nothing", "unset BNB_CUDA_VERSION")
    wanted = f"libbitsandbytes_cuda{major(build)}" if build and found.gpus else "libbitsandbytes_cpu"
    match = next((library for library in libraries if library.startswith(wanted)), None)
    if match:
        return Check(name, "ok", match)
    value = f"no {wanted}….so among {', '.join(libraries) or 'none'}"
    advice = "it has no code for this torch; python -m bitsandbytes tells more"
    return Check(name, "problem", value, advice, "pip install --force-reinstall --no-deps --upgrade bitsandbytes")


def major(version: str | None) -> int | None:
    """13 of "13.0"."""
    return int(version.split(".")[0]) if version else None
