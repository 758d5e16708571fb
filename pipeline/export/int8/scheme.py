"""In which form eight-bit weights are published: a scale for each output, and how both lie in safetensors.

Sources: bitsandbytes, `Linear8bitLt` (Dettmers et al. 2022, §2: absmax by row); compressed-tensors, `pack_quantized`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.export.merge.bfloat16 import narrowed, widened

_MOST = 127  # of a weight in eight bits


@dataclass(frozen=True)
class Part:
    """A tensor that a quantized weight becomes.

    Attributes:
        name: after the layer's: `weight`.
        dtype: as safetensors calls it.
        shape: of a weight of (outputs, inputs).
    """

    name: str
    dtype: str
    shape: Callable[[int, int], Sequence[int]]


@dataclass(frozen=True)
class Scheme:
    """A published form.

    Attributes:
        weight: the part that holds the weights; it is written as the rows come.
        beside: those that hold the rest.
        scale_dtype: what scales are rounded to before weights are divided by them; None for 32 bits.
        rows: eight-bit rows, (rows, inputs) int8, as bytes of `weight`.
        rest: (scales (outputs,), outputs, inputs) -> bytes of each of `beside`.
        config: (names of layers that stay as they are) -> `quantization_config` of config.json.
    """

    weight: Part
    beside: tuple[Part, ...]
    rows: Callable[[NDArray[np.int8]], bytes]
    rest: Callable[[NDArray[np.float32], int, int], Sequence[bytes]]
    config: Callable[[Sequence[str]], Mapping[str, Any]]
    scale_dtype: str | None = None

    def quantized(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Rows in eight bits, and the scale of each: rows are about int8 times scale."""
        scales = np.abs(rows).max(axis=1, initial=0) / np.float32(_MOST)
        if self.scale_dtype:
            scales = widened(narrowed(scales, self.scale_dtype), self.scale_dtype)
        divisors = np.where(scales > 0, scales, 1)[:, None]
        return np.clip(np.rint(rows / divisors), -_MOST, _MOST).astype(np.int8), scales


def _bitsandbytes_rest(scales: NDArray[np.float32], outputs: int, inputs: int) -> list[bytes]:
    return [(scales * np.float32(_MOST)).astype("<f4").tobytes(), bytes(1)]  # 0: rows


def _bitsandbytes_config(kept: Sequence[str]) -> dict[str, Any]:
    return {
        "quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False, "llm_int8_threshold": 6.0,
        "llm_int8_skip_modules": list(kept), "llm_int8_enable_fp32_cpu_offload": False, "llm_int8_has_fp16_weight": False,
    }  # fmt: skip


BITSANDBYTES = Scheme(
    weight=Part("weight", "I8", lambda outputs, inputs: (outputs, inputs)),
    beside=(Part("SCB", "F32", lambda outputs, inputs: (outputs,)), Part("weight_format", "U8", lambda outputs, inputs: ())),
    rows=lambda rows: rows.tobytes(),
    rest=_bitsandbytes_rest,
    config=_bitsandbytes_config,
)


def _packed(rows: NDArray[np.int8]) -> bytes:
    """Four to an int32, the first in its lowest bits, each 128 more than it is."""
    return (rows.astype(np.int16) + 128).astype(np.uint8).tobytes()


def _packed_rest(scales: NDArray[np.float32], outputs: int, inputs: int) -> list[bytes]:
    return [narrowed(scales, "BF16").tobytes(), np.array([outputs, inputs], "<i8").tobytes()]


def _packed_config(kept: Sequence[str]) -> dict[str, Any]:
    weights = {
        "num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "group_size": None, "dynamic": False,
        "actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {},
    }  # fmt: skip
    # A name is a layer's own; what is in a module is known by a pattern.
    ignored = [name if name == "lm_head" else f"re:.*{name}.*" for name in kept]
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": {"group_0": group}, "ignore": ignored, "kv_cache_scheme": None, "global_compression_ratio": None,
    }  # fmt: skip


COMPRESSED_TENSORS = Scheme(
    weight=Part("weight_packed", "I32", lambda outputs, inputs: (outputs, inputs // 4)),
    beside=(
        Part("weight_scale", "BF16", lambda outputs, inputs: (outputs, 1)),
        Part("weight_shape", "I64", lambda outputs, inputs: (2,)),
    ),
    rows=_packed,
    rest=_packed_rest,
    config=_packed_config,
    scale_dtype="BF16",
)
