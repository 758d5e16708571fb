"""Which linear layers get an adapter: `train.lora.target_modules` as the names of a model."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.base_model.architecture import UNCALLED, Architecture
from pipeline.base_model.families import FAMILIES
from pipeline.base_model.shape import ModelShape, linear_layers
from pipeline.common.errors import BadInput
from pipeline.config.schema import ALL_LINEAR, LoraSection


def target_names(lora: LoraSection, shape: ModelShape) -> tuple[str, ...]:
    """The names, each once; those that the setting gives, or of `all-linear` every one that can have an adapter.

    What was asked of the model's class answers that; before it was asked, its family's usual names.
    """
    if shape.architecture:
        return names_of(lora, shape.architecture)
    return tuple(linear_layers(shape)) if lora.target_modules == ALL_LINEAR else tuple(lora.target_modules)


def names_of(lora: LoraSection, facts: Architecture) -> tuple[str, ...]:
    """`target_names` of a model whose class was asked."""
    return facts.target_names if lora.target_modules == ALL_LINEAR else tuple(lora.target_modules)


def require_targets(facts: Architecture, lora: LoraSection) -> None:
    """Refuse names under which no adapter can be put, with the reason and those under which one can."""
    if not facts.targets:
        raise BadInput(f"train.lora: no layer of {facts.class_name} can have an adapter", "choose another base model")
    if apart := next((layer.name for layer in facts.linears if layer.unusable == UNCALLED), None):
        message = f"{facts.class_name} uses the weight of {apart} outside of its layer, which no precision mode allows for"
        raise BadInput(message, "choose another base model")
    _require_names(lora, facts.target_names, {layer.name: layer.unusable for layer in facts.linears})


def require_known_targets(lora: LoraSection, shape: ModelShape) -> None:
    """The same as far as it is known: of a model whose class was not asked yet by the names of its family, where we know that."""
    if shape.architecture:
        require_targets(shape.architecture, lora)
    elif shape.model_type in FAMILIES:
        _require_names(lora, tuple(linear_layers(shape)), {})


def _require_names(lora: LoraSection, there: tuple[str, ...], unusable: Mapping[str, str]) -> None:
    if lora.target_modules == ALL_LINEAR:
        return
    for name in lora.target_modules:
        if name not in there:
            reason = (
                f"no adapter can go on {name!r} ({unusable[name]})" if name in unusable else f"there is no linear layer {name!r}"
            )
            raise BadInput(
                f"train.lora.target_modules: {reason}; the model has {', '.join(sorted(there))}",
                f"humigence config set train.lora.target_modules {ALL_LINEAR}",
            )
