"""`humigence eval`: base and tuned model judged once more."""

from __future__ import annotations

import typer

from humigence_tui.cli.alone import run_step, trained_run
from humigence_tui.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("eval")
def evaluate(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Works on the newest run whose training answers to the config."""
    return run_step("evaluate", config, as_json, trained_run(config))
