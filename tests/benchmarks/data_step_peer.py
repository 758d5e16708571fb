"""One measurement of TRL on the same file: `python -m tests.benchmarks.data_step_peer ROWS MODEL`.

Completion-only loss, packing, two processes, through `SFTTrainer` itself with a model of nearly no weights. ROWS are written as
it likes them, prompt and completion apart; what is timed is reading the file and the trainer's preparing of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.data_step import LONGEST, PROCESSES
from tests.benchmarks.measure import Clock, report


def main(rows: Path, model: Path) -> None:
    try:
        import trl
    except ImportError:
        print(json.dumps({"missing": "TRL is not installed here: pip install trl, or --peer-python"}))
        return
    import datasets
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    where = {"gguf_file": model.name} if model.suffix == ".gguf" else {}
    tokenizer = AutoTokenizer.from_pretrained(str(model.parent if where else model), **where)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    nearly_none = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    taken: list[tuple[float, float]] = []

    class Timed(trl.SFTTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, *arguments: Any, **named: Any) -> Any:
            clock = Clock()
            prepared = super()._prepare_dataset(*arguments, **named)
            taken.append((clock.seconds(), clock.processor_seconds()))
            return prepared

    with tempfile.TemporaryDirectory(prefix="trl-") as cache:
        arguments = trl.SFTConfig(
            output_dir=cache, max_length=LONGEST, packing=True, completion_only_loss=True, dataset_num_proc=PROCESSES,
            report_to=[], use_cpu=True, bf16=False,
        )  # fmt: skip
        reading = Clock()
        dataset = datasets.load_dataset("json", data_files=str(rows), split="train", cache_dir=cache)
        taken.append((reading.seconds(), reading.processor_seconds()))
        trainer = Timed(nearly_none, arguments, train_dataset=dataset, processing_class=tokenizer)
    lengths = [sum(each) if isinstance(each, list) else each for each in trainer.train_dataset["seq_lengths"]]
    density = sum(lengths) / (len(lengths) * LONGEST)
    seconds, processor_s = map(sum, zip(*taken, strict=True))
    more = {"trl": trl.__version__, "processor_s": round(processor_s, 2)}
    report(len(dataset), seconds, tokens=sum(lengths), density=round(density, 4), **more)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
