"""What a result can be packaged in, a row a format: what forms say of it, where it lies, and the bytes it takes.

Known before anything is made, from headers only. How a format is written stands in `pipeline/export/formats/NAME.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.shape import ModelShape, adapter_parameters
from pipeline.base_model.targets import target_names
from pipeline.base_model.untrusted_files import safetensors_header
from pipeline.config.choice import Choice
from pipeline.config.schema import Config, ExportFormat
from pipeline.runs.folders import ADAPTER_WEIGHTS, MERGED

_BESIDE_WEIGHTS = 16 << 20  # tokenizer, cards, manifest


@dataclass(frozen=True)
class FormatOutline:
    """A format before it is made.

    Attributes:
        what: what it is and for whom, in one line of a form.
        folder: where it lies in the package; "" is the package's own folder.
        weights: its large files there, as a glob.
        card: a sentence of the model card about it, where it lies beside the adapter.
        bytes: (config, base model's sizes, base model where it is on this machine) -> bytes of all its files.
    """

    what: str
    folder: str
    weights: str
    card: str
    bytes: Callable[[Config, ModelShape, BaseModel | None], int]


def _adapter_bytes(config: Config, shape: ModelShape, base: BaseModel | None) -> int:
    lora = config.train.lora
    return 4 * adapter_parameters(shape, lora.r, target_names(lora, shape), dora=lora.dora) + _BESIDE_WEIGHTS


def _merged_bytes(config: Config, shape: ModelShape, base: BaseModel | None) -> int:
    return (merged_weight_bytes(base) if base else 2 * shape.parameters) + _BESIDE_WEIGHTS


def _halved_bytes(config: Config, shape: ModelShape, base: BaseModel | None) -> int:
    return (merged_weight_bytes(base, in_16_bits=True) if base else 2 * shape.parameters) + _BESIDE_WEIGHTS


def merged_weight_bytes(base: BaseModel, *, in_16_bits: bool = False) -> int:
    """The merged model's weights: as large as the base's own, or as those that are de-quantized from a GGUF file.

    Args:
        in_16_bits: whatever the base's are held in.
    """
    on_disk = sum(file.stat().st_size for file in base.weight_files())
    if in_16_bits:
        return 2 * _weights(base)
    if base.kind == "folder":
        return on_disk
    weights = _weights(base)
    # A file that holds more than three bytes a weight holds 32-bit numbers, and they stay so.
    return weights * (4 if on_disk > 3 * weights else 2)


def _weights(base: BaseModel) -> int:
    """How many numbers the base model's files hold."""
    if base.kind == "gguf":
        return sum(math.prod(each) for each in read_header(base.path).tensors.values())
    headers = (safetensors_header(file)[0] for file in base.weight_files())
    shapes = (entry["shape"] for header in headers for name, entry in header.items() if name != "__metadata__")
    return sum(math.prod(shape) for shape in shapes)


EXPORT_FORMATS: Mapping[ExportFormat, FormatOutline] = {
    "peft_adapter": FormatOutline(
        what="the LoRA adapter, its tokenizer and cards; loads with peft. Always made: infer and chat ask it",
        folder="",
        weights=ADAPTER_WEIGHTS,
        card="",
        bytes=_adapter_bytes,
    ),
    "merged": FormatOutline(
        what="adapter and base in one model, in the base's own precision: for vLLM, llama.cpp, transformers without peft",
        folder=MERGED,
        weights="*.safetensors",
        card="`merged/` holds the model it makes of its base, which needs neither.",
        bytes=_merged_bytes,
    ),
    "merged_bf16": FormatOutline(
        what="the same in bfloat16, whatever the base is held in: for cards with bfloat16 units",
        folder="merged_bf16",
        weights="*.safetensors",
        card="`merged_bf16/` holds the model it makes of its base, in bfloat16.",
        bytes=_halved_bytes,
    ),
    "merged_fp16": FormatOutline(
        what="the same in float16: for older cards, and programs that know no bfloat16",
        folder="merged_fp16",
        weights="*.safetensors",
        card="`merged_fp16/` holds the model it makes of its base, in float16.",
        bytes=_halved_bytes,
    ),
}
FORMAT_CHOICES = (
    *(Choice(name, outline.what) for name, outline in EXPORT_FORMATS.items()),
    Choice("runtime_int8", "an 8-bit model to run", "not in this version"),
)


def format_bytes(config: Config, shape: ModelShape, base: BaseModel | None) -> dict[ExportFormat, int]:
    """Bytes of each format there is, whether the config asks for it or not.

    Args:
        base: the base model where it is on this machine.
    """
    return {name: outline.bytes(config, shape, base) for name, outline in EXPORT_FORMATS.items()}


def of_config(config: Config, sizes: Mapping[ExportFormat, int]) -> dict[str, int]:
    """The sizes of those formats that the config asks for."""
    return {name: sizes[name] for name in config.export.formats}
