"""What is said when a step ran out of memory where it could not go on with less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.common.errors import first_line
from pipeline.system.out_of_memory import OutOfMemory

if TYPE_CHECKING:
    from pipeline.runs.events import StepName

_ANY_STEP_HINT = "free memory on this machine, then do the same again; what earlier steps made is kept"
_STEP_HINTS: dict[StepName, str] = {
    "preprocess": "free memory on this machine, or put fewer rows into data.raw_path; nothing half-prepared is left",
    "train": "free memory on this machine, then humigence pipeline --train --resume goes on from the newest checkpoint",
    "evaluate": "free memory on this device, or set compute.gpu to cpu; humigence eval starts over, what was trained is kept",
    "pack": "free memory on this machine, then humigence pack; what was trained and measured is kept",
}


def step_fault(step: StepName, error: BaseException) -> OutOfMemory:
    """A step ran out of memory where it could not go on with less."""
    return OutOfMemory(f"memory ran out in {step}: {first_line(error)}", _STEP_HINTS.get(step, _ANY_STEP_HINT))
