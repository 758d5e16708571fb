"""Memory that runs out in a step ends it with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import HumigenceError
from pipeline.runner import runner
from pipeline.runs.context import StepContext
from pipeline.runs.events import STEP_NAMES, Event, StepFinished, StepName
from pipeline.runs.folders import Workspace
from tests.pipeline.steps.judged import config_for


@pytest.mark.parametrize("step", STEP_NAMES)
def test_a_step_that_runs_out_of_memory_ends_with_exit_code_4_and_what_to_do(step: StepName, tmp_path: Path) -> None:
    told: list[Event] = []
    ctx = StepContext(config_for(tmp_path), Workspace(tmp_path), emit=told.append)

    def work() -> Any:
        raise MemoryError

    with pytest.raises(HumigenceError) as caught:
        runner.run_step(step, ctx, work)
    assert caught.value.exit_code == 4 and f"memory ran out in {step}" in caught.value.message
    assert "free memory" in caught.value.hint
    ended = told[-1]
    assert isinstance(ended, StepFinished) and ended.outcome == "failed"
