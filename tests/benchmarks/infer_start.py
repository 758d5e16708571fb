"""The second start of `humigence infer` on the demo model, a GGUF file in NF4, beside the plainest script that answers as much.

The script is ten lines of transformers that load the same weights from bf16 safetensors. The two run in turn on whatever
device there is, each in a fresh process; processor seconds, which tell what work costs whoever else is on the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.data_step import DEMO_MODEL
from tests.benchmarks.harness import Figure, median
from tests.benchmarks.measure import processor_seconds

ROUNDS = 5
_QUESTION = "What is the capital of France?"
_SAVE = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
folder, name = sys.argv[1].rsplit("/", 1)
read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
config = read.config
del config.quantization_config
plain = LlamaForCausalLM(config)
plain.load_state_dict(read.state_dict())
plain.to(torch.bfloat16).save_pretrained("bf16")
AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained("bf16")
"""
_TEN_LINES = f"""
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
device = "cuda" if torch.cuda.is_available() else "cpu"
tokenizer = AutoTokenizer.from_pretrained("bf16")
model = AutoModelForCausalLM.from_pretrained("bf16", dtype=torch.bfloat16).to(device)
messages = [{{"role": "user", "content": "{_QUESTION}"}}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True).to(device)
out = model.generate(**ids, max_new_tokens=8, do_sample=False)
print(tokenizer.decode(out[0][ids["input_ids"].shape[1]:]))
"""


def measure() -> list[Figure]:
    asked = ["--config", "bench.json", "--base", "--max-new-tokens", "8", "-m", _QUESTION]
    infer = ["-P", "-m", "humigence_tui.cli.main", "infer", *asked]
    with tempfile.TemporaryDirectory(prefix="infer-start-") as temporary:
        folder = Path(temporary)
        (folder / "bench.json").write_text(json.dumps({"model": {"local_path": str(DEMO_MODEL)}}))
        _seconds(folder, "-c", _SAVE, str(DEMO_MODEL))
        first = _seconds(folder, *infer)
        ours, theirs = zip(*((_seconds(folder, *infer), _seconds(folder, "-c", _TEN_LINES)) for _ in range(ROUNDS)), strict=True)
        return [
            Figure("first infer, processor", first, "s"),
            Figure("later infer, processor, median", median(ours), "s"),
            Figure("ten lines of transformers, processor, median", median(theirs), "s"),
            Figure("later infer to ten lines", median(ours) / median(theirs), "×", 1.5),
        ]


def _seconds(folder: Path, *arguments: str) -> float:
    began, environment = processor_seconds(), os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True)
    return processor_seconds() - began


if __name__ == "__main__":
    for figure in measure():
        print(f"{figure.name}: {figure.value:.2f} {figure.unit}")
