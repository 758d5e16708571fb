"""`humigence pack`: the best adapter packaged."""

from __future__ import annotations

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, with_config
from humigence_tui.cli.shared.output import print_next_commands
from humigence_tui.cli.shared.single_step import run_step, trained_run

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def pack(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Works on the newest run whose training answers to the config."""
    code = run_step("pack", config, as_json, trained_run(config))
    print_next_commands(with_config('infer --prompt "…"', config))
    return code
