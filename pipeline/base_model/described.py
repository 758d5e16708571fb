"""What a plan knows of decoder layers that are described by their parts, and what the description has no words for. No torch.

Who asks a model's modules is `modeling.decoder_parts`; here are its answers and its sentences, so that what is said before there
are weights is what training says.
"""

from __future__ import annotations

from dataclasses import dataclass

ACTIVATIONS = ("silu", "swish", "gelu_pytorch_tanh", "gelu_new", "gelu_fast")
"""Of the MLP's gate, by transformers' names: silu, and gelu by tanh."""


@dataclass(frozen=True)
class Described:
    """A model's decoder layers, as far as memory depends on their parts.

    Attributes:
        problem: why they can't be described, for a person to read; empty where they can.
        norms_before, norms_behind: a layer's norms of what its two blocks read, and of what they give.
        head_norms: queries and keys are normed.
    """

    problem: str = ""
    norms_before: int = 2
    norms_behind: int = 0
    head_norms: bool = False


def not_written_for(model_type: str) -> str:
    return f"the fused ones are not written for {model_type} models"


def not_asked(model_type: str) -> str:
    """Of a family that no row tells of, before its class was asked."""
    return f"whether the fused ones have the parts of {model_type} models is not known before humigence validate asks their class"


def other_activation(name: str) -> str:
    return f"the fused ones compute silu and gelu by tanh, not the model's {name}"


def dropout_in_attention(share: float) -> str:
    return f"the fused ones have no dropout in attention, the model has {share:g}"
