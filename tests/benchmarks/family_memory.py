"""The memory a plan predicts against what its run then took, family by family, in the sizes that people train.

    make bench WHAT=family-memory
    python -m tests.benchmarks.family_memory FOLDER [NAME …] [--limit GIB] [--at-once N] [--json FILE]

Two runs a family, each a `humigence train --train` in a process of its own on random weights: everything at its default, and
everything recomputed; one more with answers in mid-training, as the defaults have it. Large models have fewer layers here than
their name says: what a layer takes does not depend on how many there are. Each run is held to `--limit`, so that several go side
by side.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.runs.event_log import read_state
from pipeline.runs.store import read_report
from pipeline.system.gpu import GIB, choose_device
from tests.benchmarks import shapes
from tests.benchmarks.harness import Figure, write_result
from tests.benchmarks.train_step import run

STEPS = 6
LIMIT_GIB = 24.0
CONVERSATIONS = 600
WORDS = 8_000  # of the tokenizer; the models' vocabularies are larger
_TOLERATED = 5.0  # percent


def _sizes(model_type: str, hidden: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int, **more: Any) -> Any:
    return {
        "model_type": model_type, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocabulary, **more,
    }  # fmt: skip


_TIED = {"tie_word_embeddings": True}
_EXPERTS = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "head_dim": 128}
_LFM2_LAYERS = ["full_attention" if layer in (2, 5, 8, 10, 12, 14) else "conv" for layer in range(16)]
FAMILIES: dict[str, dict[str, Any]] = {
    "TinyLlama-1.1B": _sizes("llama", 2048, 5632, 22, 32, 4, 32_000),
    "SmolLM2-135M": _sizes("llama", 576, 1536, 30, 9, 3, 49_152, **_TIED),
    "Qwen3-0.6B": _sizes("qwen3", 1024, 3072, 28, 16, 8, 151_936, head_dim=128, **_TIED),
    "Qwen3-1.7B": _sizes("qwen3", 2048, 6144, 28, 16, 8, 151_936, head_dim=128, **_TIED),
    "Llama-3.2-1B": _sizes("llama", 2048, 8192, 16, 32, 8, 128_256, **_TIED),
    "Gemma-3-1B": _sizes(
        "gemma3_text", 1152, 6912, 26, 4, 1, 262_144, head_dim=256, query_pre_attn_scalar=256, sliding_window=512, **_TIED
    ),
    "OLMo-2-1B": _sizes("olmo2", 2048, 8192, 16, 16, 16, 100_352),
    "Phi-4-mini, 12 layers": _sizes("phi3", 3072, 8192, 12, 24, 8, 200_064, sliding_window=None, **_TIED),
    "SmolLM3-3B, 12 layers": _sizes("smollm3", 2048, 11_008, 12, 16, 4, 128_256, **_TIED),
    "Mistral-7B, 8 layers": _sizes("mistral", 4096, 14_336, 8, 32, 8, 32_768, head_dim=128, sliding_window=None),
    "Qwen3-30B-A3B, 4 layers": _sizes("qwen3_moe", 2048, 6144, 4, 32, 4, 151_936, **_EXPERTS),
    "LFM2-1.2B": _sizes("lfm2", 2048, 8192, 16, 32, 8, 65_536, layer_types=_LFM2_LAYERS, block_auto_adjust_ff_dim=False, **_TIED),
}
# Where the layers around attention are called otherwise than in most.
TARGETS = {
    "Phi-4-mini, 12 layers": ["qkv_proj", "o_proj"],
    "LFM2-1.2B": ["q_proj", "k_proj", "v_proj", "out_proj", "in_proj"],
}
ANSWERS_TOO = "SmolLM2-135M"
_ON_THE_CPU = {"small": _sizes("qwen3", 128, 256, 4, 4, 2, 9_000, head_dim=32)}


def prepare(folder: Path, name: str, sizes: dict[str, Any]) -> None:
    """The model and the rows, once."""
    if not (folder / "rows.jsonl").exists():
        shapes.save_conversations(folder / "rows.jsonl", CONVERSATIONS, WORDS)
    if not (folder / name / "config.json").exists():
        save_model(folder / name, sizes)


def save_model(folder: Path, sizes: dict[str, Any]) -> None:
    """Random weights in bfloat16, made on the GPU where there is one, and a tokenizer in which every word is a token."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "max_position_embeddings": 8192}
    config = AutoConfig.for_model(**({"tie_word_embeddings": False} | sizes | special))
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    shapes.save_tokenizer(folder, WORDS)


class Case:
    """A run: its model, and what is not as it ships. `settings` is what `train_step.run` asks for."""

    def __init__(self, model: str, limit_gib: float | None, *, recomputed: bool = False, answers: bool = False) -> None:
        words = [model, *(["recomputed"] if recomputed else []), *(["answers too"] if answers else [])]
        self.name, self.model, self.recomputed, self._answers, self._limit = (
            ", ".join(words),
            model,
            recomputed,
            answers,
            limit_gib,
        )

    def settings(self, project: str, steps: int) -> dict[str, Any]:
        train: dict[str, Any] = {"max_steps": steps, "epochs": 50, "eval_every_steps": 3 if self._answers else 10_000}
        if self.model in TARGETS:
            train["lora"] = {"target_modules": TARGETS[self.model]}
        return {
            "project": project,
            "model": {"local_path": self.model},
            "compute": {"memory_limit_gib": self._limit},
            "data": {"raw_path": "rows.jsonl"},
            "train": train | ({"gradient_checkpointing": True} if self.recomputed else {}),
            "eval": {"rows_while_training": 16} | ({} if self._answers else {"samples_per_eval": 0}),
        }


def cases(names: list[str], limit_gib: float | None) -> list[Case]:
    made = [Case(name, limit_gib, recomputed=recomputed) for name in names for recomputed in (False, True)]
    return made + [Case(name, limit_gib, answers=True) for name in names if name == ANSWERS_TOO]


def figures(folder: Path, case: Case) -> dict[str, Any]:
    """What a run planned and took; with `problem` where it did not end."""
    with tempfile.TemporaryDirectory() as cache:  # where a run holds the GPU's lock, which would let one run only
        try:
            made, seconds = run(folder, case.name, case, STEPS, XDG_CACHE_HOME=cache)
        except SystemExit as failed:
            return {"case": case.name, "problem": str(failed)[-1500:]}
    plan, report, state = read_report(made.plan), read_report(made.train_report), read_state(made)
    assert plan is not None and report is not None
    return {
        "case": case.name,
        **{name: plan[name] for name in ("kernels", "attention", "micro_batch", "row_tokens", "recomputed_layers", "memory")},
        "keep_dequantized": plan["keep_dequantized"],
        "predicted_gib": sum(plan["memory"].values()) / GIB,
        "peak_gib": report["peak_memory_bytes"] / GIB,
        "ran_out": sum(json.loads(line)["kind"] == "memory_ran_out" for line in made.events.read_text().splitlines()),
        "steps": len(state.train),
        "seconds": seconds,
    }


def error(one: dict[str, Any]) -> float:
    """Of the plan, in percent of what was taken; negative where it was under."""
    return float(100 * (one["predicted_gib"] / one["peak_gib"] - 1))


_COLUMNS = ("case", "layers of", "micro-batch", "recomputed", "planned, GiB", "measured, GiB", "plan / measured", "error")
HEAD = "| " + " | ".join(_COLUMNS) + " |\n| --- | --- |" + " ---: |" * (len(_COLUMNS) - 2)


def row(one: dict[str, Any]) -> str:
    if problem := one.get("problem"):
        return f"| {one['case']} | {problem.strip().splitlines()[-1][:150]} |"
    kernels = "ours" if one["kernels"] == "fused" else f"its own, {one['attention']}"
    cells = [
        one["case"], kernels, f"{one['micro_batch']} × {one['row_tokens']:,}", str(one["recomputed_layers"]),
        f"{one['predicted_gib']:.2f}", f"{one['peak_gib']:.2f}", f"{one['predicted_gib'] / one['peak_gib']:.3f}",
        f"{error(one):+.1f} %" + (" (memory ran out)" if one["ran_out"] else ""),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def measured(
    folder: Path, names: list[str], families: dict[str, dict[str, Any]], limit_gib: float | None, at_once: int
) -> Iterator[dict[str, Any]]:
    """The figures of each case, in order, as soon as it and those before have run."""
    with ThreadPoolExecutor(at_once) as pool:
        started = []
        for name in names:
            prepare(folder, name, families[name])
            started += [pool.submit(figures, folder, case) for case in cases([name], limit_gib)]
        for each in started:
            yield each.result()


def measure() -> list[Figure]:
    """The error of each case's plan."""
    if choose_device("auto").kind != "cuda":
        raise SystemExit("family-memory needs an NVIDIA GPU; without one the suite holds plans to what autograd saves")
    with tempfile.TemporaryDirectory(prefix="family-memory-") as folder:
        found = measured(Path(folder), list(FAMILIES), FAMILIES, LIMIT_GIB, 3)
        return [Figure(f"{each['case']}: error", abs(error(each)), "%", _TOLERATED) for each in found if "problem" not in each]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="; ".join(FAMILIES))
    parser.add_argument("--limit", type=float, default=LIMIT_GIB, help="GiB a run may use; 0 for all there is")
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    families = FAMILIES if choose_device("auto").kind == "cuda" else _ON_THE_CPU
    print(HEAD, flush=True)
    found: list[dict[str, Any]] = []
    for one in measured(
        arguments.folder, arguments.names or list(families), families, arguments.limit or None, arguments.at_once
    ):
        found.append(one)
        print(row(one), flush=True)
        if arguments.json:
            write_result(arguments.json, {"family_memory": found})
    errors = [error(one) for one in found if "problem" not in one]
    within = sum(abs(each) <= _TOLERATED for each in errors)
    print(f"\n{len(found)} cases, {within} within {_TOLERATED:g} %, from {min(errors):+.1f} % to {max(errors):+.1f} %")


if __name__ == "__main__":
    main()
