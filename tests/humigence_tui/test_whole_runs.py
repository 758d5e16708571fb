"""A person at a terminal and a real worker on a tiny model: started by keys, left alone, killed, resumed, stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from pipeline.runner import launch
from pipeline.runs import control, event_log, store
from pipeline.runs.folders import RunFolder, Workspace
from tests.benchmarks import flood
from tests.conftest import chat_row, write_jsonl
from tests.recordings.make import write
from tests.terminal import Terminal
from tests.waiting import PATIENCE_S, WHOLE_RUN_S, in_time

pytestmark = pytest.mark.slow
_RIGHT = "\x1b[C"


def settings(model: Path, steps: int) -> Config:
    return Config.model_validate(
        {
            "project": "faithful",
            "model": {"local_path": str(model)},
            "compute": {"gpu": "cpu"},
            "data": {"raw_path": "rows.jsonl", "max_seq_len": 64, "window_overlap": 8},
            "train": {
                "precision_mode": "lora_bf16", "max_steps": steps, "epochs": 1000, "micro_batch": 2,
                "tokens_per_step_target": 256, "eval_every_steps": max(2, steps // 2), "save_every_steps": 5,
                "early_stopping": {"enabled": False},
            },
            "eval": {"max_new_tokens": 4, "samples_per_eval": 1},
        }
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with rows; no worker is left in it."""
    write_jsonl(tmp_path / "rows.jsonl", [chat_row(f"question {n}", f"answer {n}") for n in range(40)])
    workspace = Workspace(tmp_path)
    yield workspace
    for run in store.runs_of(workspace):
        if control.is_alive(run):
            os.kill(event_log.read_state(run).pid, signal.SIGKILL)


def only_run(workspace: Workspace) -> RunFolder:
    (run,) = store.runs_of(workspace)
    return run


def test_a_run_started_by_keys_goes_on_without_the_terminal_and_its_curve_is_there_afterwards(
    place: Workspace, tiny_model: Path
) -> None:
    (place.root / "run.json").write_text(json.dumps(settings(tiny_model, 30).to_json()))
    command = (sys.executable, "-m", "humigence_tui.cli.main", "wizard", "--config", "run.json")
    with Terminal(place.root, command=command) as first:
        first.says("Schema", "rows.jsonl", "30 steps")  # with a GPU the first question has a line more: what fits is planned
        first.press("\x13")
        first.says("saved to run.json", "What now?")
        first.press("S")
        first.says("Train now")
        first.press(_RIGHT)
        first.press(_RIGHT)
        first.press("\r")
        first.says("● training", seconds=WHOLE_RUN_S)
        first.vanish()
        first.ends()
    run = only_run(place)
    for _ in in_time(event_log.follow(run), seconds=WHOLE_RUN_S):
        pass
    state = event_log.read_state(run)
    assert (state.status, state.step) == ("finished", 30)
    with Terminal(place.root) as second:
        second.says("✔ finished" if not any(gate.verdict == "failed" for gate in state.gates) else "✘", "faithful")
        second.press("\r")
        second.says("30 steps", "smoothed", "held-out ◆")
        second.press("\x11")
        assert second.ends() == 0


def test_a_worker_that_is_killed_is_told_of_with_its_last_words_resumed_by_a_key_and_stopped_by_another(
    place: Workspace, tiny_model: Path
) -> None:
    started = launch.start(place, settings(tiny_model, 5000), launch.Request(train=True))
    run = started.run
    with Terminal(place.root, columns=120, lines=36) as terminal:
        terminal.says("faithful")
        terminal.press("\r")
        terminal.says("● training", seconds=WHOLE_RUN_S)
        terminal.wait(lambda: event_log.read_state(run).saved_step, seconds=WHOLE_RUN_S)
        with run.output_log.open("a") as output:
            output.write("a library's last words\n")
        os.kill(event_log.read_state(run).pid, signal.SIGKILL)
        terminal.says("✘ crashed", "the training process is gone after optimizer step", "a library's last words", "R resume")
        before = event_log.read_state(run)
        terminal.says(f"goes on from step {before.saved_step}")
        terminal.press("R")
        terminal.wait(lambda: event_log.read_state(run).attempt == before.attempt + 1, seconds=WHOLE_RUN_S)
        terminal.wait(lambda: event_log.read_state(run).step > before.step, seconds=WHOLE_RUN_S)
        terminal.says("● training")
        terminal.press("x")
        terminal.says("stop and save")
        terminal.press(_RIGHT)
        terminal.press("\r")
        terminal.says("■ stopped", "stopped as asked, and saved", seconds=WHOLE_RUN_S)
        state = event_log.read_state(run)
        assert list(state.train["step"]) == list(range(1, state.step + 1))  # each step once
        terminal.press("\x11")
        assert terminal.ends() == 0


def test_a_flood_of_events_drowns_neither_the_keys_nor_the_last_of_them(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = write(workspace, "crashed")
    worker = flood.start(run, 5000, 5000, 4)
    with Terminal(tmp_path, columns=160, lines=48) as terminal:
        terminal.says("training")
        terminal.press("\r")
        terminal.says("smoothed")
        terminal.press("?")
        terminal.says("logarithmic scale")
        terminal.press("\x1b")
        terminal.wait(lambda: "logarithmic scale" not in terminal.text)
        worker.wait(timeout=PATIENCE_S)
        last = event_log.read_state(run).step
        assert last > 5000
        terminal.says("✘ crashed", f"after optimizer step {last:,}")
        terminal.press("\x11")
        assert terminal.ends() == 0
    assert b"Traceback" not in terminal.received
