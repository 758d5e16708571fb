"""LoRA adapters (Hu et al. 2021): put on a base model, and loaded again from the files that peft reads."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline.base_model import untrusted_files
from pipeline.base_model.architecture import LinearLayers, source_at
from pipeline.base_model.targets import names_of, require_targets
from pipeline.common.errors import BadInput, first_line
from pipeline.common.files import read_json
from pipeline.config.schema import LoraSection
from pipeline.modeling.inspect_architecture import architecture_of
from pipeline.modeling.inspect_linear_layers import pattern
from pipeline.runs.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS


def add_adapter(model: PreTrainedModel, lora: LoraSection, seed: int) -> Any:
    """A `peft.PeftModel` with a new LoRA adapter in 32 bits, the only weights that train.

    Args:
        model: loaded by `load_base`: every weight of it is frozen.
        seed: of A's random weights; B is zero. Same seed, same weights; torch's generator is seeded with it.

    Raises:
        BadInput: the model has no linear layer of a name in `train.lora.target_modules`, or none that can have an adapter.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    facts = architecture_of(source_at(Path(model.name_or_path)), model.name_or_path)
    require_targets(facts, lora)
    layers = facts.targeted(names_of(lora, facts))
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        target_modules=peft_targets(model, {path for path, _ in _linear_layers(model) if pattern(path) in _paths(layers)}),
        fan_in_fan_out=any(layer.transposed for layer in layers),
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=model.name_or_path,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")  # a quantized layer is held the usual way round
        adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # DoRA's sizes come in the type of the weights
    return adapted


def _paths(layers: Iterable[LinearLayers]) -> set[str]:
    return {layer.path for layer in layers}


def _linear_layers(model: Any) -> Iterator[tuple[str, nn.Module]]:
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            yield path, module


def peft_targets(model: Any, paths: Collection[str]) -> list[str] | str:
    """What peft is given so that it meets these modules and no other: names where they say it, else a pattern of whole paths.

    Args:
        paths: of modules of the model.
    """
    names = sorted({path.rpartition(".")[2] for path in paths})
    if {path for path, _ in model.named_modules() if path.rpartition(".")[2] in names} == set(paths):
        return names
    patterns = sorted({pattern(path) for path in paths})
    return "|".join(re.escape(each).replace(re.escape("*"), r"\d+") for each in patterns)


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
        config = _adapter_config(model, folder.resolve(strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its weights are read below
            adapted = get_peft_model(model, config)
        read_adapter(adapted, folder)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "an adapter belongs to the base model it was trained on"
        raise BadInput(f"{folder}: no adapter for this model: {first_line(error)}", hint) from error
    return adapted.eval()


# What may differ from one of our adapters to the next.
_OUR_SETTINGS = {"r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "fan_in_fan_out"}
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


def _adapter_config(model: Any, folder: Path) -> Any:
    """The `LoraConfig` of an adapter of our kind. A config can ask for more: modules to import, layers a million times over.

    Which modules it is for, its weights say; what the config says of them has to come to the same.

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
    names = {"r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout"}
    lora = LoraSection(
        **{our: document[theirs] for theirs, our in names.items()},
        rslora=document.get("use_rslora") or False,
        dora=document.get("use_dora") or False,
    )
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        target_modules=_targets_of(model, document, folder),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type=TaskType.CAUSAL_LM,
        inference_mode=True,
    )


def _targets_of(model: Any, document: dict[str, Any], folder: Path) -> list[str] | str:
    header, _ = untrusted_files.safetensors_header(folder / ADAPTER_WEIGHTS)
    begin, end = "base_model.model.", ".lora_A.weight"
    paths = {name[len(begin) : -len(end)] for name in header if name.startswith(begin) and name.endswith(end)}
    missing = paths - {path for path, _ in _linear_layers(model)}
    if missing or not paths:
        raise ValueError(
            f"the model has no linear layer {sorted(missing)[0][:100]!r}" if missing else "it has no weights of LoRA"
        )
    targets, named = peft_targets(model, paths), document["target_modules"]
    if targets != (sorted(named) if isinstance(named, list) and all(isinstance(each, str) for each in named) else named):
        raise ValueError("adapter_config.json names other modules than there are weights for")
    return targets


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
