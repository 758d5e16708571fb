"""A run's page, from what lies in its folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.common.files import read_json
from pipeline.evaluation.evidence import evidence_of
from pipeline.export.package_folder import MANIFEST
from pipeline.report.page import Reported, page
from pipeline.runs import event_log, provenance
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.store import read_report


def reported(workspace: Workspace, run: RunFolder) -> Reported:
    """What a page of the run is made of."""
    config = run.load_config()
    folder = workspace.resolve(config.export.artifacts_dir) / config.project / MANIFEST
    manifest = read_json(folder) if folder.is_file() else {}
    own = manifest if isinstance(manifest, dict) and manifest.get("run_id") == run.run_id else {}
    return Reported(
        name=f"{run.project}/{run.run_id}",
        config=config,
        state=event_log.read_state(run),
        evidence=evidence_of(run),
        data=read_report(run.preprocess_report),
        manifest=own,
        made_with=provenance.facts(provenance.of_training(provenance.starts(run))),
    )


def write_page(workspace: Workspace, run: RunFolder, path: Path) -> None:
    """Write the page to `path`. Raises `BadInput` where it can't be written."""
    text = page(reported(workspace, run))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} can't be written: {error.strerror}", "humigence report RUN --output FILE") from error
