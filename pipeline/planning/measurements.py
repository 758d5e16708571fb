"""What `humigence plan --measure` found out, stored for the plans after it: `runs/<project>/measured.json`. Light: no torch.

A measurement holds for the same model, device and whatever of the settings speed and memory depend on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.common.files import fingerprint, read_json, write_json
from pipeline.config.affects import in_order, settings_of
from pipeline.config.schema import Config

FILE = "measured.json"


@dataclass(frozen=True)
class Measurement:
    """A few optimizer steps of a plan on the real model.

    Attributes:
        inputs: fingerprint of what it holds for.
        tokens_per_second: real tokens, padding not counted.
        step_seconds: of an optimizer step.
        peak_memory_bytes, predicted_memory_bytes: of the process on its device, and what the plan had said.
    """

    inputs: str
    device: str
    tokens_per_second: float
    step_seconds: float
    peak_memory_bytes: int
    predicted_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def inputs_of(config: Config, device_name: str) -> str:
    """Fingerprint that a measurement of this config is found by again.

    Args:
        device_name: `Device.name`: another GPU of the same model counts as the same.
    """
    settings = settings_of(config, "speed")
    model = settings.pop("model")
    named = model["local_path"] or model["repo"]
    return fingerprint("measured", named, device_name, *in_order(settings, "train", "data", "compute.memory_limit_gib"))


def save_measurement(folder: Path, measurement: Measurement) -> None:
    """Write it into a project's folder, over the one before."""
    write_json(folder / FILE, measurement.to_json())


def read_measurement(folder: Path, inputs: str) -> Measurement | None:
    """The project's measurement where it holds; a damaged file counts as none: measuring again mends it.

    Args:
        folder: the project's.
        inputs: of `inputs_of`, for today's config and device.
    """
    try:
        document = read_json(folder / FILE)
        found = Measurement(**{each.name: document[each.name] for each in fields(Measurement)})
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None
    return found if found.inputs == inputs else None
