"""`runs rm`, `runs prune` and the disk use of the list: shown first, asked for, told as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pipeline.runs import store as run_folders
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import locks
from tests.humigence_tui.cli.conftest import STARTED, trained_steps
from tests.humigence_tui.cli.terminals import Terminal
from tests.processes import humigence

Recorded = Callable[..., RunFolder]


def three(recorded: Recorded) -> list[RunFolder]:
    """Oldest first, each with a checkpoint."""
    made = [recorded([STARTED, *trained_steps(3)], run_id=f"2026-11-{day}_09-00-00") for day in (20, 21, 22)]
    for run in made:
        (run.checkpoints / "step-000003").mkdir(parents=True)
        (run.checkpoints / "step-000003" / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 200)
    return made


def left(workspace: Path) -> list[str]:
    return [run.run_id for run in run_folders.runs_of(Workspace(workspace))]


def test_the_list_tells_what_each_run_takes_of_the_disk(recorded: Recorded, workspace: Path) -> None:
    three(recorded)
    rows = json.loads(humigence("runs", "--json", cwd=workspace).stdout)
    assert all(51_200 <= row["disk_bytes"] < 150_000 for row in rows)
    head, *lines = humigence("runs", cwd=workspace).stdout.splitlines()
    assert "disk" in head.split()
    assert all(line[: head.index("disk") + 4].split()[-1] in ("KiB", "MiB") for line in lines)


def test_a_dry_run_tells_what_would_go_and_what_stays_and_deletes_nothing(recorded: Recorded, workspace: Path) -> None:
    three(recorded)
    told = json.loads(humigence("runs", "prune", "--keep", "1", "--dry-run", "--json", cwd=workspace).stdout)
    assert told["dry_run"] is True
    assert [item["name"] for item in told["removed"]] == ["demo/2026-11-21_09-00-00", "demo/2026-11-20_09-00-00"]
    assert [item["name"] for item in told["kept"]] == ["demo/2026-11-22_09-00-00"]
    assert told["removed_bytes"] == sum(item["bytes"] for item in told["removed"]) > 100_000
    shown = humigence("runs", "prune", "--keep", "1", "--dry-run", cwd=workspace)
    assert "would delete 2 runs" in shown.stderr and "demo/2026-11-20_09-00-00" in shown.stdout
    assert "humigence runs prune --keep 1" in shown.stderr
    assert len(left(workspace)) == 3


def test_where_nobody_can_be_asked_nothing_goes_without_yes(recorded: Recorded, workspace: Path) -> None:
    oldest, *_ = three(recorded)
    for command in (("prune", "--keep", "1"), ("rm", oldest.run_id)):
        refused = humigence("runs", *command, cwd=workspace)
        assert refused.returncode == 2 and "--yes" in refused.stderr
        assert len(left(workspace)) == 3
    assert humigence("runs", "rm", "2026-11-20", "--yes", cwd=workspace).returncode == 0
    assert left(workspace) == ["2026-11-22_09-00-00", "2026-11-21_09-00-00"]
    done = humigence("runs", "prune", "--keep", "1", "--yes", "--json", cwd=workspace)
    assert [item["name"] for item in json.loads(done.stdout)["removed"]] == ["demo/2026-11-21_09-00-00"]
    assert left(workspace) == ["2026-11-22_09-00-00"]


def test_on_a_terminal_it_shows_what_goes_and_asks(recorded: Recorded, workspace: Path) -> None:
    three(recorded)
    with Terminal("runs", "prune", "--keep", "1", cwd=workspace) as terminal:
        text = terminal.until("[y/N]")
        assert "demo/2026-11-20_09-00-00" in text and "Delete 2 runs, " in text
        terminal.type("\n")
        assert terminal.end() == 130
        assert "nothing was deleted" in terminal.text
    assert len(left(workspace)) == 3
    with Terminal("runs", "rm", "2026-11-20", "2026-11-21", cwd=workspace) as terminal:
        terminal.until("[y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0
        assert "deleted 2 runs" in terminal.text
    assert left(workspace) == ["2026-11-22_09-00-00"]


def test_of_several_runs_none_goes_when_one_is_on(recorded: Recorded, workspace: Path) -> None:
    oldest, middle, _ = three(recorded)
    lock = locks.try_lock(middle.lock)
    assert lock is not None
    with lock:
        done = humigence("runs", "rm", oldest.run_id, middle.run_id, "--yes", cwd=workspace)
    assert done.returncode == 4 and "is on" in done.stderr and "humigence runs stop demo/2026-11-21_09-00-00" in done.stderr
    assert len(left(workspace)) == 3


def test_an_empty_name_removes_nothing(recorded: Recorded, workspace: Path) -> None:
    three(recorded)
    done = humigence("runs", "rm", "", "--yes", cwd=workspace)
    assert done.returncode == 2 and len(left(workspace)) == 3


def test_with_nothing_to_prune_it_says_so(recorded: Recorded, workspace: Path) -> None:
    three(recorded)
    done = humigence("runs", "prune", cwd=workspace)
    assert (done.returncode, done.stdout) == (0, "") and "nothing to delete" in done.stderr
    assert json.loads(humigence("runs", "prune", "--json", cwd=workspace).stdout)["removed"] == []
