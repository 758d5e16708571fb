"""A package as it lies in `artifacts/<project>/`, read without loading it: whose adapter it is, where its base model is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base_model import locate, untrusted_files
from pipeline.base_model.hub_cache import cached_snapshot
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.reference import places
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.common.files import read_json
from pipeline.export.package_folder import MANIFEST
from pipeline.runs.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS


@dataclass(frozen=True)
class Packaged:
    """A package that can be loaded.

    Attributes:
        base: the base model on this machine.
        warning: the base model is not the one that was trained on; empty where it is.
        manifest: `humigence.json`.
    """

    folder: Path
    base: BaseModel
    warning: str
    manifest: dict[str, Any]


def read_packaged(folder: Path) -> Packaged:
    """Look a package up.

    Raises:
        MissingArtifact: there is no package, a file of it is missing, or its base model is gone; with the next thing to do.
    """
    try:
        if problems := untrusted_files.file_problems(folder):
            raise BadInput(f"{folder} is no package of ours: {problems[0]}", "humigence pack makes one from the newest run")
        manifest = read_json(folder / MANIFEST)
        recorded, version = manifest["base"], manifest["format_version"]
        if not all(isinstance(recorded[key], str | None) for key in ("name", "path", "repo", "revision", "weights_fingerprint")):
            raise TypeError
    except FileNotFoundError as error:
        raise MissingArtifact(f"{folder} holds no packaged adapter", "humigence pack makes one from the newest run") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise MissingArtifact(f"{folder / MANIFEST} is damaged", "humigence pack makes the package anew") from error
    if missing := [name for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG) if not (folder / name).is_file()]:
        raise MissingArtifact(f"{folder / missing[0]} is missing", f"humigence pack makes the package (format {version}) anew")
    base = _base(recorded, folder)
    return Packaged(folder, base, _difference(base, recorded), manifest)


def _base(recorded: dict[str, Any], folder: Path) -> BaseModel:
    name = recorded["name"]
    if recorded["path"]:
        tried = places(recorded["path"], folder)
        path = next((place for place in tried if place.exists()), None)
        if path is None:
            hint = f"put it back there, or set base.path in {MANIFEST} to where it is now"
            raise MissingArtifact(f"the base model {name} is not at {tried[0].absolute()} any more", hint)
        return locate.base_model_at(path, "the package's base model")
    found = cached_snapshot(recorded["repo"], recorded["revision"])
    if found is None or locate.problems_of(found):
        hint = f"humigence model download (with model.repo {recorded['repo']})"
        raise MissingArtifact(f"the base model {name} is not on this machine", hint)
    return BaseModel(found, "folder", name)


def _difference(base: BaseModel, recorded: dict[str, Any]) -> str:
    if base.weights_fingerprint() == recorded["weights_fingerprint"]:
        return ""
    return f"{base.name} is not the base model this adapter was trained on: its weights differ, so may the answers"
