"""A run as training leaves it, made without training: prepared data, a plan, a random adapter and a log of optimizer steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.base_model.locate import require_base_model
from pipeline.base_model.shape import read_shape
from pipeline.common.files import write_json
from pipeline.config.schema import Config
from pipeline.dataset import processed
from pipeline.modeling.adapter import add_adapter
from pipeline.modeling.load import load_base
from pipeline.planning.plan import make_plan, write_plan
from pipeline.runs import store
from pipeline.runs.context import StepContext
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import Event, TrainStep
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.steps import preprocess
from pipeline.system.gpu import cpu_device
from tests.conftest import chat_row, write_jsonl

WORDS = [
    "overfitting", "water", "boils", "Paris", "parcel", "notice", "examples", "learns", "photo", "delivery", "capital",
    "France", "model",
]  # fmt: skip


def conversations(count: int) -> list[dict[str, Any]]:
    """Rows of different lengths, some with two answers."""
    rows = []
    for i in range(count):
        turns = [f"What about {WORDS[i % 13]} {i}?", " ".join(WORDS[(i + j) % 13] for j in range(3 + i % 7)) + "."]
        rows.append(chat_row(*turns * (1 + i % 2)))
    return rows


def config_for(model: Path, **sections: dict[str, Any]) -> Config:
    document: dict[str, Any] = {
        "project": "demo",
        "model": {"local_path": str(model)},
        "compute": {"gpu": "cpu"},
        "data": {"raw_path": "rows.jsonl", "max_seq_len": 256},
        "train": {"precision_mode": "lora_bf16"},
        "eval": {"curated_prompts_path": "prompts.jsonl", "max_new_tokens": 8},
    }
    for name, values in sections.items():
        document[name] = {**document.get(name, {}), **values}
    return Config.model_validate(document)


def trained_run(root: Path, config: Config, *, rows: int = 40, steps: int = 25) -> tuple[StepContext, list[Event]]:
    """(context of the run, the events its steps emit from now on)."""
    write_jsonl(root / config.data.raw_path, conversations(rows))
    write_jsonl(root / "prompts.jsonl", [{"prompt": "What is the capital of France?"}, {"prompt": "Explain overfitting."}])
    workspace = Workspace(root)
    run = store.create(workspace, config, {})
    events: list[Event] = []
    ctx = StepContext(config, workspace, run, events.append)
    preprocess.run(ctx)
    data = processed.find_processed(config, workspace)
    assert data is not None
    base, device = require_base_model(config, workspace), cpu_device()
    device = replace(device, total_bytes=8 << 30, free_bytes=8 << 30)
    write_plan(run.plan, make_plan(config, read_shape(base), device, data.figures(config)))
    save_checkpoint(run.checkpoints / "step-000020", ctx)
    write_json(run.train_report, train_report(steps))
    log_steps(run, steps)
    events.clear()
    return ctx, events


def save_checkpoint(folder: Path, ctx: StepContext, *, scale: float = 3.0) -> None:
    import torch

    base = require_base_model(ctx.config, ctx.workspace)
    model = add_adapter(load_base(base, ctx.config.train.precision_mode, cpu_device()), ctx.config.train.lora, seed=1)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)


def train_report(steps: int) -> dict[str, Any]:
    return {
        "fingerprint": "0", "ended": "complete", "steps": steps, "best_step": 20, "best_loss": 1.0,
        "best_checkpoint": "checkpoints/step-000020", "seconds": 10.0, "tokens": 100 * steps, "peak_memory_bytes": 1,
        "step_seconds": [1.0] * steps,
    }  # fmt: skip


def log_steps(run: RunFolder, count: int, *, counted: int | None = None, seconds: float = 1.0) -> None:
    """Optimizer steps of different sizes at one steady speed; the first ones slow and not counted."""
    counted = count if counted is None else counted
    writer = EventWriter(run)
    for step in range(1, count + 1):
        counts = step > count - counted
        tokens = 100 + step
        took = seconds * tokens / 100 * (1 if counts else 40)
        writer.emit(TrainStep(step, count, step / count, 2.0, 1e-4, 1.0, tokens, tokens // 2, took, counts))
    writer.close()
