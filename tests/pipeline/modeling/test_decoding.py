"""Whichever cache a model answers with, it answers the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.modeling import decoding, generate
from pipeline.modeling.decoding import FixedDecoder, GrowingDecoder
from pipeline.tokenization.chat_tokenizer import ChatTokenizer

PROMPTS = ["Hi", "What is the capital of France?", "Tell me about overfitting, " * 8, "Water boils"]
TOKENS = 24


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return ChatTokenizer.from_folder(tiny_model)


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> Any:
    """With an adapter that changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=request.param)
    for parameter in model.parameters():
        parameter.data *= 6 if parameter.ndim == 2 else 1  # logits far from ties
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    return adapted.eval()


@pytest.fixture
def ids(tokenizer: ChatTokenizer) -> list[list[int]]:
    return [generate.user_prompt(tokenizer, prompt) for prompt in PROMPTS]


def fixed(model: Any, ids: Any, mask: Any, new_tokens: int) -> FixedDecoder:
    return FixedDecoder(model, ids, mask, new_tokens)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_cache_of_fixed_size_gives_the_same_answers(
    model: Any, tokenizer: ChatTokenizer, ids: list[list[int]], temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = [generate.generate_batch(model, tokenizer, [prompt], TOKENS, temperature)[0] for prompt in ids]
    with model.disable_adapter():
        base = generate.generate_batch(model, tokenizer, ids, TOKENS, temperature)
    assert base != growing
    monkeypatch.setattr(generate, "decoder", fixed)
    assert generate.generate_batch(model, tokenizer, ids, TOKENS, temperature) == growing
    assert ["".join(generate.stream(model, tokenizer, prompt, TOKENS, temperature)) for prompt in ids] == growing
    with model.disable_adapter():
        assert generate.generate_batch(model, tokenizer, ids, TOKENS, temperature) == base


def test_logits_are_equal_at_every_step(model: Any, tokenizer: ChatTokenizer, ids: list[list[int]]) -> None:
    import torch

    padded = generate._left_padded(ids, tokenizer.pad_id, torch.device("cpu"))
    one, other = GrowingDecoder(model, *padded), FixedDecoder(model, *padded, 8)
    torch.testing.assert_close(one.first(), other.first(), atol=1e-5, rtol=1e-5)
    for step in range(8):
        chosen = torch.tensor([step, 7, 30, 2])
        torch.testing.assert_close(one.after(chosen), other.after(chosen), atol=1e-5, rtol=1e-5)


def test_models_that_see_a_part_of_the_text_only_keep_the_cache_they_were_written_for(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert decoding.takes_fixed_cache(model)
    model.config._attn_implementation = "flash_attention_2"
    assert not decoding.takes_fixed_cache(model), "it takes no mask as it is given"
    sizes = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }  # fmt: skip
    assert decoding.takes_fixed_cache(MistralForCausalLM(MistralConfig(**sizes, sliding_window=None)))
    assert not decoding.takes_fixed_cache(MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)))


def test_frequencies_that_depend_on_the_length_are_not_recorded(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert decoding._recordable(model)
    model.config.rope_parameters = {**model.config.rope_parameters, "rope_type": "dynamic"}
    assert not decoding._recordable(model)


def test_layers_compiled_for_training_are_not_compiled_again(tokenizer: ChatTokenizer, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    compiled = []

    def backend(graph: Any, _inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    for layer in model.model.layers:
        layer.compile(backend=backend)
    model(torch.tensor([[1, 2, 3]]))
    before = len(compiled)
    assert before, "the layers are compiled at all"
    answers = generate.generate_batch(model, tokenizer, [generate.user_prompt(tokenizer, "Hi")], 4)
    assert len(compiled) == before
    plain = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    assert answers == generate.generate_batch(plain, tokenizer, [generate.user_prompt(tokenizer, "Hi")], 4)


class Replayed:
    """What a CUDA graph does, on the CPU: the same step on the same memory, its result always in the same place."""

    def __init__(self, step: Callable[[], Any]) -> None:
        self._step, self.replays = step, 0
        self.out: Any = None

    def replay(self) -> None:
        self.replays += 1
        self.out.copy_(self._step())


@pytest.mark.parametrize("recordable", [True, False])
def test_a_replayed_step_gives_the_same_answers_and_one_that_cannot_be_recorded_too(
    model: Any, tokenizer: ChatTokenizer, ids: list[list[int]], recordable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    graphs: list[Replayed] = []

    def recording(step: Callable[[], Any], _stream: Any) -> tuple[Replayed, Any]:
        if not recordable:
            raise RuntimeError("operation not permitted when stream is capturing")
        graphs.append(Replayed(step))
        graphs[-1].out = torch.full((len(ids), model.config.vocab_size), float("nan"))
        return graphs[-1], graphs[-1].out

    expected = generate.generate_batch(model, tokenizer, ids, TOKENS)
    monkeypatch.setattr(decoding, "_side_stream", nullcontext)
    monkeypatch.setattr(decoding, "_recording", recording)
    monkeypatch.setattr(generate, "decoder", partial(FixedDecoder, record=True))
    assert generate.generate_batch(model, tokenizer, ids, TOKENS) == expected
    assert [graph.replays > 3 for graph in graphs] == ([True] if recordable else [])


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 4])
def test_a_recorded_step_gives_the_same_logits(
    tiny_model: Path, tokenizer: ChatTokenizer, ids: list[list[int]], rows: int
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = AutoModelForCausalLM.from_pretrained(tiny_model).cuda().eval()
    padded = generate._left_padded(ids[:rows], tokenizer.pad_id, torch.device("cuda"))
    one, other = FixedDecoder(model, *padded, 8), FixedDecoder(model, *padded, 8, record=True)
    torch.testing.assert_close(one.first(), other.first())
    for step in range(8):
        chosen = torch.tensor([step, 7, 30, 2], device="cuda")[:rows]
        torch.testing.assert_close(one.after(chosen), other.after(chosen), atol=1e-4, rtol=1e-4)
