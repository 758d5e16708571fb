"""From the trainer to the outside: each optimizer step as a `TrainStep` event, timed without what stands between steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pipeline.errors import Diverged
from pipeline.events import Event, TrainingDiverged, TrainStep
from pipeline.training.progress import Progress

_HINT = "lower train.lr (a tenth of it), then train again; look at the rows if it comes back"


class Recorder:
    """Counts and times the steps of one attempt.

    A step's time runs from the end of the one before, so that reading its rows belongs to it; `paused` takes out evaluation,
    checkpoints and samples.
    """

    def __init__(self, emit: Callable[[Event], None], progress: Progress, *, total_steps: int, cuda: bool) -> None:
        self.progress = progress
        self.seen_tokens = self.seen_trained = 0
        self.partial_window = False
        self._disturbed = False
        self._emit, self._total_steps, self._cuda = emit, total_steps, cuda
        self._steps_of_attempt = 0
        self._mark = time.perf_counter()

    def start(self) -> None:
        """The first step begins now."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._mark = time.perf_counter()

    def saw(self, tokens: int, trained: int, *, partial_window: bool) -> None:
        """The rows of the step that comes: real tokens, those with a label, and whether an epoch ended short of a full window."""
        self.seen_tokens, self.seen_trained, self.partial_window = tokens, trained, partial_window

    def disturbed(self) -> None:
        """The step that is being made takes longer than the others, for a reason that will not come again."""
        self._disturbed = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is no part of a step's time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._mark += time.perf_counter() - began

    def step(self, step: int, epoch: float, loss: float, lr: float, grad_norm: float, *, skipped: bool = False) -> None:
        """An optimizer step is done.

        Args:
            skipped: float16's gradient scaler left it out because the gradient overflowed, and tries a smaller scale.

        Raises:
            Diverged: loss or gradient norm is no finite number.
        """
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self._steps_of_attempt += 1
        counted = self._steps_of_attempt > 1 and not self.partial_window and not self._disturbed
        self._disturbed = False
        peak = self._peak_memory_bytes()
        self._emit(
            TrainStep(
                step=step,
                total_steps=self._total_steps,
                epoch=epoch,
                loss=loss,
                lr=lr,
                grad_norm=grad_norm,
                tokens=self.seen_tokens,
                trained_tokens=self.seen_trained,
                seconds=seconds,
                counted=counted,
                peak_memory_bytes=peak,
            )
        )
        self._refuse_divergence(step, loss, grad_norm, skipped)
        self.progress.add_step(seconds, self.seen_tokens, peak, counted=counted)

    def _refuse_divergence(self, step: int, loss: float, grad_norm: float, skipped: bool) -> None:
        if not math.isfinite(loss):
            self.diverged(step, "the loss", loss)
        if not math.isfinite(grad_norm) and not skipped:
            self._emit(TrainingDiverged(step, "gradient norm", grad_norm))
            raise Diverged(f"training diverged at step {step}: the gradient norm is {grad_norm}", _HINT)

    def diverged(self, step: int, what: str, value: float) -> None:
        """End training because a loss, of the step or held out, is no finite number."""
        self._emit(TrainingDiverged(step, "loss", value))
        raise Diverged(f"training diverged at step {step}: {what} is {value}", _HINT)

    def _peak_memory_bytes(self) -> int:
        return torch.cuda.max_memory_reserved() if self._cuda else peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The most memory this process ever held (VmHWM of proc(5)); 0 where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024
