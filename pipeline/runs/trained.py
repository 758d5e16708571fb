"""What a run's training left behind, as the later steps look it up. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.errors import MissingArtifact
from pipeline.common.files import sha256_file
from pipeline.runs.context import StepContext
from pipeline.runs.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RunFolder
from pipeline.runs.store import read_report


@dataclass(frozen=True)
class Trained:
    """The checkpoint with the lowest held-out loss of a finished training."""

    run: RunFolder
    checkpoint: Path
    report: dict[str, Any]  # `train_report.json`

    def adapter_sha256(self) -> str:
        return sha256_file(self.checkpoint / ADAPTER_WEIGHTS)


def find_trained(ctx: StepContext) -> Trained | None:
    """The result of the context's run, or None when it has not been trained to its end."""
    report = read_report(ctx.run.train_report) if ctx.run else None
    if ctx.run is None or report is None or not report.get("best_checkpoint"):
        return None
    checkpoint = ctx.run.path / report["best_checkpoint"]
    whole = (checkpoint / ADAPTER_WEIGHTS).is_file() and (checkpoint / ADAPTER_CONFIG).is_file()
    return Trained(ctx.run, checkpoint, report) if whole else None


def require_trained(ctx: StepContext) -> Trained:
    """`find_trained`, or `MissingArtifact` with the command that trains."""
    found = find_trained(ctx)
    if found is None:
        where = f"run {ctx.run.run_id}" if ctx.run else f"project {ctx.config.project}"
        raise MissingArtifact(f"{where} has no trained adapter", "humigence train --train (with --resume when it was stopped)")
    return found
