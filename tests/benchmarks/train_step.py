"""Speed and memory of the train step, read from the events of real runs: `python -m tests.benchmarks.train_step FOLDER [NAME …]`.

A model of TinyLlama-1.1B's shape with random weights, conversations of log-normal length, NF4, rank 16 on q k v o, dropout as
shipped, through `humigence train --train`. Real tokens only; the first steps are left out. Prints a row a variant. What it does
not do: judge what was learned (the words are random).
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.runs import RunFolder, Workspace, read_report, read_state, runs_of
from tests import tiny

SHAPE = {
    "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4,
}  # fmt: skip
CONVERSATIONS = 1500
WARM_UP = 3
STEP = 16_384  # tokens
VARIANTS: dict[str, dict[str, Any]] = {
    "shipped": {},
    "by mask": {"attention": "sdpa", "tokens_per_step_target": STEP},
    "by offsets": {"tokens_per_step_target": STEP},
    "by offsets, checkpointing": {"tokens_per_step_target": STEP, "gradient_checkpointing": True},
    "by offsets, checkpointing, 32 rows": {"tokens_per_step_target": 2 * STEP, "gradient_checkpointing": True},
}


def prepare(folder: Path) -> None:
    """The model and the rows, once."""
    if not (folder / "model").exists():
        tiny.save_model(folder / "model", **SHAPE)
    words = ["overfitting", "model", "learns", "examples", "by", "heart", "anything", "new", "parcel", "delivered"]
    draw = random.Random(1)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(CONVERSATIONS):
            tokens = max(16, min(1000, int(draw.lognormvariate(5.4, 0.9))))
            answer = " ".join(draw.choice(words) for _ in range(max(2, tokens // 4)))
            messages = [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")


def run(folder: Path, name: str) -> RunFolder:
    project = name.replace(",", "").replace(" ", "-")
    config = {
        "project": project,
        "model": {"local_path": "model"},
        "data": {"raw_path": "rows.jsonl"},
        "train": {**VARIANTS[name], "max_steps": 24, "epochs": 20, "eval_every_steps": 1000},
        "eval": {"samples_per_eval": 0},
    }
    (folder / f"{project}.json").write_text(json.dumps(config))
    command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", "train", "--train", "--config", f"{project}.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: exit {done.returncode}\n{done.stderr}")
    return runs_of(Workspace(folder), project)[0]


def row(name: str, made: RunFolder) -> str:
    """`| variant | micro-batch | tokens/s | step | peak reserved | predicted |`."""
    train, plan = read_state(made).train, read_report(made.plan)
    assert plan is not None
    counted = [i for i in range(WARM_UP, len(train)) if train["counted"][i]]
    seconds = [train["seconds"][i] for i in counted]
    rate = sum(train["tokens"][i] for i in counted) / sum(seconds)
    report = read_report(made.train_report)
    assert report is not None
    batch = f"{plan['micro_batch']} × {plan['accumulation']}"
    peak, predicted = (f"{size / 2**30:.1f}" for size in (report["peak_memory_bytes"], sum(plan["memory"].values())))
    cells = (name, plan["attention"], batch, f"{rate:,.0f}", f"{statistics.median(seconds):.3f}", peak, predicted)
    return "| " + " | ".join(cells) + " |"


def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    print("| variant | attention | micro-batch × accumulation | tokens/s | step, s | peak reserved, GiB | predicted, GiB |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in names or VARIANTS:
        print(row(name, run(folder, name)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
