"""Rotary frequencies of each document's own length, for every rope type of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import BaseModel
from pipeline.system.gpu import Device
from tests import families

LIMIT = 64  # tokens the model was made for: what is longer is scaled
_SHARED: dict[str, Any] = {"rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": LIMIT}
_MORE: dict[str, dict[str, Any]] = {
    "longrope": {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8},
    "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"partial_rotary_factor": 0.5},
}


def rope_types() -> list[str]:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    return ["default", *ROPE_INIT_FUNCTIONS]


def model_with(rope_type: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from pipeline.modeling.rotary import rotate_by_own_length

    rope = {"rope_type": rope_type} | _SHARED | _MORE.get(rope_type, {})
    # Dynamic scaling begins at the longest position that the config names, the others at the original one.
    most = LIMIT if rope_type == "dynamic" else 4 * LIMIT
    sizes = {"vocab_size": 640, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model("llama", **sizes, num_hidden_layers=2, max_position_embeddings=most, rope_parameters=rope)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=0.1)
    rotate_by_own_length(model)
    return model


@pytest.mark.parametrize("rope_type", rope_types())
def test_a_document_is_rotated_by_its_own_length_whatever_lies_beside_or_came_before(rope_type: str) -> None:
    import torch

    torch.manual_seed(5)
    documents = [torch.randint(3, 600, (1, length)) for length in (30, 100, 50, LIMIT, 140, 7)]
    with torch.no_grad():
        # A model for each: dynamic scaling remembers the longest text that it has seen.
        alone = [model_with(rope_type)(input_ids=each, use_cache=False).logits for each in documents]
        positions = torch.cat([torch.arange(each.shape[1]) for each in documents])[None]
        model = model_with(rope_type)
        packed = model(input_ids=torch.cat(documents, 1), position_ids=positions, use_cache=False).logits
        after = [model(input_ids=each, use_cache=False).logits for each in documents]
    torch.testing.assert_close(packed, torch.cat(alone, 1), rtol=0, atol=2e-5)
    torch.testing.assert_close(torch.cat(after, 1), torch.cat(alone, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("rope_type", rope_types())
def test_an_answer_does_not_follow_from_the_prompts_decoded_beside_it(rope_type: str) -> None:
    """The prompts end before, at and behind the limit while they are answered."""
    import torch

    from pipeline.modeling.decoding import decoder

    torch.manual_seed(6)
    prompts = [torch.randint(3, 600, (length,)) for length in (20, LIMIT - 2, 100)]

    def logits(chosen: list[torch.Tensor]) -> torch.Tensor:
        width = max(map(len, chosen))
        ids = torch.stack([torch.nn.functional.pad(each, (width - len(each), 0)) for each in chosen])
        mask = torch.stack([(torch.arange(width) >= width - len(each)).long() for each in chosen])
        with torch.no_grad():
            asked = decoder(model_with(rope_type), ids, mask, 4)
            steps = [asked.first(), *(asked.after(torch.full((len(chosen),), 9 + step)) for step in range(4))]
        return torch.stack([each.clone() for each in steps], 1)  # (prompts, steps, vocabulary)

    together = logits(prompts)
    for number, prompt in enumerate(prompts):
        torch.testing.assert_close(together[number], logits([prompt])[0], rtol=0, atol=2e-5)


def test_a_loaded_model_rotates_so(tmp_path: Path) -> None:
    import torch

    from pipeline.modeling.load import load_base

    folder = families.save("phi3-longrope", tmp_path / "model", std=0.1, num_hidden_layers=2)
    model = load_base(BaseModel(folder, "folder", "tiny"), "lora_bf16", Device("cpu", "CPU"), compute_dtype="float32")
    torch.manual_seed(5)
    short, long = (torch.randint(3, 600, (1, length)) for length in (30, 100))
    positions = torch.cat([torch.arange(30), torch.arange(100)])[None]
    with torch.no_grad():
        alone = model(input_ids=short, use_cache=False).logits
        beside = model(input_ids=torch.cat([short, long], 1), position_ids=positions, use_cache=False).logits[:, :30]
    torch.testing.assert_close(beside, alone, rtol=0, atol=1e-4)
