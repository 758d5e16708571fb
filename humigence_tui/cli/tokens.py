"""`humigence tokens`: how fast the last run trained."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project, with_config
from humigence_tui.cli.shared.output import out, out_json, table
from humigence_tui.cli.shared.run_report import run_name
from pipeline.common.errors import MissingArtifact
from pipeline.common.text import counted, duration, size
from pipeline.runs import event_log, store
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def tokens(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Which run; the project's newest that trained.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Real tokens only: padding is not work. Steps that warm up are left out of the rate."""
    here, settings = open_project(config)
    # The project's newest; where it has trained nothing, the newest there is: it is named in what is printed.
    every = [*store.runs_of(here, settings.project), *store.runs_of(here)]
    candidates = [store.find_run(here, run)] if run else every
    for found in candidates:
        state = event_log.read_state(found)
        if len(state.train):
            _print(figures(found, state), as_json)
            return
    what = run or f"project {settings.project!r}"
    raise MissingArtifact(f"{what}: no step was trained yet", with_config("train --train", config))


def figures(run: RunFolder, state: RunState) -> dict[str, Any]:
    """Throughput of a run that has trained at least one step."""
    count = len(state.train)
    return {
        "run": run_name(run),
        "device": state.device,
        "steps": count,
        "tokens": state.train.total("tokens"),
        "tokens_per_step": state.train.total("tokens") / count,
        "trained_tokens_per_step": state.train.total("trained_tokens") / count,
        "tokens_per_second": state.tokens_per_second(last=count),
        "seconds": state.train.total("seconds"),
        "peak_memory_bytes": state.peak_memory_bytes,
    }


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out_json(found)
        return
    rate, peak = found["tokens_per_second"], found["peak_memory_bytes"]
    rows = [
        ("run", found["run"]),
        ("device", found["device"] or "unknown"),
        ("tokens/step", f"{counted(found['tokens_per_step'])}, {counted(found['trained_tokens_per_step'])} of them trained"),
        ("tokens/s", "unknown" if rate is None else counted(rate)),
        ("peak memory", size(peak) if peak else "unknown"),
        ("trained", f"{counted(found['steps'])} steps, {counted(found['tokens'])} tokens, {duration(found['seconds'])}"),
    ]
    for line in table(rows):
        out(line)
