"""Every fingerprint that settings go into, of a config alone: what the files say beside it is held fast."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.base_model import locate
from pipeline.base_model.shape import ModelShape
from pipeline.config.schema import Config
from pipeline.dataset import processed
from pipeline.dataset.figures import DataFigures
from pipeline.evaluation import answer_checks
from pipeline.evaluation.evidence import Evidence
from pipeline.export import package
from pipeline.planning import measurements, planner
from pipeline.runs import provenance, trained
from pipeline.runs.context import StepContext
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.steps import evaluate, gates, train

SHAPE = ModelShape(64, 128, 2, 4, 2, 16, 300, True, 512, "llama")
FIGURES = DataFigures(100, 256, 100, 20_000, 10_000, True)


def hold_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """One base model, one raw file, one result of each step, whatever the config says."""
    base: Any = SimpleNamespace(weights_fingerprint=lambda: "weights", kind="folder", path=Path("/elsewhere"))
    run: Any = SimpleNamespace(
        eval_report=Path("eval.json"), preprocess_report=Path("rows.json"), plan=Path("/nowhere/plan.json")
    )
    result: Any = SimpleNamespace(run=run, report={}, adapter_sha256=lambda: "adapter")
    for module in (locate, train):
        monkeypatch.setattr(module, "locate", lambda *_: base)
    for module in (processed, package):
        monkeypatch.setattr(module, "tokenizer_fingerprint", lambda _: "tokenizer")
    monkeypatch.setattr(processed, "version", lambda _: "1.0")
    monkeypatch.setattr(processed, "raw_digest", lambda _: "raw")
    data = SimpleNamespace(fingerprint="rows", loss_weights=lambda _split: None)
    monkeypatch.setattr(processed, "find_processed", lambda *_: data)
    monkeypatch.setattr(trained, "find_trained", lambda _: result)
    monkeypatch.setattr(answer_checks, "find_prompts", lambda *_: Path("prompts.jsonl"))
    monkeypatch.setattr(evaluate, "sha256_file", lambda _: "prompts")
    for module in (gates, package):
        monkeypatch.setattr(module, "evidence_of", lambda _: Evidence(None, [], [1.0, 2.0], [10.0, 10.0]))
    monkeypatch.setattr(package, "read_report", lambda path: {"report": path.name})
    monkeypatch.setattr(package, "reference_of", lambda *_: None)
    monkeypatch.setattr(package, "__version__", "1.0")
    monkeypatch.setattr(provenance, "starts", lambda _: [])
    monkeypatch.setattr(provenance, "of_training", lambda _: {})


def fingerprints(config: Config) -> dict[str, str]:
    """What is made from `config` -> what it is found by; after `hold_files`."""
    workspace = Workspace(Path("/work"))
    ctx = StepContext(config, workspace, RunFolder(Path("/work/runs/p/r")))
    base: Any = locate.locate(config, workspace)
    packaged = package.find_package(ctx)
    assert packaged is not None
    return {
        "rows": processed.folder_of(config, workspace, base).name,
        "plan": planner.plan_inputs(config, SHAPE, FIGURES),
        "speed": measurements.inputs_of(config, "NVIDIA Test"),
        "adapter": str(train.fingerprint(ctx)),
        "report": str(evaluate.fingerprint(ctx)),
        "verdicts": str(gates.fingerprint(ctx)),
        "package": packaged.fingerprint,
    }
