"""Whole workers on a tiny model: started as the command starts them, watched by their log, compared by their bits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import psutil

from pipeline.common.files import read_json, sha256_file
from pipeline.config.schema import Config
from pipeline.runner import launch
from pipeline.runner.launch import Started
from pipeline.runs import control, event_log, store
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.request import Request
from tests.conftest import chat_row, write_jsonl
from tests.processes import ROOT, environment
from tests.waiting import PATIENCE_S, WHOLE_RUN_S, Lines, go_on, is_gone, see_it_stop, state_of, wait_until

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


class Workers:
    """The process that forks them (see `zygote`), and another when that one has been given up.

    Args:
        ahead: whether it loads torch before its first worker does.
    """

    _all: ClassVar[list[Workers]] = []

    def __init__(self, *, ahead: bool = True) -> None:
        self._all.append(self)
        self._command = [sys.executable, "-m", "tests.faults.zygote", *(["ahead"] if ahead else [])]
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: Lines
        self._on: set[int] = set()  # whose exit status nobody has asked for
        self.faults: list[dict[str, Any]] = []
        self.pid = 0

    def _begin(self) -> subprocess.Popen[bytes]:
        process = self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=environment(OMP_NUM_THREADS="1"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        assert process.stdout is not None
        self._answers = Lines(process.stdout)
        assert self._answers.next() == "ready"
        return process

    def ask(self, *, seconds: float = PATIENCE_S, **order: Any) -> Any:
        """What the zygote answers; once it has not answered in time, it is given up."""
        process = self._process or self._begin()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            return json.loads(self._answers.next(seconds))
        except BaseException:  # an answer that comes later would be taken for the next one's
            self.renew()
            raise

    @property
    def zygote(self) -> int:
        """Its pid; 0 while there is none."""
        return self._process.pid if self._process else 0

    def spawn(self, _workspace: Workspace, run: RunFolder, _see: str = "") -> None:
        """In the place of `launch.spawn_worker`: the worker holds the run when this returns, or has ended."""
        self.pid = self.ask(start=str(run.path), faults=self.faults)
        self._on.add(self.pid)
        self.faults = []
        before = event_log.read_state(run).last_seq
        wait_until(lambda: control.is_alive(run) or event_log.read_state(run).last_seq > before or is_gone(self.pid))

    def exit_status(self, seconds: float = WHOLE_RUN_S) -> int:
        """The exit status of the newest worker, negative for a signal; fails when it does not end in time."""
        pid, self.pid = self.pid, 0
        status = self.ask(wait=pid, within_s=seconds, seconds=seconds + PATIENCE_S)
        assert status is not None, f"worker {pid} is in state {state_of(pid)} after {seconds:.0f} s"
        self._on.discard(pid)
        return int(status)

    def see_it_stop(self) -> None:
        """Until the newest worker stands still, stopped by a signal that it may go on from."""
        see_it_stop(self.pid)

    def go_on(self) -> None:
        """Let the newest worker go on, once it stands still."""
        go_on(self.pid)

    def kill(self) -> None:
        """End the newest worker, wherever it is."""
        if self.pid:
            self._kill(self.pid)
            self.pid = 0

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.ask(wait=pid, within_s=PATIENCE_S, seconds=2 * PATIENCE_S)
        self._on.discard(pid)

    @classmethod
    def end_all(cls) -> None:
        """Leave no worker behind that a failed test has started."""
        for each in cls._all:
            for pid in tuple(each._on):
                each._kill(pid)
            each.pid = 0

    @classmethod
    def renew_all(cls) -> None:
        """After a failed test: whatever state it left a zygote in, the next test begins with another."""
        for each in cls._all:
            each.renew()

    def renew(self) -> None:
        """Kill the zygote with all that it has forked; the next order begins another."""
        process, self._process = self._process, None
        self._on.clear()
        self.faults, self.pid = [], 0
        if process is None:
            return
        family = [process.pid, *(each.pid for each in psutil.Process(process.pid).children(recursive=True))]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: all(map(is_gone, family)))

    def close(self) -> None:
        self.end_all()
        self._all.remove(self)
        self.renew()


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
        return self.workers.exit_status()

    @property
    def run(self) -> RunFolder:
        return store.find_run(self.workspace)

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
