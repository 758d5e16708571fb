"""`humigence pipeline`: all eight steps in a worker process, followed to the end."""

from __future__ import annotations

from typing import Annotated

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, TrainFlag, training_asked
from humigence_tui.cli.shared.output import confirmed, is_interactive, print_message
from humigence_tui.cli.shared.single_step import run_step
from humigence_tui.cli.shared.start_run import chosen_config, run_to_end, validation_only
from pipeline.common.errors import Stopped
from pipeline.runs.request import Request

app = typer.Typer(add_completion=False, rich_markup_mode=None)

ResumeFlag = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of RUN, or of the newest run.")]
RunArgument = Annotated[str | None, typer.Argument(metavar="RUN", help="With --resume: which run.", show_default=False)]
MaybeConfig = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE", help="Config file, here or shipped.", show_default=DEFAULT_CONFIG),
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Run in this process instead of one of its own.")]
Wait = Annotated[bool, typer.Option("--wait", help="Queue behind a run that has the project or the GPU.")]


@app.command()
def pipeline(
    run: RunArgument = None,
    config: MaybeConfig = None,
    train: TrainFlag = False,
    resume: ResumeFlag = False,
    foreground: Foreground = False,
    as_json: AsJson = False,
    wait: Wait = False,
) -> int:
    """Steps that have not changed are not done again. The run lives on when this terminal closes: `humigence runs follow`
    picks it up. Ctrl-C saves and stops it, a second one aborts it.
    """
    training = training_asked(train)
    if validation_only():
        return run_step("validate", config, as_json)
    here, settings, name = chosen_config(config, resume, run)
    if not training and is_interactive():
        print_message("Training is disabled by default. Run pipeline without training?")
        if not confirmed("Continue with pipeline (skip training)?"):
            raise Stopped("nothing was run", "humigence pipeline --train trains")
    request = Request(train=training, resume=resume, run=name, wait=wait)
    return run_to_end(here, settings, request, foreground=foreground, as_json=as_json, config_path=config)
