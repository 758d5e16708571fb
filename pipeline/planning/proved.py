"""What a proof at load has refused, stored for the plans after it: `runs/<project>/layers_proved.json`. Light: no torch.

It holds for the same model, device, precision mode and libraries. A plan that knows it is the plan that will train.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.base_model.shape import ModelShape
from pipeline.common.files import fingerprint, read_json, write_json
from pipeline.config.schema import Config
from pipeline.system.gpu import Device

FILE = "layers_proved.json"
# Those whose layers are trained, and those that keep documents apart in a hybrid's layers where they are installed.
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "causal-conv1d", "mamba-ssm", "flash-linear-attention")


@dataclass(frozen=True)
class Refused:
    """Reasons for a person to read; empty where there is none.

    Attributes:
        inputs: fingerprint of what they hold for.
        fused: why the fused layers can't stand for the model's own.
        packing: why documents can't share a row.
    """

    inputs: str = ""
    fused: str = ""
    packing: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def libraries() -> str:
    """The libraries of which a proof says something, with their versions."""
    return ", ".join(f"{name} {found}" for name in _LIBRARIES if (found := _version(name)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def inputs_of(config: Config, shape: ModelShape, device: Device) -> str:
    """Fingerprint that a refusal is found by again."""
    named = config.model.local_path or config.model.repo
    return fingerprint("proved", named, shape.to_json(), device.kind, config.train.precision_mode, libraries())


def save_refused(folder: Path, refused: Refused) -> None:
    """Write it into a project's folder, over the one before."""
    write_json(folder / FILE, refused.to_json())


def read_refused(folder: Path, inputs: str) -> Refused:
    """The project's where it holds, else an empty one; a damaged file counts as none: the next proof writes it anew.

    Args:
        folder: the project's.
        inputs: of `inputs_of`, for today's config, model and device.
    """
    try:
        document = read_json(folder / FILE)
        found = Refused(**{each.name: str(document[each.name]) for each in fields(Refused)})
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return Refused()
    return found if found.inputs == inputs else Refused()
