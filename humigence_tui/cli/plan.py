"""`humigence plan`: what a run would cost, before anything is spent."""

from __future__ import annotations

from typing import Annotated

import typer

from humigence_tui.cli.shared import measure as measuring
from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project, with_config
from humigence_tui.cli.shared.output import out, out_json, print_next_commands, table
from humigence_tui.cli.shared.single_step import step_result
from pipeline.common.text import counted, duration, size
from pipeline.planning.plan import Plan, checkpointing_text, kernels_text, read_plan
from pipeline.planning.planner import PLAN_FILE

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_NAME_WIDTH = len("checkpointing")
Measure = Annotated[
    bool, typer.Option("--measure", help="Time a few steps on the real model first, and keep what that tells for the next plans.")
]


@app.command()
def plan(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False, measure: Measure = False) -> None:
    """An estimate (≈) until the data is prepared, exact after. Saved as runs/PROJECT/training_plan.json; needs no GPU."""
    here, settings = open_project(config)
    found = measuring.measure(settings, here) if measure else None
    step_result("plan", config)
    made = read_plan(here.project(settings.project) / PLAN_FILE)
    if as_json:
        out_json(made.to_json() | ({"measured": found.to_json()} if found else {}))
        return
    for line in plan_lines(made):
        out(line)
    if found:
        out(f"{'measured':<{_NAME_WIDTH}}  {measuring.measurement_text(found)}")
    print_next_commands(with_config("pipeline --train", config))


def plan_lines(made: Plan) -> list[str]:
    """The plan as aligned lines: what, how much, why."""
    about, why = "" if made.exact else "≈ ", made.reasons
    steps = f"{about}{counted(made.total_steps)}, {counted(made.steps_per_epoch)} an epoch, {made.epochs:g} epochs"
    batch = f"micro-batch {made.micro_batch} × {made.accumulation} of {counted(made.row_tokens)} tokens"
    rows = [
        ("precision", f"{made.precision_mode}, computing in {made.compute_dtype}", ""),
        ("adapter", f"{made.trained_parameters / 1e6:.2f} M parameters on {', '.join(made.target_modules)}", ""),
        ("batch", batch, why.get("micro_batch")),
        ("a step", f"{about}{counted(made.tokens_per_step)} tokens", why.get("tokens_per_step")),
        ("steps", steps, why.get("total_steps")),
        ("tokens", f"{about}{counted(made.train_tokens)} in the whole run", ""),
        ("evaluation", f"every {counted(made.eval_every_steps)} steps", why.get("eval_every_steps")),
        ("kernels", kernels_text(made), why.get("kernels")),
        *([("packing", "off", why["packing"])] if "packing" in why else []),
        ("checkpointing", checkpointing_text(made), why.get("gradient_checkpointing")),
        ("time", f"{about}{duration(made.seconds)}" if made.seconds else "not known before a run here has been measured", ""),
    ]
    lines = [f"{name:<{_NAME_WIDTH}}  {amount}{f'   ({reason})' if reason else ''}" for name, amount, reason in rows]
    return lines + _memory_lines(made) + _package_lines(made)


def _memory_lines(made: Plan) -> list[str]:
    free = f" of {size(made.free_memory_bytes)} free" if made.free_memory_bytes else ""
    parts = table([("", name, size(count)) for name, count in made.memory.items()], right=(2,))
    return [f"{'memory':<{_NAME_WIDTH}}  {size(made.peak_memory_bytes)}{free}", *(" " * _NAME_WIDTH + part for part in parts)]


def _package_lines(made: Plan) -> list[str]:
    """What pack will write: how much room it takes on the disk."""
    parts = table([("", name, size(count)) for name, count in made.package.items()], right=(2,))
    whole = f"{'package':<{_NAME_WIDTH}}  at most about {size(sum(made.package.values()))} on disk"
    return [whole, *(" " * _NAME_WIDTH + part for part in parts)] if parts else []
