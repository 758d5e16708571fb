"""The sizes of a base model: what memory, adapters and the plan are computed from.

Read from config.json or from a GGUF file's metadata, never from the weights; for a model that is not here yet the catalogue has
them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipeline.base_model.architecture import Architecture, read_architecture, source_at
from pipeline.base_model.described import (
    ACTIVATIONS,
    Described,
    dropout_in_attention,
    not_asked,
    other_activation,
)
from pipeline.base_model.experts import experts_of
from pipeline.base_model.families import SOURCE_WIDTH, Width, family_of, packed_see_each_other
from pipeline.base_model.footprint import Footprint, key
from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.untrusted_files import parameters_in, safetensors_header, weights_problem
from pipeline.common.errors import BadInput


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder-only transformer, in numbers of features, layers, heads, tokens.

    Attributes:
        intermediate: width of the MLP.
        max_positions: tokens of the longest sequence it was made for; 0 where unknown.
        model_type: of config.json, or a GGUF file's architecture; `families.family_of` tells what its layers are called.
        experts: of each of its `expert_layers`; `experts_per_token` of them see a token, `expert_width` features wide, and an MLP
            of `shared_width` sees every token beside them. All 0 in a model without.
        experts_beside_mlp: those layers have their MLP too.
        tower_parameters: weights of what is no decoder: vision, audio. An estimate: nearly all of them are in linear layers.
        window: tokens that a token sees in the layers that see fewest, itself included; 0 where all see all before it.
        activation, attention_dropout: of the MLP; share of the attention weights that is dropped in training.
        packed_see_each_other: see `families.packed_see_each_other`.
        architecture: what was asked of the model's class before; None where nothing was.
        footprints: what was measured of its layers, by `footprint.key`.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied_embeddings: bool = False
    max_positions: int = 0
    model_type: str = "llama"
    experts: int = 0
    experts_per_token: int = 0
    expert_width: int = 0
    shared_width: int = 0
    expert_layers: int = 0
    experts_beside_mlp: bool = False
    tower_parameters: int = 0
    window: int = 0
    activation: str = "silu"
    attention_dropout: float = 0.0
    packed_see_each_other: bool = False
    architecture: Architecture | None = field(default=None, compare=False, repr=False)
    footprints: Mapping[str, Footprint] = field(default_factory=dict, compare=False, repr=False)

    def footprint(self, device: str, compute_dtype: str, attention: str) -> Footprint | None:
        """What was measured of its layers, None where nothing was.

        Args:
            device: "cuda" or "cpu".
            attention: "sdpa" or "varlen"; a class that knows no sdpa attends as "eager" does.
        """
        found = self.footprints.get(key(device, compute_dtype, attention))
        return found or (self.footprints.get(key(device, compute_dtype, "eager")) if attention == "sdpa" else None)

    @property
    def described(self) -> Described:
        """Its decoder layers by their parts: as its class told them, else as its family and its config let know."""
        if self.architecture and self.architecture.described:
            return self.architecture.described
        family = family_of(self.model_type)
        if not family.fused:
            return Described(not_asked(self.model_type))
        if self.activation not in ACTIVATIONS:
            return Described(other_activation(self.activation))
        if self.attention_dropout:
            return Described(dropout_in_attention(self.attention_dropout))
        norms = family.norms or ("hidden", "hidden")
        return Described("", norms.count("hidden") - family.norms_behind, family.norms_behind, "query" in norms)

    @property
    def widths(self) -> dict[Width, int]:
        """Features of what passes through a decoder layer, by the name that `families` has for it."""
        return {
            "hidden": self.hidden,
            "query": self.heads * self.head_dim,
            "key": self.kv_heads * self.head_dim,
            "intermediate": self.intermediate,
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers: what a precision mode quantizes. Those of towers too; not those of experts."""
        of_decoder = sum(self.layers_with(name) * inputs * outputs for name, (inputs, outputs) in linear_layers(self).items())
        return of_decoder + 3 * self.expert_layers * self.hidden * self.shared_width + self.tower_parameters

    @property
    def linear_outputs(self) -> int:
        """Output features of those of the decoder, all layers together."""
        shared = self.expert_layers * (2 * self.shared_width + self.hidden if self.shared_width else 0)
        return sum(self.layers_with(name) * outputs for name, (_, outputs) in linear_layers(self).items()) + shared

    @property
    def expert_parameters(self) -> int:
        """Weights of all experts, and of what chooses among them: never quantized."""
        each = 3 * self.hidden * self.expert_width + self.hidden
        return self.expert_layers * self.experts * each

    def layers_with(self, name: str) -> int:
        """How many decoder layers have the linear layer of that name."""
        in_mlp = name not in family_of(self.model_type).attention_layers
        return self.layers - (self.expert_layers if in_mlp and not self.experts_beside_mlp else 0)

    @property
    def embedding_parameters(self) -> int:
        """Embeddings and output head, never quantized; one matrix where they are tied."""
        return self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def norm_parameters(self) -> int:
        return (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, biases left out (they are below a thousandth)."""
        return self.linear_parameters + self.expert_parameters + self.embedding_parameters + self.norm_parameters

    def to_json(self) -> dict[str, Any]:
        """All; what came later only where it says something, so that what was found by the others is still found. Not what was
        asked of the model's class: it follows from the rest."""
        asked = ("architecture", "footprints")
        sizes = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in asked}
        return {name: value for name, value in sizes.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ModelShape:
        return cls(**{each.name: document[each.name] for each in fields(cls) if each.name in document})


_LATER: dict[str, Any] = {
    "experts": 0, "experts_per_token": 0, "expert_width": 0, "shared_width": 0, "expert_layers": 0, "experts_beside_mlp": False,
    "tower_parameters": 0, "window": 0, "activation": "silu", "attention_dropout": 0.0, "packed_see_each_other": False,
}  # fmt: skip


def linear_layers(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """(inputs, outputs), in features, of each linear layer of one decoder layer, by the name `train.lora.target_modules` uses.
    Where every layer has experts in the place of its MLP, there is none of those.

    The names are the family's (`families.family_of`); of a family without a row they are Llama's, and sizes an estimate.
    """
    widths = shape.widths
    return {
        name: (widths[SOURCE_WIDTH[layer.source]], sum(widths[output] for output in layer.outputs))
        for name, layer in family_of(shape.model_type).layers.items()
        if shape.layers_with(name)
    }


def adapter_parameters(shape: ModelShape, rank: int, target_modules: Collection[str], *, dora: bool = False) -> int:
    """Trained parameters of a LoRA adapter: `rank × (inputs + outputs)` for each targeted layer (Hu et al. 2021, §4.1).

    Args:
        dora: with the length of each output's weights (Liu et al. 2024, §4.1).
    """
    if shape.architecture:
        return shape.architecture.adapter_parameters(rank, target_modules, dora=dora)
    sizes = linear_layers(shape)
    return sum(
        shape.layers_with(name) * (rank * sum(sizes[name]) + dora * sizes[name][1]) for name in target_modules if name in sizes
    )


def read_shape(base: BaseModel) -> ModelShape:
    """The shape of a model on this machine.

    Raises:
        BadInput: its config or metadata lacks a size; names it.
    """
    shape = _from_gguf(base.path) if base.kind == "gguf" else _from_folder(base)
    return replace(shape, architecture=read_architecture(source_at(base.path)))


def _from_folder(base: BaseModel) -> ModelShape:
    path = base.path / "config.json"
    config = language_model_config(json.loads(path.read_text(encoding="utf-8")))
    tied = config.get("tie_word_embeddings")
    return from_config(config, str(path), tied=_head_is_tied(base) if tied is None else bool(tied))


def shape_of_config(path: Path) -> ModelShape:
    """The shape that a `config.json` describes, while its weights are not here.

    Raises:
        BadInput: it lacks a size, or can't be read.
    """
    try:
        return replace(from_config(_text_config(path), str(path)), architecture=read_architecture(path))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BadInput(f"{path}: cannot be read as a model's config ({error})", "humigence model download") from error


def _text_config(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return language_model_config(document)


def language_model_config(config: dict[str, Any]) -> dict[str, Any]:
    """Of a model that also sees or hears, the part that writes, with what stands outside of it."""
    inner = config.get("text_config") if "hidden_size" not in config else None
    return {**config, **inner} if isinstance(inner, dict) else config


def checked_shape(base: BaseModel) -> ModelShape:
    """`read_shape`, held against the weights that are there.

    A model is made as its config describes it, before its weights are read: sizes that nothing stands behind are refused. The
    estimate of other architectures may be off, weights may be packed; four times is no error of an estimate.

    Raises `BadInput`.
    """
    if base.kind == "folder" and (lies := [lie for file in base.weight_files() if (lie := weights_problem(file))]):
        raise BadInput(f"{base.path}: {lies[0]}", "humigence model check; humigence model download fetches it again")
    shape, where = read_shape(base), base.path if base.kind == "gguf" else base.path / "config.json"
    if base.kind == "gguf":
        held = sum(math.prod(each) for each in read_header(base.path).tensors.values())
    else:
        held = sum(parameters_in(safetensors_header(file)[0]) for file in base.weight_files())
    if shape.parameters > 4 * held + (1 << 20):
        message = f"{where}: describes {shape.parameters:,} parameters, the weights hold {held:,}"
        raise BadInput(message, "its sizes are wrong: download the model again, or choose another")
    return shape


def _head_is_tied(base: BaseModel) -> bool:
    """For a config that doesn't say: tied weights are saved without the head."""
    return not any("lm_head.weight" in safetensors_header(file)[0] for file in base.weight_files())


def from_config(config: dict[str, Any], where: str, *, tied: bool | None = None) -> ModelShape:
    """The shape a Hugging Face `config.json` describes."""
    config = language_model_config(config)
    hidden, heads = _size(config, "hidden_size", where), _size(config, "num_attention_heads", where)
    model_type = str(config.get("model_type", ""))
    if tied is None:
        tied = bool(config.get("tie_word_embeddings", family_of(model_type).tied_by_default))
    layers = _size(config, "num_hidden_layers", where)
    experts = experts_of(config, layers)
    return ModelShape(
        hidden=hidden,
        intermediate=_mlp_width(config, where, 4 * hidden),
        layers=layers,
        heads=heads,
        kv_heads=_size(config, "num_key_value_heads", where, heads),
        head_dim=_size(config, "head_dim", where, hidden // heads),
        vocabulary=_size(config, "vocab_size", where),
        tied_embeddings=tied,
        max_positions=_size(config, "max_position_embeddings", where, 0),
        model_type=model_type,
        experts=experts.count,
        experts_per_token=experts.per_token,
        expert_width=experts.width,
        shared_width=experts.shared_width,
        expert_layers=experts.layers,
        experts_beside_mlp=experts.beside_mlp,
        tower_parameters=sum(_tower_parameters(config.get(name)) for name in ("vision_config", "audio_config")),
        window=_window(config),
        activation=str(config.get("hidden_act") or config.get("hidden_activation") or "silu"),
        attention_dropout=dropout if isinstance(dropout := config.get("attention_dropout"), float) else 0.0,
        packed_see_each_other=packed_see_each_other(config),
    )


def _mlp_width(config: dict[str, Any], where: str, default: int) -> int:
    """Of the MLP of a layer without experts; some configs name it another way where they also have experts."""
    for name in ("intermediate_size_mlp", *(() if experts_of(config, 1).count else ("shared_intermediate_size",))):
        if name in config:
            return _size(config, name, where)
    return _size(config, "intermediate_size", where, default)


def _tower_parameters(config: Any) -> int:
    """About the weights of a tower: layers with four projections and an MLP of two. 0 where its config says nothing."""
    if not isinstance(config, dict):
        return 0
    width, layers, inner = (
        next((value for name in names if type(value := config.get(name)) is int and 0 < value <= _LARGEST_SIZE), 0)
        for names in (("hidden_size", "embed_dim", "d_model"), ("num_hidden_layers", "depth", "encoder_layers"),
                      ("intermediate_size", "encoder_ffn_dim"))
    )  # fmt: skip
    return min(layers, _LARGEST["num_hidden_layers"]) * width * (4 * width + 2 * (inner or 4 * width))


def _window(config: dict[str, Any]) -> int:
    """Tokens of the attention window that some layer of the model has; 0 without one."""
    window, types, layers = config.get("sliding_window"), config.get("layer_types"), config.get("num_hidden_layers")
    qwen = str(config.get("model_type", "")).startswith("qwen")  # names a window that it does not use, unless it says so
    if type(window) is not int or window <= 0 or not config.get("use_sliding_window", not qwen):
        return 0
    if isinstance(types, list):
        return window if any("sliding" in str(each) for each in types) else 0
    first = config.get("max_window_layers") if qwen else 0  # layer from which on Qwen 2 has a window
    return 0 if isinstance(first, int) and isinstance(layers, int) and first >= layers else window


# Far above any model there is: a larger number is damage or malice, and memory is taken by it.
_LARGEST_SIZE = 1 << 24
_LARGEST = {"num_hidden_layers": 10_000, "max_position_embeddings": 1 << 31}


def _size(config: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
    for name in (key, *family_of(str(config.get("model_type", ""))).config_keys.get(key, ())):
        value = config.get(name)
        if isinstance(value, (int, float)) and not (type(value) is int and 0 < value <= _LARGEST.get(key, _LARGEST_SIZE)):
            raise BadInput(f"{where}: {name} is {str(value)[:40]}, which is no size of a model", "choose another base model")
        if isinstance(value, int):
            return value
    if default is None:
        raise BadInput(
            f"{where}: {key} is missing, so the size of the model is not known", "choose a decoder-only language model"
        )
    return default


def _from_gguf(path: Path) -> ModelShape:
    header = read_header(path)

    def number(key: str, default: int | None = None) -> int:
        value = header.number(key) or default
        if value is None:
            raise BadInput(f"{path}: {header.architecture}.{key} is missing, so the size of the model is not known")
        if not 0 < value <= (_LARGEST["num_hidden_layers"] if key == "block_count" else _LARGEST_SIZE):
            raise BadInput(f"{path}: {header.architecture}.{key} is {value}, which is no size of a model", "choose another file")
        return value

    hidden, heads = number("embedding_length"), number("attention.head_count")
    _, rows = header.tensors.get("token_embd.weight", (hidden, 0))
    return ModelShape(
        hidden=hidden,
        intermediate=number("feed_forward_length"),
        layers=number("block_count"),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head_dim=number("attention.key_length", hidden // heads),
        vocabulary=rows or number("vocab_size", header.lengths.get("tokenizer.ggml.tokens")),
        tied_embeddings="output.weight" not in header.tensors,
        max_positions=max(0, header.number("context_length") or 0),
        model_type=header.architecture,
        window=max(0, header.number("attention.sliding_window") or 0),
        packed_see_each_other=packed_see_each_other({"model_type": header.architecture}),
    )
