"""One step outside a run, printed like a step of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from humigence_tui.cli.shared import run_report
from humigence_tui.cli.shared.display import display, shown_in
from humigence_tui.cli.shared.options import DEFAULT_CONFIG, notes_text, open_project, with_config, workspace
from humigence_tui.cli.shared.output import out_json
from humigence_tui.event_text import OutputLine
from pipeline.base_model import same_base
from pipeline.base_model.locate import locate
from pipeline.common.errors import EXIT_OK, GatesFailed, MissingArtifact
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.runner import runner, worker
from pipeline.runs import store
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.events import Note, StepName
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.state import RunState


def run_step(
    name: StepName,
    config_path: str | None,
    as_json: bool,
    run: RunFolder | None = None,
    change: Callable[[Config], Config] = lambda config: config,
    settings: Config | None = None,
) -> int:
    """Run a step by itself and print what came out; 3 when a gate it judged failed.

    Args:
        change: what the command asks for beyond the config.
        settings: in place of the file's: a run's own.
    """
    result, state = step_result(name, config_path, run, change, settings)
    if as_json:
        out_json(result_json(name, result, state))
    else:
        run_report.print_verdict(state)
    return GatesFailed.exit_code if any(gate.verdict == "failed" for gate in state.gates) else EXIT_OK


def trained_run(config_path: str) -> RunFolder:
    """The newest run whose finished training answers to the config.

    Raises:
        MissingArtifact: nothing was trained with it yet.
        BadInput: only the base model has become another since.
    """
    here, config = open_project(config_path)
    found = runner.trained_run(StepContext(config, here))
    if found is None:
        _require_same_base(here, config)
        raise MissingArtifact(f"nothing is trained with {config_path} as it is now", with_config("train --train", config_path))
    return found


def _require_same_base(here: Workspace, config: Config) -> None:
    """Raises `BadInput` when the newest trained run of the config was trained on other weights under the same name."""
    trained = next((run for run in store.runs_of(here, config.project) if run.train_report.exists()), None)
    base = locate(config, here)
    if trained and base and trained.load_config().model == config.model:
        same_base.require_same(trained, base)


def step_result(
    name: StepName,
    config_path: str | None,
    run: RunFolder | None = None,
    change: Callable[[Config], Config] = lambda config: config,
    settings: Config | None = None,
) -> tuple[StepResult, RunState]:
    """What the step gave back, and the fold of what it emitted. Arguments as for `run_step`."""
    here = workspace()
    notes: Sequence[str] = ()
    if settings is None:
        loaded = config_file.load_noted(config_path or DEFAULT_CONFIG, here.root)
        settings, notes = loaded.config, loaded.notes
    config, state = change(settings), RunState()
    with display() as view:
        show = shown_in(view, state)
        if notes:  # among the step's own, so that --json has them too
            show(Note(notes_text(config_path or DEFAULT_CONFIG, notes)))
        if run is None:
            return runner.run_alone(name, StepContext(config, here, emit=show)), state
        view.print_lines([OutputLine(f"run {run_report.run_name(run)}")])
        with worker.writing(run, show) as log:  # what comes out belongs to the run, for every later look at it
            return runner.run_alone(name, StepContext(config, here, run, log.emit)), state


def result_json(name: StepName, result: StepResult, state: RunState) -> dict[str, Any]:
    """What a single step reports with `--json`."""
    return {
        "step": name,
        "outcome": result.outcome,
        "summary": result.summary,
        "notes": [{"level": note.level, "text": note.text} for _, note in state.notes],
        **run_report.results_json(state),
    }
