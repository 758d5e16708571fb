"""`humigence eval`: base and tuned model judged once more."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project
from humigence_tui.cli.shared.single_step import run_step, trained_run
from pipeline.config.file import with_value
from pipeline.config.schema import Config
from pipeline.system import gpu

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Suites = Annotated[
    str | None,
    typer.Option(
        "--suite",
        metavar="all|NAME[,NAME]",
        help="Measure these suites too, whatever eval.suites says; lm-eval:TASK is one of lm-eval's.",
    ),
]


@app.command("eval")
def evaluate(config: ConfigPath = DEFAULT_CONFIG, suite: Suites = None, as_json: AsJson = False) -> int:
    """Works on the newest run whose training answers to the config; nothing is trained."""
    if suite is not None:
        _with_suites(suite, open_project(config)[1])  # a name that is none is told before anything is loaded
    run = trained_run(config)
    gpu.see_only(gpu.choose_device(open_project(config)[1].compute.gpu))
    return run_step("evaluate", config, as_json, run, *([partial(_with_suites, suite)] if suite is not None else []))


def _with_suites(suite: str, config: Config) -> Config:
    return with_value(config, "eval.suites", suite)
