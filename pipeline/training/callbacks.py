"""When to evaluate, to save and to stop.

Everything is decided at the end of an optimizer step: only there do weights, optimizer and random state belong together, so only
there is a stop exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.planning.plan import Plan
from pipeline.runs.events import StopMode
from pipeline.training.memory_recovery.recovery import TrainingMemory
from pipeline.training.packed_rows import EpochSampler
from pipeline.training.recorder import Recorder


class Cadence(TrainerCallback):  # type: ignore[misc]
    """The plan's evaluations and checkpoints, and the person's request to stop.

    Args:
        stop: asked at the end of each step; None where nobody wants to stop.
        held_out: whether there is anything to evaluate on.

    Attributes:
        stopped: the request that was followed; None when training came to its own end.
    """

    def __init__(self, plan: Plan, stop: Callable[[], StopMode | None], *, held_out: bool) -> None:
        self.stopped: StopMode | None = None
        self._plan, self._stop, self._held_out = plan, stop, held_out
        self._saved = time.monotonic()  # seconds; the newest checkpoint, or the beginning

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        step, plan = state.global_step, self._plan
        last = step >= plan.total_steps
        control.should_evaluate = self._held_out and (last or step % plan.eval_every_steps == 0)
        by_steps = plan.save_every_steps is not None and step % plan.save_every_steps == 0
        by_clock = time.monotonic() - self._saved >= plan.save_every_seconds
        control.should_save = control.should_evaluate or last or by_steps or by_clock
        # At the last step there is nothing left to stop.
        self.stopped = None if last else self._stop()
        if self.stopped:
            control.should_training_stop = True
            control.should_save = self.stopped == "save"
            control.should_evaluate = control.should_evaluate and control.should_save
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._saved = time.monotonic()


class Bookkeeping(TrainerCallback):  # type: ignore[misc]
    """Passes the sampler its epoch, the recorder its start, and of each step that is done the learning rate it was made with.

    Args:
        step_done: called with that learning rate.
    """

    def __init__(
        self, sampler: EpochSampler, recorder: Recorder, steps_per_epoch: int, step_done: Callable[[float], None]
    ) -> None:
        self._sampler, self._recorder, self._steps_per_epoch = sampler, recorder, steps_per_epoch
        self._step_done, self._learning_rate = step_done, 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._recorder.start()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # accelerate passes it too, but not in every version through the loader of a resumed epoch.
        self._sampler.set_epoch(state.global_step // self._steps_per_epoch)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        self._learning_rate = float(optimizer.param_groups[0]["lr"])  # read here: the scheduler moves on before on_step_end

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._step_done(self._learning_rate)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._recorder.flush()


class StepBounds(TrainerCallback):  # type: ignore[misc]
    """Passes on where an optimizer step begins and ends, so that one that can't be made is undone."""

    def __init__(self, memory: TrainingMemory) -> None:
        self._memory = memory

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._memory.step_begins()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._memory.step_ended()
