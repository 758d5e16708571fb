"""What a checkpoint holds: everything a resume needs for the same bits, in safetensors and JSON, nothing pickled.

adapter_model.safetensors, adapter_config.json   the adapter, as peft saves it
optimizer.safetensors, optimizer.json            tensors by parameter number and name; the rest and the parameter groups
scheduler.json, scaler.json                      the learning rate's place; the gradient scaler of float16
rng.safetensors, rng.json                        torch's generators; numpy's and Python's
trainer_state.json                               transformers' own: step, epoch
progress.json                                    ours: held-out losses, time, tokens
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pipeline.common.files import read_json, write_json
from pipeline.runs.folders import ADAPTER_WEIGHTS
from pipeline.training.checkpointing.progress import Progress
from pipeline.training.checkpointing.random_state import RandomState

_NOT_A_TENSOR = "values"


def write_adapter(model: Any, folder: Path) -> None:
    """Write the adapter of a `PeftModel` into `folder` as peft reads it, without asking the hub anything."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / ADAPTER_WEIGHTS, {"format": "pt"})
    config = model.peft_config[model.active_adapter]
    was, config.inference_mode = config.inference_mode, True  # as peft itself saves it: who loads it freezes it
    config.save_pretrained(str(folder))
    config.inference_mode = was
    _with_targets_in_order(folder / "adapter_config.json")


def _with_targets_in_order(path: Path) -> None:
    """peft writes a set: in another order in every process."""
    document = read_json(path)
    if not isinstance(document["target_modules"], str):  # a pattern, where names alone would meet other modules too
        document["target_modules"] = sorted(document["target_modules"])
        write_json(path, document)


def write_optimizer(optimizer: Any, folder: Path) -> None:
    """Write an optimizer's state: AdamW's moments as safetensors, the parameter groups as JSON.

    Args:
        optimizer: of torch, or accelerate's around one.
    """
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for number, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{number}.{name}"] = value.contiguous()
            else:
                values.setdefault(str(number), {})[name] = value
    save_file(tensors, folder / "optimizer.safetensors")
    write_json(folder / "optimizer.json", {_NOT_A_TENSOR: values, "param_groups": state["param_groups"]})


def read_optimizer(optimizer: Any, folder: Path) -> None:
    """Put what `write_optimizer` saved into an optimizer over the same parameters, in the same order."""
    document = read_json(folder / "optimizer.json")
    state: dict[int, dict[str, Any]] = {int(number): dict(entries) for number, entries in document[_NOT_A_TENSOR].items()}
    for key, tensor in load_file(folder / "optimizer.safetensors").items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    groups = [{name: _tuple(value) if name != "params" else value for name, value in g.items()} for g in document["param_groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _tuple(value: Any) -> Any:
    """JSON has no tuples, and AdamW's betas are one."""
    return tuple(value) if isinstance(value, list) else value


def write_scheduler(scheduler: Any, folder: Path) -> None:
    """Write where the learning rate is; the schedule itself follows from the plan."""
    write_json(folder / "scheduler.json", scheduler.state_dict())


def read_scheduler(scheduler: Any, folder: Path) -> None:
    """Put what `write_scheduler` saved into a scheduler of the same plan."""
    scheduler.load_state_dict(read_json(folder / "scheduler.json"))


def write_scaler(scaler: Any | None, folder: Path) -> None:
    """Write the scale of float16's gradient scaler; nothing where there is None."""
    if scaler is not None:
        write_json(folder / "scaler.json", scaler.state_dict())


def read_scaler(scaler: Any | None, folder: Path) -> None:
    """Put what `write_scaler` saved into a scaler; nothing where there is None."""
    if scaler is not None:
        scaler.load_state_dict(read_json(folder / "scaler.json"))


def write_random_state(folder: Path) -> None:
    """Write where this process's generators are now."""
    state = RandomState.capture()
    save_file(state.tensors(), folder / "rng.safetensors")
    write_json(folder / "rng.json", state.to_json())


def read_random_state(folder: Path) -> None:
    """The generators go on from where they were when the checkpoint was saved."""
    RandomState.of(load_file(folder / "rng.safetensors"), read_json(folder / "rng.json")).restore()


def write_progress(progress: Progress, folder: Path) -> None:
    """Write what the run knows about itself beyond weights."""
    write_json(folder / "progress.json", progress.to_json())


def read_progress(folder: Path) -> Progress:
    """What `write_progress` saved. A checkpoint of an older version lacks `limits`: nothing was learned then."""
    return Progress.from_json(read_json(folder / "progress.json"))
