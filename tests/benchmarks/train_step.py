"""Speed and memory of the train step, read from the events of real runs.

    make bench WHAT=train-step
    python -m tests.benchmarks.train_step FOLDER [NAME …] [--json FILE] [--peers FILE] [--steps N]

The first runs every variant and, where they are installed, the peers; without a GPU one small model. Each variant is a
`humigence train --train` on a model of a real shape with random weights and conversations of log-normal length. Real tokens only;
steps that warm up are left out. Prints a row a variant, with the ratio to the best peer of `--peers` (a file that
`tests.benchmarks.peers` wrote on the same GPU). What it does not do: judge what was learned (the words are random).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.runs.event_log import read_state
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.store import read_report, runs_of
from pipeline.system.gpu import choose_device
from tests.benchmarks import shapes
from tests.benchmarks.harness import Figure, write_result

CONVERSATIONS = 1500
STEP = 16_384  # tokens
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Variant:
    """A run: its model's shape, settings below `train`, and the GPU memory it may use."""

    shape: str = "tinyllama-1.1b"
    train: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.0
    targets: list[str] = field(default_factory=lambda: ATTENTION)
    memory_gib: float | None = None

    def settings(self, project: str, steps: int) -> dict[str, Any]:
        return {
            "project": project,
            "model": {"local_path": self.shape},
            "compute": {"memory_limit_gib": self.memory_gib},
            "data": {"raw_path": f"{self.shape}.jsonl"},
            "train": {
                "tokens_per_step_target": STEP, "max_steps": steps, "epochs": 50, "eval_every_steps": 10_000,
                "lora": {"dropout": self.dropout, "target_modules": self.targets},
            } | self.train,
            "eval": {"samples_per_eval": 0, "rows_while_training": 16},
        }  # fmt: skip


VARIANTS = {
    "memory free": Variant(),
    "at the shipped defaults (dropout 0.05)": Variant(dropout=0.05),
    "MLP projections too": Variant(targets=ATTENTION + MLP),
    "MLP projections too, dropout 0.05": Variant(targets=ATTENTION + MLP, dropout=0.05),
    "within 15.5 GiB": Variant(memory_gib=15.5),
    "within 6 GiB": Variant(memory_gib=6.0),
    "everything recomputed": Variant(train={"gradient_checkpointing": True}),
    "deterministic": Variant(train={"deterministic": True}),
    "lora_bf16": Variant(train={"precision_mode": "lora_bf16"}),
    "lora_int8": Variant(train={"precision_mode": "lora_int8"}),
    "the model's own layers": Variant(train={"kernels": "plain"}),
    "smollm2-135m": Variant(shape="smollm2-135m"),
    "smollm2-135m, 64 rows a step": Variant(shape="smollm2-135m", train={"tokens_per_step_target": 4 * STEP}),
}
ON_THE_CPU = {"small, on the CPU": Variant(shape="small", train={"tokens_per_step_target": 1024})}
# What ours is held against, on the same work: arguments of `tests.benchmarks.peers`, at the sizes that were best for each.
PEERS = {
    "unsloth": (("--micro-batch", "64", "--no-packing"), ("--shape", "smollm2-135m", "--micro-batch", "64", "--no-packing")),
    "trl": (
        ("--micro-batch", "16", "--no-packing", "--liger"),
        ("--shape", "smollm2-135m", "--micro-batch", "64", "--no-packing", "--liger", "--checkpointing"),
    ),
}


def prepare(folder: Path, shape: str) -> None:
    """The model and the rows, once."""
    if not (folder / shape / "config.json").exists():
        shapes.save_model(folder / shape, shape)
        shapes.save_conversations(folder / f"{shape}.jsonl", CONVERSATIONS, shapes.SHAPES[shape]["vocab_size"])


def run(folder: Path, name: str, variant: Variant, steps: int, **environment: str) -> tuple[RunFolder, float]:
    """The finished run, and the seconds its command took.

    Args:
        environment: changes to this process's.
    """
    project = "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")[:60]
    (folder / f"{project}.json").write_text(json.dumps(variant.settings(project, steps)))
    command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", "train", "--train", "--config", f"{project}.json"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: exit {done.returncode}\n{done.stderr}")
    return runs_of(Workspace(folder), project)[0], time.perf_counter() - began


def figures(name: str, made: RunFolder, wall_seconds: float) -> dict[str, Any]:
    train, plan, report = read_state(made).train, read_report(made.plan), read_report(made.train_report)
    assert plan is not None and report is not None
    counted = [i for i in range(len(train)) if train["counted"][i]]
    seconds = [train["seconds"][i] for i in counted]
    return {
        "variant": name,
        "kernels": plan["kernels"],
        "micro_batch": plan["micro_batch"],
        "accumulation": plan["accumulation"],
        "recomputed_layers": plan["recomputed_layers"],
        "tokens_per_second": sum(train["tokens"][i] for i in counted) / sum(seconds),
        "step_seconds": statistics.median(seconds),
        "first_step_seconds": train["seconds"][0],
        "peak_gib": report["peak_memory_bytes"] / 2**30,
        "predicted_gib": sum(plan["memory"].values()) / 2**30,
        "wall_seconds": wall_seconds,
        "last_loss": float(train["loss"][len(train) - 1]),
    }


def row(one: dict[str, Any], best_peer: float | None) -> str:
    batch = f"{one['micro_batch']} × {one['accumulation']}"
    ratio = "" if best_peer is None else f"{one['tokens_per_second'] / best_peer:.1f} ×"
    cells = (
        one["variant"], one["kernels"], batch, str(one["recomputed_layers"]), f"{one['tokens_per_second']:,.0f}", ratio,
        f"{one['step_seconds']:.3f}", f"{one['first_step_seconds']:.1f}", f"{one['peak_gib']:.2f}",
        f"{one['predicted_gib']:.2f}", f"{100 * (one['predicted_gib'] / one['peak_gib'] - 1):+.1f} %",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


COLUMNS = (
    "variant", "kernels", "micro-batch × accumulation", "layers recomputed", "tokens/s", "to the best peer", "step, s",
    "first step, s", "peak, GiB", "predicted, GiB", "error",
)  # fmt: skip
HEAD = "| " + " | ".join(COLUMNS) + " |\n| --- | --- |" + " ---: |" * (len(COLUMNS) - 2)


def best_peer(path: Path | None, shape: str) -> float | None:
    if path is None or not path.exists():
        return None
    found = [each["tok_s"] for each in json.loads(path.read_text())["peers"] if each["shape"] == shape]
    return max(found, default=None)


def measure() -> list[Figure]:
    """Every variant that this machine can run, and the peers that are installed."""
    cuda = choose_device("auto").kind == "cuda"
    variants, steps = (VARIANTS, 30) if cuda else (ON_THE_CPU, 4)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="train-step-") as place:
        folder = Path(place)
        peers = _peers(folder) if cuda else None
        for name, variant in variants.items():
            prepare(folder, variant.shape)
            ours = figures(name, *run(folder, name, variant, steps))
            found.append(Figure(f"{name}: rate", ours["tokens_per_second"], "tok/s"))
            best = best_peer(peers, variant.shape)
            if best:
                found.append(Figure(f"{name}: to the best peer", ours["tokens_per_second"] / best, "×"))
            found.append(Figure(f"{name}: peak", ours["peak_gib"], "GiB"))
    return found


def _peers(folder: Path) -> Path:
    """The file with what the installed peers reach here."""
    results = folder / "peers.json"
    for name in filter(importlib.util.find_spec, PEERS):
        for arguments in PEERS[name]:
            command = [sys.executable, "-m", "tests.benchmarks.peers", name, *arguments, "--out", str(results)]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="; ".join(VARIANTS))
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--peers", type=Path, help="what tests.benchmarks.peers wrote")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(HEAD)
    found: list[dict[str, Any]] = []
    for name in arguments.names or VARIANTS:
        shape = VARIANTS[name].shape
        prepare(arguments.folder, shape)
        found.append(figures(name, *run(arguments.folder, name, VARIANTS[name], arguments.steps)))
        print(row(found[-1], best_peer(arguments.peers, shape)), flush=True)
        if arguments.json:
            write_result(arguments.json, {"train_step": found})


if __name__ == "__main__":
    main()
