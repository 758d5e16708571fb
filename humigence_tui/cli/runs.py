"""`humigence runs`: the list of runs; showing, following, stopping and removing them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from humigence_tui.cli.shared import run_report
from humigence_tui.cli.shared.follow import follow_elsewhere
from humigence_tui.cli.shared.options import AsJson, workspace
from humigence_tui.cli.shared.output import Colour, out, out_json, print_message, print_next_commands, table
from humigence_tui.cli.shared.remove import prune, rm
from humigence_tui.event_text import memory_ran_out, standing_lines
from pipeline.common.errors import BadInput
from pipeline.common.text import counted, duration, loss, size
from pipeline.runs import control, event_log, provenance, store
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState, Status

app = typer.Typer(add_completion=False, rich_markup_mode=None, invoke_without_command=True)

RunArgument = Annotated[
    str | None, typer.Argument(metavar="RUN", help="A run's id, its beginning, PROJECT/ID or a path; the newest by default.")
]
Project = Annotated[str | None, typer.Option("--project", "-p", metavar="NAME", help="Only the runs of one project.")]
_STATE_COLOURS: dict[Status, Colour] = {"finished": "green", "failed": "red", "crashed": "red", "stopped": "amber"}


@app.callback()
def runs_(context: typer.Context, project: Project = None, as_json: AsJson = False) -> None:
    """Without a subcommand: the list, newest first."""
    if context.invoked_subcommand is not None:
        return
    rows = [store.summary(run) for run in store.runs_of(workspace(), project)]
    if as_json:
        out_json(rows)
    elif not rows:
        print_message("no run yet")
        print_next_commands("humigence pipeline --train", "humigence plan")
    else:
        _print_list(rows)


_HEAD = ("run", "state", "step", "loss", "held out", "started", "disk", "model")
_RIGHT = (2, 3, 4, 6)
# Where the terminal is too narrow for all columns, in the order in which they go.
_LEFT_OUT = ("model", "disk", "started", "loss", "step")


def _fitting(rows: Sequence[tuple[str, ...]], room: int | None) -> list[str]:
    """Head and rows as a table of `room` columns at most, whole columns left out for it; all of them where there is no bound."""
    without: set[str] = set()
    for name in ("", *_LEFT_OUT):
        without.add(name)
        kept = [index for index, title in enumerate(_HEAD) if title not in without]
        right = [number for number, index in enumerate(kept) if index in _RIGHT]
        lines = table([[row[index] for index in kept] for row in rows], right=right, head=[_HEAD[index] for index in kept])
        if room is None or max(map(len, lines)) <= room:
            break
    return lines


def _print_list(rows: list[dict[str, Any]]) -> None:
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    first, *lines = _fitting([_cells(row) for row in rows], room)
    out(first, "dim")
    for row, line in zip(rows, lines, strict=True):
        failed = row["state"] == "finished" and row["exit_code"]
        out(line, "red" if failed else _STATE_COLOURS.get(row["state"]))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    state = "gates failed" if row["state"] == "finished" and row["exit_code"] else row["state"]
    step = f"{counted(row['step'])} of {counted(row['steps'])}" if row["step"] else "–"
    started = datetime.fromisoformat(row["started"]).strftime("%d %b %H:%M") if row["started"] else "–"
    return (
        f"{row['project']}/{row['run_id']}", state, step, loss(row["train_loss"]), loss(row["val_loss"]), started,
        size(row["disk_bytes"]), row["model"],
    )  # fmt: skip


@app.command()
def show(run: RunArgument = None, as_json: AsJson = False) -> None:
    """What a run did and what came out."""
    found = store.find_run(workspace(), run)
    state = event_log.read_state(found)
    if as_json:
        out_json(run_report.as_json(found, state))
        return
    if run_report.print_headline(state):
        out()
    for line in table(_facts(found, state)):
        out(line)
    out()
    for step in standing_lines(state):
        out(*step)
    if state.gates or state.held_out_reports or state.answers or state.suites:
        out()
        run_report.print_findings(state)
        run_report.print_answers(state.answers)
    run_report.print_outcome(found, state)


def _facts(run: RunFolder, state: RunState) -> list[tuple[str, str]]:
    facts = [
        ("run", run_report.run_name(run)),
        ("state", control.status_of(run, state)),
        ("model", f"{state.model}   {state.precision_mode}   {state.device}".rstrip()),
        ("folder", str(run.path)),
    ]
    if state.started is not None and state.last_event is not None:
        facts.append(("took", duration((state.ended or state.last_event) - state.started)))
    if state.step:
        facts.append(("steps", f"{counted(state.step)} of {counted(state.total_steps)}"))
        facts.append(("loss", run_report.losses(state)))
    if state.best:
        facts.append(("best", f"{loss(state.best[1])} held out, at step {counted(state.best[0])}"))
    rate = state.tokens_per_second()
    if rate is not None:
        facts.append(("rate", f"{counted(rate)} tok/s"))
    if state.peak_memory_bytes:
        facts.append(("peak memory", size(state.peak_memory_bytes)))
    if state.layers_proved:
        facts.append(("layers", state.layers_proved.sentence()))
    facts += [("packaged", f"{each.format} in {each.folder}   {size(each.size_bytes)}") for each in state.packed]
    facts += [("", line.text.strip()) for event in state.memory_ran_out for line in memory_ran_out(event)]
    return facts + _made_with(run)


def _made_with(run: RunFolder) -> list[tuple[str, str]]:
    """What trained it, and what had changed from one start to the next."""
    starts = provenance.starts(run)
    changed = ", ".join(provenance.differences(starts))
    return provenance.facts(provenance.of_training(starts)) + ([("changed", changed)] if changed else [])


@app.command()
def follow(run: RunArgument = None, as_json: AsJson = False) -> int:
    """Watch a run until it ends. Ctrl-C only stops watching."""
    return follow_elsewhere(_live_or(run), as_json=as_json)


@app.command()
def stop(
    run: RunArgument = None,
    abort: Annotated[bool, typer.Option("--abort", help="Stop at once; what was saved before stays.")] = False,
) -> None:
    """Ask a run to finish its optimizer step, save and end."""
    found = _live_or(run)
    name = run_report.run_name(found)
    if not control.is_alive(found):
        raise BadInput(f"run {name} is not on", "humigence runs lists the runs and their states")
    control.request_stop(found, "abort" if abort else "save")
    print_message(f"{name}: {'aborting' if abort else 'stopping after this step, then saving'}")
    print_next_commands(f"humigence runs follow {name}", run_report.resume_command(found))


app.command()(rm)
app.command()(prune)


def _live_or(selector: str | None) -> RunFolder:
    """The run that is named; without a name the newest one that is on, else the newest."""
    here = workspace()
    live = (run for run in store.runs_of(here) if selector is None and control.is_alive(run))
    return next(live, None) or store.find_run(here, selector)
