"""The package of a `Project`, looked at after a fault."""

from __future__ import annotations

from pathlib import Path

from pipeline.common.files import read_json
from pipeline.export.package_folder import differing, read_checksums
from pipeline.planning.export_formats import EXPORT_FORMATS
from tests.faults.workers import Project


def package_of(project: Project) -> Path:
    return project.root / "artifacts" / "tiny"


def adapter_is_whole(project: Project) -> bool:
    """Whether the adapter's package is there, with nothing half made in it."""
    package = package_of(project)
    folders = [outline.folder for outline in EXPORT_FORMATS.values() if outline.folder]
    assert read_checksums(package) and differing(package) == [] and not any((package / each).exists() for each in folders)
    return bool(read_json(package / "humigence.json")["formats"] == ["peft_adapter"])
