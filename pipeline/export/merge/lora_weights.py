"""A LoRA adapter as numbers: what it adds to which layer. Read from its safetensors file, a layer at a time, without peft."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model import untrusted_files
from pipeline.common.errors import BadInput
from pipeline.common.files import read_json
from pipeline.export.merge.bfloat16 import NAMES, widened
from pipeline.runs.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS

_PREFIX, _DOWN, _UP, _LENGTHS = "base_model.model.", ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
# Settings under which B·A times one number, and DoRA's lengths, are not all there is, and the values with which they are.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none",), "fan_in_fan_out": (False, True), "use_dora": (False, True), "lora_bias": (False,), "rank_pattern": ({},),
    "alpha_pattern": ({},), "modules_to_save": ([],), "layer_replication": ([],), "use_qalora": (False,), "use_bdlora": (False,),
    "target_parameters": ([],), "trainable_token_indices": ([],), "alora_invocation_tokens": ([],), "velora_config": ({},),
    "init_lora_weights": (True, False, "gaussian"),
}  # fmt: skip


@dataclass(frozen=True)
class LowRank:
    """What is added to one weight: `scale · up @ down`, computed in 32 bits. `down` is (rank, inputs), `up` (outputs, rank).

    Attributes:
        lengths: with DoRA (Liu et al. 2024, §4.1) those that the rows of the sum are given, (outputs,); None without.
        by_column: the weight is held the other way round, and the lengths, (inputs,), are of its columns.
    """

    down: NDArray[np.float32]
    up: NDArray[np.float32]
    scale: float
    lengths: NDArray[np.float32] | None = None
    by_column: bool = False

    def rows(self, begin: int, end: int) -> NDArray[np.float32]:
        """(end - begin, inputs) of it."""
        return (self.up[begin:end] @ self.down) * np.float32(self.scale)

    def resized(
        self, total: NDArray[np.float32], begin: int, end: int, squares: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Rows `begin` to `end` of the sum, (end - begin, inputs), as long as they are to be.

        Args:
            squares: of whole columns, (inputs,), where the lengths are theirs.
        """
        if self.lengths is None:
            return total
        if squares is not None:
            return (total * (self.lengths / np.sqrt(squares))).astype(np.float32)
        lengths: NDArray[np.float32] = np.sqrt(np.square(total).sum(axis=1))
        return (total * (self.lengths[begin:end] / lengths)[:, None]).astype(np.float32)


class Adapter:
    """The adapter in a folder (`adapter_config.json`, `adapter_model.safetensors`).

    Attributes:
        layers: names of the layers it adds to -> (outputs, inputs), as the model's modules are called.
        transposed: the base holds these weights as (inputs, outputs), as GPT-2 does (`fan_in_fan_out`).

    Raises:
        BadInput: it can't be read, or is more than plain LoRA or DoRA.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / ADAPTER_WEIGHTS
        try:
            config = read_json(folder / ADAPTER_CONFIG)
            self._scale = _scale(config)
            self.transposed, self._dora = config.get("fan_in_fan_out") is True, config.get("use_dora") is True
            if problem := untrusted_files.leads_out(self._path, folder) or untrusted_files.weights_problem(self._path):
                raise ValueError(problem)
            self._header, self._start = untrusted_files.safetensors_header(self._path)
            self._header.pop("__metadata__", None)
            self.layers = self._sizes()
        except (OSError, json.JSONDecodeError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            raise self.does_not_fit(str(error)) from error

    def does_not_fit(self, why: str) -> BadInput:
        """The error for an adapter that can't be merged."""
        hint = "an adapter belongs to the base model it was trained on"
        return BadInput(f"{self._folder}: no adapter for this model: {why[:300]}", hint)

    def of(self, layer: str) -> LowRank:
        """What is added to the layer's weight, as the base holds it."""
        down, up = self._tensor(_PREFIX + layer + _DOWN), self._tensor(_PREFIX + layer + _UP)
        lengths = self._tensor(_PREFIX + layer + _LENGTHS).reshape(-1) if self._dora else None
        if self.transposed:
            return LowRank(up.T, down.T, self._scale, lengths, by_column=True)
        return LowRank(down, up, self._scale, lengths)

    def _sizes(self) -> dict[str, tuple[int, int]]:
        layers = {name[len(_PREFIX) : -len(_DOWN)] for name in self._header if name.startswith(_PREFIX) and name.endswith(_DOWN)}
        parts = (_DOWN, _UP, _LENGTHS) if self._dora else (_DOWN, _UP)
        wanted = {_PREFIX + layer + part for layer in layers for part in parts}
        if not layers or wanted != set(self._header):
            raise ValueError("it holds other weights than the A and B of plain LoRA")
        sizes = {}
        for layer in layers:
            down, up = (self._header[_PREFIX + layer + part] for part in (_DOWN, _UP))
            if len(down["shape"]) != 2 or len(up["shape"]) != 2 or down["shape"][0] != up["shape"][1]:
                raise ValueError(f"A and B of {layer} are not of one rank")
            if not {down["dtype"], up["dtype"]} <= set(NAMES):
                raise ValueError(f"A and B of {layer} are of type {down['dtype']}")
            if self._dora and math.prod(self._header[_PREFIX + layer + _LENGTHS]["shape"]) != up["shape"][0]:
                raise ValueError(f"{layer} has not as many lengths as outputs")
            sizes[layer] = (up["shape"][0], down["shape"][1])
        return dict(sorted(sizes.items()))

    def _tensor(self, name: str) -> NDArray[np.float32]:
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        with self._path.open("rb") as file:
            file.seek(self._start + begin, os.SEEK_SET)
            return widened(file.read(end - begin), entry["dtype"]).reshape(entry["shape"])


def _scale(config: Any) -> float:
    """`alpha / r`, or with rsLoRA `alpha / √r` (Kalajdzievski 2023)."""
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"{ADAPTER_CONFIG} describes no LoRA adapter")
    asked = [name for name, plain in _PLAIN.items() if config.get(name) is not None and config[name] not in plain]
    if asked:
        raise ValueError(f"{ADAPTER_CONFIG} asks for {', '.join(asked)}, which only plain LoRA adapters go without")
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    if rank < 1 or not math.isfinite(alpha):
        raise ValueError(f"{ADAPTER_CONFIG} has no rank and alpha")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
