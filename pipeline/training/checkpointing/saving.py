"""Saving a checkpoint on a disk that may be full: training pauses until there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pipeline.runs.checkpoint_folders import new_checkpoint
from pipeline.runs.disk_wait import wait_for
from pipeline.runs.events import Event
from pipeline.system.disk import is_full

_BESIDE_TENSORS = 1 << 20  # bytes of random states, schedule, figures, the manifest


def checkpoint_bytes(model: Any) -> int:
    """Bytes a checkpoint takes on the disk at most: the trained weights and AdamW's two moments of each."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights: int = sum(parameter.numel() * parameter.element_size() for parameter in trained)  # bytes
    return 3 * weights + _BESIDE_TENSORS


def save_when_there_is_room(
    checkpoints: Path,
    step: int,
    needed: int,
    write: Callable[[Path], None],
    *,
    emit: Callable[[Event], None],
    stop: Callable[[], object],
) -> None:
    """Save a checkpoint; while the disk lacks room for it, or proves to be full, wait and report that.

    Args:
        checkpoints: the folder of all of them; made where it is not there.
        needed: bytes.
        write: fills the folder it is called with, again after a disk that proved to be full.
        emit: for the events that it waits and goes on.
        stop: asked while it waits; true ends the waiting.

    Raises:
        OSError, SafetensorError: it can't be written for another reason than room.
        Stopped: the person asked to while there was no room; the checkpoints before are whole.
    """
    what = f"the checkpoint of step {step:,}"
    checkpoints.mkdir(exist_ok=True)
    wait_for(checkpoints, needed, what, emit=emit, stop=stop)
    while True:
        try:
            with new_checkpoint(checkpoints, step) as folder:
                write(folder)
            return
        except (OSError, SafetensorError) as error:
            if not is_full(error):
                raise
        wait_for(checkpoints, needed, what, emit=emit, stop=stop, at_least_once=True)
