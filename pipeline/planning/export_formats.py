"""What a result can be packaged in, a row a format: what forms say of it, where it lies, and the bytes it takes.

Known before anything is made, from headers only. How a format is written stands in `pipeline/export/formats/NAME.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.base_model.gguf_families import gguf_refusal
from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.shape import ModelShape, adapter_parameters, read_shape
from pipeline.base_model.targets import target_names
from pipeline.base_model.untrusted_files import safetensors_header
from pipeline.config.choice import Choice
from pipeline.config.schema import Config, ExportFormat
from pipeline.runs.folders import ADAPTER_WEIGHTS, MERGED
from pipeline.tokenization.gguf_vocabulary import vocabulary_refusal

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
        refusal: (config, base model) -> why it is not made of them, in a sentence; empty where it is.
    """

    what: str
    folder: str
    weights: str
    card: str
    bytes: Callable[[Config, ModelShape, BaseModel | None], int]
    refusal: Callable[[Config, BaseModel], str] = lambda config, base: ""


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


# Bytes of a block of 32 weights, its scales included; embeddings and head are held in 8 bits where the others have fewer.
_BLOCK_BYTES = {"f16": 64, "bf16": 64, "q8_0": 34, "q5_1": 24, "q5_0": 22, "q4_1": 20, "q4_0": 18}
_VOCABULARY_BYTES = 16 << 20
_FEWER_BITS = {
    "f16": "in 16 bits (float16)", "bf16": "in 16 bits (bfloat16)", "q8_0": "in 8 bits: half the size, and next to nothing lost",
    "q5_1": "in 5 bits, two scales a block", "q5_0": "in 5 bits", "q4_1": "in 4 bits, two scales a block",
    "q4_0": "in 4 bits: the smallest, and the most is lost",
}  # fmt: skip


def gguf_bytes(kind: str, base: BaseModel) -> int:
    """A GGUF file's weights and vocabulary.

    Args:
        kind: how its matrices are held: `q8_0`.
    """
    return _gguf_bytes_of(kind, *_counted(base))


def _counted(base: BaseModel) -> tuple[int, int]:
    """How many numbers the base model's files hold, and how many of them are in embeddings and head."""
    shape = read_shape(base)
    return _weights(base), (1 if shape.tied_embeddings else 2) * shape.vocabulary * shape.hidden


def _gguf_bytes_of(kind: str, weights: int, in_embeddings: int) -> int:
    few, most = _BLOCK_BYTES[kind], max(_BLOCK_BYTES[kind], _BLOCK_BYTES["q8_0"])
    rest = max(0, weights - in_embeddings)
    return (rest * few + min(weights, in_embeddings) * most) // 32 + _VOCABULARY_BYTES


def _gguf_outline(name: str) -> FormatOutline:
    kind = name.removeprefix("gguf_")

    def of(config: Config, shape: ModelShape, base: BaseModel | None) -> int:
        if base:
            return gguf_bytes(kind, base) + _BESIDE_WEIGHTS
        return _gguf_bytes_of(kind, shape.parameters, shape.vocabulary * shape.hidden) + _BESIDE_WEIGHTS

    return FormatOutline(
        what=f"one GGUF file for llama.cpp, Ollama, LM Studio, {_FEWER_BITS[kind]}; opened by llama.cpp before it is packaged",
        folder=name,
        weights="*.gguf",
        card=f"`{name}/` holds the model it makes of its base as a GGUF file, {_FEWER_BITS[kind].partition(':')[0]}.",
        bytes=of,
        refusal=_gguf_refusal,
    )


def eight_bit_bytes(base: BaseModel) -> int:
    """The weights of a model whose linear layers are held in 8 bits, embeddings and head in 16."""
    return _eight_bit_bytes_of(*_counted(base))


def _eight_bit_bytes_of(weights: int, in_embeddings: int) -> int:
    rest = max(0, weights - in_embeddings)
    return rest + rest // 64 + 2 * min(weights, in_embeddings)  # a scale for each row of some hundred at least


def _eight_bits(config: Config, shape: ModelShape, base: BaseModel | None) -> int:
    if base:
        return eight_bit_bytes(base) + _BESIDE_WEIGHTS
    return _eight_bit_bytes_of(shape.parameters, shape.vocabulary * shape.hidden) + _BESIDE_WEIGHTS


def _eight_bit_refusal(config: Config, base: BaseModel) -> str:
    if read_shape(base).experts:
        return "a mixture of experts keeps its experts in 16 bits here, which are nearly all of it; merged is made of every model"
    return ""


def _lora_refusal(config: Config, base: BaseModel) -> str:
    return gguf_refusal(base) or ("llama.cpp adds no DoRA adapter to a model as it computes" if config.train.lora.dora else "")


OLLAMA_KIND = "q8_0"


def _gguf_refusal(config: Config, base: BaseModel) -> str:
    return gguf_refusal(base) or (vocabulary_refusal(base.path) if base.kind == "folder" else "")


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
    "gguf_f16": _gguf_outline("gguf_f16"),
    "gguf_bf16": _gguf_outline("gguf_bf16"),
    "gguf_q8_0": _gguf_outline("gguf_q8_0"),
    "gguf_q5_1": _gguf_outline("gguf_q5_1"),
    "gguf_q5_0": _gguf_outline("gguf_q5_0"),
    "gguf_q4_1": _gguf_outline("gguf_q4_1"),
    "gguf_q4_0": _gguf_outline("gguf_q4_0"),
    "gguf_lora": FormatOutline(
        what="the adapter alone for llama.cpp's --lora, beside a GGUF file of the base model: small, several beside one base",
        folder="gguf_lora",
        weights="*.gguf",
        card="`gguf_lora/` holds this adapter as a GGUF file, for a GGUF file of the base model.",
        bytes=_adapter_bytes,
        refusal=_lora_refusal,
    ),
    "ollama": replace(
        _gguf_outline(f"gguf_{OLLAMA_KIND}"),
        what="a GGUF file in 8 bits and the Modelfile that ollama create takes: its chat template in Ollama's own language",
        folder="ollama",
        card="`ollama/` holds the model it makes of its base for Ollama: a GGUF file and its Modelfile.",
    ),
    "runtime_int8": FormatOutline(
        what="adapter and base in one model of 8 bits that transformers loads as it is, with bitsandbytes; half the size",
        folder="runtime_int8",
        weights="*.safetensors",
        card="`runtime_int8/` holds the model it makes of its base in 8 bits, for transformers with bitsandbytes.",
        bytes=_eight_bits,
        refusal=_eight_bit_refusal,
    ),
    "vllm_int8": FormatOutline(
        what="the same for vLLM, as compressed-tensors publishes 8-bit weights; opened by transformers, not by vLLM",
        folder="vllm_int8",
        weights="*.safetensors",
        card="`vllm_int8/` holds the model it makes of its base in 8 bits, in compressed-tensors' form, for vLLM.",
        bytes=_eight_bits,
        refusal=_eight_bit_refusal,
    ),
}
FORMAT_CHOICES = tuple(Choice(name, outline.what) for name, outline in EXPORT_FORMATS.items())


def format_bytes(config: Config, shape: ModelShape, base: BaseModel | None) -> dict[ExportFormat, int]:
    """Bytes of each format there is, whether the config asks for it or not.

    Args:
        base: the base model where it is on this machine.
    """
    return {name: outline.bytes(config, shape, base) for name, outline in EXPORT_FORMATS.items()}


def of_config(config: Config, sizes: Mapping[ExportFormat, int]) -> dict[str, int]:
    """The sizes of those formats that the config asks for."""
    return {name: sizes[name] for name in config.export.formats}
