"""The whole report on this machine. Works without a GPU, a driver, a network or torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.doctor import gpus, software, system
from pipeline.doctor.check import Check
from pipeline.system.gpu import Survey, survey


def examine(workspace: Path, found: Survey | None = None) -> list[Check]:
    """The whole report.

    Args:
        workspace: the folder whose disk is looked at.
        found: the GPUs, when they have been read already.
    """
    found = survey() if found is None else found
    return [*software.checks(found), *gpus.checks(found), *system.checks(workspace)]


def to_json(checks: list[Check]) -> dict[str, Any]:
    """`{"healthy": …, "checks": [{"name", "status", "value", "advice", "command"}, …]}`; healthy when there is no problem."""
    return {"healthy": healthy(checks), "checks": [asdict(check) for check in checks]}


def healthy(checks: list[Check]) -> bool:
    return all(check.status != "problem" for check in checks)
