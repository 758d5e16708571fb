"""The linear layers of a model as facts: which there are, which are quantized, which can have an adapter, and why not."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.quantizers_utils import should_convert_module

from pipeline.base_model.architecture import UNCALLED, Experts, LinearLayers

HEAD, TOWER = "the output head", "beside the language model"


def linear_layers(
    model: Any, modules: dict[str, nn.Module], called: set[str] | None, towers: Iterable[str], experts: list[Experts]
) -> tuple[LinearLayers, ...]:
    head = model.get_output_embeddings()
    skipped = _never_quantized(model, next(path for path, module in modules.items() if module is head))
    moved = _moved_to_experts(model, modules, head) if experts else frozenset()
    alike: dict[LinearLayers, int] = {}
    for path, module in modules.items():
        if not isinstance(module, (nn.Linear, Conv1D)):
            continue
        inputs, outputs = linear_size(module)
        if module is head:
            why = HEAD
        elif is_below(path, towers):
            why = TOWER
        else:
            why = _why_not(path, modules, called, experts, outputs)
            if not why and path.rpartition(".")[2] in moved:
                why = "peft puts an adapter of this name on the experts"
        each = LinearLayers(
            pattern(path),
            inputs,
            outputs,
            count=1,
            # By the rule of transformers' replace_with_bnb_linear: a class derived from Linear stays as it is.
            quantized=type(module) in (nn.Linear, Conv1D) and should_convert_module(path, skipped),
            transposed=isinstance(module, Conv1D),
            unusable=why,
        )
        alike[each] = alike.get(each, 0) + 1
    return tuple(LinearLayers(**{**vars(each), "count": count}) for each, count in alike.items())


def linear_size(module: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer; a `Conv1D` holds them the other way round."""
    weight: Any = module.weight
    outputs, inputs = weight.shape
    return (outputs, inputs) if isinstance(module, Conv1D) else (inputs, outputs)


def _never_quantized(model: Any, head: str) -> list[str]:
    """Parts of paths, as transformers' `get_keys_to_not_convert` chooses them: the head, whatever is tied, the last weight.

    That function is asked before weights are tied and would answer otherwise here: then the head still has a weight of its own.
    """
    tied = model.all_tied_weights_keys
    last = [name for name, _ in model.named_parameters(remove_duplicate=False)][-1]
    wide = [*(model._keep_in_fp32_modules or []), *(getattr(model, "_keep_in_fp32_modules_strict", None) or [])]
    return [head, *wide, *(name.removesuffix(".weight") for name in (*tied.keys(), *tied.values(), last))]


def _why_not(path: str, modules: dict[str, nn.Module], called: set[str] | None, experts: list[Experts], outputs: int) -> str:
    """Why a linear layer of the language model gets no adapter, or ""."""
    if called is not None and path not in called:
        return UNCALLED
    above, _, attribute = path.rpartition(".")
    holder: Any = type(modules[above])
    if re.search(rf"self\.{attribute}\.weight\b(?![.\[])", _code_of(holder)):
        return "not always called: its weight is used without it"
    if pattern(path).count("*") > 1:
        return "an expert"
    if _is_router(path, modules, experts, outputs):
        return "a router"
    return ""


def _is_router(path: str, modules: dict[str, nn.Module], experts: list[Experts], outputs: int) -> bool:
    """Whether it chooses among the experts (a number for each), or weighs the one that all share (one number)."""
    above = path.rpartition(".")[0]
    around = [above, above.rpartition(".")[0]]
    is_named = re.search("rout|gat", type(modules[above]).__name__, re.IGNORECASE) is not None
    for each in experts:
        holder = each.path.rpartition(".")[0]  # what holds the experts: the router is in it, or beside it in a part of its own
        near = [place for place in around if pattern(place) == holder]
        is_layer = holder.endswith("*")
        if near and outputs in (1, each.experts) and (not is_layer or is_named):
            return True
    return False


def _moved_to_experts(model: Any, modules: dict[str, nn.Module], head: nn.Module) -> frozenset[str]:
    """Names that peft takes for an older model's, whose experts were linear layers called like this."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    moved = set()
    for name in {path.rpartition(".")[2] for path, each in modules.items() if isinstance(each, nn.Linear) and each is not head}:
        config = LoraConfig(target_modules=[name])
        try:
            convert_peft_config_for_transformers(config, model, None)
        except ValueError:  # one of two that are fused
            moved.add(name)
        if config.target_parameters:
            moved.add(name)
    return frozenset(moved)


@cache
def _code_of(cls: Any) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return ""


def pattern(path: str) -> str:
    """A path with `*` for each number."""
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def is_below(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(top + ".") for top in tops)
