"""What a model's layers save for their backward pass: bytes that grow with the tokens, layer by layer.

Measured on the model's own classes (`pipeline.modeling.measure_footprint`) and stored, or where that was not done taken from a
formula (`pipeline.planning.layer_formula`). Everything here is light: forms ask at each key press.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.common.cache import cache_folder
from pipeline.common.files import fingerprint, read_json, write_json

# Raise it when the same model would be described otherwise.
_VERSION = 1


@dataclass(frozen=True)
class Growth:
    """Bytes of one row: so many a token, and so many for each two tokens of it."""

    token: float = 0.0
    pair: float = 0.0

    def of(self, rows: int, row_tokens: int) -> float:
        """Bytes of `rows` rows of `row_tokens` tokens."""
        return rows * row_tokens * (self.token + self.pair * row_tokens)


@dataclass(frozen=True)
class Read:
    """A linear layer of a decoder layer, and what it reads.

    Attributes:
        name: as `train.lora.target_modules` takes it.
        inputs, outputs: features.
        source: those with the same number read the same tensor.
        saved: that tensor is saved for another's sake.
    """

    name: str
    inputs: int
    outputs: int
    source: int
    saved: bool


@dataclass(frozen=True)
class LayerFootprint:
    """Decoder layers that are alike.

    Attributes:
        count: how many.
        saved: without adapters, all of whose inputs are left out.
        enters: the layer's input: what is saved of it where the layer is computed again.
        reads: its linear layers.
    """

    count: int
    saved: Growth
    enters: Growth
    reads: tuple[Read, ...]


@dataclass(frozen=True)
class Weights:
    """Numbers of weights.

    Attributes:
        quantized: in linear layers that a precision mode quantizes, `outputs` their output features, `largest` in the largest.
        linear: in other linear layers; they are held as the mode says where it does not quantize.
        other: embeddings, the head, norms, experts.
    """

    quantized: int
    outputs: int
    largest: int
    linear: int
    other: int


@dataclass(frozen=True)
class Footprint:
    """A model's, for one compute type, device and attention.

    Attributes:
        layers: of the decoder.
        around: saved once, whoever of the layers reads it, and outside of them: masks, angles, the last norm's input.
        weights: None where they were not counted on the model.
    """

    layers: tuple[LayerFootprint, ...]
    around: Growth = Growth()
    weights: Weights | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Footprint:
        """Of `to_json`.

        Raises:
            KeyError, TypeError: it is none.
        """
        return cls(tuple(map(_layer, document["layers"])), Growth(**document["around"]), Weights(**document["weights"]))


def _layer(document: Mapping[str, Any]) -> LayerFootprint:
    reads = tuple(Read(**each) for each in document["reads"])
    return LayerFootprint(document["count"], Growth(**document["saved"]), Growth(**document["enters"]), reads)


def key(device: str, compute_dtype: str, attention: str) -> str:
    """What a footprint is found by among those of a model.

    Args:
        device: "cuda" or "cpu".
        attention: "sdpa", "eager" or "varlen".
    """
    return f"{device} {compute_dtype} {attention}"


def read_footprints(config: Mapping[str, Any]) -> dict[str, Footprint]:
    """What was measured of a model before, by `key`; empty where nothing was.

    Args:
        config: of its config.json, whole.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        return {name: Footprint.from_json(each) for name, each in read_json(_stored(config)).items()}
    return {}


def store_footprint(config: Mapping[str, Any], name: str, footprint: Footprint) -> None:
    """Have it found by `read_footprints` under `name`; where nothing can be written it is measured again the next time."""
    path, others = _stored(config), read_footprints(config)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {known: each.to_json() for known, each in (others | {name: footprint}).items()})


def _stored(config: Mapping[str, Any]) -> Path:
    contents = json.dumps(config, sort_keys=True, default=str)
    versions = [importlib.metadata.version(package) for package in ("transformers", "torch")]
    return cache_folder("footprints") / f"{fingerprint('footprint', _VERSION, *versions, contents)}.json"
