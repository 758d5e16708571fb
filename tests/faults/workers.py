"""Whole workers on a tiny model: started as the command starts them, watched by their log, compared by their bits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pipeline.common.files import read_json, sha256_file
from pipeline.config.schema import Config
from pipeline.runner import launch
from pipeline.runner.launch import Request, Started
from pipeline.runs import control, event_log, store
from pipeline.runs.folders import RunFolder, Workspace
from tests.conftest import chat_row, write_jsonl
from tests.processes import ROOT, environment

_PATIENCE_S = 120.0
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


class Workers:
    """The process that forks them (see `zygote`)."""

    _all: ClassVar[list[Workers]] = []

    def __init__(self) -> None:
        self._all.append(self)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=ROOT, env=environment(OMP_NUM_THREADS="1"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"
        self.faults: list[dict[str, Any]] = []
        self.pid = 0

    def _order(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def spawn(self, _workspace: Workspace, run: RunFolder) -> None:
        """In the place of `launch._spawn`: the worker holds the run when this returns, or has ended."""
        self.pid = self._order(start=str(run.path), faults=self.faults)
        self.faults = []
        before = event_log.read_state(run).last_seq
        wait_until(
            lambda: control.is_alive(run) or event_log.read_state(run).last_seq > before or not Path(f"/proc/{self.pid}").exists()
        )

    def wait(self) -> int:
        """The exit status of the newest worker, negative for a signal."""
        pid, self.pid = self.pid, 0
        return int(self._order(wait=pid))

    def stand_still(self) -> bool:
        """Whether the newest worker is stopped by a signal that it may go on from."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def kill(self) -> None:
        """End the newest worker, wherever it is."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()

    @classmethod
    def end_all(cls) -> None:
        """Leave no worker behind that a failed test has started."""
        for each in cls._all:
            each.kill()

    def close(self) -> None:
        self.end_all()
        self._all.remove(self)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def wait_until(condition: Callable[[], object]) -> None:
    """Look again and again; fails when it does not become so."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < _PATIENCE_S, "still not so"
        time.sleep(0.01)


class Project:
    """A workspace with a tiny model, rows, and a run that is started, resumed and looked at.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path, model: Path, workers: Workers, **changes: dict[str, Any]) -> None:
        self.root, self.workers = root, workers
        self.workspace = Workspace(root)
        self.rows = root / "data" / "raw" / "rows.jsonl"
        write_jsonl(self.rows, [chat_row(f"What is after {a} and {b}?", f"{b}, then {a}.") for a in _NUMBERS for b in _NUMBERS])
        self.config = config_for(model, **changes)

    def start(self, *faults: dict[str, Any], resume: bool = False, **request: Any) -> Started:
        """Start a worker; its faults happen at their moments."""
        self.workers.faults = list(faults)
        return launch.start(self.workspace, self.config, Request(train=True, resume=resume, **request))

    def to_its_end(self, *faults: dict[str, Any], resume: bool = False, **request: Any) -> int:
        """Start a worker and wait for its exit status."""
        self.start(*faults, resume=resume, **request)
        return self.workers.wait()

    @property
    def run(self) -> RunFolder:
        return store.find(self.workspace)

    @property
    def state(self) -> Any:
        return event_log.read_state(self.run)

    def wait_for_step(self, step: int) -> None:
        """Until the run has made this optimizer step, or has ended."""
        wait_until(lambda: self.state.step >= step or not control.is_alive(self.run))

    def wait_for_pause(self) -> None:
        """Until the run waits for room, or has ended."""
        wait_until(lambda: self.state.paused or not control.is_alive(self.run))

    def move_to(self, root: Path) -> None:
        """Go on in a folder that the workspace was copied to."""
        self.root, self.workspace = root, Workspace(root)
        self.rows = root / "data" / "raw" / "rows.jsonl"

    def notes(self) -> str:
        """Everything the run told as notes."""
        return "\n".join(note.text for _, note in self.state.notes)

    def wait_for(self, kind: str, **values: Any) -> None:
        """Until the log holds such an event."""
        wait_until(lambda: any(fits(each.event, kind, values) for each in event_log.EventReader(self.run).read()))

    def left_behind(self) -> dict[str, Any]:
        """What must be the same to the bit: the adapter and optimizer of the last and the best checkpoint, and the curves."""
        run, state = self.run, self.state
        best = run.path / read_json(run.train_report)["best_checkpoint"]
        newest = max(run.checkpoints.glob("step-*"))
        curves = {name: list(state.train[name]) for name in ("step", "loss", "lr", "grad_norm", "tokens")}
        weights = {f"{folder.name}/{name}": sha256_file(folder / name) for folder in (best, newest) for name in _WEIGHTS}
        return {"best": best.name, "weights": weights, "curves": curves, "held out": list(state.held_out["loss"])}


_WEIGHTS = ("adapter_model.safetensors", "optimizer.safetensors", "scheduler.json", "rng.json")


def fits(event: Any, kind: str, values: dict[str, Any]) -> bool:
    return event.kind == kind and all(getattr(event, name) == value for name, value in values.items())


def config_for(model: Path, **changes: dict[str, Any]) -> Config:
    """Two epochs in about 30 steps, with dropout and shuffling, an evaluation and a checkpoint every third."""
    document: dict[str, Any] = {
        "project": "tiny",
        "model": {"local_path": str(model)},
        "data": {"raw_path": "data/raw/rows.jsonl", "max_seq_len": 64, "window_overlap": 8},
        "train": {"precision_mode": "lora_bf16", "epochs": 2, "lr": 1e-3, "micro_batch": 4, "tokens_per_step_target": 512},
        "eval": {"max_new_tokens": 4, "samples_per_eval": 0},
        "compute": {"gpu": "cpu"},
    }
    for section, values in changes.items():
        document[section] = document.get(section, {}) | values
    return Config.model_validate(document)


def when(kind: str, **values: Any) -> dict[str, Any]:
    """The moment right after such an event."""
    return {"when": {"kind": kind, **values}}
