"""`humigence train`: everything up to the trained adapter."""

from __future__ import annotations

import typer

from humigence_tui.cli.pipeline import Foreground, MaybeConfig, ResumeFlag, RunArgument, Wait
from humigence_tui.cli.shared.options import AsJson, TrainFlag, training_asked
from humigence_tui.cli.shared.single_step import run_step
from humigence_tui.cli.shared.start_run import chosen_config, run_to_end, validation_only
from pipeline.common.errors import BadInput
from pipeline.runs.request import Request

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def train(
    run: RunArgument = None,
    config: MaybeConfig = None,
    train: TrainFlag = False,
    resume: ResumeFlag = False,
    foreground: Foreground = False,
    as_json: AsJson = False,
    wait: Wait = False,
) -> int:
    """Steps before it that have not changed are not done again. Ctrl-C saves and stops, a second one aborts."""
    if validation_only():
        return run_step("validate", config, as_json)
    if not training_asked(train):
        raise BadInput("training was not asked for", "humigence train --train, or TRAIN=1; TRAIN=0 forbids it")
    here, settings, name = chosen_config(config, resume, run)
    request = Request(train=True, resume=resume, run=name, until="train", wait=wait)
    return run_to_end(here, settings, request, foreground=foreground, as_json=as_json, config_path=config)
