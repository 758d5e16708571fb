"""`humigence eval`: base and tuned model judged once more."""

from __future__ import annotations

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project
from humigence_tui.cli.shared.single_step import run_step, trained_run
from pipeline.system import gpu

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("eval")
def evaluate(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Works on the newest run whose training answers to the config."""
    run = trained_run(config)
    gpu.see_only(gpu.choose_device(open_project(config)[1].compute.gpu))
    return run_step("evaluate", config, as_json, run)
