"""Models and micro-batches that fused and plain layers are both asked about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.torch_ops import Dropout, dropped
from pipeline.training.packed_rows import Document, PackedRow, collate

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def micro_batch(*lengths: Sequence[int], seed: int = 0) -> dict[str, Any]:
    """A collated micro-batch: a row for each list of document lengths, a third of each document not trained."""
    draw = np.random.default_rng(seed)
    rows: list[PackedRow] = []
    for row in lengths:
        documents = [draw.integers(3, 300, count) for count in row]
        rows.append([Document(ids, np.where(np.arange(len(ids)) < len(ids) // 3, -100, ids)) for ids in documents])
    return collate(rows)


@pytest.fixture
def adapted() -> Callable[..., Any]:
    """A `PeftModel` of a three-layer model with random weights and an adapter that does something."""

    def build(targets: Sequence[str] = ALL_LINEAR, family: str = "llama", rank: int = 4, **shape: Any) -> Any:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoConfig, AutoModelForCausalLM

        sizes = {
            "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "tie_word_embeddings": False,
        }  # fmt: skip
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes | shape), attn_implementation="eager")
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
        model.requires_grad_(False)
        model.config.use_cache = False
        peft_model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=8, lora_dropout=0.0, target_modules=list(targets)))
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        return peft_model

    return build


def fused(model: Any, **changed: Any) -> FusedModel:
    values: dict[str, Any] = {"recomputed_layers": 0, "keep_dequantized": False, "dropout": 0.0}
    return FusedModel(model, torch.float32, **values | changed)


def gradients(model: Any) -> torch.Tensor:
    """Of every trained weight, one after another."""
    return torch.cat([each.grad.detach().flatten() for each in model.parameters() if each.requires_grad])


class SameMask(torch.nn.Module):
    """What peft calls its dropout, with the mask that the fused layer of this place draws."""

    def __init__(self, dropout: Dropout) -> None:
        super().__init__()
        self._dropout = dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * dropped(torch.ones_like(x[0]), self._dropout)
