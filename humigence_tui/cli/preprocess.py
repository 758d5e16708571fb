"""`humigence preprocess`: the data cleaned, split and tokenized."""

from __future__ import annotations

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath
from humigence_tui.cli.shared.single_step import run_step

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def preprocess(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Rows that can't be used are reported with their line and reason, and left out."""
    return run_step("preprocess", config, as_json)
