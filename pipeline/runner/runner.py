"""The order of the eight steps: what runs, what is skipped, what has not changed, and how a run ends.

Called by the worker process, by `--foreground` and by the app's `--in-process`; none of them differs in anything but where the
events go. Nothing here imports torch before a step that needs it runs.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cleanup.removal import clear_left_behind
from pipeline.common.errors import EXIT_OK, EXIT_STOPPED, EnvironmentFault, GatesFailed, HumigenceError, Stopped, first_line
from pipeline.config.schema import Config
from pipeline.dataset import processed
from pipeline.runner.faults import step_fault
from pipeline.runs import events as ev
from pipeline.runs import post_mortem, provenance
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.control import stop_requested
from pipeline.runs.events import STEP_NAMES, Event, StepName, StopMode
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.gpu_lock import card_held
from pipeline.runs.request import Request
from pipeline.runs.store import read_report, runs_of
from pipeline.system import faults as machine_faults
from pipeline.system import gpu, login_session
from pipeline.system.out_of_memory import OutOfMemory, is_out_of_memory

# What runs when training was not asked for.
WITHOUT_TRAINING: tuple[StepName, ...] = ("validate", "plan", "model", "preprocess")
SKIPPED = "training is off"


class StopSwitch:
    """What was asked for: by a file in the run folder, or by a signal to this process."""

    def __init__(self, run: RunFolder, emit: Callable[[Event], None]) -> None:
        self._run, self._emit = run, emit
        self._by_signal: StopMode | None = None
        self._acknowledged: StopMode | None = None

    def signalled(self, mode: StopMode) -> None:
        """Called by a signal handler: only remembers."""
        self._by_signal = mode

    def wanted(self) -> StopMode | None:
        """The request in force, if any, without a word in the log."""
        modes = (self._by_signal, stop_requested(self._run))
        return "abort" if "abort" in modes else modes[0] or modes[1]

    def asked(self) -> StopMode | None:
        """The request in force; the first look at it is answered with an event."""
        mode = self.wanted()
        if mode and mode != self._acknowledged:
            self._acknowledged = mode
            self._emit(ev.StopAcknowledged(mode))
        return mode


def _modules() -> dict[StepName, Any]:
    from pipeline.steps import evaluate, gates, model, pack, plan, preprocess, train, validate

    return {
        "validate": validate, "plan": plan, "model": model, "preprocess": preprocess, "train": train, "evaluate": evaluate,
        "pack": pack, "gates": gates,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------ before a run is made


def trained_run(ctx: StepContext) -> RunFolder | None:
    """The newest run of the project whose finished training answers to today's config, model and data."""
    wanted = _modules()["train"].fingerprint(ctx)
    if wanted is None:
        return None
    for run in runs_of(ctx.workspace, ctx.config.project):
        report = read_report(run.train_report)
        if report and report.get("fingerprint") == wanted:
            return run
    return None


def stands(ctx: StepContext) -> bool:
    """Whether every step of `ctx.run` would find nothing changed."""
    modules = _modules()
    return all(modules[name].is_unchanged(ctx) for name in STEP_NAMES if name != "validate")


# ---------------------------------------------------------------------------------------------------- a run


def execute(run: RunFolder, request: Request, switch: StopSwitch, emit: Callable[[Event], None]) -> int:
    """Run the steps of `request` in `run`; returns the exit code. The caller holds the run's lock.

    However it ends, the last event says how.
    """
    try:
        with _attempt(run, request, switch, emit) as ctx:
            failed = _run_steps(ctx, request)
    except Stopped:
        return _stopped(run, "abort" if switch.asked() == "abort" else "save", emit)
    except KeyboardInterrupt:
        return _stopped(run, "abort", emit)
    except HumigenceError as error:
        if switch.asked() == "abort":
            return _stopped(run, "abort", emit)
        return _ended(emit, run, ev.RunFailed(error.message, error.hint, error.exit_code), error.exit_code)
    except Exception as error:  # noqa: BLE001  the run's end must be in its log, whatever ended it
        if switch.asked() == "abort":
            return _stopped(run, "abort", emit)
        fault = _as_fault(error, run)
        with contextlib.suppress(OSError):  # the log of what is printed may be on the full disk
            traceback.print_exc()
        return _ended(emit, run, ev.RunFailed(fault.message, fault.hint, fault.exit_code), fault.exit_code)
    code = GatesFailed.exit_code if failed else EXIT_OK
    return _ended(emit, run, ev.RunFinished(code), code)


def _stopped(run: RunFolder, mode: StopMode, emit: Callable[[Event], None]) -> int:
    """As it was asked to: also where a library told the interrupt as a fault of its own."""
    return _ended(emit, run, ev.RunStopped(mode, _newest_checkpoint(run)), EXIT_STOPPED)


def _ended(emit: Callable[[Event], None], run: RunFolder, event: Event, code: int) -> int:
    """Emit how the run ended; returns `code`.

    Raises:
        EnvironmentFault: the log can't be written, so the words go to whoever called.
    """
    try:
        emit(event)
    except OSError as error:
        why = _as_fault(error, run)
        ended_with = event.message if isinstance(event, ev.RunFailed) else why.message
        hint = why.hint if ended_with == why.message else f"it ended with: {ended_with}\n{why.hint}"
        raise EnvironmentFault(f"the log of the run can't be written: {why.message}", hint) from error
    return code


@contextlib.contextmanager
def _attempt(run: RunFolder, request: Request, switch: StopSwitch, emit: Callable[[Event], None]) -> Iterator[StepContext]:
    """A new attempt at the run: announced, its provenance recorded, its device held while it trains. Gives the steps' context."""
    config = run.load_config()
    clear_left_behind(run, config, _workspace(run))
    started = ev.AttemptStarted(
        pid=os.getpid(),
        project=config.project,
        model=config.model.local_path or config.model.repo,
        precision_mode=config.train.precision_mode,
        training=request.train,
    )
    try:
        device = gpu.choose_device(config.compute.gpu)
    except HumigenceError:
        emit(started)
        raise
    emit(replace(started, device=device.name))
    if request.train and (warning := login_session.warning()):
        emit(ev.Note(warning, "warning"))
    made_with = provenance.of_this_process(
        run.path.parent.parent.parent, config.seed, device.name, request.command or provenance.command_line()
    )
    provenance.record(run, made_with | post_mortem.witnesses() | {"trains": request.train and not run.train_report.exists()})
    ctx = _context(run, config, device, switch, emit)
    with contextlib.ExitStack() as held:
        held.enter_context(processed.as_begun(*_begun_with(run, config) if request.resume else ({},)))
        if request.train:
            held.enter_context(card_held(device, wait=request.wait, give_up=lambda: ctx.stop() is not None, emit=emit))
        yield ctx


def _begun_with(run: RunFolder, config: Config) -> tuple[dict[Path, str], Path | None]:
    """The raw file's digest when a run that is resumed began, and its prepared rows; nothing before it has trained."""
    report = read_report(run.preprocess_report) if run.checkpoints.is_dir() else None
    if not report:
        return {}, None
    workspace = _workspace(run)
    rows = workspace.resolve(config.data.processed_dir) / report["fingerprint"]
    return {processed.raw_file(config, workspace): report["raw_sha256"]}, rows if processed.read_processed(rows) else None


def _context(
    run: RunFolder, config: Config, device: gpu.Device, switch: StopSwitch, emit: Callable[[Event], None]
) -> StepContext:
    """The steps' context, this process seeing no other device than the run's."""
    gpu.see_only(device)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Steps ask for the device again: by its UUID, which stays right whatever CUDA_VISIBLE_DEVICES says.
    chosen = "cpu" if device.kind == "cpu" else device.uuid
    config = config.model_copy(update={"compute": config.compute.model_copy(update={"gpu": chosen})})
    return StepContext(config, _workspace(run), run, emit, switch.asked)


def _workspace(run: RunFolder) -> Workspace:
    return Workspace(run.path.parent.parent.parent)


def _run_steps(ctx: StepContext, request: Request) -> bool:
    """Every step of the request in order; True when a gate failed."""
    gates_failed = False
    for name in request.steps:
        if name not in WITHOUT_TRAINING and not request.train:
            ctx.emit(ev.StepFinished(name, "skipped", 0.0, SKIPPED))
            continue
        if ctx.stop():
            raise Stopped("stopped before " + name)
        result = run_step(name, ctx, partial(_result_of, name, ctx, request))
        gates_failed = name == "gates" and not getattr(result, "passed", True)
    return gates_failed


def run_step(name: StepName, ctx: StepContext, work: Callable[[], StepResult]) -> StepResult:
    """Do `work`; its beginning and its end are emitted, however it ends.

    Raises:
        OutOfMemory: memory ran out, with what to change; besides it whatever `work` raises.
    """
    ctx.emit(ev.StepStarted(name))
    began = time.monotonic()
    try:
        result = work()
    except BaseException as error:
        was_stopped = isinstance(error, (Stopped, KeyboardInterrupt)) or ctx.stop() == "abort"
        outcome: ev.StepOutcome = "stopped" if was_stopped else "failed"
        ctx.emit(ev.StepFinished(name, outcome, time.monotonic() - began))
        if is_out_of_memory(error) and not was_stopped:
            raise step_fault(name, error) from error
        raise
    ctx.emit(ev.StepFinished(name, result.outcome, time.monotonic() - began, result.summary))
    return result


def _result_of(name: StepName, ctx: StepContext, request: Request) -> StepResult:
    module = _modules()[name]
    run = ctx.run
    assert run is not None
    begun = request.resume and run.checkpoints.is_dir()
    if name == "plan" and begun and run.plan.exists():
        # What the run decided stays decided: another micro-batch would draw other dropout masks.
        return StepResult("unchanged", "kept from the run that is resumed")
    if name == "train":
        result: StepResult = module.run(ctx, resume=begun)
        return result
    result = module.run(ctx)
    if name == "preprocess" and not (begun and run.plan.exists()):
        _modules()["plan"].run(ctx)  # exact, now that the lengths are known
    return result


def _newest_checkpoint(run: RunFolder) -> int | None:
    """The optimizer step a resume goes on from, by the names of the folders; the resume itself verifies them."""
    names = [folder.name for folder in run.checkpoints.glob("step-*")] if run.checkpoints.is_dir() else []
    steps = [int(name.removeprefix("step-")) for name in names if name.removeprefix("step-").isdigit()]
    return max(steps, default=None)


def _as_fault(error: Exception, run: RunFolder) -> HumigenceError:
    """An exception that is not ours, as an error that a person can act on."""
    if is_out_of_memory(error):
        return OutOfMemory(f"memory ran out: {first_line(error)}", "free memory on this machine, then resume the run")
    if not run.events.exists():
        return EnvironmentFault(f"the folder of the run was deleted while it was on: {run.path}", "start it again")
    if fault := machine_faults.as_fault(error, run.path):
        return fault
    return HumigenceError(f"a bug in humigence: {type(error).__name__}: {error}", f"the traceback is in {run.output_log}")


# -------------------------------------------------------------------------------------------- a step by itself


def run_alone(name: StepName, ctx: StepContext) -> StepResult:
    """One step outside a new run, with the events of a step of a run. `ctx.run` is set for steps that work on a run's result."""
    return run_step(name, ctx, partial(_modules()[name].run, ctx))
