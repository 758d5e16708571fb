"""From the trainer to the outside: each optimizer step as a `TrainStep` event, timed without what stands between steps.

On a GPU a step is emitted once the next one is under way: whoever asks for a loss at the end of its step waits for the GPU, and
the GPU then waits for the next step's work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipeline.common.errors import Diverged
from pipeline.runs.events import Event, TrainingDiverged, TrainStep
from pipeline.training.checkpointing.progress import Progress
from pipeline.training.clock import Clock, GpuClock, WallClock
from pipeline.training.process_memory import ProcessMemory

_HINT = "lower train.lr (a tenth of it), then train again; look at the rows if it comes back"


@dataclass(frozen=True)
class StepDone:
    """What is known of an optimizer step when it has been asked for.

    Attributes:
        step: the optimizer steps done, this one included.
        epoch: passes over the data done, with a fraction.
        loss, grad_norm: numbers, or tensors of one number on the device; nats a token, and the norm before clipping.
        lr: the learning rate the step was made with.
        skipped: float16's gradient scaler left the step out because the gradient overflowed, and tries a smaller scale.
    """

    step: int
    epoch: float
    loss: Any
    lr: float
    grad_norm: Any
    skipped: bool = False


@dataclass(frozen=True)
class _Pending:
    """A step whose figures are on their way."""

    done: StepDone
    figures: torch.Tensor  # (2,) float32: loss and gradient norm, in host memory once the clock has reached `end`
    end: Any  # a mark of the clock
    tokens: int
    trained: int
    counted: bool


class Recorder:
    """Counts and times the steps of one attempt.

    A step's time runs from the end of the one before, so that reading its rows belongs to it; `paused` takes out evaluation,
    checkpoints and samples.

    Args:
        progress: of the attempts before; each step is added to it.
        total_steps: optimizer steps of the plan.
        cuda: whether the work runs on a GPU, behind Python.
    """

    def __init__(self, emit: Callable[[Event], None], progress: Progress, *, total_steps: int, cuda: bool) -> None:
        self.progress = progress
        self.seen_tokens = self.seen_trained = 0
        self.partial_window = False
        self._disturbed = False
        self._emit, self._total_steps, self._cuda = emit, total_steps, cuda
        self._clock: Clock = GpuClock() if cuda else WallClock()
        self._memory = ProcessMemory(cuda=cuda)
        self._steps_of_attempt = 0
        self._pending: _Pending | None = None
        self._mark = self._clock.mark()

    def start(self) -> None:
        """The first step begins now."""
        self._memory.reset()
        self._mark = self._clock.mark()

    def saw(self, tokens: int, trained: int, *, partial_window: bool) -> None:
        """What the step that comes is made of.

        Args:
            tokens: real ones, padding left out.
            trained: those of them with a label.
            partial_window: the epoch ended before all the micro-batches of a step: its time says nothing of the others'.
        """
        self.seen_tokens, self.seen_trained, self.partial_window = tokens, trained, partial_window

    def disturbed(self) -> None:
        """The step that is being made takes longer than the others, for a reason that will not come again."""
        self._disturbed = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is no part of a step's time, and finds every step emitted."""
        self.flush()
        try:
            yield
        finally:
            self._mark = self._clock.mark()

    def step(self, done: StepDone) -> None:
        """An optimizer step is done, or on a GPU launched. Emits it, there the one before it.

        Raises:
            Diverged: a loss or gradient norm of the step that is emitted is no finite number.
        """
        self._steps_of_attempt += 1
        # The first step of an attempt compiles and warms up.
        counted = self._steps_of_attempt > 1 and not self.partial_window and not self._disturbed
        self._disturbed = False
        # (2,) float32, on the device of the loss
        figures = torch.stack([torch.as_tensor(each, dtype=torch.float32).reshape(()) for each in (done.loss, done.grad_norm)])
        if self._cuda:  # into pinned memory, without which the copy would wait for the GPU
            figures = torch.empty(2, pin_memory=True).copy_(figures, non_blocking=True)
        # Without references to tensors of the device: what waits must not hold memory there.
        done = replace(done, loss=None, grad_norm=None)
        before = self._pending
        self._pending = _Pending(done, figures, self._clock.mark(), self.seen_tokens, self.seen_trained, counted)
        if before is not None:
            self._emit_step(before)
        if not self._cuda:
            self.flush()

    def flush(self) -> None:
        """Emit the step that is still on its way.

        Raises:
            Diverged: see `step`.
        """
        waiting, self._pending = self._pending, None
        if waiting is not None:
            self._emit_step(waiting)

    def _emit_step(self, pending: _Pending) -> None:
        done = pending.done
        seconds, self._mark = self._clock.between(self._mark, pending.end), pending.end
        loss, grad_norm = pending.figures.tolist()
        peak = self._memory.peak_bytes()
        self._emit(
            TrainStep(
                step=done.step,
                total_steps=self._total_steps,
                epoch=done.epoch,
                loss=loss,
                lr=done.lr,
                grad_norm=grad_norm,
                tokens=pending.tokens,
                trained_tokens=pending.trained,
                seconds=seconds,
                counted=pending.counted,
                peak_memory_bytes=peak,
            )
        )
        self._refuse_divergence(done.step, loss, grad_norm, done.skipped)
        self.progress.add_step(seconds, pending.tokens, peak, counted=pending.counted)

    def _refuse_divergence(self, step: int, loss: float, grad_norm: float, skipped: bool) -> None:
        if not math.isfinite(loss):
            self.diverged(step, "the loss", loss)
        if not math.isfinite(grad_norm) and not skipped:
            self._emit(TrainingDiverged(step, "gradient norm", grad_norm))
            raise Diverged(f"training diverged at step {step}: the gradient norm is {grad_norm}", _HINT)

    def diverged(self, step: int, what: str, value: float) -> None:
        """End training because a loss is no finite number.

        Args:
            what: "the loss" or "the held-out loss".
            value: nats a token.

        Raises:
            Diverged: always.
        """
        self._emit(TrainingDiverged(step, "loss", value))
        raise Diverged(f"training diverged at step {step}: {what} is {value}", _HINT)
