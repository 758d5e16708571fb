"""Training from a plan to a report: build, go on from a checkpoint or begin, train, report what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.shape import read_shape
from pipeline.common.errors import BadInput, EnvironmentFault, Stopped, first_line
from pipeline.common.text import size
from pipeline.dataset.packing import pack
from pipeline.dataset.processed import ProcessedData
from pipeline.evaluation import answer_checks
from pipeline.planning.plan import Plan, plan_again, write_plan
from pipeline.planning.proved import Refused, inputs_of, save_refused
from pipeline.runs import checkpoint_folders
from pipeline.runs.context import StepContext
from pipeline.runs.event_log import read_state
from pipeline.runs.events import Note, Resumed, TrainEnded
from pipeline.runs.folders import RunFolder
from pipeline.runs.progress import Phases
from pipeline.system.gpu import Device, choose_device
from pipeline.system.out_of_memory import OutOfMemory, free, is_out_of_memory
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.training.build import Built, build_proved, prepare_device
from pipeline.training.callbacks import Cadence
from pipeline.training.checkpointing import contents as checkpoints
from pipeline.training.checkpointing.progress import Progress
from pipeline.training.early_stopping import should_stop
from pipeline.training.held_out import HeldOutRows, drawn
from pipeline.training.memory_recovery.faults import training_fault
from pipeline.training.packed_rows import Document, PackedRows
from pipeline.training.recorder import Recorder
from pipeline.training.samples import Samples
from pipeline.training.trainer import HumigenceTrainer, Parts

# Share of the peak: a prediction that misses it by more is a warning.
_TOLERATED_ERROR = 0.1
_PROVED_ON = 8  # rows, and documents of them


def train(ctx: StepContext, base: BaseModel, data: ProcessedData, plan: Plan, resume: bool) -> dict[str, Any]:
    """Train to the end of the plan; returns the train report without its fingerprint.

    Args:
        data: the prepared rows; the plan must have been made for them.
        resume: go on from the newest whole checkpoint of the run, from the beginning when there is none.

    Returns:
        how it ended, steps, the best checkpoint with its step and held-out loss (nats a token; None without held-out rows), wall
        time in seconds, real tokens, peak memory in bytes, and time and tokens of each counted step.

    Raises:
        BadInput: the plan does not fit the data or this version; a module of `train.lora.target_modules` is not in the model.
        EnvironmentFault: the device the plan was made for is not here.
        Diverged: a loss or gradient norm is no finite number.
        OutOfMemory: nothing smaller is left to try; what is done is saved.
        Stopped: the person asked to stop.
    """
    run = ctx.run
    assert run is not None
    device = _device(ctx, plan)
    prepare_device(ctx.config, device)
    if not plan.isolation:
        plan = replace(plan, isolation="positions" if ctx.config.data.packing else "rows")
    rows = _rows(ctx, data, plan)
    start = _starting_point(ctx, run, resume)
    progress = checkpoints.read_progress(start) if start else Progress()
    if limits := progress.limits.message():
        ctx.emit(Note(limits))
    step = checkpoint_folders.step_of(start) if start else 0
    ended_early = step < plan.total_steps and _ended_early_before(ctx, progress)
    if step < plan.total_steps and not ended_early:
        proved = _built(ctx, base, data, plan, device, progress, rows, begun=step > 0)
        plan = proved.plan
        held_out = _held_out(ctx, data, plan)
        cadence = Cadence(plan, ctx.stop, held_out=held_out is not None)
        recorder = Recorder(ctx.emit, progress, total_steps=plan.total_steps, cuda=device.kind == "cuda")
        if device.kind == "cuda":
            ctx.emit(Note(f"about {size(plan.peak_memory_bytes)} of GPU memory at the peak, says the plan"))
        parts = Parts(
            plan,
            ctx.config.train,
            ctx.config.seed,
            _rows(ctx, data, plan),
            held_out,
            _samples(ctx, base) if held_out else None,
            run.checkpoints,
            recorder,
            ctx.emit,
            ctx.stop,
            proved.fused,
        )
        trainer = HumigenceTrainer(proved.model, parts, cadence)
        del proved
        _train(ctx, trainer, start)
        if device.kind == "cuda":
            ctx.emit(_prediction(plan, progress.peak_memory_bytes))
        Phases(ctx.emit, "train").say("finishing")
        step, ended_early = trainer.state.global_step, trainer.ended_early
        if cadence.stopped and not ended_early:
            raise _stopped(run, cadence, step)
    return _report(ctx, run, progress, step, ended_early)


def _train(ctx: StepContext, trainer: HumigenceTrainer, start: Path | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=str(start) if start else None)
        return
    except Exception as error:
        if not isinstance(error, OutOfMemory) and not is_out_of_memory(error):
            raise
        what = first_line(error)
    free()  # out here: an error that is still handled holds the tensors it was raised among
    begun = checkpoint_folders.step_of(start) if start else 0  # there may have been no room to read that checkpoint
    saved, done = trainer.save_what_is_done() or begun or None, max(begun, trainer.state.global_step)
    raise training_fault(ctx.config, trainer.parts.plan.row_tokens, what, done, saved)


# ------------------------------------------------------------------------------------------------ the parts


def _device(ctx: StepContext, plan: Plan) -> Device:
    device = choose_device(ctx.config.compute.gpu)
    if device.kind != plan.device:
        raise EnvironmentFault(
            f"the plan is for {plan.device} and this is {device.name}",
            "start a new run for this device: humigence pipeline --train",
        )
    return device


def _built(
    ctx: StepContext,
    base: BaseModel,
    data: ProcessedData,
    plan: Plan,
    device: Device,
    progress: Progress,
    rows: PackedRows,
    *,
    begun: bool,
) -> Built:
    """The model, proved; the plan that it rests on is the run's from here on.

    Args:
        rows: of the plan as it is.
        begun: optimizer steps of the plan are done: its rows stay as they are.
    """
    run, shape = ctx.run, read_shape(base)
    assert run is not None

    def replan(refused: Refused) -> Plan:
        if begun:
            return replace(plan, kernels="plain", attention="sdpa") if refused.fused else plan
        refused = replace(refused, inputs=inputs_of(ctx.config, shape, device))
        save_refused(ctx.workspace.project(ctx.config.project), refused)
        return plan_again(ctx.config, shape, device, data, plan, refused)

    phases = Phases(ctx.emit, "train")
    built = build_proved(ctx.config, base, plan, device, progress.limits, _documents(data, rows), replan, phases.say)
    phases.say("beginning")
    if built.proof is None:
        return built
    if (built.plan.kernels, built.plan.packs(ctx.config)) != (plan.kernels, plan.packs(ctx.config)):
        ctx.emit(built.plan.event())
    write_plan(run.plan, built.plan)
    ctx.emit(built.proof)
    return built


def _documents(data: ProcessedData, rows: PackedRows) -> list[Document]:
    """Some of the run's, with the longest: what the proof at load is made on."""
    found = [document for number in range(min(_PROVED_ON, len(rows))) for document in rows[number]]
    number = int(np.argmax(data.lengths("train")))
    longest = PackedRows(data.dataset("train"), [np.array([number])], data.loss_weights("train"))[0]
    return [*found[:_PROVED_ON], *longest]


def _rows(ctx: StepContext, data: ProcessedData, plan: Plan) -> PackedRows:
    rows = pack(data.lengths("train"), plan.row_tokens, plan.packs(ctx.config))
    if not rows:
        raise BadInput("there are no rows to train on", "give data.split.train a larger share, or add rows")
    if len(rows) != plan.rows_per_epoch:
        raise BadInput(
            f"the plan is for {plan.rows_per_epoch} rows and the prepared data makes {len(rows)}",
            "the data has changed since the run began; start a new one: humigence pipeline --train",
        )
    return PackedRows(data.dataset("train"), rows, data.loss_weights("train"))


def _held_out(ctx: StepContext, data: ProcessedData, plan: Plan) -> HeldOutRows | None:
    lengths = data.lengths("val")
    if not len(lengths):
        ctx.emit(Note("no held-out rows: nothing is evaluated while training, and the last checkpoint counts as the best"))
        return None
    most = ctx.config.eval.rows_while_training
    # What is judged by other rows from some step on would choose its checkpoint by two measures.
    chosen = drawn(len(lengths), most, ctx.config.seed) if plan.held_out == "drawn" else np.arange(min(most, len(lengths)))
    capacity = ctx.config.data.max_seq_len
    return HeldOutRows(
        data.dataset("val"),
        lengths,
        chosen,
        row_tokens=capacity,
        packing=plan.packs(ctx.config),
        weights=data.loss_weights("val"),
    )


def _samples(ctx: StepContext, base: BaseModel) -> Samples | None:
    section = ctx.config.eval
    if section.samples_per_eval == 0:
        return None
    prompts = answer_checks.read_prompts(answer_checks.find_prompts(section.curated_prompts_path, ctx.workspace.root))
    chosen = [each.prompt for each in prompts[: section.samples_per_eval]]
    return Samples(ChatTokenizer.load(base), chosen, section.max_new_tokens)


# ---------------------------------------------------------------------------------------------- going on


def _starting_point(ctx: StepContext, run: RunFolder, resume: bool) -> Path | None:
    """The checkpoint to go on from, None for the beginning; emits that what came after it never happened."""
    start = checkpoint_folders.newest_whole(run.checkpoints, _passed_over(ctx)) if resume else None
    if start:
        ctx.emit(Resumed(checkpoint_folders.step_of(start)))
        return start
    if resume or (run.events.exists() and len(read_state(run).train)):
        ctx.emit(Resumed(0))
    if resume:
        ctx.emit(Note("no whole checkpoint to go on from: training begins again", "warning"))
    checkpoint_folders.clear_all(run.checkpoints)
    return None


def _passed_over(ctx: StepContext) -> Callable[[Path, str], None]:
    def pass_over(folder: Path, reason: str) -> None:
        ctx.emit(Note(f"{folder.name} is damaged ({reason}): going on from the checkpoint before it", "warning"))
        checkpoint_folders.set_aside(folder)  # counted among the newest it would cost the whole one its place

    return pass_over


def _ended_early_before(ctx: StepContext, progress: Progress) -> bool:
    stopping = ctx.config.train.early_stopping
    return stopping.enabled and should_stop(progress.held_out_losses, stopping.patience, stopping.min_delta)


def _stopped(run: RunFolder, cadence: Cadence, step: int) -> Stopped:
    if cadence.stopped == "save":
        return Stopped(f"stopped and saved after step {step}", "humigence pipeline --train --resume goes on from there")
    saved = checkpoint_folders.all_of(run.checkpoints)
    if not saved:
        return Stopped(f"aborted at step {step}, before the first checkpoint", "humigence pipeline --train begins again")
    last = checkpoint_folders.step_of(saved[-1])
    return Stopped(f"aborted at step {step}", f"humigence pipeline --train --resume goes on from step {last}")


# ----------------------------------------------------------------------------------------------- what came out


def _prediction(plan: Plan, peak_bytes: int) -> Note:
    """How right the plan was about memory."""
    error = plan.peak_memory_bytes / max(1, peak_bytes) - 1
    text = f"{size(peak_bytes)} of GPU memory at the peak; the plan had said {size(plan.peak_memory_bytes)} ({error:+.1%})"
    if abs(error) <= _TOLERATED_ERROR:
        return Note(text)
    return Note(f"{text}: more than {_TOLERATED_ERROR:.0%} off", "warning")


def _report(ctx: StepContext, run: RunFolder, progress: Progress, steps: int, ended_early: bool) -> dict[str, Any]:
    best = _best_checkpoint(ctx, run, progress)
    best_step = checkpoint_folders.step_of(best)
    losses = dict(zip(progress.held_out_steps, progress.held_out_losses, strict=True))
    best_loss = losses.get(best_step)
    ctx.emit(TrainEnded(steps, best_step, best_loss, progress.seconds, progress.tokens, progress.peak_memory_bytes))
    return {
        "ended": "early" if ended_early else "complete",
        "steps": steps,
        "best_step": best_step,
        "best_loss": best_loss,
        "best_checkpoint": str(best.relative_to(run.path)),
        "seconds": progress.seconds,
        "tokens": progress.tokens,
        "peak_memory_bytes": progress.peak_memory_bytes,
        "step_seconds": progress.step_seconds,
        "step_tokens": progress.step_tokens,
    }


def _best_checkpoint(ctx: StepContext, run: RunFolder, progress: Progress) -> Path:
    """The whole checkpoint with the lowest held-out loss; without held-out rows the last."""
    losses = dict(zip(progress.held_out_steps, progress.held_out_losses, strict=True))
    folders = sorted(
        checkpoint_folders.all_of(run.checkpoints),
        key=lambda folder: (losses.get(checkpoint_folders.step_of(folder), float("inf")), -checkpoint_folders.step_of(folder)),
    )
    for folder in folders:
        reason = checkpoint_folders.damage(folder)
        if reason is None:
            return folder
        ctx.emit(Note(f"{folder.name} is damaged ({reason}): the next best checkpoint counts", "warning"))
    raise EnvironmentFault(
        f"no checkpoint below {run.checkpoints} is whole", "look at the disk; humigence pipeline --train begins again"
    )
