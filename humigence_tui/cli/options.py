"""What several commands share: their options, the switches of the environment, and the project that a config names."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipeline import config_file
from pipeline.config import Config
from pipeline.errors import BadInput
from pipeline.runs import Workspace

_ON = {"1", "true"}
_OFF = {"0", "false", ""}

ConfigPath = Annotated[str, typer.Option("--config", "-c", metavar="FILE", help="Config file, here or shipped.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
DEFAULT_CONFIG = config_file.DEFAULT_CONFIG


def workspace() -> Workspace:
    """The current folder."""
    return Workspace(Path.cwd())


def open_project(config_path: str) -> tuple[Workspace, Config]:
    """The current folder and the config read from `config_path`.

    Raises:
        BadInput: the file is missing or has problems; all of them are told.
    """
    here = workspace()
    return here, config_file.load(config_path, here.root)


def with_config(command: str, config_path: str | None) -> str:
    """`humigence COMMAND`, naming the config where it is not the default."""
    named = config_path not in (None, DEFAULT_CONFIG)
    return f"humigence {command}" + (f" --config {shlex.quote(str(config_path))}" if named else "")


def switch(name: str) -> bool | None:
    """An on/off variable of the environment; None when it is not set.

    Raises:
        BadInput: it is set to anything but 1, true, 0, false or nothing.
    """
    value = os.environ.get(name)
    if value is None:
        return None
    if value.strip().lower() in _ON:
        return True
    if value.strip().lower() in _OFF:
        return False
    raise BadInput(f"{name}={value}: must be 1 or true, 0 or false, or empty", f"unset {name}, or set it to 1 or 0")


def training_asked(flag: bool) -> bool:
    """Whether training was asked for: `TRAIN` where it is set, else the flag."""
    from_environment = switch("TRAIN")
    return flag if from_environment is None else from_environment
