"""The adapter as peft reads it: `PeftModel.from_pretrained(base, folder)`."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.common.files import read_json, write_json
from pipeline.export import portable
from pipeline.export.formats.format import Format, Watch, Written
from pipeline.export.package import Package
from pipeline.runs.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS


def write(folder: Path, package: Package, watch: Watch) -> Written:
    """Copy the best checkpoint's adapter; its config names the base model and is set for inference."""
    checkpoint = package.trained.checkpoint
    shutil.copyfile(checkpoint / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    config = read_json(checkpoint / ADAPTER_CONFIG)
    config |= {
        "base_model_name_or_path": str(package.reference),
        "revision": package.reference.revision,
        "inference_mode": True,
    }
    write_json(folder / ADAPTER_CONFIG, portable.adapter_config(config))
    return Written()


FORMATS = (Format(name="peft_adapter", title="adapter", write=write),)
