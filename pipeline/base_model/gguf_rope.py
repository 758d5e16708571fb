"""Llama 3's rotary scaling in a GGUF file: llama.cpp's converter keeps no settings of it, only the tensor `rope_freqs.weight`,
by whose numbers the frequencies are divided. Here the settings that make those numbers are found again, or the file is refused.

Source of the formula: `LlamaModel.generate_extra_tensors` of llama.cpp's convert_hf_to_gguf.py, and Meta's `apply_scaling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.base_model.gguf_header import GgufHeader, read_floats
from pipeline.common.errors import BadInput

ROPE_FREQS = "rope_freqs.weight"
# What Meta published for each model that has this scaling, but for the factor; the length first that all of them have.
_LOW, _HIGH = 1.0, 4.0
_ORIGINALS = (8192, *(2**exponent for exponent in range(5, 21)))
# The converter computes in 32 bits; any other settings are off by far more.
_CLOSE = 1e-4


def rope_scaling(path: Path, header: GgufHeader) -> dict[str, Any] | None:
    """`rope_parameters` as transformers has them, without the base; None where frequencies stay as they are.

    Raises:
        BadInput: the tensor's numbers are those of no scaling that is known.
    """
    if ROPE_FREQS not in header.tensors:
        return None
    divisors = read_floats(path, header, ROPE_FREQS)
    if divisors is not None and all(number == 1.0 for number in divisors):
        return None
    found = _settings(divisors, header) if divisors else None
    if found is None:
        message = f"{path}: {ROPE_FREQS} scales its rotary embedding in a way that cannot be told from the file"
        raise BadInput(message, "choose the Hugging Face folder the file was made from")
    return found


def _settings(divisors: Sequence[float], header: GgufHeader) -> dict[str, Any] | None:
    base = header.metadata.get(f"{header.architecture}.rope.freq_base", 10_000.0)
    named = header.number("rope.scaling.original_context_length")
    factor = round(max(divisors), 4) if all(map(math.isfinite, divisors)) else 0.0
    if factor < 1 or type(base) is not float or base <= 1:
        return None
    # Settings that make the same numbers make the same frequencies, whichever they were.
    for original in dict.fromkeys(((named,) if named else ()) + _ORIGINALS):
        expected = _divisors(len(divisors), base, factor, original)
        if all(math.isclose(one, other, rel_tol=_CLOSE) for one, other in zip(divisors, expected, strict=True)):
            return {
                "rope_type": "llama3", "factor": factor, "low_freq_factor": _LOW, "high_freq_factor": _HIGH,
                "original_max_position_embeddings": original,
            }  # fmt: skip
    return None


def _divisors(count: int, base: float, factor: float, original: int) -> list[float]:
    """What each frequency is divided by: short waves by 1, long ones by the factor, those between by something between."""
    found = []
    for number in range(count):
        wave = 2 * math.pi * base ** (number / count)
        smooth = min(1.0, max(0.0, (original / wave - _LOW) / (_HIGH - _LOW)))
        found.append(1 / ((1 - smooth) / factor + smooth))
    return found
