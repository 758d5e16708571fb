"""The families of models that a GGUF file can be written of: what llama.cpp calls them, and what of them is held in another way.

A family without a row is refused before anything is spent: a file that llama.cpp reads in another way answers nonsense.
Checked against llama.cpp's own reading of the files, family by family, in `tests/pipeline/export/gguf`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel


@dataclass(frozen=True)
class GgufFamily:
    """Models that are written alike.

    Attributes:
        model_type: of config.json.
        architecture: `general.architecture` of the file.
        interleaved: llama.cpp turns neighbouring features of a head together, transformers those that lie half a head apart: the
            rows of the query's and key's weights change places within each head.
        norm_shift: is added to the weights of norms, which transformers adds as it computes.
        windowed: llama.cpp knows the sliding window of this family; where it doesn't, the file's context ends with the window.
    """

    model_type: str
    architecture: str
    interleaved: bool = False
    norm_shift: float = 0.0
    windowed: bool = False


_FAMILIES = (
    GgufFamily("llama", "llama", interleaved=True),
    GgufFamily("mistral", "llama", interleaved=True),
    GgufFamily("qwen2", "qwen2"),
    GgufFamily("qwen3", "qwen3"),
    GgufFamily("smollm3", "smollm3", interleaved=True),
    GgufFamily("phi3", "phi3", windowed=True),
    GgufFamily("olmo2", "olmo2"),
    GgufFamily("granite", "granite", interleaved=True),
    GgufFamily("gemma3_text", "gemma3", norm_shift=1.0, windowed=True),
    GgufFamily("gemma3", "gemma3", norm_shift=1.0, windowed=True),
)
GGUF_FAMILIES: Mapping[str, GgufFamily] = {family.model_type: family for family in _FAMILIES}
# Of a GGUF base every entry is carried over as it stands; only where the rows of the query and key lie has to be known.
_ARCHITECTURES = {family.architecture: family for family in _FAMILIES}
_ROTARY = ("default", "linear", "yarn", "llama3", "longrope")


def family_for(base: BaseModel) -> GgufFamily | None:
    """The row of a base model; None where there is none."""
    if base.kind == "gguf":
        return _ARCHITECTURES.get(read_header(base.path).architecture)
    return GGUF_FAMILIES.get(str(_config(base).get("model_type", "")))


def gguf_refusal(base: BaseModel) -> str:
    """Why no GGUF file is written of a model that is made of this base, in a sentence; empty where one is."""
    family = family_for(base)
    if family is None:
        kind = read_header(base.path).architecture if base.kind == "gguf" else _config(base).get("model_type", "?")
        return f"models of the kind {kind} are not written as GGUF by this version; merged is, for llama.cpp's own converter"
    if base.kind == "gguf":
        return ""
    config = _config(base)
    text = config.get("text_config")
    config = config | text if isinstance(text, dict) else config
    return _computes_otherwise(config, family)


def _computes_otherwise(config: dict[str, Any], family: GgufFamily) -> str:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in _ROTARY:
        return f"its rotary embedding is scaled in a way ({kind}) that is not written as GGUF by this version"
    if family.architecture == "smollm3" and not _each_fourth_unturned(config):
        return "llama.cpp leaves each fourth layer of SmolLM 3 without a rotary embedding, and this model others"
    if family.architecture == "gemma3" and not _each_sixth_whole(config):
        return "llama.cpp gives each sixth layer of Gemma 3 the whole text, and this model others"
    return ""


def _each_fourth_unturned(config: dict[str, Any]) -> bool:
    turned, step = config.get("no_rope_layers"), config.get("no_rope_layer_interval", 4)
    if not isinstance(turned, list):
        return bool(step == 4)
    return turned == [int((layer + 1) % 4 != 0) for layer in range(len(turned))]


def _each_sixth_whole(config: dict[str, Any]) -> bool:
    types = config.get("layer_types")
    if not isinstance(types, list):
        return bool(config.get("sliding_window_pattern", 6) == 6)
    return types == ["sliding_attention" if (layer + 1) % 6 else "full_attention" for layer in range(len(types))]


def _config(base: BaseModel) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
    return found
