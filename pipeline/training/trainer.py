"""`HumigenceTrainer`: transformers' Trainer with exact token-weighted loss, whole checkpoints and events instead of printing.

Overridden where its own way would lose something: it writes checkpoints in place and pickled, counts padding, filters NaN losses
and evaluates with draws that a resumed run doesn't make.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

from pipeline.common.errors import Stopped
from pipeline.config.schema import TrainSection
from pipeline.modeling.adapter import read_adapter
from pipeline.planning.plan import Plan
from pipeline.runs import checkpoint_folders
from pipeline.runs.events import CheckpointSaved, EarlyStopped, Evaluated, Event, Sampled, StopMode
from pipeline.runs.progress import Phases
from pipeline.system.out_of_memory import OutOfMemory
from pipeline.training import attention
from pipeline.training.callbacks import Bookkeeping, Cadence, StepBounds
from pipeline.training.checkpointing import contents as checkpoints
from pipeline.training.checkpointing import saving
from pipeline.training.early_stopping import should_stop
from pipeline.training.fused.train_step import FusedStep
from pipeline.training.held_out import HeldOutRows, losses_of
from pipeline.training.isolation import model_inputs
from pipeline.training.loss import loss_sum
from pipeline.training.memory_recovery.activation_checkpointing import ModelActivations
from pipeline.training.memory_recovery.atomic_adamw import AtomicAdamW
from pipeline.training.memory_recovery.recovery import TrainingMemory
from pipeline.training.packed_rows import EpochSampler, PackedRows
from pipeline.training.recorder import Recorder, StepDone
from pipeline.training.samples import Samples
from pipeline.training.schedule import learning_rate_share

# Below this the gradient scaler of float16 has nothing left to try: the gradients overflow by themselves.
_LEAST_GRADIENT_SCALE = 1.0
# An optimizer step that takes longer says how far it is.
_LONG_STEP_S = 10.0


@dataclass(frozen=True)
class Parts:
    """What the trainer works with besides the model.

    Attributes:
        seed: of the order of the rows and of the dropout in the model's own layers.
        held_out: None when there are no held-out rows: nothing is evaluated.
        samples: None where none are wanted.
        checkpoints: the folder they go to.
        emit: appends an event to the run's log.
        stop: what the person asked for: looked at between micro-batches, held-out batches and the tokens of samples, and when a
            save has to wait for room on the disk.
        fused: computes losses and gradients in place of the model; None where the model does it itself.
    """

    plan: Plan
    train: TrainSection
    seed: int
    rows: PackedRows
    held_out: HeldOutRows | None
    samples: Samples | None
    checkpoints: Path
    recorder: Recorder
    emit: Callable[[Event], None]
    stop: Callable[[], StopMode | None]
    fused: FusedStep | None = None


@dataclass
class _Window:
    """The micro-batches of an optimizer step. `began` in seconds."""

    began: float
    batches: int
    done: int = 0


class HumigenceTrainer(Trainer):  # type: ignore[misc]
    """Trains the adapter of `model` as the plan says.

    Args:
        model: a `PeftModel`, only whose adapter has gradients.
        cadence: decides at the end of a step about evaluation, checkpoint and stop.

    Attributes:
        cadence: knows whether the person stopped the training.
        ended_early: the held-out loss no longer fell enough.
    """

    def __init__(self, model: Any, parts: Parts, cadence: Cadence) -> None:
        self.parts, self.cadence = parts, cadence
        self.ended_early = False
        self._was_paused = False  # something was told since the newest step: what comes now is told too
        self._is_first = True  # no step of this attempt is done: the one that comes compiles and warms up
        self._sampler = EpochSampler(len(parts.rows), parts.seed)
        self._bookkeeping = Bookkeeping(self._sampler, parts.recorder, parts.plan.steps_per_epoch, self._step_done)
        self._memory = TrainingMemory(
            model,
            parts.fused.model if parts.fused else ModelActivations(model),
            parts.recorder.progress.limits,
            parts.emit,
            lambda: self.state.global_step,
            parts.recorder.disturbed,
        )
        self._phases = Phases(parts.emit, "train")
        self._window = _Window(time.monotonic(), 0)
        self._loss: torch.Tensor | None = None  # () float32, of the step being made, so far: nats a token
        self._grad_norm: Any = math.nan  # before clipping; a tensor of one number on the device
        optimizer, schedule = _optimizer_and_schedule(model, parts)
        optimizer.on_retry = self._memory.optimizer_step_done_again
        super().__init__(
            model=model,
            args=_arguments(parts),
            data_collator=attention.collator(parts.plan.attention),
            train_dataset=parts.rows,
            compute_loss_func=_mean_loss,  # that there is one says that losses are divided by the step's tokens already
            optimizers=(optimizer, schedule),
            # A step is emitted after it was asked whether to stop: whoever stops training has seen the steps before it.
            callbacks=[cadence, self._bookkeeping, StepBounds(self._memory)],
        )
        self.remove_callback(PrinterCallback)
        if parts.fused:  # the optimizer knows what is trained; the model would look at every weight, every step
            model.zero_grad = optimizer.zero_grad

    # ------------------------------------------------------------------------------------------------ data

    def _get_train_sampler(self, *_: Any) -> EpochSampler:
        return self._sampler

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, *rest: Any) -> tuple[list[Any], int]:
        """The micro-batches of one optimizer step, and the number of trained tokens in all of them.

        That number is what every micro-batch's loss is divided by: a mean over the tokens of the step, not a mean of the
        micro-batches' means, which would give tokens of short ones more weight. Where tokens have weights of their own it is
        their number still: `LossWeights` are one on average, and a step of light tokens is to move the adapter less.

        Args:
            num_batches: micro-batches of the step, fewer at the end of an epoch.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, *rest)
        tokens = sum(batch.pop("real_tokens") for batch in batches)
        trained = sum(batch.pop("trained_tokens") for batch in batches)
        partial = num_batches < self.parts.plan.accumulation and self.parts.plan.steps_per_epoch > 1
        self.parts.recorder.saw(tokens, trained, partial_window=partial)
        for batch in batches:
            batch["use_cache"] = False  # with it, packed documents would see each other
        self._loss = None
        self._window = _Window(time.monotonic(), len(batches))
        if self._was_paused:
            self._was_paused = False
            self._phases.say(f"step {self.state.global_step + 1:,}", 0, len(batches), "micro-batches")
        if self._is_first:
            self._phases.say("compiling, and making the first step" if self.parts.fused else "making the first step")
        if self.parts.fused:
            self.parts.fused.step_begins()
        return batches, max(1, trained)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it walks over every parameter at each micro-batch."""
        return 0

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: int | None = None) -> torch.Tensor:
        """Forward and backward of one micro-batch, in parts where memory runs out: their losses are shares of one mean.

        Args:
            inputs: as the plan's collator makes them (see `attention.collator`).
            num_items_in_batch: trained tokens of the whole optimizer step.

        Returns:
            the micro-batch's share of the step's mean loss, nats a token, () float32 on the device.

        Raises:
            OutOfMemory: one document does not fit with its activations recomputed.
        """
        self._between_micro_batches()
        step, fused, done = super().training_step, self.parts.fused, self.state.global_step
        if fused:
            assert num_items_in_batch is not None
            fused.micro_batch_begins()
            loss = self._memory.forward_backward(inputs, lambda part: fused.loss(part, num_items_in_batch, done), traceless=True)
        else:
            isolation, device = self.parts.plan.isolation, self.args.device
            loss = self._memory.forward_backward(
                inputs, lambda part: step(model, dict(model_inputs(part, isolation, device)), num_items_in_batch)
            )
        self._loss = loss if self._loss is None else self._loss + loss
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Any:
        """The micro-batch's share of the step's loss in the model's own layers, which are not told of labels and weights."""
        labels, weights = inputs.pop("labels"), inputs.pop("weights", None)
        outputs = model(**inputs)
        assert num_items_in_batch is not None
        loss = _mean_loss(outputs, labels, num_items_in_batch, weights)
        return (loss, outputs) if return_outputs else loss

    def _between_micro_batches(self) -> None:
        """Follow an abort, and say how far a step is that takes long."""
        if self.parts.stop() == "abort":
            raise Stopped("aborted in the middle of a step")
        window = self._window
        if time.monotonic() - window.began > _LONG_STEP_S and not self._is_first:
            self._phases.say(f"step {self.state.global_step + 1:,}", window.done, window.batches, "micro-batches")
        window.done += 1

    def _clip_grad_norm(self, model: Any) -> Any:
        if self.parts.fused:  # without a walk over every module of the model
            weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
            self._grad_norm = torch.nn.utils.clip_grad_norm_(weights, self.args.max_grad_norm)
        else:
            self._grad_norm = super()._clip_grad_norm(model)
        return self._grad_norm

    # ----------------------------------------------------------------------------------------------- events

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Nothing is stored in the trainer's own history, which every checkpoint would repeat: each step goes to the recorder."""

    def _step_done(self, learning_rate: float) -> None:
        self._is_first = False
        state, skipped = self.state, self._step_was_skipped()
        done = StepDone(state.global_step, float(state.epoch or 0.0), self._loss, learning_rate, self._grad_norm, skipped)
        self.parts.recorder.step(done)

    def _step_was_skipped(self) -> bool:
        scaler = self.accelerator.scaler
        if scaler is None or not self.accelerator.optimizer_step_was_skipped:
            return False
        return bool(scaler.get_scale() >= _LEAST_GRADIENT_SCALE)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Emits the held-out loss and samples; decides about the early stop.

        Returns:
            `eval_loss`, the mean over the trained tokens, nats.

        Raises:
            Diverged: the held-out loss is no finite number.
            OutOfMemory: one held-out document does not fit.
        """
        parts, step = self.parts, self.state.global_step
        assert parts.held_out is not None
        if parts.fused:
            parts.fused.release()
        self._was_paused = True
        with parts.recorder.paused():
            began = time.perf_counter()
            with (
                nullcontext(parts.fused.loss_sum)
                if parts.fused
                else losses_of(self.model, self.args.device, parts.plan.isolation) as loss_of
            ):
                loss, tokens = parts.held_out.loss(loss_of, parts.plan.micro_batch, self._memory, self._evaluating)
            if not math.isfinite(loss):
                parts.recorder.diverged(step, "the held-out loss", loss)
            best = parts.recorder.progress.add_evaluation(step, loss)
            parts.emit(Evaluated(step, loss, tokens, time.perf_counter() - began, best))
            self._answer_samples(step)
            self._stop_early_when_due(step)
        self.control.should_evaluate = False
        return {"eval_loss": loss}

    def _evaluating(self, done: int, total: int) -> None:
        if self.parts.stop() == "abort":
            raise Stopped("aborted while evaluating")
        self._phases.say("evaluating", done, total, "held-out rows")

    def _answering(self, done: int, total: int) -> None:
        if self.parts.stop() == "abort":  # who saves and resumes finds the samples that an untroubled run has
            raise Stopped("aborted while answering samples")
        self._phases.say("answering samples", done, total, "prompts")

    def _answer_samples(self, step: int) -> None:
        try:
            answers = self.parts.samples.answers(self.model, self._answering) if self.parts.samples else []
        except OutOfMemory:
            self._memory.samples_left_out()
            return
        for prompt, answer in answers:
            self.parts.emit(Sampled(step, prompt, answer))

    def _stop_early_when_due(self, step: int) -> None:
        stopping, progress = self.parts.train.early_stopping, self.parts.recorder.progress
        due = stopping.enabled and should_stop(progress.held_out_losses, stopping.patience, stopping.min_delta)
        if due and step < self.parts.plan.total_steps:
            assert progress.best is not None
            self.parts.emit(EarlyStopped(step, *progress.best, stopping.patience, stopping.min_delta))
            self.ended_early = True
            self.control.should_training_stop = True

    # ------------------------------------------------------------------------------------------ checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Whole or not at all, then the older ones are cleared away: the best and the two newest stay."""
        parts, step = self.parts, self.state.global_step
        best = parts.recorder.progress.best
        self._was_paused = True
        self._phases.say("saving")
        with parts.recorder.paused():
            began = time.perf_counter()
            needed = saving.checkpoint_bytes(self.model)
            saving.save_when_there_is_room(
                parts.checkpoints, step, needed, self._write_checkpoint, emit=parts.emit, stop=parts.stop
            )
            checkpoint_folders.rotate(parts.checkpoints, step, {best[0]} if best else set())
            name = f"{parts.checkpoints.name}/{checkpoint_folders.folder_name(step)}"
            is_best = best is not None and best[0] == step
            parts.emit(CheckpointSaved(step, name, is_best, time.perf_counter() - began))

    def save_what_is_done(self) -> int | None:
        """A checkpoint of the newest whole optimizer step, with which a resume goes on from there.

        To be called when memory ran out for good in the middle of a step: weights and optimizer are still as that step left them.

        Returns:
            the number of that step; None before the first.
        """
        step = self.state.global_step
        if step and not (self.parts.checkpoints / checkpoint_folders.folder_name(step)).exists():
            if self._memory.at_rest:
                self._memory.at_rest.restore()
            self._save_checkpoint(self.model, None)
        return step or None

    def _write_checkpoint(self, folder: Path) -> None:
        checkpoints.write_adapter(self.model, folder)
        checkpoints.write_optimizer(self.optimizer, folder)
        checkpoints.write_scheduler(self.lr_scheduler, folder)
        checkpoints.write_scaler(self.accelerator.scaler, folder)
        checkpoints.write_random_state(folder)
        checkpoints.write_progress(self.parts.recorder.progress, folder)
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        read_adapter(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.read_optimizer(self.optimizer, Path(checkpoint))
            checkpoints.read_scheduler(self.lr_scheduler, Path(checkpoint))

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.read_scaler(self.accelerator.scaler, Path(checkpoint))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.read_random_state(Path(checkpoint))


def _mean_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """A micro-batch's share of the mean over the trained tokens of the whole accumulation window: () float32, nats a token."""
    return loss_sum(outputs["logits"], labels, weights) / num_items_in_batch


def _arguments(parts: Parts) -> TrainingArguments:
    plan = parts.plan
    cuda = plan.device == "cuda"
    arguments = TrainingArguments(
        output_dir=str(parts.checkpoints),
        per_device_train_batch_size=plan.micro_batch,
        gradient_accumulation_steps=plan.accumulation,
        max_steps=plan.total_steps,
        max_grad_norm=parts.train.grad_clip,
        seed=parts.seed,
        use_cpu=not cuda,
        # Only for its gradient scaler: the model computes in its own type already.
        fp16=cuda and plan.compute_dtype == "float16",
        logging_strategy="no",  # the recorder has the figures; asking for them here would wait for the GPU at each step
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=cuda,
        accelerator_config={"non_blocking": cuda},
        average_tokens_across_devices=False,
        label_names=["labels"],
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # several visible GPUs would be used together otherwise
    return arguments


def _optimizer_and_schedule(model: Any, parts: Parts) -> tuple[AtomicAdamW, torch.optim.lr_scheduler.LambdaLR]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AtomicAdamW(trained, lr=parts.train.lr, weight_decay=parts.train.weight_decay)

    def share(step: int) -> float:
        return learning_rate_share(
            step,
            scheduler=parts.train.scheduler,
            warmup_steps=parts.plan.warmup_steps,
            total_steps=parts.plan.total_steps,
        )

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)
