"""How much room a package takes, by format, before anything of it is made. Reads headers only."""

from __future__ import annotations

import math

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.shape import ModelShape, adapter_parameters
from pipeline.config.schema import Config, ExportFormat

_BESIDE_WEIGHTS = 16 << 20  # tokenizer, cards, manifest


def package_sizes(config: Config, shape: ModelShape, base: BaseModel | None) -> dict[ExportFormat, int]:
    """Bytes of each format there is, whether the config asks for it or not.

    Args:
        base: the base model where it is on this machine.
    """
    lora = config.train.lora
    adapter = 4 * adapter_parameters(shape, lora.r, lora.target_modules) + _BESIDE_WEIGHTS
    merged = (merged_weight_bytes(base) if base else 2 * shape.parameters) + _BESIDE_WEIGHTS
    sizes: dict[ExportFormat, int] = {"peft_adapter": adapter, "merged": merged}
    return sizes


def merged_weight_bytes(base: BaseModel) -> int:
    """The merged model's weights: as large as the base's own, or as those that are de-quantized from a GGUF file."""
    on_disk = sum(file.stat().st_size for file in base.weight_files())
    if base.kind == "folder":
        return on_disk
    weights = sum(math.prod(each) for each in read_header(base.path).tensors.values())
    # A file that holds more than three bytes a weight holds 32-bit numbers, and they stay so.
    return weights * (4 if on_disk > 3 * weights else 2)


def asked_for(config: Config, sizes: dict[ExportFormat, int]) -> dict[str, int]:
    """Those of the formats that the config asks for."""
    return {name: sizes[name] for name in config.export.formats}
