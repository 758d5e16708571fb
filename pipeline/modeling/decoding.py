"""A causal model asked for one more token of each prompt at a time: its cache, its mask, and as little else as possible.

On the CPU the cache grows with the answers. On a GPU it has its full size from the start, so that every step is the same work on
the same memory: recorded once as a CUDA graph and replayed, a step costs what its kernels take and not what Python takes to
start a thousand of them. Recording takes a few steps' time, so that an answer of a few tokens goes without.

Models whose layers see only a part of the text (sliding windows), that carry a state from token to token, or that were not
written for a cache of fixed size have the cache that their own `generate` would make, and it grows everywhere.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch

from pipeline.modeling.evaluation_mode import evaluating

# Fewer new tokens than this are not worth a recording.
WORTH_RECORDING = 16
# Attention that takes a mask as it is given.
_MASKED_ATTENTION = ("sdpa", "eager", "humigence_varlen")
# Rotary embeddings whose frequencies do not depend on how long the text has become: others ask the GPU in mid-step.
_FIXED_ROTARY = ("default", "linear", "llama3", "yarn")


class Decoder(Protocol):
    """Logits of the next token: after the prompts, then after each token chosen.

    A result may be overwritten by the next call.
    """

    def first(self) -> torch.Tensor:
        """After the prompts: (prompts, vocabulary) float32. To be called once, before `after`."""
        ...

    def after(self, chosen: torch.Tensor) -> torch.Tensor:
        """After one more token of each prompt.

        Args:
            chosen: (prompts,) int64 ids, on the model's device.

        Returns:
            (prompts, vocabulary) float32.
        """
        ...


def decoder(model: Any, ids: torch.Tensor, mask: torch.Tensor, new_tokens: int) -> Decoder:
    """The fastest way that `model` allows where it is.

    Args:
        model: a causal model of transformers, with peft around it or without.
        ids, mask: (prompts, longest prompt) int64, padded on the left, on the model's device; the mask is 0 on padding, else 1.
        new_tokens: most tokens that will be asked for.
    """
    if ids.device.type == "cuda" and takes_fixed_cache(model):
        return FixedDecoder(model, ids, mask, new_tokens, record=new_tokens >= WORTH_RECORDING and _recordable(model))
    return GrowingDecoder(model, ids, mask)


class GrowingDecoder:
    """With the cache that the model's own `generate` would make: of keys, of windows, of states, whatever its layers need.

    Args:
        ids, mask: as for `decoder`.
    """

    def __init__(self, model: Any, ids: torch.Tensor, mask: torch.Tensor) -> None:
        self._model, self._ids, self._mask = model, ids, mask
        self._positions = _positions(mask)  # (prompts, tokens) int64; from the first step on the newest only, (prompts, 1)
        inner = _inner(model)
        self._takes = inspect.signature(inner.forward).parameters
        self._cache_name = "past_key_values" if "past_key_values" in self._takes else "cache_params"
        self._cache = _growing_cache(inner)

    def first(self) -> torch.Tensor:
        return self._logits(self._ids, first=True)

    def after(self, chosen: torch.Tensor) -> torch.Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(chosen), 1)], dim=1)  # (prompts, tokens so far + 1) int64
        self._positions = self._positions[:, -1:] + 1  # (prompts, 1)
        return self._logits(chosen[:, None], first=False)

    def _logits(self, ids: torch.Tensor, *, first: bool) -> torch.Tensor:
        """Of the last token in each row. The class itself says what it is called with: some take no mask after the prompt."""
        wanted = {"attention_mask": self._mask, "position_ids": self._positions, **_last_only(self._takes)}
        settings = {name: value for name, value in wanted.items() if name in self._takes}
        settings[self._cache_name] = self._cache
        inputs = _inner(self._model).prepare_inputs_for_generation(ids, use_cache=True, is_first_iteration=first, **settings)
        output = _called(self._model, inputs)
        if self._cache is None:
            self._cache = output[self._cache_name]
        return _last(output)


def _growing_cache(inner: Any) -> Any:
    """An empty cache for the layers the model has; None where its class makes its own."""
    from transformers import DynamicCache

    return DynamicCache(config=inner.config.get_text_config(decoder=True)) if inner._supports_default_dynamic_cache() else None


class FixedDecoder:
    """With a key-value cache of its full size from the start.

    Args:
        ids, mask, new_tokens: as for `decoder`.
        record: whether to record a step as a CUDA graph and to replay it from then on.
    """

    def __init__(self, model: Any, ids: torch.Tensor, mask: torch.Tensor, new_tokens: int, *, record: bool = False) -> None:
        from transformers import StaticCache

        self._model, self._prompt, self._prompt_mask = model, ids, mask
        rows, self._at = ids.shape  # `_at`: the place in the cache that the next token gets
        self._record = record
        self._graph: Any = None
        self._cache = StaticCache(config=_inner(model).config, max_cache_len=self._at + new_tokens)
        # What a step reads, always in the same place.
        self._ids = ids.new_zeros(rows, 1)  # (prompts, 1) int64
        self._positions = _positions(mask)[:, -1:].clone()  # (prompts, 1) int64
        # (prompts, heads: all alike, queries: one, places of the cache) bool
        self._seen = mask.new_zeros(rows, 1, 1, self._at + new_tokens, dtype=torch.bool)
        self._seen[:, 0, 0, : self._at] = mask.bool()
        self._out = torch.empty(0)  # (prompts, vocabulary) float32 from the first step on; a graph writes there

    def first(self) -> torch.Tensor:
        return _logits(self._model, self._prompt, self._prompt_mask, _positions(self._prompt_mask), self._cache)

    def after(self, chosen: torch.Tensor) -> torch.Tensor:
        self._ids.copy_(chosen[:, None])
        self._positions += 1
        self._seen[..., self._at] = True
        self._at += 1
        if self._graph is not None:
            self._graph.replay()
        elif self._record:
            self._step_recorded()
        else:
            self._out = self._step()
        return self._out

    def _step(self) -> torch.Tensor:
        # Eager attention adds its mask to the scores; sdpa takes truth values in any precision.
        seen = self._seen
        if _inner(self._model).config._attn_implementation == "eager":
            dtype = self._cache.layers[0].keys.dtype
            seen = torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
        return _logits(self._model, self._ids, seen, self._positions, self._cache)

    def _step_recorded(self) -> None:
        """The step itself, then its recording, which computes nothing. What can't be recorded goes on step by step."""
        with _side_stream() as stream:
            self._out = self._step()
        try:
            graph, out = _recording(self._step, stream)
        except RuntimeError:
            # A kernel that asks for a value, or no room for the recording: nothing has happened but that.
            self._record = False
            return
        out.copy_(self._out)
        self._graph, self._out = graph, out


@contextmanager
def _side_stream() -> Iterator[Any]:
    """The stream that is recorded later: libraries set themselves up on it in a step that counts."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield stream
    torch.cuda.current_stream().wait_stream(stream)


def _recording(step: Callable[[], torch.Tensor], stream: Any) -> tuple[Any, torch.Tensor]:
    """A CUDA graph of `step`, and where its result will be after each replay."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        out = step()
    return graph, out


def takes_fixed_cache(model: Any) -> bool:
    """Whether the model was written for a cache of fixed size, each layer of which holds the whole text."""
    from transformers import StaticCache
    from transformers.cache_utils import StaticLayer

    inner = _inner(model)
    if not getattr(inner, "_can_compile_fullgraph", False) or inner.config._attn_implementation not in _MASKED_ATTENTION:
        return False
    return all(type(layer) is StaticLayer for layer in StaticCache(config=inner.config, max_cache_len=1).layers)


def _recordable(model: Any) -> bool:
    """Whether a step never asks the GPU for a value before it goes on."""
    rotary = getattr(_inner(model).config, "rope_parameters", None) or {}
    # 8-bit layers look for outliers in what they are given.
    eight_bit = any(type(module).__name__ == "Linear8bitLt" for module in model.modules())
    return rotary.get("rope_type", "default") in _FIXED_ROTARY and not eight_bit


def _logits(model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
    """Of the last token in each row, (prompts, vocabulary) float32.

    Args:
        ids, positions: (prompts, tokens) int64, of the tokens that the cache does not hold yet.
        mask: as transformers takes it, over the cache's tokens and these: 2-D, or 4-D as the attention takes it.
    """
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "past_key_values": cache, "use_cache": True}
    return _last(_called(model, inputs | _last_only(inspect.signature(_inner(model).forward).parameters)))


def _last_only(parameters: Container[str]) -> dict[str, Any]:
    """The head over the last token only: logits of a whole prompt may be larger than all else."""
    return {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}


def _called(model: Any, inputs: dict[str, Any]) -> Any:
    with torch.no_grad(), evaluating(model), _not_compiled():
        return model(**inputs)


def _last(output: Any) -> torch.Tensor:
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


# ------------------------------------------------------------------------------------------------- padding

# A short prompt after much padding: what leaks fades along a text.
_PROOF_TOKENS, _PROOF_PADDING = 2, 10
# Of the logits' own spread: rounding is far below it, padding that is read far above.
_SAME = 0.05
_honours: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def honours_left_padding(model: Any) -> bool:
    """Whether a prompt padded on the left is answered like the prompt alone, proved once on the model itself.

    Layers that carry a state from token to token have to leave padding out of it, and not all classes do.
    """
    inner = _inner(model)
    if inner not in _honours:
        _honours[inner] = _is_the_same_padded(model)
    return _honours[inner]


def _is_the_same_padded(model: Any) -> bool:
    device = next(model.parameters()).device
    rows = _inner(model).get_input_embeddings().weight.shape[0]
    ids = (torch.arange(_PROOF_TOKENS + _PROOF_PADDING, device=device)[None] * 7 + 11) % rows  # any tokens; (1, tokens) int64
    mask = torch.ones_like(ids)
    mask[:, :_PROOF_PADDING] = 0
    padded, alone = decoder(model, ids, mask, 2), decoder(model, ids[:, _PROOF_PADDING:], mask[:, _PROOF_PADDING:], 2)
    if not _close(padded.first(), alone.first()):
        return False
    return _close(padded.after(ids[:, 0]), alone.after(ids[:, 0]))


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= _SAME * other.std())


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """(prompts, tokens) int64: each prompt counts from its own first token, padding before it as 0."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def _inner(model: Any) -> Any:
    """The model inside a peft wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _not_compiled() -> AbstractContextManager[Any]:
    """Layers that training has compiled run as they were written: for each new shape they would be compiled again."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
