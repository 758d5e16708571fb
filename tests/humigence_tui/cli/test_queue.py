"""`humigence queue`: what was asked for is said back, checked and kept; a whole queue survives the death of its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli.main import main
from pipeline.runs import control, event_log, store
from pipeline.runs import events as ev
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.queue import New, Queue
from pipeline.system import locks
from tests.conftest import chat_row, write_jsonl
from tests.humigence_tui.cli.conftest import FAILED_GATE, GATES, STARTED, trained_steps
from tests.processes import environment, humigence
from tests.waiting import WHOLE_RUN_S, killed, wait_until

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def project(workspace: Path, tiny_model: Path) -> Path:
    """A folder with a config that trains in seconds."""
    rows = [chat_row(f"What comes after {a} and {b}?", f"After {a} comes {a + b}.") for a in range(8) for b in range(8)]
    write_jsonl(workspace / "rows.jsonl", rows)
    _write(workspace, tiny_model, lr=1e-4)
    return workspace


def _write(folder: Path, model: Path, lr: float) -> None:
    document = {
        "project": "tiny",
        "model": {"local_path": str(model)},
        "data": {"raw_path": "rows.jsonl", "max_seq_len": 64, "window_overlap": 8, "packing": False},
        "train": {"precision_mode": "lora_bf16", "epochs": 1, "lr": lr, "tokens_per_step_target": 512},
        "eval": {"max_new_tokens": 4, "samples_per_eval": 0},
        "compute": {"gpu": "cpu"},
    }
    (folder / "mine.json").write_text(json.dumps(document))


def listed(captured: Captured) -> list[dict[str, Any]]:
    captured.readouterr()
    assert main(["queue", "list", "--json"]) == 0
    return list(json.loads(captured.readouterr().out)["runs"])


def test_a_sweep_is_said_back_and_keeps_the_config_as_it_was(project: Path, tiny_model: Path, capsys: Captured) -> None:
    sweep = ["queue", "add", "--config", "mine.json", "--set", "train.lora.r=8,16", "--set", "train.lora.alpha=16"]
    assert main(sweep) == 0
    said = capsys.readouterr()
    assert "queued 2 runs" in said.out and "train.lora.alpha = 16 in all" in said.out
    assert "tiny-r8" in said.out and "tiny-r16" in said.out and "queue run --train" in said.err
    _write(project, tiny_model, lr=9e-4)
    runs = listed(capsys)
    assert [(each["number"], each["state"], each["differs"]) for each in runs] == [
        (1, "waiting", {"train.lora.r": "8"}),
        (2, "waiting", {"train.lora.r": "16"}),
    ]
    assert {each["settings"]["train"]["lr"] for each in runs} == {1e-4}
    assert main(["queue", "move", "2", "1"]) == 0
    assert [each["number"] for each in listed(capsys)] == [2, 1]
    assert main(["queue", "rm", "2"]) == 0
    assert [each["number"] for each in listed(capsys)] == [1]


def test_where_one_run_cannot_be_started_none_is_queued(project: Path, capsys: Captured) -> None:
    assert main(["queue", "add", "--config", "mine.json", "--set", "data.max_seq_len=32,4096"]) == 2
    said = capsys.readouterr().err
    assert "1 of 2 runs can't be started" in said and "max_seq_len=4096: data.max_seq_len" in said
    assert listed(capsys) == []


def test_nothing_trains_that_was_not_asked_for(project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAIN", raising=False)
    assert main(["queue", "run", "--train"]) == 5, "nothing waits"
    assert main(["queue", "add", "--config", "mine.json"]) == 0
    assert main(["queue", "run"]) == 2
    monkeypatch.setenv("TRAIN", "0")
    assert main(["queue", "run", "--train"]) == 2
    assert Queue(Workspace(project)).runner() is None
    assert [each["state"] for each in listed(capsys)] == ["waiting"]


def test_the_list_fits_eighty_columns_whatever_is_in_it(workspace: Path, capsys: Captured) -> None:
    queue = Queue(Workspace(workspace))

    long = (("model.repo", "somebody/a-model-with-a-long-name"), ("train.lr", "0.00012345"), ("data.max_seq_len", "2048"))
    queue.add([New({"project": "p" * 64}, "c.json", long) for _ in range(3)])
    queue.update(1, state="ended", outcome="gates failed", exit_code=3, message="m" * 200, began=0.0, ended=9e5)
    queue.update(2, state="starting", began=0.0)
    queue.update(3, waits_for="w" * 100)
    assert main(["queue", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= 80


def test_runs_are_compared_by_what_chose_their_checkpoints(
    recorded: Callable[..., RunFolder], workspace: Path, capsys: Captured
) -> None:

    queue = Queue(Workspace(workspace))
    queue.add([New({"project": "demo"}, "c.json", (("train.lr", value),)) for value in ("1e-4", "2e-4", "4e-4")])
    held_out = ev.HeldOut("test", 60, 9000, 2.0, 1.6, 0.4, 0.5, 60, 41, 19, 0.006)
    for number, (loss, gate) in enumerate([(1.5, FAILED_GATE), (1.25, GATES[0])], start=1):
        run_id = f"2026-11-22_09-31-0{number}"
        run = recorded(
            [STARTED, *trained_steps(10), ev.Evaluated(10, loss, 100, 0.1, True), held_out, gate, ev.RunFinished(0)], run_id
        )
        run.preprocess_report.write_text(json.dumps({"fingerprint": str(number)}))
        queue.update(number, state="ended", outcome="finished", exit_code=0, run=f"demo/{run_id}")
    assert main(["queue", "compare"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("   ")] == ["2", "1", "3"]
    assert "1.250" in lines[1] and "✔ 1 of 1" in lines[1] and "better on 41 of 60 test rows" in lines[2]
    assert "✘ 0 of 1" in lines[3]
    assert "1 of 3 has not ended" in said.err and "prepared differently" in said.err
    assert "lowest held-out loss: 2, lr=2e-4" in said.err
    assert main(["queue", "compare", "1", "--json"]) == 0
    assert [row["val_loss"] for row in json.loads(capsys.readouterr().out)] == [1.5]


@pytest.mark.slow
@pytest.mark.matrix
def test_a_whole_queue_of_two_runs_survives_the_death_of_its_process(project: Path) -> None:
    assert humigence("queue", "add", "--config", "mine.json", "--set", "train.lr=1e-4,2e-4", cwd=project).returncode == 0
    here, queue = Workspace(project), Queue(Workspace(project))
    command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", "queue", "run", "--train"]
    watching = subprocess.Popen(command, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: any(control.is_alive(run) for run in store.runs_of(here)), seconds=WHOLE_RUN_S)
        (first,) = store.runs_of(here)
        died = queue.runner()
        assert died is not None
        os.kill(died, signal.SIGKILL)
        _, words = watching.communicate(timeout=WHOLE_RUN_S)
        assert watching.returncode == 4 and "2 of its runs have not ended" in words
        assert control.is_alive(first), "a run needs no queue"

        done = humigence("queue", "run", "--train", cwd=project)
        assert "the queue is empty" in done.stderr
        assert [each.outcome in ("finished", "gates failed") for each in queue.read()] == [True, True], done.stderr
        assert len(store.runs_of(here)) == 2, "none was started twice"
        states = [event_log.read_state(run) for run in store.runs_of(here)]
        assert [state.attempt for state in states] == [1, 1] and all(state.train_ended for state in states)
        configs = [run.load_config() for run in store.runs_of(here)]
        assert {config.train.lr for config in configs} == {1e-4, 2e-4}
        assert {config.compute.gpu for config in configs} == {"cpu"}
        assert "better" in humigence("queue", "compare", cwd=project).stdout
    finally:
        killed(watching)
        for lock in (queue.runner_lock, *(run.lock for run in store.runs_of(here))):
            if pid := locks.holder(lock):
                os.kill(pid, signal.SIGKILL)
