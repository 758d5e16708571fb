"""A package's JSON files, written so that readers older or other than the libraries that made them read the same.

transformers 5 and today's peft write keys that transformers 4, peft before 0.14, mlx_lm and llama.cpp's converter refuse, or look
for elsewhere and take a default in their place. Each function here says what a document says in both ways; what asks for
something an older reader does not have stays, so that it refuses instead of computing something else.
"""

from __future__ import annotations

from typing import Any

# Settings of peft 0.11, which every later version has too.
_ADAPTER_SETTINGS = frozenset({
    "auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha",
    "lora_dropout", "peft_type", "r", "revision", "target_modules", "task_type", "use_dora", "use_rslora",
})  # fmt: skip
# They say who wrote it, or where a library is, and nothing of the adapter.
_SAYS_NOTHING = frozenset({"megatron_core", "peft_version"})
# Of what a saved tokenizer's config says only how it was loaded here.
_HOW_LOADED = ("is_local", "local_files_only")
# What a theta of some layers is called at the top level: of each model_type that has more than one.
_LOCAL_THETA = {"gemma3": "rope_local_base_freq", "gemma3_text": "rope_local_base_freq", "gemma3n_text": "rope_local_base_freq"}
# Names that came before transformers agreed on some: of the rotary embedding, of other settings, of the kinds of layers.
_OLD_ROTARY = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}
_OLD_NAMES = {"qwen3_moe": {"num_local_experts": "num_experts"}}
_OLD_LAYERS = {"granitemoehybrid": {"linear_attention": "mamba", "full_attention": "attention"}}
# transformers 4 knows the kinds that are older than `rope_type` by `type`, and Phi 3 and OLMo by nothing else.
_OLD_KINDS = ("linear", "dynamic", "longrope")
# All that it knows; another under its key would only hide `rope_parameters` from transformers 5.
_KINDS_OF_4 = (*_OLD_KINDS, "yarn", "llama3")


def adapter_config(document: dict[str, Any]) -> dict[str, Any]:
    """`adapter_config.json` without what asks for nothing: peft before 0.14 refuses every key it does not know."""
    return {name: value for name, value in document.items() if _asks(name, value)}


def _asks(name: str, value: Any) -> bool:
    if value is None or name in _SAYS_NOTHING:
        return False
    if name in _ADAPTER_SETTINGS:
        return True
    # A number belongs to something that is switched on by another key.
    return value is True or (isinstance(value, (str, list, dict)) and bool(value))


def tokenizer_config(document: dict[str, Any]) -> dict[str, Any]:
    """`tokenizer_config.json` with a class that every version has, and special tokens under the name that every version reads."""
    found = {name: value for name, value in document.items() if name not in _HOW_LOADED}
    if found.get("tokenizer_class") == "TokenizersBackend":
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(found.get("extra_special_tokens"), list):
        more = found.pop("extra_special_tokens")
        known = found.get("additional_special_tokens") or []
        found["additional_special_tokens"] = [*known, *(token for token in more if token not in known)]
    return found


def model_config(document: dict[str, Any]) -> dict[str, Any]:
    """`config.json` with the type of its weights and its rotary embedding under the names of transformers 4 and of 5."""
    found = dict(document)
    for name, other in (("dtype", "torch_dtype"), ("torch_dtype", "dtype")):
        if found.get(name) is not None:
            found.setdefault(other, found[name])
    model_type = str(found.get("model_type"))
    for name, old in _OLD_NAMES.get(model_type, {}).items():
        found |= {old: found[name]} if name in found else {}
    if isinstance(kinds := found.get("layer_types"), list):
        found["layer_types"] = [_OLD_LAYERS.get(model_type, {}).get(kind, kind) for kind in kinds]
    rope = found.get("rope_parameters")
    if isinstance(rope, dict):
        found |= {name: value for name, value in _rotary(found, rope).items() if found.get(name) is None}
    for name, value in found.items():
        if name.endswith("_config") and isinstance(value, dict):
            found[name] = model_config(value)
    return found


def _rotary(config: dict[str, Any], rope: dict[str, Any]) -> dict[str, Any]:
    """What transformers 4 has at the top level for `rope_parameters`, which may be nested below the kinds of layers."""
    model_type = str(config.get("model_type"))
    whole = rope.get("full_attention", rope)
    if not isinstance(whole, dict) or any(isinstance(value, dict) for value in whole.values()):
        return {}
    found: dict[str, Any] = {name: whole[name] for name in ("rope_theta", "partial_rotary_factor") if name in whole}
    for name, old in _OLD_ROTARY.get(model_type, {}).items():
        found |= {old: found[name]} if name in found else {}
    local = rope.get("sliding_attention")
    if model_type in _LOCAL_THETA and isinstance(local, dict) and "rope_theta" in local:
        found[_LOCAL_THETA[model_type]] = local["rope_theta"]
    if whole.get("rope_type", "default") in _KINDS_OF_4:
        found["rope_scaling"] = _scaling(config, whole)
    return found


def _scaling(config: dict[str, Any], rope: dict[str, Any]) -> dict[str, Any]:
    """`rope_scaling` as transformers 4 publishes it: strict readers count its keys."""
    kind = rope["rope_type"]
    rest = {
        name: value for name, value in rope.items() if name not in ("rope_theta", "partial_rotary_factor", "rope_type", "type")
    }
    if config.get("original_max_position_embeddings") == rest.get("original_max_position_embeddings"):
        rest.pop("original_max_position_embeddings", None)  # it stands beside
    return {"type" if kind in _OLD_KINDS else "rope_type": kind, **rest}
