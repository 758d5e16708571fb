"""Everything a package is made from, gathered once: the formats and the cards only write it down."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.base_model import locate, same_base
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.reference import Reference, reference_of, seen_from
from pipeline.common.errors import MissingArtifact
from pipeline.common.files import fingerprint, read_json
from pipeline.config.affects import settings_of
from pipeline.config.schema import Config, ExportFormat
from pipeline.dataset.processed import ProcessedData, find_processed
from pipeline.evaluation import gates as acceptance
from pipeline.evaluation.evidence import evidence_of
from pipeline.runs import provenance, trained
from pipeline.runs.context import StepContext
from pipeline.runs.events import GateJudged
from pipeline.runs.store import read_report
from pipeline.runs.trained import Trained
from pipeline.tokenization.fingerprint import tokenizer_fingerprint

# Raise it when the same inputs would be packaged differently.
FORMAT_VERSION = 2
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Package:
    """What goes into a package.

    Attributes:
        reference: how the package names the base model.
        processed: the prepared rows, of which some prove an export; None where they are gone.
        base_from_here: the way from the package's folder to the base model's, where both lie in the workspace; else empty.
        evaluation: `eval_report.json`.
        data: the run's report of preprocess; None where it has none.
        plan: `plan.json` as a dict; empty where the run has none.
        formats: what is written; with the rest the same, one more changes nothing of the others.
        made_with: the start that trained (`provenance`); empty where an older version made the run.
    """

    config: Config
    trained: Trained
    base: BaseModel
    reference: Reference
    evaluation: dict[str, Any]
    gates: tuple[GateJudged, ...]
    data: dict[str, Any] | None
    plan: dict[str, Any]
    fingerprint: str
    made_with: dict[str, Any] = field(default_factory=dict)
    formats: tuple[ExportFormat, ...] = ("peft_adapter",)
    processed: ProcessedData | None = None
    base_from_here: str = ""

    def only(self, *formats: ExportFormat) -> Package:
        """The same in these formats."""
        return replace(self, formats=formats)

    def manifest(self) -> dict[str, Any]:
        """`humigence.json`: all that loading the adapter again needs."""
        return {
            "format_version": FORMAT_VERSION,
            "humigence": __version__,
            "fingerprint": self.fingerprint,
            "project": self.config.project,
            "run_id": self.trained.run.run_id,
            "step": self.trained.report["best_step"],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "formats": list(self.formats),
            "base": {
                "name": self.base.name,
                "kind": self.base.kind,
                **asdict(self.reference),
                "weights_fingerprint": self.base.weights_fingerprint(),
                "tokenizer_fingerprint": tokenizer_fingerprint(self.base),
            },
            "precision_mode": self.config.train.precision_mode,
            "max_seq_len": self.config.data.max_seq_len,
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Python and the libraries that made the adapter."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def folder_of(ctx: StepContext) -> Path:
    """`artifacts/<project>`, links followed so that a swap replaces the folder and not the link to it."""
    return (ctx.workspace.resolve(ctx.config.export.artifacts_dir) / ctx.config.project).resolve()


def find_package(ctx: StepContext) -> Package | None:
    """What would be packaged now, or None while an earlier step's result is missing."""
    result, base = trained.find_trained(ctx), locate.locate(ctx.config, ctx.workspace)
    evaluation = read_report(result.run.eval_report) if result else None
    evidence = evidence_of(result.run) if result else None
    if result is None or base is None or evaluation is None or evidence is None:
        return None
    data = read_report(result.run.preprocess_report)
    plan = read_json(result.run.plan) if result.run.plan.exists() else {}
    gates = tuple(acceptance.judge(evidence, ctx.config.acceptance))
    sources = [
        FORMAT_VERSION, result.adapter_sha256(), evaluation, settings_of(ctx.config, "package"), base.weights_fingerprint(),
        tokenizer_fingerprint(base), data, __version__,
    ]  # fmt: skip
    made_with = provenance.of_training(provenance.starts(result.run))
    reference = reference_of(base, ctx.config.model, ctx.workspace.root)
    return Package(
        config=ctx.config,
        trained=result,
        base=base,
        reference=reference,
        evaluation=evaluation,
        gates=gates,
        data=data,
        plan=plan,
        fingerprint=fingerprint(*sources),
        made_with=made_with,
        formats=ctx.config.export.formats,
        processed=find_processed(ctx.config, ctx.workspace),
        base_from_here=seen_from(folder_of(ctx), base, ctx.workspace.root),
    )


def require_package(ctx: StepContext) -> Package:
    """`find_package`, or `MissingArtifact` with what is missing, or `BadInput` for a base model that was not trained on."""
    result = trained.require_trained(ctx)
    same_base.require_same(result.run, locate.require_base_model(ctx.config, ctx.workspace))
    if read_report(result.run.eval_report) is None:
        raise MissingArtifact(f"run {result.run.run_id} has not been evaluated; its cards would be empty", "humigence eval")
    package = find_package(ctx)
    assert package is not None
    return package
