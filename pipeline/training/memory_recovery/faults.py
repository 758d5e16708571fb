"""The end of a training that nothing smaller can save, and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.base_model.precision import SMALLEST
from pipeline.system.out_of_memory import OutOfMemory

if TYPE_CHECKING:
    from pipeline.config.schema import Config


def training_fault(config: Config, row_tokens: int, what: str, done: int, saved: int | None) -> OutOfMemory:
    """The end of a training that nothing smaller can save.

    Args:
        row_tokens: most tokens of a document.
        what: the message of what found no room.
        done: optimizer steps.
        saved: the step a resume goes on from; None where nothing is saved.
    """
    again = "humigence pipeline --train"
    resume = f"step {saved} is saved, and with more memory free {again} --resume goes on from it" if saved else ""
    return OutOfMemory(
        f"memory ran out after {done:,} optimizer steps: {what}",
        "\n".join(filter(None, (f"{smaller_setting(config, row_tokens)}, then {again} begins anew", resume))),
    )


def smaller_setting(config: Config, row_tokens: int) -> str:
    """The command that changes the setting which saves most memory at this point: shorter rows, then 4-bit weights.

    Args:
        row_tokens: of the rows that did not fit.
    """
    half = row_tokens // 2
    if half >= max(
        128, 0 if config.data.window_overlap == "auto" else config.data.overlap + 1
    ):  # what a window repeats is shorter
        return f"humigence config set data.max_seq_len {half}"
    if config.train.precision_mode != SMALLEST:
        return f"humigence config set train.precision_mode {SMALLEST}"
    return "humigence config set compute.gpu to another device, or model.repo to a smaller model"
