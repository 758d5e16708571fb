"""LoRA adapters (Hu et al. 2021): put on a base model, and loaded again from the files that peft reads."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from pipeline.base_model import untrusted_files
from pipeline.common.errors import BadInput, first_line
from pipeline.common.files import read_json
from pipeline.config.schema import LoraSection
from pipeline.runs.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS


def add_adapter(model: PreTrainedModel, lora: LoraSection, seed: int) -> Any:
    """A `peft.PeftModel` with a new LoRA adapter in 32 bits, the only weights that train.

    Args:
        model: loaded by `load_base`: every weight of it is frozen.
        seed: of A's random weights; B is zero. Same seed, same weights; torch's generator is seeded with it.

    Raises:
        BadInput: the model has no linear layer of a name in `train.lora.target_modules`.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    _check_targets(model, lora)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=model.name_or_path,
    )
    return get_peft_model(model, config)


def _check_targets(model: PreTrainedModel, lora: LoraSection) -> None:
    names = sorted(set(linear_layer_names(model)))
    unknown = [name for name in lora.target_modules if name not in names]
    if unknown:
        named = ", ".join(map(repr, unknown))
        raise BadInput(
            f"train.lora.target_modules: this model has no linear layer {named}; it has {', '.join(names)}",
            f"humigence config set train.lora.target_modules '{_as_list(names)}'",
        )


def _as_list(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def linear_layer_names(model: PreTrainedModel) -> Iterator[str]:
    """The last part of the name of each linear layer but the head, as `train.lora.target_modules` takes it."""
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head:
            yield name.rpartition(".")[2]


def load_adapter(model: PreTrainedModel, folder: Path) -> Any:
    """A `peft.PeftModel` of `model` with the frozen adapter in `folder`, in evaluation mode.

    Args:
        model: the base model the adapter was trained on. peft changes it in place.
        folder: with `adapter_config.json` and `adapter_model.safetensors`; nothing in it is trusted.

    Raises:
        BadInput: there is none, or it was made for another model.
    """
    from peft import get_peft_model

    try:
        config = _adapter_config(folder.resolve(strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its weights are read below
            adapted = get_peft_model(model, config)
        read_adapter(adapted, folder)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "an adapter belongs to the base model it was trained on"
        raise BadInput(f"{folder}: no adapter for this model: {first_line(error)}", hint) from error
    return adapted.eval()


# What may differ from one of our adapters to the next.
_OUR_SETTINGS = {"r", "lora_alpha", "lora_dropout", "target_modules"}
# What says nothing of an adapter's weights.
_SAYS_NOTHING = {
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
    "auto_mapping",
}


def _adapter_config(folder: Path) -> Any:
    """The `LoraConfig` of an adapter of our kind. A config can ask for more: modules to import, layers a million times over.

    Raises `ValueError`, `KeyError` or `OSError`.
    """
    from peft import LoraConfig, TaskType

    if problems := untrusted_files.file_problems(folder):
        raise ValueError(problems[0])
    document = read_json(folder / ADAPTER_CONFIG)
    if not isinstance(document, dict) or document.get("peft_type") != "LORA":
        raise ValueError("adapter_config.json describes no LoRA adapter")
    usual = json.loads(json.dumps(LoraConfig(task_type=TaskType.CAUSAL_LM).to_dict(), default=str))
    ours = _OUR_SETTINGS | _SAYS_NOTHING
    unknown = [name for name, value in document.items() if name not in ours and _asks(name, value, usual)]
    if unknown:
        raise ValueError(
            f"adapter_config.json asks for {', '.join(sorted(unknown))[:200]}, which only plain LoRA adapters go without"
        )
    names = {"r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout", "target_modules": "target_modules"}
    lora = LoraSection(**{our: document[theirs] for theirs, our in names.items()})
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type=TaskType.CAUSAL_LM,
        inference_mode=True,
    )


def _asks(name: str, value: Any, usual: dict[str, Any]) -> bool:
    """Whether a setting is more than its default; a number that this peft doesn't know belongs to something that is off."""
    if name not in usual and isinstance(value, (int, float)) and value is not True:
        return False
    return value not in (usual.get(name), None, False) and value not in ([], {})


def read_adapter(adapted: Any, folder: Path) -> None:
    """Put the weights in `folder` into a model with an adapter of the same shape.

    Args:
        adapted: a `PeftModel`; its adapter keeps its dtype and device.

    Raises:
        ValueError: a weight is missing, left over or of another shape.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    path = folder / ADAPTER_WEIGHTS
    if problem := untrusted_files.leads_out(path, folder) or untrusted_files.weights_problem(path):
        raise ValueError(problem)
    weights = load_file(path)
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if {name: tensor.shape for name, tensor in weights.items()} != {name: tensor.shape for name, tensor in wanted.items()}:
        raise ValueError(f"{ADAPTER_WEIGHTS} does not fit: it holds {len(weights)} weights, the model's adapter {len(wanted)}")
    set_peft_model_state_dict(adapted, weights)
