"""A training of the tiny model on made-up documents, in this process or, run as a program, in its own."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base_model import locate
from pipeline.config.schema import Config
from pipeline.dataset.figures import DataFigures
from pipeline.dataset.loss_weights import LossWeights
from pipeline.dataset.packing import pack
from pipeline.planning.plan import Plan
from pipeline.runs import store
from pipeline.runs.context import StepContext, never_stop
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import Event, StopMode, TrainStep
from pipeline.runs.folders import RunFolder, Workspace

ROW_TOKENS = 48


class MadeUpData:
    """What training asks of `ProcessedData`: documents of 4 to 40 tokens, the first third of each not trained.

    Args:
        weights: of the splits, as their rows give them.
    """

    def __init__(self, train: int = 24, val: int = 6, seed: int = 0, weights: Mapping[str, LossWeights] | None = None) -> None:
        from datasets import Dataset

        random = np.random.default_rng(seed)
        self._splits = {}
        for split, size in (("train", train), ("val", val)):
            # Few distinct tokens, so that there is something to learn in a handful of steps.
            ids = [(3 + random.integers(0, 12, random.integers(4, 40))).tolist() for _ in range(size)]
            labels = [[-100] * (len(row) // 3) + row[len(row) // 3 :] for row in ids]
            self._splits[split] = Dataset.from_dict({"input_ids": ids, "labels": labels}) if ids else None
        self.fingerprint = "made-up"
        self._weights = weights or {}

    def put_token(self, token: int, document: int) -> None:
        """Make it the second token of a training document."""
        from datasets import Dataset

        rows = self._splits["train"].to_dict()
        rows["input_ids"][document][1] = token
        self._splits["train"] = Dataset.from_dict(rows)

    def loss_weights(self, split: str) -> LossWeights | None:
        return self._weights.get(split)

    def dataset(self, split: str) -> Any:
        return self._splits[split]

    def figures(self, config: Config) -> DataFigures:
        from pipeline.dataset.processed import packed_rows

        lengths = self.lengths("train")
        rows, capacity = packed_rows(lengths, config)
        return DataFigures(rows, capacity, len(lengths), int(lengths.sum()), int(lengths.sum()), exact=True)

    def lengths(self, split: str) -> np.ndarray:
        dataset = self._splits[split]
        return np.array([len(ids) for ids in dataset["input_ids"]] if dataset else [], dtype=np.int32)


def config_for(model: Path, **changes: Any) -> Config:
    """The shipped defaults with this model, on the CPU. `changes`: dotted keys with `__` for the dot."""
    document: dict[str, Any] = {"project": "tiny", "model": {"local_path": str(model)}, "compute": {"gpu": "cpu"}}
    document["data"] = {"max_seq_len": ROW_TOKENS, "window_overlap": 0}
    document["train"] = {"lr": 0.01}
    for name, value in changes.items():
        *sections, key = name.split("__")
        target = document
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    return Config.model_validate(document)


def plan_for(config: Config, data: MadeUpData, **changes: Any) -> Plan:
    """Two epochs of micro-batch 2 × accumulation 2, an evaluation every third step and nothing saved by the clock."""
    rows = len(pack(data.lengths("train"), ROW_TOKENS, config.data.packing))
    values: dict[str, Any] = {"micro_batch": 2, "accumulation": 2, "epochs": 2, "compute_dtype": "float32"} | changes
    per_epoch = math.ceil(math.ceil(rows / values["micro_batch"]) / values["accumulation"])
    plan = Plan(
        exact=True, device="cpu", precision_mode=config.train.precision_mode, rows_per_epoch=rows, steps_per_epoch=per_epoch,
        total_steps=per_epoch * values["epochs"], warmup_steps=1, tokens_per_step=4 * ROW_TOKENS, train_tokens=0,
        eval_every_steps=3, save_every_steps=None, save_every_seconds=600.0, gradient_checkpointing=False, attention="sdpa",
        row_tokens=ROW_TOKENS, memory={}, free_memory_bytes=0,
        micro_batch=values["micro_batch"], accumulation=values["accumulation"], epochs=values["epochs"],
        compute_dtype=values["compute_dtype"],
    )  # fmt: skip
    return replace(plan, **changes)


class TinyRun:
    """A run folder with its log, and what was emitted in this process."""

    def __init__(self, root: Path, config: Config, stop: Callable[[], StopMode | None] = never_stop) -> None:
        workspace = Workspace(root)
        found = store.runs_of(workspace, config.project)
        self.folder: RunFolder = found[0] if found else store.create(workspace, config, {})
        self.config, self.events = config, list[Event]()
        self._writer = EventWriter(self.folder)
        self.ctx = StepContext(config, workspace, self.folder, self.emit, stop)

    def emit(self, event: Event) -> None:
        self._writer.emit(event)
        self.events.append(event)

    def train(self, data: MadeUpData, plan: Plan, *, resume: bool = False) -> dict[str, Any]:
        from pipeline.training.train import train

        base = locate.require_base_model(self.config, self.ctx.workspace)
        try:
            return train(self.ctx, base, data, plan, resume)  # type: ignore[arg-type]
        finally:
            self._writer.close()

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def prompts_file(root: Path) -> str:
    """Three curated prompts in `root`."""
    path = root / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("Who are you?", "Count.", "Why?")))
    return str(path)


def stop_at(step: int, mode: StopMode = "save") -> tuple[Callable[[Event], None], Callable[[], StopMode | None]]:
    """A person who asks to stop while step `step + 1` is being made: (what watches the events, what the trainer asks)."""
    seen = [0]

    def watch(event: Event) -> None:
        if isinstance(event, TrainStep):
            seen[0] = event.step

    return watch, lambda: mode if seen[0] >= step else None


def main(arguments: list[str]) -> None:
    """Train as the JSON in the first argument says; die as a killed process does where it says so."""
    order = json.loads(arguments[0])
    config = Config.model_validate(order["config"])
    run = TinyRun(Path(order["root"]), config)
    if order.get("die_at_step"):
        emit = run.ctx.emit

        def emit_and_die(event: Event) -> None:
            emit(event)
            if isinstance(event, TrainStep) and event.step == order["die_at_step"]:
                os.kill(os.getpid(), signal.SIGKILL)

        run.ctx = replace(run.ctx, emit=emit_and_die)
    if order.get("die_in_save"):
        from pipeline.training.checkpointing import contents as checkpoints

        write = checkpoints.write_optimizer

        def write_and_die(optimizer: Any, folder: Path) -> None:
            write(optimizer, folder)
            if f"step-{order['die_in_save']:06d}" in folder.name:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.write_optimizer = write_and_die
    run.train(MadeUpData(), Plan.from_json(order["plan"]), resume=order["resume"])


def order_for(root: Path, config: Config, plan: Plan, **more: Any) -> str:
    """The argument of `main`."""
    return json.dumps({"root": str(root), "config": config.to_json(), "plan": asdict(plan), "resume": False} | more)


if __name__ == "__main__":
    main(sys.argv[1:])
