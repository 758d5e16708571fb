"""`humigence init` and `humigence wizard`: the app, opened at the wizard."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from humigence_tui.__main__ import show, terminal_needed
from humigence_tui.cli.shared.after_wizard import print_summary
from humigence_tui.cli.shared.options import DEFAULT_CONFIG, ConfigPath, TrainFlag, training_asked, workspace
from humigence_tui.cli.shared.output import print_message
from humigence_tui.cli.shared.start_run import validation_only
from pipeline.common.errors import EXIT_OK, EnvironmentFault
from pipeline.config import file as config_file
from pipeline.runs import store

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Mode(StrEnum):
    basic = "basic"
    advanced = "advanced"


class AfterSaving(StrEnum):
    plan = "plan"
    validate = "validate"
    pipeline = "pipeline"


@app.command()
def wizard(
    mode: Annotated[Mode, typer.Option("--mode", help="Five questions, or every setting.")] = Mode.basic,
    run: Annotated[
        AfterSaving | None, typer.Option("--run", help="What to do once it is saved.", show_default="asks, plan first")
    ] = None,
    train: TrainFlag = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Begins with what the config file holds, saves to it (the older file is saved as .bak) and goes on with what was chosen.
    Training starts only with --train, TRAIN=1, or when the question before it is answered with yes.
    """
    training = training_asked(train)
    action = "validate" if validation_only() else run.value if run else None
    if needed := terminal_needed():
        raise EnvironmentFault(f"the wizard needs {needed}", "humigence config set KEY VALUE changes a setting without one")
    here = workspace()
    config_file.load(config, here.root)  # what is wrong with it is reported here, not in the app
    before, runs = _signature(here.root / config), set(store.runs_of(here))

    code = show(
        here.root, "wizard", {"config_path": config, "advanced": mode is Mode.advanced, "action": action, "train": training}
    )
    if code:
        return code
    if _signature(here.root / config) == before:
        print_message("nothing was saved")
        return EXIT_OK
    print_summary(here, config_file.load(config, here.root), config, runs)
    return EXIT_OK


def _signature(path: Path) -> tuple[int, int] | None:
    """Another one once the file was replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
