"""Exceptions of the system and of libraries that mean that the machine failed, as errors a person can act on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline.common.errors import BadInput, EnvironmentFault, HumigenceError
from pipeline.system.disk import is_full

_OURS = ("pipeline", "screens", "humigence_tui")
_GPU_MESSAGES = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "CUDA driver")


def as_fault(error: BaseException, place: Path) -> HumigenceError | None:
    """The fault of the machine, or of a path, that `error` is; None where it is none.

    Args:
        place: where it happened, for errors that don't say.

    Returns:
        An error of ours with the next thing to do, not raised.
    """
    where = getattr(error, "filename", None) or place
    if is_full(error):
        return EnvironmentFault(f"the disk is full: {where}", "make room, then start it again: what is whole is kept")
    if isinstance(error, FileNotFoundError) and not _in_a_folder():
        return BadInput("the current folder is not there any more", "cd into one that is")
    if isinstance(error, UnicodeEncodeError) and not _is_utf8(place):
        return BadInput(
            f"the name of a folder is not UTF-8: {place.absolute()}", "mv it to a name that is: the libraries can't write there"
        )
    if isinstance(error, PermissionError):
        return EnvironmentFault(f"no permission: {where}", "give this user access, then start it again")
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return EnvironmentFault(f"the file system is read-only: {where}", "mount it writable, or work in another folder")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return BadInput(f"the name is too long: {where}", "a name has 255 bytes at most: give another path")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return BadInput(f"links lead in a circle: {where}", "ls -l shows where each leads: give another path")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return EnvironmentFault(f"too many files are open: {where}", "ulimit -n 4096, then do it again")
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE):
        return EnvironmentFault(
            f"the disk failed ({os.strerror(error.errno).lower()}): {where}", "dmesg tells more; copy what is whole elsewhere"
        )
    if package := _missing_package(error):
        return EnvironmentFault(f"the package {package} is not installed", f"make install, or: pip install {package}")
    if _is_of_the_gpu(error):
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return EnvironmentFault(f"the GPU failed: {first}", "nvidia-smi and dmesg tell more; then resume the run")
    return None


def _in_a_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _is_utf8(path: Path) -> bool:
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _missing_package(error: BaseException) -> str:
    """The name of a library whose import failed; "" for any other error, and for a module of ours."""
    name = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return "" if name in _OURS else name


def _is_of_the_gpu(error: BaseException) -> bool:
    if type(error).__name__ == "OutOfMemoryError":
        return False
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _GPU_MESSAGES)
