"""The room a package is said to take is the room it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from humigence_tui.cli.plan import plan_lines
from pipeline.base_model.locate import BaseModel, base_model_at
from pipeline.base_model.shape import read_shape
from pipeline.config.schema import Config, ExportFormat
from pipeline.dataset.figures import DataFigures
from pipeline.export.merge.gguf_base import merge_gguf
from pipeline.export.merge.lora_weights import Adapter
from pipeline.planning import planner
from pipeline.planning.export_formats import EXPORT_FORMATS, format_bytes, merged_weight_bytes
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import Device
from tests import tiny
from tests.pipeline.export.merge.adapters import write_lora

FIGURES = DataFigures(100, 256, 100, 20_000, 10_000, True)


def test_a_folders_merged_model_is_as_large_as_the_base(tiny_model: Path) -> None:
    assert merged_weight_bytes(base_model_at(tiny_model)) == (tiny_model / "model.safetensors").stat().st_size


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_a_gguf_files_merged_model_is_as_large_as_is_said(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    base = BaseModel(tiny.save_gguf(tiny_model, tmp_path / "tiny.gguf", kind), "gguf", "tiny")
    adapter = write_lora(tmp_path / "adapter", {"model.layers.0.self_attn.q_proj": (64, 64)})
    (tmp_path / "merged").mkdir()
    merge_gguf(base, Adapter(adapter), tmp_path / "merged", lambda _: None)
    written = (tmp_path / "merged" / "model.safetensors").stat().st_size
    assert merged_weight_bytes(base) == pytest.approx(written, abs=16_000), "but for the names of the weights"


def test_of_a_model_that_is_not_here_the_room_is_known_from_its_sizes(tiny_model: Path) -> None:
    shape = read_shape(base_model_at(tiny_model))
    here, afar = (format_bytes(Config(), shape, base)["merged"] for base in (base_model_at(tiny_model), None))
    assert here - afar == pytest.approx(2 * shape.parameters, abs=8_000), "this one is in 32 bits, most are in 16"


def test_the_plan_tells_what_pack_will_write(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "exact_figures", lambda *_: FIGURES)
    config = Config.model_validate({"model": {"local_path": str(tiny_model)}})
    shape = read_shape(base_model_at(tiny_model))
    plan = planner.plan_for(config, Workspace(tmp_path), shape, Device("cpu", "CPU"))
    assert list(plan.package) == ["peft_adapter"]
    both = config.model_copy(update={"export": config.export.model_copy(update={"formats": ("peft_adapter", "merged")})})
    plan = planner.plan_for(both, Workspace(tmp_path), shape, Device("cpu", "CPU"))
    assert plan.package["merged"] >= merged_weight_bytes(base_model_at(tiny_model))
    *_, whole, adapter, merged = plan_lines(plan)
    assert whole.startswith("package") and "on disk" in whole
    assert "peft_adapter" in adapter and "merged" in merged and merged.endswith("MiB")
    assert not any(line.startswith("package") for line in plan_lines(replace(plan, package={}))), "a plan of an older version"


def test_every_format_that_the_config_takes_is_outlined_in_its_order_and_lies_in_a_folder_of_its_own() -> None:
    assert tuple(EXPORT_FORMATS) == get_args(ExportFormat)
    folders = [outline.folder for outline in EXPORT_FORMATS.values()]
    assert len(set(folders)) == len(folders) and EXPORT_FORMATS["peft_adapter"].folder == ""
    for name, outline in EXPORT_FORMATS.items():
        assert outline.what and outline.weights
        assert bool(outline.card) == (name != "peft_adapter"), "the adapter's card names what lies beside it"
