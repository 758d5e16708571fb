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
    run = trained_run(config)
    settings = _with_suites(suite, open_project(config)[1])
    gpu.see_only(gpu.choose_device(settings.compute.gpu))
    return run_step("evaluate", config, as_json, run, partial(_with_suites, suite))


def _with_suites(suite: str | None, config: Config) -> Config:
    """The config with these suites in place of its own; with its own where none are named."""
    return config if suite is None else with_value(config, "eval.suites", suite, "--suite")
