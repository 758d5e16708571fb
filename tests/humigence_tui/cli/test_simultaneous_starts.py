"""Twenty people press return at once; and a run whose process dies is seen to be dead, and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runs import event_log, store
from pipeline.runs.folders import Workspace
from pipeline.system import locks
from tests.conftest import chat_row, write_jsonl
from tests.processes import environment, humigence
from tests.waiting import PATIENCE_S, WHOLE_RUN_S, killed, wait_until

STARTS = 8


@pytest.fixture
def project(workspace: Path, tiny_model: Path) -> Path:
    """A folder in which a training lasts long enough to be met."""
    rows = [chat_row(f"What comes after {a} and {b}?", f"After {a} comes {a + b}.") for a in range(8) for b in range(8)]
    write_jsonl(workspace / "rows.jsonl", rows)
    document = {
        "project": "tiny",
        "model": {"local_path": str(tiny_model)},
        "data": {"raw_path": "rows.jsonl", "max_seq_len": 64, "window_overlap": 8, "packing": False},
        "train": {
            "precision_mode": "lora_bf16",
            "epochs": 8,
            "tokens_per_step_target": 64,
            "early_stopping": {"enabled": False},
        },
        "eval": {"max_new_tokens": 4, "samples_per_eval": 0},
        "compute": {"gpu": "cpu"},
    }
    (workspace / "mine.json").write_text(json.dumps(document))
    return workspace


@pytest.mark.slow
def test_one_of_eight_starts_wins_and_a_killed_run_is_crashed_at_once_and_resumes(project: Path) -> None:
    command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", "train", "--train", "--config", "mine.json"]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, text=True, cwd=project, env=environment(), **streams) for _ in range(STARTS)]
    try:
        wait_until(lambda: sum(process.poll() is not None for process in started) >= STARTS - 1, seconds=WHOLE_RUN_S)
        winners = [process for process in started if process.poll() is None]
        refused = [process for process in started if process.poll() is not None]
        assert len(winners) == 1
        for process in refused:
            _, words = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 4
            assert "project 'tiny' is busy: run " in words and "humigence runs follow" in words
        (run,) = store.runs_of(Workspace(project))

        wait_until(lambda: event_log.read_state(run).saved_step, seconds=WHOLE_RUN_S, every_s=0.05)
        os.kill(event_log.read_state(run).pid, signal.SIGKILL)
        _, words = winners[0].communicate(timeout=PATIENCE_S)
        assert winners[0].returncode == 4
        assert "crashed" in words and "--resume" in words
    finally:
        for process in started:
            killed(process)
        for left in store.runs_of(Workspace(project)):  # workers outlive those who started them
            if pid := locks.holder(left.lock):
                os.kill(pid, signal.SIGKILL)
    (listed,) = json.loads(humigence("runs", "--json", cwd=project).stdout)
    assert listed["state"] == "crashed"

    resumed = humigence("train", "--train", "--resume", "--config", "mine.json", cwd=project)
    assert resumed.returncode == 0, resumed.stderr
    state = event_log.read_state(run)
    assert state.status == "finished" and state.attempt == 2
    assert list(state.train["step"]) == list(range(1, state.total_steps + 1)), "each step once"
