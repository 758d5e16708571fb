"""`humigence runs rm` and `humigence runs prune`: what goes is shown first, and on a terminal asked for."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from humigence_tui.cli.shared.options import AsJson, workspace
from humigence_tui.cli.shared.output import confirmed, is_interactive, out, out_json, print_message, print_next_commands, table
from pipeline.cleanup import removal, retention
from pipeline.cleanup.retention import KEPT_NEWEST, Item, Kind, Pruning
from pipeline.common import files
from pipeline.common.errors import BadInput, Stopped
from pipeline.common.text import counted, size
from pipeline.runs import store

Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="A run's id, its beginning, PROJECT/ID or a path.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Keep = Annotated[int, typer.Option("--keep", min=0, metavar="N", help="How many of the newest runs of each project stay.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")]
Project = Annotated[str | None, typer.Option("--project", "-p", metavar="NAME", help="Remove runs of one project only.")]


_KIND_NAMES: dict[Kind, tuple[str, str]] = {
    "run": ("run", "runs"),
    "prepared data": ("prepared data set", "prepared data sets"),
    "left over": ("left-over", "left-overs"),
}


def rm(run: Runs, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete runs with everything in them. Refused for a run that is on, and for one that a package was made from."""
    here = workspace()
    if not all(run):  # `rm "$RUN"` with nothing in it: elsewhere no name is the newest run's
        raise BadInput("the name of a run is empty", "humigence runs lists them")
    found = list(dict.fromkeys(store.find_run(here, selector) for selector in run))
    for each in found:
        removal.require_removable(here, each)
    items = [Item("run", each.path, files.disk_bytes(each.path), "you named it") for each in found]
    _agreed(items, yes, f"humigence runs rm {shlex.join(run)}")
    for each in found:
        removal.remove_run(here, each)
    _print_pruned(Pruning(tuple(items), ()), as_json)


def prune(
    keep: Keep = KEPT_NEWEST, project: Project = None, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Delete old runs, prepared data that nothing refers to, and what killed processes left behind.

    What stays: the newest runs of each project (--keep), every run that is on, every run that a package was made from, and the
    prepared data that a run that stays or a config in configs/ refers to. Data outside of this folder stays too: runs elsewhere
    may need it; --dry-run names it.
    """
    here = workspace()
    command = " ".join(["humigence runs prune", *(["--project", shlex.quote(project)] if project else []), f"--keep {keep}"])
    planned = retention.plan(here, keep=keep, project=project)
    if dry_run or not planned.remove:
        _print_pruned(planned, as_json, dry_run=command if dry_run else None)
        return
    _agreed(planned.remove, yes, command)
    _print_pruned(removal.prune(here, planned, keep=keep, project=project), as_json)


def _agreed(items: Sequence[Item], yes: bool, command: str) -> None:
    """Returns when the person wants these gone.

    Raises:
        Stopped: they don't.
        BadInput: nobody can be asked.
    """
    if yes:
        return
    if not is_interactive():
        raise BadInput(f"{_counted(items)} would be deleted, and nobody can be asked", f"{command} --yes does it")
    for line in _lines(items):
        print_message(line)
    if not confirmed(f"Delete {_counted(items)}?", default=False):
        raise Stopped("nothing was deleted")


def _counted(items: Sequence[Item]) -> str:
    """`3 runs and 1 prepared data set, 1.2 GiB`."""
    parts = [
        f"{counted(number)} {_KIND_NAMES[kind][number != 1]}" for kind, number in Counter(item.kind for item in items).items()
    ]
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
    return f"{listed}, {size(sum(item.size_bytes for item in items))}"


def _lines(items: Sequence[Item]) -> list[str]:
    return table([(item.kind, item.name, size(item.size_bytes), item.why) for item in items], right=(2,))


def _print_pruned(pruned: Pruning, as_json: bool, *, dry_run: str | None = None) -> None:
    """`dry_run`: the command that would do it; None where it is done."""
    if as_json:
        out_json(
            {
                "dry_run": dry_run is not None,
                "removed": [_json(item) for item in pruned.remove],
                "kept": [_json(item) for item in pruned.keep],
                "removed_bytes": pruned.size_bytes,
            }
        )
        return
    for line in _lines(pruned.remove):
        out(line)
    if not pruned.remove:
        print_message("there is nothing to delete")
    elif dry_run:
        print_message(f"would delete {_counted(pruned.remove)}; nothing is deleted yet")
        print_next_commands(dry_run)
    else:
        print_message(f"deleted {_counted(pruned.remove)}", "green")
    for item in pruned.keep if dry_run else ():
        print_message(f"stays: {item.name}: {item.why}", "dim")


def _json(item: Item) -> dict[str, Any]:
    return {"kind": item.kind, "name": item.name, "path": str(item.path), "bytes": item.size_bytes, "why": item.why}
