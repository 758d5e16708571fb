"""What several commands share: their options, the switches of the environment, and the project that a config names."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from humigence_tui.cli.shared.output import print_message
from pipeline.config import file as config_file
from pipeline.config.environment import switch, training_asked
from pipeline.config.schema import Config
from pipeline.runs.folders import Workspace

__all__ = [
    "DEFAULT_CONFIG",
    "AsJson",
    "ConfigPath",
    "TrainFlag",
    "notes_text",
    "open_project",
    "switch",
    "training_asked",
    "with_config",
    "workspace",
]

ConfigPath = Annotated[str, typer.Option("--config", "-c", metavar="FILE", help="Config file, here or shipped.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
TrainFlag = Annotated[bool, typer.Option("--train", help="Allow training. The variable TRAIN, where set, has the last word.")]
DEFAULT_CONFIG = config_file.DEFAULT_CONFIG


def workspace() -> Workspace:
    """The current folder."""
    return Workspace(Path.cwd())


def open_project(config_path: str) -> tuple[Workspace, Config]:
    """The current folder and the config read from `config_path`; what older spellings in it became is printed.

    Raises:
        BadInput: the file is missing or has problems; all of them are listed.
    """
    here = workspace()
    loaded = config_file.load_noted(config_path, here.root)
    if loaded.notes:
        for line in notes_text(config_path, loaded.notes).splitlines():
            print_message(line)
    return here, loaded.config


def notes_text(config_path: str, notes: Sequence[str]) -> str:
    """What the spellings of an older Humigence in a config file became, one a line."""
    lines = [f"{config_path} is a config of an older Humigence:", *(f"  {note}" for note in notes)]
    return "\n".join([*lines, "  humigence config set, or saving in the wizard, writes it in today's words"])


def with_config(command: str, config_path: str | None) -> str:
    """`humigence COMMAND`, naming the config where it is not the default."""
    named = config_path not in (None, DEFAULT_CONFIG)
    return f"humigence {command}" + (f" --config {shlex.quote(str(config_path))}" if named else "")
