"""A model's decoder layers described by their parts: which norms stand where, what is rotated, what a token sees.

Asked of the modules and of what they compute, never of the architecture's name: a norm or an activation is called with a few
numbers, a part that is not known here is named. The description is what layers with another inside (`training.fused`) are built
from; whether those compute the same is proved on the loaded model (`training.proof`). The same questions are asked of a model
on torch's meta device, so that a plan says what training will.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from pipeline.base_model.described import Described, dropout_in_attention, not_written_for, other_activation

Activation = Literal["silu", "gelu_tanh"]
"""Of a gate: `x × sigmoid(x)`, or the approximation of GELU by tanh (Hendrycks and Gimpel 2016)."""

_ATTENTIONS = (("q_proj", "k_proj", "v_proj"), ("qkv_proj",))
# (names of what computes gate and up, name of what reads their product)
_MLPS = ((("gate_proj", "up_proj"), "down_proj"), (("gate_up_proj",), "down_proj"), (("input_linear",), "output_linear"))
_NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
# What transformers' rotary modules compute angles from (`modeling_rope_utils`).
_OF_ROTARY = {
    "rope_type", "type", "rope_theta", "factor", "partial_rotary_factor", "original_max_position_embeddings", "attention_factor",
    "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "short_factor", "long_factor", "low_freq_factor",
    "high_freq_factor",
}  # fmt: skip
_PROBE = 17  # numbers that an activation is asked about


class NotDescribed(Exception):
    """A model has what the description has no words for; the message says what."""

    def __init__(self, words: str) -> None:
        super().__init__(words if words.startswith("the fused ones") else f"the fused ones {words}")


@dataclass(frozen=True)
class Norm:
    """RMSNorm: features over the root of their mean square plus `eps`, times the weight plus `offset`."""

    module: Any
    eps: float
    offset: float

    @property
    def features(self) -> int:
        return int(self.module.weight.numel())

    def weight(self) -> torch.Tensor:
        """What the normed features are multiplied by, (features,) float32."""
        found: torch.Tensor = self.module.weight.data.float() + self.offset
        return found


@dataclass(frozen=True)
class LayerParts:
    """One decoder layer: `x + norm(attention(norm(x)))`, then the same with the MLP; each norm may be missing.

    Attributes:
        qkv, o, gate_up, down: linear layers, those together that read the same; `peft` around them or not. Query, key and value
            come from three or, side by side, from one; so do gate and up.
        heads, key_heads, head_dim: of queries; of keys, as many of values; features of each.
        scale: of the scores.
        before_attention, after_attention, before_mlp, after_mlp: norms of what a block reads and of what it gives.
        query_norm, key_norm: of each head's features, or of all heads' together.
        window: tokens that a token sees, itself included; 0 for all before it.
        rotation: which of the decoder's rotary angles turn query and key, "" where there is one kind; None for none.
        residual: what a block's output is multiplied by before it is added.
        activation: of the gate.
    """

    qkv: tuple[Any, ...]
    o: Any
    gate_up: tuple[Any, ...]
    down: Any
    heads: int
    key_heads: int
    head_dim: int
    scale: float
    before_attention: Norm | None
    after_attention: Norm | None
    before_mlp: Norm | None
    after_mlp: Norm | None
    query_norm: Norm | None
    key_norm: Norm | None
    window: int
    rotation: str | None
    residual: float
    activation: Activation

    @property
    def groups(self) -> tuple[tuple[Any, ...], ...]:
        """The linear layers, those together that read the same input, in the order of the layer."""
        return self.qkv, (self.o,), self.gate_up, (self.down,)


@dataclass(frozen=True)
class DecoderParts:
    """A decoder between its embedding and its head.

    Attributes:
        embedding: called with ids, scales what it looks up itself where the model does; then times `embedding_scale`.
        rotary: computes angles of positions; None where nothing is rotated.
        norm: of the last layer's output.
        head: (vocabulary, hidden) linear.
        logit_scale: what logits are multiplied by.
    """

    layers: tuple[LayerParts, ...]
    embedding: Any
    embedding_scale: float
    rotary: Any
    norm: Norm
    head: Any
    logit_scale: float


def describe(causal: Any) -> DecoderParts:
    """The parts of a causal model of transformers, loaded or on the meta device, with `peft` around its linear layers or not.

    Raises:
        NotDescribed: it has others.
    """
    with torch.device("cpu"):  # what modules are asked with, whatever the model is on
        return _described(causal)


def _described(causal: Any) -> DecoderParts:
    decoder = causal.get_decoder()
    if not all(hasattr(decoder, name) for name in ("embed_tokens", "layers", "norm")):
        raise NotDescribed(not_written_for(causal.config.model_type))
    config = causal.config.get_text_config(decoder=True)
    _only(decoder, ("embed_tokens", "layers", "norm", "rotary_emb"), "its decoder")
    _check_rope(config)
    if any(len(getattr(module, "lora_magnitude_vector", ())) for module in causal.modules()):
        raise NotDescribed("have no DoRA")
    head = causal.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise NotDescribed("have no bias on the output head")
    if getattr(config, "final_logit_softcapping", None):
        raise NotDescribed("don't cap the logits")
    rotary = getattr(decoder, "rotary_emb", None)
    layers = tuple(_Layer(layer, number, config, rotary).parts() for number, layer in enumerate(decoder.layers))
    residuals = {layer.residual for layer in layers}
    if residuals != {1.0} and (len(residuals) > 1 or not all(_read_through_norms(layer) for layer in layers)):
        raise NotDescribed("scale what a layer adds only where all layers do alike and read it through norms")
    return DecoderParts(
        layers,
        decoder.embed_tokens,
        float(getattr(decoder, "embedding_multiplier", 1.0)),
        rotary,
        norm_of(decoder.norm, "the last norm"),
        head,
        1 / float(getattr(config, "logits_scaling", 1.0)),
    )


def described(causal: Any) -> Described:
    """What a plan needs of the parts, or why they can't be told."""
    try:
        layer = describe(causal).layers[0]
    except NotDescribed as reason:
        return Described(str(reason))
    return Described(
        norms_before=sum(norm is not None for norm in (layer.before_attention, layer.before_mlp)),
        norms_behind=sum(norm is not None for norm in (layer.after_attention, layer.after_mlp)),
        head_norms=layer.query_norm is not None,
    )


def _read_through_norms(layer: LayerParts) -> bool:
    return bool(layer.before_attention and layer.before_mlp) and not (layer.after_attention or layer.after_mlp)


class _Layer:
    """The questions that are asked of one decoder layer."""

    def __init__(self, layer: Any, number: int, config: Any, rotary: Any) -> None:
        self._layer, self._number, self._config, self._rotary = layer, number, config, rotary

    def parts(self) -> LayerParts:
        layer, config = self._layer, self._config
        attention = getattr(layer, "self_attn", None)
        mlp_name = next((name for name in ("mlp", "shared_mlp") if getattr(layer, name, None) is not None), "")
        if attention is None or not mlp_name:
            raise NotDescribed("know layers of attention and an MLP only")
        _only(layer, ("self_attn", mlp_name, *_NORMS), "its layers")
        mlp = getattr(layer, mlp_name)
        qkv = next((names for names in _ATTENTIONS if all(hasattr(attention, name) for name in names)), ())
        gate_up, down = next((each for each in _MLPS if all(hasattr(mlp, name) for name in (*each[0], each[1]))), ((), ""))
        if not all(isinstance(getattr(attention, name, None), (int, float)) for name in ("head_dim", "scaling")):
            raise NotDescribed(f"don't know the scores of {type(attention).__name__}")
        if not qkv or not gate_up:
            raise NotDescribed(f"don't know the linear layers of {type(attention if not qkv else mlp).__name__}")
        _only(attention, (*qkv, "o_proj", "q_norm", "k_norm"), "its attention")
        _only(mlp, (*gate_up, down), "its MLP")
        if dropout := getattr(attention, "attention_dropout", None) or getattr(config, "attention_dropout", None):
            raise NotDescribed(dropout_in_attention(dropout))
        if getattr(attention, "attn_logit_softcapping", None):
            raise NotDescribed("don't cap the scores of attention")
        before_attention, after_attention, before_mlp, after_mlp = self._norms()
        dim = int(attention.head_dim)
        heads = _features(attention.o_proj)[0] // dim
        outputs = sum(_features(getattr(attention, name))[1] for name in qkv) // dim
        query_norm, key_norm = (self._norm(attention, name) for name in ("q_norm", "k_norm"))
        if (query_norm is None) != (key_norm is None):
            raise NotDescribed("norm query and key or neither")
        return LayerParts(
            tuple(getattr(attention, name) for name in qkv), attention.o_proj, tuple(getattr(mlp, name) for name in gate_up),
            getattr(mlp, down), heads, (outputs - heads) // 2, dim, float(attention.scaling), before_attention, after_attention,
            before_mlp, after_mlp, query_norm, key_norm, self._window(attention), self._rotation(attention),
            float(getattr(layer, "residual_multiplier", 1.0)), self._activation(mlp),
        )  # fmt: skip

    def _norms(self) -> tuple[Norm | None, Norm | None, Norm | None, Norm | None]:
        """Before and after attention, before and after the MLP. `post_attention_layernorm` is what the MLP reads through, unless
        what the MLP gives has a norm of its own: then it is attention's counterpart of that."""
        first, second, before, after = (self._norm(self._layer, name) for name in _NORMS)
        found = (first, None, second, None) if before is None and after is None else (first, second, before, after)
        if not (found[0] or found[1]) or not (found[2] or found[3]):
            raise NotDescribed("know no block without a norm")
        return found

    @staticmethod
    def _norm(owner: Any, name: str) -> Norm | None:
        module = getattr(owner, name, None)
        return None if module is None else norm_of(module, name)

    def _window(self, attention: Any) -> int:
        """What the layer says itself; where it says nothing, its config's."""
        owner = attention if hasattr(attention, "sliding_window") else self._config
        window = int(getattr(owner, "sliding_window", None) or 0)
        kinds = getattr(self._config, "layer_types", None)
        if window and kinds and kinds[self._number] != "sliding_attention":  # the window is another's, by a rule of the class
            raise NotDescribed(f"don't know which window a layer of {kinds[self._number]} has in {type(attention).__name__}")
        return window

    def _rotation(self, attention: Any) -> str | None:
        if self._rotary is None or not getattr(attention, "use_rope", True):
            return None
        if "layer_type" not in inspect.signature(type(self._rotary).forward).parameters:
            return ""
        return str(self._config.layer_types[self._number])

    def _activation(self, mlp: Any) -> Activation:
        """Of the gate, as what it computes of a few numbers shows it."""
        act = next((found for name in ("act_fn", "activation_fn", "activation") if (found := getattr(mlp, name, None))), None)
        x = torch.linspace(-4, 4, _PROBE)
        known: dict[Activation, torch.Tensor] = {
            "silu": functional.silu(x),
            "gelu_tanh": functional.gelu(x, approximate="tanh"),
        }
        found = act(x.clone()) if callable(act) else x
        if same := next((name for name, wanted in known.items() if torch.allclose(found, wanted, atol=1e-5)), None):
            return same
        named = (getattr(self._config, name, None) for name in ("hidden_act", "hidden_activation"))
        raise NotDescribed(other_activation(next(filter(None, named), type(act).__name__)))


def _check_rope(config: Any) -> None:
    """Refuse what a model does by its positions beside turning queries and keys: its rotary module does not know of it."""
    parameters = getattr(config, "rope_parameters", None) or {}
    for each in (parameters, *parameters.values()):
        if isinstance(each, Mapping):
            names = {name for name, value in each.items() if not isinstance(value, Mapping)}
            if unknown := sorted(names - _OF_ROTARY - set(getattr(config, "layer_types", None) or ())):
                raise NotDescribed(f"don't know {unknown[0]} of its positions")


def _only(module: Any, known: Iterable[str], whose: str) -> None:
    """Refuse a module with other parts than those, with weights of its own or with dropout."""
    for name, value in vars(module).items():
        if "drop" in name and name != "attention_dropout" and isinstance(value, float) and value:
            raise NotDescribed(f"have no dropout of the model's own, {whose} have {value:g} ({name})")
    for name, child in module.named_children():
        if isinstance(child, nn.Identity) or (isinstance(child, nn.Dropout) and not child.p):
            continue
        if isinstance(child, nn.Dropout):
            raise NotDescribed(f"have no dropout of the model's own, {whose} have {child.p:g} ({name})")
        if name not in known and any(True for _ in child.parameters()):
            raise NotDescribed(f"don't know {name} of {whose}")
    if own := next((name for name, _ in module.named_parameters(recurse=False)), ""):
        raise NotDescribed(f"don't know {own} of {whose}")


def _features(linear: Any) -> tuple[int, int]:
    """(inputs, outputs)."""
    return int(linear.in_features), int(linear.out_features)


# ------------------------------------------------------------------------------------ what a module computes


def norm_of(module: Any, name: str) -> Norm:
    """An RMSNorm, as what it computes of a few numbers shows it.

    Raises:
        NotDescribed: it computes something else.
    """
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    weight = getattr(module, "weight", None)
    if isinstance(eps, float) and isinstance(weight, torch.Tensor) and weight.dim() == 1:
        asked = _on_the_cpu(module)
        draw = torch.Generator().manual_seed(0)
        own = torch.rand(weight.numel(), generator=draw) + 0.5
        asked.weight.data = own
        x = torch.randn(2, weight.numel(), generator=draw) * eps**0.5  # so small that what is added to the squares shows
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        with torch.no_grad():
            found = asked(x)
        for offset in (0.0, 1.0):
            if torch.allclose(found, normed * (own + offset), rtol=1e-4, atol=1e-5):
                return Norm(module, eps, offset)
    raise NotDescribed(f"know RMSNorm only, {name} is {type(module).__name__}")


def _on_the_cpu(module: Any) -> Any:
    """One like it with weights of its own, none of them read."""
    on_meta = {name: torch.empty_like(each, device="meta") for name, each in module.named_parameters()}
    memo = {id(each): nn.Parameter(on_meta[name], requires_grad=False) for name, each in module.named_parameters()}
    return copy.deepcopy(module, memo).to_empty(device="cpu").float()
