"""Packages of tiny models without a training: what a format writes depends on base, adapter and config only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.reference import Reference, seen_from
from pipeline.config.schema import Config
from pipeline.export.package import Package
from pipeline.export.proof import llama_cpp
from pipeline.export.write import write_package
from pipeline.runs.folders import RunFolder
from pipeline.runs.trained import Trained

needs_llama_cpp = pytest.mark.skipif(not llama_cpp.is_there(), reason="llama.cpp (xllamacpp) is not installed")

_EVALUATION: dict[str, Any] = {"val": None, "test": None, "curated": []}
_REPORT = {"ended": "complete", "steps": 2, "best_step": 2}


def package_of(workspace: Path, base: BaseModel, adapter: Path, *formats: str) -> Package:
    """What `find_package` would find, of an adapter that was not trained."""
    config = Config(project="made")
    package = Package(
        config=config, trained=Trained(RunFolder(workspace / "runs" / "made" / "1"), adapter, _REPORT), base=base,
        reference=Reference(path=f"./{base.path.name}"), evaluation=_EVALUATION, gates=(), data=None, plan={},
        fingerprint="made", base_from_here=seen_from(workspace.resolve() / "artifacts" / "made", base, workspace),
    )  # fmt: skip
    return replace(package, formats=formats or ("peft_adapter", "merged"))


def write(workspace: Path, package: Package) -> Path:
    """The package in `artifacts/made`."""
    folder = workspace / "artifacts" / "made"
    folder.mkdir(parents=True)
    write_package(folder, package, lambda _: None, folder, ())
    return folder
