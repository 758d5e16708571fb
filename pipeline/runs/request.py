"""What a person asks a run to do."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.runs.events import STEP_NAMES, StepName


@dataclass(frozen=True)
class Request:
    """What a person asked a run to do.

    Attributes:
        train: training was asked for. Without it the run ends after preprocess.
        resume: go on from the newest whole checkpoint of the run.
        run: which run to resume, as `runs.find` understands it; None for the project's newest.
        until: the last step of the run.
        wait: queue for the GPU instead of refusing when another run has it.
        command: what the person typed, for the record.
        queued: the key of the queued run that this is (`runs.queue`); empty for what was started by itself.
    """

    train: bool
    resume: bool = False
    run: str | None = None
    until: StepName = "gates"
    wait: bool = False
    command: str = ""
    queued: str = ""

    @property
    def steps(self) -> tuple[StepName, ...]:
        return STEP_NAMES[: STEP_NAMES.index(self.until) + 1]
