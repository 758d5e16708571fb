"""`humigence report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from humigence_tui.cli.shared.options import workspace
from humigence_tui.cli.shared.output import out
from pipeline.report.write import write_page
from pipeline.runs import store

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def report(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id, its beginning, PROJECT/ID or a path; the newest by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default PROJECT-RUN.html, here.")
    ] = None,
) -> None:
    """Verdict, curves, answers side by side, data, settings, exports and their proof. It opens without a network, and prints."""
    here = workspace()
    found = store.find_run(here, run)
    path = output or Path(f"{found.project}-{found.run_id}.html")
    write_page(here, found, path)
    out(str(path))
