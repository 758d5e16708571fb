"""Memory that runs out in a step ends it with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import BadInput, HumigenceError, Interrupted
from pipeline.runner import runner
from pipeline.runs import store
from pipeline.runs.context import StepContext
from pipeline.runs.events import STEP_NAMES, Event, RunStopped, StepFinished, StepName
from pipeline.runs.folders import Workspace
from pipeline.runs.request import Request
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


@pytest.mark.parametrize(
    "told", [Interrupted("aborted"), BadInput("its tokenizer can't be read: aborted"), ValueError("aborted")]
)
def test_a_stop_is_no_error_of_what_it_interrupts(told: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a library tells the interrupt as a fault of its own."""
    run = store.create(Workspace(tmp_path), config_for(tmp_path), {})
    events: list[Event] = []
    switch = runner.StopSwitch(run, events.append)

    def interrupted(ctx: StepContext) -> Any:
        switch.signalled("abort")
        raise told

    monkeypatch.setattr("pipeline.steps.validate.run", interrupted)
    assert runner.execute(run, Request(train=False), switch, events.append) == 130
    assert [event.outcome for event in events if isinstance(event, StepFinished)] == ["stopped"]
    assert events[-1] == RunStopped("abort", None)


def test_no_library_can_take_an_interrupt_for_its_own_error() -> None:
    assert not issubclass(Interrupted, Exception)
