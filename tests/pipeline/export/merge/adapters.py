"""Small adapters and bases of any family, on disk as training and the hub leave them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

_SIZES = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def save_base(folder: Path, family: str, dtype: Any, *, shard: str = "50GB", **shape: Any) -> Path:
    """A three-layer model of random weights in a Hugging Face folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **_SIZES | shape), attn_implementation="eager")
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def save_adapter(folder: Path, base: Path, targets: Sequence[str], **settings: Any) -> Any:
    """An adapter that does something, saved as training saves it; returns the `PeftModel` in 32 bits."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM

    from pipeline.training.checkpointing.contents import write_adapter

    folder.mkdir(parents=True)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), task_type=TaskType.CAUSAL_LM, **settings)
    adapted = get_peft_model(plain, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    write_adapter(adapted, folder)
    return adapted.eval()


def write_lora(
    folder: Path, layers: dict[str, tuple[int, int]], *, rank: int = 2, value: float | None = None, **settings: Any
) -> Path:
    """An adapter for layers of (outputs, inputs), written without torch; random, or of one value."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    tensors = {}
    for layer, (outputs, inputs) in layers.items():
        for part, size in (("A", (rank, inputs)), ("B", (outputs, rank))):
            numbers = draw.standard_normal(size) if value is None else np.full(size, value)
            tensors[f"base_model.model.{layer}.lora_{part}.weight"] = numbers.astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    document = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "bias": "none", "use_dora": False} | settings
    (folder / "adapter_config.json").write_text(json.dumps(document))
    return folder
