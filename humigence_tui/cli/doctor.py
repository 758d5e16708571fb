"""`humigence doctor`: what this machine has, what is missing, how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from humigence_tui.cli.shared.options import AsJson
from humigence_tui.cli.shared.output import Colour, out, out_json, print_message
from pipeline.common.errors import EXIT_OK, EnvironmentFault
from pipeline.doctor.check import Check, Status
from pipeline.doctor.report import examine, healthy, to_json
from pipeline.system.gpu import Survey, survey

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MARKS: dict[Status, tuple[str, Colour | None]] = {"ok": ("✔", None), "warning": ("!", "amber"), "problem": ("✘", "red")}


@app.command()
def doctor(
    gpu: Annotated[bool, typer.Option("--gpu", help="Fail when there is no usable GPU.")] = False,
    as_json: AsJson = False,
) -> int:
    """Works without a GPU, a driver or a network. Exit code 4 when something must be mended before training."""
    found = survey()
    checks = examine(Path.cwd(), found)
    if as_json:
        out_json(to_json(checks))
    else:
        _print(checks)
    if gpu and not found.gpus:
        raise _no_gpu(found)
    if healthy(checks):
        return EXIT_OK
    print_message("something must be mended before training", "red")
    return EnvironmentFault.exit_code


def _print(checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark, colour = _MARKS[check.status]
        out(f"{mark} {check.name:<{width}}  {check.value}", colour)
        if check.advice:
            out(f"  {'':<{width}}  {check.advice}")
        if check.command:
            out(f"  {'':<{width}}    {check.command}", "bold")


def _no_gpu(found: Survey) -> EnvironmentFault:
    return EnvironmentFault(f"no GPU: {found.problem or 'none found'}", "everything also works on the CPU, slowly")
