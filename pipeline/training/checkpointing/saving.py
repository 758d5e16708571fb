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

_BESIDE_TENSORS = 1 << 20  # random states, schedule, figures, the manifest


def checkpoint_bytes(model: Any) -> int:
    """What a checkpoint takes at most: the trained weights and AdamW's two moments of each."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights: int = sum(parameter.numel() * parameter.element_size() for parameter in trained)
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
    """Save by `write`, which fills a folder; while the disk lacks `needed` bytes, or proves to be full, wait and say so.

    Raises:
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
