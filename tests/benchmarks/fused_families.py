"""Speed and memory of the fused layers in the shapes that people train, family by family, beside what the plan predicted.

    make bench WHAT=fused-families
    python -m tests.benchmarks.fused_families [NAME …] [--steps N] [--json FILE]

Each variant is one plan of `pipeline.planning` on random weights of a real shape in NF4, made on the GPU one after another in
this process: optimizer steps of 16,384 tokens, conversations of log-normal length packed into rows, real tokens only. The rate is
that of the train step alone, without reading rows, evaluations or saves (`tests.benchmarks.train_step` measures whole runs).
Without a GPU one small model, to see that it works.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base_model.shape import ModelShape, from_config
from pipeline.base_model.targets import target_names
from pipeline.config.schema import Config
from pipeline.dataset.figures import DataFigures
from pipeline.dataset.packing import pack
from pipeline.planning.plan import Plan, make_plan
from pipeline.system.gpu import GIB, Device, choose_device, see_only
from tests.benchmarks.family_memory import FAMILIES
from tests.benchmarks.harness import Figure, write_result

WARM_UP, STEPS = 5, 12  # optimizer steps; a step is recorded as a graph in the first ones
CONVERSATIONS = 1500
MATMUL_FLOP = 780e12  # a second, that large products in 16 bits reach on an H100 and an H200

_TIED = {"tie_word_embeddings": True}
_GRANITE = {
    "embedding_multiplier": 12.0, "attention_multiplier": 0.015625, "residual_multiplier": 0.22, "logits_scaling": 8.0,
}  # fmt: skip


def _sizes(model_type: str, hidden: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int, **more: Any) -> Any:
    return {
        "model_type": model_type, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocabulary, **more,
    }  # fmt: skip


SHAPES: dict[str, dict[str, Any]] = {
    name: FAMILIES[name] for name in ("TinyLlama-1.1B", "Qwen3-1.7B", "OLMo-2-1B", "Gemma-3-1B", "Llama-3.2-1B")
} | {
    "SmolLM3-3B": _sizes("smollm3", 2048, 11_008, 36, 16, 4, 128_256, **_TIED),
    "Phi-4-mini": _sizes("phi3", 3072, 8192, 32, 24, 8, 200_064, sliding_window=None, partial_rotary_factor=0.75, **_TIED),
    "Mistral-7B": _sizes("mistral", 4096, 14_336, 32, 32, 8, 32_768, head_dim=128, sliding_window=None),
    "Mistral-7B, window 4,096": _sizes("mistral", 4096, 14_336, 32, 32, 8, 32_768, head_dim=128, sliding_window=4096),
    "Granite-3.3-2B": _sizes("granite", 2048, 8192, 40, 32, 8, 49_159, **_GRANITE, **_TIED),
    "small": _sizes("qwen3", 128, 256, 4, 4, 2, 4_000, head_dim=32),
}  # fmt: skip
ATTENTION = {"Phi-4-mini": ["qkv_proj", "o_proj"]}


@dataclass(frozen=True)
class Variant:
    """A shape, and what is not as `train_step` has it.

    Attributes:
        memory_gib: the GPU memory that may be used.
        expected: tokens a second, and GiB, that were written down before it was measured first; 0 for none.
        longest: tokens of a row and of the longest conversation.
        shipped: adapters and dropout as they ship: on every linear layer, 0.05. Else around attention, none.
    """

    shape: str
    memory_gib: float | None = None
    expected: int = 0
    longest: int = 1024
    shipped: bool = False
    train: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "TinyLlama-1.1B": Variant("TinyLlama-1.1B", expected=112_000),
    "Qwen3-1.7B": Variant("Qwen3-1.7B", expected=66_000),
    "Qwen3-1.7B within 20 GiB": Variant("Qwen3-1.7B", 20, expected=64_000),
    "Qwen3-1.7B within 15.5 GiB": Variant("Qwen3-1.7B", 15.5, expected=62_000),
    "SmolLM3-3B": Variant("SmolLM3-3B", expected=40_000),
    "Phi-4-mini": Variant("Phi-4-mini", expected=32_000),
    "Granite-3.3-2B": Variant("Granite-3.3-2B", expected=45_000),
    "OLMo-2-1B": Variant("OLMo-2-1B", expected=85_000),
    "Gemma-3-1B": Variant("Gemma-3-1B", expected=75_000),
    "Gemma-3-1B, recomputed": Variant("Gemma-3-1B", expected=52_000, train={"gradient_checkpointing": True}),
    "Mistral-7B, window 4,096, rows of 8,192": Variant("Mistral-7B, window 4,096", expected=17_500, longest=8192),
    "Mistral-7B within 15.5 GiB": Variant("Mistral-7B", 15.5, expected=15_500),
    "Qwen3-1.7B as shipped": Variant("Qwen3-1.7B", expected=62_000, shipped=True),
    "Qwen3-1.7B as shipped, within 8 GiB": Variant("Qwen3-1.7B", 8, expected=55_000, shipped=True),
    "SmolLM3-3B as shipped": Variant("SmolLM3-3B", expected=38_000, shipped=True),
    "Phi-4-mini as shipped": Variant("Phi-4-mini", expected=31_000, shipped=True),
    "OLMo-2-1B as shipped": Variant("OLMo-2-1B", expected=84_000, shipped=True),
    "Gemma-3-1B as shipped": Variant("Gemma-3-1B", expected=88_000, shipped=True),
    "Gemma-3-1B as shipped, within 8 GiB": Variant("Gemma-3-1B", 8, expected=78_000, shipped=True),
}
ON_THE_CPU = {"small": Variant("small", train={"tokens_per_step_target": 1024}, longest=256)}


def lengths_of(longest: int) -> list[int]:
    """Tokens of conversations, log-normal, as `shapes.save_conversations` draws them; for long rows larger ones."""
    draw = random.Random(1)
    scale = longest / 1024
    return [max(16, min(longest, int(scale * draw.lognormvariate(5.4, 0.9)))) for _ in range(CONVERSATIONS)]


def planned(variant: Variant, device: Device, rows: list[Any], lengths: list[int]) -> tuple[Config, ModelShape, Plan]:
    sizes = {"tie_word_embeddings": False, "max_position_embeddings": 8192} | SHAPES[variant.shape]
    targets = ATTENTION.get(variant.shape, ["q_proj", "k_proj", "v_proj", "o_proj"])
    lora: dict[str, Any] = {} if variant.shipped else {"target_modules": targets, "dropout": 0.0}
    train = {"tokens_per_step_target": 16 * 1024, "kernels": "auto", "lora": lora} | variant.train
    config = Config.model_validate({"train": train, "data": {"max_seq_len": variant.longest}})
    figures = DataFigures(len(rows), variant.longest, len(lengths), sum(lengths), sum(lengths), exact=True)
    shape = from_config(sizes, variant.shape)
    return config, shape, make_plan(config, shape, device.within(variant.memory_gib), figures)


def built(config: Config, shape: ModelShape, plan: Plan, variant: Variant) -> Any:
    """The fused step over a model with random weights, quantized where its plan says so, and a new adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    from pipeline.base_model.precision import PRECISIONS
    from pipeline.training.fused.decoder import FusedModel
    from pipeline.training.fused.train_step import FusedStep

    device, compute = torch.device(plan.device), getattr(torch, plan.compute_dtype)
    settings = {"tie_word_embeddings": False} | SHAPES[variant.shape] | {"pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    made = AutoConfig.for_model(**settings)
    torch.manual_seed(0)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(made, dtype=compute)
    tied = set(getattr(empty, "all_tied_weights_keys", {}))
    weights = {
        name: torch.ones_like(each, device=device) if each.dim() == 1 else torch.randn_like(each, device=device) * 0.02
        for name, each in empty.state_dict().items()
        if name not in tied
    }
    quantization = BitsAndBytesConfig(**PRECISIONS["qlora_nf4"].quantization, bnb_4bit_compute_dtype=compute)
    model = type(empty).from_pretrained(
        None, config=made, state_dict=weights, dtype=compute, quantization_config=quantization, device_map={"": plan.device}
    )
    del weights
    model.requires_grad_(False)
    lora = LoraConfig(
        r=config.train.lora.r, lora_alpha=config.train.lora.alpha, lora_dropout=0.0,
        target_modules=list(target_names(config.train.lora, shape)),
    )  # fmt: skip
    adapted = get_peft_model(model, lora)
    fused = FusedModel(
        adapted, compute, recomputed_layers=plan.recomputed_layers, keep_dequantized=plan.keep_dequantized,
        dropout=config.train.lora.dropout,
    )  # fmt: skip
    return adapted, FusedStep(fused, 0, plan.micro_batch * plan.row_tokens)


def measured(name: str, variant: Variant, device: Device, steps: int) -> dict[str, Any]:
    """One variant's figures; with `problem` where it did not end."""
    import torch

    lengths = lengths_of(variant.longest)
    rows = pack(lengths, variant.longest, True)
    config, shape, plan = planned(variant, device, rows, lengths)
    found = {
        "variant": name, "kernels": plan.kernels, "micro_batch": plan.micro_batch, "accumulation": plan.accumulation,
        "row_tokens": plan.row_tokens, "recomputed_layers": plan.recomputed_layers, "keep_dequantized": plan.keep_dequantized,
        "memory_limit_gib": variant.memory_gib, "expected_tokens_per_second": variant.expected,
        "predicted_gib": plan.peak_memory_bytes / GIB, "limit_tokens_per_second": _limit(shape), "memory": plan.memory,
    }  # fmt: skip
    if plan.kernels != "fused" and device.kind == "cuda":
        return found | {"problem": plan.reasons["kernels"]}
    began = time.perf_counter()
    model, step = built(config, shape, plan, variant)
    gc.collect()
    if device.kind == "cuda":
        torch.cuda.empty_cache()
    loaded = time.perf_counter()
    found |= _trained(model, step, plan, rows, lengths, steps)
    return found | {"load_seconds": loaded - began, "wall_seconds": time.perf_counter() - began}


def _trained(model: Any, step: Any, plan: Plan, rows: list[Any], lengths: list[int], steps: int) -> dict[str, Any]:
    import torch

    from pipeline.training.clock import GpuClock, WallClock
    from pipeline.training.memory_recovery.atomic_adamw import AtomicAdamW
    from pipeline.training.process_memory import ProcessMemory

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, memory = AtomicAdamW(trained, lr=1e-5), ProcessMemory(cuda=plan.device == "cuda")
    clock: Any = GpuClock() if plan.device == "cuda" else WallClock()
    memory.reset()
    batches, marks, tokens, loss = _batches(plan, rows, lengths), [], [], torch.zeros(())
    for number in range(WARM_UP + steps):
        marks.append(clock.mark())
        tokens.append(0)
        step.step_begins()
        for _ in range(plan.accumulation):
            batch = next(batches)
            tokens[-1] += batch.pop("real_tokens")
            batch.pop("trained_tokens")
            step.micro_batch_begins()
            loss = step.loss(batch, plan.tokens_per_step, number)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    marks.append(clock.mark())
    seconds = [clock.between(a, b) for a, b in itertools.pairwise(marks)]
    timed, real = seconds[WARM_UP:], tokens[WARM_UP:]
    assert torch.isfinite(loss)
    return {
        "tokens_per_second": sum(real) / sum(timed), "step_seconds": statistics.median(timed),
        "first_step_seconds": seconds[0], "peak_gib": memory.peak_bytes() / GIB, "graph": step.model.replayed_tokens > 0,
    }  # fmt: skip


def _batches(plan: Plan, rows: list[Any], lengths: list[int]) -> Iterator[dict[str, Any]]:
    """Micro-batches of random tokens, in an order that mixes the rows."""
    from pipeline.training.packed_rows import Document, collate

    draw = np.random.default_rng(0)
    order = [int(row) for _ in range(50) for row in draw.permutation(len(rows))]

    def document(tokens: int) -> Document:
        ids = draw.integers(3, 3_000, tokens)
        return Document(ids, ids)

    while order:
        taken, order = order[: plan.micro_batch], order[plan.micro_batch :]
        yield dict(collate([[document(lengths[number]) for number in rows[row].tolist()] for row in taken]))


def _limit(shape: ModelShape) -> float:
    """Tokens a second if nothing but the products with frozen weights took time: 4 FLOP a weight and token, the head included."""
    return MATMUL_FLOP / (4 * (shape.linear_parameters + shape.vocabulary * shape.hidden))


COLUMNS = (
    "variant", "rows", "recomputed", "16-bit copy", "graph", "tokens/s", "expected", "of the matmul limit", "step, s",
    "first step, s", "peak, GiB", "predicted, GiB", "error", "wall, s",
)  # fmt: skip
HEAD = "| " + " | ".join(COLUMNS) + " |\n| --- |" + " ---: |" * (len(COLUMNS) - 1)


def row(one: dict[str, Any]) -> str:
    if problem := one.get("problem"):
        return f"| {one['variant']} | {problem} |"
    cells = [
        one["variant"], f"{one['micro_batch']} × {one['accumulation']} × {one['row_tokens']:,}", str(one["recomputed_layers"]),
        "yes" if one["keep_dequantized"] else "no", "yes" if one["graph"] else "no", f"{one['tokens_per_second']:,.0f}",
        f"{one['expected_tokens_per_second']:,}", f"{100 * one['tokens_per_second'] / one['limit_tokens_per_second']:.0f} %",
        f"{one['step_seconds']:.3f}", f"{one['first_step_seconds']:.1f}", f"{one['peak_gib']:.2f}", f"{one['predicted_gib']:.2f}",
        f"{error(one):+.1f} %", f"{one['wall_seconds']:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def error(one: dict[str, Any]) -> float:
    """Of the predicted memory, in percent of what was taken; negative where it was under."""
    return float(100 * (one["predicted_gib"] / one["peak_gib"] - 1))


def every(names: list[str], steps: int) -> Iterator[dict[str, Any]]:
    device = choose_device("auto")
    see_only(device)
    variants = VARIANTS if device.kind == "cuda" else ON_THE_CPU
    for name in names or variants:
        try:
            yield measured(name, variants[name], device, steps)
        except Exception as failed:  # noqa: BLE001  # the others are measured all the same
            yield {"variant": name, "problem": f"{type(failed).__name__}: {failed}".splitlines()[0][:200]}
        gc.collect()
        if device.kind == "cuda":
            import torch

            torch.cuda.empty_cache()


def measure() -> list[Figure]:
    """The rate of each shape, and the error of its plan's memory."""
    found = [one for one in every([], STEPS) if "problem" not in one]
    rates = [Figure(f"{one['variant']}: rate", one["tokens_per_second"], "tok/s") for one in found]
    return rates + [Figure(f"{one['variant']}: memory, error", abs(error(one)), "%", 5.0) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="; ".join(VARIANTS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    print(HEAD, flush=True)
    found: list[dict[str, Any]] = []
    for one in every(arguments.names, arguments.steps):
        found.append(one)
        print(row(one), flush=True)
        if arguments.json:
            write_result(arguments.json, {"fused_families": found, "command": "python -m tests.benchmarks.fused_families"})


if __name__ == "__main__":
    main()
