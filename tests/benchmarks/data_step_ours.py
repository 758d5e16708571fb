"""One measurement of our data step: `python -m tests.benchmarks.data_step_ours ROWS WORKSPACE MODEL`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pipeline.base_model.locate import require_base_model
from pipeline.config.file import parse
from pipeline.dataset import processed
from pipeline.dataset.packing import pack
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
from pipeline.steps import preprocess
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.benchmarks.data_step import LONGEST
from tests.benchmarks.measure import Clock, report


def main(rows: Path, folder: Path, model: Path) -> None:
    import datasets  # noqa: F401 - loaded before the clock starts, as the peer's libraries are

    import pipeline.dataset.prepare  # noqa: F401

    data = {"raw_path": str(rows), "max_seq_len": LONGEST, "window_overlap": 128, "split": {"train": 1, "val": 0, "test": 0}}
    config, workspace = parse({"model": {"local_path": str(model)}, "data": data}, "benchmark"), Workspace(folder)
    loading = Clock()
    ChatTokenizer.load(require_base_model(config, workspace))
    load_s = loading.seconds()
    clock = Clock()
    preprocess.run(StepContext(config, workspace))
    found = processed.find_processed(config, workspace)
    assert found is not None
    lengths = found.lengths("train")
    packed = pack(lengths, LONGEST)
    seconds = clock.seconds()
    density = int(lengths.sum()) / (len(packed) * LONGEST)
    more = {"tokenizer_load_s": round(load_s, 2), "processor_s": round(clock.processor_seconds(), 2)}
    report(found.report["rows"], seconds, tokens=int(lengths.sum()), density=round(density, 4), **more)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
