"""The README's table of performance, from the JSON that the benchmarks wrote: `python -m tests.benchmarks.performance`."""

from __future__ import annotations

import json
from typing import Any

from tests.benchmarks.harness import RESULTS

# The newest go of each.
_FIRST, _NEWEST = "without graphs", "swiglu with what adapters add"
_ROWS = (
    ("TinyLlama-1.1B, memory free", "memory free", _NEWEST, "tinyllama-1.1b"),
    ("at the shipped defaults (dropout 0.05)", "at the shipped defaults (dropout 0.05)", _FIRST, "tinyllama-1.1b"),
    ("the MLP projections adapted too", "MLP projections too", _NEWEST, "tinyllama-1.1b"),
    ("held to 15.5 GiB, a 16 GB card's memory", "within 15.5 GiB", _FIRST, "tinyllama-1.1b"),
    ("held to 6 GiB", "within 6 GiB", _NEWEST, "tinyllama-1.1b"),
    ("all activations recomputed", "everything recomputed", _FIRST, "tinyllama-1.1b"),
    ("transformers' own layers", "the model's own layers", _FIRST, "tinyllama-1.1b"),
    ("SmolLM2-135M, 16 rows a step", "smollm2-135m", _NEWEST, "smollm2-135m"),
)


def table() -> str:
    document = json.loads((RESULTS / "h100-train-step.json").read_text(encoding="utf-8"))
    goes = {go["name"]: {each["variant"]: each for each in go["train_step"]} for go in document["goes"]}
    machine = document["machine"]
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    lines = [
        f"One {machine['device']}, {machine['date']}; {versions}.",
        "NF4, rank 16 on q k v o, 16,384 tokens a step, conversations of log-normal length, real tokens only.",
        "",
        "| train step | tokens/s | best peer | ratio | peak GiB |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(_train(label, goes[go][variant], _peer(document["peers"], shape)) for label, variant, go, shape in _ROWS),
        "",
        _memory(),
        "",
        "| answering, 4-bit | tokens/s | ratio |",
        "| --- | ---: | ---: |",
        *_answering(),
    ]
    return "\n".join(lines) + "\n"


def _peer(peers: list[dict[str, Any]], shape: str) -> dict[str, Any]:
    return max((each for each in peers if each["shape"] == shape), key=lambda each: float(each["tok_s"]))


def _train(label: str, ours: dict[str, Any], peer: dict[str, Any]) -> str:
    rate = ours["tokens_per_second"]
    told = f"{peer['tok_s']:,} ({peer['name'].split(',')[0]})"
    return f"| {label} | {rate:,.0f} | {told} | {rate / peer['tok_s']:.1f} × | {ours['peak_gib']:.1f} |"


def _memory() -> str:
    cases = json.loads((RESULTS / "h100-train-memory.json").read_text(encoding="utf-8"))["train_memory"]
    worst = max(abs(each["predicted_gib"] / each["peak_gib"] - 1) for each in cases)
    return f"Peak memory as predicted before the start: within {100 * worst:.1f} % in {len(cases)} cases of four precision modes."


def _answering() -> list[str]:
    rows = json.loads((RESULTS / "h100-inference.json").read_text(encoding="utf-8"))["rows"]
    return [
        f"| {each['way']} | {each['tokens_per_s']:,.0f} | {each['ratio']:.1f} × |" for each in rows if each["mode"] == "qlora_nf4"
    ]


if __name__ == "__main__":
    print(table(), end="")
