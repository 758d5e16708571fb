"""`humigence validate`: settings, paths, disk, model, data, machine; and the newest run's gates judged again."""

from __future__ import annotations

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath
from humigence_tui.cli.shared.single_step import run_step

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def validate(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """The gates of the newest run are judged again against the thresholds as they are now."""
    return run_step("validate", config, as_json)
