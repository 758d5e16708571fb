"""The merged model of every family is, opened by plain transformers, the base with its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import LoraSection
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.merge.safetensors import merge_files
from pipeline.training.checkpointing.contents import write_adapter
from tests import families
from tests.pipeline.modeling.test_adapters import CASES, logits, trained


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_merged_weights_answer_as_base_and_adapter_do(name: str, kind: dict[str, Any], tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    folder = families.save(name, tmp_path / "base")
    (file,) = folder.glob("*.safetensors")
    # As it is held while it trains: nothing is lost to rounding but of the sums.
    save_file({key: each.bfloat16().float() for key, each in load_file(file).items()}, file, {"format": "pt"})
    adapted = trained(folder, LoraSection(r=4, alpha=8, dropout=0.0, **kind))
    (tmp_path / "adapter").mkdir()
    write_adapter(adapted, tmp_path / "adapter")
    (tmp_path / "merged").mkdir()
    tally = merge_files([file], Adapter(tmp_path / "adapter"), tmp_path / "merged", lambda _: None)
    assert tally.kept == pytest.approx(1.0, abs=1e-3)
    shutil.copyfile(folder / "config.json", tmp_path / "merged" / "config.json")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    expected = logits(adapted)
    torch.testing.assert_close(logits(merged), expected, atol=1e-3 * float(expected.std()), rtol=1e-3)
