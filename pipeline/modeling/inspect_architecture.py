"""The facts of a model, asked of its own class: it is made on torch's meta device, where weights take no memory, and called once.

Nothing of this believes a name. What plain text never reaches is what was not called; what attention a class has it answers
itself; a layer's window is the one its cache would have. A list of architectures would be out of date with the next release.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from pipeline.base_model.architecture import (
    Architecture,
    Experts,
    Layer,
    LayerKind,
    read_architecture,
    store_architecture,
)
from pipeline.common.errors import BadInput, first_line
from pipeline.common.files import read_json
from pipeline.modeling.decoder_parts import described
from pipeline.modeling.gguf_config import gguf_config, require_every_tensor
from pipeline.modeling.inspect_linear_layers import HEAD, TOWER, is_below, linear_layers, pattern

# The best first. What keeps packed documents apart with them is `training.attention`'s affair.
_ATTENTION = ("sdpa", "eager")
_TOKENS = 8  # of the text that is passed through
_ANOTHER = "choose another base model"
# What a config that describes no model makes transformers raise.
_CONFIG_ERRORS = (
    OSError, ValueError, LookupError, NotImplementedError, TypeError, AttributeError, ArithmeticError, AssertionError,
    RecursionError, ImportError, RuntimeError, StrictDataclassError,
)  # fmt: skip


def architecture_of(source: Path, name: str, require_sizes: Callable[[], object] | None = None) -> Architecture:
    """The facts of a model; asked once for each config and version of transformers, then read.

    Args:
        source: its `config.json` or its GGUF file; weights are not read.
        name: what a person calls the model.
        require_sizes: raises where the sizes it is described with can't be true. Called before anything is made of them: on the
            meta device weights take no memory, but layers do.

    Raises:
        BadInput: it can't be trained here, with the reason.
    """
    facts = read_architecture(source)
    if facts is None:
        if source.suffix.lower() != ".gguf":
            _require_known(source, name)
        if require_sizes:
            require_sizes()
        model = _meta_model(_config(source, name), name)
        if source.suffix.lower() == ".gguf":
            require_every_tensor(source, name, model)
        facts = inspected(model)
        store_architecture(source, facts)
    return facts


# ------------------------------------------------------------------------------------------------- from config to class


def _config(source: Path, name: str) -> Any:
    try:
        if source.suffix.lower() != ".gguf":
            return AutoConfig.from_pretrained(source.parent, trust_remote_code=False, local_files_only=True)
        return gguf_config(source, name)
    except _CONFIG_ERRORS as error:
        raise _no_model(name, error) from error


def _require_known(source: Path, name: str) -> None:
    document = read_json(source)
    model_type = str(document.get("model_type", ""))
    if "quantization_config" in document:
        raise BadInput(f"{name} is quantized already", "choose the model it was made from: an adapter needs its own weights")
    if model_type in CONFIG_MAPPING:
        with_encoder = document.get("is_encoder_decoder", getattr(CONFIG_MAPPING[model_type], "is_encoder_decoder", False))
        _require_decoder(model_type, bool(with_encoder), name)
        return
    saved_with = str(document.get("transformers_version", ""))[:40]
    came_with = f"; the model was saved with transformers {saved_with}" if saved_with else ""
    message = f"{name}: transformers {_version()} does not know the architecture {model_type!r}{came_with}"
    raise BadInput(message, "pip install -U transformers, or choose another base model")


def _require_decoder(model_type: str, is_encoder_decoder: bool, name: str) -> None:
    if is_encoder_decoder:
        raise BadInput(f"{name}: {model_type} is an encoder with a decoder, not a decoder that continues a text", _ANOTHER)
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        only = " alone, only together with images" if model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES else ""
        raise BadInput(f"{name}: transformers {_version()} has no model of {model_type} that continues a text{only}", _ANOTHER)


def _meta_model(config: Any, name: str) -> Any:
    _require_decoder(config.model_type, config.is_encoder_decoder, name)
    try:
        with torch.device("meta"):
            # In 16 bits, as it will be: some products have kernels for nothing else.
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False).eval()
        _require_ends(model, name)
        return model
    except _CONFIG_ERRORS as error:
        raise _no_model(name, error) from error


def _require_ends(model: Any, name: str) -> None:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or not isinstance(embedding, nn.Embedding):
        raise BadInput(f"{name}: {type(model).__name__} has no embedding and head of tokens to train between", _ANOTHER)


def _no_model(name: str, error: Exception) -> BadInput:
    message = f"{name}: transformers {_version()} makes no model of its config: {first_line(error)}"
    return BadInput(message, "humigence model check; or choose another base model")


def _version() -> str:
    return importlib.metadata.version("transformers")


# ------------------------------------------------------------------------------------------------- asking


def inspected(model: Any) -> Architecture:
    """The facts of a causal model of transformers, on the meta device or loaded in 16 or 32 bits.

    Raises:
        BadInput: its attention sees what follows.
    """
    modules = dict(model.named_modules())
    paths = {id(module): path for path, module in modules.items()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    language_model = paths[id(embedding)].rpartition(".")[0]
    called = _called(model, modules)
    towers = tuple(_towers(modules, language_model, called, paths[id(head)]))
    _require_causal(modules, towers, model.config.model_type)
    experts = _experts(model, modules, towers)
    linears = linear_layers(model, modules, called, towers, experts)
    counted, layers = _Counted(model, towers), _layers(model, modules[language_model])
    return Architecture(
        model_type=model.config.model_type,
        class_name=type(model).__name__,
        attention=tuple(each for each in _ATTENTION if _supports(model, each)),
        takes_attention=bool(model._supports_attention_backend),
        language_model=language_model,
        towers=towers,
        layers=layers,
        recurrent=any(each.kind != "attention" for each in layers),
        takes_positions="position_ids" in inspect.signature(model.forward).parameters,
        embedding_rows=embedding.num_embeddings,
        head_rows=head.weight.shape[0],
        hidden=embedding.embedding_dim,
        tied=head.weight is embedding.weight,
        linears=linears,
        experts=tuple(experts),
        other_parameters=counted.language_model
        - sum(each.parameters for each in linears if each.unusable not in (HEAD, TOWER))
        - sum(each.parameters for each in experts)
        - counted.of(embedding.weight, head.weight),
        tower_parameters=counted.towers,
        parameters=counted.language_model + counted.towers,
        described=described(model),
    )


def _supports(model: Any, attention: str) -> bool:
    try:
        return bool(model.get_correct_attn_implementation(attention, is_init_check=True) == attention)
    except (ValueError, ImportError):
        return False


class _Counted:
    """Parameters of the language model with its head, and of the towers; tied ones once."""

    def __init__(self, model: Any, towers: Iterable[str]) -> None:
        self.language_model = self.towers = 0
        for name, parameter in model.named_parameters():
            if is_below(name, towers):
                self.towers += parameter.numel()
            else:
                self.language_model += parameter.numel()

    @staticmethod
    def of(*parameters: Any) -> int:
        """Of some, the same one once."""
        return sum({id(each): each.numel() for each in parameters}.values())


# ------------------------------------------------------------------------------------------------- what a text reaches


class _NumbersOfMeta(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What code asks of a tensor's values in mid-forward, answered where there are none: a mask hides nothing, one token each."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = args[0] if args else None
        if isinstance(first, torch.Tensor) and first.is_meta:
            if func is torch.ops.aten._local_scalar_dense.default:
                return True if first.dtype is torch.bool else 1
            if func is torch.ops.aten.nonzero.default:
                return first.new_empty(1, first.dim(), dtype=torch.int64)
        return func(*args, **(kwargs or {}))


def _called(model: Any, modules: dict[str, nn.Module]) -> set[str] | None:
    """Paths of the modules that a plain text passes through; None where the class can't be called without weights."""
    called: set[str] = set()
    hooks = [module.register_forward_pre_hook(lambda *_, path=path: called.add(path)) for path, module in modules.items()]
    ids = torch.zeros(1, _TOKENS, dtype=torch.int64, device=model.device)
    try:
        with torch.no_grad(), _NumbersOfMeta():  # type: ignore[no-untyped-call]
            model(input_ids=ids, use_cache=False)
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return None  # what lies outside the language model counts as not reached
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _towers(modules: dict[str, nn.Module], language_model: str, called: set[str] | None, head: str) -> Iterator[str]:
    """The outermost modules with weights of which nothing is called."""
    for path, module in modules.items():
        inside = path == language_model or is_below(path, [language_model]) or language_model.startswith(path + ".")
        if not path or inside or is_below(path, [head]) or not any(True for _ in module.parameters()):
            continue
        above = path.rpartition(".")[0]
        if not _reached(path, called) and (above == "" or language_model.startswith(above + ".") or _reached(above, called)):
            yield path


def _reached(path: str, called: set[str] | None) -> bool:
    return called is not None and any(is_below(each, [path]) for each in called)


def _require_causal(modules: dict[str, nn.Module], towers: Iterable[str], model_type: str) -> None:
    for path, module in modules.items():
        if getattr(module, "is_causal", True) is False and not is_below(path, towers):
            raise BadInput(f"{model_type}: its attention sees what follows, so it does not continue a text", _ANOTHER)


# ------------------------------------------------------------------------------------------------- layers


def _cache_layers(model: Any) -> list[Any]:
    return list(DynamicCache(config=model.config).layers)


def _is_recurrent(cache_layer: Any) -> bool:
    return hasattr(cache_layer, "update_recurrent_state") or hasattr(cache_layer, "update_conv_state")


def _layers(model: Any, language_model: nn.Module) -> tuple[Layer, ...]:
    config, caches = model.config.get_text_config(decoder=True), _cache_layers(model)
    blocks = [each for each in language_model.children() if isinstance(each, nn.ModuleList)]
    block = next((each for each in blocks if len(each) == config.num_hidden_layers), None)
    if block is None:
        return tuple(Layer("attention", _window(config, number, caches)) for number in range(config.num_hidden_layers))
    return tuple(_layer(module, _window(config, number, caches), caches, number) for number, module in enumerate(block))


def _layer(module: nn.Module, window: int | None, caches: list[Any], number: int) -> Layer:
    held = caches[number] if number < len(caches) else None
    kind = _recurrence(module)
    if kind is None:
        return Layer("recurrence" if held is not None and _is_recurrent(held) else "attention", window)
    # Some classes keep their state to themselves, and a cache is made for keys that there are none of.
    return Layer("attention and state space", window) if _is_recurrent(held) and hasattr(held, "keys") else Layer(kind)


def _recurrence(layer: nn.Module) -> LayerKind | None:
    """By the parameters a layer holds: a state space has A and D, gated linear attention A alone. None: it has attention only."""
    names = {name.rpartition(".")[2] for name, _ in layer.named_parameters()}
    if "A_log" in names:
        return "state space" if "D" in names else "linear attention"
    if not any(isinstance(each, nn.Conv1d) for each in layer.modules()):
        return None
    return "recurrence" if any(name.startswith("recurrent") for name in names) else "convolution"


def _window(config: Any, number: int, caches: list[Any]) -> int | None:
    held = caches[number] if number < len(caches) else None
    if window := getattr(held, "sliding_window", None):
        return int(window)
    kinds = getattr(config, "layer_types", None) or []
    kind = kinds[number] if number < len(kinds) else ""
    named = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}.get(kind)
    window = getattr(config, named, None) if named else None
    return int(window) if window else None


def _experts(model: Any, modules: dict[str, nn.Module], towers: Iterable[str]) -> list[Experts]:
    settings = model.config.get_text_config(decoder=True).to_dict()
    numbers = {value for key, value in settings.items() if "expert" in key and type(value) is int}
    found: dict[str, list[tuple[int, int]]] = {}
    for path, module in modules.items():
        own = list(module.parameters(recurse=False))
        stacked = next((each for each in own if each.dim() == 3), None)
        if stacked is None or stacked.shape[0] not in numbers or isinstance(module, nn.Conv1d) or is_below(path, towers):
            continue
        found.setdefault(pattern(path), []).append((stacked.shape[0], sum(each.numel() for each in own)))
    return [Experts(path, len(each), each[0][0], sum(count for _, count in each)) for path, each in found.items()]
