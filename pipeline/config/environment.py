"""On/off variables of the environment, read the same way by the command line and the app."""

from __future__ import annotations

import os

from pipeline.common.errors import BadInput

_ON = {"1", "true"}
_OFF = {"0", "false", ""}


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
