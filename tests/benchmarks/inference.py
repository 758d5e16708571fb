"""Tokens a second of generation beside transformers' plain `generate`.

A model of TinyLlama-1.1B's shape with random weights and a LoRA adapter on q k v o, in NF4 and in bf16, prompts of 30 to 200
tokens, every answer as long as it is allowed to be. What is compared: `generate` on one prompt at a time, our stream on one
prompt (chat, `infer`), our batch (curated prompts, samples, several prompts). Also the time to the first tokens of a stream,
which the recording of a step shall not hold up. On the CPU a small shape stands in. Not covered: what is said.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.base_model.locate import base_model_at
from pipeline.modeling import generate as infer
from pipeline.modeling.load import load_base
from pipeline.system.gpu import choose_device
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests import tiny
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, median

SHAPES: dict[str, dict[str, int]] = {
    "cuda": {
        "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "cpu": {
        "vocab_size": 8_000, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6, "num_attention_heads": 8,
        "num_key_value_heads": 2,
    },
}  # fmt: skip
MODES = {"cuda": ("qlora_nf4", "lora_bf16"), "cpu": ("lora_bf16",)}
PROMPTS = 16
NEW_TOKENS = {"cuda": 96, "cpu": 16}
MOST_OF_PLAIN = 1 / 3  # of the time that `generate` takes for a token


class NeverStops:
    """A tokenizer whose model is never done: every answer has the same number of tokens."""

    stop_ids: frozenset[int] = frozenset()

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def measure() -> list[Figure]:
    device = choose_device("auto")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="inference-") as folder:
        model_folder = tiny.save_model(Path(folder) / "model", **SHAPES[device.kind])
        for mode in MODES[device.kind]:
            figures += _measured(model_folder, mode, device)
    return figures


def _measured(folder: Path, mode: Any, device: Any) -> list[Figure]:
    import torch

    model, tokenizer = _adapted(load_base(base_model_at(folder), mode, device)), ChatTokenizer.from_folder(folder)
    never: Any = NeverStops(tokenizer)
    new_tokens = NEW_TOKENS[device.kind]
    draw = random.Random(1)
    prompts = [[draw.randrange(3, 600) for _ in range(draw.randint(30, 200))] for _ in range(PROMPTS)]

    def generate() -> int:
        for prompt in prompts[:2]:
            ids = torch.tensor([prompt], device=next(model.parameters()).device)
            mask = torch.ones_like(ids)
            model.generate(
                input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens, min_new_tokens=new_tokens,
                pad_token_id=2, use_cache=True,
            )  # fmt: skip
        return 2 * new_tokens

    def stream() -> int:
        for prompt in prompts[:2]:
            list(infer.stream(model, never, prompt, new_tokens))
        return 2 * new_tokens

    def batch() -> int:
        infer.generate_batch(model, never, prompts, new_tokens)
        return len(prompts) * new_tokens

    rates = _rates({"generate, one prompt at a time": generate, "stream, one prompt": stream, f"batch of {PROMPTS}": batch})
    plain, streamed, batched = rates.values()
    name = f"{device.name}, {mode}"
    first = _first_token_seconds(model, never, prompts[0], new_tokens)
    least = MOST_OF_PLAIN if device.kind == "cuda" else None
    return [
        *(Figure(f"{name}: {way}", rate, "tokens/s") for way, rate in rates.items()),
        Figure(f"{name}: time of a batch's token / plain generate's", plain / batched, "×", least),
        Figure(f"{name}: time of a streamed token / plain generate's", plain / streamed, "×"),
        *(Figure(f"{name}: token {number} of a stream after", at, "s") for number, at in enumerate(first, start=1)),
    ]


def _adapted(model: Any) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    return adapted.eval()


def _rates(ways: dict[str, Callable[[], int]], rounds: int = 3) -> dict[str, float]:
    """The median of three rounds, in turn, after one that is not counted."""
    for work in ways.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            began = time.perf_counter()
            tokens = work()
            found[name].append(tokens / (time.perf_counter() - began))
    return {name: median(each) for name, each in found.items()}


def _first_token_seconds(model: Any, tokenizer: Any, prompt: Sequence[int], new_tokens: int) -> list[float]:
    """After how long the first three tokens of a stream are there."""
    times: list[float] = []
    began = time.perf_counter()

    class Enough(Exception):
        """Three tokens have come."""

    def on_token() -> None:
        times.append(time.perf_counter() - began)
        if len(times) == 3:
            raise Enough

    with contextlib.suppress(Enough):
        list(infer.stream(model, tokenizer, prompt, new_tokens, on_token=on_token))
    return times


if __name__ == "__main__":
    sys.exit(0 if harness.run("inference", measure) else 3)
