"""Tokens a second of generation beside transformers' plain `generate`: `python -m tests.benchmarks.inference [--out FOLDER] …`.

A model of TinyLlama-1.1B's shape with random weights and a LoRA adapter on q k v o, in NF4 and in bf16, prompts of 30 to 200
tokens, every answer as long as it is allowed to be. What is compared: `generate` on one prompt at a time, our stream on one
prompt (chat, `infer`), our batch (curated prompts, samples, several prompts). Also the time to the first tokens of a stream,
which the recording of a step shall not hold up. On the CPU a small shape stands in. Not covered: what is said.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline import infer
from pipeline.base_model.load import load_base
from pipeline.base_model.locate import at
from pipeline.base_model.tokenizer import ChatTokenizer
from pipeline.gpu import choose_device
from tests import tiny
from tests.benchmarks.measure import write_result

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


class NeverStops:
    """A tokenizer whose model is never done: every answer has the same number of tokens."""

    stop_ids: frozenset[int] = frozenset()

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def main() -> None:
    parser = argparse.ArgumentParser(description="tokens a second of generation")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    given = parser.parse_args()
    device = choose_device("auto")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="inference-") as folder:
        model_folder = tiny.save_model(Path(folder) / "model", **SHAPES[device.kind])
        for mode in MODES[device.kind]:
            rows += _measured(model_folder, mode, device, given.new_tokens)
    _print(device.name, rows)
    print(f"written to {write_result('inference', {'device': device.name, 'prompts': PROMPTS, 'rows': rows}, given.out)}")


def _measured(folder: Path, mode: Any, device: Any, new_tokens: int) -> list[dict[str, Any]]:
    import torch

    model, tokenizer = _adapted(load_base(at(folder), mode, device)), ChatTokenizer.from_folder(folder)
    never: Any = NeverStops(tokenizer)
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
    plain = rates["generate, one prompt at a time"]
    first = _first_token_seconds(model, never, prompts[0], new_tokens)
    rows = [
        {"mode": mode, "way": way, "tokens_per_s": round(rate, 1), "ratio": round(rate / plain, 2)} for way, rate in rates.items()
    ]
    rows[1]["first_tokens_s"] = [round(seconds, 3) for seconds in first]
    return rows


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
    return {name: statistics.median(each) for name, each in found.items()}


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


def _print(device: str, rows: list[dict[str, Any]]) -> None:
    print(f"{device}\n\n| mode | way | tokens/s | ratio |\n| --- | --- | ---: | ---: |")
    for row in rows:
        print(f"| {row['mode']} | {row['way']} | {row['tokens_per_s']:,.0f} | {row['ratio']:.2f} |")
    for row in rows:
        if "first_tokens_s" in row:
            print(f"{row['mode']}: tokens 1 to 3 of a stream after {row['first_tokens_s']} s")


if __name__ == "__main__":
    main()
