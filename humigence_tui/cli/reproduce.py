"""`humigence reproduce`: a run's adapter once more, or all that makes it in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from humigence_tui.cli.shared.options import workspace
from humigence_tui.cli.shared.output import out, print_message, print_next_commands
from humigence_tui.cli.shared.start_run import run_to_end
from pipeline.common.errors import EXIT_OK, BadInput, GatesFailed
from pipeline.report.recipe import differences, read_recipe, write_recipe
from pipeline.runs import store, trained
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
from pipeline.runs.request import Request

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def reproduce(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run's id, its beginning, PROJECT/ID or a path; the newest by default."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="By default reproduce-PROJECT-RUN, here.")
    ] = None,
    again: Annotated[Path | None, typer.Option("--run", metavar="FOLDER", help="Train by such a folder, and compare.")] = None,
) -> int:
    """Writes config, what data and base model are, versions and the adapter's sha256 into a folder.

    With --run FOLDER it trains by one, and exits with 0 where the adapter comes out the same to the bit, else with 3.
    """
    if again is not None:
        if run is not None or output is not None:
            raise BadInput("--run trains by a folder, and takes neither RUN nor --output", "humigence reproduce --run FOLDER")
        return _again(again)
    here = workspace()
    found = store.find_run(here, run)
    folder = output or Path(f"reproduce-{found.project}-{found.run_id}")
    write_recipe(here, found, folder)
    out(str(folder))
    print_next_commands(f"humigence reproduce --run {folder}")
    return EXIT_OK


def _again(folder: Path) -> int:
    recipe, config = read_recipe(folder)
    place = Workspace(folder.absolute())
    before = {each.run_id for each in store.runs_of(place, config.project)}
    code = run_to_end(place, config, Request(train=True, until="train"), foreground=False, as_json=False, config_path=None)
    made = store.find_run(place, project=config.project)
    result = trained.find_trained(StepContext(config, place, made))
    if result is None:
        return code
    if made.run_id in before:  # nothing that it depends on has changed, so that it was not trained again
        print_message(f"trained before, in {made.path}: delete that folder to train once more")
    others = differences(recipe, made)
    if result.adapter_sha256() == recipe.adapter_sha256:
        out(f"the same adapter as run {recipe.run}: sha256 {recipe.adapter_sha256}", "green")
        return EXIT_OK
    out(f"another adapter than run {recipe.run}: sha256 {result.adapter_sha256()}, and {recipe.adapter_sha256} then", "red")
    for line in others or ["nothing that is recorded differs"]:
        print_message(line)
    return GatesFailed.exit_code
