"""`humigence plan`: what a run would cost, before anything is spent."""

from __future__ import annotations

from typing import Any

import typer

from humigence_tui.cli.alone import step_result
from humigence_tui.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project
from humigence_tui.cli.terminal import out, out_json, say_next, table
from pipeline.files import read_json
from pipeline.text import counted, duration, size

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def plan(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """An estimate (≈) until the data is prepared, exact after. Saved as runs/PROJECT/training_plan.json; needs no GPU."""
    here, settings = open_project(config)
    step_result("plan", config)
    made = read_json(here.project(settings.project) / "training_plan.json")
    if as_json:
        out_json(made)
        return
    for line in plan_lines(made):
        out(line)
    say_next("humigence pipeline --train")


def plan_lines(made: dict[str, Any]) -> list[str]:
    """The plan (`Plan.to_json`) as aligned lines: what, how much, why."""
    about = "" if made["exact"] else "≈ "
    reasons = made.get("reasons", {})
    steps = f"{about}{counted(made['total_steps'])}   {counted(made['steps_per_epoch'])} an epoch, {made['epochs']:g} epochs"
    rows = [
        ("precision", f"{made['precision_mode']}, computing in {made['compute_dtype']}", reasons.get("compute_dtype", "")),
        ("batch", f"micro-batch {made['micro_batch']} × {made['accumulation']} accumulated", reasons.get("micro_batch", "")),
        ("tokens a step", f"{about}{counted(made['tokens_per_step'])}", reasons.get("tokens_per_step", "")),
        ("steps", steps, reasons.get("total_steps", "")),
        ("tokens", f"{about}{counted(made['train_tokens'])}", ""),
        ("evaluation", f"every {counted(made['eval_every_steps'])} steps", reasons.get("eval_every_steps", "")),
        ("checkpointing", "on" if made["gradient_checkpointing"] else "off", reasons.get("gradient_checkpointing", "")),
        ("time", f"{about}{duration(made['seconds'])}" if made["seconds"] else "not known yet", reasons.get("seconds", "")),
        *(("memory", text, "") for text in _memory_lines(made)),
    ]
    return table([("" if i and rows[i - 1][0] == row[0] else row[0], *row[1:]) for i, row in enumerate(rows)])


def _memory_lines(made: dict[str, Any]) -> list[str]:
    parts = made["memory"]
    free = made.get("free_memory_bytes")
    total = f"{size(sum(parts.values()))}{f' of {size(free)} free' if free else ''}"
    return [total, *table([(f"  {name}", size(count)) for name, count in parts.items()], right=(1,))]
