"""The memory a plan predicts against what its run then took, as the driver counts it for the process.

    make bench WHAT=train-memory
    python -m tests.benchmarks.train_memory FOLDER [--at-once N] [--json FILE]

Sixteen cases: four precision modes, two shapes, with checkpointing and without, in three sizes; then the model's own layers where
the fused ones would have been chosen. Each is a short `humigence train --train`; several at once take no more memory each.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from pipeline.system.gpu import choose_device
from tests.benchmarks.harness import Figure, write_result
from tests.benchmarks.train_step import ATTENTION, MLP, Variant, figures, prepare, run

MODES = ("qlora_nf4", "lora_bf16", "lora_fp16", "lora_int8")
ROWS = (4, 8, 16)
STEPS = 8


def case(number: int, mode: str, shape: str, checkpointing: bool, kernels: str = "auto") -> tuple[str, Variant]:
    """A case with its name; size, dropout and what is adapted change with its number."""
    rows, wide = ROWS[number % len(ROWS)], number % 4 == 1
    train = {
        "precision_mode": mode, "gradient_checkpointing": checkpointing, "micro_batch": rows,
        "tokens_per_step_target": rows * 1024, "kernels": kernels,
    }  # fmt: skip
    variant = Variant(shape, train, 0.05 if number % 2 else 0.0, ATTENTION + MLP if wide else ATTENTION)
    words = [mode, shape, f"{rows} rows"]
    if checkpointing:
        words.append("checkpointing")
    if wide:
        words.append("MLP too")
    if kernels != "auto":
        words.append(kernels)
    return ", ".join(words), variant


def cases() -> dict[str, Variant]:
    every = list(product(MODES, ("tinyllama-1.1b", "smollm2-135m"), (False, True)))
    plain = [("qlora_nf4", False), ("qlora_nf4", True), ("lora_bf16", False), ("lora_int8", True)]
    made = [case(number, *each) for number, each in enumerate(every)]
    made += [case(number, mode, "tinyllama-1.1b", checked, "plain") for number, (mode, checked) in enumerate(plain)]
    return dict(made)


def row(one: dict[str, Any]) -> str:
    cells = (one["variant"], one["kernels"], f"{one['peak_gib']:.2f}", f"{one['predicted_gib']:.2f}", f"{error(one):+.1f} %")
    return "| " + " | ".join(cells) + " |"


def error(one: dict[str, Any]) -> float:
    """Of the prediction, in percent of what was taken."""
    return float(100 * (one["predicted_gib"] / one["peak_gib"] - 1))


def measured(folder: Path, at_once: int) -> Iterator[dict[str, Any]]:
    """The figures of each case, as soon as it has run."""
    for shape in {variant.shape for variant in cases().values()}:
        prepare(folder, shape)

    def one(named: tuple[str, Variant]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as cache:  # where a run holds the GPU's lock, which would let one run only
            return figures(named[0], *run(folder, *named, STEPS, XDG_CACHE_HOME=cache))

    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(one, cases().items())


def measure() -> list[Figure]:
    """The error of each case's prediction."""
    if choose_device("auto").kind != "cuda":
        raise SystemExit("train-memory needs an NVIDIA GPU: the formula for a CPU is not held against anything")
    with tempfile.TemporaryDirectory(prefix="train-memory-") as folder:
        return [Figure(f"{each['variant']}: error", abs(error(each)), "%", 5.0) for each in measured(Path(folder), 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| case | kernels | peak, GiB | predicted, GiB | error |\n| --- | --- | ---: | ---: | ---: |")
    found: list[dict[str, Any]] = []
    for one in measured(arguments.folder, arguments.at_once):
        found.append({name: one[name] for name in ("variant", "kernels", "peak_gib", "predicted_gib")})
        print(row(one), flush=True)
    worst = max(abs(error(one)) for one in found)
    print(f"\n{len(found)} cases, {sum(abs(error(one)) <= 5 for one in found)} within 5 %, the worst off by {worst:.1f} %")
    if arguments.json:
        write_result(arguments.json, {"train_memory": found})


if __name__ == "__main__":
    main()
