"""What a training is doing is told as it does it, and a stop is looked for in the middle of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import Stopped
from pipeline.runs.events import CheckpointSaved, Evaluated, Event, Sampled, StepProgress, StopMode, TrainStep
from tests.pipeline.training.tiny_training import MadeUpData, TinyRun, config_for, plan_for, prompts_file


class Person:
    """Asks to stop once a phase of this name has come."""

    def __init__(self, phase: str, mode: StopMode) -> None:
        self.phase, self.mode = phase, mode
        self.asked = False

    def see(self, event: Event) -> None:
        self.asked = self.asked or (isinstance(event, StepProgress) and event.what == self.phase)

    def stop(self) -> StopMode | None:
        return self.mode if self.asked else None


def begun(tmp_path: Path, model: Path, person: Person) -> tuple[TinyRun, MadeUpData, Any]:
    config = config_for(
        model, eval__samples_per_eval=2, eval__curated_prompts_path=prompts_file(tmp_path), eval__max_new_tokens=6
    )
    run = TinyRun(tmp_path, config, person.stop)

    def emit(event: Event) -> None:
        run.emit(event)
        person.see(event)

    run.ctx = replace(run.ctx, emit=emit)
    data = MadeUpData()
    return run, data, plan_for(config, data)


@pytest.mark.parametrize("phase", ["making the first step", "evaluating", "answering samples"])
def test_an_abort_is_followed_in_the_middle_of_a_step_of_an_evaluation_and_of_an_answer(
    tmp_path: Path, tiny_model: Path, phase: str
) -> None:
    run, data, plan = begun(tmp_path, tiny_model, Person(phase, "abort"))
    with pytest.raises(Stopped):
        run.train(data, plan)
    after = run.events[next(i for i, event in enumerate(run.events) if getattr(event, "what", "") == phase) :]
    assert not [event for event in after if isinstance(event, (TrainStep, Sampled, CheckpointSaved))]
    if phase == "evaluating":
        assert not run.of(Evaluated)


def test_who_saves_and_stops_has_the_samples_of_an_untroubled_run(tmp_path: Path, tiny_model: Path) -> None:
    run, data, plan = begun(tmp_path, tiny_model, Person("answering samples", "save"))
    with pytest.raises(Stopped):
        run.train(data, plan)
    assert len(run.of(Sampled)) == 2
    assert run.of(CheckpointSaved)[-1].step >= run.of(Evaluated)[-1].step


def test_every_part_of_a_training_says_what_it_is(tmp_path: Path, tiny_model: Path) -> None:
    run, data, plan = begun(tmp_path, tiny_model, Person("nothing", "save"))
    run.train(data, plan)
    told = list(dict.fromkeys(event.what for event in run.of(StepProgress)))
    assert [what for what in told if "weights" in what]
    wanted = ["making the first step", "evaluating", "answering samples", "saving", "finishing"]
    assert [what for what in wanted if what in told] == wanted
    weights = [event for event in run.of(StepProgress) if "weights" in event.what]
    assert weights[-1].done == weights[-1].total > 1
